"""The node among others: what it tells them over the bus, and what it does with what they tell.

Told: each commit batch, once, on its partition's channel, with the events already framed; presence, typing and markers
(`core.gossip`); positions; sessions taken over from another connection. Everything is sealed (`core.seal`), and everything that
comes in is a hint: a batch is taken only where its positions follow on what the hub has seen, and what is missing
before it is waited for a moment (`core.sequencer`), then read from the log. With the bus away the node tails the log
(`gateway.follower`), says so, and nothing else changes; when it is back every partition is looked at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import orjson
import trio

from core import batches
from core.bus import BUS_PAYLOAD_MAX, Bus, Message
from core.gossip import Gossip
from core.seal import HEAD_BYTES, Seals
from core.stream import Stream
from gateway.rereading import Rereading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.node import Node

log = logging.getLogger("readback.cluster")

NODES = "nodes"
SESSIONS = "sessions"
TRIMS = "trims"
REVOCATIONS = "revocations"
ROWS = "rows"
RETURN_S = 3.0
"""After the bus came back: by then the others have found it too (they try at least once in 1.5 s), and what they commit
before that is told to nobody."""


class Cluster:
    """Exists only where a bus does; a node without one is alone and needs none of this."""

    def __init__(self, node: Node, bus: Bus, node_id: str, seal_ring: Mapping[str, bytes]) -> None:
        self._node = node
        self._hub = node.hub
        self.bus = bus
        self.node_id = node_id
        self.gossip = Gossip(node.hub, node_id, node.limits)
        self.rereading = Rereading(node.log, node.hub, self.gossip, failed=node.follower.failed)
        self._seals = Seals(seal_ring)
        self._events = [f"events:{partition}" for partition in range(len(node.hub.pos))]
        self._signals = [f"signals:{partition}" for partition in range(len(node.hub.pos))]
        self._live = [f"live:{partition}" for partition in range(len(node.hub.pos))]
        self._lives = frozenset(self._live)
        self._partitions = {name: partition for partition, name in enumerate(self._events)}
        self._signalled = {name: partition for partition, name in enumerate(self._signals)}
        self._gap = trio.Event()
        self._was_away = False
        self._everywhere = False
        self._confirmed: set[str] = set()
        """Channels that are listened to, as far as the bus has said."""
        self.foreign = 0
        self.malformed = 0
        self.batches_out = 0
        self.batches_in = 0
        self.overdue = 0
        bus.on_messages = self._messages
        bus.on_change = self._changed
        bus.on_listening = self._listening
        bus.listen(NODES)
        bus.listen(SESSIONS)
        bus.listen(TRIMS)
        bus.listen(REVOCATIONS)
        bus.listen(ROWS)

    def listen_everywhere(self) -> None:
        """Hear of every partition's commits, whatever is held here: a worker is in the node (`Node.on_commit`)."""
        self._everywhere = True
        for channel in self._events:
            self.bus.listen(channel)

    def use_keys(self, seal_ring: Mapping[str, bytes]) -> None:
        self._seals = Seals(seal_ring)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _publish(self, channel: str, payload: bytes) -> None:
        self.bus.publish(channel, self._seals.seal(channel, payload))

    def publish_batch(self, partition: int, first: int, last: int, events: Sequence[tuple[int, int, bytes]]) -> None:
        """A batch was committed here: (sid, seq, frame) for each of its positions, or what there is of them."""
        self.batches_out += 1
        payload = None
        if len(events) == last - first + 1:
            payload = batches.encode(partition, first, last, events)
        if payload is None or len(payload) > BUS_PAYLOAD_MAX - HEAD_BYTES:
            payload = batches.hint(partition, last)
        self._publish(self._events[partition], payload)

    def publish_session(self, session: str, generation: int) -> None:
        """The session is spoken for here from now on, by this generation of its resume tokens."""
        self._publish(SESSIONS, orjson.dumps((session, generation, self.node_id)))

    def publish_trim(self, tenant: str, stream: str, first: int) -> None:
        """What lies before ``first`` is to be forgotten by every node's ring as it is by the log."""
        self._publish(TRIMS, orjson.dumps((tenant, stream, first)))

    def publish_revocation(self, payload: bytes) -> None:
        """Somebody was revoked, or is no more (`gateway.revoking`)."""
        self._publish(REVOCATIONS, payload)

    def publish_rows(self, partition: int) -> None:
        """Read models changed by events of the partition: boards are to look (`gateway.board`)."""
        self._publish(ROWS, orjson.dumps(partition))

    def publish_live(self, partition: int, payload: bytes) -> None:
        """Positions and arrival times of streams of the partition (`gateway.live.showing`)."""
        self._publish(self._live[partition], payload)

    def signals(self, now_s: float) -> None:
        """Tell presence, typing and markers that changed here; called each `signal_flush_s`."""
        for channel, payload in self.gossip.take(now_s):
            self._publish(channel, payload)

    def leave(self) -> None:
        """An orderly end: the others need not wait for a lease to run out."""
        for channel, payload in self.gossip.leaving():
            self._publish(channel, payload)

    # -- being told ---------------------------------------------------------------------------------------------------

    def hold(self, stream: Stream) -> None:
        """A stream came into memory here."""
        partition = stream.partition
        if self._node.follower.held[partition] == 1:
            self.bus.listen(self._events[partition])
            self.bus.listen(self._signals[partition])
            if self._node.positions is not None:
                self.bus.listen(self._live[partition])
        if self._signals[partition] in self._confirmed:
            self.gossip.held(stream)

    def let_go(self, stream: Stream) -> None:
        self.gossip.let_go(stream)
        if stream.partition not in self._node.follower.held:
            partition = stream.partition
            for channel in (self._events[partition], self._signals[partition], self._live[partition]):
                if self._everywhere and channel in self._partitions:
                    continue
                self.bus.unlisten(channel)
                self._confirmed.discard(channel)

    def listens_to(self, channels: Iterable[str]) -> bool:
        """Whether all of these are confirmed by the bus."""
        return self._confirmed.issuperset(channels)

    def _listening(self, channel: str) -> None:
        """From now on its messages come; what was told before may have been missed."""
        self._confirmed.add(channel)
        if channel in self._partitions:
            self._node.follower.look_now()
        partition = self._signalled.get(channel)
        if partition is not None:
            for stream in self._hub.by_sid.values():
                if stream.partition == partition:
                    self.gossip.held(stream)

    def _changed(self) -> None:
        trouble = self.bus.trouble
        if trouble is None:
            # At the start it is no news that it was not there before.
            log.log(
                logging.WARNING if self._was_away else logging.INFO, "the bus is there: every partition is looked at"
            )
        else:
            self._was_away = True
            self._confirmed.clear()
            log.warning("the bus is away: %s; the log is tailed meanwhile", trouble)
        self.gossip.bus_changed(trouble is None, trio.current_time())
        self._node.bus_changed()
        self._node.follower.look_often(RETURN_S)

    def _messages(self, messages: Sequence[Message]) -> None:
        now_s = trio.current_time()
        for channel, message in messages:
            partition = self._partitions.get(channel)
            if partition is not None:
                self._batch(partition, channel, message, now_s)
                continue
            payload = self._seals.open(channel, message)
            if payload is None:
                self.foreign += 1
            elif channel == SESSIONS:
                self._session(payload)
            elif channel == TRIMS:
                self._trim(payload)
            elif channel == REVOCATIONS:
                if self._node.revoking is None or not self._node.revoking.heard(payload):
                    self.malformed += 1
            elif channel == ROWS:
                self._rows(payload)
            elif channel in self._lives:
                self._latest(payload)
            elif not self.gossip.receive(channel, payload, now_s):
                self.malformed += 1
        if self.gossip.pressing:
            self.signals(now_s)
        self._node.settle()

    def _batch(self, partition: int, channel: str, message: bytes, now_s: float) -> None:
        place = batches.peek(message, HEAD_BYTES)
        hub = self._hub
        if place is not None and place[0] == partition:
            for heard in self._node.on_commit:
                heard(partition, place[1])
        if place is not None and place[0] == partition and place[1] <= hub.pos[partition]:
            return  # seen already, most often because it is our own: whoever wrote it, it changes nothing
        payload = self._seals.open(channel, message)
        if payload is None:
            self.foreign += 1
            return
        batch = batches.decode(payload)
        if batch is None or batch.partition != partition:
            self.malformed += 1
            return
        if partition not in self._node.follower.held:
            return  # still on its way out of the subscription
        self.batches_in += 1
        if not batch.events:
            self._node.follower.tail_soon(partition, batch.last)
            return
        by_sid = hub.by_sid
        events = []
        for sid, seq, frame in batch.events:
            stream = by_sid.get(sid)
            if stream is None:
                hub.note_unknown(sid, seq)
            else:
                events.append((stream, seq, frame))
        self.take(partition, batch.first, batch.last, events, now_s)

    def take(
        self, partition: int, first: int, last: int, events: Sequence[tuple[Stream, int, bytes]], now_s: float
    ) -> None:
        """A batch for the hub, ours or another's; one that comes before its turn waits for the bus to bring the rest."""
        if not self._node.sequencer.take(partition, first, last, events, now_s):
            if self.bus.trouble is None:
                self._gap.set()
            else:
                self._node.follower.tail_soon(partition, last)

    def _session(self, payload: bytes) -> None:
        match _parsed(payload):
            case [str(session), int(generation), str(node_id)]:
                if node_id != self.node_id:
                    self._node.superseded(session, generation, node_id)
            case _:
                self.malformed += 1

    def _trim(self, payload: bytes) -> None:
        match _parsed(payload):
            case [str(tenant), str(name), int(first)]:
                stream = self._hub.by_name.get((tenant, name))
                if stream is not None:
                    self._hub.trimmed(stream, min(first, stream.head + 1))
            case _:
                self.malformed += 1

    def _rows(self, payload: bytes) -> None:
        match _parsed(payload):
            case int(partition):
                if self._node.boards is not None:
                    self._node.boards.heard(partition)
            case _:
                self.malformed += 1

    def _latest(self, payload: bytes) -> None:
        positions = self._node.positions
        if positions is None or not positions.showing.hear(payload):
            self.malformed += 1

    async def _watch_gaps(self) -> None:
        """What the bus does not bring in time is read from the log."""
        node, wait_s = self._node, self._node.limits.gap_wait_s
        while True:
            await self._gap.wait()
            self._gap = trio.Event()
            while node.sequencer:
                await trio.sleep(wait_s / 2)
                for partition in node.sequencer.overdue(trio.current_time(), wait_s):
                    self.overdue += 1
                    node.follower.tail_soon(partition)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_gaps)
            nursery.start_soon(self.rereading.run)
            nursery.start_soon(self.bus.run)


def _parsed(payload: bytes) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
