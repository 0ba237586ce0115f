"""Every route of the HTTP API, with what it asks `core.policy` for. One that is not here fails `test_matrix.py`."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from core.policy import StreamAction, TenantAction
from tests.walls.stage import GUEST, Action, Everybody, Place

_numbers = itertools.count(1)

Request = dict[str, Any]
"""``path`` filled in, and what httpx takes: ``json``, ``params``, ``headers``, ``data``."""


class Route(NamedTuple):
    """One way to call a route. ``streamless``: the answer does not depend on the stream of the place."""

    method: str
    path: str
    action: Action
    request: Callable[[Place], Request]
    what: str = ""
    streamless: bool = False
    leaves: bool = False
    """One's own membership ends: everybody who has one may, and nobody else has anything to leave."""


def _at(path: str, **fields: Any) -> Callable[[Place], Request]:
    def request(place: Place) -> Request:
        filled = path.replace("{stream}", place.stream).replace("{principal}", GUEST).replace("{me}", place.principal)
        return {"path": filled, **fields}

    return request


def _create(place: Place) -> Request:
    return {"path": "/v1/streams", "json": {"stream": f"chat:made-{next(_numbers)}"}}


def _send(place: Place) -> Request:
    headers = {"idempotency-key": str(uuid.uuid4())}
    return {"path": f"/v1/streams/{place.stream}/events", "headers": headers, "json": {"body": {"text": "said"}}}


A, T = StreamAction, TenantAction
MEMBERS, MEMBER = "/v1/streams/{stream}/members", "/v1/streams/{stream}/members/{principal}"
EVENTS = "/v1/streams/{stream}/events"
ROUTES: Final = (
    Route("POST", "/v1/streams", T.CREATE_STREAM, _create, streamless=True),
    Route("GET", MEMBERS, A.LIST_MEMBERS, _at(MEMBERS)),
    Route("PUT", MEMBER, A.MANAGE_MEMBERS, _at(MEMBER, json={"role": "reader"})),
    Route("DELETE", MEMBER, A.MANAGE_MEMBERS, _at(MEMBER)),
    Route("DELETE", MEMBER, A.MANAGE_MEMBERS, _at(f"{MEMBERS}/{{me}}"), "oneself", leaves=True),
    Route("POST", EVENTS, A.SEND, _send),
    Route("GET", EVENTS, A.FOLLOW, _at(EVENTS, params={"after": 0})),
    Route("DELETE", EVENTS, T.TRIM_STREAM, _at(EVENTS, params={"before": 1})),
    Route("GET", "/v1/me/streams", Everybody.KNOWN, _at("/v1/me/streams"), streamless=True),
    Route("GET", "/livez", Everybody.PUBLIC, _at("/livez"), streamless=True),
    Route("GET", "/readyz", Everybody.PUBLIC, _at("/readyz"), streamless=True),
    Route("GET", "/metrics", Everybody.PUBLIC, _at("/metrics"), streamless=True),
)
