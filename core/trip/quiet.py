"""Quiet hours: when somebody's phone stays still.

For: `core.trip.alerts`, and whoever reads them from a command or a file. Promises: a local time that an autumn change makes
twice is quiet both times. Does not: say what else is then done.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from core.flight.duty_time import known_zone, place

SAYS: Final = "two local times such as 22:00-06:30, which are not the same"

_RE: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

__all__ = ["SAYS", "is_quiet", "known_zone", "read_quiet"]


def read_quiet(text: str) -> tuple[int, int] | None:
    """Minutes of the day, from and to; ``None`` for what says no such hours."""
    found = _RE.match(text)
    if found is None:
        return None
    from_min, to_min = 60 * int(found[1]) + int(found[2]), 60 * int(found[3]) + int(found[4])
    return None if from_min == to_min else (from_min, to_min)


def is_quiet(text: str, zone: str, now_ms: int) -> bool:
    """Whether it is quiet now. An empty text is never quiet."""
    hours = read_quiet(text)
    if hours is None:
        return False
    local = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(place(zone))
    minute = 60 * local.hour + local.minute
    from_min, to_min = hours
    return from_min <= minute < to_min if from_min < to_min else minute >= from_min or minute < to_min
