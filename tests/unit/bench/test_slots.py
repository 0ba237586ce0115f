"""bench.slots: the fullest second is found wherever it begins, and held against what the slots planned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.slots import SECOND_NS, drained, peak


def evenly(count: int, over_s: float) -> list[int]:
    return [int(at * over_s * SECOND_NS / count) for at in range(count)]


def test_the_peak_does_not_depend_on_where_seconds_begin() -> None:
    """Three about a full second count together; two a whole second apart do not."""
    assert peak([]) == 0
    assert peak([900_000_000, 1_000_000_000, 1_100_000_000]) == 3
    assert peak([0, SECOND_NS]) == 1
    assert peak([0, SECOND_NS - 1]) == 2


@given(st.lists(st.integers(0, 5 * SECOND_NS), max_size=60), st.randoms(use_true_random=False))
def test_the_peak_is_that_of_the_plain_definition(moments: list[int], random: st.DrawFn) -> None:
    """In any order: the most that lie within one second from one of them on."""
    random.shuffle(moments)  # type: ignore[attr-defined]
    plain = max((sum(one <= other < one + SECOND_NS for other in moments) for one in moments), default=0)
    assert peak(moments) == plain


def test_clients_that_keep_their_slots_do_not_go_over_the_plan() -> None:
    """1,600 over 8 s are 200 a second, and no second sees more."""
    slots = evenly(1600, 8.0)
    seen = drained(slots, slots)
    assert (seen.clients, seen.peak_per_s) == (1600, 200)
    assert seen.spread_s == pytest.approx(8.0)
    assert seen.planned_per_s == pytest.approx(200)
    assert seen.over == pytest.approx(1.0)


def test_clients_that_come_at_once_go_far_over_it() -> None:
    """All of them in one second, eight times what was planned."""
    assert drained(evenly(1600, 8.0), [7] * 1600).over == pytest.approx(8.0)


def test_a_refused_client_that_tries_again_counts_again() -> None:
    """What hits the other nodes is what is measured."""
    slots = evenly(100, 2.0)
    assert drained(slots, [*slots, *slots]).over == pytest.approx(2.0)


def test_slots_within_a_second_plan_all_of_it_for_that_second() -> None:
    """Ten clients in a tenth of a second are no rate of a hundred a second."""
    slots = evenly(10, 0.1)
    seen = drained(slots, slots)
    assert (seen.planned_per_s, seen.over) == (10, 1.0)


def test_nobody_told_plans_nothing() -> None:
    """A node without clients is no peak of anything."""
    assert drained([], []).over == 0.0
    assert drained([5], [5]).over == 1.0
