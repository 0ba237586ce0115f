"""What a node remembers of each subject that sends positions here: its judge, and the numbers taken of one that has no key.

For: `gateway.live.positions`. A book is read from the store at its subject's first fix on this node, and goes back with the
commits of its samples (`Last.memory`), so that another node, or the next start, goes on from there. Promises: at most
`books_max` are kept, and none of a subject that was silent here for `book_idle_s`: it may have been elsewhere. Does not: judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import trio

from core.geo.assist import Record, read_record
from core.geo.plausible import Judge
from core.geo.plausible_modes import ENVELOPES
from core.limits import Limits
from core.tracks import Last, Tracks
from core.window import Window

JUDGE: Final = "judge"
WINDOW: Final = "window"
ADVICE: Final = "advice"
MEMORY_MS: Final = 5_000
"""Putting a memory together costs as much as half a signature. Who goes on from one that is a little older judges as well: what
it takes anew was taken with the same number, and is read once."""


class Book:
    __slots__ = ("_memory", "_memory_ms", "advice", "judge", "mode", "used_s", "window")

    def __init__(self, judge: Judge, window: Window, now_s: float, advice: Record | None = None) -> None:
        self.judge = judge
        self.advice = advice
        """What its own word on when it arrives was worth; ``None``: it never gave it."""
        self.mode: str = judge.mode
        """As it was asked for: one that the judge does not know is any."""
        self.window = window
        self.used_s = now_s
        self._memory: dict[str, Any] = {}
        self._memory_ms = 0

    def memory(self, now_ms: int) -> dict[str, Any]:
        """What is to be remembered, as of at most `MEMORY_MS` ago."""
        if not 0 <= now_ms - self._memory_ms < MEMORY_MS:
            self._memory = {JUDGE: self.judge.state(), WINDOW: self.window.state()}
            if self.advice is not None:
                self._memory[ADVICE] = list(self.advice)
            self._memory_ms = now_ms
        return self._memory


class Books:
    def __init__(self, tracks: Tracks, limits: Limits) -> None:
        self._tracks = tracks
        self._limits = limits
        self._books: dict[tuple[str, str], Book] = {}
        self.loads = 0
        """Subjects read from the store."""

    def __len__(self) -> int:
        return len(self._books)

    async def load(self, subjects: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Book]:
        """The books of these (tenant, subject). Raises `Unavailable`."""
        now_s = trio.current_time()
        oldest_s = now_s - self._limits.book_idle_s
        found: dict[tuple[str, str], Book] = {}
        missing: dict[str, dict[str, None]] = {}
        for key in subjects:
            book = self._books.get(key)
            if book is None or book.used_s < oldest_s:
                missing.setdefault(key[0], {})[key[1]] = None
            else:
                book.used_s = now_s
                found[key] = book
        for tenant, names in missing.items():
            lasts = await self._tracks.lasts(tenant, list(names))
            self.loads += len(names)
            for subject in names:
                book = self._books.get((tenant, subject))
                if book is None or book.used_s < oldest_s:  # else somebody else has read it meanwhile
                    book = self._book(lasts.get(subject), now_s)
                    self._books.pop((tenant, subject), None)
                    self._books[tenant, subject] = book
                found[tenant, subject] = book
        return found

    @staticmethod
    def use(book: Book, mode: str) -> Judge:
        """Its judge, for this mode from now on."""
        if book.mode != mode:
            book.judge, book.mode = _judge(book.judge.state(), mode), mode
        return book.judge

    @staticmethod
    def _book(last: Last | None, now_s: float) -> Book:
        memory = {} if last is None else last.memory
        judge, window = _judge(memory.get(JUDGE), "any"), Window.restore(memory.get(WINDOW))
        return Book(judge, window, now_s, read_record(memory.get(ADVICE)))

    def advice_of(self, tenant: str, subject: str) -> Record | None:
        book = self._books.get((tenant, subject))
        return None if book is None else book.advice

    def judge_advice(self, tenant: str, subject: str, record: Record) -> None:
        """Kept with the subject's next position."""
        book = self._books.get((tenant, subject))
        if book is not None:
            book.advice = record

    def forget(self, tenant: str, subject: str) -> None:
        """It has sent to another node: what is remembered here is not all any more."""
        self._books.pop((tenant, subject), None)

    def tidy(self) -> None:
        """Let go of who was silent, and of the longest known while there are too many."""
        oldest_s = trio.current_time() - self._limits.book_idle_s
        for key in [key for key, book in self._books.items() if book.used_s < oldest_s]:
            del self._books[key]
        for key in list(self._books)[: max(len(self._books) - self._limits.books_max, 0)]:
            del self._books[key]


def _judge(memory: object, mode: str) -> Judge:
    """One that goes on from what was remembered; a new one where that is nothing, or of another time."""
    known = mode if mode in ENVELOPES else "any"
    if isinstance(memory, Mapping):
        try:
            return Judge.restore(memory, known)
        except ValueError:
            pass
    return Judge(known)
