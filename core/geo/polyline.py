"""Encoded polylines: a way as short text, as OSRM (precision 5 or 6), Valhalla (6) and Google (5) write it.

The format: each coordinate times 10^precision, rounded, as the difference from the one before; zigzag, then five bits a
character, lowest first, plus 63. Source: https://developers.google.com/maps/documentation/utilities/polylinealgorithm.

For: `core.geo.route` and providers. Promises: what cannot be read is a sentence, not an exception; a text of any length is
read in one pass. Does not: fetch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MAX_VALUE: Final = 1 << 40  # far beyond 180 degrees at precision 9: stops a hostile text from making huge integers


def encode(points: Iterable[tuple[float, float]], precision: int = 5) -> str:
    """Latitude and longitude pairs as text."""
    scale: int = 10**precision
    out: list[str] = []
    was_lat = was_lon = 0
    for lat, lon in points:
        at_lat, at_lon = round(lat * scale), round(lon * scale)
        for step in (at_lat - was_lat, at_lon - was_lon):
            left = ~(step << 1) if step < 0 else step << 1
            while left >= 0x20:
                out.append(chr((0x20 | (left & 0x1F)) + 63))
                left >>= 5
            out.append(chr(left + 63))
        was_lat, was_lon = at_lat, at_lon
    return "".join(out)


def decode(text: str, precision: int = 5) -> list[tuple[float, float]] | str:
    """The points of an encoded polyline, or what is wrong with it."""
    scale: int = 10**precision
    numbers: list[int] = []
    value = shift = 0
    for at, char in enumerate(text):
        bits = ord(char) - 63
        if not 0 <= bits < 64:
            return f"character {at} of the polyline is none that polylines are made of"
        value |= (bits & 0x1F) << shift
        if value > MAX_VALUE:
            return f"the number that ends at character {at} of the polyline is too large"
        if bits & 0x20:
            shift += 5
            if shift > 60:
                return f"the number at character {at} of the polyline does not end"
        else:
            numbers.append(~(value >> 1) if value & 1 else value >> 1)
            value = shift = 0
    if shift:
        return "the polyline ends within a number"
    if len(numbers) % 2:
        return "the polyline ends between latitude and longitude"
    lat = lon = 0
    points: list[tuple[float, float]] = []
    for step_lat, step_lon in zip(numbers[::2], numbers[1::2], strict=True):
        lat += step_lat
        lon += step_lon
        points.append((lat / scale, lon / scale))
    return points
