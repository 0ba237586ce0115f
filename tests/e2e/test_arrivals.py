"""Trips through a node: from positions to arrival times, alerts, crossings and the end, on any node, whoever dies."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Any

import pytest
import trio

from core.flight.times import write
from core.ports import Unavailable
from core.tracks import Fence
from core.trip.arriving import Arriving
from core.work_limits import WorkLimits
from gateway.arrivals import engine
from gateway.work.make import make_worker
from store.memory_tracks import MemoryTracks
from tests.moving import tracking_cluster, tracking_node
from tests.nodes import TestNode, until
from tests.trips_way import AMY, SUBJECT, place, plan, stop
from tests.wire_client import WireClient, hello

LIMITS = replace(WorkLimits(), beat_s=0.05, lease_s=0.4, poll_s=0.02, task_look_s=0.02, retry_first_s=0.01, task_s=0.5)
SPEED = 10.0
WAY_M = 10_000
TRIP = "trip:9"
HOME = plan([stop("home", WAY_M)])


class Ride:
    """10 km at 10 m/s on a straight street, begun so many seconds ago; ``shift_s`` moves the nodes' clocks."""

    def __init__(self, nodes: list[TestNode], began_ago_s: float) -> None:
        self.shift_s = 0.0
        self.began_s = time.time() - began_ago_s
        self.seq = 0
        for node in nodes:
            node.node.wall = self.now

    def now(self) -> float:
        return time.time() + self.shift_s

    def fix(self, gone_s: float, speed: float = SPEED) -> dict[str, Any]:
        self.seq += 1
        lat, lon = place(min(WAY_M, SPEED * gone_s))
        at = write(int(1000 * (self.began_s + gone_s)))
        return {"seq": self.seq, "at": at, "lat": round(lat, 7), "lon": round(lon, 7), "acc": 5, "speed": speed}

    async def drive(self, device: WireClient, from_s: int, to_s: int, step_s: int = 10) -> None:
        fixes = [self.fix(gone_s) for gone_s in range(from_s, to_s, step_s)]
        answer = await device.ask("position", stream=TRIP, fixes=fixes)
        assert answer["accepted"] == len(fixes), answer

    async def sets_out(self, ops: WireClient) -> None:
        await command(ops, "plan", **HOME)
        await command(ops, "start", at=write(int(1000 * self.began_s)))

    def left_s(self, signal: dict[str, Any]) -> float:
        return datetime.fromisoformat(signal["value"]["at"]).timestamp() - self.now()


async def command(client: WireClient, verb: str, **body: Any) -> dict[str, Any]:
    answer = await client.ask("command", stream=TRIP, type=verb, key=str(uuid.uuid4()), body=body)
    assert answer["op"] == "ok", answer
    return answer


async def eta(client: WireClient) -> dict[str, Any]:
    return await client.next("signal", kind="eta")


def ops_of(node: TestNode) -> AbstractAsyncContextManager[WireClient]:
    return hello(node.url, "user:ops", {TRIP: {"after": 0}}, roles=["admin"])


@asynccontextmanager
async def riding(began_ago_s: float) -> AsyncIterator[tuple[TestNode, Ride, WireClient, WireClient]]:
    """A node, a ride that has set out, its owner's connection and its device's."""
    async with tracking_node() as (node, _), ops_of(node) as ops, hello(node.url, SUBJECT) as truck:
        ride = Ride([node], began_ago_s)
        await ride.sets_out(ops)
        yield node, ride, ops, truck


@asynccontextmanager
async def working(node: TestNode) -> AsyncIterator[None]:
    assert node.work is not None
    worker = make_worker(
        node.node,
        node.work,
        rules_folder=None,
        webhook_keys={},
        limits=LIMITS,
        holder="w1",
        rng=Random(1),
        measured=False,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        yield
        nursery.cancel_scope.cancel()


async def test_who_follows_sees_when_it_arrives() -> None:
    """With an interval that holds it, who says so, and how old it is; the device's positions are enough for that."""
    async with riding(400) as (_, ride, ops, truck):
        await ride.drive(truck, 0, 400)
        shown = await eta(ops)
        while abs(ride.left_s(shown) - 600) > 120:
            shown = await eta(ops)
        assert (shown["stream"], shown["by"]) == (TRIP, "service:eta")
        assert shown["value"]["stop"] == "home"
        assert shown["value"]["low"] <= shown["value"]["at"] <= shown["value"]["high"]
        assert 9.0 < shown["age"] < 30.0, "as old as the last position"


async def test_a_device_that_joins_late_sees_the_arrival_time_at_once() -> None:
    """It is a latest value, as positions are."""
    async with riding(200) as (node, ride, ops, truck):
        await ride.drive(truck, 0, 200)
        await eta(ops)
        async with hello(node.url, AMY, {TRIP: {}}) as amy:
            assert (await eta(amy))["value"]["stop"] == "home"


async def test_alerts_come_once_in_stream_and_inbox() -> None:
    """Both thresholds were passed while it was away: the nearer one alone is told, in the trip's stream and in Amy's inbox."""
    async with (
        riding(550) as (node, ride, ops, truck),
        working(node),
        hello(node.url, AMY, {AMY: {"after": 0}}) as amy,
    ):
        await command(ops, "notify", recipient=AMY, stop="home")
        await ride.drive(truck, 0, 550)
        told = await ops.next("event", type="trip.alert")
        assert told["by"] == "service:readback"
        assert told["body"]["threshold_s"] == 600
        notice = await amy.next("event", type="trip.alert")
        assert notice["body"] == {"trip": TRIP, **told["body"]}
        ride.shift_s += 250
        await ride.drive(truck, 550, 800)
        assert (await amy.next("event", type="trip.alert"))["body"]["threshold_s"] == 300
        ride.shift_s += 200
        await ride.drive(truck, 800, 990)
        await truck.ask("position", stream=TRIP, fixes=[ride.fix(998, 0.5)])
        assert (await ops.next("event", type="trip.arrived"))["body"]["stop"] == "home"
        await ops.next("event", type="trip.completed")
        alerts = [frame for frame in ops.seen if frame.get("type") == "trip.alert"]
        assert [frame["body"]["threshold_s"] for frame in alerts] == [600, 300]
        assert node.node.arrivals is not None
        assert node.node.arrivals.alerts == 2


async def test_time_alone_tells_where_the_device_fell_silent() -> None:
    """Nothing was due when the last position came; minutes later it is, and the node looks by itself."""
    async with riding(200) as (_, ride, ops, truck):
        await command(ops, "notify", recipient=AMY, stop="home")
        await ride.drive(truck, 0, 200)
        await eta(ops)
        assert not [frame for frame in ops.seen if frame.get("type") == "trip.alert"]
        ride.shift_s += 500
        assert (await ops.next("event", type="trip.alert"))["body"]["threshold_s"] == 600


async def test_a_trip_outlives_its_node() -> None:
    """The node that had it is gone and the device silent: another one's worker takes the trip up from the store and tells."""
    async with tracking_cluster(2) as (nodes, _):
        one, two = nodes
        ride = Ride(nodes, 200)
        async with ops_of(two) as ops:
            await ride.sets_out(ops)
            await command(ops, "notify", recipient=AMY, stop="home")
            async with hello(one.url, SUBJECT) as truck:
                await ride.drive(truck, 0, 200)
                await eta(ops)
                assert one.node.arrivals is not None
                assert one.work is not None
                await until(lambda: not one.node.arrivals._arm and one.node.arrivals._books)  # type: ignore[union-attr]
                [book] = one.node.arrivals._books.values()
                await until(lambda: book.armed_ms is not None and not one.node.arrivals._arm)  # type: ignore[union-attr]
            await one.stop()
            assert two.node.arrivals is not None
            assert all(book.glimpsed for book in two.node.arrivals._books.values())
            ride.shift_s += 500
            due = await one.work.tasks("job")
            assert [task.body["do"] for task in due] == ["look"]
            await two.node.arrivals.look("demo", TRIP)
            assert (await ops.next("event", type="trip.alert"))["body"]["threshold_s"] == 600


async def test_who_follows_at_another_start_sees_the_arrival_time() -> None:
    """The node was ended, the device is silent: whoever comes then is shown it, as old as it is, and nobody is told twice."""
    async with tracking_node() as (node, _):
        ride = Ride([node], 550)
        async with ops_of(node) as ops, hello(node.url, SUBJECT) as truck:
            await ride.sets_out(ops)
            await command(ops, "notify", recipient=AMY, stop="home")
            await ride.drive(truck, 0, 550)
            await ops.next("event", type="trip.alert")
        await node.restart()
        async with hello(node.url, AMY, {TRIP: {"after": 0}}) as amy:
            shown = await eta(amy)
            assert shown["value"]["stop"] == "home"
            assert shown["age"] > 9.0
            await amy.ask("ping")
            assert len([frame for frame in amy.seen if frame.get("type") == "trip.alert"]) == 1
        assert node.node.arrivals is not None
        [book] = node.node.arrivals._books.values()
        assert book.glimpsed
        assert book.armed_ms is None


async def test_two_nodes_tell_once() -> None:
    """Both have taken the trip up, and time comes for both."""
    async with tracking_cluster(2) as (nodes, _):
        one, two = nodes
        ride = Ride(nodes, 200)
        async with ops_of(two) as ops, hello(one.url, SUBJECT) as truck:
            await ride.sets_out(ops)
            await command(ops, "notify", recipient=AMY, stop="home")
            await ride.drive(truck, 0, 200)
            await eta(ops)
            assert one.node.arrivals is not None
            assert two.node.arrivals is not None
            await two.node.arrivals.look("demo", TRIP)
            await until(lambda: len(two.node.arrivals))  # type: ignore[arg-type]
            await until(lambda: not any(book.busy for book in two.node.arrivals._books.values()))  # type: ignore[union-attr]
            ride.shift_s += 500
            await ops.next("event", type="trip.alert")
            await until(lambda: one.node.arrivals.alerts + two.node.arrivals.alerts >= 1)  # type: ignore[union-attr]
            await until(lambda: not any(b.look for n in nodes for b in n.node.arrivals._books.values()))  # type: ignore[union-attr]
            await ops.ask("ping")
            assert len([frame for frame in ops.seen if frame.get("type") == "trip.alert"]) == 1
            assert one.node.arrivals.alerts + two.node.arrivals.alerts == 1


async def test_who_has_old_positions_tells_nobody_by_them() -> None:
    """The device went on at another node, where it stood still for long: the first one asks the store before it tells."""
    async with tracking_cluster(2) as (nodes, _):
        one, two = nodes
        ride = Ride(nodes, 200)
        async with ops_of(two) as ops:
            await ride.sets_out(ops)
            await command(ops, "notify", recipient=AMY, stop="home")
            async with hello(one.url, SUBJECT) as truck:
                await ride.drive(truck, 0, 200)
                await eta(ops)
            ride.shift_s += 230
            stands = [
                {**ride.fix(200, 0.0), "at": write(int(1000 * (ride.began_s + at_s)))} for at_s in range(210, 430, 10)
            ]
            async with hello(two.url, SUBJECT) as truck:
                answer = await truck.ask("position", stream=TRIP, fixes=stands)
                assert answer["op"] == "ok"
            ride.shift_s += 100
            assert one.node.arrivals is not None
            [book] = one.node.arrivals._books.values()
            taken = one.node.arrivals.taken
            await one.node.arrivals.look("demo", TRIP)
            await until(lambda: not book.look and not book.busy)
            assert one.node.arrivals.taken == taken
            assert book.at_ms >= int(1000 * (ride.began_s + 400))
            assert one.node.arrivals.alerts == 0


async def test_fences_are_told_in_the_stream() -> None:
    """Entered and left, when it was there."""
    async with tracking_node() as (node, tracks), ops_of(node) as ops, hello(node.url, SUBJECT) as truck:
        await tracks.put_fence("demo", Fence("depot", "Depot", (place(1_000),), 150.0, 0, ()))
        ride = Ride([node], 200)
        await ride.sets_out(ops)
        await ride.drive(truck, 0, 200, step_s=5)
        crossed = [await ops.next("event", type="trip.fence") for _ in range(2)]
        assert [event["body"]["what"] for event in crossed] == ["enter", "exit"]
        assert [event["body"]["subject"] for event in crossed] == [SUBJECT] * 2


async def test_positions_without_a_plan_are_no_trip() -> None:
    """Nothing is shown, nothing said; a plan that comes later makes one of it."""
    async with tracking_node() as (node, _), ops_of(node) as ops, hello(node.url, SUBJECT) as truck:
        ride = Ride([node], 300)
        await ride.drive(truck, 0, 100)
        await ops.next("signal", kind="position")
        assert node.node.arrivals is not None
        assert node.node.arrivals.shown == 0
        await ride.sets_out(ops)
        await ride.drive(truck, 100, 200)
        assert (await eta(ops))["value"]["stop"] == "home"


async def test_a_store_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trip goes on when it is back, with what came meanwhile."""
    monkeypatch.setattr(engine, "AGAIN_S", 0.01)
    async with riding(300) as (_, ride, ops, truck):
        there, away = MemoryTracks.fences, [True]

        async def fences(self: MemoryTracks, tenant: str) -> list[Fence]:
            if away[0]:
                raise Unavailable("away")
            return await there(self, tenant)

        monkeypatch.setattr(MemoryTracks, "fences", fences)
        await ride.drive(truck, 0, 200)
        await ops.next("signal", kind="position")
        away[0] = False
        assert (await eta(ops))["value"]["stop"] == "home"


async def test_a_fault_in_one_trip_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up and taken up anew with the next position."""
    async with riding(300) as (node, ride, ops, truck):
        there, broken = Arriving.take, [True]

        def take(self: Arriving, *args: Any, **more: Any) -> Any:
            if broken[0]:
                raise ZeroDivisionError
            return there(self, *args, **more)

        monkeypatch.setattr(Arriving, "take", take)
        assert node.node.arrivals is not None
        await ride.drive(truck, 0, 100)
        await until(lambda: node.node.arrivals.faults == 1)  # type: ignore[union-attr]
        broken[0] = False
        await ride.drive(truck, 100, 200)
        assert (await eta(ops))["value"]["stop"] == "home"


async def test_a_device_may_say_itself_when_it_arrives() -> None:
    """What its navigation says moves what is shown; and what that was worth goes on to its next trip, at another start too."""
    async with riding(600) as (node, ride, ops, truck):
        await ride.drive(truck, 0, 590)
        before = await eta(ops)
        while before["value"]["at"] != (await latest(ops))["value"]["at"]:
            before = await eta(ops)
        answer = await truck.ask(
            "position", stream=TRIP, fixes=[ride.fix(592)], nav={"at": write(int(1000 * (ride.now() + 3_000)))}
        )
        assert answer["accepted"] == 1
        ride.shift_s += 10
        await ride.drive(truck, 600, 602)
        after = await eta(ops)
        assert ride.left_s(after) > ride.left_s(before) + 120
        wrong = await truck.ask("position", stream=TRIP, fixes=[ride.fix(603)], nav={"at": "soon"})
        assert wrong["code"] == "bad_request"
        ride.shift_s += 400
        await ride.drive(truck, 610, 1000)
        await truck.ask("position", stream=TRIP, fixes=[ride.fix(1_000, 0.2)])
        await ops.next("event", type="trip.completed")
        assert node.node.positions is not None
        await until(lambda: node.node.positions.books.advice_of("demo", SUBJECT))  # type: ignore[union-attr]
        ride.shift_s += 20
        await truck.ask("position", stream=TRIP, fixes=[ride.fix(1_021, 0.2)])
        assert node.tracks is not None
        [last] = (await node.tracks.lasts("demo", [SUBJECT])).values()
        seen, square = last.memory["advice"]
        assert seen > 4
        assert square > 0.35**2, "it was wrong by most of an hour"


async def latest(client: WireClient) -> dict[str, Any]:
    """The last arrival time that has come so far."""
    await client.ask("ping")
    return [frame for frame in client.seen if frame.get("kind") == "eta"][-1]
