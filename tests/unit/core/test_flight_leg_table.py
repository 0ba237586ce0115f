"""core.flight.leg_table: whatever a verb may be refused for, it is refused for in some flight; nothing else is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.flight.leg_asks import LEGS_MAX
from core.flight.leg_state import FACTS, STATES
from core.flight.leg_table import FIELDS, INSTEAD, TABLE
from core.flight.machine import Refusal
from tests.legs import SCHEDULE, Flight, at, flown

SKIPPED, DOUBLED = "2026-10-04T02:30", "2026-04-05T02:30"
"""Local times at both airports of the flight: the hour that is not, and the one that is twice."""

Case = tuple[Callable[[], Flight], dict[str, Any]]


def _new() -> Flight:
    return Flight(scheduled=False)


def _departed() -> Flight:
    return flown(to="OUT")


def _airborne() -> Flight:
    return flown(to="OFF")


def _landed() -> Flight:
    return flown(to="ON")


def _corrected() -> Flight:
    """Each milestone was said by nobody in particular, and the last one said was corrected; an estimate and a target too."""
    flight = flown()
    for ref, was in ((2, "09:32"), (3, "09:44"), (4, "10:41"), (5, "10:52")):
        flight.did("correct", ref=ref, at=at(was[:-1] + "5"), why="misread")
    return flight


def _expected() -> Flight:
    flight = Flight()
    for verb in ("estimate", "target"):
        flight.did(verb, milestone="ON", at=at("12:20"))
        flight.did("correct", ref=flight.seq, at=at("12:30"), why="misread")
    return flight


def _diverted() -> Flight:
    flight = _airborne()
    flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
    return flight


def _returned_late() -> Flight:
    flight = _departed()
    flight.did("return", to="gate", at=at("09:50"), reason="a light")
    return flight


def _at_alternate() -> Flight:
    flight = _diverted()
    flight.did("land", at=at("10:50"))
    return flight


def _much_returned(then: str) -> Flight:
    flight = Flight()
    for number in range(LEGS_MAX):
        flight.did("depart", at=at(f"09:{30 + number}"))
        flight.did("return", to="gate", at=at(f"09:{30 + number}"), reason="a light")
    flight.did("depart", at=at("10:00"))
    if then == "continue":
        flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
        flight.did("land", at=at("10:50"))
    return flight


def _hidden() -> Flight:
    """An OUT that the aircraft's own overtook, and that no longer fits what came since."""
    flight = Flight()
    flight.did("depart", at=at("10:20"), source="ops")
    flight.did("depart", at=at("10:05"), source="acars")
    flight.did("takeoff", at=at("10:10"))
    return flight


def _moves() -> dict[tuple[str, str], Case]:
    cases: dict[tuple[str, str], Case] = {}
    for verb, said, wrong in (
        ("depart", "09:32", "10:53"),
        ("takeoff", "09:44", "09:31"),
        ("land", "10:41", "09:31"),
        ("arrive", "10:52", "09:31"),
    ):
        cases |= {
            (verb, "wrong_state"): (_new, {}),
            (verb, "skipped_time"): (Flight, {"at": SKIPPED, "zone": "local"}),
            (verb, "doubled_time"): (Flight, {"at": DOUBLED, "zone": "local"}),
            (verb, "unchanged"): (flown, {"at": at(said)}),
            (verb, "corrected"): (_corrected, {"at": at(said)}),
            (verb, "in_future"): (Flight, {"at": at("12:11")}),
            (verb, "out_of_order"): (flown, {"at": at(wrong)}),
            (verb, "too_far"): (Flight, {"at": "2026-11-19T21:00Z"}),
        }
    for verb in ("estimate", "target"):
        cases |= {
            (verb, "wrong_state"): (flown, {"milestone": "ON", "at": at("12:30")}),
            (verb, "skipped_time"): (Flight, {"milestone": "ON", "at": SKIPPED, "zone": "arrival"}),
            (verb, "doubled_time"): (Flight, {"milestone": "ON", "at": DOUBLED, "zone": "MEL"}),
            (verb, "unchanged"): (_expected, {"milestone": "ON", "at": at("12:30")}),
            (verb, "corrected"): (_expected, {"milestone": "ON", "at": at("12:20")}),
            (verb, "happened"): (_departed, {"milestone": "OUT", "at": at("12:20")}),
            (verb, "out_of_order"): (_departed, {"milestone": "OFF", "at": at("09:31")}),
            (verb, "too_far"): (Flight, {"milestone": "ON", "at": "2026-11-23T10:00Z"}),
        }
    return cases


REACHED: dict[tuple[str, str], Case] = _moves() | {
    ("schedule", "wrong_state"): (Flight, SCHEDULE),
    ("schedule", "skipped_time"): (_new, SCHEDULE | {"out": SKIPPED, "zone": "local"}),
    ("schedule", "doubled_time"): (_new, SCHEDULE | {"in": DOUBLED, "zone": "local"}),
    ("schedule", "out_of_order"): (_new, SCHEDULE | {"in": at("09:30")}),
    ("schedule", "too_far"): (_new, SCHEDULE | {"in": "2026-11-22T21:31Z"}),
    ("reschedule", "wrong_state"): (_departed, {"out": at("11:00")}),
    ("reschedule", "skipped_time"): (Flight, {"out": SKIPPED, "zone": "local"}),
    ("reschedule", "doubled_time"): (Flight, {"in": DOUBLED, "zone": "local"}),
    ("reschedule", "unchanged"): (Flight, {"out": at("09:30"), "in": at("10:55")}),
    ("reschedule", "out_of_order"): (Flight, {"out": at("10:55")}),
    ("reschedule", "too_far"): (Flight, {"out": "2028-01-01T00:00Z", "in": "2028-01-01T01:00Z"}),
    ("board", "wrong_state"): (_departed, {}),
    ("board", "skipped_time"): (Flight, {"at": SKIPPED, "zone": "local"}),
    ("board", "doubled_time"): (Flight, {"at": DOUBLED, "zone": "local"}),
    ("board", "in_future"): (Flight, {"at": at("12:11")}),
    ("board", "out_of_order"): (_returned_late, {"at": at("09:49")}),
    ("board", "too_far"): (Flight, {"at": "2026-11-19T21:00Z"}),
    ("movement", "wrong_state"): (_new, {"actual": {"OUT": at("09:32")}}),
    ("movement", "skipped_time"): (Flight, {"actual": {"OUT": SKIPPED}, "zone": "local"}),
    ("movement", "doubled_time"): (Flight, {"estimated": {"ON": DOUBLED}, "zone": "local"}),
    ("movement", "unchanged"): (_airborne, {"actual": {"OUT": at("09:32"), "OFF": at("09:44")}}),
    ("movement", "corrected"): (_corrected, {"actual": {"OUT": at("09:32")}}),
    ("movement", "in_future"): (Flight, {"actual": {"OUT": at("12:11")}}),
    ("movement", "out_of_order"): (Flight, {"actual": {"OUT": at("09:32"), "OFF": at("09:31")}}),
    ("movement", "too_far"): (Flight, {"actual": {"OUT": "2026-11-19T21:00Z"}}),
    ("movement", "happened"): (Flight, {"actual": {"ON": at("10:41")}, "estimated": {"ON": at("10:50")}}),
    ("gate", "wrong_state"): (_new, {"departure": {"gate": "7"}}),
    ("gate", "unchanged"): (lambda: _gated({"gate": "7"}), {"departure": {"gate": "7"}}),
    ("delay", "wrong_state"): (_new, {"reasons": []}),
    ("delay", "unchanged"): (Flight, {"reasons": []}),
    ("equip", "wrong_state"): (_new, {"registration": "VH-QXA"}),
    ("equip", "unchanged"): (lambda: _equipped("VH-QXA"), {"registration": "VH-QXA"}),
    ("cancel", "wrong_state"): (_departed, {"reason": "fog"}),
    ("reinstate", "wrong_state"): (Flight, {}),
    ("divert", "wrong_state"): (Flight, {"to": "CBR", "reason": "fog"}),
    ("divert", "skipped_time"): (_airborne, {"to": "CBR", "reason": "fog", "at": SKIPPED, "zone": "local"}),
    ("divert", "doubled_time"): (_airborne, {"to": "CBR", "reason": "fog", "eta": DOUBLED, "zone": "local"}),
    ("divert", "same_airport"): (_diverted, {"to": "CBR", "reason": "fog"}),
    ("divert", "in_future"): (_airborne, {"to": "CBR", "reason": "fog", "at": at("12:11")}),
    ("divert", "out_of_order"): (_airborne, {"to": "CBR", "reason": "fog", "at": at("09:31")}),
    ("divert", "too_far"): (_airborne, {"to": "CBR", "reason": "fog", "eta": "2026-11-24T00:00Z"}),
    ("continue", "wrong_state"): (_landed, {"out": at("12:30"), "in": at("13:20")}),
    ("continue", "skipped_time"): (_at_alternate, {"out": SKIPPED, "in": at("13:20"), "zone": "local"}),
    ("continue", "doubled_time"): (_at_alternate, {"out": at("12:30"), "in": DOUBLED, "zone": "local"}),
    ("continue", "not_landed"): (_diverted, {"out": at("12:30"), "in": at("13:20")}),
    ("continue", "same_airport"): (_at_alternate, {"to": "CBR", "out": at("12:30"), "in": at("13:20")}),
    ("continue", "out_of_order"): (_at_alternate, {"out": at("10:49"), "in": at("13:20")}),
    ("continue", "too_far"): (_at_alternate, {"out": at("12:30"), "in": "2026-11-23T13:20Z"}),
    ("continue", "too_many_legs"): (lambda: _much_returned("continue"), {"out": at("12:30"), "in": at("13:20")}),
    ("return", "wrong_state"): (_airborne, {"to": "gate", "reason": "a light"}),
    ("return", "skipped_time"): (_airborne, {"to": "field", "reason": "a bird", "at": SKIPPED, "zone": "local"}),
    ("return", "doubled_time"): (_airborne, {"to": "field", "reason": "a bird", "at": DOUBLED, "zone": "local"}),
    ("return", "in_future"): (_airborne, {"to": "field", "reason": "a bird", "at": at("12:11")}),
    ("return", "out_of_order"): (_airborne, {"to": "field", "reason": "a bird", "at": at("09:43")}),
    ("return", "too_many_legs"): (lambda: _much_returned("return"), {"to": "gate", "reason": "a light"}),
    ("correct", "wrong_state"): (_new, {"ref": 1, "at": at("09:32"), "why": "misread"}),
    ("correct", "skipped_time"): (_landed, {"ref": 4, "at": SKIPPED, "zone": "local", "why": "misread"}),
    ("correct", "doubled_time"): (_landed, {"ref": 4, "at": DOUBLED, "zone": "local", "why": "misread"}),
    ("correct", "no_such_fact"): (_landed, {"ref": 1, "at": at("09:32"), "why": "misread"}),
    ("correct", "unchanged"): (_landed, {"ref": 4, "at": at("10:41"), "why": "misread"}),
    ("correct", "in_future"): (_landed, {"ref": 4, "at": at("12:11"), "why": "misread"}),
    ("correct", "out_of_order"): (_landed, {"ref": 4, "at": at("09:43"), "why": "misread"}),
    ("correct", "too_far"): (_landed, {"ref": 4, "at": "2026-11-23T10:00Z", "why": "misread"}),
    ("withdraw", "wrong_state"): (_new, {"ref": 1, "why": "misread"}),
    ("withdraw", "no_such_fact"): (_landed, {"ref": 99, "why": "misread"}),
    ("withdraw", "out_of_order"): (_hidden, {"ref": 3, "why": "misread"}),
}


def _gated(place: dict[str, str]) -> Flight:
    flight = Flight()
    flight.did("gate", departure=place)
    return flight


def _equipped(registration: str) -> Flight:
    flight = Flight()
    flight.did("equip", registration=registration)
    return flight


def test_every_reason_of_the_table_has_its_flight() -> None:
    """And no flight shows a reason that the table has not."""
    assert set(REACHED) == {(verb, reason) for verb, rule in TABLE.items() for reason in rule.refusals}


@pytest.mark.parametrize(("verb", "reason"), list(REACHED))
def test_every_reason_is_reached(verb: str, reason: str) -> None:
    """The refusal says in words what is, and leaves the flight as it was."""
    make, body = REACHED[verb, reason]
    refusal = make().refused(verb, body)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason, refusal
    assert len(refusal.message) > 15


def test_every_verb_has_fields_states_and_facts_that_there_are() -> None:
    """Every fact that can be understood is some verb's, and every state says what to do instead."""
    assert FIELDS.keys() == TABLE.keys()
    assert {state for rule in TABLE.values() for state in rule.when} == set(STATES)
    assert {fact for rule in TABLE.values() for fact in rule.facts} == set(FACTS)
    assert INSTEAD.keys() == set(STATES)
    assert all("zone" in FIELDS[verb] for verb, rule in TABLE.items() if "skipped_time" in rule.refusals)


def test_a_cancelled_flight_is_told_three_things() -> None:
    """Its reinstatement, and what sets right what was said before."""
    assert [verb for verb, rule in TABLE.items() if "cancelled" in rule.when] == ["reinstate", "correct", "withdraw"]
