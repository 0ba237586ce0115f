"""core.flight.leg_view: a flight as it is seen, now and as of any moment."""

from __future__ import annotations

import json

import pytest

from core.flight.leg_state import State
from core.flight.leg_view import fold, show, true_from_ms
from core.flight.machine import Fact, Recorded
from tests.legs import NOW, SCHEDULE, Flight, at, flown, ms

FIELDS = {
    "flight",
    "operator",
    "registration",
    "type",
    "service",
    "from",
    "to",
    "status",
    "attempt",
    "delayed",
    "gates",
    "boarding",
    "cancelled",
    "diverted",
    "times",
    "etd",
    "eta",
    "legs",
    "corrections",
}


def _seen(flight: Flight, known: str | None = None, valid: str | None = None) -> dict[str, object]:
    return show(fold(flight.events, None if known is None else ms(known), None if valid is None else ms(valid)))


def test_every_flight_has_the_same_fields_and_is_json() -> None:
    """Also one that nobody scheduled."""
    for flight in (Flight(scheduled=False), Flight(), flown()):
        assert set(flight.shown) == FIELDS
        assert json.loads(json.dumps(flight.shown)) == flight.shown
        assert list(flight.shown["times"]) == ["OUT", "OFF", "ON", "IN"]
    assert show(State())["status"] == "new"


def test_the_best_time_is_the_actual_then_the_estimated_then_the_target_then_the_scheduled() -> None:
    """With who said it, and the seq to correct it by."""
    flight = Flight()
    seen = [flight.shown["times"]["OUT"]["best"]]
    for verb, time in (("target", "09:35"), ("estimate", "09:40"), ("depart", "09:38")):
        which = {} if verb == "depart" else {"milestone": "OUT"}
        flight.did(verb, at=at(time), source="ops", **which)
        seen.append(flight.shown["times"]["OUT"]["best"])
    assert seen == [at("09:30"), at("09:35"), at("09:40"), at("09:38")]
    assert flight.shown["times"]["OUT"] == {
        "scheduled": at("09:30"),
        "estimated": at("09:40"),
        "target": at("09:35"),
        "actual": at("09:38"),
        "best": at("09:38"),
        "ref": 4,
        "source": "ops",
    }


def test_departure_and_arrival_are_told_by_the_gate_where_it_can() -> None:
    """Else by what is better known than a schedule."""
    flight = Flight()
    assert (flight.shown["etd"], flight.shown["eta"]) == (at("09:30"), at("10:55"))
    flight.did("estimate", milestone="ON", at=at("11:05"))
    assert flight.shown["eta"] == at("11:05")
    flight.did("estimate", milestone="IN", at=at("11:15"))
    assert flight.shown["eta"] == at("11:15")
    flight.did("takeoff", at=at("09:55"))
    assert flight.shown["etd"] == at("09:55")
    assert (show(State())["etd"], show(State())["eta"]) == (None, None)


def test_delay_is_an_attribute_and_counts_from_the_schedule() -> None:
    """Whole minutes that it is late, and what its reasons come to; early is not late."""
    flight = Flight()
    flight.did("estimate", milestone="OUT", at="2026-11-21T09:46:59Z")
    assert flight.shown["delayed"] == {"minutes": 16, "coded_minutes": 0, "reasons": []}
    flight.did("delay", reasons=[{"code": "93", "minutes": 10}, {"code": "31C", "minutes": 6}])
    assert flight.shown["delayed"]["coded_minutes"] == 16
    early = Flight()
    early.did("depart", at=at("09:25"))
    assert early.shown["delayed"] is None


def test_as_of_a_time_recorded_only_what_was_known_counts() -> None:
    """The late message had not come."""
    flight = Flight()
    flight.events[0] = flight.events[0]._replace(at_ms=ms("06:00"))
    flight.did("depart", at=at("10:05"), now=at("10:20"))
    assert _seen(flight, known="10:19")["status"] == "scheduled"
    assert _seen(flight, known="10:20")["status"] == "departed"


def test_as_of_a_time_of_truth_only_what_was_so_counts() -> None:
    """An OUT at 10:05 is not true at 10:04, and true at 10:05, whenever it was recorded."""
    flight = Flight()
    flight.did("board", at=at("09:50"), now=at("10:20"))
    flight.did("depart", at=at("10:05"), now=at("10:20"))
    assert [_seen(flight, valid=valid)["status"] for valid in ("09:49", "09:50", "10:04", "10:05")] == [
        "scheduled",
        "boarding",
        "boarding",
        "departed",
    ]
    assert _seen(flight)["status"] == "departed"
    assert _seen(flight, known="10:19", valid="10:30")["status"] == "new"


def test_what_was_corrected_was_always_so() -> None:
    """As far as it was known: earlier and later corrections, and withdrawals."""
    flight = Flight()
    flight.events[0] = flight.events[0]._replace(at_ms=ms("06:00"))
    flight.did("depart", at=at("10:05"), now=at("10:06"))
    flight.did("correct", ref=2, at=at("10:20"), why="brake log", now=at("11:00"))
    assert _seen(flight, valid="10:10")["status"] == "scheduled"
    assert _seen(flight, known="10:59", valid="10:10")["status"] == "departed"
    flight.did("correct", ref=2, at=at("10:01"), why="no, the other way", now=at("11:30"))
    assert _seen(flight, valid="10:02")["status"] == "departed"
    flight.did("withdraw", ref=2, why="another flight's", now=at("11:40"))
    assert _seen(flight, valid="10:30")["status"] == "scheduled"
    assert _seen(flight, known="11:39", valid="10:30")["status"] == "departed"


def test_what_has_no_time_of_its_own_is_true_from_when_it_was_recorded() -> None:
    """A delay, a gate, a cancellation, an estimate; the schedule was always there."""
    flight = Flight()
    flight.did("delay", reasons=[{"code": "93", "minutes": 10}], now=at("09:00"))
    flight.did("estimate", milestone="OUT", at=at("09:40"), now=at("09:10"))
    flight.did("cancel", reason="fog", now=at("09:20"))
    assert _seen(flight, valid="08:59")["delayed"] is None
    assert _seen(flight, valid="09:09")["etd"] == at("09:30")
    assert _seen(flight, valid="09:10")["etd"] == at("09:40")
    assert [_seen(flight, valid=valid)["status"] for valid in ("09:19", "09:20")] == ["scheduled", "cancelled"]


def test_diversions_and_returns_are_true_from_their_own_time() -> None:
    """A return at 09:50 that was told at noon."""
    flight = flown(to="OUT")
    flight.did("return", to="gate", at=at("09:50"), reason="a light")
    flight.did("depart", at=at("10:10"))
    flight.did("divert", to="CBR", at=at("10:40"), reason="fog")
    attempts = [_seen(flight, valid=valid)["attempt"] for valid in ("09:49", "09:50")]
    states = [_seen(flight, valid=valid)["status"] for valid in ("09:40", "09:55", "10:10", "10:40")]
    assert (attempts, states) == ([1, 2], ["departed", "scheduled", "departed", "diverted"])


def test_as_of_the_end_is_the_flight_itself() -> None:
    """Folding all events is what evolving them one by one is; chat among them says nothing."""
    flight = flown()
    flight.did("correct", ref=2, at=at("09:33"), why="x")
    talk = Recorded(99, "chat.message", "user:amy", ms(NOW), {"text": "hi"})
    assert fold([*flight.events, talk]) == fold(flight.events, ms(NOW), ms(NOW)) == flight.state


@pytest.mark.parametrize(
    ("type", "body", "true"),
    [
        ("flight.scheduled", {}, 0),
        ("flight.corrected", {"at": at("10:00")}, 0),
        ("flight.withdrawn", {}, 0),
        ("flight.milestone", {"kind": "actual", "at": at("10:00")}, ms("10:00")),
        ("flight.milestone", {"kind": "estimated", "at": at("10:00")}, 7),
        ("flight.milestone", {"kind": "actual", "at": "noon"}, 7),
        ("flight.boarding", {"at": at("10:00")}, ms("10:00")),
        ("flight.gate", {}, 7),
        ("chat.message", {"at": at("10:00")}, 7),
    ],
)
def test_the_rule_for_each_kind_of_fact(type: str, body: dict[str, str], true: int) -> None:
    """As the module says it."""
    assert true_from_ms(Recorded(1, type, "user:amy", 7, body)) == true


def test_a_leg_that_was_never_scheduled_well_is_shown_all_the_same() -> None:
    """As one of an older version might be: late by nothing that is known."""
    flight = Flight(scheduled=False)
    flight.record(Fact("flight.scheduled", {"flight": "QX12", "from": "MEL", "to": "SYD"}))
    flight.record(Fact("flight.milestone", {"milestone": "ON", "kind": "actual", "at": at("10:00")}))
    shown = flight.shown
    assert (shown["status"], shown["delayed"], shown["etd"], shown["eta"]) == ("landed", None, None, at("10:00"))


def test_an_estimate_that_is_corrected_moves_no_diversion() -> None:
    """A diversion with its `eta` is one event: what is corrected of it is the estimate, and it was diverted when it was."""
    flight = flown(to="OFF")
    flight.did("divert", to="CBR", at=at("10:00"), eta=at("11:00"), reason="fog")
    flight.did("correct", ref=flight.seq, at=at("11:30"), why="holding")
    seen = _seen(flight, valid="10:30")
    assert seen["status"] == "diverted"
    assert (flight.shown["diverted"]["eta"], flight.best("ON")) == (at("11:30"), "11:30")


def test_what_is_told_of_the_onward_leg_is_not_told_of_the_one_before() -> None:
    """It may be older than the event by which there was an onward leg: then it is true from that one on."""
    flight = flown(to="OFF")
    flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
    flight.did("land", at=at("10:50"))
    flight.did("continue", {"out": at("11:30"), "in": at("12:20")}, now="2026-11-21T11:40Z")
    flight.did("depart", at=at("11:31"), now="2026-11-21T11:45Z")
    between, after = _seen(flight, valid="11:35"), _seen(flight, valid="11:40")
    assert (between["status"], between["times"]["OUT"]["actual"]) == ("diverted", at("09:32"))  # type: ignore[index]
    assert (after["status"], after["times"]["OUT"]["actual"]) == ("departed", at("11:31"))  # type: ignore[index]
    assert after == flight.shown


def test_a_time_that_another_has_overtaken_was_never_true() -> None:
    """The sensors say that it left at ten to ten: it had not at 09:40, whatever operations say, before or since."""
    flight = Flight(scheduled=False)
    flight.did("schedule", SCHEDULE, now="2026-11-21T06:00Z")
    flight.did("depart", at=at("09:32"), source="ops", now="2026-11-21T09:33Z")
    flight.did("depart", at=at("09:50"), source="acars", now="2026-11-21T09:52Z")
    assert _seen(flight, known="09:40", valid="09:40")["status"] == "departed"
    assert [_seen(flight, valid=valid)["status"] for valid in ("09:40", "09:50")] == ["scheduled", "departed"]
    flight.did("depart", at=at("09:33"), source="ops")
    assert _seen(flight, valid="09:40")["status"] == "scheduled"
    flight.did("withdraw", ref=3, why="of another aircraft")
    assert _seen(flight, valid="09:40")["status"] == "departed"


def test_times_of_an_attempt_that_ended_are_not_overtaken_by_those_of_the_next() -> None:
    """Each attempt, and each leg, has its own."""
    flight = flown(to="OUT")
    flight.did("return", to="gate", at=at("09:50"), reason="a light")
    flight.did("depart", at=at("10:10"))
    assert [_seen(flight, valid=valid)["status"] for valid in ("09:40", "09:50", "10:10")] == [
        "departed",
        "scheduled",
        "departed",
    ]
