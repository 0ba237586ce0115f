"""The made-up town and what is said of driven trips."""

from __future__ import annotations

import io
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from core.geo.sphere import distance_m
from gateway.cli_errors import CliError
from gateway.demo.drive import Ride, Tally
from gateway.demo.drive_view import minutes, screen, summary
from gateway.demo.link import AGAIN_S, Frame, Link
from gateway.demo.town import town_trips
from gateway.demo.trips import Wanted, trips_of


def test_a_seed_has_its_trips() -> None:
    """The same ones again; another seed has others."""
    assert town_trips(3, 1) == town_trips(3, 1)
    assert town_trips(1, 1)[0].fixes != town_trips(1, 2)[0].fixes


def test_vehicles_of_the_town_move_as_cars_do() -> None:
    """Along their way, in order of time, at no more than a car's speed, to its end."""
    for trip in town_trips(10, 5):
        assert 3_000 < trip.route.length_m < 10_000
        assert 200 < trip.arrive_s < 2_400
        for before, after in pairwise(trip.fixes):
            assert after.at_s > before.at_s
            step_m = distance_m(before.lat, before.lon, after.lat, after.lon)
            assert step_m <= 20.0 * (after.at_s - before.at_s) + 40.0
        end = trip.fixes[-1]
        assert distance_m(end.lat, end.lon, *trip.route.points[-1]) < 30


def ride(name: str, status: str, told: dict[int, float], now_s: float = 10_000.0) -> Ride:
    [trip] = town_trips(1, 3)
    made = Ride(trip._replace(arrive_s=1_200.0, vehicle=name), f"trip:{name}", "user:r", now_s, now_s, 1.0, status)
    made.told = told
    made.alerts = {threshold_s: made.arrives_s - at_s for threshold_s, at_s in told.items()}
    return made


def test_what_came_of_trips_is_said_in_figures() -> None:
    """How many arrived, how many alerts, how far they were from when they were due, and how many came twice."""
    tally = Tally(done=[ride("a", "arrived", {600: 10_590.0, 300: 10_930.0}), ride("b", "lost", {})])
    tally.done[0].doubled = 1
    tally.rides.append(ride("c", "under way", {600: 10_600.0}))
    said = "1 arrived, 1 not seen to; 3 alerts, 1 twice, 0 missed; half of them within 20 s of when they were due"
    assert summary(tally) == said
    del tally.done[0].told[300], tally.done[0].alerts[300]
    assert "1 missed" in summary(tally)
    tally.done[0].merged.add(300)
    assert "0 missed" in summary(tally)
    assert summary(Tally()) == "0 arrived, 0 not seen to; 0 alerts, 0 twice, 0 missed"


def test_what_is_told_at_the_joining_is_no_error_of_the_estimate() -> None:
    """A trip that is joined four minutes before its end: who is told then was told late by the demo, not by the gateway."""
    tally = Tally(done=[ride("a", "arrived", {300: 10_960.0})])
    tally.done[0].joined_s = 10_960.0
    assert summary(tally) == "1 arrived, 0 not seen to; 1 alerts, 0 twice, 0 missed"


def test_the_screen_shows_when_each_arrives() -> None:
    """Those first that arrive first; what does not fit is counted."""
    rides = [ride(f"cab-{nth}", "under way", {}) for nth in range(9)]
    rides[4].shown = {
        "at": "1970-01-01T03:00:00.000Z",
        "low": "1970-01-01T02:59:00.000Z",
        "high": "1970-01-01T03:02:00.000Z",
        "source": "learned",
    }
    rides[4].began_s -= 500
    rides[4].verdicts = Counter({"accepted": 3, "degraded": 2})
    tally = Tally(rides=rides, refused=Counter({"quarantined jump": 2}))
    tally.news.append("cab-4 is there")
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(screen(tally, 10_100.0, 13))
    said = console.export_text()
    first = said.splitlines()[1]
    assert "cab-4" in first
    assert "11:40" in first
    assert "learned" in first
    assert "(2 odd)" in first
    rides[4].shown["at"] = "1970-01-01T02:48:19.000Z"
    assert "and 6 more" in said
    console.print(screen(tally, 10_100.0, 13))
    assert "any moment" in console.export_text()
    assert "cab-4 is there" in said
    assert "2 quarantined jump" in said


def test_minutes_have_a_sign() -> None:
    """Late is less than nothing."""
    assert [minutes(seconds) for seconds in (0, 59.6, 61, -75)] == ["0:00", "1:00", "1:01", "-1:15"]


def test_a_file_of_trips_is_driven_in_the_seeds_order(tmp_path: Path) -> None:
    """All of it; where there is none, what to do about it is said."""

    def wanted(path: Path | None, seed: int = 1) -> Wanted:
        return Wanted("", "", "", lambda who: "", lambda: 0.0, trips=path, seed=seed)

    assert len(trips_of(wanted(None))) == 200
    with pytest.raises(CliError, match="there is no file"):
        trips_of(wanted(tmp_path / "none.jsonl"))


async def test_a_busy_gateway_is_asked_again(autojump_clock: MockClock) -> None:
    """After as long as it says, or a little; what it answers otherwise is the answer."""

    class Busy(Link):
        def __init__(self) -> None:
            self.answers: list[Frame] = [
                {"op": "error", "code": "rate_limited", "retry_after": 3.0},
                {"op": "error", "code": "unavailable"},
                {"op": "error", "code": "forbidden"},
            ]
            self.asked: list[tuple[float, str, Frame]] = []

        async def ask(self, op: str, **fields: Any) -> Frame:
            self.asked.append((trio.current_time() - began_s, op, fields))
            return self.answers.pop(0)

    began_s, link = trio.current_time(), Busy()
    assert await link.insist("position", fixes=[]) == {"op": "error", "code": "forbidden"}
    assert link.asked == [(at_s, "position", {"fixes": []}) for at_s in (0.0, 3.0, 3.0 + AGAIN_S)]
