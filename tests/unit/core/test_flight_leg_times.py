"""core.flight.leg_times: what is said of a flight's times becomes facts in UTC, whoever says it and in what order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from core.flight.machine import Fact
from tests.legs import SCHEDULE, Flight, at, flown


def _milestone(name: str, kind: str, time: str, source: str = "") -> Fact:
    return Fact(
        "flight.milestone",
        {"milestone": name, "kind": kind, "at": at(time)} | ({"source": source} if source else {}),
    )


def test_a_schedule_in_local_times_is_kept_in_utc() -> None:
    """Each time in its own airport's zone: Perth is three hours behind Sydney in summer."""
    flight = Flight(scheduled=False)
    local = {"from": "PER", "to": "SYD", "out": "2026-11-21T06:00", "in": "2026-11-21T13:10", "zone": "local"}
    (fact,) = flight.did("schedule", {"flight": "QX581"} | local)
    assert fact.body == {
        "flight": "QX581",
        "from": "PER",
        "to": "SYD",
        "out": "2026-11-20T22:00:00.000Z",
        "in": "2026-11-21T02:10:00.000Z",
    }


def test_a_schedule_keeps_what_is_known_of_operator_and_aircraft() -> None:
    """And nothing where nothing is."""
    flight = Flight(scheduled=False)
    more = {"operator": "QX", "registration": "VH-QXA", "type": "B738", "service": "J"}
    (fact,) = flight.did("schedule", SCHEDULE | more)
    assert {name: fact.body[name] for name in more} == more
    assert not more.keys() & Flight().events[0].body.keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flight", "qx12"),
        ("flight", None),
        ("from", "ZZZ9"),
        ("to", 5),
        ("out", "2026-11-21T20:30"),
        ("in", None),
        ("operator", "Q"),
        ("registration", "vh-qxa"),
        ("type", "BOEING"),
        ("service", "JJ"),
        ("zone", "here"),
    ],
)
def test_a_schedule_names_the_field_that_is_wrong(field: str, value: object) -> None:
    """Whatever it is."""
    assert f"`{field}`" in Flight(scheduled=False).malformed("schedule", SCHEDULE | {field: value})


def test_a_reschedule_says_what_changes_and_no_more() -> None:
    """Either end or both; a reason where there is one."""
    flight = Flight()
    assert flight.did("reschedule", out=at("09:45"), reason="curfew") == [
        Fact("flight.rescheduled", {"out": at("09:45"), "reason": "curfew"})
    ]
    assert flight.did("reschedule", {"out": at("09:45"), "in": at("11:10")}) == [
        Fact("flight.rescheduled", {"in": at("11:10")})
    ]
    assert "`out`, `in`" in flight.malformed("reschedule", reason="curfew")


def test_milestones_come_in_any_order() -> None:
    """All 24 orders of the four end in the same flight."""
    told = {"depart": "09:32", "takeoff": "09:44", "land": "10:41", "arrive": "10:52"}
    planned = flown()
    for order in itertools.permutations(told):
        flight = Flight()
        for verb in order:
            flight.did(verb, at=at(told[verb]))
        assert flight.status == "completed"
        assert [flight.best(name) for name in ("OUT", "OFF", "ON", "IN")] == list(told.values())
        assert flight.shown["eta"] == planned.shown["eta"]


def test_the_same_source_may_say_it_otherwise_and_the_newest_holds() -> None:
    """A second different time supersedes; who repeats the first again has changed its mind again."""
    flight = Flight()
    flight.did("depart", at=at("09:32"), source="acars")
    flight.did("depart", at=at("09:34"), source="acars")
    assert flight.best("OUT") == "09:34"
    flight.did("depart", at=at("09:32"), source="acars")
    assert flight.best("OUT") == "09:32"


def test_the_aircraft_is_believed_before_people() -> None:
    """Whoever came last; a source that is not in the list is believed least."""
    flight = Flight()
    for time, source, holds in (
        ("09:31", "desk", "09:31"),
        ("09:33", "acars", "09:33"),
        ("09:35", "ops", "09:33"),
        ("09:36", "atc", "09:33"),
    ):
        flight.did("depart", at=at(time), source=source)
        assert flight.best("OUT") == holds
    flight.did("withdraw", ref=3, why="a test of the sensor")
    assert flight.best("OUT") == "09:36"


def test_of_estimates_the_newest_holds_whoever_says_it() -> None:
    """Who knows later knows better; of targets as well."""
    flight = Flight()
    for verb, kind in (("estimate", "estimated"), ("target", "target")):
        assert flight.did(verb, milestone="ON", at=at("10:50"), source="acars") == [
            _milestone("ON", kind, "10:50", "acars")
        ]
        flight.did(verb, milestone="ON", at=at("10:58"), source="desk")
        assert flight.shown["times"]["ON"][kind] == at("10:58")


def test_what_has_been_needs_no_time_said() -> None:
    """It is now, by the gateway's clock."""
    flight = Flight()
    assert flight.did("depart", now="2026-11-21T09:31:07.250Z")[0].body["at"] == "2026-11-21T09:31:07.250Z"
    assert "`at`" in flight.malformed("estimate", milestone="ON")


def test_a_local_time_is_read_where_the_milestone_is() -> None:
    """A movement message of Perth and one of Sydney."""
    flight = Flight(scheduled=False)
    flight.did(
        "schedule",
        {"flight": "QX581", "from": "PER", "to": "SYD", "out": at("02:00"), "in": at("06:10")},
        now=at("01:00"),
    )
    flight.did("depart", at="2026-11-21T10:05", zone="local")
    flight.did("land", at="2026-11-21T17:02", zone="local")
    assert (flight.best("OUT"), flight.best("ON")) == ("02:05", "06:02")


def test_a_movement_message_is_several_facts() -> None:
    """AD with EA and DL: times, what is expected, and why it is late, all or nothing."""
    flight = Flight()
    facts = flight.did(
        "movement",
        actual={"OFF": at("09:58"), "OUT": at("09:46")},
        estimated={"ON": at("11:02")},
        reasons=[{"code": "RA", "minutes": 16}],
        source="handling",
    )
    assert facts == [
        _milestone("OUT", "actual", "09:46", "handling"),
        _milestone("OFF", "actual", "09:58", "handling"),
        _milestone("ON", "estimated", "11:02", "handling"),
        Fact("flight.delayed", {"reasons": [{"code": "93", "minutes": 16}]}),
    ]
    refusal = flight.refused("movement", actual={"ON": at("11:00"), "IN": at("10:59")}, source="handling")
    assert refusal.reason == "out_of_order"


def test_of_a_movement_what_is_known_already_is_passed_over() -> None:
    """The arrival message repeats the departure; what is new in it is taken."""
    flight = flown(to="OFF")
    told = {"OUT": at("09:32"), "OFF": at("09:44"), "ON": at("10:41")}
    assert flight.did("movement", actual=told) == [_milestone("ON", "actual", "10:41")]
    flight.did("movement", estimated={"IN": at("12:30")})
    reasons = [{"code": "93", "minutes": 2}]
    both = {"estimated": {"IN": at("12:30")}, "reasons": reasons}
    assert flight.did("movement", both) == [Fact("flight.delayed", {"reasons": reasons})]
    assert flight.refused("movement", both).reason == "unchanged"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`actual`, `estimated` or `reasons`"),
        ({"actual": {}}, "`actual`, `estimated` or `reasons`"),
        ({"actual": []}, "`actual`"),
        ({"estimated": {"ETA": "2026-11-21T10:00Z"}}, "`estimated`"),
        ({"actual": {"OUT": 932}}, "`actual.OUT`"),
        ({"actual": {"OUT": "2026-11-21T09:32Z"}, "reasons": [{}]}, "`reasons[0].code`"),
    ],
)
def test_a_movement_that_says_nothing_or_says_it_wrongly(body: dict[str, Any], said: str) -> None:
    """None of it is kept."""
    assert said in Flight().malformed("movement", body)


def test_the_reasons_of_a_delay_are_replaced_and_can_be_none() -> None:
    """The last list is all there is."""
    flight = Flight()
    flight.did("delay", reasons=[{"code": "93", "minutes": 10}, {"code": "81", "minutes": 5}])
    flight.did("delay", reasons=[{"code": "93", "minutes": 15}])
    assert flight.shown["delayed"] == {
        "minutes": 0,
        "coded_minutes": 15,
        "reasons": [{"code": "93", "minutes": 15}],
    }
    flight.did("delay", reasons=[])
    assert flight.shown["delayed"] is None


def test_what_changes_nothing_is_no_fact() -> None:
    """A schedule that it has, an actual time told twice."""
    assert Flight().refused("reschedule", out=at("09:30")).reason == "unchanged"
    assert flown(to="OUT").refused("depart", at=at("09:32")).reason == "unchanged"
