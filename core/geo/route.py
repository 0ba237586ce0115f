"""Routes: the planned way of a trip as a provider gave it, kept as it was, with what is known of its times.

A snapshot: a trip's arrival times refer to one route until it is given another one (`Estimator.reroute`), so that nothing that
a provider says later changes what was shown.

For: providers (who make them), `core.geo.way` (which measures on them). Promises: a `Route` that exists can be used: finite
places, at least two, lengths that fit. What is wrong is a sentence. Does not: fetch, match, or keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Final, NamedTuple

from core.geo.sphere import distance_m

POINTS_MAX: Final = 20_000  # some 1,000 km at a point every 50 m; a longer way is thinned by whoever asks for it
STOPS_MAX: Final = 500
NAME_MAX: Final = 200


class Stop(NamedTuple):
    name: str
    at_m: float
    """Along the route, from its start."""


class Route(NamedTuple):
    """`points` are (latitude, longitude); `leg_s[i]` is how long the provider takes points[i] to points[i + 1] to be, or
    ``None``."""

    points: tuple[tuple[float, float], ...]
    cum_m: tuple[float, ...]
    leg_s: tuple[float | None, ...]
    stops: tuple[Stop, ...]
    source: str

    @property
    def length_m(self) -> float:
        return self.cum_m[-1]

    def stop(self, name: str) -> Stop | None:
        return next((stop for stop in self.stops if stop.name == name), None)


def make_route(
    points: Sequence[Sequence[float]],
    *,
    leg_s: Sequence[float | None] | None = None,
    stops: Sequence[Stop] = (),
    source: str = "given",
) -> Route | str:
    """A route of these points, or what is wrong with them."""
    if not 2 <= len(points) <= POINTS_MAX:
        return f"a route has 2 to {POINTS_MAX} points, not {len(points)}"
    for at, point in enumerate(points):
        if len(point) != 2 or not (abs(point[0]) <= 90.0 and abs(point[1]) <= 180.0):
            return f"point {at} of the route is no latitude and longitude"
    legs: tuple[float | None, ...] = (None,) * (len(points) - 1) if leg_s is None else tuple(leg_s)
    if len(legs) != len(points) - 1:
        return f"a route of {len(points)} points has {len(points) - 1} times of legs, not {len(legs)}"
    for at, leg in enumerate(legs):
        if leg is not None and not (isfinite(leg) and leg >= 0.0):
            return f"the time of leg {at} of the route is no number of seconds"
    cum = [0.0]
    for (lat1, lon1), (lat2, lon2) in pairwise(points):
        cum.append(cum[-1] + distance_m(lat1, lon1, lat2, lon2))
    if len(stops) > STOPS_MAX:
        return f"a route has at most {STOPS_MAX} stops, not {len(stops)}"
    for stop in stops:
        if not 0 < len(stop.name) <= NAME_MAX:
            return f"the name of a stop has 1 to {NAME_MAX} characters"
        if not 0.0 <= stop.at_m <= cum[-1] + 1.0:
            return f"the stop {stop.name} lies beyond the route's end"
    if len({stop.name for stop in stops}) < len(stops):
        return "two stops of a route have one name"
    kept = tuple((float(lat), float(lon)) for lat, lon in points)
    return Route(kept, tuple(cum), legs, tuple(stops), source)
