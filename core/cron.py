"""Times of day that come again: five-field cron in a zone of the IANA database, and when such a time is next.

For: schedules of rules and jobs. An expression is ``minute hour day-of-month month day-of-week`` with numbers, names
(``jan``, ``mon``), lists, ranges and steps, or one of the short forms (``@daily``). Where neither day field begins with
``*``, a day that fits either of them fits, as cron has always had it. Sunday is 0 and 7.

Clocks are put forward and back, so a local time may be there not at all or twice. What happens then is said by the caller:

* *skipped* (02:30 on a night that has none): ``run_after`` runs at the first instant after the gap, ``skip`` does not run.
* *doubled* (02:30 on a night that has two): ``first`` runs at the first, ``both`` runs at each.

Promises: the answer is a whole minute of the zone's clock or the end of a gap, always later than what was asked about, and
the earliest such; times that fall together are one. It looks five years ahead and no further. Does not: know the present
time, or seconds.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

Skipped = Literal["run_after", "skip"]
Doubled = Literal["first", "both"]

SKIPPED: Final = ("run_after", "skip")
DOUBLED: Final = ("first", "both")

DAYS_AHEAD: Final = 5 * 366
"""How far a search goes. Only the 29th of February of a year like 2096 has its next one further away."""

TEXT_CHARS_MAX: Final = 256

SHORT: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART: Final = re.compile(r"(?P<first>\*|[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?(?:/(?P<step>[0-9]{1,4}))?\Z")
_EPOCH: Final = datetime(1970, 1, 1)
_MINUTE_MS: Final = 60_000
_DAY: Final = timedelta(days=1)


class BadCron(NamedTuple):
    """What is wrong with an expression or a zone, as a sentence's beginning."""

    message: str


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    names: dict[str, int]


_FIELDS: Final = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, {name: at for at, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 7, {name: at for at, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression that was understood. ``times`` are the minutes of a day, ascending; ``weekdays`` has Sunday as 0."""

    text: str
    times: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    """A day need only fit one of ``days`` and ``weekdays``."""

    def on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        fits, fits_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return fits or fits_week if self.either else fits and fits_week


def parse(text: str) -> Cron | BadCron:
    if len(text) > TEXT_CHARS_MAX:
        return BadCron(f"a cron expression has at most {TEXT_CHARS_MAX} characters")
    given = text.strip().lower()
    if given.startswith("@") and given not in SHORT:
        return BadCron(f"{given!r} is no short form of cron; there are {', '.join(SHORT)}")
    parts = SHORT.get(given, given).split()
    if len(parts) != len(_FIELDS):
        return BadCron(
            f"a cron expression has five fields (minute, hour, day of month, month, day of week), {text!r} has {len(parts)}"
        )
    values: list[frozenset[int]] = []
    for field, part in zip(_FIELDS, parts, strict=True):
        read = _values(field, part)
        if isinstance(read, BadCron):
            return read
        values.append(read)
    minutes, hours, days, months, weekdays = values
    times = tuple(sorted(60 * hour + minute for hour in hours for minute in minutes))
    either = not parts[2].startswith("*") and not parts[4].startswith("*")
    return Cron(text, times, days, months, frozenset(day % 7 for day in weekdays), either)


def _values(field: _Field, text: str) -> frozenset[int] | BadCron:
    """The numbers that one field stands for."""
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.match(part)
        if match is None:
            return BadCron(f"the field {field.name} of a cron expression cannot be {part!r}")
        first, last, step = match.group("first", "last", "step")
        if first == "*":
            if last is not None:
                return BadCron(f"the field {field.name} of a cron expression cannot be {part!r}: * is a range already")
            low, high = field.least, field.most
        else:
            one, other = _number(field, first), _number(field, first if last is None else last)
            if one is None or other is None:
                allowed = f"{field.least} to {field.most}" + (f" or {', '.join(field.names)}" if field.names else "")
                return BadCron(f"the field {field.name} of a cron expression takes {allowed}, not {part!r}")
            low, high = one, other
            if low > high:
                return BadCron(f"the range {part!r} of the field {field.name} ends before it begins")
            if last is None and step is not None:
                return BadCron(
                    f"a step needs a range: in the field {field.name} write {first}-{field.most}/{step} for {part!r}"
                )
        every = 1 if step is None else int(step)
        if every < 1:
            return BadCron(f"the step of {part!r} in the field {field.name} is 0")
        found.update(range(low, high + 1, every))
    return frozenset(found)


def _number(field: _Field, text: str) -> int | None:
    if not text.isdecimal():
        return field.names.get(text)
    value = int(text[:4])
    return value if field.least <= value <= field.most else None


def zone_of(name: str) -> ZoneInfo | BadCron:
    """A zone of the IANA database by its name (``Europe/Berlin``, ``UTC``)."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; no path that may be looked at; a folder
        return BadCron(f"{name!r} is no time zone of the IANA database; such are Europe/Berlin or UTC")


def next_after(
    expr: str | Cron, zone: str, after_ms: int, *, skipped: Skipped = "run_after", doubled: Doubled = "first"
) -> int | None:
    """The earliest time later than ``after_ms`` (Unix milliseconds) that the expression names; ``None``: none in five years.

    Raises `ValueError` with a sentence where the expression or the zone cannot be used.
    """
    cron = _parsed(expr) if isinstance(expr, str) else expr
    found = zone_of(zone)
    if isinstance(cron, BadCron):
        raise ValueError(cron.message)
    if isinstance(found, BadCron):
        raise ValueError(found.message)
    try:
        utc = _EPOCH + timedelta(milliseconds=after_ms)
        # A day before: where a clock goes back over midnight, yesterday's second evening is still to come.
        day = utc.replace(tzinfo=UTC).astimezone(found).date() - _DAY
        for _ in range(DAYS_AHEAD + 2):
            due = _first_of(cron, found, day, after_ms, skipped, doubled)
            day += _DAY
            if due is not None:
                later = _first_of(cron, found, day, after_ms, skipped, doubled)
                return due if later is None else min(due, later)  # and the first minutes of the next may come before it
    except OverflowError:  # the calendar of years 1 to 9999 has ended
        pass
    return None


_parsed = lru_cache(maxsize=1_024)(parse)


def _first_of(cron: Cron, zone: ZoneInfo, day: date, after_ms: int, skipped: Skipped, doubled: Doubled) -> int | None:
    """The earliest time later than ``after_ms`` that has this day on its calendar."""
    if not cron.on(day):
        return None
    midnight = datetime(day.year, day.month, day.day)
    offset = _offset(midnight, zone)
    if (
        offset
        == _offset(midnight + _DAY, zone)
        == _offset(midnight + _DAY, zone, fold=1)
        == _offset(midnight, zone, fold=1)
    ):
        start_ms = _ms(midnight - offset)
        at = bisect_left(cron.times, (after_ms - start_ms) // _MINUTE_MS + 1)
        return start_ms + _MINUTE_MS * cron.times[at] if at < len(cron.times) else None
    best = None
    for minute in cron.times:
        for due in _instants(midnight + timedelta(minutes=minute), zone, skipped, doubled):
            if due > after_ms and (best is None or due < best):
                best = due
    return best


def _instants(local: datetime, zone: ZoneInfo, skipped: Skipped, doubled: Doubled) -> tuple[int, ...]:
    """When the zone's clock shows this: once, in the way of the policy where it is never or twice."""
    before, after = _offset(local, zone), _offset(local, zone, fold=1)
    if before == after:
        return (_ms(local - before),)
    if before > after:  # put back in between: shown under either offset
        first = _ms(local - before)
        return (first, _ms(local - after)) if doubled == "both" else (first,)
    return (_change(local - after, local - before, zone),) if skipped == "run_after" else ()


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> int:
    """The instant in (low, high], both UTC, at which the zone's offset changes."""
    seconds = int((high - low).total_seconds())
    was = _offset_at(low, zone)
    at = bisect_left(
        range(seconds + 1), True, key=lambda second: _offset_at(low + timedelta(seconds=second), zone) != was
    )
    return _ms(low + timedelta(seconds=at))


def _offset(local: datetime, zone: ZoneInfo, fold: int = 0) -> timedelta:
    offset = zone.utcoffset(local.replace(tzinfo=zone, fold=fold))
    assert offset is not None
    return offset


def _offset_at(utc: datetime, zone: ZoneInfo) -> timedelta:
    offset = utc.replace(tzinfo=UTC).astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _ms(utc: datetime) -> int:
    return (utc - _EPOCH) // timedelta(milliseconds=1)
