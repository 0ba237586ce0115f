"""Position fixes as a device sends and signs them: read from a message, and the bytes that its key signs.

For: `gateway.pings`, which knows the key. A signature is over numbers, not over JSON: every fix becomes one line of integers
(`Fix.line`), so that whoever writes the JSON anew on the way (a proxy, a parser, another library's idea of ``5`` and ``5.0``)
changes nothing, while any change of a value, of the order, of the stream or of the sender does. docs/protocol.md has the
same in words for those who write devices.

Promises: `read_fixes` never raises, whatever the message holds. What has no line (a text for a number, more decimals than
count) is the sender's mistake, and refuses the message; a value that cannot be true (a latitude of 95) refuses its fix alone.
Does not: know what is plausible.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import Any, Final, NamedTuple

from core.wire import SEQ_MAX

FIXES_MAX: Final = 500
"""Of one message: eight minutes offline at one a second."""

DOMAIN: Final = "readback.position.v1"

_AT_RE: Final = re.compile(r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,3}))?Z\Z", re.ASCII)
_EPOCH: Final = date(1970, 1, 1)
_EXACT: Final = 1e-3
"""How far a double may be from the integer it stands for, in units of the last decimal; what it is away by itself is less."""


class _Number(NamedTuple):
    """``low`` to ``high``, in units of the last decimal, can be true; ``reach`` is how far a number may be from 0 to have a
    line at all."""

    name: str
    decimals: int
    scale: int
    low: int
    high: int
    reach: int
    needed: bool


def _number(name: str, decimals: int, low: int, high: int, reach: int, *, needed: bool = False) -> _Number:
    scale = 10**decimals
    return _Number(name, decimals, scale, low * scale, high * scale, reach, needed)


_NUMBERS: Final = (
    _number("lat", 7, -90, 90, 1_000, needed=True),  # degrees; 7 decimals are 1 cm
    _number("lon", 7, -180, 180, 1_000, needed=True),
    _number("acc", 2, 0, 1_000_000, 10_000_000),  # m
    _number("speed", 2, 0, 2_000, 10_000_000),  # m/s
    _number("heading", 2, 0, 360, 10_000_000),  # degrees from north, clockwise
    _number("alt", 2, -1_000, 100_000, 10_000_000),  # m
)


class Fix(NamedTuple):
    """``good``: no value is beyond what can be true. Degrees, m, m/s, degrees from north; ``None``: not said. ``line`` is what
    is signed, empty where the protocol signs nothing; ``seq`` 0 where it numbers nothing."""

    seq: int
    at_ms: int
    line: bytes
    good: bool
    lat: float
    lon: float
    acc: float | None = None
    speed: float | None = None
    heading: float | None = None
    alt: float | None = None
    mock: bool = False


def read_fixes(fixes: object) -> list[Fix] | str:
    """The fixes of a message in their order, or what is wrong with it."""
    if not isinstance(fixes, list) or not 1 <= len(fixes) <= FIXES_MAX:
        return f"fixes: a list of 1 to {FIXES_MAX}"
    result = []
    for nth, fix in enumerate(fixes):
        found = _fix(fix) if isinstance(fix, dict) else ": an object"
        if isinstance(found, str):
            return f"fixes[{nth}]{found}"
        result.append(found)
    return result


def signed_form(tenant: str, device: str, stream: str, fixes: list[Fix], nav_ms: int | None = None) -> bytes:
    """What the device's key signs of one message."""
    head = f"{DOMAIN}\n{tenant}\n{device}\n{stream}\n".encode()
    nav = b"" if nav_ms is None else b"nav,%d\n" % nav_ms
    return head + b"".join(b"%b\n" % fix.line for fix in fixes) + nav


def read_nav(nav: object) -> int | str | None:
    """When the device's own navigation says that it will be there, in Unix milliseconds; ``None`` where it says nothing; or
    what is wrong with it."""
    if nav is None:
        return None
    at = nav.get("at") if isinstance(nav, dict) else None
    at_ms = _at_ms(at) if isinstance(at, str) else None
    return "nav: an object whose at is a time such as 2026-11-21T09:30:00.000Z" if at_ms is None else at_ms


def _fix(fix: dict[str, object]) -> Fix | str:
    get = fix.get
    seq, mock = get("seq"), get("mock", False)
    if seq.__class__ is not int or not 1 <= seq <= SEQ_MAX:
        return ".seq: a number of the device's own that rises, from 1"
    at = get("at")
    at_ms = _at_ms(at) if at.__class__ is str else None
    if at_ms is None:
        return ".at: a time such as 2026-11-21T09:30:00.000Z"
    if mock is not True and mock is not False:
        return ".mock: true or false"
    good = True
    line = f"{seq},{at_ms}"
    values: list[Any] = []
    for name, decimals, scale, low, high, reach, needed in _NUMBERS:
        value = get(name)
        if value is None and not needed:
            line += ","
            values.append(None)
            continue
        if value.__class__ is int or value.__class__ is float:
            number: float = value
            if -reach <= number <= reach:
                scaled = number * scale
                units = round(scaled)
                if -_EXACT < scaled - units < _EXACT:
                    good = good and low <= units <= high
                    line += f",{units}"
                    values.append(units / scale)  # what is signed, however it was spelled
                    continue
        return f".{name}: a number with at most {decimals} decimals"
    assert isinstance(seq, int)
    lat, lon, acc, speed, heading, alt = values
    return Fix(seq, at_ms, f"{line},{1 if mock else 0}".encode(), good, lat, lon, acc, speed, heading, alt, mock)


def _at_ms(at: str) -> int | None:
    match = _AT_RE.match(at)
    if match is None:
        return None
    day, hours, minutes, seconds, fraction = match.groups()
    day_ms = _day_ms(day)
    if day_ms is None:
        return None
    ms = int(fraction.ljust(3, "0")) if fraction else 0
    return day_ms + 3_600_000 * int(hours) + 60_000 * int(minutes) + 1_000 * int(seconds) + ms


@lru_cache(maxsize=64)
def _day_ms(day: str) -> int | None:
    """Fixes of one message are of one day or two."""
    try:
        return (date.fromisoformat(day) - _EPOCH).days * 86_400_000
    except ValueError:  # a 30th of February
        return None
