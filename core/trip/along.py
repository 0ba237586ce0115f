"""Where the stops of a plan lie on the way that it was given with.

For: `core.trip.arriving`. Promises: rising metres, the last at the end. Does not: look for another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from core.geo.route import Route, Stop
from core.geo.sphere import Plane, nearest


def stops_along(route: Route, stops: Sequence[tuple[str, float, float]]) -> tuple[Stop, ...]:
    """Where stops (name, latitude, longitude) lie on a way that leads past them in this order: each at the nearest place that
    is not before the last one's; the last at the end."""
    plane = Plane(*route.points[len(route.points) // 2])
    xy = [plane.xy(lat, lon) for lat, lon in route.points]
    found: list[Stop] = []
    from_m = 0.0
    for name, lat, lon in stops[:-1]:
        x, y = plane.xy(lat, lon)
        best_m, best_off = from_m, inf
        for (ax, ay), (bx, by), start_m, end_m in zip(xy, xy[1:], route.cum_m, route.cum_m[1:], strict=False):
            if end_m >= from_m:
                part, off = nearest(x, y, ax, ay, bx, by)
                at_m = max(from_m, start_m + part * (end_m - start_m))
                if off < best_off:
                    best_m, best_off = at_m, off
        found.append(Stop(name, best_m))
        from_m = best_m
    found.append(Stop(stops[-1][0], route.length_m))
    return tuple(found)
