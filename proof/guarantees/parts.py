"""What a scene is made of: connections, times of following, questions with their answers, and what came out of place.

Filled by `proof.guarantees.scene`, read by the guarantees. Indices (``at`` and what ends in it) are those of the records.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proof.history import Answered, Asked, Ended, Follow, Open, Rejected, Reset, Told, Took, Welcome

NEVER: Final = float("inf")


class Opening:
    """One hello or resume, and what came of it."""

    __slots__ = ("answer", "answered_at", "at", "conn", "left", "open")

    def __init__(self, at: int, opened: Open, conn: Conn) -> None:
        self.at = at
        self.open = opened
        self.conn = conn
        self.answer: Welcome | Rejected | None = None
        self.answered_at = -1
        self.left: dict[str, int | None] = {}
        """After a welcome: what was asked for and neither refused nor followed yet."""


class Conn:
    """One connection."""

    __slots__ = (
        "at",
        "drain_told",
        "ended",
        "ended_at",
        "hostile",
        "late_t",
        "life",
        "name",
        "node",
        "opening",
        "openings",
        "removed",
        "spans",
        "tenant",
        "waiting",
        "welcome",
        "who",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.tenant = self.who = self.node = ""
        self.at = -1
        """Where it first said hello or resume; -1: nobody saw that."""
        self.hostile = False
        self.openings: list[Opening] = []
        """Those without an answer, oldest first."""
        self.opening: Opening | None = None
        """The one that was welcomed."""
        self.welcome: Welcome | None = None
        self.life = 0
        self.spans: dict[str, Span] = {}
        self.removed: dict[str, int] = {}
        """Streams it was let go of because of a removal, with its seq, until they are followed again."""
        self.waiting: dict[int, list[Question]] = {}
        self.drain_told: list[int] = []
        self.ended: Ended | None = None
        self.ended_at = -1
        self.late_t = NEVER
        """From then on nothing may be given any more: its identity is over."""

    @property
    def epoch(self) -> str:
        return "" if self.welcome is None else self.welcome.epoch

    def place(self, stream: str = "") -> str:
        who = f"{self.name} ({self.who} of {self.tenant})" if self.tenant else self.name
        return f"{who}, {stream}" if stream else who


class Span:
    """One time of following a stream on a connection, from a `Follow` until it ends or is begun anew."""

    __slots__ = ("at", "closed_at", "conn", "follow", "holes", "next", "opening", "reset", "seen", "start", "touched")

    def __init__(self, at: int, follow: Follow, conn: Conn, seen: dict[int, tuple[int, Took]]) -> None:
        self.at = at
        self.follow = follow
        self.conn = conn
        self.start = follow.after
        """What came before this is not owed; a reset moves it."""
        self.next = follow.after + 1
        self.opening: Opening | None = None
        """Whose welcome this is of; ``None`` where it answers a ``sub``."""
        self.reset: Reset | None = None
        """The one that came before any event."""
        self.touched = False
        """Whether an event came out of its place, or before a reset."""
        self.holes: list[tuple[int, int]] = []
        """What was left out, first and last."""
        self.seen = seen
        self.closed_at = -1

    @property
    def stream(self) -> str:
        return self.follow.stream

    @property
    def took_any(self) -> bool:
        return self.touched or self.next != self.start + 1


class Question:
    """A request and its answer."""

    __slots__ = ("answer", "answered_at", "asked", "at", "conn")

    def __init__(self, at: int, asked: Asked, conn: Conn) -> None:
        self.at = at
        self.asked = asked
        self.conn = conn
        self.answer: Answered | None = None
        self.answered_at = -1


class Skip(NamedTuple):
    """An event past the next one: what is from ``first`` on to before it was left out."""

    at: int
    took: Took
    span: Span
    first: int


class Late(NamedTuple):
    """An event that lies behind the cursor; ``again``: it was given, or had before, else it was left out until now."""

    at: int
    took: Took
    span: Span
    again: bool


class Stray(NamedTuple):
    """An event of a stream that the connection does not follow at that time; ``removed``: since a removal at that seq."""

    at: int
    took: Took
    conn: Conn | None
    over: bool
    removed: int | None


class Differing(NamedTuple):
    """An event that is not the one which ``first`` saw at that place."""

    at: int
    took: Took
    span: Span
    first: Took


class Given(NamedTuple):
    """A marker or signal, with where the connection's cursor stood; ``None`` where it does not follow the stream, and
    ``removed`` where that is since a removal."""

    at: int
    told: Told
    conn: Conn | None
    cursor: int | None
    removed: int | None
    since: int = 0
    """The record with which the connection began to follow the stream, for the last time before this."""


class Restart(NamedTuple):
    """A reset, with where the cursor stood before it."""

    at: int
    reset: Reset
    span: Span
    cursor: int
