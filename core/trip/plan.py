"""A trip's plan: who goes how, past which stops, by what route; read from a command and from the fact it became.

For: `core.trip.state` and whoever computes with a plan. Promises: a plan that was read has places that exist, stops each
once, and a route that can be decoded; a fact is not measured again, so that what was taken once still folds. Does not: match
or time (`core.geo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core.flight.body import Fields
from core.flight.times import write
from core.geo.polyline import decode
from core.model import PRINCIPAL_RE

MODES: Final = ("foot", "bike", "car", "bus", "truck", "train", "ship", "aircraft")
STOPS_MAX: Final = 50
FENCES_MAX: Final = 50
"""Of one trip's own; a tenant's fences that name no trip count in it anyhow."""
POLYLINE_CHARS_MAX: Final = 40_000
"""Some 5,000 points; with the rest of the plan it must fit into one event. A longer way is thinned by whoever plans it."""
POLYLINE_PRECISION: Final = 6
LEG_S_MAX: Final = 30 * 86_400

_STOP: Final = frozenset(("stop", "name", "lat", "lon", "at"))
_ROUTE: Final = frozenset(("polyline", "legs_s", "source"))


class Stop(NamedTuple):
    """``at_ms``: when the trip is planned to be there."""

    stop: str
    name: str
    lat: float
    lon: float
    at_ms: int | None


class PlannedRoute(NamedTuple):
    """``polyline`` is encoded with six decimals; ``legs_s`` are seconds from each of its points to the next, as ``source``
    gave them, empty where it gave none."""

    polyline: str
    legs_s: tuple[float | None, ...]
    source: str


class Plan(NamedTuple):
    mode: str
    subject: str
    stops: tuple[Stop, ...]
    route: PlannedRoute | None
    fences: tuple[str, ...]
    note: str

    def json(self) -> dict[str, Any]:
        """As facts and people see it; what was not said is left out."""
        told: dict[str, Any] = {"mode": self.mode, "subject": self.subject, "stops": [_shown(s) for s in self.stops]}
        if self.route is not None:
            legs = {"legs_s": list(self.route.legs_s)} if self.route.legs_s else {}
            told["route"] = {"polyline": self.route.polyline, **legs, "source": self.route.source}
        if self.fences:
            told["fences"] = list(self.fences)
        if self.note:
            told["note"] = self.note
        return told


def _shown(stop: Stop) -> dict[str, Any]:
    shown: dict[str, Any] = {"stop": stop.stop}
    if stop.name:
        shown["name"] = stop.name
    shown |= {"lat": stop.lat, "lon": stop.lon}
    if stop.at_ms is not None:
        shown["at"] = write(stop.at_ms)
    return shown


def number(fields: Fields, name: str, low: float, high: float) -> float:
    value = fields.raw(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    fields.bad(name, f"must be a number from {low:g} to {high:g}")
    return low


def principal(fields: Fields, name: str, kinds: tuple[str, ...]) -> str:
    value = fields.raw(name)
    if isinstance(value, str) and PRINCIPAL_RE.match(value) and value.startswith(kinds):
        return value
    fields.bad(name, f"must be a principal such as {' or '.join(f'{kind}NAME' for kind in kinds)}")
    return ""


def read_plan(fields: Fields, *, trusted: bool = False) -> Plan:
    """What the body says; ``fields.problem`` where that is no plan. ``trusted``: it is a fact's, whose route was decoded
    before it was taken."""
    return Plan(
        fields.one_of("mode", MODES),
        principal(fields, "subject", ("device:", "user:")),
        _stops(fields),
        _route(fields, trusted),
        tuple(fields.identities("fences", FENCES_MAX)),
        fields.text("note", ""),
    )


def _stops(fields: Fields) -> tuple[Stop, ...]:
    listed = fields.raw("stops")
    if not isinstance(listed, list) or not 1 <= len(listed) <= STOPS_MAX:
        fields.bad("stops", f"must be a list of 1 to {STOPS_MAX} stops")
        return ()
    stops: dict[str, Stop] = {}
    for nth, told in enumerate(listed):
        if not isinstance(told, Mapping) or not told.keys() <= _STOP:
            fields.bad(f"stops[{nth}]", f"must be an object of {', '.join(sorted(_STOP))}")
            return ()
        inner = Fields(told)
        stop = Stop(
            inner.identity("stop"),
            inner.text("name", ""),
            round(number(inner, "lat", -90, 90), 7),
            round(number(inner, "lon", -180, 180), 7),
            inner.instant("at") if inner.has("at") else None,
        )
        if stop.stop in stops:
            inner.bad("stop", f"{stop.stop} is another stop's too; give each its own")
        if inner.problem:
            fields.bad(f"stops[{nth}]", f"is not well: {inner.problem}")
            return ()
        stops[stop.stop] = stop
    return tuple(stops.values())


def _route(fields: Fields, trusted: bool) -> PlannedRoute | None:
    told = fields.raw("route")
    if told is None:
        return None
    if not isinstance(told, Mapping) or not told.keys() <= _ROUTE:
        fields.bad("route", f"must be an object of {', '.join(sorted(_ROUTE))}")
        return None
    polyline, legs, source = told.get("polyline"), told.get("legs_s"), Fields(told).text("source", "plan")
    if not isinstance(polyline, str) or not 0 < len(polyline) <= POLYLINE_CHARS_MAX:
        fields.bad("route.polyline", f"must be an encoded polyline of at most {POLYLINE_CHARS_MAX} characters")
        return None
    parts = 0
    if not trusted:
        points = decode(polyline, POLYLINE_PRECISION)
        if isinstance(points, str):
            fields.bad("route.polyline", f"is none: {points}")
            return None
        if len(points) < 2 or not all(abs(lat) <= 90 and abs(lon) <= 180 for lat, lon in points):
            fields.bad(
                "route.polyline", f"must have two points or more of the earth, with {POLYLINE_PRECISION} decimals"
            )
            return None
        parts = len(points) - 1
    legs = [] if legs is None else legs
    if not isinstance(legs, list) or not all(_leg(leg) for leg in legs):
        fields.bad("route.legs_s", "must be a list of seconds, null where nobody knows")
        return None
    if legs and not trusted and len(legs) != parts:
        # A router's legs from stop to stop would be taken for the first parts of the way.
        says = f"must be seconds from each point of the polyline to the next: {parts} of them, not {len(legs)}"
        fields.bad("route.legs_s", says)
        return None
    if not source:
        fields.bad("route.source", "must be a line that says who made the route")
    return PlannedRoute(polyline, tuple(legs), source)


def _leg(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LEG_S_MAX)
