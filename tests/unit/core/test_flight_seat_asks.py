"""core.flight.seat_asks: what many verbs ask of a cabin, and of the command, is answered alike."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.cabin import PASSENGERS_MAX, Cabin, fold
from core.flight.machine import Command, Fact, Malformed, Recorded, Refusal
from core.flight.seat_asks import Ask, boarded
from core.flight.tabled import SLACK_MS
from tests.flight_desk import ms

NOW = ms("2026-11-21T06:00:00Z")
END = "2026-11-21T06:10:00.000Z"


def _cabin(*facts: tuple[str, dict[str, Any]], overbooking: int = 0) -> Cabin:
    opened = ("seat.opened", {"flight": "QX1", "layout": "1-2:AB", "overbooking": overbooking})
    return fold(Recorded(seq, type, "user:ann", NOW, body) for seq, (type, body) in enumerate((opened, *facts), 1))


def _ask(cabin: Cabin, verb: str = "book", role: str = "owner", now_ms: int = NOW, **body: Any) -> Ask:
    return Ask(cabin, Command(verb, body, "user:ann", role), now_ms)


def _reason(answer: object) -> str:
    assert isinstance(answer, Refusal)
    assert answer.message
    return answer.reason


BOOKED = ("seat.booked", {"passenger": "p1", "name": "Ann"})
SEATED = ("seat.assigned", {"passenger": "p1", "seat": "1A"})
ABOARD = ("seat.boarded", {"passenger": "p1"})
OFF = ("seat.offloaded", {"passenger": "p1"})
HELD = ("seat.held", {"passenger": "p2", "seat": "1B", "until": END})
BLOCKED = ("seat.blocked", {"seats": ["2A"], "why": "broken"})


def test_what_is_wrong_comes_in_order() -> None:
    """The body first, then whether there is a cabin, then whether this role may still change it."""
    bad = _ask(Cabin(), passenger=7)
    bad.person()
    assert isinstance(bad.wrong(), Malformed)
    assert _reason(_ask(Cabin()).wrong()) == "not_open"
    assert _ask(Cabin(), "open").wrong() is None
    closed = _cabin(("seat.closed", {}))
    assert _reason(_ask(closed, role="member").wrong()) == "closed"
    assert _ask(closed).wrong() is None
    assert _ask(_cabin(), role="member").wrong() is None


def test_a_person_is_an_id_or_an_object() -> None:
    """Of which the id and the name are read."""
    assert _ask(_cabin(), passenger="p1").person() == ("p1", "")
    assert _ask(_cabin(), passenger={"id": "p1", "name": "Ann", "born": 1990}).person() == ("p1", "Ann")
    ask = _ask(_cabin(), passenger={"id": "p 1"})
    ask.person()
    assert ask.fields.problem.startswith("`passenger` is not well: `id`")


def test_when_it_happened() -> None:
    """Now, unless it is told; not in the future, but for what clocks differ by."""
    assert _ask(_cabin()).at() == NOW
    assert _ask(_cabin(), at=END).at() == ms(END)
    assert _ask(_cabin()).happened(NOW + SLACK_MS) is None
    assert _reason(_ask(_cabin()).happened(NOW + SLACK_MS + 1)) == "impossible_time"


def test_who_is_on_the_manifest() -> None:
    """And of those, who has a seat and is not yet on board."""
    assert _reason(_ask(_cabin()).someone("p1")) == "no_such_passenger"
    assert _reason(_ask(_cabin()).seated("p1")) == "no_such_passenger"
    assert _reason(_ask(_cabin(BOOKED)).seated("p1")) == "no_seat"
    assert _reason(_ask(_cabin(BOOKED, SEATED, ABOARD)).seated("p1")) == boarded("p1").reason
    known = _ask(_cabin(BOOKED, SEATED)).seated("p1")
    assert not isinstance(known, Refusal)
    assert (known.name, known.seat) == ("Ann", "1A")


@pytest.mark.parametrize(
    ("seat", "reason"), [("9A", "no_such_seat"), ("1A", "seat_taken"), ("2A", "blocked"), ("1B", "seat_taken")]
)
def test_seats_that_are_not_free(seat: str, reason: str) -> None:
    """There is none, it is somebody's, it is out of use, or it is held."""
    assert _reason(_ask(_cabin(BOOKED, SEATED, HELD, BLOCKED)).free(seat, "p3")) == reason


def test_seats_that_are() -> None:
    """Also for who holds it, and for anybody once the hold ran out, which is recorded then."""
    cabin = _cabin(HELD)
    assert _ask(cabin).free("1A", "p3") == []
    assert _ask(cabin).free("1B", "p2") == []
    assert _ask(cabin, now_ms=ms(END) - 1).expired("1B") == []
    released = Fact("seat.released", {"seat": "1B", "passenger": "p2", "why": "expired", "until": END})
    assert _ask(cabin, now_ms=ms(END)).free("1B", "p3") == [released]
    assert _ask(cabin).expired("1A") == []


def test_who_can_come_onto_the_manifest() -> None:
    """Nobody twice, nobody beyond the places; who was offloaded again, while there are any."""
    assert _ask(_cabin()).newcomer("p1") is None
    assert _reason(_ask(_cabin(BOOKED)).newcomer("p1")) == "duplicate_passenger"
    assert _ask(_cabin(BOOKED, OFF)).newcomer("p1") is None
    three = [("seat.booked", {"passenger": f"q{n}"}) for n in range(3)]
    assert _ask(_cabin(*three)).newcomer("p1") is None
    assert _reason(_ask(_cabin(*three, BLOCKED)).newcomer("p1")) == "full"
    assert _ask(_cabin(*three, BLOCKED, overbooking=1)).newcomer("p1") is None
    assert _ask(_cabin(*three, BLOCKED, ("seat.offloaded", {"passenger": "q0"}))).newcomer("p1") is None


def test_a_manifest_has_an_end() -> None:
    """However many left again; one of those can still come back."""
    gone = ("seat.booked", "seat.offloaded")
    many = [(type, {"passenger": f"q{n}"}) for n in range(PASSENGERS_MAX) for type in gone]
    assert _reason(_ask(_cabin(*many)).newcomer("p1")) == "full"
    assert _ask(_cabin(*many)).newcomer("q7") is None
