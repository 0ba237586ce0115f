"""core.flight.crew: the machine of crew as others see it: who may command what, when, and what it was at a time."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.crew import CREW, FIELDS
from core.flight.machine import Command, Malformed
from tests.crew_desk import SICK, WHO, A, at_hour, crew_desk
from tests.flight_desk import Desk

PLAIN: dict[str, dict[str, Any]] = {
    "pack": {"pack": "cao48"},
    "assign": A[1],
    "release": {"flight": "A", "why": "so"},
    "extend": {"flight": "A", "release_at": at_hour(9), "why": "fog"},
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
    desk = crew_desk(A)
    members = {rule.verb for rule in CREW.table.values() if "member" in rule.roles}
    assert members == {"acknowledge", "report", "off", "extend"}
    assert all(desk.unallowed(verb, **PLAIN.get(verb, WHO)) for verb in CREW.table.keys() - members)
    assert desk.done("acknowledge", as_role="member", flight="A")


def test_a_verb_that_is_none() -> None:
    """The known ones are told."""
    assert "register, pack, assign" in crew_desk().malformed("fly")


def test_the_roster_at_a_moment() -> None:
    """Folding at a time is what the machine showed then."""
    desk = crew_desk(A)
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
    desk, body = crew_desk(), Asked()
    CREW.decide(desk.state, Command(verb, body, "user:ann", "owner"), desk.now_ms)
    assert body.names == FIELDS[verb]


def test_a_field_that_the_verb_has_not_is_refused() -> None:
    """Rather than left out in silence."""
    assert crew_desk().ask("off", flight="A", block=90) == Malformed(
        "off has no `block`; its fields are at, block_minutes, flight"
    )
    assert FIELDS.keys() == CREW.table.keys()
