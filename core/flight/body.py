"""Reading the body of a command, field by field: the first problem is kept, and a value to go on with is given.

For: machines whose handlers read all that they need, then look once at ``problem``, which is what the sender is told; nothing
is raised. Times are Unix milliseconds inside and RFC 3339 UTC texts outside (`core.flight.times`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from core.flight.machine import Body, Malformed
from core.flight.times import read

ID_MAX: Final = 64
TEXT_MAX: Final = 200

FIRST_MS: Final = 946_684_800_000
LAST_MS: Final = 4_102_444_800_000
"""2000 to 2100: a time outside is a mistake of the sender, and dates far away make arithmetic with zones fail."""

_ID: Final = re.compile(r"[!-~]{1,64}\Z")
_SEAT: Final = re.compile(r"0{0,3}([1-9][0-9]{0,2})([A-Za-z])\Z")


def read_instant(value: object) -> int | None:
    """Unix milliseconds of an RFC 3339 text with any offset; ``None`` for anything else."""
    ms = read(value).ms
    return ms if FIRST_MS <= ms < LAST_MS else None


def read_seat(value: object) -> str:
    """The seat's one name (`12a` and `012A` are 12A), or nothing where the value names no seat."""
    match = _SEAT.match(value) if isinstance(value, str) else None
    return "" if match is None else match[1] + match[2].upper()


def stray(body: Body, allowed: frozenset[str], verb: str) -> Malformed | None:
    """What to answer where the body has a field that the verb has not: a slip, which would else be obeyed in silence."""
    if body.keys() <= allowed:
        return None
    wrong = ", ".join(f"`{name}`" for name in sorted(map(str, body.keys() - allowed)))
    there = f"its fields are {', '.join(sorted(allowed))}" if allowed else "its body is empty"
    return Malformed(f"{verb} has no {wrong}; {there}")


class Fields:
    """The fields of one body. ``problem`` is empty while all was well."""

    __slots__ = ("body", "problem")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.problem = ""

    def bad(self, name: str, says: str) -> None:
        if not self.problem:
            self.problem = f"`{name}` {says}"

    def has(self, name: str) -> bool:
        """A field that is null is one that is not there."""
        return self.body.get(name) is not None

    def raw(self, name: str) -> Any:
        return self.body.get(name)

    def identity(self, name: str, default: str | None = None) -> str:
        """A name that programs compare: up to 64 printable ASCII characters without spaces."""
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and _ID.match(value):
            return value
        self.bad(name, f"must be 1 to {ID_MAX} printable characters without spaces")
        return ""

    def text(self, name: str, default: str | None = None) -> str:
        """What people read: one line of up to 200 characters."""
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and 0 < len(value) <= TEXT_MAX and value.isprintable():
            return value
        self.bad(name, f"must be a line of 1 to {TEXT_MAX} characters")
        return ""

    def one_of(self, name: str, words: Iterable[str], default: str | None = None) -> str:
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        known = list(words)
        if isinstance(value, str) and value in known:
            return value
        self.bad(name, f"must be one of {', '.join(known)}")
        return ""

    def flag(self, name: str) -> bool:
        value = self.body.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.bad(name, "must be true or false")
        return False

    def whole(self, name: str, least: int, most: int, default: int | None = None) -> int:
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.bad(name, f"must be a whole number from {least} to {most}")
        return least

    def instant(self, name: str, default: int | None = None) -> int:
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        ms = read_instant(value)
        if ms is None:
            self.bad(name, "must be a time such as 2026-11-21T06:30:00.000Z, between 2000 and 2100")
            return FIRST_MS
        return ms

    def seat(self, name: str, default: str | None = None) -> str:
        value = self.body.get(name)
        if value is None and default is not None:
            return default
        seat = read_seat(value)
        if not seat:
            self.bad(name, "must be a seat such as 12A")
        return seat

    def seats(self, name: str, most: int) -> list[str]:
        """One or more seats, each once, in the order given."""
        value = self.body.get(name)
        listed = value if isinstance(value, list) else [value]
        seats = [read_seat(item) for item in listed[: most + 1]]
        if not seats or len(seats) > most or not all(seats):
            self.bad(name, f"must be a list of 1 to {most} seats such as 12A")
            return []
        return list(dict.fromkeys(seats))

    def identities(self, name: str, most: int) -> list[str]:
        """A list of names that programs compare, each once; none where the field is not there."""
        value = self.body.get(name)
        if value is None:
            return []
        if isinstance(value, list) and len(value) <= most and all(isinstance(v, str) and _ID.match(v) for v in value):
            return list(dict.fromkeys(value))
        self.bad(name, f"must be a list of up to {most} names without spaces")
        return []
