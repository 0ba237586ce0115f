"""core.flight.duty_cao: each paragraph at its limit, and a minute past it, with the figures in the message.

Dates are in Brisbane, where it is always UTC+10; the quarter from October has 92 days.
"""

from __future__ import annotations

import pytest

from core.flight import duty_cao
from core.flight.duty import check
from core.flight.duty_time import MINUTE_MS, Duty
from tests.duties import NOW, ZONE, H, a_duty, cao


@pytest.mark.parametrize(
    ("start_h", "sectors", "limit"),
    [
        *(
            (start, 1, limit)
            for start, limit in ((0, 10), (5, 11), (6, 12), (7, 13), (12.99, 13), (13, 12), (14, 11), (15, 10))
        ),
        *((7, sectors, limit) for sectors, limit in ((4, 12.5), (5, 12), (6, 11.5), (7, 11), (8, 10.5), (20, 10.5))),
        (4.99, 3, 10),
        (23.9, 7, 8),
    ],
)
def test_flight_duty_periods_of_two_pilots(start_h: float, sectors: int, limit: float) -> None:
    """Appendix 3: by local time and sectors."""
    assert cao([], a_duty(5, start_h, limit, 5, sectors=sectors)) == []
    over = a_duty(5, start_h, limit + 1 / 60, 5, sectors=sectors)
    assert cao([], over) == [("over_duty", "3, Table 2.1")]
    assert duty_cao.longest(over, sectors) == (round(limit * H), "CAO 48.1 Appendix 3, Table 2.1")


@pytest.mark.parametrize(
    ("start_h", "limit"), [(0, 8), (5, 9), (6, 10), (8, 11), (11, 10), (14, 9), (22.9, 9), (23, 8)]
)
def test_flight_duty_periods_of_one_pilot(start_h: float, limit: float) -> None:
    """Appendix 4: by local time alone."""
    assert cao([], a_duty(5, start_h, limit, 5, pilots=1, sectors=9)) == []
    assert cao([], a_duty(5, start_h, limit + 1 / 60, 5, pilots=1)) == [("over_duty", "4, Table 2.1")]


def test_flight_time_of_one_period() -> None:
    """Ten and a half hours for two pilots; the table alone for one."""
    assert cao([], a_duty(5, 7, 12, 10.5)) == []
    assert cao([], a_duty(5, 7, 12, 10.6)) == [("over_flight_time", "3, clause 2")]
    assert cao([], a_duty(5, 8, 11, 10.9, pilots=1)) == []


def test_flights_of_one_day_are_one_period() -> None:
    """What lies between them is duty."""
    first = a_duty(5, 7, 3, 2, "first")
    assert cao([first], a_duty(5, 15, 5, 3, "second")) == []
    assert cao([first], a_duty(5, 15, 5.1, 3, "second")) == [("over_duty", "3, Table 2.1")]
    message = check("cao48", [first], a_duty(5, 15, 5.5, 3, "second"), NOW)[0].message
    assert message.startswith(
        "first+second would be a flight duty period of 13 h 30 min; at most 13 h are allowed for 2 sectors from 07:00"
    )


@pytest.mark.parametrize(
    ("long_h", "home", "off_h", "clause"),
    [(12, False, 10, "8.1(a)"), (12, True, 12, "8.1(a)"), (13, False, 13.5, "8.1(b)")],
)
def test_time_off_duty(long_h: float, home: bool, off_h: float, clause: str) -> None:
    """After a period: more at home base than away, and more after a long one; looked at from both sides."""
    one = a_duty(5, 7, long_h, 5, "one", home=home)
    begins = one.release_ms + round(off_h * H)
    two = a_duty(6, 0, 0, 0, "two")._replace(report_ms=begins, release_ms=begins + 4 * H)
    early = two._replace(report_ms=begins - MINUTE_MS)
    assert cao([one], two) == []
    assert cao([one], early) == [("too_little_rest", f"3, {clause}")]
    assert cao([early], one) == [("too_little_rest", f"3, {clause}")]
    assert cao([early], one, early.report_ms) == []
    assert duty_cao.rest_after([one], one) == (round(off_h * H), f"CAO 48.1 Appendix 3, {clause}")


def test_a_breach_is_told_once() -> None:
    """Where the proposed and a later duty break the same paragraph, the first says it."""
    one, three = a_duty(5, 7, 4, 1, "one"), a_duty(6, 9, 4, 1, "three")
    assert cao([one, three], a_duty(5, 22, 1, 1, "two")) == [("too_little_rest", "3, 8.1(a)")]


def test_recovery_in_a_week() -> None:
    """36 hours with two local nights in the 168 before; a duty that takes it from a later one is refused too."""
    week = [a_duty(day, 8, 8, 2) for day in range(10, 15)]
    assert cao(week, a_duty(15, 8, 8, 2)) == []
    assert cao([*week, a_duty(15, 8, 8, 2)], a_duty(16, 8, 8, 2)) == [("too_little_rest", "3, 8.5")]
    around = [a_duty(day, 8, 8, 2) for day in (10, 11, 12, 13, 15, 16)]
    breaches = check("cao48", around, a_duty(14, 8, 8, 2), NOW)
    assert [breach.cite for breach in breaches] == ["CAO 48.1 Appendix 3, 8.5"]
    assert breaches[0].message.startswith("in the 168 h before D16 the longest time off duty is 24 h; 36 h with 2")
    assert cao(around, a_duty(14, 8, 8, 2), around[-1].report_ms) == []


def test_rolling_limits() -> None:
    """60 hours of duty in 168, 100 in 336; flight time of 100 h in 28 days and 1,000 in 365."""
    week = [a_duty(day, 7, 12, 2) for day in (10, 11, 13, 14)]
    assert cao(week, a_duty(16, 7, 12, 2)) == []
    assert cao(week, a_duty(16, 7, 12.1, 2)) == [("over_duty", "3, 10.1")]
    fortnight = [a_duty(day, 7, 12, 2) for day in (10, 11, 13, 14, 17, 18, 20, 21)]
    assert cao(fortnight, a_duty(23, 7, 4, 2)) == []
    assert cao(fortnight, a_duty(23, 7, 4.1, 2)) == [("over_duty", "3, 10.2")]
    month = [a_duty(10, 7, 8, 95)]
    assert cao(month, a_duty(30, 7, 8, 5)) == []
    assert cao(month, a_duty(30, 7, 8, 5.1)) == [("over_flight_time", "3, 9.1")]
    year = [a_duty(-30 * n, 7, 8, 99) for n in range(1, 11)]
    assert cao(year, a_duty(30, 7, 8, 10)) == []
    assert cao(year, a_duty(30, 7, 8, 10.1)) == [("over_flight_time", "3, 9.2")]


def test_days_off() -> None:
    """Six in every 28 days that the duty is in; the sixth cannot be taken."""

    def all_but(*free: int) -> list[Duty]:
        return [a_duty(day, 9, 2, 0) for day in range(28) if day not in free]

    assert cao(all_but(3, 6, 10, 13, 17, 20, 27), a_duty(10, 9, 2, 0)) == []
    assert cao(all_but(3, 6, 13, 17, 20, 27), a_duty(3, 9, 2, 0)) == [("too_few_days_off", "3, 8.6")]
    (breach,) = check("cao48", all_but(3, 6, 13, 17, 20, 27), a_duty(17, 9, 2, 0), NOW)
    assert breach.message == "D17 would leave 5 days off in 28 days; at least 6 are required"


def test_an_hour_more_for_what_nobody_foresaw() -> None:
    """5.3: past the table by an hour, and not by more; flight time may follow."""
    planned = a_duty(5, 7, 13, 10)
    longer = planned._replace(release_ms=planned.release_ms + H)
    assert duty_cao.extend([longer], longer, NOW) == []
    late = longer._replace(release_ms=longer.release_ms + MINUTE_MS)
    (breach,) = duty_cao.extend([late], late, NOW)
    assert (breach.reason, breach.cite) == ("over_duty", "CAO 48.1 Appendix 3, 5.3")


def test_totals_of_cao48() -> None:
    """Each window with its limit, and the days off."""
    flown = a_duty(5, 6, 12, 10)
    totals = duty_cao.totals([flown], flown.release_ms, ZONE)
    assert [(total.window, total.kind, total.amount, total.limit) for total in totals] == [
        ("28 days", "flight", 10 * H, 100 * H),
        ("365 days", "flight", 10 * H, 1000 * H),
        ("168 hours", "duty", 12 * H, 60 * H),
        ("336 hours", "duty", 12 * H, 100 * H),
        ("28 days", "days off", 27, 6),
    ]
