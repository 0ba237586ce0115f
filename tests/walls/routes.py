"""Every route of the HTTP API, with what it asks `core.policy` for. One that is not here fails `test_matrix.py`."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from core.policy import StreamAction, TenantAction
from tests.walls.stage import GUEST, INBOX, Action, Everybody, Place, at_board, at_trip, in_flight

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
    grants: bool = False
    """Concerns a service client, a device, a revocation or a saga that is there already, named {granted}."""
    at: Callable[[Place], Place] | None = None
    """The place whose stream is asked for, where that is another than the place's own."""
    leaves: bool = False
    """One's own membership ends: everybody who has one may, and nobody else has anything to leave."""


def _at(path: str, **given: Any) -> Callable[[Place], Request]:
    def request(place: Place) -> Request:
        fields = dict(given)
        filled = path.replace("{stream}", place.stream).replace("{principal}", GUEST).replace("{me}", place.principal)
        params = {
            name: place.stream if value == "{stream}" else value for name, value in fields.pop("params", {}).items()
        }
        return {"path": filled, "params": params, **fields}

    return request


def _positions(place: Place) -> Request:
    number = next(_numbers)
    fix = {"seq": number, "at": f"2026-11-21T09:{number // 60 % 60:02}:{number % 60:02}Z", "lat": -33.9, "lon": 151.2}
    return {"path": "/v1/positions", "json": {"stream": place.stream, "fixes": [fix]}}


def _app(place: Place) -> Request:
    return {"path": f"/v1/devices/device:made-{next(_numbers)}/app", "json": {"stream": INBOX}}


def _create(place: Place) -> Request:
    return {"path": "/v1/streams", "json": {"stream": f"chat:made-{next(_numbers)}"}}


def _create_flight(place: Place) -> Request:
    return {"path": "/v1/flights", "json": {"flight": f"made-{next(_numbers)}"}}


def _create_trip(place: Place) -> Request:
    return {"path": "/v1/trips", "json": {"trip": f"made-{next(_numbers)}"}}


def _command_trip(place: Place) -> Request:
    headers = {"idempotency-key": str(uuid.uuid4())}
    return {"path": "/v1/trips/room/commands", "headers": headers, "json": {"type": "start"}}


def _own_fence(place: Place) -> Request:
    return {"path": f"/v1/fences/made-{next(_numbers)}", "json": {"points": [{"lat": 1, "lon": 2}], "radius_m": 5}}


def _start_saga(place: Place) -> Request:
    sides = {"a": {"flight": "room", "passenger": "p1"}, "b": {"flight": "hall", "passenger": "p2"}}
    return {"path": "/v1/sagas", "json": {"kind": "seat_swap", "key": f"swap-{next(_numbers)}", "data": sides}}


def _send(place: Place) -> Request:
    headers = {"idempotency-key": str(uuid.uuid4())}
    return {"path": f"/v1/streams/{place.stream}/events", "headers": headers, "json": {"body": {"text": "said"}}}


def _add_client(place: Place) -> Request:
    return {"path": "/v1/clients", "json": {"principal": f"service:added-{next(_numbers)}", "roles": ["admin"]}}


def _mint(place: Place) -> Request:
    return {"path": "/v1/devices/claims", "json": {"device": f"device:minted-{next(_numbers)}"}}


def _revoke(place: Place) -> Request:
    return {"path": "/v1/revocations", "json": {"scope": "token", "value": f"t-{next(_numbers)}", "reason": "lost"}}


def _at_flight(path: str, pattern: str = "flight:{}", **given: Any) -> dict[str, Any]:
    """Request and place of a route of the flight (its cabin, a crew member) that is called as the place's stream is."""

    def request(place: Place) -> Request:
        headers = {"idempotency-key": str(uuid.uuid4())} if given else {}
        return {"path": path.format(place.stream.partition(":")[2]), "headers": headers, **given}

    return {"request": request, "at": partial(in_flight, pattern=pattern)}


APP: Final = {"id": "guessed", "lat": "-33.9", "lon": "151.2"}
GUESS: Final = {"grant_type": "client_credentials", "client_id": "client-none", "client_secret": "guessed"}
PHONE: Final = "fGci0123456789:APA91b-17"
A, T = StreamAction, TenantAction
MEMBERS, MEMBER = "/v1/streams/{stream}/members", "/v1/streams/{stream}/members/{principal}"
EVENTS = "/v1/streams/{stream}/events"
OSMAND, OWNTRACKS = "/v1/collect/osmand", "/v1/collect/owntracks"
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
    Route("POST", "/v1/oauth/token", Everybody.PROVEN, _at("/v1/oauth/token", data=GUESS), streamless=True),
    Route("GET", "/v1/jwks.json", Everybody.PUBLIC, _at("/v1/jwks.json"), streamless=True),
    Route("POST", "/v1/clients", T.MANAGE_CLIENTS, _add_client, streamless=True),
    Route("GET", "/v1/clients", T.READ_ACCESS, _at("/v1/clients"), streamless=True),
    Route(
        "DELETE",
        "/v1/clients/{client_id}",
        T.MANAGE_CLIENTS,
        _at("/v1/clients/client-{granted}"),
        streamless=True,
        grants=True,
    ),
    Route("POST", "/v1/devices/claims", T.MANAGE_DEVICES, _mint, streamless=True),
    Route(
        "POST",
        "/v1/devices/redeem",
        Everybody.PROVEN,
        _at("/v1/devices/redeem", json={"claim": "guessed"}),
        streamless=True,
    ),
    Route(
        "POST",
        "/v1/devices/rotate",
        Everybody.PROVEN,
        _at("/v1/devices/rotate", json={"refresh_token": "guessed", "next_proof": "guessed"}),
        streamless=True,
    ),
    Route("POST", "/v1/positions", A.POSITION, _positions),
    Route("GET", OSMAND, Everybody.PROVEN, _at(OSMAND, params=APP), streamless=True),
    Route("POST", OSMAND, Everybody.PROVEN, _at(OSMAND, data=APP), streamless=True),
    Route("POST", OWNTRACKS, Everybody.PROVEN, _at(OWNTRACKS, json={"_type": "lwt"}), streamless=True),
    Route("GET", "/v1/devices/apps", T.READ_ACCESS, _at("/v1/devices/apps"), streamless=True),
    Route("PUT", "/v1/devices/{device}/app", T.MANAGE_DEVICES, _app, streamless=True),
    Route(
        "PUT",
        "/v1/devices/{device}/app/stream",
        T.MANAGE_DEVICES,
        _at("/v1/devices/device:{granted}/app/stream", json={"stream": INBOX}),
        streamless=True,
        grants=True,
    ),
    Route(
        "DELETE",
        "/v1/devices/{device}/app",
        T.MANAGE_DEVICES,
        _at("/v1/devices/device:{granted}/app"),
        streamless=True,
        grants=True,
    ),
    Route("GET", "/v1/devices", T.READ_ACCESS, _at("/v1/devices"), streamless=True),
    Route(
        "DELETE",
        "/v1/devices/{device}",
        T.MANAGE_DEVICES,
        _at("/v1/devices/device:{granted}"),
        streamless=True,
        grants=True,
    ),
    Route("POST", "/v1/revocations", T.REVOKE, _revoke, streamless=True),
    Route("GET", "/v1/revocations", T.READ_ACCESS, _at("/v1/revocations"), streamless=True),
    Route(
        "DELETE",
        "/v1/revocations",
        T.REVOKE,
        _at("/v1/revocations", params={"scope": "token", "value": "{granted}"}),
        streamless=True,
        grants=True,
    ),
    Route("GET", "/v1/audit/proof", T.READ_AUDIT, _at("/v1/audit/proof", params={"stream": "{stream}", "seq": 1})),
    Route("POST", "/v1/flights", T.CREATE_STREAM, _create_flight, streamless=True),
    Route(
        "POST",
        "/v1/flights/{flight}/commands",
        A.COMMAND,
        **_at_flight("/v1/flights/{}/commands", json={"type": "gate", "body": {"departure": {"gate": "4"}}}),
    ),
    Route("GET", "/v1/flights/{flight}", A.FOLLOW, **_at_flight("/v1/flights/{}")),
    Route("GET", "/v1/flights/{flight}/manifest", A.FOLLOW, **_at_flight("/v1/flights/{}/manifest", "flight:{}.seats")),
    Route("GET", "/v1/flights/{flight}/seats", A.FOLLOW, **_at_flight("/v1/flights/{}/seats", "flight:{}.seats")),
    Route("GET", "/v1/crew/{member}", A.FOLLOW, **_at_flight("/v1/crew/{}", "flight:crew.{}")),
    Route("GET", "/v1/flights/{flight}/roster", A.FOLLOW, _at("/v1/flights/room/roster"), at=at_board),
    Route("GET", "/v1/board", A.FOLLOW, _at("/v1/board"), "for owners of all without it too", at=at_board),
    Route(
        "GET",
        "/v1/aircraft/{registration}/line",
        A.FOLLOW,
        _at("/v1/aircraft/VH-ABC/line"),
        "for owners of all without it too",
        at=at_board,
    ),
    Route("POST", "/v1/trips", T.CREATE_STREAM, _create_trip, streamless=True),
    Route("POST", "/v1/trips/{trip}/commands", A.COMMAND, _command_trip, at=at_trip),
    Route("GET", "/v1/trips/{trip}", A.READ_TRACK, _at("/v1/trips/room"), at=at_trip),
    Route("GET", "/v1/trips/{trip}/track", A.READ_TRACK, _at("/v1/trips/room/track"), at=at_trip),
    Route("GET", "/v1/trips/{trip}/live", A.READ_TRACK, _at("/v1/trips/room/live"), at=at_trip),
    Route("GET", "/v1/fences", T.MANAGE_FENCES, _at("/v1/fences"), streamless=True),
    Route("PUT", "/v1/fences/{fence}", T.MANAGE_FENCES, _own_fence, streamless=True),
    Route("GET", "/v1/fences/{fence}", T.MANAGE_FENCES, _at("/v1/fences/{granted}"), streamless=True, grants=True),
    Route("DELETE", "/v1/fences/{fence}", T.MANAGE_FENCES, _at("/v1/fences/{granted}"), streamless=True, grants=True),
    Route("POST", "/v1/sagas", T.START_SAGA, _start_saga, streamless=True),
    Route("GET", "/v1/sagas/{key}", T.READ_WORK, _at("/v1/sagas/{granted}"), streamless=True, grants=True),
    Route("GET", "/v1/rules/firings", T.READ_WORK, _at("/v1/rules/firings"), streamless=True),
    Route(
        "POST",
        "/v1/me/pushes",
        Everybody.KNOWN,
        _at("/v1/me/pushes", json={"service": "fcm", "token": PHONE, "app": "example.buses"}),
        streamless=True,
    ),
    Route("GET", "/v1/me/pushes", Everybody.KNOWN, _at("/v1/me/pushes"), streamless=True),
    Route(
        "DELETE",
        "/v1/me/pushes/{token}",
        Everybody.KNOWN,
        _at(f"/v1/me/pushes/{PHONE}"),
        "the one registered just now",
        streamless=True,
    ),
    Route("GET", "/livez", Everybody.PUBLIC, _at("/livez"), streamless=True),
    Route("GET", "/readyz", Everybody.PUBLIC, _at("/readyz"), streamless=True),
    Route("GET", "/metrics", Everybody.PUBLIC, _at("/metrics"), streamless=True),
)
