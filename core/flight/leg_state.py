"""What a flight's facts add up to: the state that the legs machine decides from.

A milestone is one of OUT, OFF, ON, IN (IATA AIDX OperationQualifier OFB, TKO, TDN, ONB), its time of one of four kinds:
scheduled, estimated, target, actual (AIDX TimeType SCT, EST, TAR, ACT). Whoever says a time says it as a source, and all that
was said of a (milestone, kind) is kept, so that the newest can be withdrawn and the one before it holds again.

Which of several holds: of estimates, targets and schedules the newest recorded, since who knows later knows better. Of actual
times the one of the best placed source (`RANK`: the aircraft's own sensors, then air traffic control, the airport, the
handling agent, operations, then everybody else), of one source the newest. A milestone's best time is its actual one, else the
estimated, else the target, else the scheduled.

Status is derived from that and never kept: see `status`. A flight that returned, or was diverted and continued, has legs that
are over (``past``); only the present one has milestones to be told.

Promises: `evolve` fails on no event, whatever its body; a state is a value. Does not: judge. What is here was decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from core.flight import times
from core.flight.machine import Recorded

MILESTONES: Final = ("OUT", "OFF", "ON", "IN")
KINDS: Final = ("scheduled", "estimated", "target", "actual")
SCHEDULED, ESTIMATED, TARGET, ACTUAL = range(4)
OUT, OFF, ON, IN = range(4)
IDENTITY: Final = ("flight", "operator", "registration", "type", "service")
STATES: Final = ("new", "scheduled", "boarding", "departed", "landed", "completed", "diverted", "cancelled")
Status = Literal["new", "scheduled", "boarding", "departed", "landed", "completed", "diverted", "cancelled"]

RANK: Final[Mapping[str, int]] = {"acars": 0, "atc": 1, "airport": 2, "handling": 3, "ops": 4}
"""Which source is believed of an actual time: the lowest."""
RANK_OTHER: Final = 5
SAID_MAX: Final = 32
"""Times kept of one (milestone, kind); past that the oldest go that a newer one of their source has overtaken."""
CORRECTIONS_MAX: Final = 32
"""Corrections shown; the log has all."""
DIVERSIONS_MAX: Final = 8
"""Diversions of one leg that can be withdrawn: the present one, and those that it was told in place of."""


class Said(NamedTuple):
    """A time that somebody said, in the event ``seq``. Where it was corrected since, ``corrected`` is the seq of the latest
    correction, and ``was_ms`` what was said first; else 0 and -1."""

    seq: int
    at_ms: int
    at: str
    source: str
    by: str
    was_ms: int = -1
    corrected: int = 0


class Slot(NamedTuple):
    """All times said of a (milestone, kind), in the order of their recording, and the one that holds."""

    holds: Said
    said: tuple[Said, ...]


Slots = tuple[Slot | None, ...]
"""By milestone * 4 + kind."""
NO_SLOTS: Final[Slots] = (None,) * 16


class Diverted(NamedTuple):
    to: str
    at: str
    eta: str | None
    reason: str
    seq: int


class Leg(NamedTuple):
    """The leg that is flown, or to be. ``since_ms`` is when its last attempt ended, or the leg before landed where it was
    diverted to, else 0: nothing of this one is earlier. ``instead_of`` are diversions that the present one was told in place
    of, the oldest first."""

    departure: str
    arrival: str
    slots: Slots
    attempt: int = 1
    since_ms: int = 0
    boarding: Said | None = None
    diverted: Diverted | None = None
    instead_of: tuple[Diverted, ...] = ()


class State(NamedTuple):
    """``leg`` is ``None`` until the flight is scheduled. Mappings and lists within are never changed in place."""

    flight: str = ""
    operator: str = ""
    registration: str = ""
    type: str = ""
    service: str = ""
    leg: Leg | None = None
    past: tuple[Mapping[str, Any], ...] = ()
    reasons: tuple[Mapping[str, Any], ...] = ()
    departure_gate: Mapping[str, str] | None = None
    arrival_gate: Mapping[str, str] | None = None
    cancelled: Mapping[str, Any] | None = None
    corrections: tuple[Mapping[str, Any], ...] = ()


def holds(leg: Leg, milestone: int, kind: int) -> Said | None:
    slot = leg.slots[milestone * 4 + kind]
    return None if slot is None else slot.holds


def status(state: State) -> Status:
    """Derived. `diverted` is a flight bound for, or at, an airport where its leg was not to end, until it continues; what it
    did there is in its times. IN alone makes it completed: that ON is yet to be told changes nothing."""
    leg = state.leg
    if leg is None:
        return "new"
    if state.cancelled is not None:
        return "cancelled"
    if leg.diverted is not None:
        return "diverted"
    slots = leg.slots
    if slots[IN * 4 + ACTUAL] is not None:
        return "completed"
    if slots[ON * 4 + ACTUAL] is not None:
        return "landed"
    if slots[OFF * 4 + ACTUAL] is not None or slots[OUT * 4 + ACTUAL] is not None:
        return "departed"
    return "scheduled" if leg.boarding is None else "boarding"


def find(leg: Leg, seq: int) -> tuple[int, Slot, Said] | None:
    """The time that was said by the event ``seq``, and where it stands. Schedules are not found: they are not corrected."""
    for index, slot in enumerate(leg.slots):
        if slot is not None and index % 4 != SCHEDULED:
            for said in slot.said:
                if said.seq == seq:
                    return index, slot, said
    return None


# -- facts -----------------------------------------------------------------------------------------------------------------


def evolve(state: State, event: Recorded) -> State:
    """The state after the event; the same one where the event says nothing to it, or nothing that can be understood."""
    step = _STEPS.get(event.type)
    if step is None:
        return state
    try:
        return step(state, event, event.body)
    except (KeyError, TypeError, ValueError, AttributeError):
        # Of an older version's fact, or a trimmed one, so much is lost and no more; a flight is never stuck for one event.
        return state


def _said(event: Recorded, at: object, source: str = "") -> Said:
    reading = times.read(at)
    if reading.why or not isinstance(at, str):
        raise ValueError("no time")
    return Said(event.seq, reading.ms, at, source, event.by)


def _slot(kind: int, said: tuple[Said, ...]) -> Slot | None:
    if not said:
        return None
    if kind != ACTUAL or len(said) == 1:
        return Slot(said[-1], said)
    return Slot(max(said, key=lambda one: (-RANK.get(one.source, RANK_OTHER), one.seq)), said)


def _put(slots: Slots, index: int, slot: Slot | None) -> Slots:
    return (*slots[:index], slot, *slots[index + 1 :])


def _say(slots: Slots, index: int, said: Said) -> Slots:
    slot = slots[index]
    kept = (said,) if slot is None else (*slot.said, said)
    if len(kept) > SAID_MAX:
        newest = {one.source: one for one in kept}
        goes = next((one for one in kept if newest[one.source] is not one), kept[0])
        kept = tuple(one for one in kept if one is not goes)
    return _put(slots, index, _slot(index % 4, kept))


def _without_forecasts(slots: Slots, milestones: tuple[int, ...] = (OUT, OFF, ON, IN)) -> Slots:
    gone = [milestone * 4 + kind for milestone in milestones for kind in (ESTIMATED, TARGET)]
    return tuple(None if index in gone else slot for index, slot in enumerate(slots))


def _present(state: State) -> Leg:
    if state.leg is None:
        raise ValueError("not scheduled")
    return state.leg


def _scheduled_slots(event: Recorded, body: Mapping[str, Any], slots: Slots) -> Slots:
    for name, milestone in (("out", OUT), ("in", IN)):
        if name in body:
            slots = _say(slots, milestone * 4 + SCHEDULED, _said(event, body[name]))
    return slots


def _scheduled(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    leg = Leg(str(body["from"]), str(body["to"]), _scheduled_slots(event, body, NO_SLOTS))
    flight, operator, registration, type, service = (str(body.get(name, "")) for name in IDENTITY)
    return State(flight, operator, registration, type, service, leg)


def _rescheduled(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    leg = _present(state)
    slots = _scheduled_slots(event, body, _without_forecasts(leg.slots))
    return state._replace(leg=leg._replace(slots=slots))


def _milestone(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    milestone, kind = MILESTONES.index(body["milestone"]), KINDS.index(body["kind"])
    said = _said(event, body["at"], str(body.get("source", "")))
    return state._replace(leg=told(_present(state), milestone, kind, said))


def _boarding(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    return state._replace(leg=_present(state)._replace(boarding=_said(event, body["at"])))


def _gate(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    departure, arrival = body.get("departure"), body.get("arrival")
    return state._replace(
        departure_gate=dict(departure) if departure else state.departure_gate,
        arrival_gate=dict(arrival) if arrival else state.arrival_gate,
    )


def _delayed(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    reasons = tuple(
        {**reason, "code": str(reason["code"]), "minutes": reason["minutes"] + 0} for reason in body["reasons"]
    )
    return state._replace(reasons=reasons)


def _cancelled(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    _present(state)
    return state._replace(
        cancelled={"reason": body.get("reason"), "at": times.write(event.at_ms), "by": event.by, "seq": event.seq}
    )


def _reinstated(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    return state._replace(cancelled=None)


def _diversions(leg: Leg) -> tuple[Diverted, ...]:
    """Those that hold, or would if later ones were withdrawn."""
    return leg.instead_of if leg.diverted is None else (*leg.instead_of, leg.diverted)


def _diverted(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    leg, at, eta = _present(state), _said(event, body["at"]), body.get("eta")
    slots = _without_forecasts(leg.slots, (ON, IN))
    if eta is not None:
        slots = _say(slots, ON * 4 + ESTIMATED, _said(event, eta))
    diverted = Diverted(str(body["to"]), at.at, eta, str(body.get("reason", "")), event.seq)
    leg = leg._replace(slots=slots, diverted=diverted, instead_of=_diversions(leg)[1 - DIVERSIONS_MAX :])
    return state._replace(leg=leg, arrival_gate=None)


def _over(leg: Leg, to: str, how: str, at: str, reason: str) -> dict[str, Any]:
    """A leg, or an attempt of one, as it stays."""
    actual = {name: said.at for index, name in enumerate(MILESTONES) if (said := holds(leg, index, ACTUAL))}
    return {
        "from": leg.departure,
        "to": to,
        "attempt": leg.attempt,
        "ended": how,
        "at": at,
        "reason": reason,
        "times": actual,
    }


def _continued(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    leg = _present(state)
    diverted = leg.diverted
    if diverted is None:
        raise ValueError("not diverted")
    over = _over(leg, diverted.to, "diverted", diverted.at, diverted.reason)
    landed = holds(leg, IN, ACTUAL) or holds(leg, ON, ACTUAL)
    slots = _scheduled_slots(event, body, NO_SLOTS)
    onward = Leg(str(body["from"]), str(body["to"]), slots, since_ms=0 if landed is None else landed.at_ms)
    return state._replace(
        leg=onward, past=(*state.past, over), reasons=(), departure_gate=state.arrival_gate, arrival_gate=None
    )


def _returned(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    leg, at = _present(state), _said(event, body["at"])
    over = _over(leg, leg.departure, f"returned_to_{body['to']}", at.at, str(body.get("reason", "")))
    slots = tuple(slot if index % 4 == SCHEDULED else None for index, slot in enumerate(leg.slots))
    again = Leg(leg.departure, leg.arrival, slots, leg.attempt + 1, at.at_ms)
    return state._replace(leg=again, past=(*state.past, over))


def _equipped(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    registration, type = body.get("registration", state.registration), body.get("type", state.type)
    return state._replace(registration=str(registration), type=str(type))


def told(leg: Leg, milestone: int, kind: int, said: Said) -> Leg:
    """The leg with one time more."""
    return leg._replace(slots=_say(leg.slots, milestone * 4 + kind, said))


def amended(leg: Leg, ref: int, new: Said) -> tuple[Leg, Said] | None:
    """The leg with another time in what the event ``ref`` said, and what that was; ``None`` where it said no time of it."""
    if leg.boarding is not None and leg.boarding.seq == ref:
        return leg._replace(boarding=_amended(leg.boarding, new)), leg.boarding
    found = find(leg, ref)
    if found is None:
        return None
    index, slot, old = found
    said = tuple(_amended(one, new) if one is old else one for one in slot.said)
    if leg.diverted is not None and leg.diverted.seq == ref:
        leg = leg._replace(diverted=leg.diverted._replace(eta=new.at))
    return leg._replace(slots=_put(leg.slots, index, _slot(index % 4, said))), old


def _amended(old: Said, new: Said) -> Said:
    was_ms = old.was_ms if old.corrected else old.at_ms
    return old._replace(at_ms=new.at_ms, at=new.at, was_ms=was_ms, corrected=new.seq)


def withdrawn(leg: Leg, ref: int) -> tuple[Leg, str] | None:
    """The leg without what the event ``ref`` said, and the time that was in it; ``None`` where it said nothing of it.

    A diversion goes with its ``eta``, and the one that it was told in place of holds again; what had been estimated before it
    does not come back.
    """
    if leg.boarding is not None and leg.boarding.seq == ref:
        return leg._replace(boarding=None), leg.boarding.at
    found, was = find(leg, ref), ""
    told = _diversions(leg)
    gone = next((diverted for diverted in told if diverted.seq == ref), None)
    if gone is not None:
        rest = tuple(diverted for diverted in told if diverted is not gone)
        leg, was = leg._replace(diverted=rest[-1] if rest else None, instead_of=rest[:-1]), gone.at
    if found is not None:
        index, slot, old = found
        said = tuple(one for one in slot.said if one is not old)
        leg, was = leg._replace(slots=_put(leg.slots, index, _slot(index % 4, said))), was or old.at
    return (leg, was) if was else None


def _noted(state: State, event: Recorded, body: Mapping[str, Any], leg: Leg) -> State:
    note = {"seq": event.seq, "ref": body["ref"], "by": event.by}
    note |= {"why": body.get("why"), "was": body.get("was"), "at": body.get("at")}
    return state._replace(leg=leg, corrections=(*state.corrections, note)[-CORRECTIONS_MAX:])


def _corrected(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    done = amended(_present(state), body["ref"], _said(event, body["at"]))
    return state if done is None else _noted(state, event, body, done[0])


def _withdrawn(state: State, event: Recorded, body: Mapping[str, Any]) -> State:
    done = withdrawn(_present(state), body["ref"])
    return state if done is None else _noted(state, event, body, done[0])


_STEPS: Final = {
    "flight.scheduled": _scheduled,
    "flight.rescheduled": _rescheduled,
    "flight.milestone": _milestone,
    "flight.boarding": _boarding,
    "flight.gate": _gate,
    "flight.delayed": _delayed,
    "flight.cancelled": _cancelled,
    "flight.reinstated": _reinstated,
    "flight.diverted": _diverted,
    "flight.continued": _continued,
    "flight.returned": _returned,
    "flight.equipped": _equipped,
    "flight.corrected": _corrected,
    "flight.withdrawn": _withdrawn,
}
FACTS: Final = tuple(_STEPS)
