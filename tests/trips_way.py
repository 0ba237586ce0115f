"""A straight street with a trip on it, for tests of arrival times: places by metres east of its start, positions, facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.flight.machine import BY_GATEWAY, Recorded
from core.flight.times import write
from core.geo.polyline import encode
from core.geo.sphere import destination
from core.tracks import Fence, Kept, Sample
from core.trip.state import Trip, fold

START: Final = (50.0, 8.0)
T0: Final = 1_795_000_000_000
"""A Wednesday morning."""
TENANT: Final = "acme"
STREAM: Final = "trip:9"
SUBJECT: Final = "device:truck-7"
AMY: Final = "user:amy"


def place(east_m: float, north_m: float = 0.0) -> tuple[float, float]:
    lat, lon = destination(*START, 90.0, east_m)
    return destination(lat, lon, 0.0, north_m)


def polyline(metres: float, step_m: float = 100.0) -> str:
    count = int(metres / step_m)
    return encode([place(nth * step_m) for nth in range(count + 1)], 6)


def stop(name: str, east_m: float, **more: Any) -> dict[str, Any]:
    lat, lon = place(east_m)
    return {"stop": name, "lat": round(lat, 7), "lon": round(lon, 7), **more}


def plan(stops: Sequence[Mapping[str, Any]], metres: float | None = 10_000.0, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"mode": "car", "subject": SUBJECT, "stops": list(stops)}
    if metres is not None:
        body["route"] = {"polyline": polyline(metres), "source": "test"}
    return body | more


def recorded(*facts: tuple[str, int, Mapping[str, Any]]) -> list[Recorded]:
    """(type, when in seconds after `T0`, body)."""
    return [Recorded(nth + 1, kind, BY_GATEWAY, T0 + 1000 * at_s, body) for nth, (kind, at_s, body) in enumerate(facts)]


def trip(*facts: tuple[str, int, Mapping[str, Any]]) -> Trip:
    return fold(recorded(*facts))


def underway(planned: Mapping[str, Any], at_s: int = 0, *more: tuple[str, int, Mapping[str, Any]]) -> Trip:
    return trip(("trip.planned", -100, planned), ("trip.started", at_s, {"at": write(T0 + 1000 * at_s)}), *more)


def fix(
    at_s: float,
    east_m: float,
    north_m: float = 0.0,
    *,
    speed: float | None = None,
    subject: str = SUBJECT,
    verdict: Kept = "accepted",
) -> Sample:
    lat, lon = place(east_m, north_m)
    at_ms = T0 + round(1000 * at_s)
    return Sample(TENANT, subject, STREAM, at_ms, 0, lat, lon, 5.0, speed, 90.0, None, verdict, "", at_ms)


def circle(name: str, east_m: float, radius_m: float = 100.0) -> Fence:
    return Fence(name, name, (place(east_m),), radius_m, 0, ())
