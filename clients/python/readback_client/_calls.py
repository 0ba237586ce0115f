"""Calls: requests that want an answer, kept until they have a final one, over as many connections as it takes.

A call is written at most once a connection, with a fresh id each time. A lost connection puts what was unanswered back
in front of the queue in its old order; an answer that may heal (``retryable``) lets the call rest and puts it in the
queue again. That is safe for every op used here: reads, marks, and sends, whose key makes them land once.

Order: calls are written in the order in which they were made, unless one of them had to rest. Who needs send B after
send A in every case awaits A first.

A send that is refused for a quota (``rate_limited``) makes its stream *limited*: what is refused waits with what comes after
it, in order, until the time that the server said; then one goes, and with each that lands one more at a time may be under
way. To let all go at once would have most of them refused again, and a server does not read on for whoever takes no notice.
Other streams and other ops go on.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable

from readback_client._errors import WireError
from readback_client._wire import Frame


def silent() -> None:
    """A wake for nobody."""


class Call:
    """One request. Exactly one of ``answer`` and ``error`` is set once ``done``; then ``wake`` is called, once."""

    __slots__ = ("answer", "done", "error", "flown_at", "lane", "last", "op", "place", "tail", "tries", "wake")

    def __init__(self, op: str, tail: str, wake: Callable[[], None] = silent, lane: str = "") -> None:
        self.op = op
        self.lane = lane
        """The stream of a send; empty for other ops."""
        self.place = 0
        """Which call it is, counted from 1."""
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


class Limited:
    """A stream that is limited, and its sends that wait, in the order in which they were made."""

    __slots__ = ("flying", "refusals", "until", "waiting", "window")

    def __init__(self, flying: int) -> None:
        self.waiting: deque[Call] = deque()
        self.until = 0.0
        self.window = 1
        self.flying = flying
        self.refusals = 0
        """Times in a row that it had to wait and then was refused again."""


class Calls:
    """The window of calls in flight and the queue behind it. Holds at most what its callers wait for."""

    __slots__ = ("_count", "_flying", "_flying_max", "_limited", "_queue")

    def __init__(self, flying_max: int) -> None:
        self._queue: deque[Call] = deque()
        self._flying: dict[int, Call] = {}
        self._flying_max = flying_max
        self._limited: dict[str, Limited] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._flying) + sum(len(limited.waiting) for limited in self._limited.values())

    def put(self, call: Call) -> None:
        if not call.place:
            self._count += 1
            call.place = self._count
        self._queue.append(call)

    def next_to_fly(self, now: float) -> Call | None:
        """The next call that may be written now; `flown` must follow."""
        if len(self._flying) >= self._flying_max:
            return None
        for stream, limited in list(self._limited.items()):
            while limited.waiting and limited.flying < limited.window and now >= limited.until:
                call = limited.waiting.popleft()
                if not call.done:
                    return call
            if not limited.waiting and not limited.flying and now >= limited.until:
                del self._limited[stream]
        while self._queue:
            call = self._queue.popleft()
            if call.done:
                continue
            if call.lane not in self._limited:
                return call
            self._wait(call)
        return None

    def flown(self, id: int, call: Call, now: float) -> None:
        call.tries += 1
        call.flown_at = now
        self._flying[id] = call
        limited = self._limited.get(call.lane)
        if limited is not None:
            limited.flying += 1

    @property
    def oldest(self) -> float | None:
        """When the call longest in the air took off."""
        return next(iter(self._flying.values())).flown_at if self._flying else None

    def landed(self, id: int) -> Call | None:
        """The call that this id belongs to, taken out of the air."""
        call = self._flying.pop(id, None)
        limited = self._limited.get(call.lane) if call is not None else None
        if limited is not None:
            limited.flying -= 1
        return call

    def went_well(self, call: Call) -> None:
        """A call that landed was carried out."""
        limited = self._limited.get(call.lane)
        if limited is not None:
            limited.window += 1
            limited.refusals = 0

    def limit(self, now: float, call: Call, rest_s: Callable[[int], float], retry_after_s: float) -> float:
        """A send that landed was refused for a quota; it waits. Returns until when."""
        limited = self._limited.get(call.lane)
        if limited is None:
            limited = Limited(sum(flying.lane == call.lane for flying in self._flying.values()))
            self._limited[call.lane] = limited
        limited.window = 1
        if now >= limited.until:
            limited.refusals += 1
            limited.until = now + rest_s(limited.refusals)
        else:  # one of many that were on their way together
            limited.until = max(limited.until, now + retry_after_s)
        self._wait(call)
        return limited.until

    def drop(self, call: Call) -> None:
        """Nobody waits any more. One in flight keeps its place in the window until its answer, then goes unheard."""
        call.finish(None, None)
        limited = self._limited.get(call.lane)
        for queue in [self._queue] if limited is None else [self._queue, limited.waiting]:
            if call in queue:
                queue.remove(call)

    def grounded(self) -> int:
        """The connection is gone: everything unanswered goes first next time, in its old order. Returns how many."""
        count = len(self._flying)
        self._queue.extendleft(call for call in reversed(self._flying.values()) if not call.done)
        self._flying.clear()
        for limited in self._limited.values():
            limited.flying = 0
        return count

    def fail_all(self, error: Exception) -> None:
        waiting = [call for limited in self._limited.values() for call in limited.waiting]
        for call in [*self._flying.values(), *self._queue, *waiting]:
            call.finish(None, error)
        self._queue.clear()
        self._flying.clear()
        self._limited.clear()

    def _wait(self, call: Call) -> None:
        # By place: what comes back from the air goes before what never flew.
        insort(self._limited[call.lane].waiting, call, key=_place)


def _place(call: Call) -> int:
    return call.place
