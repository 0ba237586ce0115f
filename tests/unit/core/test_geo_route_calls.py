"""core.geo.route_calls: seldom, for a reason, and never again of a provider that failed the trip."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.route_calls import CallPolicy, Look, RouteCalls
from core.geo.routing import Ask, Shape, Snapshot

BEGAN_MS = 1_790_000_000_000
A, B = (30.0, 104.0), (30.1, 104.0)


def snapshot(at_s: float = 0.0, source: str = "osrm") -> Snapshot:
    shape = Shape(source)
    shape.add([A, B], [600.0])
    shape.stop()
    return shape.snapshot(Ask("car", (A, B)), BEGAN_MS + int(1000 * at_s))


def look(at_s: float, left_s: float | None = 1_800.0, *, off_route: bool = False) -> Look:
    return Look(BEGAN_MS + int(1000 * at_s), left_s, off_route)


def asked(
    calls: RouteCalls, at_s: float, *, cost: int = 1, failed: bool = False, found: Snapshot | None = None
) -> None:
    calls.asked(BEGAN_MS + int(1000 * at_s))
    calls.answered(BEGAN_MS + int(1000 * at_s), cost, failed, found)


def started(policy: CallPolicy | None = None) -> RouteCalls:
    calls = RouteCalls(BEGAN_MS, policy)
    asked(calls, 0.0, found=snapshot())
    return calls


def test_a_trip_begins_with_a_route() -> None:
    """Once: while it waits, and when it has one, it does not ask again."""
    calls = RouteCalls(BEGAN_MS)
    assert calls.why(look(0.0, None), 0) == "start"
    calls.asked(BEGAN_MS)
    assert calls.why(look(100.0, None, off_route=True), 0) is None
    calls.answered(BEGAN_MS, 1, False, snapshot())
    assert calls.why(look(500.0), 0) is None
    assert calls.calls == 1


def test_off_its_route_it_asks_soon() -> None:
    """After a short spacing, and again if it is still off."""
    calls = started()
    assert calls.why(look(44.0, off_route=True), 0) is None
    assert calls.why(look(45.0, off_route=True), 0) == "off_route"
    asked(calls, 45.0, found=snapshot(45.0))
    assert calls.why(look(89.0, off_route=True), 0) is None


def test_a_breach_is_seen_twice() -> None:
    """Outside of what was foretold, later or sooner, with long enough left, and after the longer spacing."""
    for arrive_s in (2_500.0, 1_000.0):
        calls = started()
        calls.expect(BEGAN_MS + 1_500_000, BEGAN_MS + 2_100_000)
        assert calls.why(look(160.0, arrive_s - 160.0), 0) is None
        assert calls.why(look(190.0, arrive_s - 190.0), 0) == "breach"
        asked(calls, 190.0, found=snapshot(190.0))
        assert calls.why(look(400.0, arrive_s - 400.0), 0) is None


def test_what_is_no_breach() -> None:
    """One look alone, another within between two, one soon after an ask, one shortly before the end, none foretold."""
    calls = started()
    calls.expect(BEGAN_MS + 1_500_000, BEGAN_MS + 2_100_000)
    for at_s, left_s in ((160.0, 3_000.0), (190.0, 1_600.0), (220.0, 3_000.0)):
        assert calls.why(look(at_s, left_s), 0) is None
    calls = started()
    calls.expect(BEGAN_MS + 1_500_000, BEGAN_MS + 2_100_000)
    assert [calls.why(look(at_s, 3_000.0), 0) for at_s in (60.0, 90.0)] == [None, None]
    calls = started()
    calls.expect(BEGAN_MS + 10_000, BEGAN_MS + 20_000)
    assert [calls.why(look(at_s, 240.0), 0) for at_s in (160.0, 190.0)] == [None, None]
    assert [calls.why(look(at_s, None), 0) for at_s in (200.0, 210.0)] == [None, None]


def test_an_old_route_is_renewed_where_much_is_left() -> None:
    """Older than ten minutes with more than a quarter of an hour to go, or with nobody knowing how long."""
    calls = started()
    assert calls.why(look(600.0, 1_000.0), 0) is None
    assert calls.why(look(601.0, 900.0), 0) is None
    assert calls.why(look(601.0, 901.0), 0) == "age"
    assert calls.why(look(601.0, None), 0) == "age"
    without = RouteCalls(BEGAN_MS)
    asked(without, 0.0, cost=1, found=snapshot(source="offline"))
    assert without.made_ms is None
    assert without.why(look(601.0, 901.0), 0) == "age"


@pytest.mark.parametrize("trip_s", [300, 1_800, 7_200, 60_000])
def test_calls_are_few_however_bad_the_trip(trip_s: int) -> None:
    """A trip that is off its route for all its time makes 6 calls in 30 minutes, and 48 at most."""
    calls = RouteCalls(BEGAN_MS)
    for at_s in range(0, trip_s, 10):
        if calls.why(look(at_s, 5_000.0, off_route=True), 0):
            asked(calls, at_s, found=snapshot(at_s))
    assert calls.calls <= min(48, 2 + trip_s // 450)
    assert calls.calls == {300: 2, 1_800: 5, 7_200: 17, 60_000: 48}[trip_s]


def test_an_ask_of_two_providers_costs_two() -> None:
    """And one that was shared costs none, but counts for the spacing."""
    calls = RouteCalls(BEGAN_MS)
    assert calls.left(BEGAN_MS) == 2
    asked(calls, 0.0, cost=2, found=snapshot())
    assert (calls.calls, calls.left(BEGAN_MS)) == (2, 0)
    assert calls.why(look(100.0, off_route=True), 0) is None
    calls = RouteCalls(BEGAN_MS)
    asked(calls, 0.0, cost=0, found=snapshot())
    assert (calls.calls, calls.why(look(44.0, off_route=True), 0)) == (0, None)
    assert calls.left(BEGAN_MS - 1_000_000) == 2


def test_nobody_is_asked_after_a_failure() -> None:
    """However off the trip is, until a provider answered somebody else after that; its source says that its route is old."""
    calls = started()
    assert calls.marked("learned") == "learned"
    asked(calls, 100.0, failed=True)
    failed_ms = BEGAN_MS + 100_000
    for at_s in range(200, 7_200, 10):
        assert calls.why(look(at_s, 5_000.0, off_route=True), failed_ms) is None
    assert calls.marked("learned") == "learned/stale-route"
    assert calls.why(look(900.0, off_route=True), failed_ms + 1) == "off_route"
    asked(calls, 900.0, found=snapshot(900.0))
    assert calls.marked("learned") == "learned"


def test_a_trip_that_never_had_a_route_has_no_stale_one() -> None:
    """It failed at its start: the guess it has is not old."""
    calls = RouteCalls(BEGAN_MS)
    asked(calls, 0.0, failed=True, found=snapshot(source="offline"))
    assert calls.marked("default") == "default"
    assert calls.why(look(7_000.0), 0) is None


def test_an_ask_that_was_given_up() -> None:
    """Counts as a call, and does not keep the trip from asking again."""
    calls = started()
    calls.asked(BEGAN_MS + 45_000)
    calls.gave_up()
    assert (calls.calls, calls.asking) == (2, False)
    assert calls.why(look(500.0, off_route=True), 0) == "off_route"


@given(st.lists(st.tuples(st.integers(1, 400), st.booleans(), st.booleans(), st.integers(0, 5_000)), max_size=40))
def test_calls_are_earned(steps: list[tuple[int, bool, bool, int]]) -> None:
    """Whatever happens, a trip makes no more calls than its time has earned it."""
    calls, at_s = RouteCalls(BEGAN_MS, replace(CallPolicy(), breach_looks=1)), 0
    for wait_s, off_route, failed, left_s in steps:
        at_s += wait_s
        well_ms = BEGAN_MS + 1000 * (at_s - 200)
        why = calls.why(look(at_s, left_s, off_route=off_route), well_ms)
        if why:
            asked(calls, at_s, failed=failed, found=None if failed else snapshot(at_s))
            calls.expect(BEGAN_MS + 1_000_000, BEGAN_MS + 2_000_000)
        assert calls.calls <= 2 + at_s // 450


@pytest.mark.parametrize(("after_s", "calls_made"), [(0, 1), (449, 1), (900, 3), (90_000, 47)])
def test_a_trip_taken_up_without_its_past(after_s: int, calls_made: int) -> None:
    """Has one call for the route that it lost, whenever that is, and earns the next as others do."""
    now_ms = BEGAN_MS + 1000 * after_s
    calls = RouteCalls.resumed(BEGAN_MS, now_ms)
    assert (calls.calls, calls.left(now_ms), calls.why(look(after_s), 0)) == (calls_made, 1, "start")
    asked(calls, after_s, found=snapshot(after_s))
    assert calls.left(now_ms) == 0
    assert RouteCalls.resumed(BEGAN_MS, now_ms, replace(CallPolicy(), first_calls=0, calls_max=0)).calls == 0
