"""core.flight.seats: the machine of seats as others see it: who may command what, when, and what it was at a time."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.cabin import Cabin
from core.flight.machine import Command, Fact, Malformed, Recorded
from core.flight.seats import FIELDS, SEATS
from core.flight.timers import Timed
from tests.flight_desk import Desk, ms

Told = tuple[str, dict[str, Any]]


def _desk(*told: Told, layout: str = "1-2:AB", overbooking: int = 0) -> Desk[Cabin]:
    desk = Desk(SEATS)
    desk.done("open", flight="QX1", layout=layout, overbooking=overbooking)
    for verb, body in told:
        desk.done(verb, **body)
    return desk


def _who(who: str, **more: Any) -> dict[str, Any]:
    return {"passenger": who, **more}


BOOKED: Told = ("book", _who("p1"))


CLOSED: Told = ("close", {})


OUT: Told = ("transfer_out", _who("p1", to="QX2", saga="s1"))


IN: Told = ("transfer_in", _who("p1", saga="s1", **{"from": "QX2"}))


PLAIN: dict[str, dict[str, Any]] = {
    "open": {"flight": "QX1", "layout": "1:A"},
    "relayout": {"layout": "1:A"},
    "block": {"seats": ["1A"], "why": "broken"},
    "unblock": {"seats": ["1A"]},
    "hold": _who("p1", seat="1A", for_s=9),
    "change": _who("p1", seat="1A"),
    "swap": {"a": "p1", "b": "p2"},
    "deboard": _who("p1", why="ill"),
    "offload": _who("p1", why="ill"),
    "transfer_out": OUT[1],
    "transfer_in": IN[1],
    "expire": {},
    "close": {},
    "reopen": {},
}


def test_a_cabin_must_be_open() -> None:
    """Before that only `open` is obeyed, whatever else is asked."""
    desk = Desk(SEATS)
    for verb in SEATS.table.keys() - {"open"}:
        assert desk.refused(verb, **PLAIN.get(verb, _who("p1"))) == "not_open"
    assert {verb for verb, _ in desk.reasons} == {
        rule.verb for rule in SEATS.table.values() if "not_open" in rule.refusals
    }


def test_a_closed_manifest_is_the_owners() -> None:
    """Members are refused; an owner can still book."""
    desk = _desk(CLOSED)
    members = {rule.verb for rule in SEATS.table.values() if "closed" in rule.refusals}
    for verb in members:
        assert desk.refused(verb, as_role="member", **PLAIN.get(verb, _who("p1"))) == "closed"
    assert desk.done("book", **_who("p1")) == [Fact("seat.booked", {"passenger": "p1"})]
    desk.done("reopen", why="late booking")
    assert desk.done("book", as_role="member", **_who("p2"))


def test_what_is_the_owners_alone() -> None:
    """The layout, the manifest's closing, and what sagas do: a member is not refused but not allowed."""
    owners = {rule.verb for rule in SEATS.table.values() if "member" not in rule.roles}
    assert owners == {"open", "relayout", "block", "unblock", "transfer_out", "transfer_in", "close", "reopen"}
    desk = _desk()
    assert all(desk.unallowed(verb, **PLAIN.get(verb, {})) for verb in owners)


def test_commands_that_are_none() -> None:
    """An unknown verb is told the known ones; what is wrong with a body is told by its field."""
    desk = _desk()
    assert "hold, assign" in desk.malformed("levitate")
    assert "`seat`" in desk.malformed("hold", passenger="p1", seat="A1", for_s=9)
    assert "`for_s`" in desk.malformed("hold", passenger="p1", seat="1A")
    assert "`passenger` is not well: `id`" in desk.malformed("book", passenger={"name": "Ann"})
    assert "`passenger`" in desk.malformed("book")
    assert "seats twice: 1A" in Desk(SEATS).malformed("open", flight="QX1", layout="1:AA")
    assert "`flight`" in Desk(SEATS).malformed("open", layout="1:AA")


def test_the_timer_of_holds_is_one_that_timers_know() -> None:
    """What the facts of a hold set is what the wrapper fires, and what it then does is a command of this machine."""
    timed = Timed(SEATS)
    state = timed.initial()
    for seq, fact in enumerate(
        [Fact("seat.opened", {"flight": "QX1", "layout": "1:A"}), *_desk().ask("hold", **_who("p1", seat="1A", for_s=60))], 1
    ):  # fmt: skip
        state = timed.evolve(state, Recorded(seq, fact.type, "user:ann", 0, fact.body))
    assert timed.show(state)["timers"] == {
        "holds": {"due": "2026-11-21T06:01:00.000Z", "fence": 3, "do": {"type": "expire"}}
    }
    assert "expire" in timed.table


def test_the_state_at_a_moment() -> None:
    """Folding at a time is what the machine showed then."""
    desk = _desk(BOOKED)
    then, shown = desk.now_ms, desk.show()
    desk.later(60)
    desk.done("assign", **_who("p1", seat="1A"))
    assert SEATS.show(SEATS.fold(desk.events, recorded_ms=then)) == shown
    assert SEATS.show(SEATS.fold(desk.events)) == desk.show()
    assert ms("2026-11-21T06:00:00Z") == then


class Asked(dict[str, Any]):
    """A body that remembers which fields were looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("verb", SEATS.table)
def test_a_verb_looks_for_the_fields_that_it_has(verb: str) -> None:
    """All of them, and no other: what `FIELDS` leaves out could never be said."""
    desk, body = _desk(), Asked()
    SEATS.decide(desk.state, Command(verb, body, "user:ann", "owner"), desk.now_ms)
    assert body.names == FIELDS[verb]


def test_a_field_that_the_verb_has_not_is_refused() -> None:
    """Rather than left out in silence."""
    assert _desk().ask("book", passenger="p1", name="Ann") == Malformed("book has no `name`; its fields are passenger")
    assert FIELDS.keys() == SEATS.table.keys()
