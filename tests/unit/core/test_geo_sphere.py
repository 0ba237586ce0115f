"""Distances and bearings are those of the globe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.sphere import Plane, bearing_deg, destination, distance_m, nearest, turn_deg, wrap_lon

LAT = st.floats(-85, 85)
LON = st.floats(-180, 179.999)


def test_known_distances() -> None:
    """A degree of latitude, half the globe, and London Heathrow to New York (5,540 km by the usual tables)."""
    assert distance_m(0, 0, 1, 0) == pytest.approx(111_195.08, abs=0.1)
    assert distance_m(0, 0, 0, 180) == pytest.approx(20_015_115, abs=10)
    assert distance_m(51.4775, -0.4614, 40.6399, -73.7787) == pytest.approx(5_540_000, rel=0.003)


def test_a_place_is_no_distance_from_itself() -> None:
    """Neither at a pole nor at the antimeridian."""
    for lat, lon in ((0.0, 0.0), (90.0, 12.0), (-33.9, 180.0)):
        assert distance_m(lat, lon, lat, lon) == 0.0
        assert bearing_deg(lat, lon, lat, lon) == 0.0
    assert distance_m(10, 180, 10, -180) == pytest.approx(0, abs=1e-6)


def test_bearings_to_the_four_sides() -> None:
    """North, east, south, west; across the antimeridian the short way."""
    assert bearing_deg(0, 0, 1, 0) == pytest.approx(0)
    assert bearing_deg(0, 0, 0, 1) == pytest.approx(90)
    assert bearing_deg(0, 0, -1, 0) == pytest.approx(180)
    assert bearing_deg(0, 0, 0, -1) == pytest.approx(270)
    assert bearing_deg(0, 179.5, 0, -179.5) == pytest.approx(90)


def test_turns_are_the_smaller_angle() -> None:
    """350 to 10 is 20, and order says nothing."""
    assert turn_deg(350, 10) == pytest.approx(20)
    assert turn_deg(10, 350) == pytest.approx(20)
    assert turn_deg(0, 180) == pytest.approx(180)
    assert turn_deg(90, 90) == 0


@given(LAT, LON, st.floats(0, 359.9), st.floats(1, 2_000_000))
def test_who_sets_out_arrives(lat: float, lon: float, bearing: float, far_m: float) -> None:
    """The place so far that way is that far, and lies that way."""
    there = destination(lat, lon, bearing, far_m)
    assert distance_m(lat, lon, *there) == pytest.approx(far_m, rel=1e-6, abs=0.01)
    if far_m > 1_000:
        assert turn_deg(bearing_deg(lat, lon, *there), bearing) < 0.01


@given(st.floats(-60, 60), LON, st.floats(0, 359.9), st.floats(1, 50_000))
def test_the_plane_is_near_the_globe(lat: float, lon: float, bearing: float, far_m: float) -> None:
    """Within a city's reach distances agree to a percent, and a point goes there and back."""
    plane = Plane(lat, lon)
    x, y = plane.xy(*destination(lat, lon, bearing, far_m))
    assert (x * x + y * y) ** 0.5 == pytest.approx(far_m, rel=0.02)
    back = plane.place(x, y)
    assert distance_m(*back, *destination(lat, lon, bearing, far_m)) == pytest.approx(0, abs=0.01)


def test_the_plane_crosses_the_antimeridian() -> None:
    """A kilometre east of 179.999 is a kilometre east."""
    plane = Plane(0, 179.999)
    x, y = plane.xy(0, -179.999)
    assert (x, y) == pytest.approx((222.4, 0), abs=0.1)
    assert plane.place(x, y)[1] == pytest.approx(-179.999)
    assert wrap_lon(180) == -180


def test_the_nearest_point_of_a_segment() -> None:
    """Beside it, before it, behind it, and of one without length."""
    assert nearest(5, 3, 0, 0, 10, 0) == (0.5, 3)
    assert nearest(-4, 3, 0, 0, 10, 0) == (0.0, 5)
    assert nearest(13, 4, 0, 0, 10, 0) == (1.0, 5)
    assert nearest(3, 4, 0, 0, 0, 0) == (0.0, 5)
