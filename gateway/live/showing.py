"""The live picture: where subjects are, to who follows their streams, on every node.

Theory of operation. What is judged here is shown here (`core.live`, `core.shows`) and told to the others on the channel
``live:<partition>``, both at most once in `live_flush_s` a subject; a node listens to the partitions in which it holds streams.
By fix time the newest wins, wherever it came from. When a stream of a trip or a flight comes into memory its last positions and
a short trail are read from the store: so whoever begins to follow sees at once where everybody is, and how old that is, with
the node that took the fixes gone, or the bus. After the bus was away they are read once more.

Promises: a position older than what is shown never is; a subject silent for longer than its tenant's `stale_s` is told as
stale, once, by each node for itself; sends of events go between those of positions. Does not: keep anything, or judge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Final

import trio

from core.live import TRAIL_MS, TRAIL_POINTS_MAX, Live, Place
from core.live_wire import POSITION, Told, decode, encode
from core.ports import StoreError
from core.stream import Stream
from core.tracks import Last, Sample, Tracks

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.positions")

TRAIL: Final = "trail"
KEPT_KINDS: Final = ("trip:", "flight:")
"""Streams whose last positions are read when they come into memory: chats are many, and come back by the thousand."""
LOADS_AT_ONCE: Final = 4
RETRY_S: Final = 1.0
SPREAD: Final = 0.7
"""The part of the time between two flushes over which what goes out is spread; the rest is for what slices themselves take."""
PAUSE_MIN_S: Final = 0.0003
"""Less is no pause: a turn of the loop takes as long."""
PAUSE_MAX_S: Final = 0.002
"""Few sends are spread no thinner than that."""
TICK_S: Final = 1.0
LARGE_ROOMS_S: Final = 1.0


class Showing:
    def __init__(self, node: Node, tracks: Tracks) -> None:
        self._node = node
        self._tracks = tracks
        self._hub = node.hub
        self.live = Live(node.limits.shown_per_stream_max)
        self._others: dict[Stream, dict[tuple[str, str], int]] = {}
        """What else is shown, by stream, kind and whose, with its time."""
        self._untold: dict[Stream, dict[tuple[str, str], Told]] = {}
        """What the other nodes are to be told."""
        self._to_load: dict[Stream, None] = {}
        self._wake_loads = trio.Event()
        self._dirty = trio.Event()
        self._was_away = False
        self.on_elsewhere: Callable[[str, str], None] = lambda tenant, subject: None
        """A subject has sent to another node."""
        self.shown = 0
        """Places that moved a live position."""
        self.turned_stale = 0
        self.told = 0
        self.heard = 0

    # -- here -----------------------------------------------------------------------------------------------------------

    def moved(self, stream: Stream, subject: str, places: Sequence[Place]) -> None:
        """Fixes were believed here, in this order."""
        if self._show(stream, subject, places):
            self._tell(stream, POSITION, subject, places[-1].at_ms, places[-1])

    def show(self, stream: Stream, kind: str, by: str, at_ms: int, value: object, *, here: bool = False) -> None:
        """``here``: other nodes know better, or as well."""
        if self._show_other(stream, kind, by, at_ms, value) and not here:
            self._tell(stream, kind, by, at_ms, value)

    def _tell(self, stream: Stream, kind: str, by: str, at_ms: int, value: object) -> None:
        if self._node.cluster is not None:
            self._untold.setdefault(stream, {})[kind, by] = Told(stream.sid, kind, by, at_ms, value)

    def _show(
        self, stream: Stream, subject: str, places: Sequence[Place], *, before: list[Place] | None = None
    ) -> bool:
        """Whether the last of them is what is shown now."""
        if self._hub.by_sid.get(stream.sid) is not stream:
            return False  # let go meanwhile: the store has it, for whoever follows next
        now_ms = int(1000 * self._node.wall())
        stale_ms = int(1000 * self._node.gatekeeper.tenants.arrivals_of(stream.tenant).stale_s)
        for place in places:
            shown = self.live.show(stream, subject, place, stale_ms, now_ms)
        if shown is None:
            return False
        self.shown += 1
        at_s = trio.current_time() - max(now_ms - place.at_ms, 0) / 1000
        signals = self._hub.signals
        signals.show(stream, (POSITION, subject), shown.value, at_s)
        # Who follows already has seen it move; a trail is for who comes, except where it was read from the store just now.
        if before:
            shown.before(before)
        signals.show(stream, (TRAIL, subject), shown.trail, at_s, tell=bool(before))
        crowded = self.live.crowded(stream)
        if crowded is not None:
            signals.unshow(stream, (POSITION, crowded))
            signals.unshow(stream, (TRAIL, crowded))
        self._dirty.set()
        return True

    def _show_other(self, stream: Stream, kind: str, by: str, at_ms: int, value: object) -> bool:
        if self._hub.by_sid.get(stream.sid) is not stream:
            return False
        shown = self._others.setdefault(stream, {})
        if at_ms < shown.get((kind, by), at_ms):
            return False
        shown[kind, by] = at_ms
        at_s = trio.current_time() - max(1000 * self._node.wall() - at_ms, 0.0) / 1000
        self._hub.signals.show(stream, (kind, by), value, at_s)
        self._dirty.set()
        return True

    # -- streams that come and go -----------------------------------------------------------------------------------------

    def hold(self, stream: Stream) -> None:
        if stream.name.startswith(KEPT_KINDS):
            self._to_load[stream] = None
            self._wake_loads.set()

    def let_go(self, stream: Stream) -> None:
        self.live.drop(stream)
        self._others.pop(stream, None)
        self._to_load.pop(stream, None)
        if self._is_alone():
            self._untold.pop(stream, None)

    def bus_changed(self) -> None:
        """Back again: what others told meanwhile was not heard here, and what is to be told to them has waited."""
        away = self._is_alone()
        if self._was_away and not away:
            for stream in self._hub.by_sid.values():
                self.hold(stream)
            self._dirty.set()
        self._was_away = away

    def _is_alone(self) -> bool:
        cluster = self._node.cluster
        return cluster is not None and cluster.bus.trouble is not None

    async def _load_forever(self) -> None:
        while True:
            await self._wake_loads.wait()
            self._wake_loads = trio.Event()
            while self._to_load:
                stream = next(iter(self._to_load))
                del self._to_load[stream]
                try:
                    await self._load(stream)
                except StoreError:
                    self.hold(stream)  # said by whoever keeps; nobody waits for it
                    await trio.sleep(RETRY_S)

    async def _load(self, stream: Stream) -> None:
        """What the store knows of who is in the stream; what is newer here stays."""
        lasts = await self._tracks.shown(stream.tenant, stream.name)
        for last in nlargest(self._node.limits.shown_per_stream_max, lasts, key=lambda last: last.at_ms):
            known = self.live.get(stream, last.subject)
            if known is not None and known.place.at_ms >= last.at_ms and len(known.trail()["points"]) > 1:
                continue
            trail = await self._tracks.track(
                stream.tenant,
                stream.name,
                from_ms=last.at_ms - TRAIL_MS,
                to_ms=last.at_ms,
                subject=last.subject,
                limit=TRAIL_POINTS_MAX,
                newest=True,
            )
            if self._hub.by_sid.get(stream.sid) is not stream:
                return
            self._loaded(stream, last, [_place(sample) for sample in trail if sample.verdict != "quarantined"])
        self._node.settle()

    def _loaded(self, stream: Stream, last: Last, before: list[Place]) -> None:
        place = _place(last)
        if self._show(stream, last.subject, (place,), before=before):
            return
        shown = self.live.get(stream, last.subject)
        if shown is not None and before:  # it has moved meanwhile
            shown.before([*before, place])
            _value, at_s = self._hub.signals.latest(stream, (POSITION, last.subject))
            self._hub.signals.show(stream, (TRAIL, last.subject), shown.trail, at_s)
            self._dirty.set()

    # -- other nodes ------------------------------------------------------------------------------------------------------

    def hear(self, payload: bytes) -> bool:
        """What another node tells; ``False`` where that is nothing of ours."""
        said = decode(payload)
        if said is None:
            return False
        node, told = said
        if node == self._node.node_id:
            return True
        for sid, kind, by, at_ms, value in told:
            stream = self._hub.by_sid.get(sid)
            if stream is None:
                continue
            self.heard += 1
            if isinstance(value, Place):
                if self._show(stream, by, (value,)):
                    self.on_elsewhere(stream.tenant, by)
            else:
                self._show_other(stream, kind, by, at_ms, value)
        return True

    def tell_others(self) -> None:
        """With the bus away the latest of each waits: to nodes that never lost it nothing says that they missed something."""
        if self._is_alone():
            return
        untold, self._untold = self._untold, {}
        cluster = self._node.cluster
        if cluster is None:
            return
        partitions: dict[int, list[Told]] = {}
        for stream, told in untold.items():
            partitions.setdefault(stream.partition, []).extend(told.values())
        for partition, rows in partitions.items():
            self.told += len(rows)
            for payload in encode(self._node.node_id, rows):
                cluster.publish_live(partition, payload)

    # -- tasks ------------------------------------------------------------------------------------------------------------

    async def _flush_forever(self) -> None:
        node, signals = self._node, self._hub.signals
        now_s = slow_at_s = trio.current_time()
        while True:
            flush_s = node.limits.live_flush_s * node.pulse.position_factor
            gathering = self._dirty.is_set()  # since the last ones began to go out
            await self._dirty.wait()
            if gathering:
                # Not at once, though that took long: between positions the node has time for everything else.
                await trio.sleep_until(max(now_s + flush_s, trio.current_time() + (1.0 - SPREAD) * flush_s))
            else:
                await trio.sleep(flush_s)
            self._dirty = trio.Event()
            now_s = trio.current_time()
            large_rooms = now_s - slow_at_s >= LARGE_ROOMS_S
            if large_rooms:
                slow_at_s = now_s
            self.tell_others()
            slice_max = node.limits.live_slice_deliveries
            # Spread over the time in which the next ones gather: what a send needs several turns of the loop for then waits for
            # one slice, and not for one in each turn. By a plan, since the kernel rounds pauses up to milliseconds; where there
            # is too much for it, slices follow each other.
            pause_s = min(SPREAD * flush_s * slice_max / max(signals.shown_deliveries, 1), PAUSE_MAX_S)
            due_s = now_s
            for _ in signals.flush_live(trio.current_time, slice_max, large_rooms=large_rooms):
                node.settle()
                due_s += pause_s
                ahead_s = due_s - trio.current_time()
                await trio.sleep(ahead_s if ahead_s >= PAUSE_MIN_S else 0.0)
            node.settle()
            if signals.shown_waiting:
                self._dirty.set()

    def turn_stale(self) -> None:
        for stream, subject in self.live.turn(int(1000 * self._node.wall())):
            self.turned_stale += 1
            shown = self.live.get(stream, subject)
            assert shown is not None
            _value, at_s = self._hub.signals.latest(stream, (POSITION, subject))
            self._hub.signals.show(stream, (POSITION, subject), shown.value, at_s)
            self._dirty.set()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            self.turn_stale()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(LOADS_AT_ONCE):
                nursery.start_soon(self._load_forever)
            nursery.start_soon(self._flush_forever)
            nursery.start_soon(self._tick)


def _place(of: Last | Sample) -> Place:
    return Place(of.at_ms, of.lat, of.lon, of.acc, of.speed, of.heading, of.alt)
