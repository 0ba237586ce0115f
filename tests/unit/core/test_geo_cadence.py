"""Positions are asked for as often as somebody needs them, and too many are let go without losing what matters."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from core.geo.cadence import MAX_S, MIN_S, REST_S, WATCHED_S, Mode, Throttle, next_in_s

MODES = st.sampled_from(get_args(Mode))
SPEED = st.none() | st.floats(0, 2_000)


def test_unwatched_it_is_30_s_and_30_m() -> None:
    """Whatever is slow waits for its 30 m, and what stands for five minutes."""
    assert next_in_s("car", watched=False, speed_mps=14) == 30
    assert next_in_s("car", watched=False, speed_mps=None) == 30
    assert next_in_s("foot", watched=False, speed_mps=0.6) == 50
    assert next_in_s("car", watched=False, speed_mps=0.2) == 300


def test_watched_it_is_seconds() -> None:
    """By the mode; what stands, ten."""
    assert [next_in_s(mode, watched=True, speed_mps=3) for mode in ("foot", "bike", "car")] == [5, 3, 2]
    assert next_in_s("car", watched=True, speed_mps=None) == 2
    assert next_in_s("car", watched=True, speed_mps=0) == 10
    assert set(WATCHED_S) == set(get_args(Mode))


def test_a_factor_stretches() -> None:
    """Too much to do: everybody comes less often."""
    assert next_in_s("car", watched=True, speed_mps=14, factor=4) == 8
    assert next_in_s("car", watched=True, speed_mps=14, factor=0.1) == MIN_S


@given(MODES, st.booleans(), SPEED, st.floats(0, 1e6))
def test_it_is_bounded_and_short_only_where_needed(
    mode: Mode, watched: bool, speed: float | None, factor: float
) -> None:
    """Between MIN_S and MAX_S; under 30 s only for who is watched, or told so by the factor."""
    wait = next_in_s(mode, watched=watched, speed_mps=speed, factor=factor)
    assert MIN_S <= wait <= MAX_S
    if not watched and factor >= 1:
        assert wait >= REST_S


def test_a_burst_then_one_a_gap() -> None:
    """Five at once, then two a second."""
    bucket = Throttle()
    assert [bucket.admit(1_000_000, 500, 5) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [bucket.admit(1_000_000 + ms, 500, 5) for ms in (400, 500, 999, 1_000)] == [False, True, False, True]
    assert [bucket.admit(2_000_000, 500, 5) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_backlog_is_as_welcome_as_it_was_live() -> None:
    """Fix times count: a thousand fixes a second apart are all taken, though they come at once."""
    bucket = Throttle()
    assert all(bucket.admit(n * 1_000, 500, 5) for n in range(1_000))


def test_what_matters_is_always_taken() -> None:
    """And costs no more than its place in the bucket: the wait after it is bounded."""
    bucket = Throttle()
    assert all(bucket.admit(5_000, 500, 5, big=True) for _ in range(1_000))
    assert not bucket.admit(5_000, 500, 5)
    assert bucket.admit(5_000 + 1_000, 500, 5)
