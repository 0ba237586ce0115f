"""core.geo.simplify: fewer points, none of those left out further from what stays than asked for."""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi, sin

from hypothesis import given
from hypothesis import strategies as st

from core.geo.simplify import PIECE, kept
from core.geo.sphere import M_PER_DEGREE, Plane, nearest

POINTS = st.lists(st.tuples(st.integers(-300, 300), st.integers(-300, 300)), max_size=300)


def off_m(points: list[tuple[float, float]], stays: list[int]) -> float:
    """How far the furthest point is from the line of those that stay, between its own neighbours among them."""
    far = 0.0
    for first, last in pairwise(stays):
        plane = Plane(*points[first])
        (ax, ay), (bx, by) = plane.xy(*points[first]), plane.xy(*points[last])
        far = max([far, *(nearest(*plane.xy(*points[at]), ax, ay, bx, by)[1] for at in range(first, last + 1))])
    return far


def test_a_straight_line_is_its_two_ends() -> None:
    """And in a long track the ends of its pieces."""
    line = [(50 + n / 10_000, 8.0) for n in range(100)]
    assert kept(line, 1.0) == [0, 99]
    long = [(50 + n / 100_000, 8.0) for n in range(1000)]
    assert kept(long, 1.0) == [*range(0, 1000, PIECE), 999]


def test_corners_stay() -> None:
    """In order, and a zigzag below the tolerance goes."""
    way = [(0.0, 0.0), (0.0, 0.01), (0.0, 0.02), (0.01, 0.02), (0.02, 0.02), (0.02, 0.01)]
    assert kept(way, 10) == [0, 2, 4, 5]
    wobble = [(n % 2 * 3 / M_PER_DEGREE, n / 1000) for n in range(21)]
    assert kept(wobble, 5) == [0, 20]
    assert len(kept(wobble, 2)) >= 15
    assert off_m(wobble, kept(wobble, 2)) <= 2


def test_what_is_short_or_not_to_be_thinned_stays_whole() -> None:
    """Nothing, one point, two; a tolerance of 0 or less."""
    assert [kept([(1.0, 2.0)] * n, 100) for n in range(3)] == [[], [0], [0, 1]]
    assert kept([(1.0, 2.0)] * 4, 0) == kept([(1.0, 2.0)] * 4, -1) == [0, 1, 2, 3]
    assert kept([(1.0, 2.0)] * 4, 1) == [0, 3]


def test_the_antimeridian_is_no_edge() -> None:
    """A straight line over it is its two ends."""
    assert kept([(10.0, 179.98), (10.0, 179.99), (10.0, -180.0), (10.0, -179.99)], 5) == [0, 3]


def test_a_spiral_costs_no_more_than_its_length() -> None:
    """The worst that there is for the plain way: looks a point stay within a piece."""
    spiral = [(50 + n / 1e6 * sin(n / 3), 8 + n / 1e6 * cos(n / 3)) for n in range(4 * PIECE)]
    stays = kept(spiral, 0.01)
    assert off_m(spiral, stays) <= 0.0101
    assert 2 * pi < len(stays)


@given(POINTS, st.floats(0.5, 500))
def test_nothing_that_goes_is_far(points: list[tuple[int, int]], tolerance_m: float) -> None:
    """The first and the last stay, each index once and rising."""
    track = [(50 + a / 10_000, 8 + b / 10_000) for a, b in points]
    stays = kept(track, tolerance_m)
    assert stays == sorted(set(stays))
    if track:
        assert (stays[0], stays[-1]) == (0, len(track) - 1)
    # Planes of a piece and of the check begin elsewhere: some 0.1 % of their distances apart.
    assert off_m(track, stays) <= tolerance_m * 1.01 + 0.5
