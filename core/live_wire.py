"""What a node tells the others of latest values (positions, arrival times): the payloads of the channels ``live:<partition>``.

A payload is a JSON list: the node that tells, then a row for each value: ``[sid, kind, by, at_ms, value]``. Of a position the
value is ``[lat, lon, acc, speed, heading, alt]``.

Promises: `decode` never raises, whatever came; a row that is none refuses the payload, for whoever wrote it is no node of this
version.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import orjson

from core.live import Place

POSITION: Final = "position"
ROWS_MAX: Final = 2_000
"""Of one payload: some 200 KB."""


class Told(NamedTuple):
    """One latest value. ``value`` is a `Place` where the kind is ``position``, else what JSON has."""

    sid: int
    kind: str
    by: str
    at_ms: int
    value: object


def encode(node: str, told: Sequence[Told]) -> Iterator[bytes]:
    for at in range(0, len(told), ROWS_MAX):
        rows = [
            [sid, kind, by, at_ms, value[1:] if isinstance(value, Place) else value]
            for sid, kind, by, at_ms, value in told[at : at + ROWS_MAX]
        ]
        yield orjson.dumps([node, *rows])


def decode(payload: bytes) -> tuple[str, list[Told]] | None:
    """Who tells, and what."""
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, list) or not said or not isinstance(said[0], str):
        return None
    result = []
    for row in said[1:]:
        told = _told(row)
        if told is None:
            return None
        result.append(told)
    return said[0], result


def _told(row: object) -> Told | None:
    match row:
        case [int(sid), str(kind), str(by), int(at_ms), value]:
            if kind != POSITION:
                return Told(sid, kind, by, at_ms, value)
            place = _place(at_ms, value)
            return None if place is None else Told(sid, kind, by, at_ms, place)
    return None


def _place(at_ms: int, value: object) -> Place | None:
    if not isinstance(value, list) or len(value) != 6:
        return None
    if any(each is not None and each.__class__ not in (float, int) for each in value):
        return None
    lat, lon, acc, speed, heading, alt = value
    if lat is None or lon is None:
        return None
    return Place(at_ms, lat, lon, acc, speed, heading, alt)
