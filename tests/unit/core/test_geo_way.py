"""A way is a route measured once: thinned, cut into pieces, its turns counted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.route import Route, make_route
from core.geo.sphere import Plane, nearest
from core.geo.way import PIECE_M, PIECES_MAX, SPAN, Way, read_at, scale_lon, thinned

PLANE = Plane(10.0, 20.0)


def route(points: list[tuple[float, float]], **more: list[float | None]) -> Route:
    """From metres east and north of a place."""
    made = make_route([PLANE.place(x, y) for x, y in points], leg_s=more.get("leg_s"))
    assert not isinstance(made, str)
    return made


def test_a_straight_way_is_two_points_and_equal_pieces() -> None:
    """A point every 10 m on a line says nothing."""
    way = Way(route([(n * 10.0, 0.0) for n in range(101)]))
    assert len(way.xs) == 2
    assert len(way.pieces) == 10
    assert way.piece_m == pytest.approx(PIECE_M, rel=0.01)
    assert {piece.sector for piece in way.pieces} == {0}
    assert way.turns == [0.0] * 11
    assert way.place(way.length_m / 2) == pytest.approx(((way.xs[0] + way.xs[1]) / 2, 0.0), abs=0.5)


def test_turns_are_those_of_streets_not_of_noise() -> None:
    """Two corners of a block count; a wriggle of 20 m does not."""
    wriggly = [(n * 50.0, 20.0 * (n % 2)) for n in range(20)]
    assert Way(route(wriggly)).turns[-1] == 0.0
    bend = Way(route([(0.0, 0.0), (1_000.0, 0.0), (2_000.0, 500.0)]))
    assert bend.turns[-1] == 0.0
    block = Way(route([(0.0, 0.0), (500.0, 0.0), (500.0, 500.0), (1_000.0, 500.0)]))
    assert block.turns[-1] == 2.0
    assert block.turns[3] == 0.0
    assert block.turns[7] == 1.0
    assert [piece.sector for piece in block.pieces][::5] == [0, 1, 0]


def test_times_of_legs_are_shared_out() -> None:
    """By metres; a piece of which less than half is told has none."""
    way = Way(route([(0.0, 0.0), (200.0, 0.0), (400.0, 0.0)], leg_s=[60.0, None]))
    assert [piece.leg_s for piece in way.pieces] == [
        pytest.approx(30, rel=0.01),
        pytest.approx(30, rel=0.01),
        None,
        None,
    ]
    short = Way(route([(0.0, 0.0), (130.0, 0.0), (200.0, 0.0)], leg_s=[13.0, None]))
    assert [piece.leg_s for piece in short.pieces] == [pytest.approx(10, rel=0.01), None]


def test_a_way_of_no_length_is_one_piece() -> None:
    """Two points at one place."""
    way = Way(route([(0.0, 0.0), (0.0, 0.0)]))
    assert len(way.pieces) == 1
    assert way.place(0.0) == pytest.approx((0.0, 0.0))
    assert way.place(50.0) == pytest.approx((0.0, 0.0))


def test_a_long_way_has_longer_pieces() -> None:
    """Their number is bounded."""
    way = Way(route([(0.0, 0.0), (500_000.0, 0.0)]))
    assert len(way.pieces) == PIECES_MAX
    assert way.piece_m == pytest.approx(250, rel=0.01)


def test_long_lists_are_thinned_in_parts() -> None:
    """Ends of parts stay: the bound of what a hostile way costs."""
    assert thinned([(float(n), 0.0) for n in range(SPAN + 10)], 5.0) == [0, SPAN, SPAN + 9]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30), st.floats(1, 100))
def test_nothing_that_goes_lies_farther_off_than_asked(points: list[tuple[float, float]], off_m: float) -> None:
    """Of any line."""
    kept = thinned(points, off_m)
    assert kept[0] == 0
    assert kept[-1] == len(points) - 1
    for a, b in pairwise(kept):
        for i in range(a + 1, b):
            assert nearest(*points[i], *points[a], *points[b])[1] <= off_m + 1e-6


def test_sums_are_read_between_their_entries() -> None:
    """And at the end beyond them."""
    assert read_at([0.0, 10.0, 30.0], 0.5) == 5.0
    assert read_at([0.0, 10.0, 30.0], 1.25) == 15.0
    assert read_at([0.0, 10.0, 30.0], 2.0) == 30.0
    assert read_at([0.0, 10.0, 30.0], 99.0) == 30.0


def test_longitudes_of_one_band_have_one_scale() -> None:
    """So that cells line up; never nothing, at the pole."""
    assert scale_lon(59.6) == scale_lon(60.4) == pytest.approx(0.5)
    assert scale_lon(90.0) == 0.01
