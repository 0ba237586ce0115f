"""OwnTracks in HTTP mode: one message of its app, read.

The app posts JSON objects, each with a ``_type`` (owntracks.org/booklet/tech/json). Only ``location`` is a fix; what else there
is (``transition``, ``waypoint``, ``lwt``, ``status``, …) is the app's own business and is skipped, as is an empty body, which
tells that a friend was deleted.

``tst`` is when the fix was true; ``created_at``, when the message was made, stands in for it. A ping (``t``: ``p``) is the last
fix again with the time of now: what it says of speed and course is of then, and not taken. ``vel`` is in km/h.

Promises: total for any bytes. Does not: decrypt.
"""

from __future__ import annotations

from typing import Final

import orjson

from core.collectors.values import KMH_MPS, Report, at_ms, make_fix, number, scaled
from core.pings import FIXES_MAX, Fix

ENCRYPTED: Final = (
    "the payload is encrypted, and its key is not here: clear the encryption key in the app; TLS protects it"
)


def read(body: bytes) -> Report:
    if not body.strip():
        return Report(skipped=1)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Report(problem=f"the body is not JSON: {error.msg}")
    messages = said if isinstance(said, list) else [said]
    if len(messages) > FIXES_MAX:
        return Report(problem=f"at most {FIXES_MAX} messages", too_large=True)
    fixes: list[Fix] = []
    problem, skipped = "", 0
    for message in messages:
        found = _read(message)
        if isinstance(found, Fix):
            fixes.append(found)
        else:
            problem, skipped = problem or found, skipped + 1
    return Report(problem=problem) if problem and not fixes else Report("", tuple(fixes), skipped)


def _read(message: object) -> Fix | str:
    """Empty for what is skipped."""
    kind = message.get("_type") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(kind, str):
        return "_type: location, or another that OwnTracks knows"
    if kind == "encrypted":
        return ENCRYPTED
    if kind != "location":
        return ""
    get = message.get
    at = at_ms(get("tst"))
    if at is None:
        at = at_ms(get("created_at"))
    if at is None:
        return "tst: Unix seconds"
    lat, lon = number(get("lat")), number(get("lon"))
    moving = get("t") != "p"
    found = (
        None
        if lat is None or lon is None
        else make_fix(
            at,
            lat,
            lon,
            acc=number(get("acc")),
            speed=scaled(get("vel"), KMH_MPS) if moving else None,
            heading=number(get("cog")) if moving else None,
            alt=number(get("alt")),
        )
    )
    return "lat and lon: degrees" if found is None else found
