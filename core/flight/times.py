"""Times of a flight: parsed from and written to text, and read in an airport's zone where they have no offset.

A time on the wire is RFC 3339 (its seconds may be left out, as movement messages do); what is written is always UTC with
milliseconds. A local time needs a place: an airport by its IATA or ICAO code, whose zone is airportsdata's and whose rules are
the tz database's (zoneinfo). A local time that an autumn change makes twice, or a spring change skips, is no time: `Reading`
names both instants that could have been meant, and whoever said it says which.

Does not: read a clock. Data of airports are read once, when the first local time or airport is looked at.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import airportsdata

_TIME_RE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?\Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)

LATEST_MS: Final = 7_258_118_400_000
"""2200-01-01: later is a slip of somebody's program, and so is what is before 1970."""


class Reading(NamedTuple):
    """What a text says: an instant, or why it is none (then ``ms`` is -1).

    ``local``: it has no offset, and no zone was given. ``skipped`` and ``doubled``: that hour is not, or is twice, on that
    day; ``message`` names both instants that it could mean.
    """

    ms: int
    why: Literal["", "malformed", "local", "skipped", "doubled"] = ""
    message: str = ""


def write(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + ms * _MS).isoformat(timespec="milliseconds") + "Z"


def read(text: object, zone: str | None = None) -> Reading:
    """``zone`` is the name of a tz zone, for times without offset; one with an offset needs none and heeds none."""
    if not isinstance(text, str) or _TIME_RE.match(text) is None:
        return Reading(-1, "malformed", "is no RFC 3339 time, like 2026-11-21T09:30:00Z or 2026-11-21T20:30:00+11:00")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return Reading(-1, "malformed", f"is {text}, and no calendar or clock has that")
    if time.tzinfo is not None:
        return _bounded((time - _EPOCH_UTC) // _MS, text)
    if zone is None:
        return Reading(-1, "local", f"is {text}: give its offset, as in {text}Z, or a zone to read it in")
    place = ZoneInfo(zone)
    early, late = ((time.replace(tzinfo=place, fold=fold) - _EPOCH_UTC) // _MS for fold in (0, 1))
    if early == late:
        return _bounded(early, text)
    # Of a doubled hour the first reading is the earlier instant; of a skipped one it is the later (PEP 495).
    first, second = sorted((early, late))
    if early < late:
        return Reading(
            -1, "doubled", f"is {text}, which {zone} has twice that day: say {write(first)} or {write(second)}"
        )
    return Reading(
        -1, "skipped", f"is {text}, which {zone} skips that day: say {write(first)} or {write(second)}, or another time"
    )


def _bounded(ms: int, text: str) -> Reading:
    if 0 <= ms < LATEST_MS:
        return Reading(ms)
    return Reading(-1, "malformed", f"is {text}: times are from 1970 to 2199")


def zone_of(airport: str) -> str | None:
    """The tz zone of an airport by its IATA or ICAO code, ``None`` where neither is known."""
    return _zones().get(airport)


def codes_of(airport: str) -> tuple[str, ...]:
    """The airport by the code given, then by its other one (IATA, ICAO), where it has one."""
    other = _others().get(airport)
    return (airport,) if other is None else (airport, other)


@cache
def _others() -> dict[str, str]:
    pairs = [
        (code, airport["icao"]) for code, airport in airportsdata.load("IATA").items() if len(airport["icao"]) == 4
    ]
    return dict(pairs) | {icao: iata for iata, icao in pairs}


@cache
def _zones() -> dict[str, str]:
    """By code. ICAO location indicators have four letters and IATA codes three, so that neither hides the other."""
    zones = {code: airport["tz"] for code, airport in airportsdata.load("ICAO").items() if len(code) == 4}
    zones.update((code, airport["tz"]) for code, airport in airportsdata.load("IATA").items())
    return {code: zone for code, zone in zones.items() if zone}
