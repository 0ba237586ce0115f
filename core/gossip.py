"""Presence, typing and markers between nodes: what this node tells the others, and what it believes of them.

Theory of operation. Nothing is kept outside the nodes. Each node is the only one who knows what its own connections do,
and says so in absolute values: "of user:amy I have 2 in stream 7". What it says on one partition's channel
(``signals:<partition>``) is numbered; a receiver takes rising numbers and nothing else, so whatever comes twice or too
late changes nothing. A number that was jumped over is a message lost, and so is one that a heartbeat named and that did
not come: then the receiver asks that node for its state of the streams held here, and a `states` row replaces what was
believed. That is all the repair there is, and joining is the same: who begins to hold a stream asks everybody for it,
and tells its own.

An answer goes to the channel, where everybody takes it; two who ask at once are answered once. Asking and answering
take their turns (`SIDS_PER_TAKE`), so that a node that comes back with ten thousand streams delays no news.

A node lives while it is heard (`core.leases`); `tick` takes away what the dead had said. While the bus is away nobody is
heard and nothing is concluded from it.

Markers need none of this, since they only rise: what comes is the higher of both. Typing ends by itself everywhere.

No I/O, no clock: `gateway.cluster` publishes what `take` returns and hands in what comes. `core.presence` and
`core.signals` do the counting and the telling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

import orjson

from core import gossip_wire
from core.gossip_wire import CHANGES, MARKS, SIDS_PER_ASK_MAX, STATES, TYPING, Ask, Beat, Row, Rows, Told
from core.leases import Leases, Peer
from core.stream import Stream

if TYPE_CHECKING:
    from core.hub import Hub
    from core.limits import Limits

NODES: Final = "nodes"

ROWS_PER_TAKE: Final = 5_000
"""100,000 a second, and 8 ms in one piece."""
SIDS_PER_TAKE: Final = 2_000
"""Streams asked for, and streams answered for, each time: 40,000 a second."""
FORGET_PER_TICK: Final = 10_000
"""People of the dead taken away at once, about 5 ms; of a node with more the rest goes with the next ticks."""
ALL: Final = 1 << 60
PRESSING_MAX: Final = 100
ANSWERS_WAITING_MAX: Final = 200_000
"""Streams that others asked for; who asks for more asks again after `ASK_AGAIN_S`."""
ASK_AGAIN_S: Final = 1.0
SUSPECT_S: Final = 0.2
"""A heartbeat overtakes what was said before it on another channel by less than this."""
RAISED_S: Final = 300.0
"""Markers raised here are told with the state for at least so long: longer than their way into Postgres and than another
node's way from there to asking here, and so long that a link may be away without one being missed."""
LEARN_S: Final = 0.5
"""After its first heartbeat a node does not yet know who else is there."""


class Gossip:
    def __init__(self, hub: Hub, node: str, limits: Limits) -> None:
        """``node`` is this process' own id: after a restart it has another."""
        self.node = node
        self._hub = hub
        self._limits = limits
        # The rest of the lease is for noticing and telling: it may have died just after a heartbeat.
        self._leases = Leases(node, limits.lease_s - limits.node_beat_s / 2)
        self._channels = [f"signals:{partition}" for partition in range(len(hub.pos))]
        self._partitions = {channel: partition for partition, channel in enumerate(self._channels)}
        self._mine = orjson.dumps([node])[:-1] + b","
        self._up = True
        self._beats = 0
        self._beat_at_s = float("-inf")
        self._began_s: float | None = None
        self._now_s = 0.0
        self._seqs: dict[int, int] = {}
        """Number of the last message on each partition."""
        self._held: dict[int, dict[int, Stream]] = {}
        """By partition and sid, the streams held here that the others were asked for."""
        self._changed: dict[tuple[Stream, str], None] = {}
        self._typed: dict[tuple[Stream, str], bool] = {}
        self._marked: dict[tuple[Stream, str], None] = {}
        self._asking: dict[int, Stream] = {}
        """Streams to be asked for, by sid, and below those asked for and when, the longest ago first."""
        self._asked: dict[int, float] = {}
        self._answers: dict[int, int] = {}
        """Streams whose state is to be told, with their partition."""
        self._raised: dict[Stream, set[str]] = {}
        self._raised_before: dict[Stream, set[str]] = {}
        """Markers of the time before `_raised_since_s`, which are forgotten at the next turn."""
        self._raised_since_s = 0.0
        self._gone: dict[str, tuple[list[Stream], bool]] = {}
        """Dead nodes whose people are not all taken away yet: from which streams, and whether they have the grace."""
        self.gaps = 0
        """Messages of others found missing; each led to asking."""
        self.doubts = 0
        """How often markers may have been missed that nobody will tell again: a peer came, ended or lost something, or the
        bus is back."""
        hub.signals.gossip = self

    @property
    def nodes(self) -> dict[str, float]:
        """The other nodes that live, with the time when each was last heard."""
        return {node: peer.heard_s for node, peer in self._leases.peers.items()}

    def complete(self, stream: Stream) -> bool:
        """Whether every live node has told its state of the stream, or cannot (the bus is away)."""
        if not self._up:
            return True
        if self._began_s is None or self._now_s - self._began_s < LEARN_S:
            return False
        if stream.sid not in self._held.get(stream.partition, ()):
            return False
        return all(stream.sid not in peer.owes for peer in self._leases.peers.values())

    @property
    def pressing(self) -> bool:
        """Somebody waits for the question or the answer that the next `take` brings: worth one before its time, except
        where there are so many that they had better take their turns."""
        return 0 < len(self._asking) + len(self._answers) <= PRESSING_MAX

    # -- what happens here ----------------------------------------------------------------------------------------------

    def presence(self, stream: Stream, who: str) -> None:
        """Somebody's connections changed."""
        self._changed[stream, who] = None

    def typing(self, stream: Stream, who: str, on: bool) -> None:
        self._typed[stream, who] = on

    def mark(self, stream: Stream, who: str) -> None:
        self._marked[stream, who] = None
        self._raised.setdefault(stream, set()).add(who)

    def held(self, stream: Stream) -> None:
        """The hub holds the stream and its channel is listened to: others are asked for theirs and told ours.

        Whichever of two nodes comes to listen last is heard by the other, so between them nothing stays unknown."""
        self._held.setdefault(stream.partition, {})[stream.sid] = stream
        self._owe(self._leases.peers.values(), stream)
        if stream.live or stream.behind:
            self._answers[stream.sid] = stream.partition

    def let_go(self, stream: Stream) -> None:
        held = self._held.get(stream.partition)
        if held is not None and held.get(stream.sid) is stream:
            del held[stream.sid]
        self._asking.pop(stream.sid, None)
        self._asked.pop(stream.sid, None)
        for peer in self._leases.peers.values():
            peer.owes.pop(stream.sid, None)
        self._raised.pop(stream, None)
        self._raised_before.pop(stream, None)

    def bus_changed(self, up: bool, now_s: float) -> None:
        self._up = up
        if up:
            self.doubts += 1
            self._leases.thaw(now_s)
            self._beat_at_s = now_s
            self._began_s = None
        else:
            self._leases.freeze()

    def leaving(self) -> list[tuple[str, bytes]]:
        """An orderly end: the others count our people as leaving now, not a lease later."""
        return [(NODES, gossip_wire.encode_end(self.node))]

    def tick(self, now_s: float) -> None:
        """Time passed: who is dead, what was lost, which questions nobody answered."""
        self._now_s = now_s
        for peer in self._leases.expired(now_s):
            self._forget(peer, grace=False)
        budget = FORGET_PER_TICK
        for node in list(self._gone):
            budget = self._take_away(node, now_s, budget)
        for peer in self._leases.peers.values():
            for partition, (seq, due_s) in list(peer.suspected.items()):
                if due_s <= now_s:
                    del peer.suspected[partition]
                    if seq > peer.seen.get(partition, 0):
                        self._missed(peer, partition, seq, now_s)
        for sid in list(takewhile(lambda sid: now_s - self._asked[sid] >= ASK_AGAIN_S, self._asked)):
            del self._asked[sid]
            stream = self._hub.by_sid.get(sid)
            if stream is not None and any(sid in peer.owes for peer in self._leases.peers.values()):
                self._asking[sid] = stream
        if self._up and now_s - self._raised_since_s >= RAISED_S:
            self._forget_raised(now_s)

    def _forget_raised(self, now_s: float) -> None:
        """Markers that Postgres must have by now, except those that it would not take."""
        unsaved = self._hub.signals.unsaved
        for stream, people in self._raised_before.items():
            still = {who for who in people if (stream.tenant, stream.sid, who) in unsaved}
            if still:
                self._raised.setdefault(stream, set()).update(still)
        self._raised, self._raised_before = {}, self._raised
        self._raised_since_s = now_s

    # -- telling --------------------------------------------------------------------------------------------------------

    def take(self, now_s: float) -> list[tuple[str, bytes]]:
        """What to publish now, (channel, payload) each. Call it soon and again: it leaves over what is too much at once."""
        self._now_s = now_s
        rows = Rows()
        self._take_changes(rows)
        self._take_answers(rows)
        messages = []
        for partition, parts in rows.parts.items():
            for changes, states, typing, marks in parts:
                seq = self._seqs[partition] = self._seqs.get(partition, 0) + 1
                told = Told(self.node, seq, changes, states, typing, marks)
                messages.append((self._channels[partition], gossip_wire.encode_told(told)))
        self._take_asks(messages, now_s)
        if now_s >= self._beat_at_s:
            self._beats += 1
            self._beat_at_s = now_s + self._limits.node_beat_s
            if self._began_s is None:
                self._began_s = now_s
            messages.append((NODES, gossip_wire.encode_beat(self.node, self._beats, self._seqs)))
        return messages

    def _take_changes(self, rows: Rows) -> None:
        by_sid = self._hub.by_sid
        counts: dict[Stream, Row] = {}
        for stream, who in _first(self._changed, ROWS_PER_TAKE):
            now = by_sid.get(stream.sid)  # it may have been let go since, and loaded anew
            count = 0 if now is None else self._hub.signals.own(now, who)
            counts.setdefault(stream, [stream.sid]).extend((who, count))
        for stream, row in counts.items():
            rows.add(stream.partition, CHANGES, row, 2)
        typed, self._typed = self._typed, {}
        for (stream, who), on in typed.items():
            rows.add(stream.partition, TYPING, [stream.sid, who, on], 2)
        marks: dict[Stream, Row] = {}
        for stream, who in _first(self._marked, ROWS_PER_TAKE):
            marks.setdefault(stream, [stream.sid]).extend((who, *stream.marks[who]))
        for stream, row in marks.items():
            rows.add(stream.partition, MARKS, row, 3)

    def _take_answers(self, rows: Rows) -> None:
        """The states of streams that others want to know."""
        budget = ROWS_PER_TAKE
        for sid in list(islice(self._answers, SIDS_PER_TAKE)):
            partition = self._answers.pop(sid)
            stream = self._hub.by_sid.get(sid)
            state: Row = [sid]
            if stream is not None:
                for pair in self._hub.signals.own_people(stream).items():
                    state.extend(pair)
                raised = self._raised.get(stream, set()) | self._raised_before.get(stream, set())
                if raised:
                    marks: Row = [sid]
                    for who in sorted(raised):
                        marks.extend((who, *stream.marks[who]))
                    rows.add(partition, MARKS, marks, 3)
                    budget -= len(raised)
            rows.add(partition, STATES, state, 2)
            budget -= len(state) // 2
            if budget < 0:
                break

    def _take_asks(self, messages: list[tuple[str, bytes]], now_s: float) -> None:
        peers = self._leases.peers.values()
        for peer in peers:
            for partition in [partition for partition, due_s in peer.lost.items() if due_s <= now_s]:
                del peer.lost[partition]
                peer.asked_s[partition] = now_s
                self._asking.update({sid: s for sid, s in self._held.get(partition, {}).items() if sid in peer.owes})
        asks: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for sid in list(islice(self._asking, SIDS_PER_TAKE)):
            partition = self._asking.pop(sid).partition
            to = tuple(peer.node for peer in peers if sid in peer.owes)
            if to:
                asks.setdefault((partition, to), []).append(sid)
                self._asked.pop(sid, None)
                self._asked[sid] = now_s
        for (partition, to), sids in asks.items():
            names = [] if len(to) == len(peers) else list(to)  # none: everybody, also who is not known yet
            for at in range(0, len(sids), SIDS_PER_ASK_MAX):
                part = sids[at : at + SIDS_PER_ASK_MAX]
                messages.append((NODES, gossip_wire.encode_ask(self.node, names, partition, part)))

    # -- being told -----------------------------------------------------------------------------------------------------

    def receive(self, channel: str, payload: bytes, now_s: float) -> bool:
        """Take what came on a channel, own messages included. False: malformed, and nothing was changed by it."""
        self._now_s = now_s
        if channel == NODES:
            return self._notice(payload, now_s)
        partition = self._partitions.get(channel)
        if partition is None:
            return False
        if payload.startswith(self._mine):
            return True
        told = gossip_wire.parse_told(payload)
        if told is None:
            return False
        if told.node != self.node:
            self._told(told, partition, now_s)
        return True

    def _told(self, told: Told, partition: int, now_s: float) -> None:
        peer = self._leases.heard(told.node, now_s)
        if peer is None:
            return
        signals = self._hub.signals
        for stream, row in self._streams(told.marks, partition):  # they only rise: good at any time
            for at in range(1, len(row), 3):
                signals.far_mark(stream, row[at], row[at + 1], row[at + 2])
        seen = peer.seen.get(partition, 0)
        if told.seq <= seen:
            return
        peer.heard_s = now_s
        if told.node in self._gone:  # it lives again: first away with what it said before
            self._take_away(told.node, now_s, ALL)
        if told.seq > seen + 1:
            self._lost(peer, partition, now_s)
        peer.seen[partition] = told.seq
        for row in told.states:
            peer.owes.pop(row[0], None)
        for stream, row in self._streams(told.states, partition):
            signals.far_state(stream, told.node, dict(zip(row[1::2], row[2::2], strict=True)), now_s)
        for stream, row in self._streams(told.changes, partition):
            for at in range(1, len(row), 2):
                signals.far_count(stream, told.node, row[at], row[at + 1], now_s)
        for stream, (_, who, on) in self._streams(told.typing, partition):
            signals.far_typing(stream, who, on, now_s)

    def _streams(self, rows: list[Row], partition: int) -> Iterator[tuple[Stream, Row]]:
        """The rows of streams held here."""
        by_sid = self._hub.by_sid
        for row in rows:
            stream = by_sid.get(row[0])
            if stream is not None and stream.partition == partition:
                yield stream, row

    def _notice(self, payload: bytes, now_s: float) -> bool:
        notice = gossip_wire.parse_notice(payload)
        if notice is None:
            return False
        if isinstance(notice, Ask):
            if notice.partition >= len(self._channels):
                return False
            if notice.node != self.node and (not notice.to or self.node in notice.to):
                for sid in notice.sids:
                    if len(self._answers) < ANSWERS_WAITING_MAX:
                        self._answers[sid] = notice.partition
        elif notice.node != self.node:
            if isinstance(notice, Beat):
                self._beat(notice, now_s)
            else:
                peer = self._leases.ended(notice.node)
                if peer is not None:
                    self._forget(peer, grace=True)
        return True

    def _beat(self, beat: Beat, now_s: float) -> None:
        peer = self._leases.beat(beat.node, beat.number, now_s)
        if peer is None:
            return
        first, peer.first = peer.first, False
        if first:
            self.doubts += 1  # others may have lived and died while neither it nor they were heard
            self._beat_at_s = now_s  # it wants to know who is here
        for partition, seq in beat.seqs.items():
            if seq <= peer.seen.get(partition, 0) or not self._held.get(partition):
                continue
            if first:
                self._missed(peer, partition, seq, now_s)
            else:
                peer.suspected.setdefault(partition, (seq, now_s + SUSPECT_S))

    def _missed(self, peer: Peer, partition: int, seq: int, now_s: float) -> None:
        """The peer's messages up to this one have not come."""
        peer.seen[partition] = seq
        self._lost(peer, partition, now_s)

    def _lost(self, peer: Peer, partition: int, now_s: float) -> None:
        """What is believed of the peer's people in this partition is not to be relied upon until it has told its state.
        It is asked once in `ASK_AGAIN_S`, however much is lost: asking must not add to what made messages get lost."""
        self.gaps += 1
        self.doubts += 1
        peer.owes.update(dict.fromkeys(self._held.get(partition, ())))
        peer.lost.setdefault(partition, max(now_s, peer.asked_s.get(partition, -ASK_AGAIN_S) + ASK_AGAIN_S))

    def _owe(self, peers: Iterable[Peer], stream: Stream) -> None:
        for peer in peers:
            peer.owes[stream.sid] = None
            self._asking[stream.sid] = stream

    def _forget(self, peer: Peer, *, grace: bool) -> None:
        self.doubts += 1
        streams = [stream for stream in self._hub.by_sid.values() if stream.far is not None and peer.node in stream.far]
        if streams:
            self._gone[peer.node] = (streams, grace)

    def _take_away(self, node: str, now_s: float, budget: int) -> int:
        """The people of a dead node, up to so many and the rest of the last stream; how many more it might have been."""
        streams, grace = self._gone[node]
        while streams and budget > 0:
            stream = streams.pop()
            budget -= len((stream.far or {}).get(node, ()))
            if self._hub.by_sid.get(stream.sid) is stream:
                self._hub.signals.far_gone(stream, node, now_s, grace=grace)
        if not streams:
            del self._gone[node]
        return budget


def _first(table: dict[tuple[Stream, str], None], count: int) -> list[tuple[Stream, str]]:
    """Take out the first keys. (One by one off a dict's front would step over the gaps of all before, each time.)"""
    keys = list(islice(table, count))
    for key in keys:
        del table[key]
    return keys
