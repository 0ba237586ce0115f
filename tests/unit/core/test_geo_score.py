"""The benchmark's buckets and tolerances, and what it does not ask."""

from __future__ import annotations

import pytest

from core.geo.score import BUCKETS, Alert, Call, Said, call_score, percentile, score, within


def said(at_s: float, eta_s: float, half_s: float = 60.0, source: str = "a") -> Said:
    return Said(at_s, eta_s, eta_s - half_s, eta_s + half_s, source)


@pytest.mark.parametrize(
    ("left_s", "early_s", "late_s"), [(100.0, 30, 90), (200.0, 60, 150), (500.0, 60, 210), (700.0, 90, 270)]
)
def test_tolerances(left_s: float, early_s: float, late_s: float) -> None:
    """A vehicle may come so much before what was shown, or after it, and no more."""
    assert within(left_s, said(0.0, left_s + early_s)) == within(left_s, said(0.0, left_s - late_s))
    at = [bucket.late_s for bucket in BUCKETS].index(late_s)
    assert within(left_s, said(0.0, left_s + early_s)) == (at, True)
    assert within(left_s, said(0.0, left_s + early_s + 1)) == (at, False)
    assert within(left_s, said(0.0, left_s - late_s - 1)) == (at, False)


def test_what_is_far_away_or_over_is_in_no_bucket() -> None:
    """From 15 minutes on, and after the arrival."""
    assert within(900.0, said(0.0, 900.0)) is None
    assert within(100.0, said(101.0, 101.0)) is None
    assert within(0.0, said(0.0, 0.0)) == (0, True)


def test_buckets_count_the_same() -> None:
    """However many fixes fall into each."""
    lines = [said(0.0, 100.0)] * 9 + [said(0.0, 900.0)]
    found = score({"near": 100.0, "far": 700.0}, {"near": lines[:9], "far": lines[9:]})
    assert [bucket.within for bucket in found.buckets] == [1.0, 0.0, 0.0, 0.0]
    assert found.overall == 0.25
    assert [bucket.fixes for bucket in found.buckets] == [9, 0, 0, 1]
    assert found.buckets[3].mae_s == 200.0
    assert found.mae_s == 20.0
    assert found.buckets[0].covered == 1.0
    assert found.buckets[3].covered == 0.0
    assert found.covered == 0.9
    assert found.sources == {"a": 10}


def test_movement() -> None:
    """Steps from one fix to the next; below a second is none; how far and how often to and fro."""
    lines = [said(0.0, 100.0), said(10.0, 110.0), said(20.0, 110.5), said(30.0, 100.5), said(40.0, 120.5)]
    found = score({"t": 100.0}, {"t": lines})
    assert found.jitter_p50_s == 10.0
    assert found.jitter_p95_s == pytest.approx(18.5)
    assert found.moved == 0.75
    assert found.travel_s == 40.5
    assert found.reversals == 2.0
    assert found.alerts == ()


def test_alerts() -> None:
    """Sent once, twice, never; trips hardly longer than the threshold are left out of misses; sooner and later."""
    arrivals = {"a": 1_000.0, "b": 1_000.0, "c": 1_000.0, "short": 640.0}
    lines = {trip: [said(0.0, 1_000.0)] for trip in arrivals}
    alerts = {"a": [Alert(600.0, 370.0)], "b": [Alert(600.0, 450.0), Alert(600.0, 460.0), Alert(300.0, 700.0)]}
    ten, five = score(arrivals, lines, alerts).alerts
    assert (ten.threshold_s, ten.trips, ten.sent, ten.duplicates, ten.missed) == (600.0, 3, 3, 1, 1)
    assert ten.error_median_s == -10.0
    assert ten.error_abs_median_s == 40.0
    assert (five.trips, five.missed, five.error_median_s) == (4, 3, 0.0)


def test_what_a_nearer_alert_stands_for_is_neither_sent_nor_missed() -> None:
    """It is merged, and has no lead error."""
    alerts = {"a": [Alert(300.0, 700.0, (600.0,))], "b": [Alert(600.0, 400.0)]}
    ten, five = score({"a": 1_000.0, "b": 1_000.0}, {trip: [said(0.0, 1_000.0)] for trip in "ab"}, alerts).alerts
    assert (ten.sent, ten.missed, ten.merged, ten.error_median_s) == (1, 0, 1, 0.0)
    assert (five.sent, five.missed, five.merged) == (1, 1, 0)


def test_calls_are_counted_by_trip() -> None:
    """Mean and most over all trips, also those without; the most within half an hour; those after one that failed."""
    calls = {
        "a": [Call(0.0, "start"), Call(1_700.0, "age"), Call(1_799.0, "age"), Call(3_000.0, "off_route")],
        "b": [Call(0.0, "start", True), Call(5.0, "breach"), Call(10.0, "breach", True)],
    }
    lines = {trip: [said(0.0, 5_000.0)] for trip in "abc"}
    found = score(dict.fromkeys("abc", 5000.0), lines, None, calls).calls
    assert found is not None
    assert (found.calls, found.mean, found.p95, found.most) == (7, 7 / 3, pytest.approx(3.9), 4)
    assert (found.half_hour_max, found.failed, found.after_failed) == (3, 2, 2)
    assert found.reasons == {"start": 2, "age": 2, "off_route": 1, "breach": 2}
    none = call_score([])
    assert (none.calls, none.mean, none.most, none.half_hour_max) == (0, 0.0, 0, 0)


def test_an_alert_given_twice_counts_on_a_short_trip_too() -> None:
    """Nobody wants it twice."""
    alerts = {"short": [Alert(600.0, 0.0), Alert(600.0, 1.0)]}
    (ten,) = score({"short": 500.0}, {"short": [said(0.0, 500.0)]}, alerts).alerts
    assert (ten.trips, ten.duplicates) == (0, 1)


def test_nothing_is_nothing() -> None:
    """No trips, no lines."""
    assert score({}, {}).overall == 0.0
    assert score({"t": 5.0}, {"t": []}, {"t": [Alert(600.0, 1.0)]}).alerts[0].trips == 0
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([1.0, 2.0], 0.5) == 1.5
