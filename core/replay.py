"""Bringing cursors forward: a port that is behind takes pages, from a stream's ring or else from the log, until it is live.

Late join, resume and a slow client catching up are all this. One turn gives a port at most a page
(``replay_page_events``, ``replay_page_bytes``), so that no replay holds the shard; ``ready`` holds who has more to take.
All ports together get ``allowance`` bytes between two turns. When that is used up, who would be brought forward is ready
instead, and `core.turns` gives the tenants their turns.

A page of the log is asked for once however many stand at its cursor, and where it ends at the ring's beginning the ring
is extended by it. One that was not given to all who waited for it is kept for them, while there is anybody ready. What the
log has trimmed is answered with ``reset``, and the events from ``first`` on follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from core import wire
from core.fair import Fair, even
from core.limits import Limits
from core.model import Event
from core.outbox import Outbox
from core.stream import LIVE, Port, Stream, chunk_of

SEND_BYTES: Final = 4_096
"""What a send costs beside its bytes, in bytes: 1.8 us of kernel and Python, where a byte more is 0.4 ns."""
TURN_BYTES: Final = 65_536
"""A turn of a tenant in the line."""
KEPT_PAGES_MAX: Final = 16
"""Pages of the log kept for who could not be given them at once; each below ``ring_bytes_max``."""


class Replay(Outbox):
    """The middle of the hub: streams as rings, ports as cursors."""

    def __init__(
        self, limits: Limits, fetch: Callable[[Stream, int], None], weight: Callable[[str], int] = even
    ) -> None:
        super().__init__()
        self.limits = limits
        self.by_sid: dict[int, Stream] = {}
        self.ring_bytes = 0
        self.ready: dict[Port, None] = {}
        """Ports with more to take from a ring, whose page for this turn is used up."""
        self.allowance = limits.turn_replay_bytes
        """What may be sent yet before the next turn; each page or slice may pass it by its own size."""
        self.line: Fair[Port] = Fair(TURN_BYTES, weight)
        """Ports that wait for a page, by tenant."""
        self._kept: dict[tuple[Stream, int], list[bytes]] = {}
        self._fetch = fetch
        self.replayed = 0
        self.lagged = 0
        self.resets = 0

    def _behind(self, port: Port, stream: Stream, cursor: int) -> None:
        """The port stands at ``cursor`` and will be brought forward by `pump`."""
        self.lagged += 1
        port.subs[stream] = cursor
        stream.live.pop(port, None)
        stream.behind[port] = None
        if port.lag is None:
            port.lag = {}
        port.lag[stream] = None

    def _spend(self, tenant: str, size: int) -> None:
        """So many bytes went out for a tenant's replay, in one send."""
        self.allowance -= SEND_BYTES + size
        self.line.charge(tenant, SEND_BYTES + size)

    def _gather(self, port: Port, out: list[bytes]) -> None:
        """A page for each stream the port lags in, from the rings; what the rings no longer hold is asked of the log."""
        limits, spent = self.limits, self.allowance <= 0
        events_left, bytes_left = limits.replay_page_events, limits.replay_page_bytes
        assert port.lag is not None
        for stream in list(port.lag):
            cursor = port.subs[stream]
            until = None if port.until is None else port.until.get(stream)
            goal = stream.live_at if until is None else min(stream.live_at, until)
            if cursor < goal and spent:
                self.ready[port] = None
                continue
            page = None
            if cursor < goal and cursor + 1 < stream.base:
                page = self._kept.get((stream, cursor)) if cursor + 1 >= stream.first else None
                if page is None:
                    self._ask(port, stream, cursor)
                    continue
            if cursor < goal:
                if page is None:
                    start = cursor + 1 - stream.base
                    frames = stream.frames[start : min(start + events_left, goal + 1 - stream.base)]
                else:
                    frames = page[: min(events_left, goal - cursor)]
                size = 0
                for count, frame in enumerate(frames):
                    size += len(frame)
                    if size > bytes_left and count:
                        del frames[count:]
                        break
                out.append(chunk_of(stream, cursor + 1, frames))
                cursor += len(frames)
                port.subs[stream] = cursor
                self.replayed += len(frames)
                events_left -= len(frames)
                bytes_left -= size
                if page is not None and cursor < goal:
                    self.ready[port] = None  # the page may be shorter than one, and end before the ring begins
            if until is not None:
                if cursor >= until:
                    self.ready[port] = None  # all it may have is in `out`: `turn` lets it go once that is on the wire
            elif cursor == goal:
                del port.lag[stream]
                stream.behind.pop(port, None)
                port.subs[stream] = LIVE
                stream.live[port] = None
            if events_left <= 0 or bytes_left <= 0:
                self.ready[port] = None
                break
        if bytes_left < limits.replay_page_bytes:
            self._spend(stream.tenant, limits.replay_page_bytes - bytes_left)  # all of a port's are of one tenant

    def _ask(self, port: Port, stream: Stream, after: int) -> None:
        waiting = stream.fetching.get(after)
        if waiting is None:
            stream.fetching[after] = [port]
            self._fetch(stream, after)
        elif port not in waiting:
            waiting.append(port)

    def page(self, stream: Stream, after: int, events: Sequence[Event], first: int) -> None:
        """Rows past ``after``, contiguous; ``first`` is the lowest seq the stream still keeps. Everyone waiting gets them,
        now or, when the allowance is used up, in its turn."""
        waiting = stream.fetching.pop(after, [])
        if self.by_sid.get(stream.sid) is not stream:
            return
        stream.first = max(stream.first, first)
        frames = [encode(stream, event) for event in events]
        if events and events[-1].seq == stream.base - 1:
            self._prepend(stream, events[0].seq, frames)
        served = False
        for port in waiting:
            if port.closed or port.subs.get(stream) != after:
                continue
            if served and self.allowance <= 0:  # one is served in any case: a page that nobody takes were read for ever
                if events and events[0].seq == after + 1:
                    self._keep(stream, after, frames)
                self.ready[port] = None
                continue
            served = True
            self._touch(port)
            until = wire.SEQ_MAX if port.until is None else port.until.get(stream, wire.SEQ_MAX)
            count = min(len(frames), min(stream.live_at, until) - after)
            if after < stream.first - 1 or (events and events[0].seq != after + 1):
                if until >= stream.first:  # else its end was trimmed too, and there is nothing to start again with
                    self.resets += 1
                    self.reply(port, wire.encode_reset(stream.name, "trimmed", stream.first, stream.head))
                port.subs[stream] = stream.first - 1
            elif count > 0 and not port.blocked:
                assert port.out is not None
                chunk = chunk_of(stream, after + 1, frames[:count])
                port.out.append(chunk)
                port.subs[stream] = after + count
                self.replayed += count
                self._spend(stream.tenant, len(chunk))
        self.flush()

    def _keep(self, stream: Stream, after: int, frames: list[bytes]) -> None:
        """For those who are ready for it: each page once, the oldest go first, none that is very large."""
        kept = self._kept
        if (stream, after) not in kept and sum(map(len, frames)) <= self.limits.ring_bytes_max:
            if len(kept) >= KEPT_PAGES_MAX:
                del kept[next(iter(kept))]
            kept[stream, after] = frames

    def page_failed(self, stream: Stream, after: int) -> None:
        """The log could not answer: forget that it was asked, so that the next `pump` or `turn` asks again."""
        for port in stream.fetching.pop(after, []):
            if not port.closed:
                self.ready[port] = None

    def _prepend(self, stream: Stream, first: int, frames: list[bytes]) -> None:
        """A page that ends where the ring begins makes the ring reach further back, so that the next reader needs no log."""
        size = sum(map(len, frames))
        limits = self.limits
        if len(frames) + len(stream.frames) > limits.ring_events_max:
            return
        if stream.ring_bytes + size > limits.ring_bytes_max or self.ring_bytes + size > limits.rings_bytes_max:
            return
        stream.frames[:0] = frames
        stream.base = first
        stream.ring_bytes += size
        self.ring_bytes += size


def encode(stream: Stream, event: Event) -> bytes:
    """A log row as a framed event. A trimmed body never reaches a reader who asked properly; it shows as null."""
    body = b"null" if event.body is None else event.body
    return wire.encode_event(stream.name_b, event.seq, event.type, event.key, event.by, event.at_ms, body)
