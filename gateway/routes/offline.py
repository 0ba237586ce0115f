"""Routes of nobody: straight lines and usual speeds, where no provider is asked, or none answers.

The plan's own polyline where it has one; else great circles, with roads taken to be longer than those by a factor (about
1.3 for roads: Ballou, Rahardja and Sakai, 2002, "Selected country circuity factors"). Never fails, costs nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import ceil, cos, radians, sqrt
from typing import Final, NamedTuple

from core.geo.route_calls import OFFLINE
from core.geo.routing import Ask, Mode, Place, Shape, Snapshot, pieces_m
from core.geo.sphere import M_PER_DEGREE, bearing_deg, destination, distance_m

PIECE_M: Final = 5_000.0
PIECES_MAX: Final = 64
"""Of one straight line."""
WAY_POINTS_MAX: Final = 4_000
"""Of a plan's polyline that are looked at: 1 ms a stop."""
NEAR_M: Final = 30.0


class Usual(NamedTuple):
    speed_mps: float
    detour: float
    """How many times as far it is as straight."""


USUAL: Final[Mapping[Mode, Usual]] = {
    "foot": Usual(1.35, 1.25),
    "bike": Usual(4.2, 1.3),
    "car": Usual(9.0, 1.35),
    "bus": Usual(6.0, 1.4),
    "truck": Usual(9.0, 1.35),
    "train": Usual(22.0, 1.2),
    "ship": Usual(7.0, 1.15),
    "aircraft": Usual(210.0, 1.03),
    "any": Usual(9.0, 1.3),
}


class Offline:
    shareable = True

    def __init__(self, wall: Callable[[], float]) -> None:
        self.name = OFFLINE
        self.modes: frozenset[Mode] = frozenset(USUAL)
        self._wall = wall

    async def route(self, ask: Ask) -> Snapshot:
        return self.guess(ask)

    def guess(self, ask: Ask) -> Snapshot:
        usual, way = USUAL[ask.mode], thinned_way(ask.way)
        shape = Shape(self.name)
        legs_m: list[float] = []

        def go(points: list[Place], detour: float) -> None:
            pieces = [detour * piece_m for piece_m in pieces_m(points)]
            shape.add(points, [piece_m / usual.speed_mps for piece_m in pieces])
            legs_m.extend(pieces)

        here, at = ask.points[0], 0
        for place in ask.points[1:]:
            if way:
                start = _nearest(way, here, at)
                at = _nearest(way, place, start)
                go(_straight(here, way[start]), usual.detour)
                go(list(way[start : at + 1]), 1.0)
                here = way[at]
            go(_straight(here, place), usual.detour)
            shape.stop()
            here = place
        if not legs_m:
            legs_m.append(0.0)  # from a place to itself
        return shape.snapshot(ask, int(1000 * self._wall()), legs_m=legs_m)


def _nearest(way: Sequence[Place], place: Place, start: int) -> int:
    """Which point of the way, from that one on, is nearest: the first that is not farther than the nearest by more than
    `NEAR_M`, so that of a street driven twice the first time counts."""
    lat, lon = place
    kx = cos(radians(lat))
    off2 = [(a - lat) ** 2 + (((b - lon + 180.0) % 360.0 - 180.0) * kx) ** 2 for a, b in islice(way, start, None)]
    enough2 = (sqrt(min(off2)) + NEAR_M / M_PER_DEGREE) ** 2
    return start + next(at for at, each2 in enumerate(off2) if each2 <= enough2)


def _straight(a: Place, b: Place) -> list[Place]:
    """Along the great circle, in pieces that are nearly straight on a map, too."""
    far_m = distance_m(*a, *b)
    if a == b:
        return [a]
    count = max(1, min(PIECES_MAX, ceil(far_m / PIECE_M)))
    bearing = bearing_deg(*a, *b)
    return [a, *(destination(*a, bearing, far_m * k / count) for k in range(1, count)), b]


def thinned_way(way: Sequence[Place]) -> Sequence[Place]:
    """Each nth point, both ends kept: a guess is not better for more."""
    step = ceil(len(way) / WAY_POINTS_MAX)
    return way if step <= 1 else (*way[:-1:step], way[-1])
