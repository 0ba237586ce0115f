"""core.flight.legs: every verb has its answer in every state, as the table says; nothing that is said is raised at."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.diagram import GIVEN, NOW_MS, flights_in
from core.flight.leg_state import STATES
from core.flight.leg_table import TABLE
from core.flight.legs import LEGS
from core.flight.machine import Command, Fact, Malformed, Recorded, Refusal, Unallowed
from core.flight.timers import Timed
from tests.legs import Flight, flown


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", list(TABLE))
def test_every_verb_is_answered_in_every_state_as_the_table_says(verb: str, state: str) -> None:
    """Where it says so, facts of the types it says; anywhere else `wrong_state`, with what to do instead."""
    rule = TABLE[verb]
    obeyed = []
    for flight in flights_in(state):
        for body in GIVEN[verb]:
            decision = LEGS.decide(flight, Command(verb, body, "user:amy", "owner"), NOW_MS)
            assert isinstance(decision, list | Refusal), decision
            if isinstance(decision, Refusal):
                assert decision.reason in rule.refusals
                assert (decision.reason == "wrong_state") >= (state not in rule.when)
            else:
                assert decision
                assert {fact.type for fact in decision} <= set(rule.facts)
                obeyed.append(decision)
    assert bool(obeyed) == (state in rule.when)


@pytest.mark.parametrize("verb", list(TABLE))
def test_a_member_may_give_what_the_table_says_and_a_reader_nothing(verb: str) -> None:
    """Whatever the state: roles are looked at first."""
    for state in STATES:
        for flight in flights_in(state):
            for body in GIVEN[verb]:
                as_member = LEGS.decide(flight, Command(verb, body, "user:bob", "member"), NOW_MS)
                assert isinstance(as_member, Unallowed) == ("member" not in TABLE[verb].roles)
                as_reader = LEGS.decide(flight, Command(verb, body, "user:cat", "reader"), NOW_MS)
                assert isinstance(as_reader, Unallowed)


def test_who_may_not_be_a_member() -> None:
    """Planning, and what cannot be undone by saying it again."""
    assert {verb for verb, rule in TABLE.items() if rule.roles == {"owner"}} == {
        "schedule",
        "reschedule",
        "equip",
        "cancel",
        "reinstate",
        "divert",
        "continue",
        "correct",
        "withdraw",
    }


def test_an_unknown_verb_names_those_there_are() -> None:
    """All of them."""
    message = Flight().malformed("fly")
    assert all(verb in message for verb in TABLE)


@pytest.mark.parametrize("verb", list(TABLE))
@pytest.mark.parametrize("body", [None, [], "x", 5, {"": 1}, {"at": {}, "zone": 1, "nonsense": None}])
def test_any_json_is_answered(verb: str, body: Any) -> None:
    """A body that is no object, or has what the verb has not, could never be obeyed."""
    for state in STATES:
        for flight in flights_in(state):
            assert isinstance(LEGS.decide(flight, Command(verb, body, "user:amy", "owner"), NOW_MS), Malformed)


def test_a_slip_in_a_fields_name_is_named() -> None:
    """And not obeyed as if it were not there, as it would be where a field has a default."""
    assert "`att`" in flown(to="OUT").malformed("takeoff", att="2026-11-21T10:00Z")


def test_what_is_no_fact_of_a_flight_changes_nothing() -> None:
    """Chat in the flight's stream, or a fact of a version to come."""
    state = flown().state
    for type in ("chat.message", "flight.refuelled", "seat.held"):
        assert LEGS.evolve(state, Recorded(9, type, "user:amy", NOW_MS, {"at": "x"})) is state


def test_a_flight_has_timers_and_its_facts_the_rules_they_came_of() -> None:
    """Through the wrapper, as the registry gives it."""
    machine = Timed(LEGS)
    state = machine.initial()
    given = Command("schedule", GIVEN["schedule"][0], "service:readback", "owner", ("morning",))
    decision = machine.decide(state, given, NOW_MS)
    assert isinstance(decision, list)
    assert decision[0].body["via"] == ["morning"]
    state = machine.evolve(state, Recorded(1, decision[0].type, given.by, NOW_MS, decision[0].body))
    shown = machine.show(state)
    assert (shown["status"], shown["timers"]) == ("scheduled", {})
    set_it = {"name": "overdue", "due": "2026-11-21T11:30Z", "do": {"type": "delay", "body": {"reasons": []}}}
    assert machine.decide(state, Command("timer.set", set_it, "user:amy", "owner"), NOW_MS) == [
        Fact("timer.set", set_it | {"due": "2026-11-21T11:30:00.000Z"})
    ]
