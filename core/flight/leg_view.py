"""A flight as people, programs and rules see it, now (`show`) or as of a moment (`fold`).

As of a moment: what was recorded by then, and of that what was true by then. True from its own time (as corrected since) is an
actual milestone, boarding, a return, a diversion; true always is the first schedule; true from when it was recorded is all
else: estimates, targets, changes of schedule, gates, delays, cancellation and reinstatement, continuation, aircraft. So an OUT
at 10:05 that was recorded at 10:20 is not true at 10:00, is true at 10:05, and was not known at 10:10.

A correction and a withdrawal say what was true all along: recorded by the moment asked about, they count from the first. So
does an actual time that holds in place of another: before it was true, that other one was not either.
What is said of the leg onward after a diversion is true from its continuation on at the earliest: of the leg before it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from core.flight import times
from core.flight.leg_state import (
    ACTUAL,
    ESTIMATED,
    IN,
    MILESTONES,
    OFF,
    ON,
    OUT,
    RANK,
    RANK_OTHER,
    SCHEDULED,
    TARGET,
    Leg,
    Said,
    State,
    evolve,
    holds,
    status,
)
from core.flight.machine import Recorded

_MINUTE_MS: Final = 60_000
_OWN_TIME: Final = ("flight.boarding", "flight.returned", "flight.diverted")
_AMENDS: Final = ("flight.corrected", "flight.withdrawn")


def _has_own_time(event: Recorded) -> bool:
    return event.type in _OWN_TIME or (event.type == "flight.milestone" and event.body.get("kind") == "actual")


def true_from_ms(event: Recorded) -> int:
    """From when a fact is true, corrections aside; the module says by which rule."""
    if event.type == "flight.scheduled" or event.type in _AMENDS:
        return 0
    if _has_own_time(event):
        own = times.read(event.body.get("at"))
        return event.at_ms if own.why else own.ms
    return event.at_ms


def fold(events: Iterable[Recorded], recorded_ms: int | None = None, valid_ms: int | None = None) -> State:
    """The flight as what was recorded by ``recorded_ms`` says it was at ``valid_ms``; ``None``: all there is, and in the end.

    ``events`` are the stream's, in order; others than facts of a flight may be among them.
    """
    known = [event for event in events if recorded_ms is None or event.at_ms <= recorded_ms]
    if valid_ms is not None:
        known = [event for event, since_ms in zip(known, _true_since(known), strict=True) if since_ms <= valid_ms]
    state = State()
    for event in known:
        state = evolve(state, event)
    return state


def _true_since(known: Sequence[Recorded]) -> list[int]:
    """From when each is true, by all of them."""
    amended = {
        str(event.body.get("ref")): times.read(event.body.get("at")).ms for event in known if event.type == _AMENDS[0]
    }
    withdrawn = {str(event.body.get("ref")) for event in known if event.type == _AMENDS[1]}
    since: list[int] = []
    said: list[tuple[int, str]] = []
    holding: dict[str, tuple[int, int]] = {}
    attempts, continued_ms = 0, 0
    for at, event in enumerate(known):
        own_ms = true_from_ms(event)
        # What is corrected of a diversion is its `eta`: it was diverted when it was.
        if event.type != "flight.diverted" and _has_own_time(event) and amended.get(str(event.seq), -1) >= 0:
            own_ms = amended[str(event.seq)]
        if event.type in ("flight.continued", "flight.returned"):
            attempts += 1
        if event.type == "flight.continued":
            continued_ms = event.at_ms
        since.append(max(continued_ms, own_ms))
        if event.type == "flight.milestone" and _has_own_time(event) and str(event.seq) not in withdrawn:
            of = f"{attempts} {event.body.get('milestone')}"
            rank = RANK.get(str(event.body.get("source", "")), RANK_OTHER)
            said.append((at, of))
            if of not in holding or rank <= holding[of][0]:
                holding[of] = rank, at
    for at, of in said:
        since[at] = max(since[at], since[holding[of][1]])
    return since


def best(leg: Leg, milestone: int) -> tuple[Said, int] | None:
    """The best time of a milestone and its kind: actual, else estimated, else target, else scheduled."""
    first = milestone * 4
    slots = leg.slots
    for kind in (ACTUAL, ESTIMATED, TARGET, SCHEDULED):
        slot = slots[first + kind]
        if slot is not None:
            return slot.holds, kind
    return None


def expected(leg: Leg, first: int, second: int) -> Said | None:
    """The best time of two milestones that stand for one: the first's, unless only the second's is better than a schedule.

    Of departure these are OUT and OFF, of arrival IN and ON: a display at an airport tells of the gate where it can.
    """
    of_first, of_second = best(leg, first), best(leg, second)
    if of_second is not None and of_second[1] != SCHEDULED and (of_first is None or of_first[1] == SCHEDULED):
        return of_second[0]
    return None if of_first is None else of_first[0]


def late_minutes(leg: Leg) -> int:
    """How much later than scheduled it left the gate, or is to leave it; 0 where it is not late."""
    planned, out = holds(leg, OUT, SCHEDULED), best(leg, OUT)
    if planned is None or out is None:
        return 0
    return max(0, out[0].at_ms - planned.at_ms) // _MINUTE_MS


_NOTHING: Final = Leg("", "", (None,) * 16)


def _at(said: Said | None) -> str | None:
    return None if said is None else said.at


def _times(leg: Leg) -> dict[str, dict[str, Any]]:
    shown = {}
    for milestone, name in enumerate(MILESTONES):
        scheduled, estimated, target, actual = leg.slots[milestone * 4 : milestone * 4 + 4]
        slot = actual or estimated or target or scheduled
        shown[name] = {
            "scheduled": scheduled and scheduled.holds.at,
            "estimated": estimated and estimated.holds.at,
            "target": target and target.holds.at,
            "actual": actual and actual.holds.at,
            "best": slot and slot.holds.at,
            "ref": slot and slot.holds.seq,
            "source": slot and slot.holds.source,
        }
    return shown


def show(state: State) -> dict[str, Any]:
    """All that is known, as JSON. Field names are stable, and all are always there; what is not known is ``None`` or empty.

    ``delayed`` is ``None``, or {minutes: by which the best OUT is past the scheduled, coded_minutes: of the reasons together,
    reasons}; ``times`` by milestone, each with ``best``, and of that the ``source`` and ``ref``, the seq to correct it by;
    ``legs`` are those that are over, and attempts that ended in a return; ``from``, ``to`` are the present leg's.
    """
    leg = state.leg or _NOTHING
    minutes = late_minutes(leg)
    delayed = None
    if minutes or state.reasons:
        coded = sum(reason["minutes"] for reason in state.reasons)
        delayed = {"minutes": minutes, "coded_minutes": coded, "reasons": list(state.reasons)}
    diverted = leg.diverted
    return {
        "flight": state.flight,
        "operator": state.operator,
        "registration": state.registration,
        "type": state.type,
        "service": state.service,
        "from": leg.departure,
        "to": leg.arrival,
        "status": status(state),
        "attempt": leg.attempt,
        "delayed": delayed,
        "gates": {"departure": state.departure_gate, "arrival": state.arrival_gate},
        "boarding": _at(leg.boarding),
        "cancelled": state.cancelled,
        "diverted": None
        if diverted is None
        else {
            "to": diverted.to,
            "at": diverted.at,
            "eta": diverted.eta,
            "reason": diverted.reason,
            "ref": diverted.seq,
        },
        "times": _times(leg),
        "etd": _at(expected(leg, OUT, OFF)),
        "eta": _at(expected(leg, IN, ON)),
        "legs": list(state.past),
        "corrections": list(state.corrections),
    }
