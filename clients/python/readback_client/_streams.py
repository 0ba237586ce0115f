"""All streams a client follows: who reads them, where each stands, and what to ask of the server for them.

Decides and keeps; `Machine` carries. The asking happens through `Carrier`, answers come back by `answered` and
`refused` with the id that was asked, so that a late answer to an older question changes nothing.

Cursors are those of one epoch of the log. When a welcome names another, every cursor held is void: each reader ends
with `StreamReset` (``epoch``), and a stream that only the store remembered says so when it is next opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from readback_client._errors import Removed, StreamReset, WireError, wire_error
from readback_client._feed import Feed, FeedState, Offer, Reader, Start
from readback_client._signals import SignalSet, mark_of, signal_of
from readback_client._values import AnySignal, Event, Limits, Stats
from readback_client._wire import Frame, Malformed, event_of, frame_of, maybe_seq, seq_of, text_of

_REFUSALS = {"forbidden": "not a member of", "not_found": "no stream", "rate_limited": "no more streams now:"}
"""A welcome names a refused stream's code alone; these are the words that a sub's refusal would have had."""


class Carrier(Protocol):
    """What the streams need from the connection of the moment."""

    @property
    def online(self) -> bool: ...
    def ask(self, op: str, fields: Mapping[str, object], feed: Feed | None) -> int:
        """Write a frame with a fresh id; its answer comes back to ``feed``, or is dropped where there is none."""
        ...

    def at(self, when: float, act: Callable[[float], None]) -> None:
        """Call ``act(now)`` at that time or soon after."""
        ...

    def rest_s(self, tries: int, retry_after_s: float | None) -> float:
        """How long to leave a refused request alone."""
        ...

    def suspect(self, now: float, why: str) -> None:
        """The server breaks its promises: leave this connection and try another."""
        ...


class Streams:
    def __init__(self, carrier: Carrier, limits: Limits, stats: Stats, saved: Mapping[str, int]) -> None:
        self._carrier = carrier
        self._limits = limits
        self._stats = stats
        self._feeds: dict[str, Feed] = {}
        self._saved = dict(saved)
        """Where readers of before were done, by stream: from the store, and from readers since closed."""
        self._opening: dict[str, Feed] = {}
        """Which feeds the hello or resume under way speaks of: a name may have been closed and opened anew since."""
        self.streams_max = limits.streams_max
        self._void: set[str] = set()
        """Streams whose saved cursor died with its epoch, until somebody was told."""

    # -- the caller's side --------------------------------------------------------------------------------------------

    def open_reader(self, now: float, stream: str, start: Start | None, wake: Callable[[], None]) -> Reader:
        """Begin to read a stream's events; ``start=None`` goes on from the saved cursor, else from the head."""
        feed = self._feeds.get(stream)
        if feed is not None and feed.reader is not None:
            raise ValueError(f"{stream} is being read already by this client: one iteration a stream")
        self._count(stream)
        reader = Reader(stream, wake)
        if start is None:
            if stream in self._void:
                self._void.discard(stream)
                reader.fail(StreamReset(stream, "epoch"))
                return reader
            saved = self._saved.get(stream)
            start = Start(after=saved) if saved is not None else Start()
        self._void.discard(stream)
        reader.done = start.after
        listeners = feed.listeners if feed is not None else []
        feed = Feed(stream, start, self._limits)
        feed.reader, feed.listeners = reader, listeners
        self._feeds[stream] = feed
        self._ask(feed)
        return reader

    def take(self, reader: Reader) -> Event | None:
        """The reader's next event, if it is here. The one given before counts as done from now on."""
        reader.settle()
        event = reader.take()
        feed = self._feeds.get(reader.stream)
        if feed is not None and feed.reader is reader and feed.state is FeedState.PARKED and feed.roomy:
            feed.state = FeedState.NEW
            self._ask(feed)
        return event

    def close_reader(self, reader: Reader) -> None:
        reader.closed = True
        if reader.done is not None:
            self._saved[reader.stream] = reader.done
        feed = self._feeds.get(reader.stream)
        if feed is not None and feed.reader is reader:
            feed.reader = None
            self._leave_if_idle(feed)
            if feed.state is FeedState.PARKED:  # signals alone go on, from the head
                self._restart(feed, Start())

    def open_signals(self, stream: str, wake: Callable[[], None]) -> SignalSet:
        listener = SignalSet(self._limits.signals_max, wake)
        feed = self._feeds.get(stream)
        if feed is None:
            self._count(stream)
            feed = self._feeds[stream] = Feed(stream, Start(), self._limits)
            feed.listeners.append(listener)
            self._ask(feed)
        else:
            feed.listeners.append(listener)
        return listener

    def close_signals(self, stream: str, listener: SignalSet) -> None:
        listener.closed = True
        feed = self._feeds.get(stream)
        if feed is not None and listener in feed.listeners:
            feed.listeners.remove(listener)
            self._leave_if_idle(feed)

    def cursors(self) -> dict[str, int]:
        """How far every reader is done, those of before included."""
        done = {f.stream: f.reader.done for f in self._feeds.values() if f.reader and f.reader.done is not None}
        return {**self._saved, **done}

    def fail_all(self, error: Exception) -> None:
        for feed in self._feeds.values():
            feed.die(error)

    # -- the connection's side ----------------------------------------------------------------------------------------

    def positions(self, *, resume: bool, bytes_max: int) -> dict[str, object]:
        """The ``streams`` of a hello or resume. What does not fit in ``bytes_max`` is asked for after the welcome."""
        wanted: dict[str, object] = {}
        self._opening.clear()
        room = bytes_max
        for feed in self._pending():
            if resume and feed.cursor is None:
                continue  # a resume names cursors held; where to begin is a sub's question
            room -= len(feed.stream) + 32
            if room < 0:
                break
            wanted[feed.stream] = feed.cursor if resume else feed.where()
            self._opening[feed.stream] = feed
        return wanted

    def welcomed(self, now: float, streams: Frame) -> int:
        """Each stream's place in the welcome; then asks for the rest. Returns how many events were missed meanwhile."""
        missed = 0
        for stream in streams:
            told = frame_of(streams, stream)
            feed = self._feeds.get(stream)
            if feed is None and "error" not in told:
                self._carrier.ask("unsub", {"stream": stream}, None)
            if feed is None or feed is not self._opening.get(stream) or feed.state is not FeedState.NEW:
                continue
            if "error" in told:
                self.refused(now, feed, 0, _refusal(stream, told))
                continue
            after, head = seq_of(told, "after"), maybe_seq(told, "head")
            if feed.cursor is not None and head is not None:
                missed += max(head - feed.cursor, 0)
            feed.accepted(after)
        for feed in list(self._pending()):
            self._ask(feed)
        return missed

    def log_changed(self) -> None:
        """Another epoch: no cursor held means anything any more."""
        self._void |= self._saved.keys()
        self._saved.clear()
        for feed in list(self._feeds.values()):
            if feed.cursor is None or feed.state is FeedState.DEAD:
                continue
            if feed.reader is None:
                feed.cursor = None
                feed.start = Start()
                continue
            self._void.discard(feed.stream)
            feed.reader.done = None
            self._fail(feed, StreamReset(feed.stream, "epoch"))

    def lost(self) -> None:
        for feed in self._feeds.values():
            feed.lost()

    def answered(self, feed: Feed, id: int, frame: Frame) -> None:
        if feed.asked_id == id and feed.state is FeedState.ASKED:
            feed.accepted(seq_of(frame, "after"))

    def refused(self, now: float, feed: Feed, id: int, error: WireError) -> None:
        """A stream was refused (``id`` 0: in the welcome): what may heal is asked again later, the rest ends it."""
        if self._feeds.get(feed.stream) is not feed or (
            id and (feed.asked_id != id or feed.state is not FeedState.ASKED)
        ):
            return
        if not error.retryable:
            self._fail(feed, error)
            return
        feed.state = FeedState.NEW
        feed.asked_id = 0
        feed.tries += 1
        rest_s = self._carrier.rest_s(feed.tries, error.retry_after_s)
        feed.resting = True
        self._carrier.at(now + rest_s, lambda _now: self._ask_again(feed))

    def event(self, now: float, frame: Frame, size: int) -> None:
        event = event_of(frame)
        feed = self._feeds.get(event.stream)
        if feed is None:
            return
        offer = feed.offer(event, size)
        if offer is Offer.TAKEN:
            self._stats.events += 1
        elif offer is Offer.FILLED:
            self._stats.events += 1
            self._stats.parked += 1
            feed.state = FeedState.PARKED
            if self._carrier.online:
                self._carrier.ask("unsub", {"stream": feed.stream}, None)
        elif offer is Offer.DUPLICATE:
            self._stats.duplicates += 1
        elif offer is Offer.GAP:
            self._stats.gaps += 1
            feed.gaps += 1
            if feed.gaps > self._limits.gaps_max:
                feed.gaps = 0
                self._carrier.suspect(now, f"the server keeps skipping events of {feed.stream}")
            else:
                feed.state = FeedState.NEW
                self._ask(feed)

    def reset(self, frame: Frame) -> None:
        feed = self._feeds.get(text_of(frame, "stream"))
        if feed is None or feed.state is not FeedState.LIVE:
            return  # of a subscription before this one: an ok precedes the reset of ours
        reason = frame.get("reason")
        reset = StreamReset(
            feed.stream,
            reason if isinstance(reason, str) else "reset",
            maybe_seq(frame, "first"),
            maybe_seq(frame, "head"),
        )
        if feed.reader is None:
            self._restart(feed, Start())  # only signals are wanted, and they have no past
            return
        feed.reader.done = None
        self._saved.pop(feed.stream, None)
        self._fail(feed, reset)
        if self._carrier.online:
            self._carrier.ask("unsub", {"stream": feed.stream}, None)

    def let_go(self, frame: Frame) -> None:
        """The server ended a subscription by itself: this principal was removed."""
        feed = self._feeds.get(text_of(frame, "stream"))
        if feed is not None and feed.state is FeedState.LIVE:
            self._fail(feed, Removed("forbidden", f"removed from {feed.stream}"))

    def ended(self, now: float, streams: Frame) -> None:
        """What a new access token does not allow any more. Of one that is being asked for anew its own answer decides."""
        for stream in streams:
            told = frame_of(streams, stream)
            feed = self._feeds.get(stream)
            if feed is not None and feed.state is FeedState.LIVE and "error" in told:
                self.refused(now, feed, 0, _refusal(stream, told))

    def refused_stream(self, frame: Frame, error: WireError) -> None:
        """An error about a stream that answers no question of ours: it ends that stream alone."""
        feed = self._feeds.get(text_of(frame, "stream"))
        if feed is not None and not error.retryable:
            self._fail(feed, error)

    def signal(self, now: float, frame: Frame) -> None:
        self._tell(now, signal_of(frame))

    def mark(self, now: float, frame: Frame) -> None:
        self._tell(now, mark_of(frame))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _pending(self) -> Iterator[Feed]:
        return (feed for feed in self._feeds.values() if feed.state is FeedState.NEW)

    def _ask(self, feed: Feed) -> None:
        current = self._feeds.get(feed.stream) is feed
        if self._carrier.online and current and feed.state is FeedState.NEW and not feed.resting:
            feed.state = FeedState.ASKED
            feed.asked_id = self._carrier.ask("sub", {"stream": feed.stream, **feed.where()}, feed)

    def _ask_again(self, feed: Feed) -> None:
        feed.resting = False
        self._ask(feed)

    def _count(self, stream: str) -> None:
        if stream not in self._feeds and len(self._feeds) >= self.streams_max:
            raise ValueError(
                f"{self.streams_max} streams are followed already, which is all the server takes; close one"
            )

    def _restart(self, feed: Feed, start: Start) -> None:
        feed.cursor, feed.start, feed.state = start.after, start, FeedState.NEW
        self._ask(feed)

    def _fail(self, feed: Feed, error: Exception) -> None:
        """Ends this stream's iterations; others are untouched. Forgotten at once, so that it may be opened anew."""
        feed.die(error)
        if self._feeds.get(feed.stream) is feed:
            del self._feeds[feed.stream]
        if feed.reader is not None and feed.reader.done is not None:
            self._saved[feed.stream] = feed.reader.done

    def _leave_if_idle(self, feed: Feed) -> None:
        if not feed.idle or self._feeds.get(feed.stream) is not feed:
            return
        del self._feeds[feed.stream]
        if self._carrier.online and feed.state in (FeedState.ASKED, FeedState.LIVE):
            self._carrier.ask("unsub", {"stream": feed.stream}, None)
        feed.state = FeedState.DEAD

    def _tell(self, now: float, signal: AnySignal) -> None:
        feed = self._feeds.get(signal.stream)
        if feed is None:
            return
        for listener in feed.listeners:
            until = listener.put(signal, now, self._limits.typing_ttl_s)
            if until is not None:
                self._carrier.at(until, lambda at, listener=listener: listener.expire(signal.stream, at))  # type: ignore[misc]


def _refusal(stream: str, told: Frame) -> WireError:
    code = text_of(told, "error")
    return wire_error(code, f"{_REFUSALS.get(code, 'cannot follow')} {stream}")


def streams_of(frame: Frame) -> Frame:
    """The ``streams`` of a welcome or a refresh; a server that leaves it out follows none."""
    if frame.get("streams") is None:
        return {}
    try:
        return frame_of(frame, "streams")
    except Malformed:
        raise Malformed("streams that are no object") from None
