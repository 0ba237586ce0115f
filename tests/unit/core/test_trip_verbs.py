"""core.trip.verbs: what each verb makes of a trip, and what it is refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from core.flight.machine import BY_GATEWAY, Fact, Malformed, Unallowed
from core.trip.state import ALERTS_MAX, RECIPIENTS_MAX, STATES, Trip
from core.trip.trips import TRIP
from core.trip.verbs import INSTEAD, THRESHOLDS_MAX
from tests.flight_desk import Desk
from tests.trip_desk import PLAN, SAID, by, planned, told, trip_in, underway

NOW = "2026-11-21T06:00:00.000Z"
LATER = "2026-11-21T06:02:00Z"


def _reached() -> Desk[Trip]:
    desk = underway()
    desk.done("arrive", stop="A")
    return desk


def _left() -> Desk[Trip]:
    desk = _reached()
    desk.done("depart", stop="A")
    return desk


def _skipped() -> Desk[Trip]:
    desk = underway()
    desk.done("notify", recipient="user:amy", stop="B")
    desk.done("skip", stop="B")
    return desk


def _wanted() -> Desk[Trip]:
    desk = underway()
    desk.done("notify", recipient="user:amy", stop="C")
    return desk


def _told() -> Desk[Trip]:
    desk = _wanted()
    assert isinstance(told(desk), list)
    return desk


def _inside() -> Desk[Trip]:
    desk = underway()
    desk.done("fence", by=BY_GATEWAY, **SAID["fence"])
    return desk


def _many_told() -> Desk[Trip]:
    desk = _wanted()
    [alert] = _told().state.alerts.values()
    desk.state = replace(desk.state, alerts={("C", f"user:u{n}", 300): alert for n in range(ALERTS_MAX)})
    return desk


def _many_wish() -> Desk[Trip]:
    desk = _wanted()
    [wish] = desk.state.recipients.values()
    desk.state = replace(desk.state, recipients={(f"user:u{n}", "C"): wish for n in range(RECIPIENTS_MAX)})
    return desk


REFUSED: dict[tuple[str, str], tuple[Callable[[], Desk[Trip]], dict[str, Any]]] = {
    ("plan", "wrong_state"): (lambda: trip_in("cancelled"), PLAN),
    ("plan", "unchanged"): (planned, PLAN),
    ("start", "wrong_state"): (lambda: trip_in("new"), {}),
    ("start", "unchanged"): (underway, {}),
    ("start", "impossible_time"): (planned, {"at": LATER}),
    ("arrive", "wrong_state"): (lambda: trip_in("completed"), {"stop": "B"}),
    ("arrive", "unknown_stop"): (underway, {"stop": "Z"}),
    ("arrive", "unchanged"): (_reached, {"stop": "A"}),
    ("arrive", "impossible_time"): (underway, {"stop": "A", "at": LATER}),
    ("depart", "wrong_state"): (lambda: trip_in("new"), {"stop": "A"}),
    ("depart", "unknown_stop"): (underway, {"stop": "Z"}),
    ("depart", "unchanged"): (_left, {"stop": "A"}),
    ("depart", "not_arrived"): (_reached, {"stop": "B"}),
    ("depart", "out_of_order"): (_reached, {"stop": "A", "at": "2026-11-21T05:59:59Z"}),
    ("depart", "impossible_time"): (_reached, {"stop": "A", "at": LATER}),
    ("skip", "wrong_state"): (lambda: trip_in("cancelled"), {"stop": "A"}),
    ("skip", "unknown_stop"): (planned, {"stop": "Z"}),
    ("skip", "arrived"): (_reached, {"stop": "A"}),
    ("skip", "unchanged"): (_skipped, {"stop": "B"}),
    ("complete", "wrong_state"): (planned, {}),
    ("complete", "unchanged"): (lambda: trip_in("completed"), {}),
    ("complete", "impossible_time"): (underway, {"at": LATER}),
    ("cancel", "wrong_state"): (lambda: trip_in("completed"), {"reason": "x"}),
    ("cancel", "unchanged"): (lambda: trip_in("cancelled"), {"reason": "x"}),
    ("notify", "wrong_state"): (lambda: trip_in("new"), SAID["notify"]),
    ("notify", "unknown_stop"): (planned, SAID["notify"] | {"stop": "Z"}),
    ("notify", "arrived"): (_reached, SAID["notify"] | {"stop": "A"}),
    ("notify", "too_many_recipients"): (_many_wish, SAID["notify"]),
    ("notify", "unchanged"): (_wanted, SAID["notify"]),
    ("unnotify", "wrong_state"): (lambda: trip_in("new"), SAID["unnotify"]),
    ("unnotify", "unchanged"): (_wanted, SAID["unnotify"] | {"stop": "B"}),
    ("alert", "wrong_state"): (lambda: trip_in("new"), SAID["alert"]),
    ("alert", "alerted"): (_told, SAID["alert"]),
    ("alert", "arrived"): (_skipped, SAID["alert"] | {"stop": "B"}),
    ("alert", "unknown_stop"): (_wanted, SAID["alert"] | {"stop": "Z"}),
    ("alert", "not_wanted"): (underway, SAID["alert"]),
    ("alert", "too_many_alerts"): (_many_told, SAID["alert"]),
    ("fence", "wrong_state"): (lambda: trip_in("completed"), SAID["fence"]),
    ("fence", "unchanged"): (_inside, SAID["fence"]),
    ("fence", "late"): (_inside, SAID["fence"] | {"what": "exit", "at": NOW}),
}


@pytest.mark.parametrize(("verb", "reason"), list(REFUSED))
def test_each_refusal_has_its_trip(verb: str, reason: str) -> None:
    """Whatever the table says that a verb may be refused for, it is refused for somewhere, and nothing changes."""
    make, body = REFUSED[verb, reason]
    desk = make()
    before = desk.state
    assert desk.refused(verb, by=by(verb), **body) == reason
    assert desk.state is before


def test_the_table_has_no_other_reasons() -> None:
    """Nor one that never comes."""
    assert set(REFUSED) == {(verb, reason) for verb, rule in TRIP.table.items() for reason in rule.refusals}
    assert INSTEAD.keys() == set(STATES)


@pytest.mark.parametrize(
    ("verb", "body", "says"),
    [
        ("plan", PLAN | {"mode": "x"}, "`mode`"),
        ("start", {"at": "now"}, "`at`"),
        ("arrive", {}, "`stop`"),
        ("depart", {"stop": 7}, "`stop`"),
        ("skip", {"stop": "A", "why": ""}, "`why`"),
        ("complete", {"at": 5}, "`at`"),
        ("cancel", {}, "`reason`"),
        ("notify", {"recipient": "device:x", "stop": "A"}, "`recipient` must be a principal such as user:NAME"),
        ("notify", SAID["notify"] | {"thresholds_s": []}, "`thresholds_s` must be a list of 1 to 8"),
        ("notify", SAID["notify"] | {"thresholds_s": [29]}, "`thresholds_s`"),
        ("notify", SAID["notify"] | {"thresholds_s": [True]}, "`thresholds_s`"),
        ("notify", SAID["notify"] | {"thresholds_s": list(range(60, 60 + THRESHOLDS_MAX + 1))}, "`thresholds_s`"),
        ("notify", SAID["notify"] | {"quiet": "at night"}, "`quiet` must be two local times"),
        ("notify", SAID["notify"] | {"quiet": 7}, "`quiet`"),
        ("notify", SAID["notify"] | {"zone": "Nowhere/Land"}, "`zone` must be a time zone"),
        ("notify", SAID["notify"] | {"push": "yes"}, "`push`"),
        ("unnotify", {"recipient": "amy"}, "`recipient`"),
        ("alert", SAID["alert"] | {"eta": None}, "`eta`"),
        ("alert", SAID["alert"] | {"merged": [5]}, "`merged`"),
        ("alert", SAID["alert"] | {"merged": "600"}, "`merged`"),
        ("fence", SAID["fence"] | {"what": "jump"}, "`what`"),
        ("fence", SAID["fence"] | {"colour": "red"}, "fence has no `colour`"),
    ],
)
def test_what_is_no_command_is_told(verb: str, body: dict[str, Any], says: str) -> None:
    """Before the state is looked at: it could never be obeyed."""
    decision = _wanted().ask(verb, by=by(verb), **body)
    assert isinstance(decision, Malformed)
    assert says in decision.message


@pytest.mark.parametrize("verb", ["alert", "fence"])
def test_the_gateway_alone_says_what_it_worked_out(verb: str) -> None:
    """No owner, and no service of another name."""
    for who in ("user:ann", "service:ops"):
        assert isinstance(_wanted().ask(verb, by=who, **SAID[verb]), Unallowed)


def test_members_ask_for_themselves_alone() -> None:
    """And take back what they asked for; owners do both for everybody."""
    desk = planned()
    assert isinstance(desk.tell("notify", "member", "user:bob", **SAID["notify"]), Unallowed)
    assert desk.done("notify", "member", "user:amy", **SAID["notify"])
    assert isinstance(desk.tell("unnotify", "member", "user:bob", **SAID["unnotify"]), Unallowed)
    assert desk.done("unnotify", "member", "user:amy", **SAID["unnotify"])
    assert desk.done("notify", "owner", "user:bob", **SAID["notify"])


def test_where_it_arrives_it_has_begun() -> None:
    """Though nobody said so."""
    desk = planned()
    at = "2026-11-21T05:50:00.000Z"
    assert desk.done("arrive", stop="A", at="2026-11-21T16:50:00+11:00") == [
        Fact("trip.started", {"at": at}),
        Fact("trip.arrived", {"stop": "A", "at": at}),
    ]
    assert desk.done("arrive", stop="B") == [Fact("trip.arrived", {"stop": "B", "at": NOW})]


def test_a_stop_is_skipped_for_a_reason_or_for_none() -> None:
    """What is said is kept."""
    desk = planned()
    assert desk.done("skip", stop="A", why="road closed") == [Fact("trip.skipped", {"stop": "A", "why": "road closed"})]
    assert desk.done("skip", stop="B") == [Fact("trip.skipped", {"stop": "B"})]


def test_a_wish_is_made_anew_where_it_differs() -> None:
    """In its thresholds, hours, zone or push; in what order thresholds are said makes no difference."""
    desk = planned()
    first: dict[str, Any] = {"recipient": "user:amy", "stop": "C", "thresholds_s": [300, 600, 300]}
    assert desk.done("notify", **first)[0].body["thresholds_s"] == [600, 300]
    assert desk.refused("notify", **(first | {"thresholds_s": [600, 300]})) == "unchanged"
    changes: tuple[dict[str, Any], ...] = (
        {"thresholds_s": [300]},
        {"quiet": ""},
        {"zone": "Australia/Sydney"},
        {"push": False},
    )
    for changed in changes:
        first |= changed
        assert desk.done("notify", **first)
        assert desk.refused("notify", **first) == "unchanged"


def test_an_alert_says_what_was_shown() -> None:
    """With the interval, where it came from, the stop's name, and what it stands for too."""
    desk = planned()
    desk.done("notify", recipient="user:amy", stop="A")
    [fact] = told(desk, stop="A", low="2026-11-21T06:04:00Z", source="route", merged=[600, 300, 900])
    assert fact == Fact(
        "trip.alert",
        {
            "recipient": "user:amy",
            "stop": "A",
            "threshold_s": 300,
            "eta": "2026-11-21T06:05:00.000Z",
            "low": "2026-11-21T06:04:00.000Z",
            "high": "2026-11-21T06:05:00.000Z",
            "source": "route",
            "push": True,
            "at": NOW,
            "name": "Central",
            "merged": [900, 600],
        },
    )
    assert "merged" not in _wanted_alert().body


def _wanted_alert() -> Fact:
    [fact] = told(_wanted(), push=False)
    assert fact.body["push"] is False
    assert "name" not in fact.body
    return fact  # type: ignore[no-any-return]


@pytest.mark.parametrize("threshold_s", [300, 600])
def test_nobody_is_told_twice(threshold_s: int) -> None:
    """Of what was told, or counted as told with another; not after a new wish, nor by another plan, nor after the trip."""
    desk = _wanted()
    told(desk, merged=[600])
    again = SAID["alert"] | {"threshold_s": threshold_s}
    assert desk.refused("alert", by=BY_GATEWAY, **again) == "alerted"
    desk.done("unnotify", recipient="user:amy")
    assert desk.refused("alert", by=BY_GATEWAY, **again) == "alerted"
    desk.done("notify", recipient="user:amy", stop="C", thresholds_s=[threshold_s])
    desk.done("plan", **(PLAN | {"note": "another"}))
    assert desk.refused("alert", by=BY_GATEWAY, **again) == "alerted"
    desk.done("complete")
    assert desk.refused("alert", by=BY_GATEWAY, **again) == "alerted"


def test_nobody_is_told_of_what_is_over_or_not_wanted_so() -> None:
    """Reached, or the trip ended; a threshold that they did not ask for."""
    desk = _wanted()
    desk.done("notify", recipient="user:amy", stop="C", thresholds_s=[600])
    assert desk.refused("alert", by=BY_GATEWAY, **SAID["alert"]) == "not_wanted"
    desk.done("arrive", stop="C")
    assert desk.refused("alert", by=BY_GATEWAY, **SAID["alert"]) == "arrived"
    desk.done("cancel", reason="fog")
    assert desk.refused("alert", by=BY_GATEWAY, **SAID["alert"]) == "arrived"


def test_a_merged_threshold_that_was_told_before_is_left_out() -> None:
    """It keeps the time when it was told."""
    desk = _wanted()
    told(desk, threshold_s=600)
    desk.later(60)
    [fact] = told(desk, merged=[600])
    assert "merged" not in fact.body
    assert desk.state.alerts["C", "user:amy", 600].told_s == 600


def test_who_is_in_a_fence_leaves_it_before_coming_in_again() -> None:
    """Of each subject; staying is said once, of who is inside."""
    desk = underway()

    def fence(what: str, subject: str = "device:bus-7") -> str:
        desk.later(1)
        decision = desk.tell("fence", by=BY_GATEWAY, fence="depot", what=what, subject=subject)
        return "taken" if isinstance(decision, list) else getattr(decision, "reason", "")

    said = [fence(what) for what in ("exit", "dwell", "enter", "enter", "dwell", "dwell", "exit", "exit", "enter")]
    taken, same = "taken", "unchanged"
    assert said == [same, same, taken, same, taken, same, taken, same, taken]
    assert fence("enter", "user:amy") == "taken"
