"""core.flight.views_board: a flight's facts become a row of the board and one of its aircraft's line."""

from __future__ import annotations

from core.flight.views_board import BOARD_VIEW, days, order, stations
from tests.flight_rows import FLIGHT, IN, OUT, at, flight, milestone


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
    assert (board["status"], stations(board)) == ("diverted", ("SYD", "YSSY", "MEL", "YMML", "CBR", "YSCB"))
    assert story.of("aircraft_line")[f"VH-ABC/{OUT}/{FLIGHT}"]["to"] == "CBR"
    other = flight()
    other.tell(("flight.cancelled", {"reason": "crew"}))
    assert other.of("flight_board")[FLIGHT]["cancelled"]["reason"] == "crew"
    assert stations(other.of("flight_board")[FLIGHT]) == ("SYD", "YSSY", "MEL", "YMML")


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
    assert days(doc, "YSSY") == ("2026-11-21",)
    late = flight(out=at("12:30"), **{"in": "2026-11-21T14:05:00.000Z"}).of("flight_board")[FLIGHT]
    assert (days(late, "SYD"), days(late, "MEL")) == (("2026-11-21",), ("2026-11-22",))
    odd = flight(**{"from": "QQQ1", "to": "QQQ1", "out": at("20:30")}).of("flight_board")[FLIGHT]
    assert days(odd) == ("2026-11-21",)
    odd["times"]["OUT"].update(scheduled=None, best=None)
    odd["times"]["IN"].update(scheduled=None, best=None)
    assert days(odd) == ()


def test_rows_of_workers_of_another_version_are_taken() -> None:
    """With fields missing they are of no station, no day, and go first."""
    assert (stations({}), days({}), days({"from": "SYD"}), order({})) == ((), (), (), (True, ""))


def test_a_flight_weighs_little() -> None:
    """For whoever keeps many states within a bound."""
    assert 0 < BOARD_VIEW.size(flight().state) < 10
