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
from datetime import UTC, datetime
from typing import Final, NamedTuple

from core.wire import SEQ_MAX

FIXES_MAX: Final = 500
"""Of one message: eight minutes offline at one a second."""

DOMAIN: Final = "readback.position.v1"

_AT_RE: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,3}))?Z\Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT: Final = 1e-3
"""How far a double may be from the integer it stands for, in units of the last decimal; what it is away by itself is less."""


class _Number(NamedTuple):
    """``low`` to ``high`` can be true; ``reach`` is how far a number may be from 0 to have a line at all."""

    name: str
    decimals: int
    low: float
    high: float
    reach: float
    needed: bool


_NUMBERS: Final = (
    _Number("lat", 7, -90.0, 90.0, 1e3, True),  # degrees; 7 decimals are 1 cm
    _Number("lon", 7, -180.0, 180.0, 1e3, True),
    _Number("acc", 2, 0.0, 1e6, 1e7, False),  # m
    _Number("speed", 2, 0.0, 2e3, 1e7, False),  # m/s
    _Number("heading", 2, 0.0, 360.0, 1e7, False),  # degrees from north, clockwise
    _Number("alt", 2, -1e3, 1e5, 1e7, False),  # m
)


class Fix(NamedTuple):
    """``good``: no value is beyond what can be true."""

    seq: int
    at_ms: int
    line: bytes
    good: bool


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


def signed_form(tenant: str, device: str, stream: str, fixes: list[Fix]) -> bytes:
    """What the device's key signs of one message."""
    head = f"{DOMAIN}\n{tenant}\n{device}\n{stream}\n".encode()
    return head + b"".join(b"%b\n" % fix.line for fix in fixes)


def _fix(fix: dict[str, object]) -> Fix | str:
    seq, mock = fix.get("seq"), fix.get("mock", False)
    if not isinstance(seq, int) or isinstance(seq, bool) or not 1 <= seq <= SEQ_MAX:
        return ".seq: a number of the device's own that rises, from 1"
    at_ms = _at_ms(fix.get("at"))
    if at_ms is None:
        return ".at: a time such as 2026-11-21T09:30:00.000Z"
    if not isinstance(mock, bool):
        return ".mock: true or false"
    good = True
    parts = [b"%d" % seq, b"%d" % at_ms]
    for number in _NUMBERS:
        value = fix.get(number.name)
        if value is None and not number.needed:
            parts.append(b"")
            continue
        units = _units(value, number)
        if units is None:
            return f".{number.name}: a number with at most {number.decimals} decimals"
        good = good and number.low <= units / 10**number.decimals <= number.high
        parts.append(b"%d" % units)
    parts.append(b"1" if mock else b"0")
    return Fix(seq, at_ms, b",".join(parts), good)


def _units(value: object, number: _Number) -> int | None:
    """The number in units of its last decimal; ``None`` where it has more of them, or is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not -number.reach <= value <= number.reach:
        return None
    units = value * 10**number.decimals
    whole = round(units)
    return whole if abs(units - whole) < _EXACT else None


def _at_ms(at: object) -> int | None:
    match = _AT_RE.match(at) if isinstance(at, str) else None
    if match is None:
        return None
    try:
        second = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:  # a 30th of February
        return None
    return int((second - _EPOCH).total_seconds()) * 1_000 + int((match[2] or "").ljust(3, "0"))
