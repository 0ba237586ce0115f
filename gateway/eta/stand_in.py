"""A provider of routes for trips that were made: it answers with the way that the trip then took, from where it is, with times
by the learned pace, until it dies. And plans that are wrong in the middle, so that trips leave their ways.

For: `gateway.eta.served`. Promises: nothing of a trip's own times is in an answer; where the plan is wrong the provider is
wrong with it until the trip has left that way, as one is who cannot know what a driver will do. Does not: count calls, wait.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import pairwise
from math import hypot
from typing import Final

from core.geo.estimate import Fixed
from core.geo.match import Matcher
from core.geo.pace import Expected, Pace
from core.geo.route import Route, make_route
from core.geo.routing import Ask, Snapshot, pieces_m
from core.geo.sphere import Plane
from core.geo.way import Way
from gateway.eta.trips import Trip
from gateway.routes.offline import Offline

NAME: Final = "stand-in"
AWAY_M: Final = 400.0
"""How far beside the way a wrong plan lies, where it does not cut the corner."""


def wrong_plan(trip: Trip, part: float, seed: int) -> Route | None:
    """For that part of trips a plan whose middle third is another way, beside the real one or straight; ``None`` for others."""
    draw = random.Random(f"{seed} wrong {trip.name}")
    points = trip.route.points
    if draw.random() >= part or len(points) < 6:
        return None
    from_at, to_at = len(points) // 3, 2 * len(points) // 3
    if draw.random() < 0.5:
        middle: list[tuple[float, float]] = []
    else:
        plane = Plane(*points[len(points) // 2])
        (ax, ay), (bx, by) = plane.xy(*points[from_at]), plane.xy(*points[to_at])
        long = hypot(bx - ax, by - ay) or 1.0
        side = draw.choice((-AWAY_M, AWAY_M))
        over_x, over_y = -side * (by - ay) / long, side * (bx - ax) / long
        beside = (plane.xy(*point) for point in points[from_at + 1 : to_at])
        middle = [plane.place(x + over_x, y + over_y) for x, y in beside]
    route = make_route([*points[: from_at + 1], *middle, *points[to_at:]], source="history")
    return route if isinstance(route, Route) else None


class _Driven:
    """A way, and how far the vehicle is on it."""

    def __init__(self, route: Route, pace: Pace | None, week_s: float) -> None:
        self.way = Way(route)
        self.matcher = Matcher(self.way)
        self._expected = Expected(self.way, pace, week_s, "car")

    def moved(self, fix: Fixed, after_s: float) -> None:
        self.matcher.take(*self.way.plane.xy(fix.lat, fix.lon), after_s)

    def rest(self, made_ms: int) -> Snapshot:
        route = self.way.route
        at_m = max(0.0, min(self.matcher.at_m, route.length_m - 1.0))
        first = bisect_right(route.cum_m, at_m)
        points = (self.way.plane.place(*self.way.place(at_m)), *route.points[first:])
        times = [self._expected.at(each_m) for each_m in (at_m, *route.cum_m[first:])]
        legs_s = tuple(max(0.0, after - before) for before, after in pairwise(times))
        return Snapshot(points, tuple(pieces_m(points)), legs_s, (len(points) - 1,), NAME, made_ms)


class StandIn:
    """Of one trip, whose fixes it is told as they come. ``dead_after_s``: of the trip."""

    def __init__(self, trip: Trip, planned: Route, pace: Pace | None, dead_after_s: float | None) -> None:
        self._driven = _Driven(trip.route, pace, trip.week_s)
        self._planned = self._driven if planned is trip.route else _Driven(planned, pace, trip.week_s)
        self._dead_after_s = dead_after_s
        self._last_s: float | None = None
        self.well_ms = 0
        """When it last answered."""

    def moved(self, fix: Fixed) -> None:
        if self._last_s is not None and fix.at_s <= self._last_s:
            return
        after_s = 0.0 if self._last_s is None else fix.at_s - self._last_s
        self._last_s = fix.at_s
        self._driven.moved(fix, after_s)
        if self._planned is not self._driven:
            self._planned.moved(fix, after_s)

    def dead(self, at_s: float) -> bool:
        return self._dead_after_s is not None and at_s >= self._dead_after_s

    def route(self, ask: Ask, at_s: float, now_ms: int) -> Snapshot:
        """Its way, or, where it is dead, the guess that the gateway makes then."""
        if self.dead(at_s):
            return Offline(lambda: now_ms / 1000).guess(ask)
        self.well_ms = now_ms
        if self._planned.matcher.off_route:
            self._planned = self._driven
        return self._planned.rest(now_ms)
