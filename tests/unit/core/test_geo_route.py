"""A route that exists can be used; what is none is a sentence."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from core.geo.route import POINTS_MAX, STOPS_MAX, Route, Stop, make_route

POINTS = [(10.0, 20.0), (10.01, 20.0), (10.02, 20.01)]


def made(**more: Any) -> Route:
    route = make_route(POINTS, **more)
    assert not isinstance(route, str)
    return route


def test_a_route_measures_itself() -> None:
    """Metres add up along its points; unknown legs are unknown."""
    route = made(stops=[Stop("gate", 1_000.0)], source="osrm")
    assert route.cum_m[0] == 0.0
    assert route.cum_m[1] == pytest.approx(1_112, abs=1)
    assert route.length_m == route.cum_m[-1]
    assert route.leg_s == (None, None)
    assert made(leg_s=[100, None]).leg_s == (100, None)
    assert (route.source, made().source) == ("osrm", "given")
    assert route.stop("gate") == Stop("gate", 1_000.0)
    assert route.stop("nowhere") is None


@pytest.mark.parametrize(
    ("points", "more", "says"),
    [
        ([(1.0, 2.0)], {}, "2 to"),
        ([(1.0, 2.0)] * (POINTS_MAX + 1), {}, "2 to"),
        ([(1.0, 2.0), (91.0, 2.0)], {}, "point 1"),
        ([(1.0, 2.0), (1.0, inf)], {}, "point 1"),
        ([(1.0, 2.0), (1.0,)], {}, "point 1"),
        (POINTS, {"leg_s": [1.0]}, "times of legs"),
        (POINTS, {"leg_s": [1.0, -1.0]}, "leg 1"),
        (POINTS, {"leg_s": [inf, 1.0]}, "leg 0"),
        (POINTS, {"stops": [Stop(str(n), 0.0) for n in range(STOPS_MAX + 1)]}, "at most"),
        (POINTS, {"stops": [Stop("", 0.0)]}, "name of a stop"),
        (POINTS, {"stops": [Stop("far", 9e9)]}, "beyond"),
        (POINTS, {"stops": [Stop("a", 0.0), Stop("a", 1.0)]}, "one name"),
    ],
)
def test_what_is_no_route_is_a_sentence(points: list[tuple[float, float]], more: dict[str, Any], says: str) -> None:
    """Each fault has its words."""
    found = make_route(points, **more)
    assert isinstance(found, str)
    assert says in found
