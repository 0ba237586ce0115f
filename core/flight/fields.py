"""Reading the body of a command to a flight's legs: a field as it should be, or `No` with what to answer.

For machines, whose `decide` catches `No` and answers its ``decision``; it never leaves a machine. Messages name the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from core.flight import delays, times
from core.flight.machine import Malformed, Refusal, Unallowed

AIRPORT_RE: Final = re.compile(r"[A-Z]{3}\Z|[A-Z]{2}[A-Z0-9]{2}\Z|[A-Z0-9]{3,4}\Z")
TEXT_MAX: Final = 500
"""Characters of a reason or a note: a paragraph, and no document."""
PLACE_RE: Final = re.compile(r"[A-Za-z0-9-]{1,8}\Z")
_ORDERS_RE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters but tab and line ends: terminals obey them, and Postgres takes no NUL in its JSON."""
SOURCE_RE: Final = re.compile(r"[a-z][a-z0-9_-]{0,15}\Z")


class No(Exception):
    """``decision`` is what the machine answers."""

    def __init__(self, decision: Refusal | Malformed | Unallowed) -> None:
        self.decision = decision


def only(body: Mapping[str, Any], allowed: frozenset[str], verb: str) -> None:
    """A field that the verb has not is a slip that would else be obeyed in silence."""
    if not body.keys() <= allowed:
        wrong = ", ".join(f"`{name}`" for name in sorted(map(str, body.keys() - allowed)))
        raise No(Malformed(f"{verb} has no {wrong}; its fields are {', '.join(sorted(allowed))}"))


def word(body: Mapping[str, Any], field: str, pattern: re.Pattern[str], what: str, default: str | None = None) -> str:
    """A text of this pattern; without ``default`` it must be there."""
    value = body.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or pattern.match(value) is None:
        raise No(Malformed(f"`{field}` is {what}"))
    return value


def prose(body: Mapping[str, Any], field: str, what: str, default: str | None = None) -> str:
    """A text for people, not empty."""
    value = body.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value.strip() or len(value) > TEXT_MAX or _ORDERS_RE.search(value):
        raise No(
            Malformed(f"`{field}` is {what}: a text of 1 to {TEXT_MAX} characters, none of them control characters")
        )
    return value.strip()


def number(body: Mapping[str, Any], field: str, what: str, most: int) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= most:
        raise No(Malformed(f"`{field}` is {what}: a whole number from 0 to {most}"))
    return value


def one_of(body: Mapping[str, Any], field: str, choices: tuple[str, ...]) -> str:
    value = body.get(field)
    if not isinstance(value, str) or value not in choices:
        raise No(Malformed(f"`{field}` is one of {', '.join(choices)}"))
    return value


def airport(body: Mapping[str, Any], field: str, default: str | None = None) -> str:
    """The code of an airport that airportsdata knows, IATA or ICAO, as it was said."""
    code = word(body, field, AIRPORT_RE, "an airport's IATA or ICAO code, like MEL or YMML", default)
    if times.zone_of(code) is None:
        raise No(Malformed(f"`{field}` is {code}, and no airport has that as its IATA or ICAO code"))
    return code


def instant(value: object, field: str, zone: str | None) -> int:
    """Unix milliseconds. A local hour that is not, or is twice, is refused; all else that is no time is malformed."""
    reading = times.read(value, zone)
    if reading.why in ("skipped", "doubled"):
        raise No(Refusal(f"{reading.why}_time", f"`{field}` {reading.message}"))
    if reading.why:
        raise No(Malformed(f"`{field}` {reading.message}"))
    return reading.ms


def zone(body: Mapping[str, Any], departure: str, arrival: str, *, at_arrival: bool) -> str | None:
    """The tz zone in which a time without offset is to be read: ``zone`` is `departure`, `arrival`, `local` (the airport
    where the milestone is), or an airport's code. ``None`` where the body has no ``zone``."""
    if "zone" not in body:
        return None
    what = body["zone"]
    if what == "local":
        what = "arrival" if at_arrival else "departure"
    code = {"departure": departure, "arrival": arrival}.get(what, what) if isinstance(what, str) else ""
    found = times.zone_of(code)
    if found is None:
        raise No(Malformed("`zone` is departure, arrival, local, or an airport's IATA or ICAO code"))
    return found


def reasons(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``reasons`` of a delay: [{code, minutes, note?}], up to eight, none twice; their codes in the form they are kept in."""
    value = body.get("reasons")
    if not isinstance(value, list) or len(value) > delays.REASONS_MAX:
        raise No(Malformed(f"`reasons` is a list of up to {delays.REASONS_MAX}, each {{code, minutes, note?}}"))
    read: list[dict[str, Any]] = []
    for index, one in enumerate(value):
        field = f"reasons[{index}]"
        if not isinstance(one, Mapping) or not one.keys() <= {"code", "minutes", "note"}:
            raise No(Malformed(f"`{field}` is {{code, minutes, note?}}"))
        code = delays.parse(one.get("code"))
        if code is None:
            raise No(Malformed(f"`{field}.code` is an IATA delay code: 31, GD or 31C (AHM 730, 731), or DBN (AHM 732)"))
        if any(code.code == other["code"] for other in read):
            raise No(Malformed(f"`{field}.code` is {code.code} a second time: add its minutes to the first"))
        reason = {"code": code.code, "minutes": number(one, "minutes", "of this reason", delays.MINUTES_MAX)}
        note = prose(one, "note", "for people", "")
        read.append(reason | {"note": note} if note else reason)
    return read
