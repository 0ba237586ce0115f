"""core.flight.leg_state: facts add up to a state, whatever facts, and a status is what they come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flight.leg_state import CORRECTIONS_MAX, FACTS, SAID_MAX, State, evolve, find, status
from core.flight.machine import Fact, Recorded
from tests.legs import Flight, at, flown, ms

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
NAMES = (
    "milestone",
    "kind",
    "at",
    "source",
    "ref",
    "out",
    "in",
    "from",
    "to",
    "departure",
    "arrival",
    "reasons",
    "eta",
)
VALUES = st.sampled_from(["OUT", "actual", "2026-11-21T10:00:00.000Z", "MEL", 1, 2]) | JSON


@given(
    st.lists(
        st.tuples(st.sampled_from(FACTS), st.dictionaries(st.sampled_from(NAMES), VALUES)).map(
            lambda pair: Fact(*pair)
        ),
        max_size=6,
    )
)
def test_any_facts_in_any_order_are_taken(facts: list[Fact]) -> None:
    """Of other versions, trimmed, or of a stream that was not begun: what cannot be understood changes nothing."""
    for flight in (Flight(), Flight(scheduled=False)):
        for fact in facts:
            flight.record(fact)
        assert flight.shown["status"] == status(flight.state)


@pytest.mark.parametrize("type", FACTS)
def test_a_fact_without_a_body_changes_nothing_of_importance(type: str) -> None:
    """As one is that was trimmed: the flight is where it was, but for what needs no body."""
    flight = flown(to="OUT")
    flight.record(Fact(type, {}))
    assert flight.status == ("cancelled" if type == "flight.cancelled" else "departed")


@pytest.mark.parametrize("type", [fact for fact in FACTS if fact not in ("flight.scheduled", "flight.equipped")])
def test_what_is_said_of_no_flight_makes_none(type: str) -> None:
    """Only a schedule does."""
    state = evolve(State(), Recorded(1, type, "user:amy", 0, {"at": at("10:00"), "ref": 1, "reasons": []}))
    assert status(state) == "new"


def test_a_status_is_what_the_facts_come_to() -> None:
    """The furthest milestone counts; one that is withdrawn does not."""
    assert status(State()) == "new"
    assert [flown(to=to).status for to in ("OUT", "OFF", "ON", "IN")] == ["departed", "departed", "landed", "completed"]
    flight = Flight()
    flight.did("takeoff", at=at("09:44"))
    assert flight.status == "departed"
    flight.did("withdraw", ref=2, why="x")
    assert flight.status == "scheduled"


def test_a_change_of_schedule_makes_estimates_and_targets_void() -> None:
    """They were of the plan before; what is said after it counts."""
    flight = Flight()
    flight.did("estimate", milestone="OUT", at=at("09:40"))
    flight.did("target", milestone="OFF", at=at("09:55"))
    flight.did("reschedule", {"out": at("11:00"), "in": at("12:30")})
    assert (flight.best("OUT"), flight.best("OFF"), flight.best("IN")) == ("11:00", None, "12:30")
    flight.did("estimate", milestone="OUT", at=at("11:10"))
    assert flight.best("OUT") == "11:10"


def test_times_kept_are_bounded_and_overtaken_ones_go_first() -> None:
    """What holds stays, though it be the oldest: another source's word never pushes it out while one has said more."""
    flight = Flight()
    flight.did("depart", at=at("09:31"), source="acars")
    for minute in range(SAID_MAX + 5):
        flight.did("depart", at=at(f"10:{minute:02}"), source="ops")
    assert flight.best("OUT") == "09:31"
    leg = flight.state.leg
    assert leg is not None
    slot = leg.slots[3]
    assert slot is not None
    assert len(slot.said) == SAID_MAX
    assert [find(leg, seq) is None for seq in (2, 3, 8, 9)] == [False, True, True, False]


def test_where_nobody_was_overtaken_the_oldest_goes() -> None:
    """Thirty-three sources of one time are none that anybody has."""
    flight = Flight()
    for number in range(SAID_MAX + 1):
        flight.did("depart", at=at("09:32"), source=f"s{number}")
    leg = flight.state.leg
    assert leg is not None
    assert (find(leg, 2), find(leg, 3) is None) == (None, False)


def test_a_flight_shows_its_latest_corrections() -> None:
    """The log has all."""
    flight = Flight()
    flight.did("estimate", milestone="IN", at=at("12:00"))
    for minute in range(CORRECTIONS_MAX + 3):
        flight.did("correct", ref=2, at=at(f"12:{minute + 1:02}"), why="again")
    notes = flight.shown["corrections"]
    assert (len(notes), notes[-1]["seq"], notes[-1]["was"]) == (CORRECTIONS_MAX, flight.seq, at("12:34"))


@pytest.mark.parametrize("type", ["flight.corrected", "flight.withdrawn"])
def test_a_correction_of_what_is_not_there_changes_nothing(type: str) -> None:
    """As of a time that is no longer kept."""
    flight = flown(to="OUT")
    before = flight.state
    flight.record(Fact(type, {"ref": 77, "at": at("09:33"), "why": "x"}))
    assert flight.state is before


def test_states_are_values() -> None:
    """The one before is as it was, whatever comes."""
    flight = flown(to="OUT")
    before, shown = flight.state, flight.shown
    flight.did("gate", departure={"gate": "7"})
    flight.did("delay", reasons=[{"code": "93", "minutes": 2}])
    flight.did("takeoff", at=at("09:44"))
    flight.did("correct", ref=2, at=at("09:33"), why="x")
    flight.did("divert", to="CBR", at=at("10:20"), eta=at("10:55"), reason="fog")
    flight.did("land", at=at("10:50"))
    flight.did("continue", {"out": at("12:30"), "in": at("13:20")})
    again = Flight()
    again.state = before
    assert again.shown == shown


def test_boarding_and_diversion_are_withdrawn_and_corrected_by_their_own_seq() -> None:
    """And an arrival that was estimated with a diversion by the same."""
    flight = Flight()
    flight.did("board", at=at("09:05"))
    flight.did("correct", ref=2, at=at("09:06"), why="x")
    flight.did("depart", at=at("09:32"))
    flight.did("divert", to="CBR", at=at("10:20"), eta=at("10:55"), reason="fog")
    flight.did("correct", ref=5, at=at("10:57"), why="x")
    assert (flight.shown["boarding"], flight.best("ON")) == (at("09:06"), "10:57")
    flight.did("withdraw", ref=5, why="x")
    flight.did("withdraw", ref=2, why="x")
    assert (flight.status, flight.shown["boarding"], flight.best("ON")) == ("departed", None, None)


def test_what_is_not_known_changes_nothing() -> None:
    """Chat, another machine's facts, and a fact of a version to come."""
    state = flown().state
    assert evolve(state, Recorded(9, "chat.message", "user:amy", 0, {})) is state


def test_a_diversion_makes_what_was_expected_at_the_destination_void() -> None:
    """It will not be there; departure is as it was, and the gate is another airport's."""
    flight = Flight()
    flight.did("gate", departure={"gate": "7"}, arrival={"gate": "33"})
    flight.did("takeoff", at=at("09:44"))
    flight.did("estimate", milestone="ON", at=at("10:45"))
    flight.did("target", milestone="IN", at=at("10:50"))
    flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
    assert (flight.best("OFF"), flight.best("ON"), flight.best("IN")) == ("09:44", None, "10:55")
    assert flight.shown["gates"] == {"departure": {"gate": "7"}, "arrival": None}


@pytest.mark.parametrize("reasons", [5, [5], ["93"], [{}], [{"code": "93"}], [{"code": "93", "minutes": "5"}]])
def test_reasons_that_cannot_be_added_up_are_not_taken(reasons: object) -> None:
    """So that a flight can always be shown."""
    flight = Flight()
    flight.record(Fact("flight.delayed", {"reasons": reasons}))
    assert flight.shown["delayed"] is None


def test_a_cancellation_and_a_return_are_told_as_they_were() -> None:
    """By whom, when, and in which attempt."""
    flight = flown(to="OUT")
    flight.did("return", to="gate", at=at("09:50"), reason="a light")
    leg = flight.state.leg
    assert leg is not None
    assert (leg.attempt, leg.since_ms) == (2, ms("09:50"))
    flight.did("equip", registration="VH-QXB", type="DH8D")
    flight.did("cancel", reason="no other aircraft", by="user:ops")
    assert (flight.status, flight.shown["cancelled"]["by"]) == ("cancelled", "user:ops")
    flight.did("reinstate")
    assert (flight.status, flight.shown["registration"]) == ("scheduled", "VH-QXB")


def test_a_time_that_is_no_text_is_no_time() -> None:
    """Whatever wrote it."""
    flight = Flight()
    body: dict[str, Any] = {"milestone": "OUT", "kind": "actual", "at": 5}
    flight.record(Fact("flight.milestone", body))
    flight.record(Fact("flight.continued", {"from": "CBR", "to": "SYD"}))
    assert flight.status == "scheduled"
