"""core.flight.registry: the name of a stream says which machine decides in it."""

from __future__ import annotations

import pytest

from core.flight.registry import MACHINES, machine_of


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        ("flight:QX12-20261121", "legs"),
        ("flight:QX12-20261121.seats", "seats"),
        ("flight:crew.amy", "crew"),
        ("flight:crew.amy.seats", "crew"),
        ("flight:crew", "legs"),
        ("flight:board", None),
        ("flight:board.MEL", None),
        ("flight:boarding", "legs"),
        ("chat:QX12", None),
        ("trip:QX12.seats", "trips"),
        ("trip:", "trips"),
        ("flight", None),
    ],
)
def test_the_name_says_the_machine(stream: str, name: str | None) -> None:
    """And nothing else of the stream is looked at."""
    machine = machine_of(stream)
    assert (machine.name if machine else None) == name


def test_machines_have_timers_and_verbs_of_their_own() -> None:
    """Each verb in a table is under its own name, and none is in no table."""
    assert [machine.name for machine in MACHINES] == ["legs", "seats", "crew", "trips"]
    for machine in MACHINES:
        assert {"timer.set", "timer.cancel", "timer.fire"} <= machine.table.keys()
        assert all(verb == rule.verb for verb, rule in machine.table.items())
        assert machine.show(machine.initial())["timers"] == {}
