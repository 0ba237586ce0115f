"""Trips for tests: a plan past three stops, and a desk where it is given."""

from __future__ import annotations

from typing import Any, Final

from core.flight.machine import BY_GATEWAY
from core.geo.polyline import encode
from core.trip.state import Trip
from core.trip.trips import TRIP
from tests.flight_desk import Desk

WAY: Final = ((-33.90, 151.20), (-33.91, 151.21), (-33.92, 151.22))
PLAN: Final[dict[str, Any]] = {
    "mode": "bus",
    "subject": "device:bus-7",
    "stops": [
        {"stop": "A", "name": "Central", "lat": -33.90, "lon": 151.20, "at": "2026-11-21T06:10:00.000Z"},
        {"stop": "B", "lat": -33.91, "lon": 151.21},
        {"stop": "C", "lat": -33.92, "lon": 151.22},
    ],
    "route": {"polyline": encode(WAY, 6), "legs_s": [120, 90.5], "source": "osrm"},
    "fences": ["depot"],
    "note": "school run",
}
SAID: Final[dict[str, dict[str, Any]]] = {
    "plan": PLAN,
    "start": {},
    "arrive": {"stop": "A"},
    "depart": {"stop": "A"},
    "skip": {"stop": "B"},
    "complete": {},
    "cancel": {"reason": "no driver"},
    "notify": {"recipient": "user:amy", "stop": "C"},
    "unnotify": {"recipient": "user:amy"},
    "alert": {"recipient": "user:amy", "stop": "C", "threshold_s": 300, "eta": "2026-11-21T06:05:00Z"},
    "fence": {"fence": "depot", "what": "enter", "subject": "device:bus-7"},
}
"""By verb, a body that is obeyed somewhere."""


def by(verb: str) -> str:
    """Who may give it."""
    return BY_GATEWAY if verb in ("alert", "fence") else "user:ann"


def planned(**changed: Any) -> Desk[Trip]:
    desk = Desk(TRIP)
    desk.done("plan", **(PLAN | changed))
    return desk


def underway() -> Desk[Trip]:
    desk = planned()
    desk.done("start")
    return desk


def trip_in(state: str) -> Desk[Trip]:
    """One in that state; A was reached and B wanted where it is under way."""
    desk = Desk(TRIP)
    if state != "new":
        desk.done("plan", **PLAN)
    if state in ("underway", "completed"):
        desk.done("arrive", stop="A")
    if state == "completed":
        desk.done("complete")
    if state == "cancelled":
        desk.done("cancel", reason="fog")
    return desk


def told(desk: Desk[Trip], **changed: Any) -> Any:
    """What becomes of an alert."""
    return desk.tell("alert", by=BY_GATEWAY, **(SAID["alert"] | changed))
