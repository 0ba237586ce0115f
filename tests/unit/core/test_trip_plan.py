"""core.trip.plan: a plan is read whole or named as wrong, and its fact reads back as the same plan."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.body import Fields
from core.geo.polyline import encode
from core.trip.plan import POLYLINE_CHARS_MAX, STOPS_MAX, PlannedRoute, read_plan
from tests.trip_desk import PLAN, WAY


def wrong(**changed: Any) -> str:
    fields = Fields(PLAN | changed)
    read_plan(fields)
    return fields.problem


def stops(**changed: Any) -> list[Any]:
    return [PLAN["stops"][0] | changed]


def route(**changed: Any) -> dict[str, Any]:
    return {"polyline": encode(WAY, 6)} | changed


def test_a_plan_reads_back_as_it_was() -> None:
    """From its fact, which says what the command said, and whose route is not decoded again."""
    fields = Fields(PLAN)
    plan = read_plan(fields)
    assert not fields.problem
    assert plan.json() == PLAN
    assert read_plan(Fields(plan.json()), trusted=True) == plan
    assert plan.route == PlannedRoute(encode(WAY, 6), (120, 90.5), "osrm")
    assert [(stop.stop, stop.name, stop.at_ms) for stop in plan.stops][1:] == [("B", "", None), ("C", "", None)]


def test_a_plan_may_be_little() -> None:
    """Who, how, and one stop."""
    little = {"mode": "foot", "subject": "user:amy", "stops": [{"stop": "home", "lat": 1, "lon": 2}]}
    fields = Fields(little)
    assert read_plan(fields).json() == little
    assert not fields.problem
    bare = read_plan(Fields(PLAN | {"route": route()}))
    assert bare.json()["route"] == {"polyline": encode(WAY, 6), "source": "plan"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mode": "rocket"}, "`mode` must be one of foot, bike"),
        ({"subject": "service:x"}, "`subject` must be a principal such as device:NAME or user:NAME"),
        ({"subject": 7}, "`subject`"),
        ({"stops": []}, "`stops` must be a list of 1 to 50"),
        ({"stops": {}}, "`stops` must be"),
        ({"stops": [{"stop": str(n), "lat": 0, "lon": 0} for n in range(STOPS_MAX + 1)]}, "`stops` must be"),
        ({"stops": ["A"]}, "`stops[0]` must be an object"),
        ({"stops": stops(gate="4")}, "`stops[0]` must be an object of at, lat, lon, name, stop"),
        ({"stops": stops(lat=91)}, "`stops[0]` is not well: `lat` must be a number from -90 to 90"),
        ({"stops": stops(lat=float("nan"))}, "`lat`"),
        ({"stops": stops(lon=True)}, "`lon`"),
        ({"stops": stops(lon=None)}, "`lon`"),
        ({"stops": stops(stop="")}, "`stop`"),
        ({"stops": stops(at="noon")}, "`at` must be a time"),
        ({"stops": stops() * 2}, "`stops[1]` is not well: `stop` A is another stop's too"),
        ({"route": []}, "`route` must be an object"),
        ({"route": route(via="x")}, "`route` must be an object of legs_s, polyline, source"),
        ({"route": {"polyline": ""}}, "`route.polyline` must be an encoded polyline"),
        ({"route": {"polyline": "?" * (POLYLINE_CHARS_MAX + 1)}}, "`route.polyline` must be an encoded polyline"),
        ({"route": {"polyline": "!"}}, "`route.polyline` is none: character 0"),
        ({"route": {"polyline": "??"}}, "`route.polyline` must have two points"),
        ({"route": {"polyline": encode(((95, 1), (2, 3)), 6)}}, "`route.polyline` must have two points or more of the"),
        ({"route": {"polyline": encode(((5, 181), (2, 3)), 6)}}, "`route.polyline` must have two points or more of the"),
        ({"route": route(legs_s=[1, 2, 3])}, "`route.legs_s` must be seconds from each point of the polyline to the next: 2"),
        ({"route": route(legs_s=[600])}, "`route.legs_s` must be seconds from each point of the polyline to the next: 2"),
        ({"route": route(legs_s=[-1, 1])}, "`route.legs_s` must be a list of seconds"),
        ({"route": route(legs_s=[True, 1])}, "`route.legs_s`"),
        ({"route": route(legs_s="12")}, "`route.legs_s`"),
        ({"route": route(source=7)}, "`route.source` must be"),
        ({"fences": "depot"}, "`fences` must be a list"),
        ({"note": "two\nlines"}, "`note` must be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changed: dict[str, Any], says: str) -> None:
    """The field, down to the stop, and what it must be."""
    assert says in wrong(**changed)


def test_a_leg_that_nobody_timed_is_null() -> None:
    """So that the others keep their places."""
    assert not wrong(route=route(legs_s=[None, 5]))
