"""The conversation between the harness and a load generator: one JSON object a line, over stdin and stdout.

The generator says ``progress`` as often as it likes, ``ready`` when it waits for the next word, ``result`` when a phase is
over, ``error`` (then it ends). The harness answers every ``ready`` with a ``go``. End of input means that the harness is
gone: the generator ends too.

All times are CLOCK_MONOTONIC nanoseconds, which every process of one machine shares.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Any

import orjson

monotonic_ns = time.monotonic_ns
PROGRESS_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Window:
    """When traffic starts, from when to when it is measured. What comes before ``from_ns`` is warm-up."""

    start_ns: int
    from_ns: int
    until_ns: int

    @classmethod
    def of(cls, go: dict[str, Any]) -> Window:
        return cls(int(go["start_ns"]), int(go["from_ns"]), int(go["until_ns"]))


TIMER_GRAIN_NS = 2_000_000
"""How late uvloop's millisecond timers may be by themselves."""


async def until(at_ns: int) -> None:
    """Sleep until a moment of the shared clock, never ending before it (timers round to milliseconds either way)."""
    while (left := at_ns - monotonic_ns()) > 0:  # noqa: ASYNC110 - a clock is no event
        await asyncio.sleep(left / 1e9)


def counted_from(due_ns: int) -> int:
    """The moment from which the latency of a send due at ``due_ns`` and made now is counted.

    The due moment, so that a stall of the server, which keeps this process from sending, is not left out; except that
    lateness within the timer's grain is this process's alone, and is not the server's to answer for.
    """
    now = monotonic_ns()
    return now if now - due_ns < TIMER_GRAIN_NS else due_ns


class Link:
    """The generator's side. ``ready`` waits for the harness; everything else returns at once."""

    def __init__(self) -> None:
        self._progress_at = 0.0

    def say(self, event: str, **fields: Any) -> None:
        sys.stdout.buffer.write(orjson.dumps({"event": event, **fields}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    def progress(self, done: int, of: int, note: str) -> None:
        """At most five a second reach the harness, and the last always."""
        now = time.monotonic()
        if done >= of or now - self._progress_at > PROGRESS_EVERY_S:
            self._progress_at = now
            self.say("progress", done=done, of=of, note=note)

    async def ready(self, **fields: Any) -> dict[str, Any]:
        """Wait for the harness's go, and return what it says in it."""
        self.say("ready", **fields)
        return self._told(await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline))

    def ready_blocking(self, **fields: Any) -> dict[str, Any]:
        """`ready` for a process that has nothing else to do meanwhile."""
        self.say("ready", **fields)
        return self._told(sys.stdin.buffer.readline())

    def _told(self, line: bytes) -> dict[str, Any]:
        if not line:
            raise SystemExit(0)
        told: dict[str, Any] = orjson.loads(line)
        return told

    def result(self, **fields: Any) -> None:
        self.say("result", **fields)
