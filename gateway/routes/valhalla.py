"""Routes of Valhalla: its turn-by-turn service, ``POST /route`` (https://valhalla.github.io/valhalla/api/turn-by-turn/).

Times come by maneuver and are spread over its part of the way by length. A departure that is now is said so (``date_time``
of type 0), which takes the hour's speeds where the server's tiles have them; another hour is not said, as Valhalla wants it
in the local time of the start, which nobody here knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson

from core.geo.polyline import decode
from core.geo.routing import SAME_DEPART_MS, Ask, Mode, RouteError, Shape, Snapshot, spread
from gateway.routes.wire import Wire

COSTING: Final[Mapping[Mode, str]] = {
    "car": "auto",
    "any": "auto",
    "bus": "bus",
    "truck": "truck",
    "bike": "bicycle",
    "foot": "pedestrian",
}
LOCATIONS_MAX: Final = 20
"""`service_limits.auto.max_locations` where nobody changed it."""
NO_WAY: Final = range(150, 500)
"""Codes that are the ask's, as 154 (too far), 171 (no road near) and 442 (no path). Those below are of requests that are
wrong."""


class Valhalla:
    shareable = True

    def __init__(
        self, wire: Wire, url: str, modes: frozenset[Mode] = frozenset(COSTING), name: str = "valhalla"
    ) -> None:
        assert modes <= COSTING.keys()
        self.name = name
        self.modes = modes
        self._wire = wire
        self._url = url.rstrip("/")

    async def route(self, ask: Ask) -> Snapshot:
        if len(ask.points) > LOCATIONS_MAX:
            raise RouteError(f"{self.name} leads through at most {LOCATIONS_MAX} points", fatal=True)
        now_ms = self._wire.now_ms()
        body: dict[str, Any] = {
            "locations": [{"lat": round(lat, 6), "lon": round(lon, 6), "type": "break"} for lat, lon in ask.points],
            "costing": COSTING[ask.mode],
            "units": "kilometers",
            "directions_type": "maneuvers",
            "shape_format": "polyline6",
        }
        if ask.depart_ms is None or abs(ask.depart_ms - now_ms) < SAME_DEPART_MS:
            body["date_time"] = {"type": 0}
        said = await self._wire.send(
            self.name, "POST", f"{self._url}/route", {"Content-Type": "application/json"}, orjson.dumps(body)
        )
        return await self._wire.read(self.name, said.body, partial(self._read, ask, said.status, now_ms))

    def _read(self, ask: Ask, status: int, made_ms: int, answer: Any) -> Snapshot:
        if status != 200:
            code = int(answer["error_code"])
            if code in NO_WAY:
                raise RouteError(f"{self.name} knows no such way ({code})", fatal=True)
            raise RouteError(f"{self.name} does not take what we ask ({code})")
        shape = Shape(self.name)
        for leg in answer["trip"]["legs"]:
            points = decode(leg["shape"], 6)
            if isinstance(points, str):
                raise RouteError(f"{self.name} answers with a way that cannot be read")
            seconds = [0.0] * (len(points) - 1)
            for maneuver in leg["maneuvers"]:
                start, end = maneuver["begin_shape_index"], maneuver["end_shape_index"]
                if not 0 <= start <= end < len(points):
                    raise RouteError(f"{self.name} answers with maneuvers beside the way")
                if start < end:
                    seconds[start:end] = spread(points[start : end + 1], float(maneuver["time"]))
            whole_s, told_s = float(leg["summary"]["time"]), sum(seconds)
            fits = [s * whole_s / told_s for s in seconds] if told_s > 0.0 else spread(points, whole_s)
            shape.add(points, fits)
            shape.stop()
        return shape.snapshot(ask, made_ms)
