"""Positions of one node: each subject's fixes judged in order of their time, kept, and shown to who follows.

For: `gateway.pings` (the socket's op) and the HTTP ways in, after they know who sends, that its signature holds, and that its
numbers are new. Promises: every fix has a verdict, and where it is no plain "accepted" a reason; what is answered is kept.
Does not: know signatures, sequence windows of enrolled devices, or arrivals (`on_sample` and `wants` are where those hang).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from core.pings import Fix
from core.stream import Stream
from core.tracks import Sample, Tracks

if TYPE_CHECKING:
    from gateway.node import Node


class Taken(NamedTuple):
    """Verdicts in the order of the fixes, as the protocol says them."""

    verdicts: list[dict[str, Any]]
    accepted: int
    next_in_s: float


class Positions:
    def __init__(self, node: Node, tracks: Tracks) -> None:
        self._node = node
        self._tracks = tracks
        self.on_sample: list[Callable[[Stream, Sample], None]] = []
        """Told each accepted or degraded fix, in order of their times; one that came late (``reason`` "late") too."""
        self.wants: Callable[[Stream, str], float | None] = lambda stream, subject: None
        """Asked how soon the subject's next fix is worth something, in seconds; ``None``: not for this."""
        self.mode_of: Callable[[Stream, str], str] = lambda stream, subject: "any"
        """Asked what moves ("car", "aircraft", …) when its fixes are first judged here."""

    async def take(self, tenant: str, subject: str, stream: Stream, fixes: Sequence[Fix]) -> Taken:
        """Fixes of one message, after authentication, signature and sequence window. Raises `WireError`, `Unavailable`."""
        raise NotImplementedError

    def show(self, stream: Stream, kind: str, by: str, value: object, at_s: float) -> None:
        """The latest value of a signal, to who follows the stream here and on other nodes. ``at_s`` is Unix time, since when it
        is true: what is older than what is shown is not shown."""
        raise NotImplementedError
