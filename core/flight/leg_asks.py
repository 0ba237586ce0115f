"""One command to a flight's legs while it is being decided, and what cannot be: times that no flight has.

For: `core.flight.leg_times` and `core.flight.leg_verbs`. What cannot be is raised as `core.flight.fields.No`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.flight import fields, times
from core.flight.fields import No
from core.flight.leg_state import ACTUAL, IN, KINDS, MILESTONES, OFF, ON, OUT, SCHEDULED, Leg, Said, State, holds, told
from core.flight.machine import Command, Fact, Refusal

FUTURE_MAX_MS: Final = 600_000
"""How far ahead of the gateway's clock an actual time may be: clocks of others are off by minutes, not more."""
SPAN_MAX_MS: Final = 36 * 3_600_000
"""How far from its schedule a time may be, and how long a leg: further away it is of another day's flight."""
AHEAD_MAX_MS: Final = 400 * 86_400_000
"""How far ahead a flight may be scheduled."""
_NEXT_SEQ: Final = 1 << 62
"""Of an event that is yet to be: after all others."""
LEGS_MAX: Final = 16
"""Legs and attempts of one flight."""


class Ask:
    """One command that is allowed, well-timed by the table, and being decided."""

    __slots__ = ("body", "leg", "now_ms", "state", "verb")

    def __init__(self, state: State, leg: Leg, command: Command, now_ms: int) -> None:
        self.state = state
        self.leg = leg
        self.verb = command.type
        self.body = command.body
        self.now_ms = now_ms

    def time(self, value: object, field: str, *, at_arrival: bool) -> int:
        leg = self.leg
        arrival = leg.arrival if leg.diverted is None else leg.diverted.to
        zone = fields.zone(self.body, leg.departure, arrival, at_arrival=at_arrival)
        return fields.instant(value, field, zone)

    def at(self, *, at_arrival: bool, field: str = "at") -> int:
        """The body's time; now, where it says none."""
        if self.body.get(field) is None:
            return self.now_ms
        return self.time(self.body[field], field, at_arrival=at_arrival)

    def source(self) -> str:
        return fields.word(self.body, "source", fields.SOURCE_RE, "who saw it: small letters, as acars or ops", "")


def not_in_future(what: str, at_ms: int, now_ms: int) -> None:
    if at_ms > now_ms + FUTURE_MAX_MS:
        raise No(
            Refusal(
                "in_future",
                f"{what} at {times.write(at_ms)} has not been: it is {times.write(now_ms)}; to say when it will be, `estimate`",
            )
        )


def near_schedule(leg: Leg, milestone: int, at_ms: int) -> None:
    planned = holds(leg, OUT if milestone in (OUT, OFF) else IN, SCHEDULED)
    if planned is not None and abs(at_ms - planned.at_ms) > SPAN_MAX_MS:
        message = (
            f"{MILESTONES[milestone]} at {times.write(at_ms)} is more than 36 hours from the scheduled {planned.at}"
        )
        raise No(Refusal("too_far", f"{message}: look at the date, or `reschedule` first"))


def _begun(leg: Leg) -> str:
    """What ``leg.since_ms`` is the time of."""
    return "the return before this attempt" if leg.attempt > 1 else "the landing where it was diverted to"


def boarded_since(leg: Leg, at_ms: int) -> None:
    if at_ms < leg.since_ms:
        message = f"boarding at {times.write(at_ms)} would be before {_begun(leg)} at {times.write(leg.since_ms)}"
        raise No(Refusal("out_of_order", message))


def in_order(leg: Leg, actual: Mapping[int, int]) -> None:
    """Actual times that hold, with these in place of theirs: OUT, OFF, ON, IN never go back, nor before a return that came
    first, or the landing that the leg goes on from."""
    before_ms, before = leg.since_ms, _begun(leg)
    for milestone in (OUT, OFF, ON, IN):
        at_ms = actual.get(milestone, -1)
        if at_ms < 0:
            known = holds(leg, milestone, ACTUAL)
            if known is None:
                continue
            at_ms = known.at_ms
        if at_ms < before_ms:
            name = MILESTONES[milestone]
            message = f"{name} at {times.write(at_ms)} would be before {before} at {times.write(before_ms)}"
            raise No(
                Refusal("out_of_order", f"{message}: one of them is wrong; `correct` it by its seq if it is that one")
            )
        before_ms, before = at_ms, MILESTONES[milestone]


def fits(leg: Leg, actual: Mapping[int, int], source: str) -> None:
    """These times, said together by one source, can be so, and so can what then holds: of some of them that may still be
    what a better placed source said before."""
    in_order(leg, actual)
    for milestone, at_ms in actual.items():
        leg = told(leg, milestone, ACTUAL, Said(_NEXT_SEQ, at_ms, "", source, ""))
    in_order(leg, {})


def can_be_expected(leg: Leg, milestone: int, at_ms: int, actual: Mapping[int, int]) -> None:
    """An estimate of what has been, or of before what has been, is none."""
    name = MILESTONES[milestone]
    for other in (IN, ON, OFF, OUT):
        known = holds(leg, other, ACTUAL)
        if known is None and other not in actual:
            continue
        been_ms = actual[other] if known is None else known.at_ms
        if other >= milestone:
            message = f"{MILESTONES[other]} was at {times.write(been_ms)}: nothing is to be expected of {name}"
            raise No(Refusal("happened", f"{message}; a wrong time is corrected by the seq of its event"))
        if at_ms < been_ms:
            message = f"{name} at {times.write(at_ms)} would be before {MILESTONES[other]} at {times.write(been_ms)}"
            raise No(Refusal("out_of_order", message))


def repeated(leg: Leg, milestone: int, kind: int, at_ms: int, source: str) -> Refusal | None:
    """Whether this source has said that already, and what became of it."""
    slot = leg.slots[milestone * 4 + kind]
    last = None if slot is None else next((said for said in reversed(slot.said) if said.source == source), None)
    if last is None:
        return None
    what = f"{KINDS[kind]} {MILESTONES[milestone]}"
    if last.at_ms == at_ms:
        return Refusal("unchanged", f"{what} is {last.at} already (seq {last.seq})")
    if last.corrected and last.was_ms == at_ms:
        return Refusal("corrected", f"{what} was corrected from that to {last.at} (seq {last.corrected})")
    return None


def said(milestone: int, kind: int, at_ms: int, source: str) -> Fact:
    body: dict[str, Any] = {"milestone": MILESTONES[milestone], "kind": KINDS[kind], "at": times.write(at_ms)}
    if source:
        body["source"] = source
    return Fact("flight.milestone", body)


def block(out_ms: int, in_ms: int, now_ms: int) -> None:
    if in_ms <= out_ms:
        raise No(Refusal("out_of_order", f"IN at {times.write(in_ms)} is not after OUT at {times.write(out_ms)}"))
    if in_ms - out_ms > SPAN_MAX_MS:
        raise No(Refusal("too_far", "a leg is of 36 hours at most from block to block: look at the dates"))
    if out_ms > now_ms + AHEAD_MAX_MS:
        raise No(Refusal("too_far", "a flight is scheduled at most 400 days ahead: look at the year"))
