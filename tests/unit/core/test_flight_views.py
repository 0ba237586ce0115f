"""core.flight.views, views_board, views_cabin, read_models: facts become rows, only those that a fact changed, once a batch."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.machine import Recorded
from core.flight.read_models import source_of
from core.flight.views import MODELS, Change, changes
from core.flight.views_board import BOARD_VIEW, days, order, stations
from core.flight.views_cabin import CABIN_VIEW

FLIGHT = "QX12-20261121"
OUT, IN = "2026-11-21T06:30:00.000Z", "2026-11-21T08:05:00.000Z"


def at(text: str) -> str:
    return f"2026-11-21T{text}:00.000Z"


class Story:
    """A stream's facts one after the other, and the rows that they make."""

    def __init__(self, stream: str) -> None:
        source = source_of(stream)
        assert source is not None
        self.view, self.name = source
        self.state = self.view.initial()
        self.seq = 0
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def tell(self, *facts: tuple[str, dict[str, Any]]) -> list[Change]:
        """Next facts, in one batch; the rows are as they are after it."""
        events = []
        for type, body in facts:
            self.seq += 1
            events.append(Recorded(self.seq, type, "user:ops", 1_790_000_000_000 + self.seq, body))
        self.state, found = changes(self.view, self.name, self.state, events)
        for change in found:
            if change.doc is None:
                del self.rows[change.model, change.key]
            else:
                self.rows[change.model, change.key] = change.doc
        return found

    def of(self, model: str) -> dict[str, dict[str, Any]]:
        return {key: doc for (of, key), doc in self.rows.items() if of == model}


def scheduled(**more: Any) -> tuple[str, dict[str, Any]]:
    body = {"flight": "QX12", "operator": "QX", "registration": "VH-ABC", "type": "B738", "service": "J"}
    return "flight.scheduled", body | {"from": "SYD", "to": "MEL", "out": OUT, "in": IN} | more


def milestone(name: str, kind: str, when: str) -> tuple[str, dict[str, Any]]:
    return "flight.milestone", {"milestone": name, "kind": kind, "at": when, "source": "ops"}


def flight(**more: Any) -> Story:
    story = Story(f"flight:{FLIGHT}")
    story.tell(scheduled(**more))
    return story


def cabin() -> Story:
    story = Story(f"flight:{FLIGHT}.seats")
    layout = {"rows": [{"row": 1, "seats": "AB", "class": "Y"}, {"row": 2, "seats": "A", "class": "Y"}]}
    story.tell(("seat.opened", {"flight": "QX12", "layout": layout, "overbooking": 0}))
    return story


def booked(who: str, **more: str) -> tuple[str, dict[str, Any]]:
    return "seat.booked", {"passenger": who, **more}


def assigned(who: str, seat: str) -> tuple[str, dict[str, Any]]:
    return "seat.assigned", {"passenger": who, "seat": seat}


# The board and the aircraft's lines


def test_a_scheduled_flight_has_a_row_on_the_board_and_one_in_its_aircrafts_line() -> None:
    """With its times of every kind, its airports, aircraft, gates and status; nothing of legs that are over."""
    story = flight()
    board = story.of("flight_board")[FLIGHT]
    assert (board["status"], board["from"], board["to"], board["registration"]) == ("scheduled", "SYD", "MEL", "VH-ABC")
    assert (board["times"]["OUT"]["scheduled"], board["times"]["IN"]["best"], board["attempt"]) == (OUT, IN, 1)
    assert board["gates"] == {"departure": None, "arrival": None}
    assert not {"legs", "corrections", "timers"} & board.keys()
    line = story.of("aircraft_line")
    assert list(line) == [f"VH-ABC/{OUT}/{FLIGHT}"]
    assert line[f"VH-ABC/{OUT}/{FLIGHT}"]["std"] == OUT


def test_several_facts_of_a_batch_give_one_row_as_it_is_after_the_last() -> None:
    """And the change says which of the facts touched it last."""
    story = flight()
    found = story.tell(milestone("OUT", "estimated", at("06:40")), milestone("OUT", "actual", at("06:41")))
    assert [(change.model, change.at) for change in found] == [("flight_board", 1), ("aircraft_line", 1)]
    assert story.of("flight_board")[FLIGHT]["status"] == "departed"
    assert story.of("flight_board")[FLIGHT]["delayed"]["minutes"] == 11


def test_what_changes_nothing_of_a_row_makes_no_row() -> None:
    """A timer, chat, and a gate as far as the aircraft's line is concerned; a batch that ends where it began."""
    story = flight()
    assert story.tell(("timer.set", {"name": "late", "due": OUT}), ("message", {"text": "hi"})) == []
    assert [change.model for change in story.tell(("flight.gate", {"departure": {"gate": "4"}}))] == ["flight_board"]
    assert story.tell(("flight.gate", {"departure": {"gate": "4"}})) == []


def test_another_aircraft_or_schedule_moves_the_row_of_the_line() -> None:
    """The old key's row is gone, also where both happen in one batch; the board has one row all the while."""
    story = flight()
    found = story.tell(("flight.equipped", {"registration": "VH-XYZ"}))
    assert {(c.key, c.doc is None) for c in found if c.model == "aircraft_line"} == {
        (f"VH-ABC/{OUT}/{FLIGHT}", True),
        (f"VH-XYZ/{OUT}/{FLIGHT}", False),
    }
    story.tell(("flight.equipped", {"registration": "VH-QQQ"}), ("flight.rescheduled", {"out": at("07:00")}))
    assert list(story.of("aircraft_line")) == [f"VH-QQQ/{at('07:00')}/{FLIGHT}"]
    assert list(story.of("flight_board")) == [FLIGHT]


def test_a_flight_without_an_aircraft_stands_in_no_line() -> None:
    """And the key is made when it gets one; a row passed through and left within a batch is not told of."""
    story = flight(registration="")
    assert story.of("aircraft_line") == {}
    story.tell(("flight.equipped", {"registration": "VH-ABC"}), ("flight.equipped", {"registration": "VH-XYZ"}))
    assert list(story.of("aircraft_line")) == [f"VH-XYZ/{OUT}/{FLIGHT}"]


def test_cancelled_and_diverted_are_told() -> None:
    """A diverted flight is of the airport where it ended up too, on the board and in the line."""
    story = flight()
    story.tell(("flight.diverted", {"to": "CBR", "at": at("07:20"), "reason": "weather"}))
    board = story.of("flight_board")[FLIGHT]
    assert (board["status"], stations(board)) == ("diverted", ("SYD", "MEL", "CBR"))
    assert story.of("aircraft_line")[f"VH-ABC/{OUT}/{FLIGHT}"]["to"] == "CBR"
    other = flight()
    other.tell(("flight.cancelled", {"reason": "crew"}))
    assert other.of("flight_board")[FLIGHT]["cancelled"]["reason"] == "crew"
    assert stations(other.of("flight_board")[FLIGHT]) == ("SYD", "MEL")


def test_flights_that_are_over_go_first_and_of_those_the_oldest() -> None:
    """The order in which a board that is full lets rows go."""
    over, old, new = flight(), flight(out=at("01:00")), flight(out=at("09:00"))
    over.tell(("flight.cancelled", {"reason": "crew"}))
    docs = [story.of("flight_board")[FLIGHT] for story in (new, old, over)]
    assert [doc["times"]["OUT"]["scheduled"] for doc in sorted(docs, key=order)] == [OUT, at("01:00"), at("09:00")]


def test_a_flights_day_is_the_local_date_at_the_station() -> None:
    """06:30 UTC on the 21st is the 21st in Sydney, 20:30 UTC is the 22nd there; an unknown station's day is UTC's."""
    doc = flight().of("flight_board")[FLIGHT]
    assert (days(doc), days(doc, "SYD"), days(doc, "PER")) == (("2026-11-21",), ("2026-11-21",), ())
    late = flight(out=at("12:30"), **{"in": "2026-11-21T14:05:00.000Z"}).of("flight_board")[FLIGHT]
    assert (days(late, "SYD"), days(late, "MEL")) == (("2026-11-21",), ("2026-11-22",))
    odd = flight(**{"from": "QQQ1", "to": "QQQ1", "out": at("20:30")}).of("flight_board")[FLIGHT]
    assert days(odd) == ("2026-11-21",)
    odd["times"]["OUT"].update(scheduled=None, best=None)
    odd["times"]["IN"].update(scheduled=None, best=None)
    assert days(odd) == ()


# The manifest and the seat map


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


# All


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (f"flight:{FLIGHT}", FLIGHT),
        (f"flight:{FLIGHT}.seats", FLIGHT),
        ("flight:crew.c7", "c7"),
        ("flight:boards", "boards"),
        ("flight:board", None),
        ("flight:board.SYD", None),
        ("chat:ops", None),
    ],
)
def test_streams_are_told_apart_by_name(stream: str, name: str | None) -> None:
    """As the registry of machines does it."""
    source = source_of(stream)
    assert (None if source is None else source.name) == name


def test_rows_made_anew_are_the_rows_kept_up() -> None:
    """The same facts in one batch or one by one: what remains is the same."""
    facts = [scheduled(), milestone("OUT", "actual", at("06:31")), ("flight.equipped", {"registration": "VH-XYZ"})]
    one, other = Story(f"flight:{FLIGHT}"), Story(f"flight:{FLIGHT}")
    one.tell(*facts)
    for fact in facts:
        other.tell(fact)
    assert one.rows == other.rows
    assert {model for model, _ in one.rows} <= set(MODELS)


def test_a_cabin_weighs_more_than_a_flight() -> None:
    """For whoever keeps many of both within a bound."""
    story = cabin()
    story.tell(*(booked(f"p{n}") for n in range(100)))
    assert CABIN_VIEW.size(story.state) > 100 > BOARD_VIEW.size(flight().state) > 0
