"""core.trip.trips: the table says in which states each verb is obeyed, by whom, and what it becomes."""

from __future__ import annotations

import pytest

from core.flight.machine import BY_GATEWAY, Refusal, Unallowed
from core.flight.timers import Timed
from core.trip.state import FACTS, STATES, Trip
from core.trip.trips import FIELDS, TRIP
from core.trip.verbs import WHEN
from tests.flight_desk import Desk
from tests.trip_desk import PLAN, SAID, by, trip_in


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", list(TRIP.table))
def test_a_verb_is_obeyed_in_the_states_that_the_table_says(verb: str, state: str) -> None:
    """And in every other it is refused, with what to do instead."""
    desk = trip_in(state)
    assert desk.show()["status"] == state
    if state in TRIP.table[verb].when and verb in ("unnotify", "alert"):
        desk.done("notify", **SAID["notify"])
    body = SAID[verb] | ({"stop": "B"} if verb == "arrive" else {})
    if verb == "plan":
        body = PLAN | {"note": "again"}
    decision = desk.tell(verb, by=by(verb), **body)
    if state in TRIP.table[verb].when:
        assert isinstance(decision, list), decision
    else:
        assert isinstance(decision, Refusal)
        assert decision.reason in ("wrong_state", "unchanged", "arrived")
        assert (decision.reason == "unchanged") is ((verb, state) in AGAIN)
        assert (decision.reason == "arrived") is (verb == "alert" and state in ("completed", "cancelled"))


AGAIN = {("start", "underway"), ("complete", "completed"), ("cancel", "cancelled")}


@pytest.mark.parametrize("verb", ["plan", "cancel", "alert", "fence"])
def test_what_is_for_owners_no_member_does(verb: str) -> None:
    """What cannot be undone by saying it again, and what the gateway works out."""
    assert isinstance(Desk(TRIP).ask(verb, "member", by(verb), **SAID[verb]), Unallowed)


def test_tables_are_whole() -> None:
    """Each verb has fields and states, and each fact is of some verb."""
    assert TRIP.name == "trips"
    assert TRIP.table.keys() == FIELDS.keys() == WHEN.keys() == SAID.keys()
    assert {fact for rule in TRIP.table.values() for fact in rule.facts} == set(FACTS)
    assert TRIP.initial() == Trip()
    for verb, body in SAID.items():
        assert body.keys() <= FIELDS[verb]


def test_a_trip_has_timers() -> None:
    """That somebody is late, say: what is to be done is a command of the trip's."""
    desk = Desk(Timed(TRIP))
    desk.done("plan", **PLAN)
    desk.done(
        "timer.set",
        name="late",
        due="2026-11-21T06:30:00Z",
        do={"type": "cancel", "body": {"reason": "never left"}},
    )
    desk.later(1800)
    [fired] = desk.done("timer.fire", by=BY_GATEWAY, name="late", fence=2)
    assert fired.body["do"]["type"] == "cancel"
    assert desk.show()["timers"] == {}
