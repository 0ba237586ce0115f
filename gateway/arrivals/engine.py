"""The trips that this node sees positions of: each is taken up, moved on, and what comes of it is done.

Theory of operation. A trip has a book here once a position of it was taken at this node, or a worker was told to look at it.
The book is the trip's stream, folded, with its positions so far from the store; so any node can take up any trip at any
moment and stands where the last one stood. One task a book works at a time. Commands that come of it go the way of
everybody's commands and have keys that follow from what they say: two nodes that work on one trip do nothing twice. Where one
cannot be taken now, crossings and arrivals wait for it; alerts are worked out anew then, by what is known then.

When no position comes, time itself may make an alert due. The book is looked at then; and because a node may be gone by then,
a task for the workers (`gateway.work`) is due a moment later, which takes the trip up wherever it runs, and is done once that
has looked. Before a look without a position the store is asked for those that other nodes took: who has old ones must tell
nobody anything by them. What people say of a trip (another plan, who wants to be told) is looked at without a position, too.

Promises: of positions in the order of their time; a store that is away is waited for, with the newest positions kept; a fault
in one trip ends no other. Bounded: books, positions waiting in each, commands waiting (of one turn), tenants' fences, routes
asked for at once. Does not: decide anything.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from core.geo.fences import Fences
from core.geo.model import Model
from core.geo.route_calls import Why
from core.geo.routing import Ask
from core.ports import StoreError
from core.stream import Stream
from core.tracks import Fence, Sample, Tracks
from core.trip.arriving import Arriving, Deed, Give
from core.trip.showing import Show
from core.trip.state import Trip, evolve
from core.work import NewTask
from gateway.live.positions import Positions
from gateway.routes.calling import Routes
from gateway.work.folding import fold
from gateway.work.jobs import look_at
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
FENCED_MAX: Final = 1_000
"""Tenants whose fences are kept."""
TICK_S: Final = 0.5
LATE_MS: Final = 5_000
"""So long after the node's own look a worker looks, too."""
ARM_MS: Final = 15_000
"""A look is worth telling the workers anew of when it is so much sooner than they know. Where it is later they look too soon,
and are told then: arrival times go to and fro, and a task is written a few times a threshold, not with every position."""
ARM_PART: Final = 8
"""Or by so large a part of the time until then."""
ROUTES_AT_ONCE: Final = 16
WORSE_S: Final = 0.001
"""What is known here alone gives way to the same of a node that has the trip."""
GLIMPSES_MAX: Final = 64
"""Trips taken up at a tick for those who follow them: two questions to the store each."""
AGAIN_S: Final = 2.0
"""After which a trip tries again what the store did not do; doubled each time, up to `AGAIN_MAX_S`."""
AGAIN_MAX_S: Final = 30.0
LOOK_S: Final = 20.0
"""How long a worker's task waits for its look: less than its claim lasts."""


class _Book:
    """A trip. ``seq`` is how far its stream was folded; ``behind``: its positions in the store are to be read first."""

    __slots__ = (
        "armed_ms",
        "arriving",
        "asking",
        "at_ms",
        "behind",
        "busy",
        "deeds",
        "glimpsed",
        "head",
        "look",
        "rested",
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
        """Of the newest position of the plan's subject that was taken."""
        self.waiting: deque[Sample] = deque(maxlen=WAITING_MAX)
        self.behind = True
        self.deeds: deque[Give] = deque()
        """What is still to be given, of one turn; no more is taken before."""
        self.look = False
        self.glimpsed = False
        """It is here for who follows it alone: its looks are another node's, which has its positions."""
        self.busy = False
        self.rested = trio.Event()
        """Set when nothing waits any more."""
        self.asking = False
        self.armed_ms: int | None = None


class _Fenced:
    """A tenant's fences, as they were listed ``at_s``; one asks at a time."""

    __slots__ = ("asking", "at_s", "fences", "listed")

    def __init__(self) -> None:
        self.asking = trio.Lock()
        self.at_s = -inf
        self.listed: list[Fence] = []
        self.fences = Fences([])


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
        self._fenced: OrderedDict[str, _Fenced] = OrderedDict()
        self._arm: dict[tuple[str, str], NewTask] = {}
        self._to_glimpse: dict[tuple[str, str], Stream] = {}
        self._asks = trio.CapacityLimiter(ROUTES_AT_ONCE)
        self._restored = 0
        self._trouble = False
        """A store did not do what it was asked for last."""
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
        book.glimpsed = False
        if book.head >= stream.head and (book.trip.plan is None or book.trip.over):
            return
        book.waiting.append(sample)
        self._wake(book)

    def held(self, stream: Stream) -> None:
        """A stream came into memory here: who follows it is to see its arrival time, whichever node has its positions."""
        if stream.name.startswith("trip:") and (stream.tenant, stream.name) not in self._books:
            self._to_glimpse[stream.tenant, stream.name] = stream

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
        """A worker's word that it is time to look at this trip; it has been when this returns. Raises `StoreError`, `Transient`
        and `Impossible` as its other orders do."""
        stream = await self._orders.stream(tenant, name)
        book = self._book(stream)
        book.glimpsed = False
        book.look = True
        self._wake(book)
        with trio.move_on_after(LOOK_S):
            await book.rested.wait()
            return
        raise Transient(f"{name} could not be looked at within {LOOK_S:g} s")

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
            book.rested = trio.Event()
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
                    if look_ms is not None and look_ms <= now_ms and not book.glimpsed:
                        book.look = True
                        self._wake(book)
                    elif book.head < book.stream.head and book.trip.plan is not None and not book.trip.over:
                        self._wake(book)
                    elif (reshow_ms := book.arriving.reshow_ms) is not None and reshow_ms <= now_ms and not book.busy:
                        self._reshow(book, now_ms)
                self._glimpse()
                await self._tell_workers()

    def _glimpse(self) -> None:
        for key in list(self._to_glimpse)[:GLIMPSES_MAX]:
            stream = self._to_glimpse.pop(key)
            room = len(self._books) < BOOKS_MAX  # nobody's own trip makes way for who looks on
            if room and key not in self._books and self._node.hub.by_sid.get(stream.sid) is stream:
                book = self._book(stream)
                book.glimpsed = book.look = True
                self._wake(book)

    async def _work(self, book: _Book) -> None:
        """Until nothing waits."""
        again_s = AGAIN_S
        try:
            while book.waiting or book.look or book.deeds or book.head < book.stream.head:
                try:
                    await self._once(book)
                except (StoreError, Transient) as error:
                    if not self._trouble:
                        self._trouble = True
                        log.warning("trips wait, as %s of tenant %s: %s", book.stream.name, book.stream.tenant, error)
                    await trio.sleep(again_s * (0.75 + 0.5 * self._node.uniform()))
                    again_s = min(2 * again_s, AGAIN_MAX_S)
                else:
                    again_s, self._trouble = AGAIN_S, False
        except Exception:
            self._give_up(book)
        finally:
            book.busy = False
            book.rested.set()

    def _give_up(self, book: _Book) -> None:
        """A fault of ours in one trip: it is given up until it is taken up anew, and no other notices."""
        self.faults += 1
        log.exception("arrival times of %s of tenant %s", book.stream.name, book.stream.tenant)
        self._books.pop((book.stream.tenant, book.stream.name), None)

    def _reshow(self, book: _Book, now_ms: int) -> None:
        """Without a look at the store, and whichever node has its positions: nothing is given."""
        try:
            self._show(book, book.arriving.reshow(now_ms))
        except Exception:
            self._give_up(book)

    async def _once(self, book: _Book) -> None:
        told = await self._fold(book)
        arriving, tenant = book.arriving, book.stream.tenant
        arriving.arrivals = self._node.gatekeeper.tenants.arrivals_of(tenant)
        plan = book.trip.plan
        if plan is None or book.trip.over:
            book.waiting.clear()
            book.deeds.clear()
            book.look = False
            return
        fences = await self._fences_of(tenant)
        await self._give(book)
        book.look = looking = book.look or told or book.behind
        if looking:
            book.deeds += await self._catch_up(book, fences)
            book.behind = book.look = False  # not before the store has answered
        deeds = list[Deed]()
        count = min(SLICE, len(book.waiting))
        for _ in range(count):
            sample = book.waiting.popleft()
            deeds += arriving.take(sample, self._now_ms(), fences, more=looking or count > 1)
            if sample.subject == plan.subject:
                book.at_ms = max(book.at_ms, sample.at_ms)
            self.taken += 1
        # What waits here may be among what was read; and of many positions the last one tells.
        if looking or (count > 1 and not book.waiting):
            deeds += arriving.look(self._now_ms())
        book.deeds += self._show(book, deeds)
        await self._give(book)
        if not book.glimpsed:
            self._want_route(book)
            self._arm_look(book)
        await trio.lowlevel.checkpoint()

    def _show(self, book: _Book, deeds: list[Deed]) -> list[Give]:
        """What is to be shown of them is; the others are to be given."""
        gives = list[Give]()
        for deed in deeds:
            if isinstance(deed, Show):
                self._positions.show(
                    book.stream, "eta", BY, deed.value, deed.at_ms / 1000 - book.glimpsed * WORSE_S, here=book.glimpsed
                )
                self.shown += 1
            else:
                gives.append(deed)
        return gives

    async def _fold(self, book: _Book) -> bool:
        """What the stream says by now; whether it says anything new of the trip."""
        stream = book.stream
        head = stream.head
        if head <= book.head and not book.look:
            return False
        # All or nothing: what was folded and not kept would be missing for good.
        trip, seq = await fold(self._node.log, stream.tenant, stream.sid, evolve, book.trip, book.seq)
        book.seq, book.head = seq, max(head, seq)
        if trip is book.trip:
            return False
        self._became(book, trip)
        return True

    def _became(self, book: _Book, trip: Trip) -> None:
        """What the device's own word was worth before goes in, and comes out as it is at the end."""
        arriving, books, tenant = book.arriving, self._positions.books, book.stream.tenant
        before_plan, book.trip = book.trip.plan, trip
        subject = "" if trip.plan is None else trip.plan.subject
        if before_plan is not None and before_plan.subject != subject:
            book.at_ms, book.behind = 0, True  # what the new one did so far is in the store
        known = books.advice_of(tenant, subject)
        if known is not None and not trip.over:
            arriving.record = known
        before = arriving.record
        arriving.became(trip, self._now_ms())
        if arriving.record != before:
            books.judge_advice(tenant, subject, arriving.record)

    async def _catch_up(self, book: _Book, fences: Fences) -> list[Give]:
        """Positions that are in the store and were not taken here: all since it began, or what another node took."""
        trip, tenant, gives = book.trip, book.stream.tenant, list[Give]()
        if trip.started_ms is None or trip.plan is None:
            return gives
        from_ms = max(trip.started_ms, book.at_ms + 1)
        to_ms = self._now_ms() + 60_000
        samples = await self._tracks.track(
            tenant, book.stream.name, from_ms=from_ms, to_ms=to_ms, limit=PAST_MAX, newest=True
        )
        for nth, sample in enumerate(samples):
            if sample.verdict == "quarantined":
                continue
            deeds = book.arriving.take(sample, self._now_ms(), fences, past=True)
            gives += [deed for deed in deeds if isinstance(deed, Give)]
            if sample.subject == trip.plan.subject:
                book.at_ms = max(book.at_ms, sample.at_ms)
            if nth % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
        return gives

    async def _fences_of(self, tenant: str) -> Fences:
        known = self._fenced.get(tenant)
        if known is None:
            known = self._fenced[tenant] = _Fenced()
            if len(self._fenced) > FENCED_MAX:
                self._fenced.popitem(last=False)
        self._fenced.move_to_end(tenant)
        if trio.current_time() - known.at_s > FENCES_S:
            async with known.asking:
                if trio.current_time() - known.at_s > FENCES_S:  # else another trip asked meanwhile
                    listed = list(await self._tracks.fences(tenant))
                    if listed != known.listed:
                        known.listed, known.fences = listed, Fences(listed)
                    known.at_s = trio.current_time()
        return known.fences

    async def _give(self, book: _Book) -> None:
        """In their order. One that cannot be taken now stays with those behind it, but for alerts."""
        stream, given = book.stream, bool(book.deeds)
        while book.deeds:
            deed = book.deeds[0]
            try:
                answer = await self._orders.command(stream.tenant, stream.name, deed.type, deed.body, deed.key)
            except Impossible as error:
                log.warning("%s of %s of tenant %s: %s", deed.type, stream.name, stream.tenant, error)
            except (StoreError, Transient):
                for alert in [one for one in book.deeds if one.type == "alert"]:
                    book.arriving.not_given(alert)
                    book.deeds.remove(alert)
                    book.look = True
                raise
            else:
                if answer.refusal is None and not answer.dup:
                    self.alerts += deed.type == "alert"
                    self.crossings += deed.type == "fence"
            book.deeds.popleft()
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
        arriving = book.arriving
        try:
            async with self._asks:
                self.asked += 1
                found = await self.routes.route(book.stream.tenant, ask, calls)
            arriving.routed(found.snapshot, found.calls, found.failed, why, ask, self._now_ms())
        except (ValueError, StoreError) as error:
            log.warning("no route for %s of tenant %s: %s", book.stream.name, book.stream.tenant, error)
        except Exception:
            # A fault of ours, or of a provider's answer that nobody foresaw: the trip goes on with what it has.
            self.faults += 1
            log.exception("a route for %s of tenant %s", book.stream.name, book.stream.tenant)
        finally:
            book.asking = False
            arriving.route_dropped()  # unless it came
        book.look = True
        self._wake(book)

    # -- workers -------------------------------------------------------------------------------------------------------------

    def _arm_look(self, book: _Book) -> None:
        """Tell the workers when to look, where they do not know or think it is later."""
        look_ms, armed_ms = book.arriving.look_ms, book.armed_ms
        if look_ms is None or self._node.work is None:
            return
        now_ms = self._now_ms()
        if armed_ms is not None and now_ms < armed_ms < look_ms + max(ARM_MS, (look_ms - now_ms) // ARM_PART):
            return
        book.armed_ms = look_ms
        stream = book.stream
        key = f"{stream.sid}/look"
        self._arm[stream.tenant, key] = look_at(stream.tenant, stream.name, key, look_ms + LATE_MS)

    async def _tell_workers(self) -> None:
        if not self._arm:
            return
        assert self._node.work is not None
        arm, self._arm = self._arm, {}
        try:
            await self._node.work.add(list(arm.values()))
        except StoreError as error:
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
