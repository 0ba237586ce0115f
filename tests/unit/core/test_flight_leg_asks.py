"""core.flight.leg_asks: what cannot be is refused, and the refusal names both sides of it."""

from __future__ import annotations

from functools import partial

import pytest

from core.flight.fields import No
from core.flight.leg_asks import (
    Ask,
    block,
    boarded_since,
    can_be_expected,
    fits,
    in_order,
    near_schedule,
    not_in_future,
    repeated,
)
from core.flight.leg_state import ACTUAL, ESTIMATED, IN, NO_SLOTS, OFF, ON, OUT, Leg
from core.flight.machine import Command, Refusal
from tests.legs import Flight, at, flown, ms

HOUR_MS = 3_600_000


def _leg(flight: Flight) -> Leg:
    assert flight.state.leg is not None
    return flight.state.leg


def _reason(no: pytest.ExceptionInfo[No]) -> str:
    assert isinstance(no.value.decision, Refusal)
    return no.value.decision.reason


def test_clocks_of_others_may_be_ten_minutes_ahead() -> None:
    """To the millisecond; and what is meant for the future is told its verb."""
    not_in_future("OUT", 600_000, 0)
    with pytest.raises(No) as no:
        not_in_future("OUT", 600_001, 0)
    assert _reason(no) == "in_future"
    assert "`estimate`" in no.value.decision.message


@pytest.mark.parametrize(("milestone", "planned"), [(OUT, "09:30"), (OFF, "09:30"), (ON, "10:55"), (IN, "10:55")])
def test_a_time_is_within_36_hours_of_its_end_of_the_leg(milestone: int, planned: str) -> None:
    """Departure milestones of the scheduled OUT, arrival milestones of the scheduled IN; earlier as later."""
    leg = _leg(Flight())
    for side in (-36 * HOUR_MS, 36 * HOUR_MS):
        near_schedule(leg, milestone, ms(planned) + side)
        with pytest.raises(No) as no:
            near_schedule(leg, milestone, ms(planned) + side + (1 if side > 0 else -1))
        assert _reason(no) == "too_far"


def test_a_leg_without_a_schedule_bounds_nothing() -> None:
    """As one of an older version might be."""
    near_schedule(Leg("MEL", "SYD", NO_SLOTS), OUT, 0)


def test_milestones_may_share_a_minute_and_never_go_back() -> None:
    """Messages have minutes, and a short taxi none."""
    leg = _leg(flown(to="OFF"))
    in_order(leg, {ON: ms("09:44"), IN: ms("09:44")})
    with pytest.raises(No) as no:
        in_order(leg, {ON: ms("09:43")})
    assert no.value.decision.message.startswith(f"ON at {at('09:43')} would be before OFF at {at('09:44')}")
    with pytest.raises(No):
        in_order(leg, {OUT: ms("09:45")})


def test_what_is_said_at_once_is_looked_at_together() -> None:
    """A time that replaces one that is known counts instead of it."""
    leg = _leg(flown(to="OFF"))
    in_order(leg, {OUT: ms("09:50"), OFF: ms("09:55")})


def test_what_holds_after_it_is_in_order_too() -> None:
    """Found by random days: OUT and OFF of one message were in order, but of OFF the aircraft's own held, before that OUT."""
    flight = Flight()
    flight.did("takeoff", at=at("09:29"), source="acars")
    with pytest.raises(No) as no:
        fits(_leg(flight), {OUT: ms("09:30"), OFF: ms("09:30")}, "atc")
    assert no.value.decision.message.startswith(f"OFF at {at('09:29')} would be before OUT at {at('09:30')}")
    fits(_leg(flight), {OUT: ms("09:30"), OFF: ms("09:30")}, "acars")
    fits(_leg(flight), {OUT: ms("09:29"), OFF: ms("09:30")}, "atc")
    assert flight.refused("movement", actual={"OUT": at("09:30"), "OFF": at("09:30")}, source="atc")


def test_nothing_of_an_attempt_is_before_the_return_that_began_it() -> None:
    """A late time of the attempt before is not taken for one of this."""
    flight = flown(to="OUT")
    flight.did("return", to="gate", at=at("09:50"), reason="a light")
    with pytest.raises(No) as no:
        in_order(_leg(flight), {OUT: ms("09:49")})
    assert "the return before this attempt" in no.value.decision.message
    in_order(_leg(flight), {OUT: ms("09:50")})


def test_what_has_been_is_not_expected() -> None:
    """Nor is what was before it, told or not; what is still to come is, but not before what has been."""
    leg = _leg(flown(to="OFF"))
    for milestone in (OUT, OFF):
        with pytest.raises(No) as no:
            can_be_expected(leg, milestone, ms("10:00"), {})
        assert _reason(no) == "happened"
    can_be_expected(leg, ON, ms("09:44"), {})
    with pytest.raises(No) as no:
        can_be_expected(leg, ON, ms("09:43"), {})
    assert _reason(no) == "out_of_order"
    with pytest.raises(No) as no:
        can_be_expected(leg, ON, ms("10:40"), {ON: ms("10:41")})
    assert _reason(no) == "happened"


def test_a_source_repeats_itself_and_no_other() -> None:
    """Another source that says the same confirms it; one that repeats what was corrected does not undo that."""
    flight = Flight()
    flight.did("depart", at=at("09:32"), source="ops")
    leg = _leg(flight)
    same = repeated(leg, OUT, ACTUAL, ms("09:32"), "ops")
    assert same is not None
    assert (same.reason, "seq 2" in same.message) == ("unchanged", True)
    assert repeated(leg, OUT, ACTUAL, ms("09:33"), "ops") is None
    assert repeated(leg, OUT, ACTUAL, ms("09:32"), "acars") is None
    assert repeated(leg, OUT, ESTIMATED, ms("09:32"), "ops") is None
    flight.did("correct", ref=2, at=at("09:34"), why="the log says so")
    flight.did("correct", ref=2, at=at("09:35"), why="and the log was misread")
    again = repeated(_leg(flight), OUT, ACTUAL, ms("09:32"), "ops")
    assert again is not None
    assert (again.reason, "seq 4" in again.message) == ("corrected", True)


@pytest.mark.parametrize(
    ("out_ms", "in_ms", "reason"),
    [
        (HOUR_MS, HOUR_MS, "out_of_order"),
        (HOUR_MS, 37 * HOUR_MS + 1, "too_far"),
        (9_601 * HOUR_MS, 9_602 * HOUR_MS, "too_far"),
    ],
)
def test_a_leg_is_of_a_length_and_of_a_date_that_flights_have(out_ms: int, in_ms: int, reason: str) -> None:
    """Up to 36 hours, up to 400 days ahead."""
    block(HOUR_MS, 37 * HOUR_MS, 0)
    block(9_600 * HOUR_MS, 9_602 * HOUR_MS, 0)
    with pytest.raises(No) as no:
        block(out_ms, in_ms, 0)
    assert _reason(no) == reason


def test_local_times_of_a_diverted_flight_are_the_alternates() -> None:
    """It is there that it lands."""
    flight = flown(to="OFF")
    flight.did("divert", to="AKL", at=at("10:20"), reason="fog")
    command = Command("land", {"zone": "arrival"}, "user:amy", "owner")
    ask = Ask(flight.state, _leg(flight), command, 0)
    assert ask.time("2026-11-22T00:30", "at", at_arrival=True) == ms("2026-11-21T11:30Z")


def test_what_is_left_out_is_now_and_nobody() -> None:
    """Of what has been; a source that is said is a short word."""
    flight = Flight()
    ask = Ask(flight.state, _leg(flight), Command("depart", {"at": None}, "user:amy", "owner"), 5)
    assert (ask.at(at_arrival=False), ask.source()) == (5, "")
    assert "`source`" in flight.malformed("depart", source="The Tower")


def test_a_leg_begins_after_what_is_before_it() -> None:
    """Nobody boards, or goes, before the attempt before came back, or before the landing that the leg goes on from."""
    for attempt, before in ((2, "the return before this attempt"), (1, "the landing where it was diverted to")):
        leg = Leg("MEL", "SYD", NO_SLOTS, attempt, ms("09:50"))
        boarded_since(leg, ms("09:50"))
        in_order(leg, {OUT: ms("09:50")})
        for early in (partial(boarded_since, leg, ms("09:49")), partial(in_order, leg, {OUT: ms("09:49")})):
            with pytest.raises(No) as no:
                early()
            assert _reason(no) == "out_of_order"
            assert f"would be before {before} at {at('09:50')}" in no.value.decision.message
