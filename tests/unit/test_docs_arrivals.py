"""docs/arrivals.md, docs/protocol.md and docs/operations.md say of positions and arrival times what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import get_args

from core.geo.plausible import REANCHOR_AFTER
from core.geo.plausible_words import REASONS, VERDICTS, Reason, Verdict
from core.geo.route_calls import STALE, CallPolicy
from core.geo.routing import ROAD_M_MAX
from core.limits import Limits
from core.live import TRAIL_MS, TRAIL_POINTS_MAX
from core.tenants import Arrivals
from core.trip.reached import BEYOND_M
from core.trip.showing import THEN_MAX
from gateway.arrivals.engine import BY, LATE_MS
from gateway.routes.calling import RouteLimits
from gateway.routes.make import read_routes
from tests.measure import arrivals
from tests.measure.made import PART_RE
from tests.measure.own import ROOT

PAGE = arrivals.PAGE.read_text()
TEXT = " ".join(PAGE.split())
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def test_the_tables_are_the_code_s() -> None:
    """Verdicts, reasons, modes and a tenant's settings; all of them are on the page."""
    assert arrivals.render(PAGE) == PAGE, "run: python -m tests.measure.arrivals --write"
    assert {found[2] for found in PART_RE.finditer(PAGE)} == arrivals.parts().keys()
    assert set(VERDICTS) == set(get_args(Verdict))
    assert set(REASONS) == set(get_args(Reason))
    assert arrivals.MEANINGS.keys() == {item.name for item in fields(Arrivals)}


def test_every_verdict_and_reason_is_on_the_protocol_page() -> None:
    """What a device may be answered is there in words."""
    page = (ROOT / "docs/protocol.md").read_text()
    for word in (*VERDICTS, *filter(None, REASONS), "replayed", "too_old", "bad_signature", "unsigned"):
        assert f"`{word}`" in page, word


def test_numbers_are_those_of_the_code() -> None:
    """What the page says of how many, how long and how far."""
    policy, limits, bounds = CallPolicy(), RouteLimits(), Limits()
    half_hour = policy.first_calls + int(1_800 / policy.call_every_s)
    assert (REANCHOR_AFTER, half_hour, policy.first_calls) == (3, 6, 2)
    assert (limits.wait_s, limits.calls_at_once_max, limits.breaker_failures) == (2.0, 8, 3)
    assert (ROAD_M_MAX, LATE_MS, bounds.live_flush_s) == (3_000_000.0, 5_000, 0.1)
    for said in (
        f"one more each {policy.call_every_s / 60:g} minutes",
        f"{policy.calls_max} at most",
        f"lie {policy.spacing_s:g} s, {policy.off_route_spacing_s:g} s where it is off its route",
        f"nobody asks it for {['', '', '', '', '', 'five'][int(limits.breaker_rest_s / 60)]} minutes",
        f"up to {TRAIL_POINTS_MAX} points",
        f"{bounds.shown_per_stream_max} subjects at most",
        f"{BEYOND_M:g} m beyond it",
        f"by `{BY}`",
        f"`{STALE}`",
    ):
        assert said in TEXT, said
    assert (TRAIL_MS, THEN_MAX) == (600_000, 10)


def test_the_example_of_routes_can_be_used() -> None:
    """As it stands on the page."""
    [said] = re.findall(r'^routes = "(.+)"$', PAGE, re.MULTILINE)
    assert [one.kind for one in read_routes(said)] == ["osrm", "osrm", "valhalla", "google"]


def test_the_example_of_an_arrival_time_has_its_fields() -> None:
    """Those that the signal has."""
    [said] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    value = json.loads(said)
    assert value.keys() == {"stop", "at", "low", "high", "source", "then"}
    assert value["low"] <= value["at"] <= value["high"]


def test_metrics_of_positions_and_arrivals_are_on_the_page_for_operators() -> None:
    """Each that the gateway registers."""
    files = [
        ROOT / "gateway/collect.py",
        ROOT / "gateway/work/make.py",
        *(ROOT / "gateway/live").glob("*.py"),
        *(ROOT / "gateway/arrivals").glob("*.py"),
    ]
    names = {name for file in files for name in re.findall(r'"(readback_[a-z_]+)"', file.read_text())}
    assert len(names) > 20
    missing = sorted(name for name in names if name not in OPERATIONS)
    assert not missing, f"not in docs/operations.md: {', '.join(missing)}"
