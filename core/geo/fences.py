"""Fences: who came into a place, left it, or stayed; from fixes that are never quite where the subject is.

How it thinks. How far a fix lies inside or outside of a fence is measured in metres, and held against how exact the fix is:
only one that is clearly on a side votes for it. Two votes in a row, or one that is very clear, and the subject is there;
when it got there is the first of them. So a subject that stands on the edge does not come and go with every fix, and one
that passes quickly is noticed. A fence smaller than the fix is exact is entered in its middle half.

Which fences may be near is looked up in grids, one for each size of fence, in which a fence has at most four cells: finding
none costs a look into each grid, however many fences there are.

For: whoever has positions. Promises: total for any finite numbers; the antimeridian is no edge; enter and exit alternate,
with times that rise; a fix older than the last one changes nothing. Does not: tell anybody, or look at a clock: who stays is
noticed at a fix.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, floor, radians
from typing import Final, Literal, NamedTuple

from core.geo.sphere import M_PER_DEGREE, Plane, distance_m, nearest
from core.tracks import Fence

ACC_M: Final = 15.0
"""How exact a fix is that does not say it: a phone's in a street."""
ACC_M_MIN: Final = 5.0
ACC_M_MAX: Final = 200.0
"""A fix less exact than that votes for nothing: it is a mast's position, not the subject's."""
CLEAR: Final = 3.0
"""So many times further than it is inexact, one fix is enough."""
POINTS_MAX: Final = 1_000
"""Of one polygon: 0.3 ms to measure, for whoever is near it."""
RADIUS_M_MAX: Final = 500_000.0

_LEVELS: Final = 24
"""Grids halve from the whole earth to cells of some 2 m."""

What = Literal["enter", "exit", "dwell"]


class Crossing(NamedTuple):
    """``at_ms`` is when it happened, as far as fixes say."""

    fence: str
    what: What
    at_ms: int


class _Shape:
    """A fence, ready to be measured."""

    __slots__ = ("corners", "depth_m", "fence", "high_lat", "lat", "lon", "low_lat", "plane", "reach_deg")

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self.lat, self.lon = fence.points[0]
        self.plane = Plane(self.lat, self.lon)
        self.corners = [self.plane.xy(lat, lon) for lat, lon in fence.points] if len(fence.points) > 2 else []
        if self.corners:
            xs, ys = [x for x, _ in self.corners], [y for _, y in self.corners]
            self.depth_m = min(max(xs) - min(xs), max(ys) - min(ys)) / 2
            south, north, aside = min(ys), max(ys), max(abs(x) for x in xs)
        else:
            self.depth_m = aside = north = fence.radius_m
            south = -north
        self.low_lat = self.lat + (south - ACC_M_MAX) / M_PER_DEGREE
        self.high_lat = self.lat + (north + ACC_M_MAX) / M_PER_DEGREE
        # A polygon is flat in its plane, so its east and west are where that says; a circle is widest towards the pole.
        at_lat = abs(self.lat) if self.corners else max(abs(self.low_lat), abs(self.high_lat))
        narrow = cos(radians(min(at_lat, 90.0)))
        self.reach_deg = 180.0 if narrow < 1e-6 else min(180.0, (aside + ACC_M_MAX) / (M_PER_DEGREE * narrow))

    def near(self, lat: float, lon: float) -> bool:
        return self.low_lat <= lat <= self.high_lat and abs((lon - self.lon + 180.0) % 360.0 - 180.0) <= self.reach_deg

    def outside_m(self, lat: float, lon: float) -> float:
        """How far outside of the edge; less than 0: inside."""
        if not self.corners:
            return distance_m(self.lat, self.lon, lat, lon) - self.fence.radius_m
        x, y = self.plane.xy(lat, lon)
        inside, off_m = False, 1e9
        ax, ay = self.corners[-1]
        for bx, by in self.corners:
            if (ay > y) is not (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                inside = not inside
            off_m = min(off_m, nearest(x, y, ax, ay, bx, by)[1])
            ax, ay = bx, by
        return -off_m if inside else off_m


def problem(fence: Fence) -> str:
    """What is wrong with a fence, in a few words; empty where nothing is."""
    count = len(fence.points)
    if not all(-90 <= lat <= 90 and -180 <= lon <= 180 for lat, lon in fence.points):
        return "points: latitudes from -90 to 90, longitudes from -180 to 180"
    if fence.radius_m:
        if count != 1 or not 1 <= fence.radius_m <= RADIUS_M_MAX:
            return f"a circle is one point and radius_m from 1 to {RADIUS_M_MAX:.0f}"
        return ""
    if not 3 <= count <= POINTS_MAX:
        return f"a polygon is 3 to {POINTS_MAX} points, and a circle has a radius_m"
    lat, lon = fence.points[0]
    if any(distance_m(lat, lon, *point) > 2 * RADIUS_M_MAX for point in fence.points):
        return f"no point of a polygon is further than {2 * RADIUS_M_MAX:.0f} m from its first"
    return ""


class Fences:
    """Of one tenant, as they are now; made anew when one changes."""

    def __init__(self, fences: Iterable[Fence]) -> None:
        self.shapes = {fence.fence: _Shape(fence) for fence in fences}
        grids: dict[int, dict[tuple[int, int], list[_Shape]]] = {}
        for shape in self.shapes.values():
            wide = max(2 * shape.reach_deg, shape.high_lat - shape.low_lat)
            level = next((one for one in range(_LEVELS, 0, -1) if 360.0 / (1 << one) >= wide), 0)
            cells = grids.setdefault(level, {})
            for cell in _cells(shape, level):
                cells.setdefault(cell, []).append(shape)
        self._grids = [((1 << level) / 360.0, (1 << level), cells) for level, cells in sorted(grids.items())]

    def near(self, lat: float, lon: float) -> list[_Shape]:
        """Those of which the place is in their box, with `ACC_M_MAX` around it."""
        found: list[_Shape] = []
        north, east = lat + 90.0, lon + 180.0
        for per_deg, count, cells in self._grids:
            here = cells.get((int(north * per_deg), int(east * per_deg) % count))
            if here is not None:
                found += [shape for shape in here if shape.near(lat, lon)]
        return found


def _cells(shape: _Shape, level: int) -> set[tuple[int, int]]:
    """At most two rows of two; on the whole earth one."""
    count = 1 << level
    per_deg = count / 360.0
    rows = {max(0, floor((lat + 90.0) * per_deg)) for lat in (shape.low_lat, shape.high_lat)}
    columns = {floor((shape.lon + part * shape.reach_deg + 180.0) * per_deg) % count for part in (-1, 0, 1)}
    return {(row, column) for row in rows for column in columns}


class _At:
    """A subject and a fence that it is in or may be coming into. ``since_ms`` is when it entered; ``votes_ms`` when the
    first of the votes for the other side was, 0 where there is none."""

    __slots__ = ("dwelt", "inside", "since_ms", "votes_ms")

    def __init__(self, inside: bool = False, since_ms: int = 0, votes_ms: int = 0, dwelt: bool = False) -> None:
        self.inside = inside
        self.since_ms = since_ms
        self.votes_ms = votes_ms
        self.dwelt = dwelt


class Watch:
    """Of one subject in one stream."""

    __slots__ = ("_at", "_last_ms")

    def __init__(self) -> None:
        self._at: dict[str, _At] = {}
        self._last_ms = 0

    @property
    def inside(self) -> list[str]:
        return [fence for fence, at in self._at.items() if at.inside]

    def step(
        self, fences: Fences, stream: str, at_ms: int, lat: float, lon: float, acc: float | None = None
    ) -> list[Crossing]:
        """What a fix says, in order of its times."""
        if at_ms <= self._last_ms:
            return []
        self._last_ms = at_ms
        shapes = fences.near(lat, lon)
        if not shapes and not self._at:
            return []
        exact_m = ACC_M if acc is None else acc
        found: list[Crossing] = []
        here: set[str] = set()
        for shape in shapes:
            fence = shape.fence
            if not fence.streams or stream in fence.streams:
                here.add(fence.fence)
                if exact_m <= ACC_M_MAX:
                    self._measure(shape, at_ms, shape.outside_m(lat, lon), max(exact_m, ACC_M_MIN), found)
        for name in [name for name in self._at if name not in here]:
            known = fences.shapes.get(name)
            if known is None or (known.fence.streams and stream not in known.fence.streams):
                del self._at[name]  # the fence is no more, or is none here: nobody left it
            elif exact_m <= ACC_M_MAX:
                self._measure(known, at_ms, ACC_M_MAX * CLEAR, ACC_M_MIN, found)
        found.sort(key=lambda crossing: crossing.at_ms)
        return found

    def _measure(self, shape: _Shape, at_ms: int, outside_m: float, exact_m: float, found: list[Crossing]) -> None:
        name, dwell_ms = shape.fence.fence, 1000 * shape.fence.dwell_s
        at = self._at.get(name)
        if at is None:
            at = _At()
        if at.inside:
            votes, clear = outside_m >= exact_m, outside_m >= CLEAR * exact_m
        else:
            votes = outside_m <= -min(exact_m, shape.depth_m / 2)
            clear = outside_m <= -CLEAR * exact_m
        if not votes:
            at.votes_ms = 0
        elif clear or at.votes_ms:
            since_ms = at.votes_ms or at_ms
            if at.inside and dwell_ms and not at.dwelt and since_ms - at.since_ms >= dwell_ms:
                found.append(Crossing(name, "dwell", at.since_ms + dwell_ms))
            at.inside, at.since_ms, at.votes_ms, at.dwelt = not at.inside, since_ms, 0, False
            found.append(Crossing(name, "enter" if at.inside else "exit", since_ms))
        else:
            at.votes_ms = at_ms
        if at.inside and dwell_ms and not at.dwelt and not at.votes_ms and at_ms - at.since_ms >= dwell_ms:
            at.dwelt = True
            found.append(Crossing(name, "dwell", at.since_ms + dwell_ms))
        if at.inside or at.votes_ms:
            self._at[name] = at
        else:
            self._at.pop(name, None)
