"""Commands to a flight's legs that are not only about times: gates, aircraft, what goes otherwise than planned, corrections.

For: `core.flight.legs`, whose table says when each is obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.flight import fields, times
from core.flight.leg_asks import LEGS_MAX, Ask, block, boarded_since, in_order, near_schedule, not_in_future
from core.flight.leg_state import ACTUAL, IN, OFF, ON, OUT, Leg, Said, amended, find, holds, withdrawn
from core.flight.leg_times import REGISTRATION_RE, TYPE_RE
from core.flight.machine import Decision, Fact, Malformed, Refusal

_GATE_FIELDS: Final = ("terminal", "gate", "stand")


def board(ask: Ask) -> Decision:
    at_ms = ask.at(at_arrival=False)
    not_in_future("boarding", at_ms, ask.now_ms)
    near_schedule(ask.leg, OUT, at_ms)
    boarded_since(ask.leg, at_ms)
    return [Fact("flight.boarding", {"at": times.write(at_ms)})]


def gate(ask: Ask) -> Decision:
    fact: dict[str, Any] = {}
    named = False
    for end, known in (("departure", ask.state.departure_gate), ("arrival", ask.state.arrival_gate)):
        said = ask.body.get(end)
        if said is None:
            continue
        if not isinstance(said, Mapping) or not said or not said.keys() <= set(_GATE_FIELDS):
            return Malformed(f"`{end}` is a place: one or more of {', '.join(_GATE_FIELDS)}")
        named = True
        place = {
            field: fields.word(said, field, fields.PLACE_RE, "1 to 8 letters and digits")
            for field in _GATE_FIELDS
            if field in said
        }
        if place != known:
            fact[end] = place
    if not named:
        return Malformed("gate wants `departure`, `arrival` or both, each with terminal, gate or stand")
    return [Fact("flight.gate", fact)] if fact else Refusal("unchanged", "it is there already")


def equip(ask: Ask) -> Decision:
    registration = fields.word(ask.body, "registration", REGISTRATION_RE, "of the aircraft, like VH-QXA")
    type = fields.word(ask.body, "type", TYPE_RE, "the type of the aircraft, like B738", ask.state.type)
    if (registration, type) == (ask.state.registration, ask.state.type):
        return Refusal("unchanged", f"{registration} flies it already")
    fact = {"registration": registration}
    if type:
        fact["type"] = type
    if ask.state.registration:
        fact["was"] = ask.state.registration
    return [Fact("flight.equipped", fact)]


def cancel(ask: Ask) -> Decision:
    return [Fact("flight.cancelled", {"reason": fields.prose(ask.body, "reason", "why it is not flown")})]


def reinstate(ask: Ask) -> Decision:
    reason = fields.prose(ask.body, "reason", "why", "")
    return [Fact("flight.reinstated", {"reason": reason} if reason else {})]


def divert(ask: Ask) -> Decision:
    leg, to = ask.leg, fields.airport(ask.body, "to")
    reason = fields.prose(ask.body, "reason", "why it goes there")
    if to == leg.departure:
        return Refusal("same_airport", f"it came from {to}: that is `return` to the field")
    if to == leg.arrival:
        undo = f": `withdraw` seq {leg.diverted.seq}" if leg.diverted else ""
        return Refusal("same_airport", f"{to} is where its leg ends{undo}")
    if leg.diverted is not None and to == leg.diverted.to:
        return Refusal("same_airport", f"it is diverted to {to} already; when it comes there is told by `estimate`")
    fact: dict[str, Any] = {"to": to}
    at_ms = ask.at(at_arrival=False)
    not_in_future("the diversion", at_ms, ask.now_ms)
    left = holds(leg, OUT, ACTUAL) or holds(leg, OFF, ACTUAL)
    if left is not None and at_ms < left.at_ms:
        return Refusal("out_of_order", f"at {times.write(at_ms)} it had not left: that was at {left.at}")
    fact["at"] = times.write(at_ms)
    if ask.body.get("eta") is not None:
        # A local time of arrival is the new airport's.
        ask.leg = leg._replace(arrival=to, diverted=None)
        eta_ms = ask.time(ask.body["eta"], "eta", at_arrival=True)
        near_schedule(leg, ON, eta_ms)
        if eta_ms < at_ms:
            return Refusal("out_of_order", f"`eta` {times.write(eta_ms)} is before the diversion at {fact['at']}")
        fact["eta"] = times.write(eta_ms)
    return [Fact("flight.diverted", fact | {"reason": reason})]


def go_on(ask: Ask) -> Decision:
    leg, body = ask.leg, ask.body
    assert leg.diverted is not None  # by the table
    landed = holds(leg, IN, ACTUAL) or holds(leg, ON, ACTUAL)
    if landed is None:
        return Refusal("not_landed", f"it has not landed at {leg.diverted.to}: `land` it there first")
    if len(ask.state.past) >= LEGS_MAX:
        return _too_many(ask)
    origin = leg.diverted.to
    to = fields.airport(body, "to", leg.arrival)
    if to == origin:
        return Refusal("same_airport", f"it is at {to}: it goes on to somewhere else")
    ask.leg = Leg(origin, to, leg.slots)
    out_ms = ask.time(body.get("out"), "out", at_arrival=False)
    in_ms = ask.time(body.get("in"), "in", at_arrival=True)
    block(out_ms, in_ms, ask.now_ms)
    if out_ms < landed.at_ms:
        return Refusal("out_of_order", f"OUT at {times.write(out_ms)} is before it landed, at {landed.at}")
    fact = {"from": origin, "to": to, "out": times.write(out_ms), "in": times.write(in_ms)}
    return [Fact("flight.continued", fact)]


def come_back(ask: Ask) -> Decision:
    """To the gate: it never took off. To the field: it did, and its landing there (if told) is the ended attempt's; as is its
    arrival at the gate, which an aircraft tells by itself before anybody says why."""
    leg = ask.leg
    to = fields.one_of(ask.body, "to", ("gate", "field"))
    reason = fields.prose(ask.body, "reason", "why it came back")
    actual = [said for milestone in (OUT, OFF, ON, IN) if (said := holds(leg, milestone, ACTUAL)) is not None]
    flew = holds(leg, OFF, ACTUAL) is not None or holds(leg, ON, ACTUAL) is not None
    if flew != (to == "field"):
        what = (
            "it took off, and so comes back to the field"
            if flew
            else "it has not taken off, and so comes back to the gate"
        )
        return Refusal("wrong_state", f"{what}; if a time is missing or wrong, tell or correct that first")
    if len(ask.state.past) >= LEGS_MAX:
        return _too_many(ask)
    at_ms = ask.at(at_arrival=False)
    not_in_future("the return", at_ms, ask.now_ms)
    if at_ms < max(said.at_ms for said in actual):
        return Refusal("out_of_order", f"at {times.write(at_ms)} it was not back yet: {actual[-1].at} was after that")
    fact = {"to": to, "at": times.write(at_ms), "reason": reason, "attempt": leg.attempt}
    return [Fact("flight.returned", fact)]


def correct(ask: Ask) -> Decision:
    leg, ref, why = ask.leg, _ref(ask), fields.prose(ask.body, "why", "why it was wrong")
    found = find(leg, ref)
    milestone, kind = (OUT, ACTUAL) if found is None else divmod(found[0], 4)
    if found is None and (leg.boarding is None or leg.boarding.seq != ref):
        return _no_such_fact(ask, ref)
    at_ms = ask.time(ask.body.get("at"), "at", at_arrival=milestone >= ON)
    at = times.write(at_ms)
    done = amended(leg, ref, Said(0, at_ms, at, "", ""))
    assert done is not None  # it was found
    after, was = done
    if at_ms == was.at_ms:
        return Refusal("unchanged", f"seq {ref} says {was.at} already")
    near_schedule(leg, milestone, at_ms)
    if found is None:
        boarded_since(leg, at_ms)
    if kind == ACTUAL:
        not_in_future(f"seq {ref}", at_ms, ask.now_ms)
        in_order(after, {})
    return [Fact("flight.corrected", {"ref": ref, "at": at, "was": was.at, "why": why})]


def withdraw(ask: Ask) -> Decision:
    ref, why = _ref(ask), fields.prose(ask.body, "why", "why it was wrong")
    done = withdrawn(ask.leg, ref)
    if done is None:
        return _no_such_fact(ask, ref)
    after, was = done
    in_order(after, {})  # what was said before holds again, and may not fit what came since
    return [Fact("flight.withdrawn", {"ref": ref, "was": was, "why": why})]


def _ref(ask: Ask) -> int:
    ref = ask.body.get("ref")
    if type(ref) is not int or ref < 1:
        raise fields.No(Malformed("`ref` is the seq of the event that said it"))
    return ref


def _no_such_fact(ask: Ask, ref: int) -> Refusal:
    for note in reversed(ask.state.corrections):
        if note["ref"] == ref and note["at"] is None:
            return Refusal("no_such_fact", f"what seq {ref} said was withdrawn by seq {note['seq']}: say it anew")
    message = f"seq {ref} is no time of the present leg, nor its boarding or diversion"
    return Refusal("no_such_fact", f"{message}; what was scheduled is changed by `reschedule`")


def _too_many(ask: Ask) -> Refusal:
    return Refusal(
        "too_many_legs", f"it has {len(ask.state.past)} legs and attempts behind it: schedule another flight"
    )
