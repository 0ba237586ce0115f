"""core.flight.crew: the machine of crew as others see it: who may command what, when, and what it was at a time."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.crew import CREW, FIELDS
from core.flight.duty_time import HOUR_MS
from core.flight.ledger import Ledger
from core.flight.machine import Command, Malformed
from core.flight.times import write
from tests.flight_desk import Desk, ms

Told = tuple[str, dict[str, Any]]


NOW = "2026-11-21T06:00:00Z"


WHO: dict[str, Any] = {"base": "BNE", "roles": ["captain"], "pack": "far135", "types": ["B738"]}


def _at(hours: float) -> str:
    """A time so many hours after now."""
    return write(ms(NOW) + round(hours * HOUR_MS))


def _duty(flight: str, report_h: float, long_h: float, block: int = 0, **more: Any) -> dict[str, Any]:
    times = {"report_at": _at(report_h), "release_at": _at(report_h + long_h)}
    return {"flight": flight, "role": "captain", "block_minutes": block, **times, **more}


def _desk(*told: Told, later_h: float = 0, **who: Any) -> Desk[Ledger]:
    desk = Desk(CREW, NOW)
    desk.done("register", **(WHO | who))
    for verb, body in told:
        desk.done(verb, **body)
    desk.later(later_h * 3600)
    return desk


A: Told = ("assign", _duty("A", 0, 8, 300))


ON: Told = ("report", {"flight": "A"})


OFF: Told = ("off", {"flight": "A", "at": NOW})


SICK: Told = ("leave", {"from": _at(24), "to": _at(48), "kind": "sick"})


PLAIN: dict[str, dict[str, Any]] = {
    "pack": {"pack": "cao48"},
    "assign": A[1],
    "release": {"flight": "A", "why": "so"},
    "extend": {"flight": "A", "release_at": _at(9), "why": "fog"},
    "leave": SICK[1],
    "return": {},
}


def test_nothing_before_somebody_is_registered() -> None:
    """Then `register` alone is obeyed."""
    desk = Desk(CREW)
    for verb in CREW.table.keys() - {"register"}:
        assert desk.refused(verb, **PLAIN.get(verb, {"flight": "A"})) == "not_registered"
    assert {verb for verb, _ in desk.reasons} == {
        rule.verb for rule in CREW.table.values() if "not_registered" in rule.refusals
    }


def test_who_may_do_what() -> None:
    """Rosters are the owners'; the crew member says what happened."""
    desk = _desk(A)
    members = {rule.verb for rule in CREW.table.values() if "member" in rule.roles}
    assert members == {"acknowledge", "report", "off", "extend"}
    assert all(desk.unallowed(verb, **PLAIN.get(verb, WHO)) for verb in CREW.table.keys() - members)
    assert desk.done("acknowledge", as_role="member", flight="A")


def test_a_verb_that_is_none() -> None:
    """The known ones are told."""
    assert "register, pack, assign" in _desk().malformed("fly")


def test_the_roster_at_a_moment() -> None:
    """Folding at a time is what the machine showed then."""
    desk = _desk(A)
    then, shown = desk.now_ms, desk.show()
    desk.later(60)
    desk.done("acknowledge", flight="A")
    assert CREW.show(CREW.fold(desk.events, recorded_ms=then)) == shown
    assert CREW.show(CREW.fold(desk.events)) == desk.show()


class Asked(dict[str, Any]):
    """A body that remembers which fields were looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("verb", CREW.table)
def test_a_verb_looks_for_the_fields_that_it_has(verb: str) -> None:
    """All of them, and no other: what `FIELDS` leaves out could never be said."""
    desk, body = _desk(), Asked()
    CREW.decide(desk.state, Command(verb, body, "user:ann", "owner"), desk.now_ms)
    assert body.names == FIELDS[verb]


def test_a_field_that_the_verb_has_not_is_refused() -> None:
    """Rather than left out in silence."""
    assert _desk().ask("off", flight="A", block=90) == Malformed(
        "off has no `block`; its fields are at, block_minutes, flight"
    )
    assert FIELDS.keys() == CREW.table.keys()
