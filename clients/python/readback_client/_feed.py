"""One stream as this client follows it: a cursor, a bounded buffer for its reader, and who listens to its signals.

The rule that everything else leans on: an event is taken if and only if its seq is the cursor plus one. At or below
the cursor it is a duplicate and dropped; above, the server skipped something, and the stream is subscribed anew from
the cursor. So whatever a server, a resume or a race of two subscriptions sends, the reader sees every event once, in
order.

A reader that does not keep up fills its buffer; the feed then *parks*: it leaves the stream on the server and takes it
up from the cursor when the reader has emptied half. The log keeps everything, so nothing is lost, no other stream
waits, and memory stays bounded. While parked, the stream's signals pause too.

    NEW ----ask----> ASKED ----ok----> LIVE ----buffer full----> PARKED ----half empty----> NEW
     ^                 |                 |
     +--connection lost, a gap, try again+          any ----refused, removed, reset----> DEAD
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from readback_client._calls import silent
from readback_client._signals import SignalSet
from readback_client._values import Event, Limits


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: past seq ``after``; or ``last`` events before the head; or, with neither, at the head."""

    after: int | None = None
    last: int | None = None

    def fields(self) -> dict[str, int]:
        if self.after is not None:
            return {"after": self.after}
        if self.last is not None:
            return {"last": self.last}
        return {}


class FeedState(Enum):
    NEW = "new"
    ASKED = "asked"
    LIVE = "live"
    PARKED = "parked"
    DEAD = "dead"


class Offer(Enum):
    """What became of an event offered to a feed."""

    TAKEN = 1
    FILLED = 2  # taken, and now the buffer is full
    DUPLICATE = 3
    GAP = 4
    IGNORED = 5  # of a subscription that is being replaced, or nobody reads events here


class Reader:
    """The events waiting for one `subscribe()` iteration, and how far its caller is done.

    ``done`` is what a `CursorStore` saves: the event before the one being worked on, so that a crash repeats an event
    rather than skips it.
    """

    __slots__ = ("bytes", "closed", "done", "error", "given", "queue", "stream", "wake")

    def __init__(self, stream: str, wake: Callable[[], None] = silent) -> None:
        self.stream = stream
        self.wake = wake
        self.queue: deque[tuple[Event, int]] = deque()
        self.bytes = 0
        self.given: int | None = None
        self.done: int | None = None
        self.error: Exception | None = None
        self.closed = False

    def put(self, event: Event, size: int) -> None:
        self.queue.append((event, size))
        self.bytes += size
        self.wake()

    def settle(self) -> None:
        """The caller came back: what it was given is done."""
        if self.given is not None:
            self.done = self.given

    def take(self) -> Event | None:
        """The next event; raises ``error`` once all events before it were given."""
        if self.queue:
            event, size = self.queue.popleft()
            self.bytes -= size
            self.given = event.seq
            return event
        if self.error is not None:
            raise self.error
        return None

    def fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self.wake()


class Feed:
    """See the module. Holds no timer and writes nothing: `Streams` does, by what the methods return."""

    __slots__ = (
        "_limits",
        "asked_id",
        "cursor",
        "gaps",
        "listeners",
        "reader",
        "resting",
        "start",
        "state",
        "stream",
        "tries",
    )

    def __init__(self, stream: str, start: Start, limits: Limits) -> None:
        self.stream = stream
        self.start = start
        self.cursor: int | None = start.after
        """The last seq taken off the wire; ``None`` until the server has said where we begin."""
        self.state = FeedState.NEW
        self.asked_id = 0
        self.gaps = 0  # since the last event taken
        self.tries = 0  # refusals that may heal, since the last success
        self.resting = False  # refused just now; a timer asks again
        self.reader: Reader | None = None
        self.listeners: list[SignalSet] = []
        self._limits = limits

    @property
    def idle(self) -> bool:
        return self.reader is None and not self.listeners

    @property
    def full(self) -> bool:
        reader = self.reader
        return reader is not None and (
            len(reader.queue) >= self._limits.buffer_events_max or reader.bytes >= self._limits.buffer_bytes_max
        )

    @property
    def roomy(self) -> bool:
        """Whether a parked feed may be taken up again: half empty, so that it does not park at the next event."""
        reader = self.reader
        return reader is None or (
            len(reader.queue) <= self._limits.buffer_events_max // 2
            and reader.bytes <= self._limits.buffer_bytes_max // 2
        )

    def where(self) -> dict[str, int]:
        """The position to ask for: the cursor where there is one."""
        return Start(self.cursor).fields() if self.cursor is not None else self.start.fields()

    def offer(self, event: Event, size: int) -> Offer:
        if self.state is not FeedState.LIVE and self.state is not FeedState.ASKED:
            return Offer.IGNORED
        cursor = self.cursor
        if cursor is None:
            return Offer.IGNORED
        if event.seq != cursor + 1:
            if self.state is FeedState.ASKED:
                return Offer.IGNORED
            return Offer.DUPLICATE if event.seq <= cursor else Offer.GAP
        self.cursor = event.seq
        self.gaps = 0
        if self.reader is None:
            return Offer.IGNORED
        self.reader.put(event, size)
        return Offer.FILLED if self.full else Offer.TAKEN

    def accepted(self, after: int) -> None:
        """The server follows us from here; where we named no cursor, its word is our cursor."""
        if self.cursor is None:
            self.cursor = after
            if self.reader is not None and self.reader.done is None:
                self.reader.done = after
        self.tries = 0
        self.state = FeedState.LIVE

    def lost(self) -> None:
        """The connection is gone, and with it the refusals of its server."""
        self.resting = False
        if self.state in (FeedState.ASKED, FeedState.LIVE):
            self.state = FeedState.NEW

    def die(self, error: Exception) -> None:
        self.state = FeedState.DEAD
        if self.reader is not None:
            self.reader.fail(error)
        for listener in self.listeners:
            listener.fail(error)
