"""gateway.live.books: what is remembered of a subject comes from the store and goes back, and is bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio
from trio.testing import MockClock

from core.directory import Ping
from core.limits import Limits
from core.pings import Fix
from core.tracks import Last
from gateway.live.books import MEMORY_MS, Books
from store.memory_tracks import MemoryTracks
from tests.nodes import memory_log

X, Y = ("demo", "device:x"), ("demo", "device:y")
T0 = 1_795_253_400_000


def fix(seq: int, after_s: int) -> Fix:
    return Fix(seq, T0 + 1_000 * after_s, b"", True, -33.9, 151.2 + after_s / 10_000, 5.0)


def last(memory: dict[str, Any]) -> Last:
    return Last(*X, "trip:9", T0, -33.9, 151.2, None, None, None, None, "accepted", T0, memory)


async def test_a_memory_goes_on(autojump_clock: MockClock) -> None:
    """What one node judged and numbered, another knows."""
    tracks = MemoryTracks(memory_log())
    here, there = Books(tracks, Limits()), Books(tracks, Limits())
    book = (await here.load([X]))[X]
    judge = here.use(book, "car")
    assert judge.judge(fix(1, 0), T0).verdict == "accepted"
    assert book.window.take(1) is Ping.ACCEPTED
    await tracks.keep([], [last(book.memory(T0))])
    other = (await there.load([X, Y]))[X]
    assert there.use(other, "car").judge(fix(1, 0), T0).verdict == "duplicate"
    assert other.window.take(1) is Ping.DUPLICATE
    assert (len(there), there.loads) == (2, 2)


async def test_a_memory_is_put_together_once_in_a_while() -> None:
    """It costs as much as half a signature."""
    book = (await Books(MemoryTracks(memory_log()), Limits()).load([X]))[X]
    first = book.memory(T0)
    book.window.take(7)
    assert book.memory(T0 + MEMORY_MS - 1) is first
    assert book.memory(T0 + MEMORY_MS) != first
    assert book.memory(T0) is not first, "a clock that goes back"


async def test_a_mode_that_changes_changes_the_judge() -> None:
    """Which goes on with what it knew; one nobody has heard of is any."""
    books = Books(MemoryTracks(memory_log()), Limits())
    book = (await books.load([X]))[X]
    books.use(book, "car").judge(fix(1, 0), T0)
    judge = books.use(book, "aircraft")
    assert judge.mode == "aircraft"
    assert judge.judge(fix(2, 0), T0).verdict == "duplicate"
    assert books.use(book, "aircraft") is judge
    assert books.use(book, "hovercraft").mode == "any"


async def test_what_the_store_cannot_explain_is_forgotten() -> None:
    """A memory of another version, or none at all: a judge that knows nothing."""
    tracks = MemoryTracks(memory_log())
    await tracks.keep([], [last({"judge": {"judge": "what?"}, "window": "what?"})])
    books = Books(tracks, Limits())
    book = (await books.load([X]))[X]
    assert books.use(book, "car").judge(fix(1, 0), T0).verdict == "accepted"


async def test_who_is_silent_is_read_anew(autojump_clock: MockClock) -> None:
    """It may have been at another node; who is not silent costs no query, and who was told of elsewhere does."""
    tracks, limits = MemoryTracks(memory_log()), Limits(book_idle_s=60.0)
    books = Books(tracks, limits)
    book = (await books.load([X]))[X]
    await trio.sleep(59)
    assert (await books.load([X]))[X] is book
    await trio.sleep(61)
    assert (await books.load([X]))[X] is not book
    books.forget(*X)
    books.forget(*X)
    await books.load([X])
    assert books.loads == 3


async def test_books_are_bounded(autojump_clock: MockClock) -> None:
    """Those of who is silent go, and the longest known while there are too many."""
    limits = replace(Limits(), books_max=3, book_idle_s=60.0)
    books = Books(MemoryTracks(memory_log()), limits)
    await books.load(("demo", f"device:{number}") for number in range(5))
    books.tidy()
    assert len(books) == 3
    await trio.sleep(61)
    await books.load([X])
    books.tidy()
    assert len(books) == 1


async def test_two_who_load_at_once_have_one_book(autojump_clock: MockClock) -> None:
    """Else what one of them is told the other forgets."""
    log = memory_log()
    books, found = Books(MemoryTracks(log), Limits()), []

    async def load() -> None:
        found.append((await books.load([X]))[X])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        nursery.start_soon(load)
    assert found[0] is found[1]
