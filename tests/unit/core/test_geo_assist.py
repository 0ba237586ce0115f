"""A device's own arrival time counts for what its record is worth."""

from __future__ import annotations

from math import exp, log

import pytest

from core.geo.assist import PRIOR_ERROR, SEEN_MAX, STALE_S, Record, mixed, read_record

LEVEL = log(620.0)


def test_advice_moves_the_mean_towards_it_and_narrows_the_spread() -> None:
    """Between the two, nearer to the better."""
    mean, spread = mixed(LEVEL, 0.3, 0.0, (0.0, 1_200.0), Record())
    assert 600.0 < exp(mean) - 20 < 1_200.0
    assert spread < 0.3
    trusted, _ = mixed(LEVEL, 0.3, 0.0, (0.0, 1_200.0), Record(30.0, 0.01))
    assert trusted > mean


def test_old_advice_counts_less_and_then_nothing() -> None:
    """Nor does advice from later than now."""
    fresh = mixed(LEVEL, 0.3, 0.0, (0.0, 1_200.0), Record())[0]
    older = mixed(LEVEL, 0.3, 600.0, (0.0, 1_800.0), Record())[0]
    assert LEVEL < older < fresh
    assert mixed(LEVEL, 0.3, STALE_S + 1.0, (0.0, 1_200.0), Record()) == (LEVEL, 0.3)
    assert mixed(LEVEL, 0.3, 0.0, (5.0, 1_200.0), Record()) == (LEVEL, 0.3)
    assert mixed(LEVEL, 0.3, 0.0, None, Record()) == (LEVEL, 0.3)


def test_a_record_is_made_of_what_came_true() -> None:
    """Good advice earns belief, bad advice loses it; none after the arrival counts."""
    good = Record().told([(0.0, 1_000.0), (60.0, 1_010.0)], 1_000.0)
    bad = Record().told([(0.0, 200.0)], 1_000.0)
    assert good.square < PRIOR_ERROR**2 < bad.square
    assert Record().told([(1_000.0, 1_100.0)], 1_000.0) == Record()


def test_a_record_forgets() -> None:
    """After years of good advice a year of bad advice still shows."""
    record = Record()
    for _ in range(200):
        record = record.told([(0.0, 1_000.0)], 1_000.0)
    assert record.seen == SEEN_MAX
    for _ in range(50):
        record = record.told([(0.0, 200.0)], 1_000.0)
    assert record.square == pytest.approx(log(220 / 1_020) ** 2, rel=0.5)


def test_a_record_is_kept_as_a_list() -> None:
    """And read again; what never was one is none."""
    record = Record().told([(0.0, 100.0)], 120.0)
    assert read_record(list(record)) == record
    for other in (
        None,
        {},
        [],
        [1.0],
        ["a", 1.0],
        [0.0, 1.0],
        [51.0, 0.1],
        [1.0, -1.0],
        [1.0, float("inf")],
        [True, 1.0],
    ):
        assert read_record(other) is None
