"""How far each mode can go."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from core.geo.cadence import Mode
from core.geo.plausible_modes import ENVELOPES, reach_m


def test_every_mode_has_its_row() -> None:
    """And each is in itself: what is poor is not useless yet, and what moves is not too fast."""
    assert set(ENVELOPES) == set(get_args(Mode))
    for env in ENVELOPES.values():
        assert 0 < env.acc_m <= env.poor_m < env.useless_m
        assert 0 < env.moving_mps < env.cap_mps
        assert env.jitter_s >= 1


def test_a_car_in_half_a_minute() -> None:
    """70 m/s for 31 s, 30 m of drift, and the accuracy of both."""
    assert reach_m(ENVELOPES["car"], 30.0, 5.0, 10.0) == 70 * 31 + 15 + 30
    assert reach_m(ENVELOPES["car"], 10_000.0, 0.0, 0.0) == 70 * 10_001 + 600


@given(st.sampled_from(get_args(Mode)), st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0, 1e3))
def test_it_grows_with_age_and_doubt(mode: Mode, apart: float, more: float, acc: float) -> None:
    """Never less for more time or less accuracy."""
    env = ENVELOPES[mode]
    assert (
        reach_m(env, apart + more, acc, 0)
        >= reach_m(env, apart, acc, 0)
        >= reach_m(env, apart, 0, 0)
        > env.cap_mps * apart
    )
