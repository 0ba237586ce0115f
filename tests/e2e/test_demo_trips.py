"""`readback demo trips`: vehicles driven into a node over sockets, by a clock that runs a hundred times as fast."""

from __future__ import annotations

import io
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import trio
from rich.console import Console
from typer.testing import CliRunner

from core.geo.estimate import Fixed
from core.model import Member
from core.work_limits import WorkLimits
from gateway.cli import app
from gateway.cli_errors import explain
from gateway.demo import drive, show, trips
from gateway.demo.drive import Driver
from gateway.demo.drive_view import summary
from gateway.demo.play import MakeStream
from gateway.demo.town import town_trips
from gateway.demo.trips import Wanted, run_trips
from gateway.eta.trips import Trip
from gateway.work.make import make_worker
from tests.moving import tracking_node
from tests.nodes import TestNode, token, until

FAST = 100.0
LIMITS = replace(WorkLimits(), beat_s=0.05, lease_s=0.4, poll_s=0.02, task_look_s=0.02, retry_first_s=0.01, task_s=0.5)


class Clock:
    """The wall's, a hundred times as fast; who sleeps by it sleeps a hundredth."""

    def __init__(self) -> None:
        self.began_s, self.began = time.time(), time.monotonic()

    def now(self) -> float:
        return self.began_s + FAST * (time.monotonic() - self.began)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds / FAST)


@asynccontextmanager
async def working_node(clock: Clock | None = None) -> AsyncIterator[TestNode]:
    async with tracking_node() as (node, _):
        if clock is not None:
            node.node.wall = clock.now
        assert node.work is not None
        work = make_worker(
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
            await nursery.start(work.run)
            yield node
            nursery.cancel_scope.cancel()


def maker(node: TestNode) -> MakeStream:
    async def make(stream: str, members: Mapping[str, str]) -> bool:
        people = [Member(who, role) for who, role in members.items()]
        await node.log.create_stream("demo", stream, open=False, members=people, by="service:test")
        return True

    return make


def driver(node: TestNode, driven: list[Trip], clock: Clock, **more: Any) -> Driver:
    usual: dict[str, Any] = {"count": 2, "speed": 1.0, "rng": Random(1), "new_id": uuid4, "sleep": clock.sleep}
    return Driver(driven, url=node.url, token=token, make=maker(node), wall=clock.now, **usual | more)


def bare(trip: Trip) -> Trip:
    """As recorded ones are: no speeds, no accuracies, and the last fix is the end of it."""
    fixes = [Fixed(fix.at_s, fix.lat, fix.lon) for fix in trip.fixes if fix.at_s <= trip.arrive_s][::4]
    return trip._replace(fixes=(*fixes, Fixed(trip.arrive_s, *trip.route.points[-1])))


@pytest.fixture
def joined_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trips begin six to seven minutes before their ends: one threshold has passed, one is ahead."""
    monkeypatch.setattr(drive, "JOIN_LEFT_S", (380.0, 420.0))


async def test_vehicles_arrive_and_who_waits_was_told_once_of_each_threshold(joined_late: None) -> None:
    """Ten minutes when they were joined, five when it was time; every position was accepted, and each is seen to arrive."""
    clock = Clock()
    async with working_node(clock) as node:
        driving = driver(node, town_trips(2, 3), clock)
        with trio.fail_after(60):
            await driving.run()
        tally = driving.tally
        assert [ride.status for ride in tally.done] == ["arrived", "arrived"]
        # By a clock this fast the two may pass between two looks: then the nearer one stands for both.
        assert [sorted(ride.told.keys() | ride.merged) for ride in tally.done] == [[300, 600]] * 2
        assert all(300 in ride.told for ride in tally.done)
        assert sum(ride.doubled for ride in tally.done) == 0
        assert not tally.refused
        assert all(ride.verdicts == {"accepted": ride.sent} for ride in tally.done)
        assert re.match(
            r"2 arrived, 0 not seen to; [234] alerts, 0 twice, 0 missed; half of them within", summary(tally)
        )


async def test_a_recorded_trip_that_ends_at_its_stop_is_seen_to_arrive(joined_late: None) -> None:
    """Its one position there says no speed, and none came after it: nobody could tell an end from driving past. Now it stands
    there, as vehicles do."""
    clock = Clock()
    async with working_node(clock) as node:
        driving = driver(node, [bare(trip) for trip in town_trips(1, 3)], clock)
        with trio.fail_after(60):
            await driving.run()
        [ride] = driving.tally.done
        assert ride.status == "arrived"
        assert ride.sent > len(ride.trip.fixes)


async def test_a_trip_that_nobody_sees_arrive_is_let_go(joined_late: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands elsewhere: after a while it makes room for others, and is counted as not seen to arrive."""
    monkeypatch.setattr(drive, "JOIN_LEFT_S", (30.0, 40.0))
    clock = Clock()
    [trip] = town_trips(1, 3)
    lost = trip._replace(fixes=trip.fixes[: len(trip.fixes) // 2], arrive_s=trip.fixes[len(trip.fixes) // 2].at_s)
    async with working_node(clock) as node:
        driving = driver(node, [lost], clock)
        with trio.fail_after(60):
            await driving.run()
        assert [ride.status for ride in driving.tally.done] == ["lost"]
        assert "was not seen to arrive" in driving.tally.news[-1]


def wanted(node: TestNode, **fields: Any) -> Wanted:
    made = Wanted(node.url, "http://127.0.0.1:1", token("service:demo", roles={"admin"}), token, time.time, count=2)
    return replace(made, **fields)


async def until_driven(node: TestNode, console: Console, done: Callable[[], bool], **fields: Any) -> None:
    """Ended as by Ctrl-C."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_trips, wanted(node, **fields), console, maker(node)))
        with trio.fail_after(20):
            await until(done)
        nursery.cancel_scope.cancel()


async def test_a_pipe_is_told_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each thing that happened and one for how it stands, not again while nothing changes; none is broken in two.
    Who is under way when it ends was not lost."""
    monkeypatch.setattr(trips, "LINE_S", 0.02)
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=False)
    async with working_node() as node:
        await until_driven(node, console, lambda: "was told" in out.getvalue())
    lines = out.getvalue().splitlines()
    assert lines[0] == "driving 200 trips a made-up town's, 2 at a time"
    assert any(line.startswith("cab-") and line.endswith("was told") for line in lines)
    assert lines[-1].startswith("0 arrived, 0 not seen to; ")
    assert len(lines) == len(set(lines))


async def test_a_terminal_shows_them_and_a_picture_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vehicles with when they will arrive, and the last screen stays."""
    monkeypatch.setattr(show, "FRAME_S", 0.02)
    monkeypatch.setattr(trips, "PICTURE_AT_S", 0.05)
    out, picture = io.StringIO(), tmp_path / "trips.svg"
    console = Console(file=out, width=130, height=30, force_terminal=True)
    async with working_node() as node:
        await until_driven(node, console, lambda: "under way" in out.getvalue() and picture.exists(), svg=picture)
    assert "cab-1" in out.getvalue()
    assert "arrives" in picture.read_text()


async def test_no_gateway_is_a_sentence_about_trips_too() -> None:
    """A port where nothing listens: what to start."""
    nowhere = Wanted("ws://127.0.0.1:1/v1/ws", "http://127.0.0.1:1", "", token, time.time)
    with pytest.raises(BaseExceptionGroup) as raised:
        await run_trips(nowhere, Console(file=io.StringIO()))
    said = explain(raised.value)
    assert said is not None
    assert "start one with `readback dev`" in said[0]


@pytest.mark.parametrize(("option", "value"), [("--count", "0"), ("--speed", "11")])
def test_trips_that_cannot_be_driven_so_are_refused(option: str, value: str, tmp_path: Path) -> None:
    """Said before anything is asked of a gateway."""
    result = CliRunner().invoke(app, ["demo", "trips", option, value, "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert option in result.output
