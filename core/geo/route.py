"""Routes: the planned way of a trip as a provider gave it, kept as it was, with what is known of its times.

A snapshot: a trip's arrival times refer to one route until it is given another one (`Estimator.reroute`), so that nothing that
a provider says later changes what was shown.

For: providers (who make them), `core.geo.way` (which measures on them), stores (as JSON). Promises: a `Route` that exists can
be used: finite places, at least two, lengths that fit. Reading errors are sentences. Does not: fetch, match.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Final, NamedTuple

from core.geo.polyline import decode, encode
from core.geo.sphere import distance_m

POINTS_MAX: Final = 20_000  # some 1,000 km at a point every 50 m; a longer way is thinned by whoever asks for it
STOPS_MAX: Final = 500
NAME_MAX: Final = 200
PRECISION: Final = 6


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
    made_ms: int

    @property
    def length_m(self) -> float:
        return self.cum_m[-1]

    def stop(self, name: str) -> Stop | None:
        return next((stop for stop in self.stops if stop.name == name), None)

    def json(self) -> dict[str, object]:
        """For a store; places are rounded to some 10 cm."""
        return {
            "polyline": encode(self.points, PRECISION),
            "precision": PRECISION,
            "leg_s": list(self.leg_s) if any(leg is not None for leg in self.leg_s) else None,
            "stops": [[stop.name, round(stop.at_m, 1)] for stop in self.stops],
            "source": self.source,
            "made_ms": self.made_ms,
        }


def make_route(
    points: Sequence[Sequence[float]],
    *,
    leg_s: Sequence[float | None] | None = None,
    stops: Sequence[Stop] = (),
    source: str = "given",
    made_ms: int = 0,
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
    return Route(kept, tuple(cum), legs, tuple(stops), source, made_ms)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_route(body: object) -> Route | str:
    """What `Route.json` wrote, or what is wrong with it."""
    if not isinstance(body, Mapping):
        return "a route is a JSON object"
    text, precision, legs = body.get("polyline"), body.get("precision", PRECISION), body.get("leg_s")
    if not isinstance(text, str) or precision not in (5, 6):
        return "a route has a polyline of precision 5 or 6"
    points = decode(text, 5 if precision == 5 else 6)
    if isinstance(points, str):
        return points
    if legs is not None and not (isinstance(legs, list) and all(leg is None or _number(leg) for leg in legs)):
        return "leg_s is a list of seconds"
    stops: list[Stop] = []
    given = body.get("stops", [])
    for stop in given if isinstance(given, list) else [given]:
        if not (isinstance(stop, list) and len(stop) == 2 and isinstance(stop[0], str) and _number(stop[1])):
            return "a stop is its name and its metres along the route"
        stops.append(Stop(stop[0], float(stop[1])))
    source, made_ms = body.get("source", "given"), body.get("made_ms", 0)
    if not isinstance(source, str) or not isinstance(made_ms, int):
        return "a route's source is a text, its made_ms a number of milliseconds"
    return make_route(points, leg_s=legs, stops=stops, source=source, made_ms=made_ms)
