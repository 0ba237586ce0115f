"""The hub: advances cursors. Live delivery, late join, resume, a slow client catching up are one mechanism.

Theory of operation. The log is cut into partitions; `Hub.pos` is how far this node has read each. A commit batch comes
in through `ingest` with its first and last position:

* already seen -> ignored; next in line -> taken; anything else -> refused (False), and the caller reads the missing
  range from the log and ingests that instead. Nothing later is shown before the gap is closed.
* Within a stream the same rule holds by seq; a hole there sets ``want`` and asks for a `fill`.

A taken event goes into its stream's ring, framed once. Every LIVE port gets the batch's frames of that stream in one
``send`` of shared bytes. A port whose socket takes less moves to `lag` with the seq of the last frame that went onto the
wire whole or in part (`core.outbox`), and is brought forward when its socket drains (`core.replay`).

Small rooms gather in ``port.out`` so that a connection with several events and answers in one turn costs one ``send``.
Larger rooms are sent directly; rooms above ``slice_deliveries`` by tours, a slice a turn (`core.turns`).

Markers and signals live in `core.signals`.
No I/O beyond ``Port.send``, no clock: the caller passes time where time matters. Whoever calls in calls `flush` before
it waits for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from core import signals, wire
from core.fair import even
from core.limits import Limits
from core.model import Event, StreamFacts
from core.replay import encode
from core.stream import LIVE, Latest, Pass, Port, Stream, chunk_of
from core.turns import Turns

GATHER_PORTS_MAX = 64
"""Rooms up to this many live ports share the turn's ``send`` with answers; above, one direct ``send`` a port is cheaper."""


class Hub(Turns):
    """All streams with local interest and the ports that follow them."""

    def __init__(
        self,
        partitions: int,
        limits: Limits,
        *,
        fetch: Callable[[Stream, int], None],
        fill: Callable[[Stream], None],
        weight: Callable[[str], int] = even,
    ) -> None:
        """``fetch(stream, after)`` must lead to `page` or `page_failed`; ``fill(stream)`` to `filled`. ``weight`` is a
        tenant's share where more is to be brought forward than a turn takes."""
        super().__init__(limits, fetch, weight)
        self.pos = [0] * partitions
        self.by_name: dict[tuple[str, str], Stream] = {}
        self.idle: dict[Stream, None] = {}
        """Streams without ports, longest idle first."""
        self.signals = signals.Signals(self)
        self.on_held: Callable[[Stream], None] = lambda stream: None
        """Called when a stream has come into memory, and `on_let_go` when it has left: who listens elsewhere for it."""
        self.on_let_go: Callable[[Stream], None] = lambda stream: None
        self._fill = fill
        self._loading = 0
        self._unknown_head: dict[int, int] = {}
        self._unknown_members: dict[int, int] = {}
        self.delivered = 0
        self.gaps = 0

    def _latest(self, port: Port) -> None:
        self.signals.flush_port(port)

    def _not_now(self, port: Port, latest: Latest, at: int) -> None:
        self.signals.note_again(port, latest.keys[at:])

    # -- streams ------------------------------------------------------------------------------------------------------

    def loading(self) -> None:
        """Facts are about to be asked of the log: from now on remember what unknown streams receive meanwhile."""
        self._loading += 1

    def load(self, facts: Iterable[tuple[StreamFacts | None, str]], now_s: float) -> list[bool]:
        """Take facts that were asked for after `loading`, each with the principal asked about.

        False where a membership change newer than the snapshot was seen meanwhile: ask again.
        """
        believed = []
        for fact, principal in facts:
            if fact is None:
                believed.append(True)
                continue
            stream = self.by_sid.get(fact.sid)
            members_seq = self._unknown_members.get(fact.sid, 0) if stream is None else stream.members_seq
            if members_seq > fact.head:
                believed.append(False)
                continue
            if stream is None:
                stream = Stream(fact.tenant, fact.stream, fact.sid, fact.partition, fact.head, fact.first, fact.open)
                stream.members_seq = fact.head
                stream.idle_since_s = now_s
                self.by_name[fact.tenant, fact.stream] = stream
                self.by_sid[fact.sid] = stream
                self.idle[stream] = None
                stream.want = max(fact.head, self._unknown_head.get(fact.sid, 0))
                self.on_held(stream)
            else:
                self.trimmed(stream, fact.first)
                stream.want = max(stream.want, fact.head)
                if fact.head > stream.head and fact.role is not None:
                    stream.ahead[principal] = max(fact.head, stream.ahead.get(principal, 0))
            if stream.want > stream.head:
                self._fill(stream)
            stream.roles[principal] = fact.role
            believed.append(True)
        self.loaded()
        return believed

    @property
    def is_loading(self) -> bool:
        """Whether facts are on their way, of which nobody knows yet how old they will be."""
        return self._loading > 0

    def loaded(self) -> None:
        """The answer to one `loading` came or failed."""
        self._loading -= 1
        if self._loading == 0:
            self._unknown_head.clear()
            self._unknown_members.clear()

    def evict(self, now_s: float) -> None:
        """Let go of streams idle for too long, and of the longest idle while the rings hold too much."""
        limits = self.limits
        for stream in list(self.idle):
            young = now_s - stream.idle_since_s < limits.stream_idle_s
            if young and self.ring_bytes <= limits.rings_bytes_max:
                break
            # Whom other nodes have does not matter here; who left just now may come back.
            left = stream.present and (stream.far is None or now_s - stream.idle_since_s < limits.presence_grace_s)
            if left or stream.want > stream.head or (young and not stream.ring_bytes):
                continue  # an empty ring frees nothing, and may be of a stream loaded for somebody just now
            del self.idle[stream], self.by_sid[stream.sid], self.by_name[stream.tenant, stream.name]
            self.ring_bytes -= stream.ring_bytes
            self.signals.let_go(stream)
            self.on_let_go(stream)
            if self._loading:  # facts on their way may be older than what it had seen
                self._unknown_head[stream.sid] = stream.head
                self._unknown_members[stream.sid] = stream.members_seq

    def forget(self, heads: Sequence[int]) -> None:
        """Start over at these positions, with no stream in memory. Every port must have been dropped."""
        for stream in list(self.by_sid.values()):
            assert not stream.live, "a port still follows a stream"
            assert not stream.behind, "a port still follows a stream"
            self.on_let_go(stream)
        self.by_sid.clear()
        self.by_name.clear()
        self.idle.clear()
        self.touring.clear()
        self._leave_line()
        self.ring_bytes = 0
        self.signals.forget()
        self.pos[:] = heads

    # -- subscribing --------------------------------------------------------------------------------------------------

    def subscribe(self, port: Port, stream: Stream, after: int, now_s: float, reset: str | None = None) -> None:
        """Follow ``stream`` past ``after``. The answer that says so must be in ``port.out`` already.

        ``reset`` names why the cursor cannot be believed; a cursor past head or before what is kept resets by itself,
        and then the events from ``first`` on follow.
        """
        if stream in port.subs:
            self.unsubscribe(port, stream, now_s)
        if reset is None and after > max(stream.head, stream.want):
            reset = "ahead"
        if reset is None and after < stream.first - 1:
            reset = "trimmed"
        if reset is not None:
            self.resets += 1
            self.reply(port, wire.encode_reset(stream.name, reset, stream.first, stream.head))
            after = stream.first - 1
        self.idle.pop(stream, None)
        if after == stream.live_at:
            port.subs[stream] = LIVE
            stream.live[port] = None
        else:
            self._behind(port, stream, after)
            self._touch(port)
        self.signals.join(port, stream, now_s)

    def unsubscribe(self, port: Port, stream: Stream, now_s: float) -> None:
        if port.subs.pop(stream, None) is None:
            return
        if stream.live.pop(port, 0) is None:
            if stream.tour is not None and port in stream.tour.todo:
                stream.tour.todo.remove(port)  # or it would be served twice after subscribing again
        else:
            stream.behind.pop(port, None)
            if port.lag is not None:
                port.lag.pop(stream, None)
        if port.until is not None:
            port.until.pop(stream, None)
        self.signals.leave(port, stream, now_s)
        if not stream.live and not stream.behind:
            stream.idle_since_s = now_s
            self.idle[stream] = None

    def drop(self, port: Port, now_s: float) -> None:
        """The connection is gone."""
        port.closed = port.blocked = True
        port.out = port.replies = port.rest = port.mark_keys = port.signal_keys = None
        self.ready.pop(port, None)
        for stream in list(port.subs):
            # The tour's todo keeps a closed port until its slice finds it out of `live`: no scan for each of a storm.
            if stream.tour is not None:
                stream.live.pop(port, None)
                stream.behind[port] = None
            self.unsubscribe(port, stream, now_s)

    def remove(self, stream: Stream, principal: str, seq: int, now_s: float) -> None:
        """A principal lost its place at ``seq``: its ports get everything up to there and nothing past it."""
        self.flush()
        for port in [p for p in (*stream.live, *stream.behind) if p.principal == principal]:
            cursor = self._cursor(port, stream)
            if port.subs[stream] == LIVE:
                if stream.tour is not None and port in stream.tour.todo:
                    stream.tour.todo.remove(port)
                self._behind(port, stream, cursor)
            if port.until is None:
                port.until = {}
            port.until[stream] = min(seq, port.until.get(stream, seq))
            if cursor < port.until[stream]:
                self._touch(port)  # `turn` ends it when it is there
            else:
                self._end(port, stream, port.until[stream], now_s)

    def _end(self, port: Port, stream: Stream, until: int, now_s: float) -> None:
        """A removed principal's port has all that it may have: it is let go and told."""
        self.unsubscribe(port, stream, now_s)
        self.reply(port, wire.encode({"op": "unsub", "stream": stream.name, "reason": "removed", "seq": until}))

    def trimmed(self, stream: Stream, first: int) -> None:
        """Everything before ``first`` is no longer kept: the ring forgets it too."""
        stream.first = max(stream.first, first)
        cut = min(max(stream.first - stream.base, 0), len(stream.frames))
        freed = sum(map(len, stream.frames[:cut]))
        del stream.frames[:cut]
        stream.base += cut
        stream.ring_bytes -= freed
        self.ring_bytes -= freed

    # -- events in ----------------------------------------------------------------------------------------------------

    def ingest(
        self, partition: int, first_pos: int, last_pos: int, events: Sequence[tuple[Stream, int, bytes]]
    ) -> bool:
        """Take a batch of (stream, seq, frame) in position order. False: positions are missing before it, read the log.

        Events of streams without local interest are left out of ``events``; their positions still count.
        """
        pos = self.pos[partition]
        if first_pos > pos + 1:
            self.gaps += 1
            return False
        if last_pos <= pos:
            return True
        self.pos[partition] = last_pos
        fresh: dict[Stream, int] = {}
        for stream, seq, frame in events:
            if seq == stream.head + 1:
                if stream not in fresh:
                    fresh[stream] = seq
                stream.push(frame)
                self.ring_bytes += len(frame)
            elif seq > stream.head and seq > stream.want:
                stream.want = seq
                self._fill(stream)
        for stream, first in fresh.items():
            self._deliver(stream, first)
        return True

    def ingest_events(self, partition: int, events: Sequence[Event], now_s: float) -> bool:
        """The same from log rows, as `tail` reads them; membership changes take effect at their place."""
        taken: list[tuple[Stream, int, bytes]] = []
        first_pos = events[0].pos
        for event in events:
            stream = self.by_sid.get(event.sid)
            if stream is None:
                if self._loading:
                    self._unknown_head[event.sid] = max(self._unknown_head.get(event.sid, 0), event.seq)
                    if event.type.startswith("member."):
                        self._unknown_members[event.sid] = max(self._unknown_members.get(event.sid, 0), event.seq)
                continue
            member = event.type.startswith("member.")
            if event.body is None and event.seq > stream.head and not member:
                # Trimmed before it was met: a hole that the log has forgotten, which `filled` jumps with a reset.
                stream.want = max(stream.want, event.seq)
                self._fill(stream)
            else:
                taken.append((stream, event.seq, encode(stream, event)))
            if member:
                if not self.ingest(partition, first_pos, event.pos, taken):
                    return False
                self._member_changed(stream, event, now_s)
                taken = []
                first_pos = event.pos + 1
        last_pos = events[-1].pos
        return first_pos > last_pos or self.ingest(partition, first_pos, last_pos, taken)

    def note_unknown(self, sid: int, seq: int) -> None:
        """A commit of this node touched a stream it does not follow; facts on their way may be older than it."""
        if self._loading:
            self._unknown_head[sid] = max(self._unknown_head.get(sid, 0), seq)

    def _member_changed(self, stream: Stream, event: Event, now_s: float) -> None:
        if event.seq <= stream.members_seq:
            return
        stream.members_seq = event.seq
        if event.body is None:
            self._forget_roles(stream, event, now_s)
            return
        change = wire.parse(event.body, self.limits.json_depth_max)
        principal = change.get("principal") if isinstance(change, dict) else None
        if not isinstance(principal, str) or not isinstance(change, dict):
            return
        if event.seq <= stream.ahead.get(principal, 0):
            return  # its facts were read after this change: a removal that it came back from must not end it
        stream.ahead.pop(principal, None)
        stream.roles.pop(principal, None)
        if event.type == "member.left" and not stream.open:
            self.remove(stream, principal, event.seq, now_s)

    def _forget_roles(self, stream: Stream, event: Event, now_s: float) -> None:
        """The change was trimmed before it was met: nobody can say whom it named, so everybody comes in anew."""
        stream.roles.clear()
        stream.ahead.clear()
        if event.type == "member.left" and not stream.open:
            for principal in {port.principal: None for port in (*stream.live, *stream.behind)}:
                self.remove(stream, principal, event.seq, now_s)

    def filled(self, stream: Stream, events: Sequence[Event], now_s: float, want: int) -> None:
        """Rows read past head to close a hole, when ``want`` was ``stream.want``; asks again while some are missing."""
        if self.by_sid.get(stream.sid) is not stream:
            return
        start = events[0].seq if events else want + 1
        if start > stream.head + 1:
            self._jump(stream, start)
        first = stream.head + 1
        for event in events:
            if event.seq == stream.head + 1:
                frame = encode(stream, event)
                stream.push(frame)
                self.ring_bytes += len(frame)
                if event.type.startswith("member."):
                    self._deliver(stream, first)
                    self._member_changed(stream, event, now_s)
                    first = stream.head + 1
        if stream.head >= first:
            self._deliver(stream, first)
        self.flush()
        if stream.want > stream.head:
            self._fill(stream)

    def _jump(self, stream: Stream, first: int) -> None:
        """The log has forgotten the hole itself. Who stands before it is brought forward by `page`, which resets."""
        for port in list(stream.live):
            self._behind(port, stream, self._cursor(port, stream))
        self._rouse(stream)
        stream.tour = None
        self.touring.pop(stream, None)
        self.ring_bytes -= stream.ring_bytes
        stream.ring_bytes = 0
        stream.frames.clear()
        stream.first = stream.base = first
        stream.head = first - 1

    @staticmethod
    def _cursor(port: Port, stream: Stream) -> int:
        """Where a port stands, also when it is live and a tour has not come to it yet."""
        cursor = port.subs[stream]
        if cursor != LIVE:
            return cursor
        tour = stream.tour
        return tour.start if tour is not None and port in tour.todo else stream.live_at

    # -- events out ---------------------------------------------------------------------------------------------------

    def _deliver(self, stream: Stream, first: int) -> None:
        """Everything past ``first - 1`` to all live ports."""
        frames = stream.frames[first - stream.base :]
        self.ring_bytes -= stream.shrink(self.limits.ring_events_max, self.limits.ring_bytes_max)
        self._rouse(stream)
        live = stream.live
        if not live or stream.tour is not None:
            return  # a tour under way goes on with these when it has come round
        chunk = chunk_of(stream, first, frames)
        self.delivered += len(frames) * len(live)
        if len(live) <= GATHER_PORTS_MAX:
            late = []
            for port in live:
                if port.blocked:
                    late.append(port)
                elif port.out is None:
                    port.out = [chunk]
                    self.touched.append(port)
                else:
                    port.out.append(chunk)
            for port in late:
                self._behind(port, stream, first - 1)
        elif len(live) <= self.limits.slice_deliveries:
            self._blast(list(live), chunk)
        else:
            stream.tour = Pass(first - 1, stream.head, chunk, list(live))
            self.touring[stream] = None

    def _rouse(self, stream: Stream) -> None:
        """Live ports stand elsewhere now: whoever is behind may be waiting for just that."""
        for port in stream.behind:
            if not port.blocked:
                self.ready[port] = None
