"""Which tests are a module's own, in one place.

Tests mirror sources: of ``core/hub.py`` they are ``tests/unit/core/test_hub.py`` and ``test_hub_<more>.py``, of the module
``flight/legs`` of a package within core ``test_flight_legs.py``. What is named otherwise is listed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CORE: Final = tuple(
    sorted(
        str(path.relative_to(ROOT / "core").with_suffix(""))
        for path in (ROOT / "core").rglob("*.py")
        if path.stem != "__init__"
    )
)
"""Modules by their path within core: ``hub``, ``flight/legs``."""
NAMED_OTHERWISE: Final = {"test_removal": "hub"}

TOO_LONG_TO_TRACE: Final = (
    "tests/unit/core/test_hub_properties.py",
    "tests/unit/core/test_gossip_world.py",
    "tests/unit/core/test_frames.py::test_a_million_empty_fragments_hold_nothing",
    "tests/unit/core/test_frames.py::test_any_session_in_any_chunks_gives_the_same_events",
    "tests/unit/core/test_gossip.py::test_ten_thousand_streams_ask_and_answer_in_turns",
    "tests/unit/core/test_gossip_wire.py::test_a_node_takes_any_bytes",
    "tests/unit/core/test_flight_leg_state.py::test_any_facts_in_any_order_are_taken",
    "tests/unit/core/test_flight_legs_stateful.py",
    "tests/unit/core/test_flight_seats_stateful.py",
    "tests/unit/core/test_flight_crew_stateful.py",
    "tests/unit/core/test_geo_plausible_properties.py",
    "tests/unit/core/test_trip_trips_stateful.py",
)
"""Random programs and large amounts, left out of coverage: nothing may be covered by chance alone."""


def module_of(test: str) -> str:
    """The module that a test file is of, by the longest name that fits: test_gossip_wire is gossip_wire's, not gossip's."""
    if test in NAMED_OTHERWISE:
        return NAMED_OTHERWISE[test]
    name = test.removeprefix("test_")
    fits = {module: module.replace("/", "_") for module in CORE}
    return max((module for module, stem in fits.items() if f"{name}_".startswith(f"{stem}_")), key=len, default="")


def tests_of(module: str) -> list[str]:
    """The test files of a module of core, as pytest takes them."""
    files = sorted((ROOT / "tests/unit/core").glob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if module_of(path.stem) == module]
