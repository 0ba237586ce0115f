"""core.flight.leg_verbs: gates, aircraft, what goes otherwise than planned, and what sets right what was said."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.leg_asks import LEGS_MAX
from core.flight.machine import Fact
from tests.legs import Flight, at, flown


def _diverted(**more: Any) -> Flight:
    flight = flown(to="OFF")
    flight.did("divert", to="CBR", at=at("10:20"), reason="fog", **more)
    return flight


def test_boarding_is_a_fact_with_its_time() -> None:
    """Now, where none is said; an owner corrects or withdraws it."""
    flight = Flight()
    assert flight.did("board", at=at("09:05")) == [Fact("flight.boarding", {"at": at("09:05")})]
    flight.did("correct", ref=2, at=at("09:10"), why="a test call")
    assert (flight.status, flight.shown["boarding"]) == ("boarding", at("09:10"))
    assert flight.refused("correct", ref=2, at=at("12:11"), why="x").reason == "in_future"
    flight.did("withdraw", ref=2, why="wrong flight")
    assert (flight.status, flight.shown["boarding"]) == ("scheduled", None)
    assert [note["was"] for note in flight.shown["corrections"]] == [at("09:05"), at("09:10")]


def test_gates_of_both_ends_are_said_together_or_each() -> None:
    """What has not changed is not said again."""
    flight = Flight()
    flight.did("gate", departure={"terminal": "1", "gate": "7"}, arrival={"stand": "42L"})
    assert flight.did("gate", departure={"gate": "9"}, arrival={"stand": "42L"}) == [
        Fact("flight.gate", {"departure": {"gate": "9"}})
    ]
    assert flight.shown["gates"] == {"departure": {"gate": "9"}, "arrival": {"stand": "42L"}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`departure`, `arrival`"),
        ({"departure": "7"}, "`departure`"),
        ({"departure": {}}, "`departure`"),
        ({"arrival": {"door": "7"}}, "`arrival`"),
        ({"arrival": {"gate": "seven to nine"}}, "`gate`"),
        ({"arrival": {"gate": None}}, "`gate`"),
    ],
)
def test_a_gate_is_a_place(body: dict[str, Any], said: str) -> None:
    """And what is none is named."""
    assert said in Flight().malformed("gate", body)


def test_an_aircraft_is_named_and_substituted() -> None:
    """The fact says which one it was before; the type stays where none is said."""
    flight = Flight()
    assert flight.did("equip", registration="VH-QXA", type="B738")[0].body == {
        "registration": "VH-QXA",
        "type": "B738",
    }
    assert flight.did("equip", registration="VH-QXB")[0].body == {
        "registration": "VH-QXB",
        "type": "B738",
        "was": "VH-QXA",
    }
    other = Flight()
    assert other.did("equip", registration="VH-QXA")[0].body == {"registration": "VH-QXA"}
    assert "`registration`" in flight.malformed("equip", type="B738")


def test_a_cancelled_flight_is_reinstated_as_it_was() -> None:
    """To what its facts say, boarding too; meanwhile nothing else is taken."""
    flight = Flight()
    flight.did("board", at=at("09:05"))
    flight.did("cancel", reason="no crew", by="user:ops")
    assert flight.status == "cancelled"
    assert flight.shown["cancelled"] == {"reason": "no crew", "at": at("12:00"), "by": "user:ops", "seq": 3}
    assert "`reinstate`" in flight.refused("depart").message
    flight.did("correct", ref=2, at=at("09:06"), why="misread")
    assert flight.did("reinstate", reason="crew found") == [Fact("flight.reinstated", {"reason": "crew found"})]
    assert (flight.status, flight.shown["cancelled"]) == ("boarding", None)
    flight.did("cancel", reason="again")
    assert flight.did("reinstate") == [Fact("flight.reinstated", {})]
    assert "`reason`" in flight.malformed("cancel")


def test_a_diversion_and_its_continuation_are_one_flight() -> None:
    """The key stays; the leg that is over is kept with its times, and the next begins where it landed."""
    flight = _diverted(eta="2026-11-21T21:52", zone="local")
    assert flight.events[-1].body["eta"] == at("10:52")
    assert (flight.status, flight.best("ON")) == ("diverted", "10:52")
    assert flight.shown["diverted"] == {
        "to": "CBR",
        "at": at("10:20"),
        "eta": at("10:52"),
        "reason": "fog",
        "ref": 4,
    }
    flight.did("gate", arrival={"stand": "5"})
    flight.did("land", at=at("10:50"))
    flight.did("arrive", at=at("10:58"))
    assert flight.status == "diverted"
    assert flight.did("continue", {"out": at("12:30"), "in": at("13:20")})[0].body == {
        "from": "CBR",
        "to": "SYD",
        "out": at("12:30"),
        "in": at("13:20"),
    }
    shown = flight.shown
    assert (shown["flight"], shown["from"], shown["to"], shown["status"]) == ("QX12", "CBR", "SYD", "scheduled")
    assert shown["gates"] == {"departure": {"stand": "5"}, "arrival": None}
    assert shown["legs"] == [
        {
            "from": "MEL",
            "to": "CBR",
            "attempt": 1,
            "ended": "diverted",
            "at": at("10:20"),
            "reason": "fog",
            "times": {"OUT": at("09:32"), "OFF": at("09:44"), "ON": at("10:50"), "IN": at("10:58")},
        }
    ]
    flight.did("depart", at=at("12:35"), now=at("12:36"))
    assert flight.status == "departed"


def test_a_diversion_may_go_on_to_another_airport_or_elsewhere() -> None:
    """Where it goes on to is the first destination unless another is said."""
    flight = _diverted()
    flight.did("divert", to="NTL", at=at("10:30"), reason="fog at Canberra too")
    flight.did("land", at=at("10:50"))
    flight.did("continue", {"to": "BNE", "out": at("12:30"), "in": at("13:50")})
    assert (flight.shown["from"], flight.shown["to"], len(flight.shown["legs"])) == ("NTL", "BNE", 1)


@pytest.mark.parametrize(
    ("to", "said"), [("MEL", "`return`"), ("SYD", "`withdraw` seq 4"), ("CBR", "diverted to CBR already")]
)
def test_where_it_cannot_be_diverted_to(to: str, said: str) -> None:
    """Back is a return, on is a withdrawal, and where it goes already is no news."""
    refusal = _diverted().refused("divert", to=to, reason="fog")
    assert (refusal.reason, said in refusal.message) == ("same_airport", True)
    assert "where its leg ends" in flown(to="OFF").refused("divert", to="SYD", reason="fog").message


def test_an_arrival_at_the_alternate_is_after_the_diversion() -> None:
    """By what it says itself."""
    refusal = flown(to="OFF").refused("divert", to="CBR", at=at("10:20"), eta=at("10:19"), reason="fog")
    assert refusal.reason == "out_of_order"


def test_a_diversion_told_after_the_landing_is_taken() -> None:
    """Sensors are faster than people; the landing was there."""
    for to in ("ON", "IN"):
        flight = flown(to=to)
        flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
        assert flight.status == "diverted"
        flight.did("continue", {"out": at("12:30"), "in": at("13:20")})


def test_a_diversion_of_what_left_unseen_is_taken() -> None:
    """OUT and OFF are still to be told, and the landing was."""
    flight = Flight()
    flight.did("land", at=at("10:41"))
    flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
    assert flight.status == "diverted"


def test_a_diversion_is_withdrawn_with_its_estimate() -> None:
    """The flight is bound for where it was."""
    flight = _diverted(eta=at("10:52"))
    flight.did("withdraw", ref=4, why="it held, and landed")
    assert (flight.status, flight.shown["diverted"], flight.best("ON")) == ("departed", None, None)
    assert flight.shown["corrections"][0]["was"] == at("10:20")


def test_a_return_to_the_gate_begins_another_attempt() -> None:
    """What was expected counts no more, what was planned does, and the attempt that ended is kept."""
    flight = flown(to="OUT")
    flight.did("estimate", milestone="ON", at=at("10:45"))
    assert flight.did("return", to="gate", at=at("09:50"), reason="a door light")[0].body == {
        "to": "gate",
        "at": at("09:50"),
        "reason": "a door light",
        "attempt": 1,
    }
    shown = flight.shown
    assert (shown["status"], shown["attempt"], shown["eta"]) == ("scheduled", 2, at("10:55"))
    assert shown["legs"][0]["ended"] == "returned_to_gate"
    assert shown["legs"][0]["times"] == {"OUT": at("09:32")}
    flight.did("depart", at=at("10:20"))
    assert (flight.status, flight.shown["attempt"]) == ("departed", 2)


def test_a_return_to_the_field_may_have_landed_already() -> None:
    """The landing that was told was the ended attempt's, where it began."""
    for to in ("OFF", "ON"):
        flight = flown(to=to)
        flight.did("return", to="field", at=at("10:45"), reason="a bird")
        over = flight.shown["legs"][0]
        assert (over["from"], over["to"], over["ended"]) == ("MEL", "MEL", "returned_to_field")
        assert ("ON" in over["times"]) == (to == "ON")
        assert flight.status == "scheduled"


def test_it_comes_back_to_where_it_went_from() -> None:
    """To the gate without having flown, to the field having flown; the refusal says which it is."""
    assert "has not taken off" in flown(to="OUT").refused("return", to="field", reason="x").message
    assert "took off" in flown(to="OFF").refused("return", to="gate", reason="x").message
    assert "`to`" in flown(to="OFF").malformed("return", to="home", reason="x")


def test_a_correction_supersedes_with_who_and_why() -> None:
    """The old time stays in the log and in the list."""
    flight = flown(to="OUT")
    fact = flight.did("correct", ref=2, at=at("09:35"), why="brake log", by="user:ops")
    assert fact == [Fact("flight.corrected", {"ref": 2, "at": at("09:35"), "was": at("09:32"), "why": "brake log"})]
    assert flight.best("OUT") == "09:35"
    assert flight.shown["corrections"] == [
        {"seq": 3, "ref": 2, "by": "user:ops", "why": "brake log", "was": at("09:32"), "at": at("09:35")}
    ]
    assert flight.events[1].body["at"] == at("09:32")


def test_an_estimate_is_corrected_even_to_a_time_to_come() -> None:
    """It is no actual one."""
    flight = Flight()
    flight.did("estimate", milestone="IN", at=at("12:40"))
    flight.did("correct", ref=2, at="2026-11-22T00:30", zone="arrival", why="misread")
    assert flight.best("IN") == "13:30"


def test_a_withdrawal_brings_back_what_was_said_before() -> None:
    """Or nothing, where nothing was."""
    flight = Flight()
    flight.did("depart", at=at("09:32"))
    flight.did("depart", at=at("09:40"))
    assert flight.did("withdraw", ref=3, why="another flight's") == [
        Fact("flight.withdrawn", {"ref": 3, "was": at("09:40"), "why": "another flight's"})
    ]
    assert (flight.status, flight.best("OUT")) == ("departed", "09:32")
    flight.did("withdraw", ref=2, why="another flight's")
    assert (flight.status, flight.shown["times"]["OUT"]["actual"]) == ("scheduled", None)
    assert flight.refused("withdraw", ref=2, why="twice").reason == "no_such_fact"
    assert flight.refused("correct", ref=3, at=at("09:33"), why="x").message == (
        "what seq 3 said was withdrawn by seq 4: say it anew"
    )


def test_a_time_that_does_not_hold_may_be_corrected_to_what_would_not_fit() -> None:
    """Only what holds has to be in order."""
    flight = Flight()
    flight.did("depart", at=at("10:20"), source="ops")
    flight.did("depart", at=at("10:05"), source="acars")
    flight.did("takeoff", at=at("10:10"))
    flight.did("correct", ref=2, at=at("10:30"), why="clock of the desk")
    assert flight.best("OUT") == "10:05"


@pytest.mark.parametrize("ref", [None, 0, -1, "2", 2.0, True])
def test_a_ref_is_the_seq_of_an_event(ref: object) -> None:
    """Nothing that only looks like it; and why is always said."""
    for verb in ("correct", "withdraw"):
        assert "`ref`" in flown().malformed(verb, {"ref": ref, "why": "x"})
        assert "`why`" in flown().malformed(verb, {"ref": 2})


def test_what_changes_nothing_is_no_fact() -> None:
    """The gate, the aircraft and the time that are known already."""
    flight = flown(to="OUT")
    flight.did("gate", departure={"gate": "7"})
    flight.did("equip", registration="VH-QXA")
    assert flight.refused("gate", departure={"gate": "7"}).reason == "unchanged"
    assert flight.refused("equip", registration="VH-QXA").reason == "unchanged"
    assert flight.refused("correct", ref=2, at=at("09:32"), why="x").reason == "unchanged"


def test_a_flight_goes_on_from_where_it_has_landed_and_later() -> None:
    """To another place than it is at."""
    flight = _diverted()
    onward = {"out": at("12:30"), "in": at("13:20")}
    assert flight.refused("continue", onward).reason == "not_landed"
    flight.did("land", at=at("10:50"))
    assert flight.refused("continue", onward | {"to": "CBR"}).reason == "same_airport"
    assert flight.refused("continue", onward | {"out": at("10:49")}).reason == "out_of_order"


def test_what_came_back_or_was_diverted_had_gone_before() -> None:
    """By the times that are known."""
    flight = flown(to="OFF")
    assert flight.refused("divert", to="CBR", at=at("09:31"), reason="fog").reason == "out_of_order"
    assert flight.refused("return", to="field", at=at("09:43"), reason="a bird").reason == "out_of_order"


def test_attempts_and_legs_are_bounded() -> None:
    """A flight that returns for ever is some program's error."""
    flight = Flight()
    for _ in range(LEGS_MAX):
        flight.did("depart", at=at("09:32"))
        flight.did("return", to="gate", at=at("09:32"), reason="a light")
    flight.did("depart", at=at("09:32"))
    assert flight.refused("return", to="gate", at=at("09:32"), reason="a light").reason == "too_many_legs"
    flight.did("divert", to="CBR", at=at("10:20"), reason="fog")
    flight.did("land", at=at("10:50"))
    assert flight.refused("continue", {"out": at("12:30"), "in": at("13:20")}).reason == "too_many_legs"
    assert flight.shown["attempt"] == LEGS_MAX + 1


def test_only_what_the_present_leg_said_is_corrected() -> None:
    """Not its schedule, and not the attempt that is over."""
    flight = flown(to="OUT")
    flight.did("return", to="gate", at=at("09:50"), reason="a light")
    for ref in (1, 2, 99):
        assert flight.refused("correct", ref=ref, at=at("09:33"), why="x").reason == "no_such_fact"


def test_a_late_message_of_the_leg_before_is_not_taken_for_the_onward_one() -> None:
    """The landing where it was diverted to is before all of the leg onward, as a return is before the next attempt."""
    flight = _diverted()
    flight.did("land", at=at("10:50"))
    flight.did("continue", {"out": at("12:30"), "in": at("13:20")})
    refusal = flight.refused("depart", at=at("09:32"), source="ops")
    assert (refusal.reason, flight.status) == ("out_of_order", "scheduled")
    assert "before the landing where it was diverted to" in refusal.message
    assert flight.refused("board", at=at("10:40")).reason == "out_of_order"
    flight.did("board", at=at("11:50"))
    assert flight.refused("correct", ref=flight.seq, at=at("10:40"), why="typed").reason == "out_of_order"


def test_a_diversion_that_was_told_in_place_of_another_is_withdrawn_for_that_one() -> None:
    """It is bound for where it was bound before that was said."""
    flight = _diverted()
    first = flight.shown["diverted"]
    flight.did("divert", to="NTL", at=at("10:30"), reason="of another flight")
    flight.did("withdraw", ref=flight.seq, why="it was another flight")
    assert (flight.status, flight.shown["diverted"]) == ("diverted", first)
    flight.did("divert", to="NTL", at=at("10:30"), reason="fog at Canberra too")
    flight.did("withdraw", ref=first["ref"], why="it was never bound for there")
    assert flight.shown["diverted"]["to"] == "NTL"
    flight.did("withdraw", ref=flight.shown["diverted"]["ref"], why="the fog has gone")
    assert (flight.status, flight.shown["diverted"]) == ("departed", None)


def test_it_may_be_at_the_gate_again_before_somebody_says_that_it_came_back() -> None:
    """The aircraft tells its times by itself: ON and IN of a flight that came back are of the attempt that ended."""
    flight = flown()
    refusal = flight.refused("return", to="field", at=at("10:45"), reason="bird strike")
    assert refusal.reason == "out_of_order"
    flight.did("return", to="field", reason="bird strike", at=at("10:55"))
    assert (flight.status, flight.shown["attempt"]) == ("scheduled", 2)
    assert flight.shown["legs"][0]["times"]["IN"] == at("10:52")


@pytest.mark.parametrize("text", ["a\0b", "\x1b[31mred", "a\x9bb"])
def test_what_people_write_has_no_signs_that_are_orders_to_machines(text: str) -> None:
    """A terminal would obey them and Postgres has no NUL in its JSON; lines and tabs are well."""
    assert "`reason` is" in Flight().malformed("cancel", reason=text)
    Flight().did("cancel", reason="no crew:\n\tall ill")
