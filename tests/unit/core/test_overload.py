"""core.overload: the shedding ladder rises in order, holds, and comes back, whatever is measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.limits import Limits
from core.overload import CONNECTIONS, FAR, LOW, POSITIONS, PRESENCE, SENDS, STEPS, TYPING, Ladder

LIMITS = Limits()
BASE_S = LIMITS.shed_delay_s
SECOND = round(1 / LIMITS.pulse_interval_s)

Sample = tuple[float, float]

delays = st.one_of(
    st.floats(0, 10), st.sampled_from([BASE_S * step.delay * factor for step in STEPS for factor in (LOW, 1, FAR)])
)
depths = st.one_of(st.floats(0, 1), st.sampled_from([step.depth * factor for step in STEPS for factor in (LOW, 1)]))
samples = st.tuples(delays, depths)
# Bursts of one value as well as noise: single samples alone would hardly ever take a step.
histories = st.lists(st.tuples(samples, st.integers(1, 30)), max_size=40).map(
    lambda bursts: [sample for sample, times in bursts for _ in range(times)]
)


def climb(ladder: Ladder, history: list[Sample]) -> list[int]:
    """The level after every sample."""
    levels = []
    for delay_s, depth in history:
        before = ladder.level
        assert ladder.sample(delay_s, depth) == (ladder.level != before)
        levels.append(ladder.level)
    return levels


@given(histories, st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), min_size=1))
def test_a_node_that_fared_worse_never_sheds_less(history: list[Sample], more: list[Sample]) -> None:
    """Two histories of which one is at least the other at every moment: so are their levels."""
    worse = [
        (delay_s + more[at % len(more)][0], min(1.0, depth + more[at % len(more)][1]))
        for at, (delay_s, depth) in enumerate(history)
    ]
    for low, high in zip(climb(Ladder(LIMITS), history), climb(Ladder(LIMITS), worse), strict=True):
        assert low <= high


@given(histories)
def test_steps_are_single_except_where_a_lane_is_full(history: list[Sample]) -> None:
    """From one sample to the next the level moves by one, or straight to the refusal of sends by depth."""
    before = 0
    for (_, depth), level in zip(history, climb(Ladder(LIMITS), history), strict=True):
        assert 0 <= level <= SENDS
        assert abs(level - before) <= 1 or (level == SENDS and depth >= STEPS[-1].depth)
        before = level


@given(histories, samples)
def test_a_constant_load_ends_in_one_level(history: list[Sample], constant: Sample) -> None:
    """Whatever was before: under one constant measurement the level goes one way and then stays."""
    ladder = Ladder(LIMITS)
    climb(ladder, history)
    begun = ladder.level
    levels = [begun, *climb(ladder, [constant] * 20 * SECOND)]
    assert levels == sorted(levels) or levels == sorted(levels, reverse=True)
    assert len(set(levels[-10 * SECOND :])) == 1


@given(histories, st.floats(0, BASE_S * LOW, exclude_max=True), st.floats(0, STEPS[0].depth * LOW, exclude_max=True))
def test_all_is_given_back_when_calm(history: list[Sample], delay_s: float, depth: float) -> None:
    """After any history, calm that lasts as long as all steps' calm times together leaves nothing shed."""
    ladder = Ladder(LIMITS)
    climb(ladder, history)
    climb(ladder, [(delay_s, depth)] * round(LIMITS.shed_calm_s * SECOND * len(STEPS)))
    assert ladder.level == 0


@given(histories)
def test_what_it_remembers_is_bounded(history: list[Sample]) -> None:
    """After any history the ladder holds one small count a step, and that is all that ever changes."""
    ladder = Ladder(LIMITS)
    climb(ladder, history)
    assert len(ladder._runs) == len(STEPS)
    assert all(0 <= run <= LIMITS.shed_samples for run in ladder._runs)
    assert 0 <= ladder._calm <= LIMITS.shed_calm_s * SECOND


def test_the_order_is_the_designs() -> None:
    """Typing, presence, position rate, new connections, sends: each later step is harder to reach in every way."""
    assert [step.what for step in STEPS] == ["typing", "presence", "positions", "connections", "sends"]
    assert (TYPING, PRESENCE, POSITIONS, CONNECTIONS, SENDS) == (1, 2, 3, 4, 5)
    for lower, higher in itertools.pairwise(STEPS):
        assert lower.delay < higher.delay
        assert lower.depth < higher.depth


@pytest.mark.parametrize("level", range(1, SENDS + 1))
def test_each_step_is_reached_by_its_own_delay(level: int) -> None:
    """A delay just at a step's threshold, held, ends at that step; just below it, at the step before."""
    at = BASE_S * STEPS[level - 1].delay
    ladder = Ladder(LIMITS)
    assert climb(ladder, [(at, 0.0)] * 2 * SECOND)[-1] == level
    assert climb(Ladder(LIMITS), [(at * 0.99, 0.0)] * 2 * SECOND)[-1] == level - 1


@pytest.mark.parametrize("level", range(1, SENDS))
def test_each_step_is_reached_by_its_own_depth(level: int) -> None:
    """Likewise for how full a lane is; the loop may be on time all the while."""
    assert climb(Ladder(LIMITS), [(0.0, STEPS[level - 1].depth)] * 2 * SECOND)[-1] == level
    assert climb(Ladder(LIMITS), [(0.0, STEPS[level - 1].depth * 0.99)] * 2 * SECOND)[-1] == level - 1


def test_a_single_slow_turn_sheds_nothing() -> None:
    """Four slow samples, one good one, and again: no step is ever taken, since load does not pause."""
    slow = [(BASE_S * 2, 0.0)] * (LIMITS.shed_samples - 1) + [(0.0, 0.0)]
    assert set(climb(Ladder(LIMITS), slow * 20)) == {0}


def test_what_is_plain_is_believed_at_once() -> None:
    """One sample far over the first step's delay takes that step, and that step alone."""
    assert climb(Ladder(LIMITS), [(BASE_S * FAR, 0.0), (0.0, 0.0)]) == [1, 1]


def test_a_full_lane_stops_sends_at_once_and_soon_takes_them_again() -> None:
    """One deep sample jumps to the last step; with the lane half empty sends come back within half a second, the rest
    step by step after it."""
    ladder = Ladder(LIMITS)
    assert climb(ladder, [(0.0, 0.95)]) == [SENDS]
    assert "95% full" in ladder.reason
    levels = climb(ladder, [(0.0, 0.0)] * 10 * SECOND)
    assert levels.index(SENDS - 1) < 0.5 * SECOND
    assert levels[-1] == 0
    assert sorted(set(levels), reverse=True) == [SENDS, 4, 3, 2, 1, 0]


def test_a_load_that_rises_at_once_is_met_within_a_second() -> None:
    """All steps see the same samples: the second step need not wait for as many again as the first."""
    levels = climb(Ladder(LIMITS), [(BASE_S * 16, 0.0)] * SECOND)
    assert levels[-1] == SENDS


def test_between_low_and_high_the_level_stays() -> None:
    """A load that neither takes the next step nor is calm holds the level it found, for as long as it lasts."""
    ladder = Ladder(LIMITS)
    climb(ladder, [(BASE_S * 2, 0.0)] * 2 * LIMITS.shed_samples)
    assert ladder.level == PRESENCE
    assert set(climb(ladder, [(BASE_S * 1.5, 0.0)] * 60 * SECOND)) == {PRESENCE}
