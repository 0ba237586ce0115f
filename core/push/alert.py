"""An arrival's alert as it is pushed: read from the event, and put into the few words that a lock screen may show.

An event ``trip.alert`` in somebody's inbox has the body ``{trip, stop, threshold_s, eta, low?, high?, name?, push}``. What goes
to Apple and Google of it: which trip and stop, when, the threshold, and ``name`` (what the tenant calls the stop); no more.

Both services localise by keys that an app has in its resources: ``trip_alert_title`` (its argument is the minutes) and
``trip_alert_body`` (the name). Beside them goes plain English, for apps that have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core.flight import times

TYPE: Final = "trip.alert"
TITLE_KEY: Final = "trip_alert_title"
BODY_KEY: Final = "trip_alert_body"
NAME_MAX: Final = 80
"""Characters; more is cut, and no lock screen shows more."""
ID_MAX: Final = 160
THRESHOLD_MAX_S: Final = 86_400


class Alert(NamedTuple):
    trip: str
    stop: str
    threshold_s: int
    eta_ms: int
    name: str
    low: str
    high: str
    """RFC 3339, or empty."""


def read(body: Mapping[str, Any]) -> Alert | str:
    """Of an event's body; or what is wrong with it."""
    trip, stop, threshold_s = body.get("trip"), body.get("stop", ""), body.get("threshold_s")
    if not isinstance(trip, str) or not 0 < len(trip) <= ID_MAX:
        return "trip: a name is missing"
    if isinstance(stop, bool) or not isinstance(stop, str | int) or len(str(stop)) > ID_MAX:
        return "stop: a name or number"
    if (
        isinstance(threshold_s, bool)
        or not isinstance(threshold_s, int | float)
        or not 0 < threshold_s <= THRESHOLD_MAX_S
    ):
        return f"threshold_s: a number of seconds up to {THRESHOLD_MAX_S}"
    eta = times.read(body.get("eta"))
    if eta.why:
        return f"eta {eta.message}"
    name = body.get("name", "")
    bounds = [
        value if isinstance(value, str) and not times.read(value).why else ""
        for value in map(body.get, ("low", "high"))
    ]
    return Alert(trip, str(stop), round(threshold_s), eta.ms, name[:NAME_MAX] if isinstance(name, str) else "", *bounds)


def minutes(alert: Alert) -> int:
    """For people: never none."""
    return max(1, round(alert.threshold_s / 60))


def title(alert: Alert) -> str:
    count = minutes(alert)
    return f"Arriving in about {count} minute{'' if count == 1 else 's'}"


def text(alert: Alert) -> str:
    return alert.name or (alert.stop or alert.trip.partition(":")[2] or alert.trip)[:NAME_MAX]


def facts(alert: Alert) -> dict[str, str]:
    """For the app itself, as text: FCM takes nothing else."""
    told = {
        "type": TYPE,
        "trip": alert.trip,
        "stop": alert.stop,
        "threshold_s": str(alert.threshold_s),
        "eta": times.write(alert.eta_ms),
        "low": alert.low,
        "high": alert.high,
    }
    return {name: value for name, value in told.items() if value}


def collapse_id(tenant: str, alert: Alert) -> str:
    """The same for all alerts of a stop of a trip: the phone shows the latest of them, and one that came twice once. 36 bytes
    of the 64 that APNs allows."""
    digest = hashlib.sha256(f"{tenant}\0{alert.trip}\0{alert.stop}".encode()).hexdigest()
    return f"eta-{digest[:32]}"


class Note(NamedTuple):
    """What is pushed to each device of one principal. ``key`` is the event's own, a UUID; ``until_ms``: dead after."""

    alert: Alert
    key: str
    collapse: str
    until_ms: int
