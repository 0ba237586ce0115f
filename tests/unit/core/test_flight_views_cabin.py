"""core.flight.views_cabin: facts of a cabin become rows of its manifest and its seat map."""

from __future__ import annotations

from typing import Any

from core.flight.times import read
from core.flight.views_cabin import CABIN_VIEW, as_at
from tests.flight_rows import FLIGHT, OUT, Story


def cabin() -> Story:
    story = Story(f"flight:{FLIGHT}.seats")
    layout = {"rows": [{"row": 1, "seats": "AB", "class": "Y"}, {"row": 2, "seats": "A", "class": "Y"}]}
    story.tell(("seat.opened", {"flight": "QX12", "layout": layout, "overbooking": 0}))
    return story


def booked(who: str, **more: str) -> tuple[str, dict[str, Any]]:
    return "seat.booked", {"passenger": who, **more}


def assigned(who: str, seat: str) -> tuple[str, dict[str, Any]]:
    return "seat.assigned", {"passenger": who, "seat": seat}


def test_every_seat_of_an_opened_cabin_has_a_row() -> None:
    """Free, with its class."""
    story = cabin()
    seats = story.of("seat_map")
    assert list(seats) == [f"{FLIGHT}/1A", f"{FLIGHT}/1B", f"{FLIGHT}/2A"]
    assert {(seat["status"], seat["class"], seat["passenger"]) for seat in seats.values()} == {("free", "Y", None)}
    assert story.of("manifest") == {}


def test_a_passenger_and_a_seat_change_together_and_nobody_else() -> None:
    """Booked: the manifest; seated: both rows; moved: the seat that was left as well."""
    story = cabin()
    assert [(c.model, c.key) for c in story.tell(booked("p1", name="Ann"))] == [("manifest", f"{FLIGHT}/p1")]
    assert {(c.model, c.key) for c in story.tell(assigned("p1", "1A"))} == {
        ("manifest", f"{FLIGHT}/p1"),
        ("seat_map", f"{FLIGHT}/1A"),
    }
    story.tell(assigned("p1", "2A"))
    assert story.of("manifest")[f"{FLIGHT}/p1"] == {"passenger": "p1", "name": "Ann", "status": "booked", "seat": "2A"}
    assert {seat["seat"]: seat["status"] for seat in story.of("seat_map").values()} == {
        "1A": "free",
        "1B": "free",
        "2A": "assigned",
    }
    story.tell(("seat.checked_in", {"passenger": "p1"}), ("seat.boarded", {"passenger": "p1", "seat": "2A"}))
    assert story.of("manifest")[f"{FLIGHT}/p1"]["status"] == "boarded"
    assert story.of("seat_map")[f"{FLIGHT}/2A"]["status"] == "boarded"


def test_holds_and_blocked_seats_are_shown_with_why_and_until() -> None:
    """A hold stays in the map until a fact ends it: who reads it compares `until`."""
    story = cabin()
    story.tell(booked("p1"), ("seat.held", {"passenger": "p1", "seat": "1A", "until": OUT}))
    story.tell(("seat.blocked", {"seats": ["1B"], "why": "wet"}))
    seats = {seat["seat"]: seat for seat in story.of("seat_map").values()}
    assert (seats["1A"]["status"], seats["1A"]["passenger"], seats["1A"]["until"]) == ("held", "p1", OUT)
    assert (seats["1B"]["status"], seats["1B"]["why"]) == ("blocked", "wet")
    story.tell(("seat.cancelled", {"passenger": "p1"}))
    assert story.of("seat_map")[f"{FLIGHT}/1A"]["status"] == "free"
    assert story.of("manifest") == {}


def test_a_swap_touches_both_and_a_new_layout_all() -> None:
    """Seats that the new layout has not are gone; who sat there stays on the manifest without a seat."""
    story = cabin()
    story.tell(booked("p1"), booked("p2"), assigned("p1", "1A"), assigned("p2", "2A"))
    swap = {"a": {"passenger": "p1", "seat": "2A"}, "b": {"passenger": "p2", "seat": "1A"}}
    assert len(story.tell(("seat.swapped", swap))) == 4
    assert story.of("manifest")[f"{FLIGHT}/p1"]["seat"] == "2A"
    layout = {"rows": [{"row": 1, "seats": "AB", "class": "J"}]}
    story.tell(("seat.relaid", {"layout": layout, "lost": [{"passenger": "p1", "seat": "2A"}], "unheld": []}))
    assert {seat["seat"]: seat["class"] for seat in story.of("seat_map").values()} == {"1A": "J", "1B": "J"}
    assert (story.of("manifest")[f"{FLIGHT}/p1"]["seat"], story.of("manifest")[f"{FLIGHT}/p2"]["seat"]) == (None, "1A")


def test_a_hold_that_has_run_out_is_read_as_a_free_seat() -> None:
    """From the very moment on; every other row is read as it is."""
    held = {"seat": "1A", "class": "Y", "status": "held", "passenger": "p1", "until": OUT, "why": None}
    until_ms = read(OUT).ms
    assert as_at(held, until_ms - 1) is held
    assert as_at(held, until_ms) == held | {"status": "free", "passenger": None, "until": None}
    passenger = {"passenger": "p1", "name": "Ann", "status": "booked", "seat": None}
    assert as_at(passenger, until_ms) is passenger


def test_a_full_cabin_weighs_as_much_as_its_rows() -> None:
    """For whoever keeps many states within a bound."""
    story = cabin()
    story.tell(*(booked(f"p{n}") for n in range(100)))
    assert CABIN_VIEW.size(story.state) > 100
