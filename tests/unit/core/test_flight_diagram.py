"""core.flight.diagram: docs/flights.md tells what the machines do."""

from __future__ import annotations

from core.flight import diagram
from core.flight.leg_state import STATES
from core.flight.legs import LEGS
from core.flight.machine import Rule
from tests.measure import flights
from tests.measure.made import PART_RE


def test_the_page_is_as_the_machines_are() -> None:
    """Every made part of it."""
    page = flights.PAGE.read_text()
    assert page == flights.render(page), "run: python -m tests.measure.flights --write"
    assert {found[2] for found in PART_RE.finditer(page)} == flights.parts().keys()


def test_every_state_is_come_to_and_every_verb_is_given() -> None:
    """None is left out of the diagram for want of a sample."""
    assert tuple(diagram.WAYS) == STATES
    assert diagram.GIVEN.keys() == LEGS.table.keys()
    assert {end for ends in diagram.arrows() for end in ends} == set(STATES)


def test_the_arrows_are_those_of_a_flight() -> None:
    """The ways that people know, and no way out of cancelled but reinstatement."""
    arrows = diagram.arrows()
    assert arrows["scheduled", "boarding"] == ["board"]
    assert arrows["departed", "scheduled"] == ["return", "withdraw"]
    assert arrows["diverted", "scheduled"] == ["continue"]
    assert arrows["scheduled", "completed"] == ["arrive"]
    assert {tuple(verbs) for (start, _), verbs in arrows.items() if start == "cancelled"} == {("reinstate",)}


def test_the_diagram_leaves_out_leaps() -> None:
    """They are in the text."""
    drawn = diagram.states()
    assert "scheduled --> departed: depart, takeoff, movement" in drawn
    assert "scheduled --> completed" not in drawn
    assert drawn.startswith("```mermaid\nstateDiagram-v2\n")


def test_a_line_of_a_table_tells_all_of_its_rule() -> None:
    """Also where it says little."""
    table = {
        "a": Rule("a", "Does.", ("x.y", "x.z"), ("on", "off"), frozenset(("owner",)), ("full",)),
        "b": Rule("b", "Is.", ("x.y",)),
    }
    assert diagram.verbs(table).splitlines()[2:] == [
        "| `a` | Does. | owners | on, off | `x.y`, `x.z` | `full` |",
        "| `b` | Is. | owners, members | always | `x.y` | – |",
    ]


def test_a_table_may_tell_the_fields_of_bodies() -> None:
    """By name, in a column of their own."""
    table = {"a": Rule("a", "Does.", ("x.y",))}
    assert diagram.verbs(table, {"a": ("to", "at")}).splitlines() == [
        "| verb | body | what it says | by | obeyed when | becomes | may be refused as |",
        "|---|---|---|---|---|---|---|",
        "| `a` | `at`, `to` | Does. | owners, members | always | `x.y` | – |",
    ]


def test_the_codes_are_in_order() -> None:
    """With their letters, where they have some."""
    lines = diagram.codes().splitlines()[2:]
    assert lines == sorted(lines)
    assert "| 93 | RA | reactionary and other | aircraft came late |" in lines
