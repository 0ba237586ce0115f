"""Commands that say times of a flight: its schedule, what is expected of its milestones, and what has been.

For: `core.flight.legs`, whose table says when each is obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from core.flight import fields, times
from core.flight.leg_asks import Ask, block, can_be_expected, fits, near_schedule, not_in_future, repeated, said
from core.flight.leg_state import (
    ACTUAL,
    ESTIMATED,
    IN,
    MILESTONES,
    NO_SLOTS,
    OFF,
    ON,
    OUT,
    SCHEDULED,
    TARGET,
    Leg,
    holds,
)
from core.flight.machine import Decision, Fact, Malformed, Refusal

FLIGHT_RE: Final = re.compile(r"[A-Z0-9]{2,8}\Z")
CARRIER_RE: Final = re.compile(r"[A-Z0-9]{2,3}\Z")
REGISTRATION_RE: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{1,9}\Z")
TYPE_RE: Final = re.compile(r"[A-Z0-9]{2,4}\Z")
SERVICE_RE: Final = re.compile(r"[A-Z]\Z")

MOVES: Final = {"depart": OUT, "takeoff": OFF, "land": ON, "arrive": IN}


def schedule(ask: Ask) -> Decision:
    body = ask.body
    fact = {"flight": fields.word(body, "flight", FLIGHT_RE, "a designator like QX12, or a call sign")}
    origin, to = fields.airport(body, "from"), fields.airport(body, "to")
    ask.leg = Leg(origin, to, NO_SLOTS)
    out_ms = ask.time(body.get("out"), "out", at_arrival=False)
    in_ms = ask.time(body.get("in"), "in", at_arrival=True)
    block(out_ms, in_ms, ask.now_ms)
    fact |= {"from": origin, "to": to, "out": times.write(out_ms), "in": times.write(in_ms)}
    for field, pattern, what in (
        ("operator", CARRIER_RE, "the airline's two or three letters"),
        ("registration", REGISTRATION_RE, "of the aircraft, like VH-QXA"),
        ("type", TYPE_RE, "the type of the aircraft, like B738"),
        ("service", SERVICE_RE, "a letter of IATA SSIM, like J"),
    ):
        if value := fields.word(body, field, pattern, what, ""):
            fact[field] = value
    return [Fact("flight.scheduled", fact)]


def reschedule(ask: Ask) -> Decision:
    body, leg = ask.body, ask.leg
    if body.get("out") is None and body.get("in") is None:
        return Malformed("reschedule wants `out`, `in` or both")
    fact: dict[str, Any] = {}
    planned_ms = []
    for field, milestone in (("out", OUT), ("in", IN)):
        planned = holds(leg, milestone, SCHEDULED)
        was_ms = -1 if planned is None else planned.at_ms
        at_ms = was_ms
        if body.get(field) is not None:
            at_ms = ask.time(body[field], field, at_arrival=milestone == IN)
            if at_ms != was_ms:
                fact[field] = times.write(at_ms)
        planned_ms.append(at_ms)
    if not fact:
        return Refusal("unchanged", "it is scheduled at that already")
    block(planned_ms[0], planned_ms[1], ask.now_ms)
    if reason := fields.prose(body, "reason", "why", ""):
        fact["reason"] = reason
    return [Fact("flight.rescheduled", fact)]


def expect(ask: Ask) -> Decision:
    kind = ESTIMATED if ask.verb == "estimate" else TARGET
    milestone = MILESTONES.index(fields.one_of(ask.body, "milestone", MILESTONES))
    at_ms = ask.time(ask.body.get("at"), "at", at_arrival=milestone >= ON)
    source = ask.source()
    can_be_expected(ask.leg, milestone, at_ms, {})
    near_schedule(ask.leg, milestone, at_ms)
    again = repeated(ask.leg, milestone, kind, at_ms, source)
    return [said(milestone, kind, at_ms, source)] if again is None else again


def move(ask: Ask) -> Decision:
    milestone = MOVES[ask.verb]
    at_ms = ask.at(at_arrival=milestone >= ON)
    source = ask.source()
    again = repeated(ask.leg, milestone, ACTUAL, at_ms, source)
    if again is not None:
        return again
    not_in_future(MILESTONES[milestone], at_ms, ask.now_ms)
    near_schedule(ask.leg, milestone, at_ms)
    fits(ask.leg, {milestone: at_ms}, source)
    return [said(milestone, ACTUAL, at_ms, source)]


def movement(ask: Ask) -> Decision:
    body, leg = ask.body, ask.leg
    source = ask.source()
    read: list[dict[int, int]] = []
    for field in ("actual", "estimated"):
        told = body.get(field, {})
        if not isinstance(told, Mapping) or not told.keys() <= set(MILESTONES):
            return Malformed(f"`{field}` is times by milestone, of {', '.join(MILESTONES)}")
        named = [(MILESTONES.index(name), value, f"{field}.{name}") for name, value in told.items()]
        read.append({milestone: ask.time(value, name, at_arrival=milestone >= ON) for milestone, value, name in named})
    actual, estimated = read
    facts: list[Fact] = []
    refused: Refusal | None = None
    for kind, told in ((ACTUAL, actual), (ESTIMATED, estimated)):
        for milestone in sorted(told):
            again = repeated(leg, milestone, kind, told[milestone], source)
            if again is not None:
                refused = again
                if kind == ACTUAL:
                    del actual[milestone]
                continue
            if kind == ACTUAL:
                not_in_future(MILESTONES[milestone], told[milestone], ask.now_ms)
            else:
                can_be_expected(leg, milestone, told[milestone], actual)
            near_schedule(leg, milestone, told[milestone])
            facts.append(said(milestone, kind, told[milestone], source))
    fits(leg, actual, source)
    if body.get("reasons") is not None:
        delayed = delay(ask)
        if isinstance(delayed, Refusal):
            refused = delayed
        else:
            facts += delayed
    if facts:
        return facts
    return refused or Malformed("movement wants `actual`, `estimated` or `reasons`, and something in it")


def delay(ask: Ask) -> list[Fact] | Refusal:
    reasons = fields.reasons(ask.body)
    if reasons == list(ask.state.reasons):
        return Refusal("unchanged", "these are its reasons already" if reasons else "no reasons of a delay are known")
    return [Fact("flight.delayed", {"reasons": reasons})]
