"""core.flight.cabin: the cabin of its facts, now and as it was."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.cabin import FACTS, SEATS_MAX, TRANSFERS_MAX, Cabin, Layout, evolve, fold, read_layout
from core.flight.machine import Recorded
from tests.flight_desk import ms

T0 = ms("2026-11-21T06:00:00Z")


def _event(seq: int, type: str, at_ms: int = T0, **body: Any) -> Recorded:
    return Recorded(seq, type, "user:ann", at_ms, body)


def _layout(value: object) -> Layout:
    layout = read_layout(value)
    assert isinstance(layout, Layout), layout
    return layout


def test_layouts_of_every_form_are_the_same_seats() -> None:
    """Rows one by one, spans of rows, and one line of text."""
    one = _layout(
        {"rows": [{"row": 1, "seats": "A C", "class": "J"}, {"row": 2, "seats": "ABC"}, {"row": 3, "seats": "ABC"}]}
    )
    two = _layout([{"rows": "1", "seats": "AC", "class": "J"}, {"rows": "2-3", "seats": "ABC"}])
    three = _layout("1:AC/J 2-3:ABC")
    assert one == two == three
    assert dict(one.seats) == {"1A": "J", "1C": "J"} | {f"{row}{letter}": "Y" for row in (2, 3) for letter in "ABC"}


def test_what_a_layout_shows_is_a_layout() -> None:
    """Facts carry rows one by one, with class and exits, and read back as the same."""
    layout = _layout({"rows": [{"rows": "11-12", "seats": "ABC", "exit": True}]})
    assert layout.rows[0] == {"row": 11, "seats": "ABC", "class": "Y", "exit": True}
    assert _layout({"rows": list(layout.rows)}) == layout


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "must be"),
        ({}, "must be"),
        ({"rows": []}, "must be"),
        ("", "must be"),
        ([3], "each row must be an object"),
        ([{"row": 0, "seats": "A"}], "each row needs a `row`"),
        ([{"row": True, "seats": "A"}], "each row needs a `row`"),
        ([{"seats": "A"}], "each row needs a `row`"),
        ([{"row": 1}], "row 1 needs `seats`"),
        ([{"row": 1, "seats": "a"}], "row 1 needs `seats`"),
        ("3-1:ABC", "row 3-1 needs `seats`"),
        ([{"row": 1, "seats": "A", "class": "first"}], "row 1 has a `class`"),
        ("1-2:ABA 2:C", "seats twice: 1A, 2A"),
        ("4:AB 3-5:BC", "seats twice: 4B"),
        ("1-300:ABCD", f"more than {SEATS_MAX} seats"),
    ],
)
def test_layouts_that_are_none(value: object, says: str) -> None:
    """What is wrong is named: of seats that are there twice, each."""
    problem = read_layout(value)
    assert isinstance(problem, str)
    assert says in problem


def test_events_of_others_change_nothing() -> None:
    """Chat in the stream, and what a later version may write."""
    cabin = Cabin()
    assert evolve(cabin, _event(1, "chat.message", text="hello")) is cabin
    assert fold([_event(1, "seat.painted")]).show() == cabin.show()


def test_a_layout_that_is_not_understood_has_no_seats() -> None:
    """An event is never too strange to fold."""
    cabin = evolve(Cabin(), _event(1, "seat.opened", flight="QX1", layout={"decks": 2}))
    assert (cabin.flight, dict(cabin.layout.seats)) == ("QX1", {})


DAY = [
    _event(1, "seat.opened", flight="QX1", layout="1-2:AB", overbooking=1),
    _event(2, "seat.booked", T0 + 1, passenger="p1", name="Ann"),
    _event(3, "seat.held", T0 + 2, seat="1A", passenger="p1", until="2026-11-21T06:10:00.000Z"),
    _event(4, "seat.blocked", T0 + 3, seats=["2B"], why="broken"),
    _event(5, "seat.assigned", T0 + 4, seat="1A", passenger="p1"),
    _event(6, "seat.held", T0 + 5, seat="1B", passenger="p2", until="2026-11-21T06:10:00.000Z"),
    _event(7, "seat.checked_in", T0 + 6, passenger="p1", at="2026-11-21T06:00:00.006Z"),
    _event(8, "seat.boarded", T0 + 900_000, passenger="p1", seat="1A", at="2026-11-21T06:05:00.000Z"),
]


def test_one_by_one_is_the_same_as_at_once() -> None:
    """Folding copies once, evolving each time; both are the same cabin."""
    cabin = Cabin()
    for event in DAY:
        cabin = evolve(cabin, event)
    assert fold(DAY).show() == cabin.show()


def test_what_is_shown() -> None:
    """Counts, each seat with who has it, and the manifest."""
    shown = fold(DAY[:6]).show()
    assert shown["counts"] == {"seats": 4, "free": 1, "held": 1, "assigned": 1, "boarded": 0, "blocked": 1}
    assert shown["people"] == {"passengers": 1, "booked": 1, "checked_in": 0, "boarded": 0, "offloaded": 0}
    assert shown["seats"] == {
        "1A": {"status": "assigned", "class": "Y", "passenger": "p1"},
        "1B": {"status": "held", "class": "Y", "passenger": "p2", "until": "2026-11-21T06:10:00.000Z"},
        "2A": {"status": "free", "class": "Y"},
        "2B": {"status": "blocked", "class": "Y", "why": "broken"},
    }
    assert shown["passengers"] == {"p1": {"status": "booked", "name": "Ann", "seat": "1A"}}
    assert (shown["flight"], shown["status"], shown["overbooking"]) == ("QX1", "open", 1)


def test_the_past_as_it_was_known() -> None:
    """What was recorded later is not in it."""
    assert fold(DAY, recorded_ms=T0 + 3).show()["seats"]["1A"]["status"] == "held"
    assert fold(DAY, recorded_ms=T0 + 6).show()["passengers"]["p1"]["status"] == "checked_in"


def test_the_past_as_it_was() -> None:
    """A boarding recorded late counts from when it happened, unless one asks what was known by then."""
    then = ms("2026-11-21T06:06:00Z")
    assert fold(DAY, valid_ms=then).show()["passengers"]["p1"]["status"] == "boarded"
    assert fold(DAY, recorded_ms=then, valid_ms=then).show()["passengers"]["p1"]["status"] == "checked_in"
    assert fold(DAY, valid_ms=T0 + 5).show()["people"]["booked"] == 1


def test_a_hold_that_ran_out_is_not_shown() -> None:
    """A moment after its time the seat is free, recorded or not."""
    end = ms("2026-11-21T06:10:00Z")
    assert fold(DAY, valid_ms=end - 1).show()["seats"]["1B"]["status"] == "held"
    assert fold(DAY, valid_ms=end).show()["seats"]["1B"]["status"] == "free"


def test_facts_of_people_who_are_not_known_yet_fold() -> None:
    """By valid time a boarding may come before the booking that was recorded after it."""
    assert fold([DAY[0], DAY[7]]).show()["passengers"] == {}
    assert fold([DAY[0], _event(2, "seat.offloaded", passenger="p9")]).show()["counts"]["free"] == 4


def test_another_aircraft_takes_what_is_not_in_it() -> None:
    """Seats, holds and blocks in both stay; whoever sat elsewhere is on the manifest without a seat."""
    cabin = fold([*DAY[:6], _event(9, "seat.relaid", layout="1:B 2:A")])
    shown = cabin.show()
    assert {seat: was["status"] for seat, was in shown["seats"].items()} == {"1B": "held", "2A": "free"}
    assert shown["passengers"] == {"p1": {"status": "booked", "name": "Ann"}}
    assert cabin.blocked == {}


def test_transfers_are_remembered_within_bounds() -> None:
    """The oldest step of a saga is forgotten first."""
    steps = [
        _event(n, "seat.transferred_out", passenger=f"p{n}", to="QX2", saga="s1") for n in range(1, TRANSFERS_MAX + 3)
    ]
    kept = fold(steps).transfers
    assert len(kept) == TRANSFERS_MAX
    assert ("s1", "out", "p2") not in kept
    assert kept["s1", "out", "p3"] == "QX2"


def test_all_facts_are_of_seats() -> None:
    """Their types say whose they are."""
    assert all(type.startswith("seat.") for type in FACTS)


def _seated(*facts: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """What is shown of a cabin with p1 on 1A and p2 on 1B, after these."""
    before: list[tuple[str, dict[str, Any]]] = [
        ("seat.opened", {"flight": "QX1", "layout": "1-2:AB"}),
        ("seat.booked", {"passenger": "p1"}),
        ("seat.booked", {"passenger": "p2"}),
        ("seat.assigned", {"passenger": "p1", "seat": "1A"}),
        ("seat.assigned", {"passenger": "p2", "seat": "1B"}),
    ]
    cabin = Cabin()
    for seq, (type, body) in enumerate([*before, *facts], 1):
        cabin = evolve(cabin, _event(seq, type, **body))
    return cabin.show()


def _seats(shown: dict[str, Any]) -> dict[str, str]:
    return {
        seat: one.get("passenger", one["status"]) for seat, one in shown["seats"].items() if one["status"] != "free"
    }


P1: dict[str, Any] = {"passenger": "p1"}
HELD = ("seat.held", {"seat": "2A", "passenger": "p1", "until": "2026-11-21T07:00:00.000Z"})


@pytest.mark.parametrize(
    ("facts", "seats"),
    [
        ([("seat.assigned", P1 | {"seat": "2B", "from": "1A"})], {"2B": "p1", "1B": "p2"}),
        ([("seat.released", P1 | {"seat": "1A", "why": "given up"})], {"1B": "p2"}),
        ([HELD, ("seat.released", P1 | {"seat": "2A", "why": "expired"})], {"1A": "p1", "1B": "p2"}),
        (
            [HELD, ("seat.released", {"passenger": "p9", "seat": "2A", "why": "expired"})],
            {"1A": "p1", "1B": "p2", "2A": "p1"},
        ),
        (
            [("seat.swapped", {"a": {"passenger": "p1", "seat": "1B"}, "b": {"passenger": "p2", "seat": "1A"}})],
            {"1A": "p2", "1B": "p1"},
        ),
        ([HELD, ("seat.cancelled", P1)], {"1B": "p2"}),
        ([("seat.offloaded", P1)], {"1B": "p2"}),
        ([("seat.transferred_out", P1 | {"to": "QX2", "saga": "s1"})], {"1B": "p2"}),
        (
            [("seat.transferred_in", {"passenger": "p3", "from": "QX2", "saga": "s1", "seat": "2A"})],
            {"1A": "p1", "1B": "p2", "2A": "p3"},
        ),
        ([("seat.transferred_in", {"passenger": "p3", "from": "QX2", "saga": "s1"})], {"1A": "p1", "1B": "p2"}),
        (
            [("seat.blocked", {"seats": ["2A", "2B"]}), ("seat.unblocked", {"seats": ["2B"]})],
            {"1A": "p1", "1B": "p2", "2A": "blocked"},
        ),
        ([("seat.relaid", {"layout": "1:B"})], {"1B": "p2"}),
    ],
)
def test_what_facts_do_to_seats(facts: list[tuple[str, dict[str, Any]]], seats: dict[str, str]) -> None:
    """Who has which afterwards."""
    assert _seats(_seated(*facts)) == seats


@pytest.mark.parametrize(
    ("types", "status"),
    [
        (["seat.checked_in"], "checked_in"),
        (["seat.checked_in", "seat.boarded"], "boarded"),
        (["seat.checked_in", "seat.boarded", "seat.deboarded"], "checked_in"),
        (["seat.offloaded"], "offloaded"),
    ],
)
def test_what_facts_do_to_people(types: list[str], status: str) -> None:
    """Where they are on their way to the seat."""
    assert _seated(*((type, P1) for type in types))["passengers"]["p1"]["status"] == status


def test_the_manifest_closes_and_opens() -> None:
    """As the cabin's status."""
    facts: list[tuple[str, dict[str, Any]]] = [("seat.closed", {}), ("seat.reopened", {})]
    assert [_seated(*facts[:n])["status"] for n in range(3)] == ["open", "closed", "open"]
    assert Cabin().show()["status"] == "new"


def test_who_holds_what() -> None:
    """By seat while it lasts, by passenger also after."""
    cabin = fold(DAY[:3])
    assert cabin.live("1A", T0) is not None
    assert cabin.live("1A", ms("2026-11-21T06:10:00Z")) is None
    assert (cabin.hold_of("p1"), cabin.hold_of("p2"), cabin.expected()) == ("1A", "", 1)


def test_who_was_offloaded_at_a_time_yet_to_come_is_off_from_when_that_was_recorded() -> None:
    """Clocks of others are ahead: what was decided after it stands on it, as of any moment."""
    events = [
        _event(1, "seat.opened", flight="QX1", layout="1:AB"),
        _event(2, "seat.booked", passenger="ann"),
        _event(3, "seat.assigned", passenger="ann", seat="1A"),
        _event(4, "seat.offloaded", T0 + 1, passenger="ann", seat="1A", at="2026-11-21T06:00:50.000Z"),
        _event(5, "seat.booked", T0 + 2, passenger="ann"),
        _event(6, "seat.cancelled", T0 + 3, passenger="ann"),
    ]
    booked = fold(events, valid_ms=T0 + 2)
    assert (booked.passengers["ann"].seat, booked.taken) == ("", {})
    gone = fold(events, valid_ms=T0 + 3).show()
    assert (gone["passengers"], gone["seats"]["1A"]["status"]) == ({}, "free")


def test_nobody_is_offloaded_before_they_were_booked() -> None:
    """Whatever the desk says when it was: as of then, they were not on the manifest."""
    events = [
        _event(1, "seat.opened", flight="QX1", layout="1:AB"),
        _event(2, "seat.booked", T0 + 60_000, passenger="ann"),
        _event(3, "seat.offloaded", T0 + 120_000, passenger="ann", at="2026-11-21T06:00:30.000Z"),
    ]
    assert fold(events, valid_ms=T0 + 40_000).show()["passengers"] == {}
    assert fold(events, valid_ms=T0 + 60_000).show()["passengers"] == {"ann": {"status": "offloaded"}}
