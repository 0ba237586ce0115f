"""Tracks with fewer points: Douglas and Peucker's way, in pieces, so that no track costs more than its length deserves.

The way: of a stretch its two ends are kept; where some point is further from the line between them than the tolerance, the
furthest is kept too, and either side is a stretch again. A track that winds evilly makes that quadratic; so it is done in
pieces of `PIECE` points, whose ends are kept (one point more in a hundred), which bounds it at `PIECE` looks a point.

For: whoever shows a track. Promises: the first and last point stay; no point that goes is further from what stays than the
tolerance; the antimeridian is no edge. Does not: smooth, or move a point.

Source: Douglas & Peucker 1973, doi:10.3138/FM57-6770-U75U-7727.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.geo.sphere import Plane, nearest

PIECE: Final = 128
"""A plane for each: at a fix in 10 s some 20 minutes."""


def kept(points: Sequence[tuple[float, float]], tolerance_m: float) -> list[int]:
    """Which of the points (latitude, longitude) stay, ascending. All do where the tolerance is not above 0."""
    count = len(points)
    if tolerance_m <= 0 or count < 3:
        return list(range(count))
    stays = [0]
    for first in range(0, count - 1, PIECE):
        last = min(first + PIECE, count - 1)
        stays += _piece(points, first, last, tolerance_m)
    return stays


def _piece(points: Sequence[tuple[float, float]], first: int, last: int, tolerance_m: float) -> list[int]:
    """Those that stay after the first, with the last."""
    plane = Plane(*points[first])
    xy = [plane.xy(*points[at]) for at in range(first, last + 1)]
    stays: list[int] = []
    stretches = [(0, last - first)]
    while stretches:
        a, b = stretches.pop()
        (ax, ay), (bx, by) = xy[a], xy[b]
        far_m, far = tolerance_m, 0
        for at in range(a + 1, b):
            off_m = nearest(*xy[at], ax, ay, bx, by)[1]
            if off_m > far_m:
                far_m, far = off_m, at
        if far:
            stretches += ((far, b), (a, far))  # what comes first is looked at first
        else:
            stays.append(first + b)
    return stays
