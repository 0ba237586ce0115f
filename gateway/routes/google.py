"""Routes of Google: Routes API, ``computeRoutes`` of version 2 (https://developers.google.com/maps/documentation/routes).

Its terms forbid keeping durations (`core.geo.routing` says which clauses): a snapshot's are `Passing`, its points are kept
for 30 days at most, its metres are our own. They also forbid showing its ways on other maps than Google's, which is the
operator's to mind, and making data of one's own from them: nothing here is learned from.

With traffic (``TRAFFIC_AWARE``) for what drives. A step tells its time without traffic only; a leg's steps are stretched to
the leg's time with it. The key goes in a header and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson

from core.geo.polyline import decode
from core.geo.routing import Ask, Mode, Place, RouteError, Shape, Snapshot, spread
from gateway.routes.wire import BUSY_S, Wire

URL: Final = "https://routes.googleapis.com"
TRAVEL: Final[Mapping[Mode, str]] = {
    "car": "DRIVE",
    "any": "DRIVE",
    "bus": "DRIVE",
    "truck": "DRIVE",
    "bike": "BICYCLE",
    "foot": "WALK",
}
FIELDS: Final = ",".join(
    f"routes.legs.{field}"
    for field in (
        "duration",
        "polyline.encodedPolyline",
        "steps.staticDuration",
        "steps.polyline.encodedPolyline",
    )
)
"""Only what is read: fields decide what a call costs, and a call without a mask is refused."""
INTERMEDIATES_MAX: Final = 25
KEPT_MS: Final = 30 * 86_400_000
SOON_MS: Final = 60_000
"""A departure must not lie in the past when the request is read; one so near is now."""
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class Google:
    """``key`` is the project's API key, with no other API allowed to it."""

    shareable = False

    def __init__(self, wire: Wire, key: str, *, url: str = URL, name: str = "google") -> None:
        self.name = name
        self.modes: frozenset[Mode] = frozenset(TRAVEL)
        self._wire = wire
        self._key = key
        self._url = url.rstrip("/")

    async def route(self, ask: Ask) -> Snapshot:
        if len(ask.points) - 2 > INTERMEDIATES_MAX:
            raise RouteError(f"{self.name} leads by at most {INTERMEDIATES_MAX} points", fatal=True)
        now_ms = self._wire.now_ms()
        travel = TRAVEL[ask.mode]
        places = [
            {"location": {"latLng": {"latitude": round(lat, 6), "longitude": round(lon, 6)}}} for lat, lon in ask.points
        ]
        body: dict[str, Any] = {
            "origin": places[0],
            "destination": places[-1],
            "travelMode": travel,
            "polylineQuality": "HIGH_QUALITY",
            "polylineEncoding": "ENCODED_POLYLINE",
            "units": "METRIC",
        }
        if len(places) > 2:
            body["intermediates"] = places[1:-1]
        if travel == "DRIVE":
            body["routingPreference"] = "TRAFFIC_AWARE"
            if ask.depart_ms is not None and ask.depart_ms > now_ms + SOON_MS:
                depart = datetime.fromtimestamp(ask.depart_ms // 1000, UTC)
                body["departureTime"] = f"{depart:%Y-%m-%dT%H:%M:%SZ}"
        headers = {"Content-Type": "application/json", "X-Goog-Api-Key": self._key, "X-Goog-FieldMask": FIELDS}
        said = await self._wire.send(
            self.name, "POST", f"{self._url}/directions/v2:computeRoutes", headers, orjson.dumps(body)
        )
        return await self._wire.read(self.name, said.body, partial(self._read, ask, said.status, now_ms))

    def _read(self, ask: Ask, status: int, made_ms: int, answer: Any) -> Snapshot:
        if status != 200:
            raise self._refused(answer["error"])
        if not answer.get("routes"):
            raise RouteError(f"{self.name} knows no such way", fatal=True)
        shape = Shape(self.name)
        for leg in answer["routes"][0]["legs"]:
            for points, seconds in self._leg(leg):
                shape.add(points, seconds)
            shape.stop()
        return shape.snapshot(ask, made_ms, passing_until_ms=made_ms + KEPT_MS)

    def _leg(self, leg: Any) -> list[tuple[list[Place], list[float]]]:
        whole_s = _seconds(leg.get("duration", "0s"))
        steps = leg.get("steps", [])
        told_s = sum(_seconds(step.get("staticDuration", "0s")) for step in steps)
        if told_s <= 0.0:
            points = self._points(leg)
            return [(points, spread(points, whole_s))]
        parts = []
        for step in steps:
            points = self._points(step)
            parts.append((points, spread(points, whole_s * _seconds(step.get("staticDuration", "0s")) / told_s)))
        return parts

    def _points(self, part: Any) -> list[Place]:
        points = decode(part["polyline"]["encodedPolyline"], 5)
        if isinstance(points, str) or not points:
            raise RouteError(f"{self.name} answers with a way that cannot be read")
        return points

    def _refused(self, error: Any) -> RouteError:
        """A google.rpc.Status. A key that is wrong comes as the request's own fault, with a detail that tells."""
        status = error["status"]
        reasons = {detail.get("reason") for detail in error.get("details", ())}
        if "API_KEY_INVALID" in reasons:
            return RouteError(f"{self.name} does not know the key `google_routes_key`", BUSY_S)
        if status in ("INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE"):
            return RouteError(f"{self.name} has no way for what was asked ({status})", fatal=True)
        return RouteError(f"{self.name} does not take what we ask")


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError
    return float(found[1])
