"""core.flight.views_crew: a crew member's ledger becomes a row of each flight's roster."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.views_crew import CREW_VIEW
from tests.flight_rows import FLIGHT, OUT, Story

RELEASE = "2026-11-21T09:00:00.000Z"


def assigned(flight: str = FLIGHT, **more: Any) -> tuple[str, dict[str, Any]]:
    return "crew.assigned", {"flight": flight, "report_at": OUT, "release_at": RELEASE, "role": "captain"} | more


def member() -> Story:
    story = Story("flight:crew.c7")
    story.tell(("crew.registered", {"name": "Ann", "base": "SYD", "pack": "far-135"}))
    return story


def test_an_assigned_member_has_a_row_on_the_flights_roster() -> None:
    """With the duty's times and places; nothing before, and nothing for being registered or absent."""
    story = member()
    assert story.rows == {}
    story.tell(("crew.absent", {"from": OUT, "to": RELEASE, "kind": "sick"}), ("message", {"text": "hi"}))
    assert story.rows == {}
    story.tell(assigned(**{"from": "SYD"}))
    assert story.of("crew_roster") == {
        f"{FLIGHT}/c7": {
            "crew": "c7",
            "name": "Ann",
            "flight": FLIGHT,
            "role": "captain",
            "status": "assigned",
            "acknowledged": False,
            "report_at": OUT,
            "release_at": RELEASE,
            "from": "SYD",
            "to": None,
        }
    }


def test_each_fact_of_a_duty_changes_its_row_alone() -> None:
    """Acknowledged, reported, off."""
    story = member()
    story.tell(assigned(), assigned("QX99"))
    found = story.tell(("crew.acknowledged", {"flight": FLIGHT}))
    assert [change.key for change in found] == [f"{FLIGHT}/c7"]
    story.tell(("crew.reported", {"flight": FLIGHT, "at": OUT}), ("crew.off", {"flight": FLIGHT, "at": RELEASE}))
    assert {key: row["status"] for key, row in story.of("crew_roster").items()} == {
        f"{FLIGHT}/c7": "off",
        "QX99/c7": "assigned",
    }


def test_a_member_who_was_released_stays_on_the_roster_as_that() -> None:
    """And is assigned again when assigned again; releasing somebody from what they never had says nothing."""
    story = member()
    story.tell(assigned(), ("crew.released", {"flight": FLIGHT, "why": "sick"}))
    assert story.of("crew_roster")[f"{FLIGHT}/c7"]["status"] == "released"
    assert story.tell(("crew.released", {"flight": "QX1", "why": "?"})) == []
    story.tell(assigned(role="copilot"))
    assert story.of("crew_roster")[f"{FLIGHT}/c7"]["role"] == "copilot"
    assert story.of("crew_roster")[f"{FLIGHT}/c7"]["status"] == "assigned"


def test_another_name_is_shown_on_all_rows() -> None:
    """Of flights they were released from as well."""
    story = member()
    story.tell(assigned(), assigned("QX99"), ("crew.released", {"flight": "QX99", "why": "sick"}))
    found = story.tell(("crew.registered", {"name": "Anna", "base": "SYD", "pack": "far-135"}))
    assert [change.key for change in found] == [f"{FLIGHT}/c7", "QX99/c7"]
    assert {row["name"] for row in story.rows.values()} == {"Anna"}


def test_what_is_remembered_of_released_duties_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten, and their rows stay as they were."""
    monkeypatch.setattr("core.flight.views_crew.RELEASED_MAX", 2)
    story = member()
    for n in range(3):
        story.tell(assigned(f"QX{n}"))
        story.tell(("crew.released", {"flight": f"QX{n}", "why": "sick"}))
    assert [row["status"] for row in story.rows.values()] == ["released"] * 3
    assert list(story.state.released) == ["QX1", "QX2"]
    assert CREW_VIEW.size(story.state) == 6
