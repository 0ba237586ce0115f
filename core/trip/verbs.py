"""What each verb makes of a trip: facts, or why not. Their table and their theory are in `core.trip.trips`."""

from __future__ import annotations

from typing import Any, Final

from core.flight.machine import BY_GATEWAY, Command, Decision, Fact, Malformed, Refusal, Unallowed
from core.flight.tabled import Asked
from core.flight.times import write
from core.trip.plan import principal, read_plan
from core.trip.quiet import SAYS, known_zone, read_quiet
from core.trip.state import ALERTS_MAX, RECIPIENTS_MAX, StopState, Trip

THRESHOLDS_MAX: Final = 8
THRESHOLD_S_MIN: Final = 30
THRESHOLD_S_MAX: Final = 86_400

_GOING: Final = ("planned", "underway")
WHEN: Final = {
    "plan": ("new", *_GOING),
    "start": ("planned",),
    "arrive": _GOING,
    "depart": ("underway",),
    "skip": _GOING,
    "complete": ("underway",),
    "cancel": _GOING,
    "notify": _GOING,
    "unnotify": _GOING,
    "alert": _GOING,
    "fence": _GOING,
}
"""The states in which a verb is obeyed."""

INSTEAD: Final = {
    "new": "this trip has no plan yet; an owner gives it one with `plan`",
    "planned": "this trip has not begun; `start` it, or say where it did `arrive`",
    "underway": "this trip is under way; `complete` or `cancel` it",
    "completed": "this trip is completed; make another one",
    "cancelled": "this trip is cancelled; make another one",
}
_AGAIN: Final = {"start": "underway", "complete": "completed", "cancel": "cancelled"}
"""The state that a verb leads to: there it is said already."""


class Ask(Asked):
    """One command being decided: what it says, and the trip it meets."""

    __slots__ = ("trip",)

    def __init__(self, trip: Trip, command: Command, now_ms: int) -> None:
        super().__init__(command, now_ms)
        self.trip = trip

    def wrong(self) -> Malformed | Refusal | None:
        """What is wrong before the verb itself is looked at. Asked once all fields are read."""
        verb, status = self.command.type, self.trip.status
        if self.fields.problem:
            return Malformed(self.fields.problem)
        if status in WHEN[verb]:
            return None
        if _AGAIN.get(verb) == status:
            return Refusal("unchanged", f"this trip is {status} already")
        return Refusal("wrong_state", f"no {verb} now: {INSTEAD[status]}")

    def at(self) -> int:
        return self.fields.instant("at", self.now_ms)

    def stop(self, name: str) -> StopState | Refusal:
        known = self.trip.stops.get(name)
        if known is None:
            there = ", ".join(self.trip.stops) or "none"
            return Refusal("unknown_stop", f"the plan has no stop {name}; there are {there}")
        return known

    def gateway_only(self) -> Unallowed | None:
        if self.command.by == BY_GATEWAY:
            return None
        return Unallowed(f"{self.command.type} is given by the gateway alone")


def plan(ask: Ask) -> Decision:
    given = read_plan(ask.fields)
    if (wrong := ask.wrong()) is not None:
        return wrong
    if given == ask.trip.plan:
        return Refusal("unchanged", "this is the plan already")
    return [Fact("trip.planned", given.json())]


def start(ask: Ask) -> Decision:
    at_ms = ask.at()
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    return [Fact("trip.started", {"at": write(at_ms)})]


def arrive(ask: Ask) -> Decision:
    name, at_ms = ask.fields.identity("stop"), ask.at()
    if (wrong := ask.wrong()) is not None:
        return wrong
    stop = ask.stop(name)
    if isinstance(stop, Refusal):
        return stop
    if stop.arrived_ms is not None:
        return Refusal("unchanged", f"it was at {name} at {write(stop.arrived_ms)}")
    if (early := ask.happened(at_ms)) is not None:
        return early
    at = write(at_ms)
    begun = [Fact("trip.started", {"at": at})] if ask.trip.status == "planned" else []
    return [*begun, Fact("trip.arrived", {"stop": name, "at": at})]


def depart(ask: Ask) -> Decision:
    name, at_ms = ask.fields.identity("stop"), ask.at()
    if (wrong := ask.wrong()) is not None:
        return wrong
    stop = ask.stop(name)
    if isinstance(stop, Refusal):
        return stop
    if stop.departed_ms is not None:
        return Refusal("unchanged", f"it left {name} at {write(stop.departed_ms)}")
    if stop.arrived_ms is None:
        return Refusal("not_arrived", f"it was not at {name} yet; `arrive` first")
    if at_ms < stop.arrived_ms:
        return Refusal("out_of_order", f"it came to {name} at {write(stop.arrived_ms)}, and left no sooner")
    return ask.happened(at_ms) or [Fact("trip.departed", {"stop": name, "at": write(at_ms)})]


def skip(ask: Ask) -> Decision:
    name, why = ask.fields.identity("stop"), ask.fields.text("why", "")
    if (wrong := ask.wrong()) is not None:
        return wrong
    stop = ask.stop(name)
    if isinstance(stop, Refusal):
        return stop
    if stop.arrived_ms is not None:
        return Refusal("arrived", f"it was at {name} at {write(stop.arrived_ms)}")
    if stop.skipped:
        return Refusal("unchanged", f"{name} is skipped already")
    return [Fact("trip.skipped", {"stop": name} | ({"why": why} if why else {}))]


def complete(ask: Ask) -> Decision:
    at_ms = ask.at()
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    return [Fact("trip.completed", {"at": write(at_ms)})]


def cancel(ask: Ask) -> Decision:
    reason = ask.fields.text("reason")
    if (wrong := ask.wrong()) is not None:
        return wrong
    return [Fact("trip.cancelled", {"at": write(ask.now_ms), "reason": reason})]


def _own(ask: Ask, recipient: str) -> Unallowed | None:
    if ask.command.role == "owner" or recipient == ask.command.by:
        return None
    return Unallowed(f"members `{ask.command.type}` for themselves alone; owners for everybody")


def _thresholds(ask: Ask, name: str, least: int, says: str) -> list[int]:
    """``least``: how many there are at least; ``says``: what they must be."""
    listed = ask.fields.raw(name)
    span = range(THRESHOLD_S_MIN, THRESHOLD_S_MAX + 1)
    if isinstance(listed, list) and least <= len(listed) <= THRESHOLDS_MAX and all(_whole(one, span) for one in listed):
        return sorted(set(listed), reverse=True)
    ask.fields.bad(name, says)
    return []


def _whole(value: object, span: range) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in span


def notify(ask: Ask) -> Decision:
    fields = ask.fields
    recipient, name = principal(fields, "recipient", ("user:",)), fields.identity("stop")
    wish: dict[str, Any] = {"recipient": recipient, "stop": name}
    if fields.has("thresholds_s"):
        says = f"must be a list of 1 to {THRESHOLDS_MAX} whole numbers from {THRESHOLD_S_MIN} to {THRESHOLD_S_MAX}"
        wish["thresholds_s"] = _thresholds(ask, "thresholds_s", 1, says)
    if fields.has("quiet"):
        quiet = wish["quiet"] = fields.raw("quiet")
        if not isinstance(quiet, str) or (quiet and read_quiet(quiet) is None):
            fields.bad("quiet", f"must be {SAYS}, or empty for none")
    if fields.has("zone"):
        wish["zone"] = fields.identity("zone")
        if not known_zone(wish["zone"]):
            fields.bad("zone", "must be a time zone such as Australia/Sydney")
    wish["push"] = fields.flag("push") if fields.has("push") else True
    if (wrong := ask.wrong() or _own(ask, recipient)) is not None:
        return wrong
    stop = ask.stop(name)
    if isinstance(stop, Refusal):
        return stop
    if stop.arrived_ms is not None:
        return Refusal("arrived", f"it was at {name} at {write(stop.arrived_ms)}")
    known = ask.trip.recipients.get((recipient, name))
    if known is None and len(ask.trip.recipients) >= RECIPIENTS_MAX:
        return Refusal("too_many_recipients", f"{RECIPIENTS_MAX} are told of this trip already")
    if known is not None:
        was = (list(known.thresholds_s or ()), known.quiet, known.zone, known.push)
        if was == (wish.get("thresholds_s", []), wish.get("quiet"), wish.get("zone"), wish["push"]):
            return Refusal("unchanged", f"{recipient} is told of {name} just so already")
    return [Fact("trip.recipient", wish)]


def unnotify(ask: Ask) -> Decision:
    recipient, name = principal(ask.fields, "recipient", ("user:",)), ask.fields.identity("stop", "")
    if (wrong := ask.wrong() or _own(ask, recipient)) is not None:
        return wrong
    if not any(who == recipient and name in ("", stop) for who, stop in ask.trip.recipients):
        return Refusal("unchanged", f"{recipient} is not told of {name or 'any stop'}")
    return [Fact("trip.unrecipient", {"recipient": recipient} | ({"stop": name} if name else {}))]


def alert(ask: Ask) -> Decision:
    if (unallowed := ask.gateway_only()) is not None:
        return unallowed
    fields, trip = ask.fields, ask.trip
    recipient, name = principal(fields, "recipient", ("user:",)), fields.identity("stop")
    threshold_s = fields.whole("threshold_s", THRESHOLD_S_MIN, THRESHOLD_S_MAX)
    eta_ms, at_ms = fields.instant("eta"), ask.at()
    low_ms, high_ms = fields.instant("low", eta_ms), fields.instant("high", eta_ms)
    source, push = fields.text("source", "unknown"), fields.flag("push") if fields.has("push") else True
    merged: list[int] = []
    if fields.has("merged"):
        merged = _thresholds(ask, "merged", 0, "must be a list of thresholds that this alert stands for too")
    if fields.problem:
        return Malformed(fields.problem)
    if (name, recipient, threshold_s) in trip.alerts:
        return Refusal("alerted", f"{recipient} was told of {name} {threshold_s} s before it")
    if trip.over:
        return Refusal("arrived", f"the trip is {trip.status}")
    if (wrong := ask.wrong()) is not None:
        return wrong
    stop = ask.stop(name)
    if isinstance(stop, Refusal):
        return stop
    if not stop.open:
        return Refusal("arrived", f"{name} is {'skipped' if stop.skipped else 'reached'}")
    wish = trip.recipients.get((recipient, name))
    if wish is None or (wish.thresholds_s is not None and threshold_s not in wish.thresholds_s):
        return Refusal("not_wanted", f"{recipient} does not want to be told of {name} {threshold_s} s before it")
    merged = [one for one in merged if one != threshold_s and (name, recipient, one) not in trip.alerts]
    if len(trip.alerts) + 1 + len(merged) > ALERTS_MAX:
        return Refusal("too_many_alerts", f"{ALERTS_MAX} alerts were given in this trip")
    body: dict[str, Any] = {"recipient": recipient, "stop": name, "threshold_s": threshold_s, "eta": write(eta_ms)}
    body |= {"low": write(low_ms), "high": write(high_ms), "source": source, "push": push, "at": write(at_ms)}
    planned = next((one.name for one in trip.plan.stops if one.stop == name), "") if trip.plan is not None else ""
    return [Fact("trip.alert", body | ({"name": planned} if planned else {}) | ({"merged": merged} if merged else {}))]


def fence(ask: Ask) -> Decision:
    if (unallowed := ask.gateway_only()) is not None:
        return unallowed
    fields = ask.fields
    name, subject = fields.identity("fence"), principal(fields, "subject", ("device:", "user:", "service:"))
    what, at_ms = fields.one_of("what", ("enter", "exit", "dwell")), ask.at()
    if (wrong := ask.wrong()) is not None:
        return wrong
    last = ask.trip.fences.get((name, subject))
    inside, dwelt = (False, False) if last is None else (last.inside, last.dwelt)
    if inside is (what == "enter") or (what == "dwell" and (dwelt or not inside)):
        return Refusal("unchanged", f"{subject} is {'inside' if inside else 'outside'} {name} already")
    if last is not None and at_ms <= last.at_ms:
        return Refusal("late", f"of {name} and {subject} it is known how it was at {write(last.at_ms)}")
    return [Fact("trip.fence", {"fence": name, "what": what, "subject": subject, "at": write(at_ms)})]
