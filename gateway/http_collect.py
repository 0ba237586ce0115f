"""The HTTP API's routes that positions come in by: our own, and the protocols of two families of apps; and the keys of such
apps.

For: `gateway.http`, which puts them into an app that has a collector. Promises: as `gateway.http_routes`. An app is answered
200 for whatever it need not say again, a fix that was quarantined or rejected too: none of these apps ever drops what was
answered otherwise, but says it again and nothing newer before (docs/collectors.md has what each makes of each status). The
header ``Readback-Verdicts`` says what became of it, for people. Does not: write what it is asked for into any log: OsmAnd's
query holds its key.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request, Response

from core.collectors import osmand, owntracks
from core.collectors.links import OSMAND_PATH, OWNTRACKS_PATH, links
from core.collectors.values import Report
from core.tracks import AppKey
from core.wire import at_bytes
from gateway.collect_service import OSMAND, OWNTRACKS, CollectService
from gateway.http_collect_models import (
    OSMAND_BODY,
    OSMAND_QUERY,
    OWNTRACKS_BODY,
    AppsModel,
    BindApp,
    NewAppModel,
    PostPositions,
    TakenModel,
)
from gateway.http_edge import problem
from gateway.http_office import DeviceName
from gateway.http_routes import Who, address_of, json_answer, problems
from gateway.live.positions import Taken
from gateway.service import HTTP_STATUS, WireError

VERDICTS = "Readback-Verdicts"
_ONCE = {"Pragma": "no-cache"}
_APP_PROBLEMS = problems("forbidden", "not_found", "too_large", "rate_limited")


def _collector(request: Request) -> CollectService:
    return cast(CollectService, request.app.state.collect)


Collect = Annotated[CollectService, Depends(_collector)]

router = APIRouter()


@router.post(
    "/v1/positions",
    tags=["positions"],
    operation_id="sendPositions",
    summary="Send positions",
    response_model=TakenModel,
    responses=problems("forbidden", "not_found", "too_large", "rate_limited"),
)
async def send_positions(request: PostPositions, collect: Collect, who: Who) -> Response:
    """The socket's `position` for those without one: the same rules, verdicts and `next_in`. Repeat it whole after
    `unavailable`, or no answer: what was taken is a duplicate then."""
    taken = await collect.positions(who, request.stream, request.fixes, request.sig, request.nav)
    return json_answer({"accepted": taken.accepted, "verdicts": taken.verdicts, "next_in": taken.next_in_s})


# -- apps -------------------------------------------------------------------------------------------------------------------

_OSMAND: dict[str, Any] = {
    "tags": ["positions"],
    "response_class": Response,
    "responses": {200: {"description": "taken, or nothing to say again; empty"}, **_APP_PROBLEMS},
}


@router.get(
    OSMAND_PATH,
    operation_id="collectOsmandGet",
    summary="OsmAnd's protocol",
    openapi_extra={"parameters": OSMAND_QUERY},
    **_OSMAND,
)
@router.post(
    OSMAND_PATH,
    operation_id="collectOsmand",
    summary="OsmAnd's protocol, which Traccar Client speaks too",
    openapi_extra={"parameters": OSMAND_QUERY, "requestBody": OSMAND_BODY},
    **_OSMAND,
)
async def collect_osmand(http: Request, collect: Collect) -> Response:
    """One position in the query or in a form, or some in JSON. The key is the app's device id; as the password of HTTP Basic it
    is good too."""
    query: bytes = http.scope.get("query_string", b"")
    report = osmand.read(query, await http.body(), collect.now_ms())
    secret = report.secret or _password(http)
    if not secret:
        raise WireError("bad_request", "id: the key of the app, its device id")
    return await _collected(http, collect, OSMAND, secret, report)


@router.post(
    OWNTRACKS_PATH,
    tags=["positions"],
    operation_id="collectOwntracks",
    summary="OwnTracks in HTTP mode",
    response_class=Response,
    responses={
        200: {
            "content": {"application/json": {"schema": {"type": "array"}}},
            "description": "`[]`: no friends are told",
        },
        **_APP_PROBLEMS,
    },
    openapi_extra={"requestBody": OWNTRACKS_BODY},
)
async def collect_owntracks(http: Request, collect: Collect) -> Response:
    """By HTTP Basic: any user, the app's key as the password. Who `?u=`, `?d=`, `X-Limit-U` and `X-Limit-D` say it is does not
    matter: the key says it. Locations are taken; other messages are answered and do nothing."""
    return await _collected(http, collect, OWNTRACKS, _password(http), owntracks.read(await http.body()))


async def _collected(http: Request, collect: CollectService, app: str, secret: str, report: Report) -> Response:
    try:
        if not secret:
            # No guess: an iPhone asks first without, and brings its password when it is asked for one.
            raise WireError("unauthorized", "HTTP Basic: the key of the app as the password")
        taken = await collect.collect(app, address_of(http), secret, report)
    except WireError as error:
        if error.code != "unauthorized":
            raise
        status, headers, body = problem(HTTP_STATUS[error.code], error.code, error.message)
        answer = Response(body, status, {name.decode(): value.decode() for name, value in headers})
        answer.headers["WWW-Authenticate"] = 'Basic realm="readback"'
        return answer
    said = {VERDICTS: _said(taken, report)}
    return json_answer([], 200, said) if app == OWNTRACKS else Response(b"", 200, said)


def _said(taken: Taken, report: Report) -> str:
    """As a list of tokens with their number: ``accepted=2, rejected=1, skipped=1``."""
    counts = Counter(verdict["verdict"] for verdict in taken.verdicts)
    if report.skipped:
        counts["skipped"] += report.skipped
    return ", ".join(f"{name}={count}" for name, count in sorted(counts.items())) or "none"


def _password(http: Request) -> str:
    """Of HTTP Basic; empty where there is none."""
    scheme, _, encoded = http.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


# -- their keys -------------------------------------------------------------------------------------------------------------


@router.put(
    "/v1/devices/{device}/app",
    status_code=201,
    tags=["devices"],
    operation_id="mintApp",
    summary="A key for an app that sends a device's positions",
    response_model=NewAppModel,
    responses=problems("forbidden", "not_found"),
)
async def mint_app(device: DeviceName, request: BindApp, http: Request, collect: Collect, who: Who) -> Response:
    """For admins. The key is in this answer and nowhere else; the one that the device's app had ends. It sends positions of
    this device into this stream and is good for nothing else. The device need not be enrolled."""
    base_url = f"{http.url.scheme}://{http.headers.get('host', '')}"
    made = await collect.mint(who, device, request.stream, base_url)
    ways = links(made.base_url, device, made.secret)
    answer = {
        **_app(made.key),
        "secret": made.secret,
        "traccar": ways.traccar,
        "owntracks": ways.owntracks,
        "osmand": ways.osmand,
    }
    return json_answer(answer, 201, _ONCE)


@router.put(
    "/v1/devices/{device}/app/stream",
    status_code=204,
    tags=["devices"],
    operation_id="bindApp",
    summary="Another stream for a device's app",
    response_class=Response,
    responses=problems("forbidden", "not_found"),
)
async def bind_app(device: DeviceName, request: BindApp, collect: Collect, who: Who) -> Response:
    """For admins. From now on; the app keeps its key and is not touched. For the next trip."""
    await collect.bind(who, device, request.stream)
    return Response(status_code=204)


@router.delete(
    "/v1/devices/{device}/app",
    status_code=204,
    tags=["devices"],
    operation_id="removeApp",
    summary="No more positions from a device's app",
    response_class=Response,
    responses=problems("forbidden", "not_found"),
)
async def remove_app(device: DeviceName, collect: Collect, who: Who) -> Response:
    """For admins. Its key is good for nothing any more, on every node within a second."""
    await collect.drop(who, device)
    return Response(status_code=204)


@router.get(
    "/v1/devices/apps",
    tags=["devices"],
    operation_id="listApps",
    summary="Devices whose positions come from apps",
    response_model=AppsModel,
    responses=problems("forbidden"),
)
async def list_apps(collect: Collect, who: Who) -> Response:
    """For admins and auditors; by device. Keys themselves are kept nowhere."""
    return json_answer({"apps": [_app(key) for key in await collect.keys(who)]})


def _app(key: AppKey) -> dict[str, Any]:
    return {"device": key.subject, "stream": key.stream, "made": at_bytes(key.made_ms).decode()}
