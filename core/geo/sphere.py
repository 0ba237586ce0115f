"""Distances, bearings and a flat patch of ground: the geometry that everything here measures with.

Positions are WGS 84 degrees, distances metres on a sphere of the mean radius (IUGG: 6,371,008.8 m), which is at most 0.6 % off
the ellipsoid; bearings are degrees clockwise from north, 0 up to but not 360.

For: whoever asks "how far" and "which way". Promises: total for any finite numbers; the antimeridian is no edge. Does not:
heights, roads.
"""

from __future__ import annotations

from math import asin, atan2, cos, degrees, hypot, radians, sin, sqrt
from typing import Final

EARTH_M: Final = 6_371_008.8
"""Mean radius, R1 of the IUGG."""
M_PER_DEGREE: Final = EARTH_M * 0.017453292519943295
"""Of latitude: some 111.2 km."""


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Along the great circle (haversine: right for centimetres, too)."""
    a, b = radians(lat1), radians(lat2)
    up, over = sin((b - a) / 2), sin(radians(lon2 - lon1) / 2)
    return 2 * EARTH_M * asin(min(1.0, sqrt(up * up + cos(a) * cos(b) * over * over)))


def bearing_deg(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Which way to set out for the second place; 0 where both are the same."""
    a, b, over = radians(lat1), radians(lat2), radians(lon2 - lon1)
    return degrees(atan2(sin(over) * cos(b), cos(a) * sin(b) - sin(a) * cos(b) * cos(over))) % 360.0


def turn_deg(first: float, second: float) -> float:
    """The smaller angle between two bearings, 0 to 180."""
    return abs((second - first + 180.0) % 360.0 - 180.0)


def destination(lat: float, lon: float, bearing: float, far_m: float) -> tuple[float, float]:
    """Where one is who goes so far that way along the great circle."""
    a, way, angle = radians(lat), radians(bearing), far_m / EARTH_M
    b = asin(max(-1.0, min(1.0, sin(a) * cos(angle) + cos(a) * sin(angle) * cos(way))))
    over = atan2(sin(way) * sin(angle) * cos(a), cos(angle) - sin(a) * sin(b))
    return degrees(b), wrap_lon(lon + degrees(over))


def wrap_lon(lon: float) -> float:
    """The same meridian, -180 up to but not 180."""
    return (lon + 180.0) % 360.0 - 180.0


class Plane:
    """A flat patch around a place: x to the east, y to the north, metres. 0.1 % off at 100 km from it in middle latitudes, and
    far cheaper than the sphere: for routes of a city and what is near them."""

    __slots__ = ("_kx", "lat", "lon")

    def __init__(self, lat: float, lon: float) -> None:
        self.lat = lat
        self.lon = lon
        self._kx = M_PER_DEGREE * cos(radians(lat))

    def xy(self, lat: float, lon: float) -> tuple[float, float]:
        return ((lon - self.lon + 180.0) % 360.0 - 180.0) * self._kx, (lat - self.lat) * M_PER_DEGREE

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Latitude and longitude of a point of the plane. Not for a plane at a pole."""
        return self.lat + y / M_PER_DEGREE, wrap_lon(self.lon + x / self._kx)


def nearest(px: float, py: float, ax: float, ay: float, bx: float, by: float) -> tuple[float, float]:
    """Of the segment from a to b the point nearest to p: which part of the way to b it lies (0 to 1), and how far off p is."""
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    part = 0.0 if length2 == 0.0 else ((px - ax) * dx + (py - ay) * dy) / length2
    part = 0.0 if part < 0.0 else min(part, 1.0)
    return part, hypot(px - ax - part * dx, py - ay - part * dy)
