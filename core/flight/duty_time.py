"""Duties as rule packs see them, and the arithmetic that packs share: totals in sliding windows, gaps, local days and nights.

Flight time is known as an amount, and where it lies within the duty only as well as the roster says: between `off_ms` and
`on_ms` where those are given, else anywhere in the duty; it is taken to be spread evenly. So a total in a window is exact where
the window has the whole of it, and a fair estimate where it cuts through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


class Duty(NamedTuple):
    """One flight that somebody is on duty for, from report to release: planned, or actual once that is known.

    ``pilots`` are in its crew; ``zone`` is of where it begins and ``home_zone`` of the home base, where ``home`` says that it
    ends; ``regular``: it is of a duty period that is assigned regularly, at the same hours.
    """

    flight: str
    report_ms: int
    release_ms: int
    flight_ms: int = 0
    pilots: int = 2
    sectors: int = 1
    zone: str = "UTC"
    home_zone: str = "UTC"
    home: bool = True
    regular: bool = False
    off_ms: int = 0
    on_ms: int = 0


class Breach(NamedTuple):
    """A paragraph that would be broken: ``reason`` for programs, ``message`` with what it would be and what is allowed."""

    reason: str
    cite: str
    message: str


class Total(NamedTuple):
    """How much of what a limit counts there is in its window now. ``kind`` is `flight`, `duty` or `rest periods`."""

    window: str
    kind: str
    amount: float
    limit: float
    cite: str


class Period(NamedTuple):
    """Flights on one duty: what lies between them is no rest. ``pilots`` are those of the smallest crew in it."""

    start_ms: int
    end_ms: int
    flight_ms: int
    sectors: int
    pilots: int
    zone: str
    home_zone: str
    home: bool
    flights: tuple[str, ...]

    @property
    def long_ms(self) -> int:
        return self.end_ms - self.start_ms


def periods(duties: Iterable[Duty], joined_ms: int) -> list[Period]:
    """Duties in order of their report, of which those less than ``joined_ms`` apart are one period."""
    made: list[Period] = []
    for duty in duties:
        last = made[-1] if made else None
        if last is not None and duty.report_ms - last.end_ms < joined_ms:
            made[-1] = last._replace(
                end_ms=max(last.end_ms, duty.release_ms),
                flight_ms=last.flight_ms + duty.flight_ms,
                sectors=last.sectors + duty.sectors,
                pilots=min(last.pilots, duty.pilots),
                home=duty.home,
                flights=(*last.flights, duty.flight),
            )
        else:
            made.append(
                Period(
                    duty.report_ms,
                    duty.release_ms,
                    duty.flight_ms,
                    duty.sectors,
                    duty.pilots,
                    duty.zone,
                    duty.home_zone,
                    duty.home,
                    (duty.flight,),
                )
            )
    return made


class Spread:
    """Amounts, each spread evenly over a span of time, and how much of all of them is in a window."""

    def __init__(self, parts: Iterable[tuple[int, int, int]]) -> None:
        """``parts``: start, end, and the amount between them. Spans may overlap."""
        self.parts = [(start, max(end, start + 1), amount) for start, end, amount in parts if amount]
        turns: dict[int, float] = {}
        for start, end, amount in self.parts:
            rate = amount / (end - start)
            turns[start] = turns.get(start, 0.0) + rate
            turns[end] = turns.get(end, 0.0) - rate
        self._at = sorted(turns)
        self._sum: list[float] = []
        self._rate: list[float] = []
        total = rate = 0.0
        last = 0
        for at in self._at:
            total += rate * (at - last)
            rate += turns[at]
            last = at
            self._sum.append(total)
            self._rate.append(rate)

    def _until(self, at_ms: int) -> float:
        index = bisect_right(self._at, at_ms) - 1
        return 0.0 if index < 0 else self._sum[index] + self._rate[index] * (at_ms - self._at[index])

    def between(self, start_ms: int, end_ms: int) -> int:
        return round(self._until(end_ms) - self._until(start_ms))

    def most(self, window_ms: int, start_ms: int, end_ms: int) -> int:
        """The most in any window of this length that has something of ``start_ms`` to ``end_ms`` in it.

        Between two turns the amount changes evenly, so that the most is where the window begins or ends with one of them, or
        is the first or the last of them all.
        """
        first, last = start_ms - window_ms, end_ms
        turns = (*self._at, *(at - window_ms for at in self._at))
        return max(self.between(at, at + window_ms) for at in {first, last, *turns} if first <= at <= last)


def flight_time(duties: Iterable[Duty]) -> Spread:
    return Spread(
        (duty.off_ms, duty.on_ms, duty.flight_ms) if duty.on_ms else (duty.report_ms, duty.release_ms, duty.flight_ms)
        for duty in duties
    )


def duty_time(made: Iterable[Period]) -> Spread:
    return Spread((period.start_ms, period.end_ms, period.long_ms) for period in made)


def gaps(spans: Iterable[tuple[int, int]], start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """What no span covers between two moments. Spans are in order of their starts."""
    at = start_ms
    for start, end in spans:
        if start >= end_ms:
            break
        if start > at:
            yield at, start
        at = max(at, end)
    if at < end_ms:
        yield at, end_ms


def spans(duties: Iterable[Duty]) -> list[tuple[int, int]]:
    return [(duty.report_ms, duty.release_ms) for duty in duties]


def with_proposed(duties: Sequence[Duty], proposed: Duty) -> list[Duty]:
    """All in order of their report."""
    return sorted((*duties, proposed), key=lambda duty: duty.report_ms)


@lru_cache(maxsize=512)
def place(zone: str) -> tzinfo:
    """A zone by name; UTC where this machine has none of that name, for a fact must fold everywhere."""
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def known_zone(zone: str) -> bool:
    return zone == "UTC" or place(zone) is not UTC


def local(at_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, place(zone))


def moment(day: date, hour: int, zone: str) -> int:
    """Unix milliseconds of an hour of a local day."""
    return round(datetime(day.year, day.month, day.day, hour, tzinfo=place(zone)).timestamp() * 1000)


def nights(start_ms: int, end_ms: int, zone: str) -> int:
    """How many local nights (2200 to 0500) lie wholly within."""
    day = local(start_ms, zone).date()
    count = 0
    while moment(day + timedelta(days=1), 5, zone) <= end_ms:
        count += moment(day, 22, zone) >= start_ms
        day += timedelta(days=1)
    return count


def busy_days(duties: Iterable[Duty], zone: str) -> set[date]:
    """The local days that have duty in them."""
    busy: set[date] = set()
    for duty in duties:
        day, end = local(duty.report_ms, zone).date(), local(duty.release_ms - 1, zone).date()
        while day <= end:
            busy.add(day)
            day += timedelta(days=1)
    return busy


def free_days(busy: set[date], last: date, days: int) -> int:
    """How many of the ``days`` days up to ``last`` are not among the busy ones."""
    return sum(last - timedelta(days=back) not in busy for back in range(days))


def hours(amount_ms: float) -> str:
    """For people: 9 h, 9 h 30 min, 9 h 59 min 30 s, so that what is just too much does not read as what is allowed."""
    minutes, seconds = divmod(round(amount_ms / 1000), 60)
    whole, minutes = divmod(minutes, 60)
    parts = [f"{whole} h"]
    if minutes or seconds:
        parts.append(f"{minutes} min")
    if seconds:
        parts.append(f"{seconds} s")
    return " ".join(parts)
