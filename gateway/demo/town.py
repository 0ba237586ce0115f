"""A made-up town, and trips through it, drawn from a seed: for who has no trips of their own at hand.

Streets are a grid of 150 m; every second one is faster. A trip goes from one crossing to another with some turns, at the
speed of its streets, a driver's own pace, and stops at lights; its vehicle says where it is every few seconds, some metres
off.

Promises: the same trips for the same seed. Does not: claim to be like any town; what arrival times are worth is measured on
real trips (docs/eta.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Final

from core.geo.estimate import Fixed
from core.geo.route import Route, make_route
from core.geo.sphere import Plane
from gateway.eta.trips import Trip

CENTRE: Final = (-36.8485, 174.7633)
"""Auckland, the base of the demo's airline, without its streets."""
BLOCK_M: Final = 150.0
BLOCKS: Final = 24
"""From the middle to the edge."""
POINT_M: Final = 50.0
FIX_S: Final = 5.0
NOISE_M: Final = 4.0
LIGHTS: Final = 0.25
"""Of crossings have a light that is red, for up to `RED_S`."""
RED_S: Final = 40.0


def town_trips(count: int, seed: int) -> list[Trip]:
    rng = Random(seed)
    return [_trip(f"t{nth + 1}", f"cab-{nth + 1}", rng) for nth in range(count)]


def _corners(rng: Random) -> list[tuple[int, int]]:
    """Crossings one turns at, from start to end: 4 to 9 km in all."""
    while True:
        x, y, ex, ey = (rng.randint(-BLOCKS, BLOCKS) for _ in range(4))
        if 26 <= abs(ex - x) + abs(ey - y) <= 60 and ex != x and ey != y:
            break
    corners = [(x, y)]
    turns = rng.randint(1, 3)
    for nth in range(1, turns + 1):
        corners.append((x + (ex - x) * nth // turns, corners[-1][1]))
        corners.append((corners[-1][0], y + (ey - y) * nth // turns))
    return [corner for nth, corner in enumerate(corners) if nth == 0 or corner != corners[nth - 1]]


def _pieces(corners: list[tuple[int, int]]) -> Iterator[tuple[float, float, float]]:
    """From block to block: where each ends, and how fast its street is (m/s)."""
    for (ax, ay), (bx, by) in pairwise(corners):
        steps = abs(bx - ax) + abs(by - ay)
        street = ay if ax != bx else ax
        speed = 14.0 if street % 2 == 0 else 9.0
        for nth in range(1, steps + 1):
            yield ax + (bx - ax) * nth / steps, ay + (by - ay) * nth / steps, speed


def _trip(name: str, vehicle: str, rng: Random) -> Trip:
    plane = Plane(*CENTRE)
    corners = _corners(rng)
    driver = rng.uniform(0.75, 1.15)
    (x, y), at_s = corners[0], 0.0
    way = [(BLOCK_M * x, BLOCK_M * y)]
    moments = [(0.0, *way[0], 0.0)]
    """When it was where, and how fast."""
    px, py = way[0]
    for bx, by, speed in _pieces(corners):
        ex, ey = BLOCK_M * bx, BLOCK_M * by
        mps = speed * driver * rng.uniform(0.7, 1.1)
        count = round(BLOCK_M / POINT_M)
        for nth in range(1, count + 1):
            qx, qy = px + (ex - px) * nth / count, py + (ey - py) * nth / count
            at_s += POINT_M / mps
            way.append((qx, qy))
            moments.append((at_s, qx, qy, mps))
        px, py = ex, ey
        if rng.random() < LIGHTS:
            at_s += rng.uniform(5.0, RED_S)
            moments.append((at_s, px, py, 0.0))
    route = make_route([plane.place(x, y) for x, y in way], source="town")
    assert isinstance(route, Route), route
    fixes = [_fix(moments, at, plane, rng) for at in _times(at_s, rng)]
    return Trip(name, vehicle, 8 * 3_600.0, route, tuple(fixes), at_s)


def _times(end_s: float, rng: Random) -> Iterator[float]:
    at_s = rng.uniform(0.0, FIX_S)
    while at_s < end_s:
        yield at_s
        at_s += FIX_S
    yield end_s + 1.0


def _fix(moments: list[tuple[float, float, float, float]], at_s: float, plane: Plane, rng: Random) -> Fixed:
    nth = next((i for i, moment in enumerate(moments) if moment[0] >= at_s), len(moments) - 1)
    (start_s, ax, ay, _), (end_s, bx, by, speed) = moments[max(0, nth - 1)], moments[nth]
    part = 1.0 if end_s <= start_s else min(1.0, (at_s - start_s) / (end_s - start_s))
    x, y = ax + part * (bx - ax), ay + part * (by - ay)
    lat, lon = plane.place(x + rng.gauss(0.0, NOISE_M), y + rng.gauss(0.0, NOISE_M))
    return Fixed(at_s, lat, lon, 0.0 if at_s > moments[-1][0] else speed, None, NOISE_M)
