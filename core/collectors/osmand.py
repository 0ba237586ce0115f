"""OsmAnd's protocol, which Traccar Client, OsmAnd and many trackers speak: one request of it, read.

Three forms of the same: a query, a form, and the JSON that Traccar Client 9 and later sends (one location, a list of them, or
a list of such requests). Documented at traccar.org/osmand. Units differ: ``speed`` is in knots in a query or form, in m/s in
JSON; OsmAnd itself fills m/s into whatever parameter it is told to, hence our own ``speed_mps``.

Promises: total for any bytes; a number that nobody needs and nobody can read is not said; of many locations those that can be
read are taken, and the others are told by their number. Does not: know whose ``id`` it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

import orjson

from core.collectors.values import KNOT_MPS, Report, at_ms, make_fix, number, scaled
from core.pings import FIXES_MAX, Fix

FIELDS_MAX: Final = 64
"""Of a query or form; Traccar Client's has ten."""
HDOP_M: Final = 5.0
"""What one unit of dilution is worth: the error of a range as a phone's receiver has it in the open."""
_IDS: Final = ("id", "deviceid", "device_id")
_NO_PLACE: Final = "lat and lon (or location=lat,lon): degrees"
_NO_TIME: Final = "timestamp: Unix seconds or milliseconds, or ISO 8601"


def read(query: bytes, body: bytes, now_ms: int) -> Report:
    """One request. What says no time is of ``now_ms``."""
    try:
        fields = _fields(query)
        if body.lstrip()[:1] in (b"{", b"["):
            return _read_json(body, _secret(fields))
        for name, value in _fields(body).items():
            fields.setdefault(name, value)
    except ValueError:
        return Report(problem=f"at most {FIELDS_MAX} parameters")
    secret = _secret(fields)
    if _is_no(fields.get("valid")):
        return Report(secret, skipped=1)
    found = _read_fields(fields, now_ms)
    return Report(secret, problem=found) if isinstance(found, str) else Report(secret, (found,))


def _fields(encoded: bytes) -> dict[str, str]:
    """The first of each name. Raises `ValueError` where there are too many."""
    fields: dict[str, str] = {}
    for name, value in parse_qsl(
        encoded.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=FIELDS_MAX
    ):
        fields.setdefault(name, value)
    return fields


def _secret(fields: Mapping[str, object]) -> str:
    for name in _IDS:
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def _is_no(value: str | None) -> bool:
    return value is not None and value.lower() in ("false", "0")


def _read_fields(fields: Mapping[str, str], now_ms: int) -> Fix | str:
    get = fields.get
    lat, lon = get("lat"), get("lon")
    if lat is None and lon is None and "location" in fields:
        lat, _, lon = fields["location"].partition(",")
    at = at_ms(fields["timestamp"]) if "timestamp" in fields else now_ms
    if at is None:
        return _NO_TIME
    acc = number(get("accuracy"))
    return _placed(
        at,
        lat,
        lon,
        acc=scaled(get("hdop"), HDOP_M) if acc is None else acc,
        speed=number(fields["speed_mps"]) if "speed_mps" in fields else scaled(get("speed"), KNOT_MPS),
        heading=number(fields.get("bearing", get("heading"))),
        alt=number(get("altitude")),
        mock=get("mock", "").lower() in ("true", "1"),
    )


def _placed(
    at: int,
    lat: object,
    lon: object,
    *,
    acc: float | None,
    speed: float | None,
    heading: float | None,
    alt: float | None,
    mock: bool,
) -> Fix | str:
    north, east = number(lat), number(lon)
    if north is None or east is None:
        return _NO_PLACE
    found = make_fix(at, north, east, acc=acc, speed=speed, heading=heading, alt=alt, mock=mock)
    return _NO_PLACE if found is None else found


# -- JSON -----------------------------------------------------------------------------------------------------------------


def _read_json(body: bytes, secret: str) -> Report:
    """``secret``: what the query says it is."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Report(secret, problem=f"the body is not JSON: {error.msg}")
    requests = said if isinstance(said, list) else [said]
    ids = {_secret(each) for each in requests if isinstance(each, dict)} - {""}
    if len(ids) > 1:
        return Report(secret, problem="device_id: one and the same for all of a request")
    secret = ids.pop() if ids else secret
    fixes: list[Fix] = []
    problem, skipped = "", 0
    for nth, location in enumerate(_locations(requests)):
        if nth == FIXES_MAX:
            return Report(secret, problem=f"at most {FIXES_MAX} locations", too_large=True)
        found = _read_location(location)
        if isinstance(found, str):
            problem, skipped = problem or found, skipped + 1
        else:
            fixes.append(found)
    if not fixes:
        return Report(secret, problem=problem or "location: one, or a list of them")
    return Report(secret, tuple(fixes), skipped)


def _locations(requests: list[object]) -> Iterator[object]:
    for request in requests:
        if not isinstance(request, dict):
            yield request
            continue
        inner = request.get("location", request)  # a library that may be told to put it at the top
        if isinstance(inner, list):
            yield from inner
        else:
            yield inner


def _read_location(location: object) -> Fix | str:
    coords = location.get("coords") if isinstance(location, dict) else None
    if not isinstance(location, dict) or not isinstance(coords, dict):
        return "location.coords: an object with latitude and longitude"
    at = at_ms(location.get("timestamp"))
    if at is None:
        return _NO_TIME
    get = coords.get
    return _placed(
        at,
        get("latitude"),
        get("longitude"),
        acc=number(get("accuracy")),
        speed=number(get("speed")),
        heading=number(get("heading")),
        alt=number(get("altitude")),
        mock=location.get("mock") is True,
    )
