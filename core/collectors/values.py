"""Numbers and times as apps spell them, and the fixes made of them.

For: the readers beside it. Promises: total for any value that JSON or a query can hold; what a fix says is rounded to the
decimals of `core.pings` and stays within its bounds, and what an app says when it does not know (a speed of -1) is not said.
A place that cannot be (a latitude of 95) makes a fix that is not ``good``: it is judged, and its sender told. Does not: know
any protocol.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from core.pings import Fix

KNOT_MPS: Final = 1_852 / 3_600
KMH_MPS: Final = 1 / 3.6

SECONDS_MAX: Final = 2**31
"""A time below it is of seconds, else of milliseconds: until 2038 the one, since January 1970 the other (as Traccar has it)."""
AT_MS_MAX: Final = 253_402_300_800_000
"""The year 10000, which has no name in RFC 3339."""

_NUMBER_RE: Final = re.compile(r"[+-]?(\d{1,20}\.?\d{0,30}|\.\d{1,30})([eE][+-]?\d{1,3})?\Z", re.ASCII)
_ISO_RE: Final = re.compile(r"[0-9T:.+Z -]{1,40}\Z")
"""Of its characters; `datetime` knows the rest, but would read on past a NUL."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE_MAX: Final = 1_000.0
"""Degrees further from 0 are no mistake about a place but none at all, as in `core.pings`."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one request of an app holds. ``secret``: its credential, empty where it brings none or brings it elsewhere.
    ``skipped``: how many parts of it were no fixes, and are not to be repeated. ``problem``: why nothing of it can be taken, in
    words for whoever sets the app up; empty where it can. ``too_large``: for being too much."""

    secret: str = field(default="", repr=False)
    fixes: tuple[Fix, ...] = ()
    skipped: int = 0
    problem: str = ""
    too_large: bool = False


def number(value: object) -> float | None:
    """Finite, or none."""
    if isinstance(value, str):
        if not _NUMBER_RE.match(value):
            return None
    elif not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:  # an int of four hundred digits
        return None
    return found if math.isfinite(found) else None


def at_ms(value: object) -> int | None:
    """Unix seconds or milliseconds, as a number or its text; or ISO 8601, UTC where it says no zone."""
    count = number(value)
    if count is not None:
        if not 0 <= count < AT_MS_MAX:
            return None
        found = round(count * 1_000 if count < SECONDS_MAX else count)
    elif isinstance(value, str) and _ISO_RE.match(value):
        # In a query a plus comes out as a blank.
        text = value.replace(" ", "+") if "T" in value else value
        try:
            told = datetime.fromisoformat(text)
        except ValueError:
            return None
        found = (told.replace(tzinfo=told.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)
    else:
        return None
    return found if 0 <= found < AT_MS_MAX else None


def make_fix(
    at: int,
    lat: float,
    lon: float,
    *,
    acc: float | None = None,
    speed: float | None = None,
    heading: float | None = None,
    alt: float | None = None,
    mock: bool = False,
) -> Fix | None:
    """Degrees, m, m/s, degrees from north; none for what is no place on any map."""
    if abs(lat) > _PLACE_MAX or abs(lon) > _PLACE_MAX:
        return None
    return Fix(
        0,
        at,
        b"",
        abs(lat) <= 90 and abs(lon) <= 180,
        round(lat, 7),
        round(lon, 7),
        _within(acc, 0, 1_000_000),
        _within(speed, 0, 2_000),
        _within(heading, 0, 360),
        _within(alt, -1_000, 100_000),
        mock,
    )


def _within(value: float | None, low: float, high: float) -> float | None:
    return None if value is None or not low <= value <= high else round(value, 2)


def scaled(value: object, factor: float) -> float | None:
    found = number(value)
    return None if found is None else found * factor
