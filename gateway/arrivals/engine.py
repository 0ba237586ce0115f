"""The trips that this node sees positions of: each is taken up, moved on, and what comes of it is done.

Theory of operation. A trip has a book here once a position of it was taken at this node, or a worker was told to look at it.
The book is the trip's stream, folded, with its positions so far from the store; so any node can take up any trip at any
moment and stands where the last one stood. One task a book works at a time. Commands that come of it go the way of
everybody's commands and have keys that follow from what they say: two nodes that work on one trip do nothing twice.

When no position comes, time itself may make an alert due. The book is looked at then; and because a node may be gone by then,
a task for the workers (`gateway.work`) is due a moment later, which takes the trip up wherever it runs. Before a look without
a position the store is asked for those that other nodes took: who has old ones must tell nobody anything by them.

Promises: of positions in the order of their time; a store that is away is waited for, with the newest positions kept; a fault
in one trip ends no other. Bounded: books, positions waiting in each, routes asked for at once. Does not: decide anything.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from core.commands import FOLDED_AT_ONCE, recorded
from core.geo.fences import Fences
from core.geo.model import Model
from core.geo.route_calls import Why
from core.geo.routing import Ask
from core.ports import StoreError, Unavailable
from core.stream import Stream
from core.tracks import Sample, Tracks
from core.trip.arriving import Arriving, Deed, Give, Show
from core.trip.state import Trip, evolve
from core.work import NewTask
from gateway.live.positions import Positions
from gateway.routes.calling import Routes
from gateway.work.orders import Impossible, Orders
from gateway.work.ports import Transient

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.arrivals")

BY: Final = "service:eta"
"""Who shows arrival times (docs/protocol.md)."""
BOOKS_MAX: Final = 20_000
"""Trips that have a book: 10 KB each with its route, 200 MB if ever full. Past it the longest unmoved are let go, and taken up
again from the store."""
WAITING_MAX: Final = 512
"""Positions of one trip that wait for the store or for their turn; past it the oldest go, which are in the store."""
PAST_MAX: Final = 10_000
"""Positions of a trip read when it is taken up: 8 h at one in 3 s, half a second of the node's time in slices."""
SLICE: Final = 64
"""Positions taken in one turn of the node's loop: 3 ms."""
FENCES_S: Final = 10.0
"""How old a tenant's fences may be."""
TICK_S: Final = 0.5
LATE_MS: Final = 5_000
"""So long after the node's own look a worker looks, too."""
ARM_MS: Final = 15_000
"""A look is worth telling the workers anew of when it moved by so much."""
ROUTES_AT_ONCE: Final = 16
AGAIN_S: Final = 2.0


class _Book:
    """A trip. ``seq`` is how far its stream was folded; ``behind``: its positions in the store are to be read first."""

    __slots__ = (
        "armed_ms",
        "arriving",
        "asking",
        "at_ms",
        "behind",
        "busy",
        "head",
        "look",
        "seq",
        "stream",
        "trip",
        "waiting",
    )

    def __init__(self, stream: Stream, arriving: Arriving) -> None:
        self.stream = stream
        self.arriving = arriving
        self.trip = Trip()
        self.seq = 0
        self.head = -1
        """The stream's, when it was folded last."""
        self.at_ms = 0
        """Of the newest position taken."""
        self.waiting: deque[Sample] = deque(maxlen=WAITING_MAX)
        self.behind = True
        self.look = False
        self.busy = False
        self.asking = False
        self.armed_ms: int | None = None


class Arrivals:
    """Of one node; `run` it while the node runs. Without ``routes`` nobody is asked for any."""

    def __init__(self, node: Node, tracks: Tracks, positions: Positions) -> None:
        self._node = node
        self._tracks = tracks
        self._positions = positions
        self.routes: Routes | None = None
        self.model: Model | None = None
        """Of trips that are taken up from now on."""
        self._orders = Orders(node)
        self._books: OrderedDict[tuple[str, str], _Book] = OrderedDict()
        self._fences: dict[str, tuple[float, Fences]] = {}
        self._arm: dict[tuple[str, str], NewTask] = {}
        self._asks = trio.CapacityLimiter(ROUTES_AT_ONCE)
        self._restored = 0
        self._nursery: trio.Nursery | None = None
        self.taken = 0
        """Positions that moved a trip."""
        self.shown = 0
        self.alerts = 0
        self.crossings = 0
        self.asked = 0
        """Routes."""
        self.faults = 0
        positions.on_sample.append(self.sample)
        positions.wants = self.wants
        positions.mode_of = self.mode_of
        _add_metrics(self, node)

    def __len__(self) -> int:
        return len(self._books)

    # -- being told -----------------------------------------------------------------------------------------------------------

    def sample(self, stream: Stream, sample: Sample) -> None:
        """A position that was believed (`Positions.on_sample`). Cheap where the stream has no plan."""
        if not stream.name.startswith("trip:"):
            return
        book = self._book(stream)
        if book.head >= stream.head and (book.trip.plan is None or book.trip.over):
            return
        book.waiting.append(sample)
        self._wake(book)

    def mode_of(self, stream: Stream, subject: str) -> str:
        """What moves there, as far as it is known here."""
        book = self._books.get((stream.tenant, stream.name))
        plan = None if book is None else book.trip.plan
        return plan.mode if plan is not None and plan.subject == subject else "any"

    def wants(self, stream: Stream, subject: str) -> float | None:
        """How soon the subject's next position is worth something here."""
        book = self._books.get((stream.tenant, stream.name))
        if book is None or book.trip.plan is None or book.trip.plan.subject != subject:
            return None
        return book.arriving.wants_s(self._now_ms())

    def advise(self, stream: Stream, subject: str, eta_ms: int, at_ms: int) -> None:
        """The device says itself when it will be there."""
        book = self._books.get((stream.tenant, stream.name))
        if book is not None and book.trip.plan is not None and book.trip.plan.subject == subject:
            book.arriving.advise(eta_ms, at_ms)

    async def look(self, tenant: str, name: str) -> None:
        """A worker's word that it is time to look at this trip. Raises `Transient` and `Impossible` as its other orders do."""
        stream = await self._orders.stream(tenant, name)
        book = self._book(stream)
        book.look = True
        self._wake(book)

    def _now_ms(self) -> int:
        return int(1000 * self._node.wall())

    def _book(self, stream: Stream) -> _Book:
        key = (stream.tenant, stream.name)
        if self._node.follower.restored != self._restored:  # the log is another one: nothing folded holds
            self._restored = self._node.follower.restored
            self._books.clear()
        book = self._books.get(key)
        if book is None:
            while len(self._books) >= BOOKS_MAX and self._make_room():
                pass
            settings = self._node.gatekeeper.tenants.arrivals_of(stream.tenant)
            book = self._books[key] = _Book(stream, Arriving(stream.tenant, stream.name, settings, self.model))
        else:
            self._books.move_to_end(key)
            book.stream = stream
        return book

    def _make_room(self) -> bool:
        for key, book in self._books.items():
            if not book.busy:
                del self._books[key]
                return True
        return False

    def _wake(self, book: _Book) -> None:
        if not book.busy and self._nursery is not None:
            book.busy = True
            self._nursery.start_soon(self._work, book)

    # -- working -------------------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await trio.sleep(TICK_S)
                now_ms = self._now_ms()
                for book in list(self._books.values()):
                    look_ms = book.arriving.look_ms
                    if look_ms is not None and look_ms <= now_ms:
                        book.look = True
                        self._wake(book)
                await self._tell_workers()

    async def _work(self, book: _Book) -> None:
        """Until nothing waits."""
        try:
            while book.waiting or book.look or book.head < book.stream.head:
                try:
                    await self._once(book)
                except (StoreError, Transient) as error:
                    log.warning("%s of tenant %s waits: %s", book.stream.name, book.stream.tenant, error)
                    await trio.sleep(AGAIN_S)
        except Exception:
            # A fault of ours in one trip: it is given up until it is taken up anew, and no other notices.
            self.faults += 1
            log.exception("arrival times of %s of tenant %s", book.stream.name, book.stream.tenant)
            self._books.pop((book.stream.tenant, book.stream.name), None)
        finally:
            book.busy = False

    async def _once(self, book: _Book) -> None:
        await self._fold(book)
        arriving, deeds = book.arriving, list[Deed]()
        fences = await self._fences_of(book.stream.tenant)
        if book.trip.plan is None or book.trip.over:
            book.waiting.clear()
            book.look = False
            return
        looking, book.look = book.look, False
        if book.behind or looking:
            deeds += await self._catch_up(book, fences)
            book.behind = False
            looking = True  # what waits here may be among what was read
        for _ in range(min(SLICE, len(book.waiting))):
            sample = book.waiting.popleft()
            deeds += arriving.take(sample, self._now_ms(), fences)
            book.at_ms = max(book.at_ms, sample.at_ms)
            self.taken += 1
        if looking:
            deeds += arriving.look(self._now_ms())
        if deeds:
            await self._do(book, deeds)
        self._want_route(book)
        self._arm_look(book)
        await trio.lowlevel.checkpoint()

    async def _fold(self, book: _Book) -> None:
        """What the stream says by now."""
        stream = book.stream
        head = stream.head
        if head <= book.head and not book.look:
            return
        trip = book.trip
        while True:
            events = await self._node.log.ruled(stream.tenant, stream.sid, book.seq, FOLDED_AT_ONCE)
            for event in events:
                trip = evolve(trip, recorded(event))
                book.seq = event.seq
            if len(events) < FOLDED_AT_ONCE:
                break
        book.head = max(head, book.seq)
        if trip is not book.trip:
            self._became(book, trip)

    def _became(self, book: _Book, trip: Trip) -> None:
        """What the device's own word was worth before goes in, and comes out as it is at the end."""
        arriving, books, tenant = book.arriving, self._positions.books, book.stream.tenant
        book.trip = trip
        subject = "" if trip.plan is None else trip.plan.subject
        known = books.advice_of(tenant, subject)
        if known is not None and not trip.over:
            arriving.record = known
        before = arriving.record
        arriving.became(trip, self._now_ms())
        if arriving.record != before:
            books.judge_advice(tenant, subject, arriving.record)

    async def _catch_up(self, book: _Book, fences: Fences) -> list[Deed]:
        """Positions that are in the store and were not taken here: all since it began, or what another node took."""
        trip, tenant, deeds = book.trip, book.stream.tenant, list[Deed]()
        if trip.started_ms is None:
            return deeds
        from_ms = max(trip.started_ms, book.at_ms + 1)
        to_ms = self._now_ms() + 60_000
        samples = await self._tracks.track(
            tenant, book.stream.name, from_ms=from_ms, to_ms=to_ms, limit=PAST_MAX, newest=True
        )
        for nth, sample in enumerate(samples):
            if sample.verdict == "quarantined":
                continue
            deeds += [
                deed for deed in book.arriving.take(sample, self._now_ms(), fences, past=True) if isinstance(deed, Give)
            ]
            book.at_ms = max(book.at_ms, sample.at_ms)
            if nth % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
        return deeds

    async def _fences_of(self, tenant: str) -> Fences:
        known, now_s = self._fences.get(tenant), trio.current_time()
        if known is None or now_s - known[0] > FENCES_S:
            known = self._fences[tenant] = (now_s, Fences(await self._tracks.fences(tenant)))
        return known[1]

    async def _do(self, book: _Book, deeds: Sequence[Deed]) -> None:
        stream, given = book.stream, False
        for deed in deeds:
            if isinstance(deed, Show):
                self._positions.show(stream, "eta", BY, deed.value, deed.at_ms / 1000)
                self.shown += 1
                continue
            given = True
            try:
                answer = await self._orders.command(stream.tenant, stream.name, deed.type, deed.body, deed.key)
            except Impossible as error:
                log.warning("%s of %s of tenant %s: %s", deed.type, stream.name, stream.tenant, error)
                continue
            if answer.refusal is None and not answer.dup:
                self.alerts += deed.type == "alert"
                self.crossings += deed.type == "fence"
        if given:
            book.head = -1
            await self._fold(book)

    # -- routes --------------------------------------------------------------------------------------------------------------

    def _want_route(self, book: _Book) -> None:
        if self.routes is None or book.asking or self._nursery is None:
            return
        wanted = book.arriving.route_wanted(self._now_ms(), self.routes.well_ms)
        if wanted is not None:
            book.asking = True
            calls = book.arriving.route_asked(self._now_ms())
            self._nursery.start_soon(self._route, book, *wanted, calls)

    async def _route(self, book: _Book, why: Why, ask: Ask, calls: int) -> None:
        assert self.routes is not None
        arriving, left = book.arriving, 0
        try:
            async with self._asks:
                self.asked += 1
                found = await self.routes.route(book.stream.tenant, ask, calls)
            arriving.routed(found.snapshot, found.calls, found.failed, why, ask, self._now_ms())
        except (ValueError, Unavailable) as error:
            log.warning("no route for %s of tenant %s: %s", book.stream.name, book.stream.tenant, error)
            left = 1
        finally:
            book.asking = False
            if left:
                arriving.route_dropped()
        book.look = True
        self._wake(book)

    # -- workers -------------------------------------------------------------------------------------------------------------

    def _arm_look(self, book: _Book) -> None:
        """Tell the workers when to look, where that is another time than they know."""
        look_ms, armed_ms = book.arriving.look_ms, book.armed_ms
        if look_ms is None or self._node.work is None:
            return
        if armed_ms is not None and abs(look_ms - armed_ms) < ARM_MS and armed_ms > self._now_ms():
            return
        book.armed_ms = look_ms
        stream = book.stream
        body = {"do": "look", "stream": stream.name}
        key = f"{stream.sid}/look"
        self._arm[stream.tenant, key] = NewTask("job", stream.tenant, key, look_ms + LATE_MS, body, replace=True)

    async def _tell_workers(self) -> None:
        if not self._arm:
            return
        assert self._node.work is not None
        arm, self._arm = self._arm, {}
        try:
            await self._node.work.add(list(arm.values()))
        except Unavailable as error:
            log.warning("the workers cannot be told when to look: %s", error)
            self._arm = arm | self._arm


def _add_metrics(arrivals: Arrivals, node: Node) -> None:
    gauge, counter = node.measures.registry.gauge, node.measures.registry.counter_read
    gauge("readback_trips", "Trips that arrival times are worked out of here.", lambda: len(arrivals))
    counter("readback_trip_positions_total", "Positions that moved a trip.", lambda: arrivals.taken)
    counter("readback_etas_total", "Arrival times shown.", lambda: arrivals.shown)
    counter("readback_trip_alerts_total", "Alerts given.", lambda: arrivals.alerts)
    counter("readback_fence_crossings_total", "Crossings of fences told.", lambda: arrivals.crossings)
    counter("readback_routes_asked_total", "Times that a trip asked for a route.", lambda: arrivals.asked)
    counter("readback_trip_faults_total", "Trips given up for a fault of ours.", lambda: arrivals.faults)
