"""Files of trips: one JSON object a line, as docs/eta.md describes them.

For: `readback eta`. Promises: what cannot be read is a sentence with file and line; a file is read line by line. Does not:
judge fixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import NamedTuple, TypeGuard

import orjson

from core.geo.estimate import Fixed
from core.geo.pace import week_s_of
from core.geo.route import Route, make_route
from gateway.cli_errors import USAGE, CliError

LINE_MAX = 16_000_000  # bytes of one trip: some 400,000 fixes
TRIPS_MAX = 1_000_000  # held in memory while training


class Trip(NamedTuple):
    """`week_s`: where in the local week it began (Monday 0:00). `fixes` are as they came in; `arrive_s` is the truth, from its
    start."""

    name: str
    vehicle: str
    week_s: float
    route: Route
    fixes: tuple[Fixed, ...]
    arrive_s: float


def read_trips(path: Path) -> list[Trip]:
    trips: list[Trip] = []
    names: set[str] = set()
    for number, line in lines_of(path):
        trip = _trip(line)
        if isinstance(trip, str):
            raise CliError(f"{path}, line {number}: {trip}", USAGE)
        if trip.name in names:
            raise CliError(f"{path}, line {number}: trip {trip.name} was there before", USAGE)
        if len(trips) >= TRIPS_MAX:
            raise CliError(f"{path} has more than {TRIPS_MAX} trips; take a part of them", USAGE)
        names.add(trip.name)
        trips.append(trip)
    if not trips:
        raise CliError(f"{path} has no trips", USAGE)
    return trips


def lines_of(path: Path) -> Iterator[tuple[int, object]]:
    """Each line's number and JSON document; blank lines are none."""
    if not path.is_file():
        raise CliError(f"there is no file {path}", USAGE)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if len(line) > LINE_MAX:
                raise CliError(f"{path}, line {number}: longer than {LINE_MAX} bytes", USAGE)
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise CliError(f"{path}, line {number}: no JSON ({error})", USAGE)


def _trip(body: object) -> Trip | str:
    if not isinstance(body, dict):
        return "a trip is a JSON object"
    name, vehicle, start, arrive_s = body.get("trip"), body.get("vehicle"), body.get("start"), body.get("arrive_s")
    if not (isinstance(name, str) and name and isinstance(vehicle, str) and vehicle):
        return "a trip has a name (trip) and a vehicle"
    try:
        began = datetime.fromisoformat(start if isinstance(start, str) else "")
    except ValueError:
        return "start is no RFC 3339 time"
    if not is_number(arrive_s) or arrive_s < 0:
        return "arrive_s is no number of seconds from the start"
    points = body.get("route")
    if not (isinstance(points, list) and all(_numbers(point, 2) for point in points)):
        return "route is a list of [latitude, longitude]"
    route = make_route(points, source="history")
    if isinstance(route, str):
        return route
    fixes = body.get("fixes")
    if not (isinstance(fixes, list) and fixes and all(_numbers(fix, 3) for fix in fixes)):
        return "fixes are a list of [seconds since the start, latitude, longitude]"
    if any(abs(fix[1]) > 90 or abs(fix[2]) > 180 for fix in fixes):
        return "a fix has no latitude and longitude"
    held = tuple(Fixed(float(at_s), float(lat), float(lon)) for at_s, lat, lon in fixes)
    return Trip(name, vehicle, week_s_of(began), route, held, float(arrive_s))


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))
