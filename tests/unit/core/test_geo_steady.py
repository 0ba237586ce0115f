"""What is shown stands still until the evidence asks it to move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.steady import Calm, Steady

CALM = Calm(step_s=30.0, gain=0.5, still_s=10.0, gate_share=0.5, gate_s=60.0)


def shown(target_s: float, *, was_s: float = 1_000.0, wide_s: float = 400.0) -> float:
    return Steady(CALM, was_s).take(0.0, target_s, target_s - wide_s / 2, target_s + wide_s / 2)


def test_the_first_target_is_shown() -> None:
    """As it is."""
    assert Steady(CALM).take(0.0, 500.0, 400.0, 600.0) == 500.0


def test_small_differences_move_nothing() -> None:
    """No flicker."""
    assert shown(1_010.0) == 1_000.0
    assert shown(990.0) == 1_000.0


def test_larger_ones_move_by_a_part_and_a_step_at_most() -> None:
    """Either way."""
    assert shown(1_020.0) == 1_010.0
    assert shown(980.0) == 990.0
    assert shown(1_150.0) == 1_030.0
    assert shown(850.0) == 970.0


def test_what_leaves_the_interval_is_told_at_once() -> None:
    """Half the interval's width, here; of a narrow one, a minute."""
    assert shown(1_201.0) == 1_201.0
    assert shown(1_061.0, wide_s=10.0) == 1_061.0
    assert shown(1_059.0, wide_s=10.0) == pytest.approx(1_029.5)


def test_nothing_is_shown_in_the_past() -> None:
    """Overdue is now."""
    assert Steady(CALM, 100.0).take(200.0, 105.0, 0.0, 900.0) == 200.0


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_an_equal_target_ends_up_shown(was_s: float, target_s: float) -> None:
    """Within what counts as still."""
    steady = Steady(CALM, was_s)
    for _ in range(10):
        got = steady.take(0.0, target_s, target_s - 100, target_s + 100)
    assert abs(got - target_s) <= CALM.still_s
