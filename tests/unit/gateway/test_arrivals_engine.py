"""A node's trips when something is away, late, or somebody else's: nothing is lost, nobody is told twice or by old places."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from core.flight.times import write
from core.geo.routing import Snapshot
from core.ports import Unavailable
from core.stream import Stream
from core.tenants import Arrivals as Settings
from core.tenants import Tenants
from core.tracks import Fence, Sample
from core.work import NewTask
from gateway.arrivals import engine
from gateway.arrivals.engine import Arrivals
from gateway.routes.calling import Routed
from gateway.work.orders import Impossible, Orders
from gateway.work.ports import Transient
from store.memory_tracks import MemoryTracks
from tests.moving import TRIP, tracking_node
from tests.nodes import TestNode, until
from tests.trips_way import AMY, SUBJECT, T0, circle, fix, plan, stop

HOME = plan([stop("home", 10_000)])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TICK_S", 0.005)
    monkeypatch.setattr(engine, "AGAIN_S", 0.005)
    monkeypatch.setattr(engine, "AGAIN_MAX_S", 0.01)


class Trips:
    """One node and the street of `tests.trips_way`; its clock says what it is told to."""

    def __init__(self, node: TestNode, tracks: MemoryTracks) -> None:
        assert node.node.arrivals is not None
        self.node = node.node
        self.work = node.work
        self.tracks = tracks
        self.arrivals: Arrivals = node.node.arrivals
        self.orders = Orders(node.node)
        self.now_s = 0.0
        node.node.wall = lambda: T0 / 1000 + self.now_s

    async def say(self, verb: str, trip: str = TRIP, **body: Any) -> None:
        answer = await self.orders.command("demo", trip, verb, body, str(uuid.uuid4()))
        assert answer.refusal is None, answer

    async def sets_out(self, trip: str = TRIP, planned: dict[str, Any] = HOME) -> None:
        await self.say("plan", trip, **planned)
        await self.say("start", trip, at=write(T0))

    async def stream(self, trip: str = TRIP) -> Stream:
        return await self.orders.stream("demo", trip)

    async def comes(self, sample: Sample, *, kept: bool = True, trip: str = TRIP) -> None:
        """At this node, and into the store."""
        sample = sample._replace(tenant="demo", stream=trip)
        if kept:
            await self.tracks.keep([sample], [])
        self.arrivals.sample(await self.stream(trip), sample)

    async def drives(self, from_s: int, to_s: int, step_s: int = 10) -> None:
        for at_s in range(from_s, to_s, step_s):
            self.now_s = max(self.now_s, at_s)
            await self.comes(fix(at_s, 10.0 * at_s, speed=10.0))
            await self.rest()

    async def rest(self) -> None:
        await until(lambda: not any(book.busy for book in self.arrivals._books.values()))

    @property
    def book(self) -> engine._Book:
        return self.arrivals._books["demo", TRIP]

    async def said(self, type: str, trip: str = TRIP) -> list[dict[str, Any]]:
        found = await self.orders.state("demo", trip)
        return list(found[type])

    async def status(self) -> str:
        status: str = (await self.orders.state("demo", TRIP))["status"]
        return status


@asynccontextmanager
async def trips(settings: Settings | None = None) -> AsyncIterator[Trips]:
    async with tracking_node(arrivals=settings) as (node, tracks):
        yield Trips(node, tracks)


class Away:
    """A store's call that does not answer for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, of: Any, name: str, after: int = 0) -> None:
        self.away = True
        self.asked = 0
        there: Callable[..., Any] = getattr(of, name)

        async def call(*args: Any, **how: Any) -> Any:
            self.asked += 1
            if self.away and self.asked > after:
                raise Unavailable("away")
            return await there(*args, **how)

        monkeypatch.setattr(of, name, call)

    async def tried(self, times: int = 2) -> None:
        await until(lambda: self.asked >= times)


async def test_an_alert_waits_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be written when it was due: it was given up for a minute, and for good where the device was silent."""
    async with trips() as at:
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        await at.drives(0, 200)
        log = Away(monkeypatch, at.node.log, "command")
        at.now_s = 580
        await log.tried()
        log.away = False
        await until(lambda: at.arrivals.alerts)
        assert [one["threshold_s"] for one in await at.said("alerts")] == [600]


async def test_an_alert_that_is_too_late_when_the_log_is_back_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is worked out anew: it has arrived meanwhile."""
    async with trips() as at:
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        await at.drives(0, 200)
        log = Away(monkeypatch, at.node.log, "command")
        at.now_s = 580
        await log.tried()
        at.now_s = 5_000
        log.away = False
        await at.rest()
        assert await at.said("alerts") == []


async def test_crossings_and_arrivals_wait_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are seen once: without that, who is in the yard is never said to have come, and a trip whose device ends with it
    is never over."""
    async with trips() as at:
        await at.tracks.put_fence("demo", circle("yard", 10_000))
        await at.sets_out()
        await at.drives(0, 990)
        log = Away(monkeypatch, at.node.log, "command")
        at.now_s = 1_000
        await at.comes(fix(1_000, 9_995, speed=0.0))
        await log.tried()
        log.away = False
        await at.rest()
        assert await at.status() == "completed"
        assert [one["fence"] for one in await at.said("inside")] == ["yard"]


async def test_a_command_that_is_impossible_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one behind it is given."""
    async with trips() as at:
        await at.sets_out()
        there, wrong = at.arrivals._orders.command, list[str]()

        async def command(tenant: str, stream: str, type: str, *args: Any, **how: Any) -> Any:
            if type == "arrive":
                wrong.append(type)
                raise Impossible("no")
            return await there(tenant, stream, type, *args, **how)

        monkeypatch.setattr(at.arrivals._orders, "command", command)
        await at.drives(980, 990)
        at.now_s = 1_000
        await at.comes(fix(1_000, 9_995, speed=0.0))
        await at.rest()
        assert wrong == ["arrive"]
        assert await at.status() == "completed"


async def test_a_look_waits_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's task is done once it was looked. It was done at once, and where the store was away just then, or the node
    died, nobody looked any more."""
    async with trips() as at:
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        for at_s in range(0, 200, 10):
            await at.tracks.keep([fix(at_s, 10.0 * at_s, speed=10.0)._replace(tenant="demo")], [])
        at.now_s = 580
        store = Away(monkeypatch, at.tracks, "track")
        looked = trio.Event()

        async def look() -> None:
            await at.arrivals.look("demo", TRIP)
            looked.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await store.tried()
            assert not looked.is_set()
            store.away = False
        assert [one["threshold_s"] for one in await at.said("alerts")] == [600]


async def test_a_look_that_takes_too_long_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task goes on waiting, and is anybody's."""
    monkeypatch.setattr(engine, "LOOK_S", 0.02)
    async with trips() as at:
        await at.sets_out()
        Away(monkeypatch, at.tracks, "fences")
        with pytest.raises(Transient, match="could not be looked at"):
            await at.arrivals.look("demo", TRIP)


async def test_what_was_folded_halfway_is_folded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log went away between two pages of a long trip: those who asked to be told on the first page were forgotten."""
    monkeypatch.setattr("gateway.work.folding.FOLDED_AT_ONCE", 2)
    async with trips() as at:
        await at.sets_out()
        for who in ("amy", "bob", "cem"):
            await at.say("notify", recipient=f"user:{who}", stop="home")
        log = Away(monkeypatch, at.node.log, "ruled", after=1)
        await at.comes(fix(0, 0, speed=10.0))
        await log.tried(3)
        log.away = False
        await at.rest()
        assert at.book.trip.status == "underway"
        assert len(at.book.trip.recipients) == 3


async def test_who_asks_while_the_device_is_silent_is_told() -> None:
    """The wish came after the last position: nobody looked before the next one."""
    async with trips() as at:
        await at.sets_out()
        await at.drives(0, 200)
        at.now_s = 300
        await at.say("notify", recipient=AMY, stop="home")
        await until(lambda: at.book.trip.recipients and not at.book.busy)
        assert await at.said("alerts") == []
        at.now_s = 580
        await until(lambda: at.arrivals.alerts)


async def test_a_silent_trip_does_not_arrive_in_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to be told of it; who follows it sees its arrival move on all the same. A fault in it is its own."""
    async with trips() as at:
        await at.sets_out()
        shown = list[dict[str, Any]]()
        show = at.arrivals._positions.show

        def showing(stream: Stream, kind: str, by: str, value: Any, at_s: float, **how: Any) -> None:
            shown.append(value)
            show(stream, kind, by, value, at_s, **how)

        monkeypatch.setattr(at.arrivals._positions, "show", showing)
        await at.drives(0, 200)
        at.now_s = 2_000
        await until(lambda: shown[-1]["at"] == write(T0 + 2_000_000))

        def fails(now_ms: int) -> Any:
            raise RuntimeError("ours")

        monkeypatch.setattr(at.book.arriving, "reshow", fails)
        at.now_s = 2_100
        await until(lambda: at.arrivals.faults == 1 and not len(at.arrivals))
        await at.drives(2_110, 2_120)
        assert len(at.arrivals) == 1


async def test_a_backlog_in_one_message_tells_by_its_last_position() -> None:
    """It stood in a jam without a network; by the first of what it kept it would be nearly there."""
    async with trips() as at:
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        await at.drives(0, 300)
        stream = await at.stream()
        for at_s in range(300, 700, 10):
            at.arrivals.sample(stream, fix(at_s, 3_000, speed=0.0)._replace(tenant="demo"))
        at.now_s = 700  # before the node's loop has turned
        await at.rest()
        assert await at.said("alerts") == []


async def test_positions_of_others_do_not_hide_the_subjects_own() -> None:
    """Bob's phone sends here, the truck at another node: who looks here knows where the truck is by now."""
    async with trips() as at:
        await at.sets_out()
        await at.drives(0, 100)
        await at.tracks.keep([fix(at_s, 1_000, speed=0.0)._replace(tenant="demo") for at_s in range(100, 400, 10)], [])
        at.now_s = 401
        await at.comes(fix(400, 50, subject="user:bob"))
        await at.rest()
        await at.arrivals.look("demo", TRIP)
        assert at.book.at_ms == T0 + 390_000


async def test_another_subjects_past_is_read() -> None:
    """A second truck takes over; it has been under way all along, and its last position tells when it arrives."""
    async with trips() as at:
        await at.sets_out()
        await at.drives(0, 200)
        other = [fix(at_s, 20.0 * at_s, speed=20.0, subject="device:truck-8") for at_s in range(0, 200, 10)]
        await at.tracks.keep([sample._replace(tenant="demo") for sample in other], [])
        shown = at.arrivals.shown
        await at.say("plan", **HOME | {"subject": "device:truck-8"})
        await until(lambda: at.arrivals.shown > shown)
        assert at.book.at_ms == T0 + 190_000
        assert at.arrivals.mode_of(at.book.stream, "device:truck-8") == "car"
        assert at.arrivals.mode_of(at.book.stream, SUBJECT) == "any"


async def test_settings_read_anew_hold_for_trips_on_their_way() -> None:
    """No restart, no new trip."""
    async with trips() as at:
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        await at.drives(0, 200)
        at.node.gatekeeper.tenants = Tenants(arrivals=Settings(thresholds_s=(1_200, 300)))
        await at.drives(200, 210)
        assert [one["threshold_s"] for one in await at.said("alerts")] == [1_200]


async def test_fences_are_asked_for_once_for_all_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty trips move in one turn; each asked the store, and made its own of what it said."""
    async with trips() as at:
        asked, answer, there = list[str](), trio.Event(), at.tracks.fences

        async def fences(tenant: str) -> list[Fence]:
            asked.append(tenant)
            await answer.wait()
            return await there(tenant)

        monkeypatch.setattr(at.tracks, "fences", fences)
        names = [f"trip:r{nth}" for nth in range(20)]
        for name in names:
            await at.node.log.create_stream("demo", name, open=True, members=[], by="user:ops")
            await at.say("plan", name, **HOME)
        for name in names:
            await at.comes(fix(0, 0), trip=name)
        await until(lambda: asked and sum(book.busy for book in at.arrivals._books.values()) == len(names))
        answer.set()
        await at.rest()
        assert asked == ["demo"]
        before = at.arrivals._fenced["demo"].fences
        at.arrivals._fenced["demo"].at_s -= 60
        assert await at.arrivals._fences_of("demo") is before, "made anew where one has changed alone"
        monkeypatch.setattr(engine, "FENCED_MAX", 2)
        for tenant in ("a", "b", "demo"):
            await at.arrivals._fences_of(tenant)
        assert list(at.arrivals._fenced) == ["b", "demo"]


class FixedRoutes:
    """In place of `gateway.routes`: one answer, or a fault."""

    well_ms = 0

    def __init__(self, answer: Routed | Exception) -> None:
        self.answer = answer

    async def route(self, tenant: str, ask: object, calls_max: int) -> Routed:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def routed(*points: tuple[float, float]) -> Routed:
    found = Snapshot(tuple(points), (10_000.0,), (2_000.0,), (1,), "osrm", T0, None)
    return Routed(found, 1, False)


@pytest.mark.parametrize("fault", [ZeroDivisionError("ours"), Unavailable("away"), ValueError("nobody goes there")])
async def test_a_route_that_fails_ends_nothing(fault: Exception) -> None:
    """Not the node, as any fault behind a provider's answer did; and the trip asks again when its time has come."""
    async with trips() as at:
        at.arrivals.routes = FixedRoutes(fault)  # type: ignore[assignment]
        await at.sets_out()
        await at.drives(0, 10)
        await until(lambda: at.arrivals.asked and not at.book.asking)
        assert at.arrivals.faults == isinstance(fault, ZeroDivisionError)
        shown = at.arrivals.shown
        await at.drives(10, 60)
        assert at.arrivals.shown > shown
        at.now_s = 700
        await at.comes(fix(700, 600, speed=1.0))
        await until(lambda: at.arrivals.asked == 2)


async def test_a_route_that_comes_is_shown_without_a_position() -> None:
    """It says so in the source."""
    async with trips() as at:
        at.arrivals.routes = FixedRoutes(routed((50.0, 8.0), (50.0, 8.14)))  # type: ignore[assignment]
        shown: list[Any] = []
        at.arrivals._positions.show = lambda *told, here: shown.append(told[3])  # type: ignore[method-assign]
        await at.sets_out()
        await at.drives(0, 20)
        await until(lambda: shown and shown[-1]["source"] == "route")
        assert at.book.arriving.calls == 1


async def test_workers_are_told_a_few_times_a_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrival times go to and fro by half a minute with every position: a task was written with every few of them."""
    async with trips() as at:
        told: list[NewTask] = []

        async def add(tasks: Sequence[NewTask]) -> None:
            told.extend(tasks)

        assert at.node.work is not None
        monkeypatch.setattr(at.node.work, "add", add)
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        gone_m = 0.0
        for nth in range(80):
            gone_m += 95.0 if nth % 10 < 5 else 5.0
            at.now_s = 5.0 * nth
            await at.comes(fix(at.now_s, gone_m, speed=10.0))
            await at.rest()
            await at.arrivals._tell_workers()
        assert 1 <= len(told) <= 8, "seventeen of these eighty positions told them before"
        assert {(task.key, task.replace) for task in told} == {(f"{at.book.stream.sid}/look", True)}
        assert at.book.armed_ms is not None
        look_ms = at.book.arriving.look_ms
        assert look_ms is not None
        assert at.book.armed_ms <= look_ms + engine.ARM_MS, "nobody looks too late"


async def test_workers_that_cannot_be_told_are_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their store was away."""
    async with trips() as at:
        assert at.node.work is not None
        store = Away(monkeypatch, at.node.work, "add")
        await at.sets_out()
        await at.say("notify", recipient=AMY, stop="home")
        await at.drives(0, 50)
        await store.tried()
        assert at.arrivals._arm
        store.away = False
        await until(lambda: not at.arrivals._arm)
        assert [task.body["do"] for task in await at.node.work.tasks("job")] == ["look"]


async def test_books_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those longest unmoved go, and are taken up from the store again; of those that work none goes."""
    monkeypatch.setattr(engine, "BOOKS_MAX", 2)
    async with trips() as at:
        for nth in range(3):
            await at.node.log.create_stream("demo", f"trip:{nth}", open=True, members=[], by="user:ops")
            await at.comes(fix(0, 0), trip=f"trip:{nth}")
            await at.rest()
        assert [name for _, name in at.arrivals._books] == ["trip:1", "trip:2"]
        for book in at.arrivals._books.values():
            book.busy = True
        at.arrivals._book(await at.stream())
        assert len(at.arrivals) == 3
        for book in at.arrivals._books.values():
            book.busy = False


async def test_a_restored_log_is_folded_anew() -> None:
    """Nothing of before holds, nor a stream's number."""
    async with trips() as at:
        await at.sets_out()
        await at.drives(0, 50)
        before = at.book
        at.node.follower.restored += 1
        await at.drives(50, 60)
        assert at.book is not before
        assert at.book.trip.status == "underway"


async def test_trips_that_are_over_or_none_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No read of the log for a position once that is known; other streams have no book."""
    async with trips() as at:
        await at.node.log.create_stream("demo", "chat:ops", open=True, members=[], by="user:ops")
        await at.comes(fix(0, 0), trip="chat:ops")
        assert len(at.arrivals) == 0
        assert at.arrivals.wants(await at.stream(), SUBJECT) is None
        await at.drives(0, 10)
        log = Away(monkeypatch, at.node.log, "ruled")
        log.away = False
        await at.drives(10, 50)
        assert log.asked == 0
        at.arrivals.advise(at.book.stream, SUBJECT, T0, T0)  # of no plan: nobody's


async def test_a_trip_is_not_worked_on_before_its_node_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes waits."""
    async with trips() as at:
        monkeypatch.setattr(at.arrivals, "_nursery", None)
        await at.comes(fix(0, 0))
        assert not at.book.busy
        assert len(at.book.waiting) == 1


async def test_many_positions_of_the_past_are_taken_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was quarantined is not among them."""
    monkeypatch.setattr(engine, "SLICE", 8)
    async with trips() as at:
        await at.sets_out()
        past = [fix(at_s, 10.0 * at_s, speed=10.0) for at_s in range(0, 200, 10)]
        forged = fix(195, 9_999, speed=0.0, verdict="quarantined")
        await at.tracks.keep([sample._replace(tenant="demo") for sample in (*past, forged)], [])
        at.now_s = 200
        await at.arrivals.look("demo", TRIP)
        assert at.book.at_ms == T0 + 190_000
        assert await at.status() == "underway"
