"""Features are what they are called, finite, and of the past."""

from __future__ import annotations

from math import exp, isfinite, log

import pytest

from core.geo.features import BASE_S, FACTOR, NAMES, features
from core.geo.pace import Expected
from core.geo.route import make_route
from core.geo.sphere import Plane
from core.geo.track import Track
from core.geo.way import Way

PLANE = Plane(10.0, 20.0)


def expected() -> Expected:
    corner = [(0.0, 0.0), (2_000.0, 0.0), (2_000.0, 2_000.0)]
    route = make_route([PLANE.place(x, y) for x, y in corner])
    assert not isinstance(route, str)
    return Expected(Way(route), None, 0.0, "car")


def test_features_of_a_trip_that_is_twice_as_slow() -> None:
    """8 m/s were expected and 4 came."""
    track = Track(0.0)
    for n in range(1, 11):
        track.take(25.0 * n, 100.0, 12.5)
    week_s = 5 * 86_400.0 + 6.5 * 3_600.0
    x = dict(zip(NAMES, features(expected(), track, 1_000.0, 4_000.0, 2_236.0, week_s), strict=True))
    assert exp(x["log_left_s"]) - BASE_S == pytest.approx(375, abs=3)
    assert x["left_m"] == 3_000.0
    assert x["straightness"] == pytest.approx(2_286 / 3_050)
    assert x["turns_left"] == 1.0
    assert x["pace_500m"] == pytest.approx(log(155 / 92.5))
    assert x["pace_1500m"] == pytest.approx(log(280 / 155))
    assert x["pace_120s"] == pytest.approx(log(180 / 120))
    assert x["factor_600s"] == pytest.approx(log(850 / 725))
    assert x["factor_150s"] == pytest.approx(log(400 / 275))
    assert x["elapsed_s"] == 250.0
    assert x["covered_m"] == 1_000.0
    assert x["hour"] == 6.5
    assert x["weekend"] == 1.0
    assert x["pace_ahead"] == pytest.approx(197.5 / 1_600, rel=0.01)
    assert NAMES[FACTOR] == "factor_600s"


def test_features_at_the_end_and_before_the_start_are_finite() -> None:
    """Nothing left, nothing covered, beyond the goal."""
    for here_m, to_m in ((0.0, 4_000.0), (4_000.0, 4_000.0), (4_000.0, 100.0)):
        assert all(map(isfinite, features(expected(), Track(0.0), here_m, to_m, 0.0, 0.0)))
