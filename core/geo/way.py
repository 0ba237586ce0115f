"""Ways: a route measured once, so that every fix on it costs little.

Two chains of its points, thinned by Douglas and Peucker's rule, and one cut into equal pieces:

- the *line* (8 m off at most) is what fixes are matched on: a polyline of 2,000 points every 5 m is some 100 segments;
- the *turns* are where the way bends by more than 45 degrees when thinned to 80 m: junctions, not the noise of a trace. (A
  planned way taken from a trace wriggles where the vehicle stood; what counts turns finer than this reads the future from it.)
- the *pieces* are 100 m each (longer on a way of more than 200 km), so that anything that adds up along the way is one list,
  read at an offset without search.

For: `core.geo.match`, `core.geo.pace`, `core.geo.features`. Promises: at most `PIECES_MAX` pieces. Does not: know times.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from math import atan2, ceil, cos, degrees, pi, radians
from typing import Final, NamedTuple

from core.geo.route import Route
from core.geo.sphere import Plane, turn_deg

LINE_M: Final = 8.0
TURN_M: Final = 80.0
TURN_DEG: Final = 45.0
PIECE_M: Final = 100.0
PIECES_MAX: Final = 2_000  # of 100 m: 200 km; a table of floats this long is 16 kB
SPAN: Final = 512  # points thinned together: the rule takes the square of it where a hostile way splits badly
SECTORS: Final = 4
"""Of headings, centred on east, north, west and south: the two directions of a street are different places."""


class Piece(NamedTuple):
    """A part of the way: its middle, which way it goes, how long the provider says it takes (``None``: it says nothing)."""

    lat: float
    lon: float
    sector: int
    leg_s: float | None


class Way:
    """A measured route. `xs`, `ys`, `at_m` are the line; `piece_m` is how long each piece is."""

    __slots__ = ("at_m", "dx", "dy", "length_m", "piece_m", "pieces", "plane", "route", "turns", "xs", "ys")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.length_m = route.length_m
        middle = route.points[len(route.points) // 2]
        self.plane = Plane(*middle)
        points = [self.plane.xy(lat, lon) for lat, lon in route.points]
        line = thinned(points, LINE_M)
        self.xs = [points[i][0] for i in line]
        self.ys = [points[i][1] for i in line]
        self.at_m = [route.cum_m[i] for i in line]
        self.dx = [b - a for a, b in zip(self.xs, self.xs[1:], strict=False)]
        self.dy = [b - a for a, b in zip(self.ys, self.ys[1:], strict=False)]
        count = max(1, min(PIECES_MAX, ceil(self.length_m / PIECE_M)))
        self.piece_m = max(self.length_m, 1.0) / count
        self.pieces = self._cut(points, count)
        self.turns = self._turns(count)

    def place(self, at_m: float) -> tuple[float, float]:
        """Where on the plane the way is after so many metres."""
        i = min(max(bisect_right(self.at_m, at_m) - 1, 0), len(self.dx) - 1)
        long = self.at_m[i + 1] - self.at_m[i]
        part = 0.0 if long <= 0.0 else min(1.0, max(0.0, (at_m - self.at_m[i]) / long))
        return self.xs[i] + part * self.dx[i], self.ys[i] + part * self.dy[i]

    def _cut(self, points: list[tuple[float, float]], count: int) -> list[Piece]:
        cum, legs = self.route.cum_m, self.route.leg_s
        spent: list[float] = [0.0]  # seconds up to each point where the provider says any, and metres of which it does
        told: list[float] = [0.0]
        for i, leg in enumerate(legs):
            spent.append(spent[-1] + (leg or 0.0))
            told.append(told[-1] + (0.0 if leg is None else cum[i + 1] - cum[i]))
        cuts: list[tuple[float, float, float, float]] = []
        i, last = 0, len(cum) - 2
        for k in range(count + 1):
            at = min(k * self.piece_m, cum[-1])
            while i < last and cum[i + 1] < at:
                i += 1
            long = cum[i + 1] - cum[i]
            part = 0.0 if long <= 0.0 else min(1.0, (at - cum[i]) / long)
            (ax, ay), (bx, by) = points[i], points[i + 1]
            seconds, metres = spent[i] + part * (spent[i + 1] - spent[i]), told[i] + part * (told[i + 1] - told[i])
            cuts.append((ax + part * (bx - ax), ay + part * (by - ay), seconds, metres))
        pieces: list[Piece] = []
        for (ax, ay, before_s, before_m), (bx, by, after_s, after_m) in pairwise(cuts):
            lat, lon = self.plane.place((ax + bx) / 2, (ay + by) / 2)
            sector = int((atan2(by - ay, bx - ax) + pi / SECTORS) // (2 * pi / SECTORS)) % SECTORS
            known_m = after_m - before_m
            leg_s = (after_s - before_s) * self.piece_m / known_m if known_m >= self.piece_m / 2 else None
            pieces.append(Piece(lat, lon, sector, leg_s))
        return pieces

    def _turns(self, count: int) -> list[float]:
        """How many turns there are before the end of each piece; one entry more than there are pieces."""
        xs, ys = self.xs, self.ys
        bends = thinned(list(zip(xs, ys, strict=True)), TURN_M)
        places = [0] * (count + 1)
        for a, b, c in zip(bends, bends[1:], bends[2:], strict=False):
            first, second = atan2(ys[b] - ys[a], xs[b] - xs[a]), atan2(ys[c] - ys[b], xs[c] - xs[b])
            if turn_deg(degrees(first), degrees(second)) > TURN_DEG:
                places[min(count, int(self.at_m[b] / self.piece_m) + 1)] += 1
        return list(accumulate(map(float, places)))


def thinned(points: list[tuple[float, float]], off_m: float) -> list[int]:
    """Which points stay so that none that goes lies farther than that off the line (Douglas and Peucker 1973); on a plane."""
    last = len(points) - 1
    ends = [*range(0, last, SPAN), last]
    keep = set(ends)
    spans = list(pairwise(ends))
    while spans:
        a, b = spans.pop()
        ax, ay = points[a]
        bx, by = points[b]
        vx, vy = bx - ax, by - ay
        long2 = vx * vx + vy * vy
        worst2, at = off_m * off_m, -1
        for i in range(a + 1, b):
            # `sphere.nearest` by hand, without roots: most of what a new route costs
            x, y = points[i]
            x -= ax
            y -= ay
            part = (x * vx + y * vy) / long2 if long2 > 0.0 else 0.0
            if part > 0.0:
                part = 1.0 if part > 1.0 else part
                x -= part * vx
                y -= part * vy
            off2 = x * x + y * y
            if off2 > worst2:
                worst2, at = off2, i
        if at >= 0:
            keep.add(at)
            spans += [(a, at), (at, b)]
    return sorted(keep)


def read_at(sums: list[float], at: float) -> float:
    """A list of sums along the way read between its entries; `at` in pieces."""
    i = int(at)
    if i >= len(sums) - 1:
        return sums[-1]
    low = sums[i]
    return low + (at - i) * (sums[i + 1] - low)


def scale_lon(lat: float) -> float:
    """How much shorter a degree of longitude is there, by whole degrees of latitude: so that cells of one band line up."""
    return max(0.01, cos(radians(round(lat))))
