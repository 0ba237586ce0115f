"""What a simulated run was seen to do: its history, and the hash of its trace, which the same seed must give again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b

import trio

from proof.history import Record, encode

LINES_MAX = 400_000
WALL_S = 1_790_000_000.0
"""Unix time at the beginning of every run."""
_TIME = struct.Struct("<d")


def run_t(at_ms: int) -> float:
    """A Unix time on the clock of any run: each begins with Trio's mock clock at 0."""
    return round(at_ms / 1000 - WALL_S, 3)


class Recorder:
    """``say``, where given, is told each line of the trace as it happens (``readback sim --trace``)."""

    def __init__(self, say: Callable[[str], object] | None = None) -> None:
        self.records: list[Record] = []
        self.lines = 0
        self._say = say
        self._hash = blake2b(digest_size=16)
        self._start_s = trio.current_time()
        self.add = self.records.append if say is None else self._add_aloud

    def now(self) -> float:
        """Seconds since the run began."""
        return trio.current_time() - self._start_s

    def trace(self, line: bytes) -> None:
        """One thing that crossed an edge: bytes on a link, a call of the log, a message on the bus, a fault."""
        self.lines += 1
        assert self.lines < LINES_MAX, "the run does not come to rest"
        self._hash.update(_TIME.pack(trio.current_time() - self._start_s))
        self._hash.update(line)
        if self._say is not None:
            self._say(f"{self.now():10.6f}  {line!r}"[:1000])

    def _add_aloud(self, record: Record) -> None:
        self.records.append(record)
        assert self._say is not None
        self._say(f"{self.now():10.6f}  {encode(record).decode()}"[:1000])

    def digest(self) -> str:
        """Of the trace so far."""
        return self._hash.hexdigest()
