"""What a trip is at a moment, made from its facts: plan, stops reached, who is told, what was told, who is inside which fence.

For: `core.trip.trips`, which decides over it, and whoever computes arrival times. A `Trip` is a value: `evolve` answers
another and leaves the old one as it was. Facts are applied as they come, without judging them again; one whose body was
trimmed away says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from core.flight.body import Fields, read_instant
from core.flight.machine import Body, Recorded
from core.flight.times import write
from core.trip.plan import Plan, Stop, read_plan

STATES: Final = ("new", "planned", "underway", "completed", "cancelled")
OVER: Final = ("completed", "cancelled")

RECIPIENTS_MAX: Final = 500
"""Of one trip: whoever follows a bus asks for a stop each. All of them are in what is shown."""
ALERTS_MAX: Final = 2_000
"""Remembered for good, so that none comes twice: four for each recipient."""
FENCES_KEPT_MAX: Final = 500
"""Fences by subject whose last crossing is remembered. Past it those go first that somebody left longest ago."""


class StopState(NamedTuple):
    arrived_ms: int | None = None
    departed_ms: int | None = None
    skipped: bool = False

    @property
    def open(self) -> bool:
        """Still to come, as far as it was said."""
        return self.arrived_ms is None and not self.skipped


class Recipient(NamedTuple):
    """Somebody who wants to be told before the trip is at a stop. ``None`` is what their tenant says; ``quiet`` may be empty:
    never. ``since_ms`` is when they last said so."""

    recipient: str
    stop: str
    thresholds_s: tuple[int, ...] | None
    quiet: str | None
    zone: str | None
    push: bool
    since_ms: int


class Alert(NamedTuple):
    """One that was given, at ``at_ms``. ``told_s`` is the threshold that was told; another one than this alert's own where both
    were passed at once, so that this one was not told."""

    at_ms: int
    eta_ms: int | None
    push: bool
    told_s: int


class Crossed(NamedTuple):
    """The last that was said of a fence and a subject."""

    inside: bool
    at_ms: int
    dwelt: bool


@dataclass(frozen=True, slots=True)
class Trip:
    """``stops`` by stop; ``recipients`` by recipient and stop; ``alerts`` by stop, recipient and threshold; ``fences`` by
    fence and subject. None is changed in place."""

    status: str = "new"
    plan: Plan | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    why: str = ""
    stops: Mapping[str, StopState] = field(default_factory=dict)
    recipients: Mapping[tuple[str, str], Recipient] = field(default_factory=dict)
    alerts: Mapping[tuple[str, str, int], Alert] = field(default_factory=dict)
    fences: Mapping[tuple[str, str], Crossed] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.status in OVER

    def ahead(self) -> list[Stop]:
        """Stops that are still to come, in order: what lies before one that was reached was passed."""
        planned = () if self.plan is None or self.over else self.plan.stops
        ahead: list[Stop] = []
        for stop in planned:
            state = self.stops[stop.stop]
            if state.arrived_ms is not None:
                ahead = []
            elif state.open:
                ahead.append(stop)
        return ahead

    def show(self) -> dict[str, Any]:
        plan, ahead = self.plan, {stop.stop for stop in self.ahead()}
        shown: dict[str, Any] = {"status": self.status}
        if plan is not None:
            planned = plan.json()
            route = planned.pop("route", None)
            for stop in planned["stops"]:
                stop |= _stop_shown(self.stops[stop["stop"]], stop["stop"] in ahead, self.over)
            shown |= planned
            shown["next"] = next((stop.stop for stop in plan.stops if stop.stop in ahead), None)
            shown["route"] = route
        for name, at_ms in (("started", self.started_ms), ("ended", self.ended_ms)):
            if at_ms is not None:
                shown[name] = write(at_ms)
        if self.why:
            shown["reason"] = self.why
        shown["recipients"] = [_wish_shown(wish) for wish in self.recipients.values()]
        shown["alerts"] = [_alert_shown(of, alert) for of, alert in self.alerts.items()]
        shown["inside"] = [
            {"fence": fence, "subject": subject, "at": write(last.at_ms), "dwelt": last.dwelt}
            for (fence, subject), last in self.fences.items()
            if last.inside
        ]
        return shown


def _stop_shown(state: StopState, ahead: bool, over: bool) -> dict[str, Any]:
    word = (
        "departed" if state.departed_ms is not None else "arrived" if state.arrived_ms is not None
        else "skipped" if state.skipped else "open" if ahead else "missed" if over else "passed"
    )  # fmt: skip
    shown: dict[str, Any] = {"state": word}
    for name, at_ms in (("arrived", state.arrived_ms), ("departed", state.departed_ms)):
        if at_ms is not None:
            shown[name] = write(at_ms)
    return shown


def _wish_shown(wish: Recipient) -> dict[str, Any]:
    told = {"thresholds_s": wish.thresholds_s and list(wish.thresholds_s), "quiet": wish.quiet, "zone": wish.zone}
    said = {name: value for name, value in told.items() if value is not None}
    return {"recipient": wish.recipient, "stop": wish.stop, **said, "push": wish.push}


def _alert_shown(of: tuple[str, str, int], alert: Alert) -> dict[str, Any]:
    stop, recipient, threshold_s = of
    shown: dict[str, Any] = {"stop": stop, "recipient": recipient, "threshold_s": threshold_s, "at": write(alert.at_ms)}
    if alert.told_s != threshold_s:
        return shown | {"merged_into_s": alert.told_s}
    return shown | {"eta": None if alert.eta_ms is None else write(alert.eta_ms), "push": alert.push}


def _when(event: Recorded) -> int:
    at_ms = read_instant(event.body.get("at"))
    return event.at_ms if at_ms is None else at_ms


def _planned(trip: Trip, event: Recorded, body: Body) -> Trip:
    fields = Fields(body)
    plan = read_plan(fields, trusted=True)
    if fields.problem:
        return trip
    stops = {stop.stop: trip.stops.get(stop.stop, StopState()) for stop in plan.stops}
    kept = {of: wish for of, wish in trip.recipients.items() if wish.stop in stops}
    status = "planned" if trip.status == "new" else trip.status
    return replace(trip, status=status, plan=plan, stops=stops, recipients=kept)


def _started(trip: Trip, event: Recorded, body: Body) -> Trip:
    return replace(trip, status="underway", started_ms=_when(event))


def _completed(trip: Trip, event: Recorded, body: Body) -> Trip:
    return replace(trip, status="completed", ended_ms=_when(event))


def _cancelled(trip: Trip, event: Recorded, body: Body) -> Trip:
    return replace(trip, status="cancelled", ended_ms=_when(event), why=body.get("reason", ""))


def _at_stop(trip: Trip, body: Body, **changed: Any) -> Trip:
    state = trip.stops.get(body["stop"])
    if state is None:
        return trip
    return replace(trip, stops={**trip.stops, body["stop"]: state._replace(**changed)})


def _arrived(trip: Trip, event: Recorded, body: Body) -> Trip:
    return _at_stop(trip, body, arrived_ms=_when(event), skipped=False)


def _departed(trip: Trip, event: Recorded, body: Body) -> Trip:
    return _at_stop(trip, body, departed_ms=_when(event))


def _skipped(trip: Trip, event: Recorded, body: Body) -> Trip:
    return _at_stop(trip, body, skipped=True)


def _recipient(trip: Trip, event: Recorded, body: Body) -> Trip:
    thresholds = body.get("thresholds_s")
    wish = Recipient(
        body["recipient"],
        body["stop"],
        None if thresholds is None else tuple(thresholds),
        body.get("quiet"),
        body.get("zone"),
        body.get("push", True),
        event.at_ms,
    )
    return replace(trip, recipients={**trip.recipients, (wish.recipient, wish.stop): wish})


def _unrecipient(trip: Trip, event: Recorded, body: Body) -> Trip:
    gone, stop = body["recipient"], body.get("stop")
    kept = {
        of: wish
        for of, wish in trip.recipients.items()
        if wish.recipient != gone or (stop is not None and wish.stop != stop)
    }
    return replace(trip, recipients=kept)


def _alert(trip: Trip, event: Recorded, body: Body) -> Trip:
    stop, recipient, told_s = body["stop"], body["recipient"], body["threshold_s"]
    alert = Alert(_when(event), read_instant(body.get("eta")), body.get("push", True), told_s)
    given = {(stop, recipient, threshold_s): alert for threshold_s in (told_s, *body.get("merged", ()))}
    return replace(trip, alerts={**trip.alerts, **given})


def _fence(trip: Trip, event: Recorded, body: Body) -> Trip:
    of, what = (body["fence"], body["subject"]), body["what"]
    fences = {**trip.fences, of: Crossed(what != "exit", _when(event), what == "dwell")}
    if len(fences) > FENCES_KEPT_MAX:
        oldest = min(fences, key=lambda one: (fences[one].inside, fences[one].at_ms))
        del fences[oldest]
    return replace(trip, fences=fences)


_APPLY: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Trip, Recorded, Body], Trip]]]] = {
    "trip.planned": ((), _planned),
    "trip.started": ((), _started),
    "trip.arrived": (("stop",), _arrived),
    "trip.departed": (("stop",), _departed),
    "trip.skipped": (("stop",), _skipped),
    "trip.completed": ((), _completed),
    "trip.cancelled": ((), _cancelled),
    "trip.recipient": (("recipient", "stop"), _recipient),
    "trip.unrecipient": (("recipient",), _unrecipient),
    "trip.alert": (("stop", "recipient", "threshold_s"), _alert),
    "trip.fence": (("fence", "subject", "what"), _fence),
}
"""By fact: the fields without which it says nothing, and what it does."""

FACTS: Final = tuple(_APPLY)


def evolve(trip: Trip, event: Recorded) -> Trip:
    entry = _APPLY.get(event.type)
    if entry is None or not all(name in event.body for name in entry[0]):
        return trip
    return entry[1](trip, event, event.body)


def fold(events: Iterable[Recorded]) -> Trip:
    trip = Trip()
    for event in events:
        trip = evolve(trip, event)
    return trip
