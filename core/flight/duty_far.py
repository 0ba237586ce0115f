"""Rule pack `far135`: 14 CFR 135.267, unscheduled one- and two-pilot crews of US on-demand operators.

Not legal advice, and no proof of compliance: it keeps a roster from what the paragraphs plainly forbid. Figures are those of
the section as published (eCFR; read on 2026-11-28 in copies of it, not at its source):

- (a) flight time of at most 500 h in a calendar quarter, 800 h in two consecutive ones, 1,400 h in a calendar year;
- (b) at most 8 h (one pilot) or 10 h (two) in any 24 consecutive hours, except under
- (c) a regularly assigned duty period of at most 14 h with 10 h of rest before and after, whose own flight time keeps to 8 or
  10 h. It is asked for by ``regular``; FAA letters take *regularly* to mean the same hours for weeks, which is not checked;
- (d) 10 consecutive hours of rest in the 24 h before the planned completion;
- (e) after the daily limit was exceeded for reasons beyond control: 11, 12 or 16 h of rest (by up to 30, 60, more minutes);
- (f) 13 rest periods of 24 h in each calendar quarter.

How it is read here. Flight time counts in the quarter in which the duty begins, by the calendar of the home base. A gap of
n whole days is n rest periods for (f), and what is still to come of the quarter counts as rest unless duty is assigned: so a
13th that can no longer be had is refused, sooner nothing. (c)(3), that duty and rest make 24 h, is taken to be met by 14 + 10.

Does not cover: crews of three and four (135.269), scheduled operations (135.265), positioning that is not rest (135.263(c)),
standby and reserve, split crews, other commercial flying that is not in the ledger, helicopter hospital services (135.271).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from core.flight.duty_time import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Breach,
    Duty,
    Period,
    Total,
    flight_time,
    gaps,
    hours,
    local,
    moment,
    periods,
    spans,
    with_proposed,
)

SECTION: Final = "14 CFR 135.267"
QUARTER_MS: Final = 500 * HOUR_MS
TWO_QUARTERS_MS: Final = 800 * HOUR_MS
YEAR_MS: Final = 1_400 * HOUR_MS
DAILY_MS: Final = {1: 8 * HOUR_MS, 2: 10 * HOUR_MS}
REGULAR_MS: Final = 14 * HOUR_MS
REST_MS: Final = 10 * HOUR_MS
ANY_MS: Final = 1 << 62
AFTER_EXCESS: Final = ((30 * MINUTE_MS, 11 * HOUR_MS, 1), (60 * MINUTE_MS, 12 * HOUR_MS, 2), (ANY_MS, 16 * HOUR_MS, 3))
"""Up to an excess of, rest of, subparagraph of (e)."""
REST_PERIODS: Final = 13
JOINED_MS: Final = 6 * HOUR_MS
"""Flights less apart are of one duty period, as in `core.flight.duty_cao`; the section leaves that to who assigns it."""


def _quarter(at_ms: int, zone: str) -> tuple[int, int]:
    """Year, and quarter from 0."""
    day = local(at_ms, zone)
    return day.year, (day.month - 1) // 3


def _next(quarter: tuple[int, int], by: int = 1) -> tuple[int, int]:
    index = quarter[0] * 4 + quarter[1] + by
    return index // 4, index % 4


def _start(quarter: tuple[int, int], zone: str) -> int:
    return moment(date(quarter[0], quarter[1] * 3 + 1, 1), 0, zone)


def _daily(duty: Duty) -> tuple[int, str]:
    limit = DAILY_MS[1 if duty.pilots == 1 else 2]
    return limit, f"{SECTION}(b)({1 if duty.pilots == 1 else 2})"


def _long_windows(duties: Sequence[Duty], at_ms: int, zone: str) -> list[Total]:
    """Flight time in the windows of (a) that the moment is in."""
    by_quarter: dict[tuple[int, int], int] = {}
    for duty in duties:
        quarter = _quarter(duty.report_ms, zone)
        by_quarter[quarter] = by_quarter.get(quarter, 0) + duty.flight_ms
    now = _quarter(at_ms, zone)

    def sum_of(*quarters: tuple[int, int]) -> int:
        return sum(by_quarter.get(quarter, 0) for quarter in quarters)

    two = max(sum_of(_next(now, -1), now), sum_of(now, _next(now)))
    year = sum_of(*((now[0], quarter) for quarter in range(4)))
    return [
        Total("calendar quarter", "flight", sum_of(now), QUARTER_MS, f"{SECTION}(a)(1)"),
        Total("two consecutive calendar quarters", "flight", two, TWO_QUARTERS_MS, f"{SECTION}(a)(2)"),
        Total("calendar year", "flight", year, YEAR_MS, f"{SECTION}(a)(3)"),
    ]


def _rest_periods(duties: Sequence[Duty], at_ms: int, zone: str) -> int:
    """How many rest periods of 24 h the quarter has or can still have."""
    quarter = _quarter(at_ms, zone)
    start, end = _start(quarter, zone), _start(_next(quarter), zone)
    return sum((until - since) // DAY_MS for since, until in gaps(spans(duties), start, end))


def _look_back(duties: Sequence[Duty], duty: Duty) -> Breach | None:
    """(d): the longest rest in the 24 h before this duty's planned completion."""
    start = duty.release_ms - DAY_MS
    rest = max((until - since for since, until in gaps(spans(duties), start, duty.release_ms)), default=0)
    if rest >= REST_MS:
        return None
    says = f"{duty.flight} would complete with {hours(rest)} of rest in the 24 h before; at least {hours(REST_MS)} are required"
    return Breach("too_little_rest", f"{SECTION}(d)", says)


def _in_a_day(duties: Sequence[Duty], duty: Duty) -> Breach | None:
    """(b), or (c) where the duty is one of those assigned regularly."""
    limit, cite = _daily(duty)
    if duty.regular:
        return _regular(duties, duty, limit)
    if not duty.flight_ms:
        return None
    most = flight_time(duties).most(DAY_MS, duty.report_ms, duty.release_ms)
    if most <= limit:
        return None
    says = f"{duty.flight} would make {hours(most)} of flight time in 24 h; at most {hours(limit)} are allowed"
    return Breach("over_flight_time", cite, says)


def _period(duties: Sequence[Duty], duty: Duty) -> Period:
    return next(period for period in periods(duties, JOINED_MS) if duty.flight in period.flights)


def _regular(duties: Sequence[Duty], duty: Duty, limit: int) -> Breach | None:
    period = _period(duties, duty)
    name = "+".join(period.flights)
    if period.long_ms > REGULAR_MS:
        says = f"{name} would be {hours(period.long_ms)} of duty; a regularly assigned duty period has at most 14 h"
        return Breach("over_duty", f"{SECTION}(c)", says)
    if period.flight_ms > limit:
        clause = "(i)" if duty.pilots == 1 else "(ii)"
        says = f"{name} would be {hours(period.flight_ms)} of flight time; at most {hours(limit)} are allowed"
        return Breach("over_flight_time", f"{SECTION}(c)(2){clause}", says)
    others = [other for other in duties if other.flight not in period.flights]
    around = gaps(spans(others), period.start_ms - REST_MS, period.end_ms + REST_MS)
    if list(around) != [(period.start_ms - REST_MS, period.end_ms + REST_MS)]:
        says = f"other duty is within 10 h of {name}; 10 h of rest are required before it and after"
        return Breach("too_little_rest", f"{SECTION}(c)(1)", says)
    return None


def rest_after(duties: Sequence[Duty], duty: Duty) -> tuple[int, str]:
    """How long the rest after this duty has to be, and by which paragraph."""
    limit, _ = _daily(duty)
    if duty.regular:
        flown = _period(duties, duty).flight_ms
    else:
        until = [other for other in duties if other.report_ms <= duty.report_ms]
        flown = flight_time(until).most(DAY_MS, duty.report_ms, duty.release_ms)
    excess = flown - limit
    if excess <= 0:
        return REST_MS, f"{SECTION}(d)"
    rest, clause = next((rest, clause) for most, rest, clause in AFTER_EXCESS if excess <= most)
    return rest, f"{SECTION}(e)({clause})"


def _after_excess(duties: Sequence[Duty], duty: Duty) -> Breach | None:
    """(e): whether the duty before exceeded its limit, and this one leaves the rest that is due for it."""
    before = [other for other in duties if other.report_ms < duty.report_ms]
    if not before:
        return None
    last = before[-1]
    due, cite = rest_after(before, last)
    rest = duty.report_ms - last.release_ms
    if due == REST_MS or rest >= due:
        return None
    says = (
        f"{hours(max(rest, 0))} of rest after {last.flight}, which exceeded the daily limit; {hours(due)} are required"
    )
    return Breach("too_little_rest", cite, says)


def _of(duties: Sequence[Duty], duty: Duty) -> list[Breach]:
    """What this duty breaks among the others, by the paragraphs that look at single days."""
    found = (_in_a_day(duties, duty), None if duty.regular else _look_back(duties, duty), _after_excess(duties, duty))
    return [breach for breach in found if breach is not None]


def check(duties: Sequence[Duty], proposed: Duty, now_ms: int) -> list[Breach]:
    if proposed.pilots > 2:
        says = (
            f"a crew of {proposed.pilots} pilots is not of this pack, which is for crews of one and two (see 135.269)"
        )
        return [Breach("not_covered", f"{SECTION}(a)", says)]
    all_of = with_proposed(duties, proposed)
    zone = proposed.home_zone
    found = [
        Breach(
            "over_flight_time",
            total.cite,
            f"{proposed.flight} would make {hours(total.amount)} of flight time in the {total.window}; "
            f"at most {hours(total.limit)} are allowed",
        )
        for total in _long_windows(all_of, proposed.report_ms, zone)
        if proposed.flight_ms and total.amount > total.limit
    ]
    found += _of(all_of, proposed)
    for later in duties:
        if proposed.report_ms < later.report_ms < proposed.release_ms + 2 * DAY_MS and later.report_ms > now_ms:
            before = {breach.cite for breach in _of(duties, later)}
            found += [breach for breach in _of(all_of, later) if breach.cite not in before]
    left = _rest_periods(all_of, proposed.report_ms, zone)
    if left < REST_PERIODS and left < _rest_periods(duties, proposed.report_ms, zone):
        says = (
            f"{proposed.flight} would leave room for {left} rest periods of 24 h in the calendar quarter; "
            f"{REST_PERIODS} are required"
        )
        found.append(Breach("too_few_days_off", f"{SECTION}(f)", says))
    return found


def extend(duties: Sequence[Duty], duty: Duty, now_ms: int) -> list[Breach]:
    """A duty may take longer for reasons beyond control (135.263(d)); the rest after it grows by (e)."""
    return []


def longest(duty: Duty, sectors: int) -> tuple[int, str]:
    """How long the duty may be planned: what (d) leaves of 24 h."""
    return REGULAR_MS, f"{SECTION}({'c' if duty.regular else 'd'})"


def totals(duties: Sequence[Duty], at_ms: int, zone: str) -> list[Total]:
    day = flight_time(duties).between(at_ms - DAY_MS, at_ms)
    return [
        Total("24 hours", "flight", day, DAILY_MS[2], f"{SECTION}(b)(2)"),
        *_long_windows(duties, at_ms, zone),
        Total("calendar quarter", "rest periods", _rest_periods(duties, at_ms, zone), REST_PERIODS, f"{SECTION}(f)"),
    ]
