"""core.trip.state: a trip is the fold of its facts, and what is shown of it has stable names."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.machine import BY_GATEWAY, Recorded
from core.trip import state
from core.trip.state import FACTS, FENCES_KEPT_MAX, Trip, evolve, fold
from tests.flight_desk import ms
from tests.trip_desk import PLAN, SAID, planned, told, underway

T0 = ms("2026-11-21T06:00:00Z")


def event(type: str, seq: int = 1, at_ms: int = T0, **body: Any) -> Recorded:
    return Recorded(seq, type, "user:ann", at_ms, body)


def test_what_is_shown_of_a_trip() -> None:
    """Names and forms that programs and rules count on."""
    desk = planned()
    desk.done("notify", recipient="user:amy", stop="C", thresholds_s=[300, 600], quiet="", zone="UTC", push=False)
    desk.done("notify", recipient="user:bob", stop="B")
    desk.done("arrive", stop="A")
    desk.later(30)
    desk.done("depart", stop="A")
    desk.done("skip", stop="B")
    told(desk, merged=[600], push=False)
    desk.done("fence", by=BY_GATEWAY, **SAID["fence"])
    assert desk.show() == {
        "status": "underway",
        "mode": "bus",
        "subject": "device:bus-7",
        "stops": [
            PLAN["stops"][0]
            | {"state": "departed", "arrived": "2026-11-21T06:00:00.000Z", "departed": "2026-11-21T06:00:30.000Z"},
            PLAN["stops"][1] | {"state": "skipped"},
            PLAN["stops"][2] | {"state": "open"},
        ],
        "fences": ["depot"],
        "note": "school run",
        "next": "C",
        "route": PLAN["route"],
        "started": "2026-11-21T06:00:00.000Z",
        "recipients": [
            {
                "recipient": "user:amy", "stop": "C", "thresholds_s": [600, 300], "quiet": "", "zone": "UTC",
                "push": False,
            },
            {"recipient": "user:bob", "stop": "B", "push": True},
        ],
        "alerts": [
            {
                "stop": "C", "recipient": "user:amy", "threshold_s": 300, "at": "2026-11-21T06:00:30.000Z",
                "eta": "2026-11-21T06:05:00.000Z", "push": False,
            },
            {
                "stop": "C", "recipient": "user:amy", "threshold_s": 600, "at": "2026-11-21T06:00:30.000Z",
                "merged_into_s": 300,
            },
        ],
        "inside": [
            {"fence": "depot", "subject": "device:bus-7", "at": "2026-11-21T06:00:30.000Z", "dwelt": False}
        ],
    }  # fmt: skip
    assert fold(desk.events) == desk.state


def test_a_trip_without_a_plan_shows_little() -> None:
    """And one that ended says when, and why."""
    assert Trip().show() == {"status": "new", "recipients": [], "alerts": [], "inside": []}
    desk = planned()
    desk.done("cancel", reason="no driver")
    shown = desk.show()
    assert (shown["status"], shown["ended"], shown["reason"]) == ("cancelled", "2026-11-21T06:00:00.000Z", "no driver")
    assert [stop["state"] for stop in shown["stops"]] == ["missed"] * 3
    assert shown["next"] is None


def test_the_next_stop_is_after_the_last_that_was_reached() -> None:
    """What lies before it was passed, until somebody says that it was reached after all."""
    desk = underway()
    assert desk.state.ahead()[0] == desk.state.plan.stops[0]  # type: ignore[union-attr]
    desk.done("arrive", stop="B")
    assert [stop.stop for stop in desk.state.ahead()] == ["C"]
    assert [stop["state"] for stop in desk.show()["stops"]] == ["passed", "arrived", "open"]
    desk.done("arrive", stop="A")
    assert [stop["state"] for stop in desk.show()["stops"]] == ["arrived", "arrived", "open"]
    desk.done("arrive", stop="C")
    assert desk.state.ahead() == []
    assert Trip().ahead() == []


def test_another_plan_keeps_what_both_have() -> None:
    """Stops that were reached, wishes, and all alerts; a wish for a stop that is no more goes."""
    desk = underway()
    desk.done("arrive", stop="A")
    for stop in ("B", "C"):
        desk.done("notify", recipient="user:amy", stop=stop)
    told(desk)
    desk.done("plan", **(PLAN | {"stops": [PLAN["stops"][0], PLAN["stops"][1], PLAN["stops"][2] | {"stop": "D"}]}))
    now = desk.state
    assert list(now.stops) == ["A", "B", "D"]
    assert now.stops["A"].arrived_ms == T0
    assert list(now.recipients) == [("user:amy", "B")]
    assert list(now.alerts) == [("C", "user:amy", 300)]
    assert now.status == "underway"


def test_a_stop_that_was_skipped_may_be_reached_after_all() -> None:
    """What happened counts more than what was said."""
    desk = underway()
    desk.done("skip", stop="A")
    desk.done("arrive", stop="A")
    assert desk.show()["stops"][0]["state"] == "arrived"


def test_who_takes_back_a_wish_is_told_no_more() -> None:
    """Of one stop, or of all; others are."""
    desk = planned()
    for who in ("user:amy", "user:bob"):
        for stop in ("B", "C"):
            desk.done("notify", recipient=who, stop=stop)
    desk.done("unnotify", recipient="user:amy", stop="B")
    assert list(desk.state.recipients) == [("user:amy", "C"), ("user:bob", "B"), ("user:bob", "C")]
    desk.done("unnotify", recipient="user:bob")
    assert list(desk.state.recipients) == [("user:amy", "C")]


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_whose_body_was_trimmed_still_folds(fact: str) -> None:
    """Before and after a plan; it says at most that the trip has begun or ended."""
    for trip in (Trip(), underway().state):
        after = evolve(trip, event(fact))
        assert after.show()
        assert (after.plan, after.stops, after.recipients) == (trip.plan, trip.stops, trip.recipients)


def test_what_no_machine_wrote_changes_nothing() -> None:
    """Chat, and a stop that no plan has: the same object."""
    trip = underway().state
    assert evolve(trip, event("message", text="hi")) is trip
    assert evolve(trip, event("trip.arrived", stop="Z", at="2026-11-21T06:00:00.000Z")) is trip


def test_times_without_a_body_s_are_those_of_the_record() -> None:
    """As of facts of another version."""
    assert evolve(underway().state, event("trip.arrived", stop="A")).stops["A"].arrived_ms == T0


def test_few_fences_are_remembered() -> None:
    """Past the bound the one that was left longest ago is forgotten, never one that somebody is in."""
    trip = Trip()
    for n in range(FENCES_KEPT_MAX + 1):
        what = "enter" if n == 0 else "exit"
        at = f"2026-11-21T06:{n // 60:02}:{n % 60:02}.000Z"
        trip = evolve(trip, event("trip.fence", fence=f"f{n}", subject="device:a", what=what, at=at))
    assert len(trip.fences) == FENCES_KEPT_MAX
    assert ("f0", "device:a") in trip.fences
    assert ("f1", "device:a") not in trip.fences
    assert state.STATES[0] == trip.status
