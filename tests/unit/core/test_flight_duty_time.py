"""core.flight.duty_time: what is in a window, between duties, in a night and in a day, however clocks change."""

from __future__ import annotations

from datetime import UTC, date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.flight.duty_time import (
    DAY_MS,
    HOUR_MS,
    Duty,
    Spread,
    busy_days,
    duty_time,
    flight_time,
    free_days,
    gaps,
    hours,
    known_zone,
    moment,
    nights,
    periods,
    place,
    spans,
    with_proposed,
)
from tests.flight_desk import ms

H = HOUR_MS


def _duty(flight: str, start_h: float, end_h: float, flight_h: float = 0, **more: object) -> Duty:
    return Duty(flight, round(start_h * H), round(end_h * H), round(flight_h * H))._replace(**more)  # type: ignore[arg-type]


PARTS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 30)), max_size=6)


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(PARTS, st.integers(1, 40), st.integers(0, 60), st.integers(1, 20))
def test_the_most_in_a_window_is_that_of_all_windows(
    parts: list[tuple[int, int, int]], window: int, start: int, long: int
) -> None:
    """Beside every window there is, in steps of one; spans may overlap."""
    spread = Spread((at, at + for_ms, amount * 1000) for at, for_ms, amount in parts)

    def plainly(begin: int) -> float:
        return sum(
            amount * 1000 * max(0, min(at + for_ms, begin + window) - max(at, begin)) / for_ms
            for at, for_ms, amount in parts
        )

    most = max(plainly(begin) for begin in range(start - window, start + long + 1))
    assert abs(spread.most(window, start, start + long) - most) <= 1


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(PARTS, st.integers(-5, 90), st.integers(0, 90))
def test_what_is_between_two_moments(parts: list[tuple[int, int, int]], begin: int, long: int) -> None:
    """Nothing before all, everything after all, and a part where a span is cut."""
    spread = Spread((at, at + for_ms, amount * 1000) for at, for_ms, amount in parts)
    plainly = sum(
        amount * 1000 * max(0, min(at + for_ms, begin + long) - max(at, begin)) / for_ms for at, for_ms, amount in parts
    )
    assert abs(spread.between(begin, begin + long) - plainly) <= 1


def test_flight_time_lies_where_the_roster_says() -> None:
    """From block to block where that is known, else over the duty; a span of no length is no division by zero."""
    known = _duty("A", 0, 10, 4, off_ms=2 * H, on_ms=6 * H)
    assert flight_time([known]).between(0, 2 * H) == 0
    assert flight_time([known._replace(off_ms=0, on_ms=0)]).between(0, 5 * H) == 2 * H
    assert Spread([(5, 5, 100)]).between(0, 10) == 100


def test_flights_close_together_are_one_period() -> None:
    """With what lies between them, the sectors of all and the smallest crew."""
    a = _duty("A", 0, 3, 2, zone="Europe/Oslo")
    b = _duty("B", 4, 8, 3, pilots=1, home=False, sectors=2)
    c = _duty("C", 20, 24)
    one, two = periods([a, b, c], 6 * H)
    assert one.flights == ("A", "B")
    assert (one.long_ms, one.flight_ms, one.sectors, one.pilots, one.home, one.zone) == (
        8 * H,
        5 * H,
        3,
        1,
        False,
        "Europe/Oslo",
    )
    assert two.flights == ("C",)
    assert duty_time([one, two]).between(0, 24 * H) == 12 * H


def test_gaps_are_what_nothing_covers() -> None:
    """Within the two moments, also where spans overlap or reach over."""
    assert list(gaps([(2, 4), (3, 6), (8, 9), (20, 21)], 0, 10)) == [(0, 2), (6, 8), (9, 10)]
    assert list(gaps([(-5, 3), (7, 15)], 0, 10)) == [(3, 7)]
    assert list(gaps([], 0, 10)) == [(0, 10)]


def test_the_proposed_is_put_in_its_place() -> None:
    """By when it begins."""
    a, b, c = _duty("A", 0, 3), _duty("B", 4, 8), _duty("C", 20, 24)
    assert with_proposed([a, c], b) == [a, b, c]
    assert spans([a, b]) == [(0, 3 * H), (4 * H, 8 * H)]


def test_zones_that_are_none() -> None:
    """UTC stands in for them, since a fact must fold on every machine; whether a name is a zone can be asked."""
    assert place("Mars/Olympus") is UTC
    assert place("../etc/passwd") is UTC
    assert [known_zone(zone) for zone in ("UTC", "Europe/Oslo", "Mars/Olympus", "")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("start", "end", "zone", "count"),
    [
        ("2026-11-21T12:00:00Z", "2026-11-21T19:00:00Z", "Australia/Brisbane", 1),  # 2200 to 0500 there
        ("2026-11-21T12:00:01Z", "2026-11-21T19:00:00Z", "Australia/Brisbane", 0),
        ("2026-11-21T12:00:00Z", "2026-11-21T18:59:59Z", "Australia/Brisbane", 0),
        ("2026-11-21T11:00:00Z", "2026-11-23T01:00:00Z", "Australia/Brisbane", 2),
        ("2026-11-21T15:00:00Z", "2026-11-22T15:00:00Z", "Australia/Brisbane", 0),  # from 0100 to 0100
        ("2026-03-28T21:00:00Z", "2026-03-29T03:00:00Z", "Europe/Oslo", 1),  # clocks go forward: an hour less
    ],
)
def test_local_nights(start: str, end: str, zone: str, count: int) -> None:
    """Only those that are wholly within."""
    assert nights(ms(start), ms(end), zone) == count


def test_days_without_duty() -> None:
    """A duty over midnight takes two; one that ends at midnight does not take the next."""
    day = moment(date(2026, 11, 21), 0, "Australia/Brisbane")
    late = Duty("A", day + 22 * H, day + DAY_MS + H)
    until_midnight = Duty("B", day + 3 * DAY_MS - H, day + 3 * DAY_MS)
    busy = busy_days([late, until_midnight], "Australia/Brisbane")
    assert busy == {date(2026, 11, 21), date(2026, 11, 22), date(2026, 11, 23)}
    assert free_days(busy, date(2026, 11, 24), 4) == 1


def test_amounts_for_people() -> None:
    """What is just too much does not read as what is allowed."""
    assert [hours(x) for x in (9 * H, 9.5 * H, 10 * H + 30_000, 0)] == ["9 h", "9 h 30 min", "10 h 0 min 30 s", "0 h"]
