"""Calls: requests that want an answer, kept until they have a final one, over as many connections as it takes.

A call is written at most once a connection, with a fresh id each time. A lost connection puts what was unanswered back
in front of the queue in its old order; an answer that may heal (``retryable``) lets the call rest and puts it in the
queue again. That is safe for every op used here: reads, marks, and sends, whose key makes them land once.

Order: calls are written in the order in which they were made, unless one of them had to rest. Who needs send B after
send A in every case awaits A first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from readback_client._errors import WireError
from readback_client._wire import Frame


def silent() -> None:
    """A wake for nobody."""


class Call:
    """One request. Exactly one of ``answer`` and ``error`` is set once ``done``; then ``wake`` is called, once."""

    __slots__ = ("answer", "done", "error", "flown_at", "last", "op", "tail", "tries", "wake")

    def __init__(self, op: str, tail: str, wake: Callable[[], None] = silent) -> None:
        self.op = op
        self.tail = tail
        """The fields without op and id, encoded once for all attempts."""
        self.wake = wake
        self.tries = 0
        self.flown_at = 0.0
        self.done = False
        self.answer: Frame | None = None
        self.error: Exception | None = None
        self.last: WireError | None = None

    def finish(self, answer: Frame | None, error: Exception | None) -> None:
        if not self.done:
            self.done = True
            self.answer = answer
            self.error = error
            self.wake()


class Calls:
    """The window of calls in flight and the queue behind it. Holds at most what its callers wait for."""

    __slots__ = ("_flying", "_flying_max", "_queue")

    def __init__(self, flying_max: int) -> None:
        self._queue: deque[Call] = deque()
        self._flying: dict[int, Call] = {}
        self._flying_max = flying_max

    def __len__(self) -> int:
        return len(self._queue) + len(self._flying)

    def put(self, call: Call) -> None:
        self._queue.append(call)

    def next_to_fly(self) -> Call | None:
        """The next call that may be written now; `flown` must follow."""
        while self._queue and len(self._flying) < self._flying_max:
            call = self._queue.popleft()
            if not call.done:
                return call
        return None

    def flown(self, id: int, call: Call, now: float) -> None:
        call.tries += 1
        call.flown_at = now
        self._flying[id] = call

    @property
    def oldest(self) -> float | None:
        """When the call longest in the air took off."""
        return next(iter(self._flying.values())).flown_at if self._flying else None

    def landed(self, id: int) -> Call | None:
        """The call that this id belongs to, taken out of the air."""
        return self._flying.pop(id, None)

    def drop(self, call: Call) -> None:
        """Nobody waits any more. One in flight keeps its place in the window until its answer, then goes unheard."""
        call.finish(None, None)
        if call in self._queue:
            self._queue.remove(call)

    def grounded(self) -> int:
        """The connection is gone: everything unanswered goes first next time, in its old order. Returns how many."""
        count = len(self._flying)
        self._queue.extendleft(call for call in reversed(self._flying.values()) if not call.done)
        self._flying.clear()
        return count

    def fail_all(self, error: Exception) -> None:
        for call in [*self._flying.values(), *self._queue]:
            call.finish(None, error)
        self._queue.clear()
        self._flying.clear()
