"""core.flight.duty_far: each paragraph at its limit, and a minute past it, with the figures in the message.

Dates are in Brisbane, where it is always UTC+10; the quarter from October has 92 days.
"""

from __future__ import annotations

import pytest

from core.flight import duty_far
from core.flight.duty import check
from core.flight.duty_time import DAY_MS, Duty
from tests.duties import DAY0, NOW, ZONE, H, a_duty, far, told
from tests.flight_desk import ms


@pytest.mark.parametrize(("pilots", "limit", "cite"), [(1, 8, "(b)(1)"), (2, 10, "(b)(2)")])
def test_flight_time_in_a_day(pilots: int, limit: int, cite: str) -> None:
    """By the number of pilots; at the limit is allowed, a minute more is not, and the figures are told."""
    assert far([], a_duty(5, 8, 12, limit, pilots=pilots)) == []
    over = check("far135", [], a_duty(5, 8, 12, limit + 1 / 60, pilots=pilots), NOW)
    assert told(over) == [("over_flight_time", cite)]
    assert over[0].message == f"D5 would make {limit} h 1 min of flight time in 24 h; at most {limit} h are allowed"


def test_any_24_hours_count() -> None:
    """Not a calendar day: what was flown in the evening counts in the morning."""
    evening = a_duty(5, 14, 8, 8, off_ms=DAY0 + 5 * DAY_MS + 14 * H, on_ms=DAY0 + 5 * DAY_MS + 22 * H)
    assert far([evening], a_duty(6, 8, 3, 2)) == []
    assert far([evening], a_duty(6, 8, 3, 2.5)) == [("over_flight_time", "(b)(2)")]
    assert far([evening], a_duty(6, 8, 3, 0)) == []


def test_crews_of_three_are_another_section() -> None:
    """It is said which."""
    (breach,) = check("far135", [], a_duty(5, 8, 9, 7, pilots=3), NOW)
    assert breach.reason == "not_covered"
    assert "135.269" in breach.message


def test_rest_in_the_day_before_completion() -> None:
    """Ten hours in the 24 before the planned end: so fourteen of duty at most, however they are cut."""
    assert far([], a_duty(5, 6, 14, 6)) == []
    assert far([], a_duty(5, 6, 14 + 1 / 60, 6)) == [("too_little_rest", "(d)")]
    early = a_duty(5, 6, 3, 1, "early")
    assert far([early], a_duty(5, 14, 6, 1, "late")) == []
    assert far([early], a_duty(5, 14, 7, 1, "late")) == [("too_little_rest", "(d)")]


def test_what_comes_later_keeps_its_rest() -> None:
    """A duty put before another one is refused for that one's sake, unless it began already or lacked rest before."""
    later = a_duty(6, 6, 12, 4, "later")
    assert far([later], a_duty(5, 15, 4, 1)) == []
    assert far([later], a_duty(5, 17, 4, 1)) == [("too_little_rest", "(d)")]
    assert "later would complete with 9 h of rest" in check("far135", [later], a_duty(5, 17, 4, 1), NOW)[0].message
    assert far([later], a_duty(5, 17, 4, 1), later.report_ms) == []
    tired = a_duty(6, 6, 15, 4, "tired")
    assert far([tired], a_duty(5, 17, 4, 1)) == []
    assert far([a_duty(9, 6, 12, 4)], a_duty(5, 17, 4, 1)) == []


def test_regular_duty_periods() -> None:
    """(c): fourteen hours with ten of rest around, whose own flight time counts, whatever was flown the day before."""
    day = [a_duty(5, 10, 12, 10, "one", regular=True)]
    assert far(day, a_duty(6, 8, 12, 10, regular=True)) == []
    assert far(day, a_duty(6, 8, 12, 10)) == [("over_flight_time", "(b)(2)")]
    assert far([], a_duty(5, 6, 14, 8, regular=True)) == []
    assert far([], a_duty(5, 6, 14.1, 8, regular=True)) == [("over_duty", "(c)")]
    assert far([], a_duty(5, 6, 14, 10.1, regular=True)) == [("over_flight_time", "(c)(2)(ii)")]
    assert far([], a_duty(5, 6, 14, 8.1, regular=True, pilots=1)) == [("over_flight_time", "(c)(2)(i)")]
    assert far([a_duty(4, 10, 12.5)], a_duty(5, 8, 9, 5, regular=True)) == [("too_little_rest", "(c)(1)")]
    next_day = a_duty(6, 2, 9, flight="next", regular=True)
    assert far([next_day], a_duty(5, 8, 9, 5, regular=True)) == [("too_little_rest", "(c)(1)")] * 2


def test_flights_of_one_regular_period_count_together() -> None:
    """They are no rest from each other."""
    first = a_duty(5, 8, 4, 3, "first", regular=True)
    assert far([first], a_duty(5, 13, 8, 7, "second", regular=True)) == []
    assert far([first], a_duty(5, 13, 8, 7.5, "second", regular=True)) == [("over_flight_time", "(c)(2)(ii)")]


@pytest.mark.parametrize(
    ("over_min", "rest_h", "clause"), [(30, 11, 1), (31, 12, 2), (60, 12, 2), (61, 16, 3), (300, 16, 3)]
)
@pytest.mark.parametrize("regular", [False, True])
def test_rest_after_too_much_flight_time(over_min: int, rest_h: int, clause: int, regular: bool) -> None:
    """(e): more, the more it was exceeded by."""
    flown = a_duty(5, 6, 16, 10 + over_min / 60, "flown", regular=regular)
    assert duty_far.rest_after([flown], flown) == (rest_h * H, f"14 CFR 135.267(e)({clause})")
    begins = flown.release_ms + rest_h * H
    enough = a_duty(6, 0, 2, 0)._replace(report_ms=begins, release_ms=begins + 2 * H)
    assert far([flown], enough) == []
    assert far([flown], enough._replace(report_ms=begins - 1000)) == [("too_little_rest", f"(e)({clause})")]


def test_rest_after_a_plain_day() -> None:
    """Ten hours, by (d)."""
    flown = a_duty(5, 6, 12, 10)
    assert duty_far.rest_after([flown], flown) == (10 * H, "14 CFR 135.267(d)")
    assert duty_far.longest(flown, 1) == (14 * H, "14 CFR 135.267(d)")
    assert duty_far.longest(flown._replace(regular=True), 1) == (14 * H, "14 CFR 135.267(c)")
    assert duty_far.extend([flown], flown, NOW) == []


def _month(year: int, month: int, flight_h: float) -> Duty:
    """A lump of flight time, as an import of old records may bring."""
    start = ms(f"{year}-{month:02}-05T08:00:00+10:00")
    return Duty(f"M{year}-{month}", start, start + 8 * H, round(flight_h * H), zone=ZONE, home_zone=ZONE)


@pytest.mark.parametrize(
    ("past", "cite"),
    [
        ([(2026, 10, 495)], "(a)(1)"),
        ([(2026, 8, 400), (2026, 10, 395)], "(a)(2)"),
        ([(2026, 10, 395), (2027, 2, 400)], "(a)(2)"),
        ([(2026, 2, 450), (2026, 5, 300), (2026, 8, 400), (2026, 10, 245)], "(a)(3)"),
    ],
)
def test_long_windows(past: list[tuple[int, int, float]], cite: str) -> None:
    """Quarter, two in a row either way, and the year: five hours are left in each, and five and a minute are too many."""
    duties = [_month(*lump) for lump in past]
    assert far(duties, a_duty(20, 8, 9, 5)) == []
    assert far(duties, a_duty(20, 8, 9, 5 + 1 / 60)) == [("over_flight_time", cite)]
    assert far([_month(2026, 10, 900)], a_duty(20, 8, 9, 0)) == []


def test_the_quarter_is_of_the_home_base() -> None:
    """New Year begins ten hours earlier there: what is flown then is of the new quarter."""
    full = [_month(2026, 10, 500)]
    eve = Duty("eve", ms("2026-12-31T13:00:00Z"), ms("2026-12-31T14:30:00Z"), H, zone=ZONE, home_zone=ZONE)
    assert far(full, eve) == [("over_flight_time", "(a)(1)")]
    assert far(full, eve._replace(report_ms=ms("2026-12-31T14:00:00Z"))) == []


def test_thirteen_rest_periods_a_quarter() -> None:
    """(f): refused once the thirteenth cannot be had any more, and only for duties that take one away."""
    start = ms("2026-10-01T00:00:00+10:00")

    def at(day: int) -> Duty:
        begins = start + day * DAY_MS + 8 * H
        return Duty(f"Q{day}", begins, begins + 8 * H, 0, zone=ZONE, home_zone=ZONE)

    duties = [at(day) for day in range(79)]
    assert duty_far.totals(duties, start, ZONE)[-1].amount == 13
    assert far(duties[:-1], duties[-1]) == []
    assert far(duties, at(79)) == [("too_few_days_off", "(f)")]
    assert "12 rest periods of 24 h" in check("far135", duties, at(79), NOW)[0].message
    assert (
        far(
            [*duties, at(79), at(80)],
            at(80)._replace(flight="again", report_ms=at(80).release_ms, release_ms=at(80).release_ms + H),
        )
        == []
    )


def test_totals_of_far135() -> None:
    """Each window with its limit."""
    flown = a_duty(5, 6, 12, 10)
    totals = duty_far.totals([flown], flown.release_ms, ZONE)
    assert [(total.window, total.amount, total.limit) for total in totals[:3]] == [
        ("24 hours", 10 * H, 10 * H),
        ("calendar quarter", 10 * H, 500 * H),
        ("two consecutive calendar quarters", 10 * H, 800 * H),
    ]


# CAO 48.1
