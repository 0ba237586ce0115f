"""Progress along a way, whatever fixes do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.match import BACK_FIXES, OFF_FIXES, Matcher
from core.geo.route import make_route
from core.geo.sphere import Plane
from core.geo.way import Way

PLANE = Plane(10.0, 20.0)


def way(points: list[tuple[float, float]]) -> Way:
    route = make_route([PLANE.place(x, y) for x, y in points])
    assert not isinstance(route, str)
    return Way(route)


def at(way: Way, x: float, y: float) -> tuple[float, float]:
    return way.plane.xy(*PLANE.place(x, y))


STRAIGHT = way([(0.0, 0.0), (2_000.0, 0.0)])
LOOP = way([(0.0, 0.0), (600.0, 0.0), (600.0, 600.0), (300.0, 600.0), (300.0, -600.0)])
BACK = way([(0.0, 0.0), (1_000.0, 0.0), (1_000.0, 10.0), (0.0, 10.0)])


def test_progress_is_the_nearest_place_on_the_way() -> None:
    """Noise to the side does not matter."""
    matcher = Matcher(STRAIGHT)
    matcher.take(*at(STRAIGHT, 100.0, 5.0), 0.0)
    found = matcher.take(*at(STRAIGHT, 400.0, -20.0), 30.0)
    assert found.at_m == pytest.approx(400, abs=2)
    assert found.off_m == pytest.approx(20, abs=1)
    assert found.moved


def test_at_a_crossing_the_pass_that_continues_is_taken() -> None:
    """The way crosses itself at (300, 0): the first time through it is the first pass, after the loop the second."""
    matcher = Matcher(LOOP)
    assert matcher.take(*at(LOOP, 290.0, 0.0), 0.0).at_m == pytest.approx(290, abs=3)
    assert matcher.take(*at(LOOP, 310.0, 0.0), 5.0).at_m == pytest.approx(310, abs=3)
    for x, y in ((600.0, 0.0), (600.0, 500.0), (300.0, 600.0), (300.0, 300.0)):
        matcher.take(*at(LOOP, x, y), 30.0)
    assert matcher.take(*at(LOOP, 300.0, -2.0), 20.0).at_m == pytest.approx(600 + 600 + 300 + 602, abs=5)


def test_after_a_long_silence_the_nearer_pass_along_the_way_is_taken() -> None:
    """Both passes of the crossing are within reach, the later one is nearer by 2 m: noise, not evidence of 1.8 km."""
    matcher = Matcher(LOOP)
    matcher.take(*at(LOOP, 250.0, 0.0), 0.0)
    assert matcher.take(*at(LOOP, 301.0, 3.0), 60.0).at_m == pytest.approx(301, abs=3)


def test_a_heading_tells_there_from_back() -> None:
    """Out and back along one street: who drives west is on his way back."""
    east, west = Matcher(BACK), Matcher(BACK)
    for matcher in (east, west):
        matcher.take(*at(BACK, 900.0, 5.0), 0.0, (1.0, 0.0))
    assert east.take(*at(BACK, 950.0, 5.0), 20.0, (1.0, 0.0)).at_m == pytest.approx(950, abs=3)
    assert west.take(*at(BACK, 950.0, 5.0), 20.0, (-1.0, 0.0)).at_m == pytest.approx(1_060, abs=3)


def test_noise_does_not_go_back_but_evidence_does() -> None:
    """30 m behind leaves progress; 200 m behind is believed the third time."""
    matcher = Matcher(STRAIGHT)
    matcher.take(*at(STRAIGHT, 1_000.0, 0.0), 60.0)
    assert matcher.take(*at(STRAIGHT, 970.0, 0.0), 10.0).at_m == pytest.approx(1_000, abs=3)
    for _ in range(BACK_FIXES - 1):
        found = matcher.take(*at(STRAIGHT, 800.0, 0.0), 10.0)
        assert found.at_m == pytest.approx(1_000, abs=3)
        assert not found.moved
    assert matcher.take(*at(STRAIGHT, 790.0, 0.0), 10.0).at_m == pytest.approx(790, abs=3)


def test_off_route_needs_evidence_and_so_does_coming_back() -> None:
    """Three fixes off, not from one spot; two near the way end it."""
    matcher = Matcher(STRAIGHT)
    matcher.take(*at(STRAIGHT, 500.0, 0.0), 0.0)
    for n in range(OFF_FIXES):
        assert not matcher.off_route
        assert not matcher.take(*at(STRAIGHT, 500.0 + 50 * n, 300.0), 10.0).moved
    assert matcher.off_route
    matcher.take(*at(STRAIGHT, 700.0, 300.0), 10.0)
    assert not matcher.take(*at(STRAIGHT, 700.0, 0.0), 10.0).moved
    assert matcher.off_route
    assert matcher.take(*at(STRAIGHT, 750.0, 0.0), 10.0).moved
    assert not matcher.off_route


def test_who_stands_with_a_bad_fix_is_not_off_route() -> None:
    """However often; and a device that says that it is inaccurate is given its due."""
    matcher = Matcher(STRAIGHT)
    for _ in range(10):
        matcher.take(*at(STRAIGHT, 500.0, 150.0), 10.0)
    assert not matcher.off_route
    assert matcher.take(*at(STRAIGHT, 520.0, 150.0), 10.0, None, 80.0).moved


def test_a_short_cut_is_found() -> None:
    """Who leaves the way and comes back to it far ahead is searched for on all of it."""
    matcher = Matcher(LOOP)
    matcher.take(*at(LOOP, 100.0, 0.0), 0.0)
    matcher.take(*at(LOOP, 120.0, -300.0), 1.0)
    matcher.take(*at(LOOP, 200.0, -400.0), 1.0)
    assert matcher.take(*at(LOOP, 300.0, -500.0), 1.0).at_m == pytest.approx(600 + 600 + 300 + 1_100, abs=5)


def test_places_of_no_length_do_no_harm() -> None:
    """A way that goes nowhere."""
    nowhere = way([(0.0, 0.0), (0.0, 0.0)])
    assert Matcher(nowhere).take(0.0, 0.0, 0.0).at_m == 0.0


MOVES = st.lists(st.tuples(st.floats(-3e4, 3e4), st.floats(-3e4, 3e4), st.floats(0, 1e5)), max_size=30)


@given(MOVES, st.sampled_from([STRAIGHT, LOOP, BACK]))
def test_progress_is_always_on_the_way(moves: list[tuple[float, float, float]], way: Way) -> None:
    """Wherever fixes are."""
    matcher = Matcher(way)
    for x, y, after_s in moves:
        found = matcher.take(x, y, after_s)
        assert 0.0 <= found.at_m <= way.length_m + 1.0
        assert found.at_m == matcher.at_m
