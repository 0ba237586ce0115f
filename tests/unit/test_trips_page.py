"""docs/trips.md tells what the machine of trips does."""

from __future__ import annotations

import json
import re

from core.trip.alerts import DELIVERY_MS, INSIDE_MS, STEADY_MS
from core.trip.plan import MODES, STOPS_MAX
from core.trip.state import STATES
from tests.measure import trips
from tests.measure.made import PART_RE
from tests.trip_desk import planned, told


def test_the_page_is_as_the_machine_is() -> None:
    """Every made part of it."""
    page = trips.PAGE.read_text()
    assert page == trips.render(page), "run: python -m tests.measure.trips --write"
    assert {found[2] for found in PART_RE.finditer(page)} == trips.parts().keys()


def test_the_arrows_are_those_of_a_trip() -> None:
    """Every state is come to, and nothing leads out of the end."""
    arrows = trips.arrows()
    assert {"new", *(end for _, end in arrows)} == set(STATES)
    assert arrows["new", "planned"] == ["plan"]
    assert arrows["planned", "underway"] == ["start", "arrive"]
    assert not any(start in ("completed", "cancelled") for start, _ in arrows)


def test_what_the_page_says_of_numbers_and_names_is_so() -> None:
    """Bounds, and the fields of its examples."""
    page = trips.PAGE.read_text()
    text = " ".join(page.split())
    for said in (
        f"1 to {STOPS_MAX} `stops`",
        f"({', '.join(MODES)})",
        f"of the last {STEADY_MS // 1000} seconds",
        f"less than {DELIVERY_MS // 1000} seconds before",
    ):
        assert said in text
    assert INSIDE_MS == 60_000
    alert, state = (json.loads(found) for found in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    desk = planned()
    desk.done("notify", recipient="user:amy", stop="A")
    [fact] = told(desk, stop="A", merged=[600])
    assert alert.keys() == fact.body.keys()
    assert state.keys() - {"timers", "started"} == desk.show().keys()
