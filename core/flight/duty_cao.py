"""Rule pack `cao48`: limits in the shape of Australia's Civil Aviation Order 48.1 Instrument 2019, Appendices 3 and 4.

Not legal advice, and no proof of compliance. A crew of two pilots and more is held to Appendix 3 (multi-pilot operations
except complex operations and flight training), a crew of one to Appendix 4 (any operations). Figures and clause numbers are
those of Compilation No. 3 (F2021C01239) as others transcribed it, read on 2026-11-28; the register's own text was not at hand:

- Table 2.1 of each: the longest flight duty period (FDP) by local time where it begins, in Appendix 3 also by sectors;
  Appendix 3, clause 2: at most 10.5 h of flight time in one (the number of the subclause is not known here);
- 5.3: at most 1 h more for what was not foreseen;
- 8.1: off duty at least 10 h away from home base and 12 h at it, or 12 h + 1.5 times what the duty was longer than 12 h;
- 8.5: 36 consecutive hours with two local nights in the 168 h before; 8.6: six days off in 28;
- 9.1, 9.2: 100 h of flight time in 28 days, 1,000 h in 365; 10.1, 10.2: 60 h of duty in 168 h, 100 h in 336 h.

How it is read here. From report to release is one FDP, and flights less than six hours apart are of one: that is never kinder
than the order, which counts duty after the last flight apart. A day off is a calendar day of the home base without duty; a
local night is 2200 to 0500. Whether 8.5 looks at the 168 h before the FDP's start or end was not to be seen; here: its start.

Does not cover: split duty, standby, positioning, reassignment, early starts and the window of circadian low (clause 11),
augmented crews and acclimatisation (Appendix 2), displacement time, reduced off-duty periods, and the other appendices.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from core.flight.duty_time import (
    DAY_MS,
    HOUR_MS,
    Breach,
    Duty,
    Period,
    Total,
    busy_days,
    duty_time,
    flight_time,
    free_days,
    gaps,
    hours,
    local,
    nights,
    periods,
    with_proposed,
)

JOINED_MS: Final = 6 * HOUR_MS
EXTENSION_MS: Final = HOUR_MS
OFF_HOME_MS: Final = 12 * HOUR_MS
OFF_AWAY_MS: Final = 10 * HOUR_MS
LONG_MS: Final = 12 * HOUR_MS
WEEK_MS: Final = 168 * HOUR_MS
RECOVERY_MS: Final = 36 * HOUR_MS
RECOVERY_NIGHTS: Final = 2
DAYS: Final = 28
DAYS_OFF: Final = 6

ROLLING: Final = (
    ("28 days", "flight", 28 * DAY_MS, 100 * HOUR_MS, "9.1"),
    ("365 days", "flight", 365 * DAY_MS, 1_000 * HOUR_MS, "9.2"),
    ("168 hours", "duty", WEEK_MS, 60 * HOUR_MS, "10.1"),
    ("336 hours", "duty", 2 * WEEK_MS, 100 * HOUR_MS, "10.2"),
)


class Appendix(NamedTuple):
    """``table``: from local minute of day, hours by sectors (up to three, 4, 5, 6, 7, more; one figure: of any number)."""

    number: int
    table: tuple[tuple[int, tuple[float, ...]], ...]
    flight_ms: int | None


def _by_sectors(most: float) -> tuple[float, ...]:
    return tuple(most - 0.5 * step for step in range(6))


MULTI: Final = Appendix(
    3,
    (
        (0, _by_sectors(10)),
        (300, _by_sectors(11)),
        (360, _by_sectors(12)),
        (420, _by_sectors(13)),
        (780, _by_sectors(12)),
        (840, _by_sectors(11)),
        (900, _by_sectors(10)),
    ),
    round(10.5 * HOUR_MS),
)
SINGLE: Final = Appendix(
    4,
    (
        (0, (8,)),
        (300, (9,)),
        (360, (10,)),
        (480, (11,)),
        (660, (10,)),
        (840, (9,)),
        (1380, (8,)),
    ),
    None,
)


def _appendix(pilots: int) -> Appendix:
    return SINGLE if pilots == 1 else MULTI


def _cite(pilots: int, clause: str) -> str:
    return f"CAO 48.1 Appendix {_appendix(pilots).number}, {clause}"


def _longest(start_ms: int, zone: str, pilots: int, sectors: int) -> int:
    begins = local(start_ms, zone)
    minute = begins.hour * 60 + begins.minute
    row = [figures for since, figures in _appendix(pilots).table if since <= minute][-1]
    return round(row[min(max(sectors - 3, 0), len(row) - 1)] * HOUR_MS)


def longest(duty: Duty, sectors: int) -> tuple[int, str]:
    """How long an FDP that begins with this duty may be."""
    return _longest(duty.report_ms, duty.zone, duty.pilots, sectors), _cite(duty.pilots, "Table 2.1")


def _off_after(period: Period) -> tuple[int, str]:
    if period.long_ms > LONG_MS:
        return OFF_HOME_MS + round(1.5 * (period.long_ms - LONG_MS)), _cite(period.pilots, "8.1(b)")
    return OFF_HOME_MS if period.home else OFF_AWAY_MS, _cite(period.pilots, "8.1(a)")


def _fdp(period: Period, more_ms: int) -> list[Breach]:
    limit = _longest(period.start_ms, period.zone, period.pilots, period.sectors) + more_ms
    name = "+".join(period.flights)
    found: list[Breach] = []
    if period.long_ms > limit:
        at = f"{local(period.start_ms, period.zone):%H:%M}"
        says = (
            f"{name} would be a flight duty period of {hours(period.long_ms)}; at most {hours(limit)} are allowed "
            f"for {period.sectors} sectors from {at} local time"
        )
        clause = "5.3" if more_ms else "Table 2.1"
        found.append(Breach("over_duty", _cite(period.pilots, clause), says))
    most = _appendix(period.pilots).flight_ms
    if most is not None and period.flight_ms > most + more_ms:
        says = (
            f"{name} would be {hours(period.flight_ms)} of flight time in one period; at most {hours(most)} are allowed"
        )
        found.append(Breach("over_flight_time", _cite(period.pilots, "clause 2"), says))
    return found


def _off_duty(made: Sequence[Period], index: int) -> list[Breach]:
    """8.1 before the period, and 8.5."""
    period = made[index]
    name = "+".join(period.flights)
    found: list[Breach] = []
    if index:
        before = made[index - 1]
        due, cite = _off_after(before)
        off = period.start_ms - before.end_ms
        if off < due:
            says = f"{hours(off)} off duty between {'+'.join(before.flights)} and {name}; at least {hours(due)} are required"
            found.append(Breach("too_little_rest", cite, says))
    spans = [(one.start_ms, one.end_ms) for one in made[:index]]
    rests = list(gaps(spans, period.start_ms - WEEK_MS, period.start_ms))
    if not any(
        until - since >= RECOVERY_MS and nights(since, until, period.home_zone) >= RECOVERY_NIGHTS
        for since, until in rests
    ):
        longest_off = max((until - since for since, until in rests), default=0)
        says = (
            f"in the 168 h before {name} the longest time off duty is {hours(longest_off)}; "
            f"36 h with {RECOVERY_NIGHTS} local nights are required"
        )
        found.append(Breach("too_little_rest", _cite(period.pilots, "8.5"), says))
    return found


def _rolling(duties: Sequence[Duty], made: Sequence[Period], period: Period) -> list[Breach]:
    amounts = {"flight": flight_time(duties), "duty": duty_time(made)}
    found: list[Breach] = []
    for window, kind, window_ms, limit, clause in ROLLING:
        most = amounts[kind].most(window_ms, period.start_ms, period.end_ms)
        if most > limit:
            what = "flight time" if kind == "flight" else "duty"
            name = "+".join(period.flights)
            says = f"{name} would make {hours(most)} of {what} in {window}; at most {hours(limit)} are allowed"
            reason = "over_flight_time" if kind == "flight" else "over_duty"
            found.append(Breach(reason, _cite(period.pilots, clause), says))
    return found


def _days_off(duties: Sequence[Duty], period: Period) -> list[Breach]:
    """8.6, in every 28 days that the period is in."""
    zone = period.home_zone
    first, busy = local(period.start_ms, zone).date(), busy_days(duties, zone)
    free = min(free_days(busy, first + timedelta(days=ahead), DAYS) for ahead in range(DAYS))
    if free >= DAYS_OFF:
        return []
    says = f"{'+'.join(period.flights)} would leave {free} days off in {DAYS} days; at least {DAYS_OFF} are required"
    return [Breach("too_few_days_off", _cite(period.pilots, "8.6"), says)]


def _alone(made: Sequence[Period], flight: str) -> list[Breach]:
    """What the period with this flight breaks by itself and by what is before it."""
    index = next(index for index, period in enumerate(made) if flight in period.flights)
    return [*_fdp(made[index], 0), *_off_duty(made, index)]


def check(duties: Sequence[Duty], proposed: Duty, now_ms: int) -> list[Breach]:
    all_of = with_proposed(duties, proposed)
    made, without = periods(all_of, JOINED_MS), periods(duties, JOINED_MS)
    period = next(period for period in made if proposed.flight in period.flights)
    found = [*_alone(made, proposed.flight), *_rolling(all_of, made, period), *_days_off(all_of, period)]
    cites = {breach.cite for breach in found}
    for later in duties:
        if proposed.report_ms < later.report_ms < proposed.release_ms + WEEK_MS and later.report_ms > now_ms:
            before = {breach.cite for breach in _alone(without, later.flight)} | cites
            new = [breach for breach in _alone(made, later.flight) if breach.cite not in before]
            found += new
            cites |= {breach.cite for breach in new}
    return found


def extend(duties: Sequence[Duty], duty: Duty, now_ms: int) -> list[Breach]:
    """5.3: what was not foreseen may take the period an hour past its limit. ``duties`` have the duty as it would be."""
    made = periods(duties, JOINED_MS)
    return _fdp(next(period for period in made if duty.flight in period.flights), EXTENSION_MS)


def rest_after(duties: Sequence[Duty], duty: Duty) -> tuple[int, str]:
    """How long the time off duty has to be after the period that this duty is in."""
    made = periods(duties, JOINED_MS)
    return _off_after(next(period for period in made if duty.flight in period.flights))


def totals(duties: Sequence[Duty], at_ms: int, zone: str) -> list[Total]:
    """In the windows that end now; clauses are those of Appendix 3, which are numbered as in Appendix 4."""
    amounts = {"flight": flight_time(duties), "duty": duty_time(periods(duties, JOINED_MS))}
    shown = [
        Total(window, kind, amounts[kind].between(at_ms - window_ms, at_ms), limit, _cite(2, clause))
        for window, kind, window_ms, limit, clause in ROLLING
    ]
    free = free_days(busy_days(duties, zone), local(at_ms, zone).date(), DAYS)
    return [*shown, Total(f"{DAYS} days", "days off", free, DAYS_OFF, _cite(2, "8.6"))]
