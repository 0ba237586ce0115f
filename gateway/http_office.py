"""The office's HTTP routes: tokens for services and devices, devices, clients, revocations, and proofs of events.

For: `gateway.http`, which puts them into an app that has an office. Promises: as `gateway.http_routes`: every decision is
the service's, answers are described by models. The token endpoint alone speaks OAuth: a form in, and errors of RFC 6749,
section 5.2, out, each with the wire's ``code`` beside. What no route has seen (a body too large, an address that guesses) is a
problem document there too.
"""

from __future__ import annotations

import io
from base64 import b64decode
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl, unquote_plus

import segno
import trio
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import WithJsonSchema

from core.directory import Revocation, ServiceClient
from core.ports import Unavailable
from core.wire import at_bytes
from gateway.http_models import KEY_PATTERN, SEQ_MAX, STREAM_PATTERN
from gateway.http_office_models import (
    CLIENT_PATTERN,
    DEVICE_PATTERN,
    SECRET_CHARS_MAX,
    TOKEN_FORM,
    AddClient,
    ClaimModel,
    ClientsModel,
    DevicesModel,
    GrantModel,
    JwksModel,
    MintClaim,
    NewClientModel,
    OAuthError,
    Redeem,
    RevocationModel,
    RevocationsModel,
    Revoke,
    RotateKey,
    Scope,
)
from gateway.http_routes import Who, address_of, json_answer, parse_key, path_of, problems
from gateway.office_service import Caller, Denied, Grant, OfficeService
from gateway.service import HTTP_STATUS, WireError

QR_SCALE = 8
PROOF_NAME = "readback-proof.json"
FORM = "application/x-www-form-urlencoded"
_ONCE = {"Pragma": "no-cache"}  # RFC 6749, section 5.1, beside the no-store that every answer carries
_NEEDS_PROOF = "A DPoP proof (RFC 9449) of this request by the device's key."

DeviceName = Annotated[str, Path(pattern=DEVICE_PATTERN, openapi_examples={"truck": {"value": "device:truck-7"}})]
Again = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": KEY_PATTERN}),
    Header(
        alias="Idempotency-Key",
        description="a UUID; who repeats the request with the same one, and a proof of its own, gets the same refresh token",
    ),
]
Proof = Annotated[str | None, Header(alias="DPoP", description=_NEEDS_PROOF)]


def _office(request: Request) -> OfficeService:
    return cast(OfficeService, request.app.state.office)


Office = Annotated[OfficeService, Depends(_office)]

router = APIRouter()


def _caller(request: Request, again: str | None) -> Caller:
    return Caller(
        request.method,
        request.headers.get("host", ""),
        path_of(request),
        address_of(request),
        request.headers.get("dpop"),
        None if again is None else parse_key(again),
    )


# -- tokens ---------------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/oauth/token",
    tags=["tokens"],
    operation_id="issueToken",
    summary="A token for a service, or the next one for a device",
    response_model=GrantModel,
    responses={
        status: {"model": OAuthError, "description": what}
        for status, what in (
            (400, "the request, the grant, its proof or its scope cannot be used"),
            (401, "the client is not known, or its secret is another"),
            (429, "too many wrong ones from this address, or too many calls"),
            (503, "the database does not answer; come back after `retry_after`"),
        )
    },
    openapi_extra={"requestBody": TOKEN_FORM},
)
async def issue_token(request: Request, office: Office, dpop: Proof = None, again: Again = None) -> Response:
    """RFC 6749, sections 4.4 and 6. `client_credentials`: a service proves itself with its id and secret, by HTTP Basic or in
    the form; with a DPoP proof the token is bound to that key. `refresh_token`: a device proves itself with its key; its
    refresh token is good once, and one that comes again ends all of that device's tokens."""
    try:
        return _granted(await _oauth(request, office, again))
    except (WireError, Unavailable) as error:
        return _oauth_error(request, error)


async def _oauth(request: Request, office: OfficeService, again: str | None) -> Grant:
    form = _form(request.headers.get("content-type", ""), await request.body())
    caller, grant = _caller(request, again), form.get("grant_type", "")
    if grant == "client_credentials":
        client_id, secret = _client_of(request, form)
        return await office.token(caller, client_id, secret, form.get("scope"))
    if grant == "refresh_token":
        return await office.refresh(caller, form.get("refresh_token", "")[: SECRET_CHARS_MAX + 1])
    if not grant:
        raise Denied("invalid_request", "grant_type: client_credentials or refresh_token")
    raise Denied("unsupported_grant_type", "grant_type: client_credentials or refresh_token")


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise Denied("invalid_request", f"the body is a form: Content-Type {FORM}")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=32, errors="strict")
    except ValueError:
        raise Denied("invalid_request", "the form cannot be read") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise Denied("invalid_request", "a parameter stands in the form twice")  # RFC 6749, section 3.2
    # Section 3.2: one without a value is as if it were not there.
    return {name: value for name, value in form.items() if value}


def _client_of(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Section 2.3.1: by HTTP Basic, both parts form-encoded in it, or in the form; not both ways."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return form.get("client_id", ""), form.get("client_secret", "")
    if scheme.lower() != "basic":
        raise Denied("invalid_request", "a client proves itself by HTTP Basic or in the form")
    if "client_secret" in form:
        raise Denied("invalid_request", "a client proves itself in one way, not in two")
    try:
        client_id, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise Denied("invalid_client", "HTTP Basic is base64 of id:secret")
    return unquote_plus(client_id), unquote_plus(secret)


def _oauth_error(request: Request, error: WireError | Unavailable) -> Response:
    headers, retry_after_s = dict(_ONCE), error.retry_after_s
    if isinstance(error, Denied):
        name, code, words, status = error.error, error.code, error.message, 400
        if name == "invalid_client":
            status = 401
            if "authorization" in request.headers:  # section 5.2: in the scheme that the client used
                headers["WWW-Authenticate"] = 'Basic realm="readback"'
    elif isinstance(error, WireError):
        bad = error.code == "bad_request"
        name, code, words = "invalid_request" if bad else "temporarily_unavailable", error.code, error.message
        status = HTTP_STATUS[code]
    else:
        name, code, status = "temporarily_unavailable", "unavailable", 503
        words = "the database cannot answer now; repeat with the same Idempotency-Key"
    answer: dict[str, Any] = {"error": name, "error_description": words, "code": code}
    if retry_after_s is not None:
        answer["retry_after"] = retry_after_s
        headers["Retry-After"] = str(max(1, -int(-retry_after_s // 1)))
    return json_answer(answer, status, headers)


def _granted(grant: Grant, status: int = 200) -> Response:
    answer: dict[str, Any] = {
        "access_token": grant.access_token,
        "token_type": "DPoP" if grant.bound else "Bearer",
        "expires_in": grant.expires_in_s,
        "scope": " ".join(grant.roles),
        "tenant": grant.tenant,
        "principal": grant.principal,
    }
    if grant.refresh_token:
        answer["refresh_token"] = grant.refresh_token
    return json_answer(answer, status, _ONCE)


@router.get(
    "/v1/jwks.json",
    tags=["tokens"],
    operation_id="jwks",
    summary="The keys that the gateway's own tokens are signed with",
    response_model=JwksModel,
)
async def jwks(office: Office) -> Response:
    """Public, RFC 7517. The first one signs; one that was replaced stays until its tokens have ended."""
    return json_answer({"keys": [dict(key) for key in office.jwks()]})


# -- service clients ------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/clients",
    status_code=201,
    tags=["tokens"],
    operation_id="addClient",
    summary="Let a service have tokens",
    response_model=NewClientModel,
    responses=problems("forbidden", "not_found"),
)
async def add_client(request: AddClient, office: Office, who: Who) -> Response:
    """For admins. The secret is in this answer and nowhere else."""
    made = await office.add_client(who, request.principal, request.roles)
    return json_answer({**_client(made.client), "client_secret": made.secret}, 201, _ONCE)


@router.get(
    "/v1/clients",
    tags=["tokens"],
    operation_id="listClients",
    summary="Services that may have tokens",
    response_model=ClientsModel,
    responses=problems("forbidden", "not_found"),
)
async def list_clients(office: Office, who: Who) -> Response:
    """For admins and auditors. No secrets: nobody has them but the services."""
    return json_answer({"clients": [_client(client) for client in await office.clients(who)]})


@router.delete(
    "/v1/clients/{client_id}",
    status_code=204,
    tags=["tokens"],
    operation_id="removeClient",
    summary="No more tokens for a service",
    response_class=Response,
    responses=problems("forbidden", "not_found"),
)
async def remove_client(client_id: Annotated[str, Path(pattern=CLIENT_PATTERN)], office: Office, who: Who) -> Response:
    """For admins. The tokens that its principal has end with it, on every node, and so do its connections."""
    await office.remove_client(who, client_id)
    return Response(status_code=204)


def _client(client: ServiceClient) -> dict[str, Any]:
    made = at_bytes(client.made_ms).decode()
    return {"client_id": client.client_id, "principal": client.principal, "roles": list(client.roles), "made": made}


# -- devices ----------------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/devices/claims",
    status_code=201,
    tags=["devices"],
    operation_id="mintClaim",
    summary="Onboard a device: a claim, as JSON or as a QR code",
    response_model=ClaimModel,
    responses={
        201: {
            "model": ClaimModel,
            "description": "the claim; with `Accept: image/svg+xml` or `image/png` its QR code",
            "content": {
                "image/svg+xml": {"schema": {"type": "string"}},
                "image/png": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **problems("forbidden", "not_found"),
    },
)
async def mint_claim(
    request: MintClaim, http: Request, office: Office, who: Who, accept: Annotated[str, Header()] = ""
) -> Response:
    """For admins. Good for one use within ten minutes; show it to nobody but the device."""
    base_url = f"{http.url.scheme}://{http.headers.get('host', '')}"
    claim = await office.mint_claim(who, request.device, base_url)
    for kind, media in (("svg", "image/svg+xml"), ("png", "image/png")):
        if media in accept:
            return Response(await trio.to_thread.run_sync(qr_image, claim.uri, kind), 201, _ONCE, media)
    expires = at_bytes(claim.expires_ms).decode()
    answer = {"device": claim.device, "claim": claim.claim, "uri": claim.uri, "expires": expires}
    return json_answer(answer, 201, _ONCE)


def qr_image(uri: str, kind: str) -> bytes:
    """``svg`` or ``png``; some 40 ms, so not on the loop."""
    picture = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(picture, kind=kind, scale=QR_SCALE)
    return picture.getvalue()


@router.post(
    "/v1/devices/redeem",
    tags=["devices"],
    operation_id="redeemClaim",
    summary="A device brings its claim and its key",
    response_model=GrantModel,
    responses=problems("not_found", "rate_limited"),
)
async def redeem(request: Redeem, http: Request, office: Office, dpop: Proof = None, again: Again = None) -> Response:
    """With a proof by the device's new key, whose `ath` is the claim's hash. Everything it gets is bound to that key. Without
    an access token."""
    return _granted(await office.redeem(_caller(http, again), request.claim))


@router.post(
    "/v1/devices/rotate",
    tags=["devices"],
    operation_id="rotateKey",
    summary="A device goes on with another key",
    response_model=GrantModel,
    responses=problems("not_found", "rate_limited"),
)
async def rotate(
    request: RotateKey, http: Request, office: Office, dpop: Proof = None, again: Again = None
) -> Response:
    """With a proof by the present key, whose `ath` is the hash of `next_proof`. Its connections go on: a `refresh` with the new
    token puts them under the new key. Without an access token."""
    return _granted(await office.rotate_key(_caller(http, again), request.refresh_token, request.next_proof))


@router.get(
    "/v1/devices",
    tags=["devices"],
    operation_id="listDevices",
    summary="The tenant's devices",
    response_model=DevicesModel,
    responses=problems("forbidden", "not_found"),
)
async def list_devices(office: Office, who: Who) -> Response:
    """For admins and auditors; by name."""
    devices = [
        {
            "device": device.device,
            "key": device.key or None,
            "enrolled": at_bytes(device.enrolled_ms).decode() if device.key else None,
            "revoked": device.revoked,
        }
        for device in await office.devices(who)
    ]
    return json_answer({"devices": devices})


@router.delete(
    "/v1/devices/{device}",
    status_code=204,
    tags=["devices"],
    operation_id="revokeDevice",
    summary="A device is lost",
    response_class=Response,
    responses=problems("forbidden", "not_found"),
)
async def revoke_device(device: DeviceName, office: Office, who: Who) -> Response:
    """For admins. Its connections end at once, on every node; nothing that it holds is good for anything again. It comes back
    by a new claim."""
    await office.revoke_device(who, device)
    return Response(status_code=204)


# -- revocations ------------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/revocations",
    status_code=201,
    tags=["revocations"],
    operation_id="revoke",
    summary="Revoke a token, a session or a principal",
    response_model=RevocationModel,
    responses=problems("forbidden", "not_found"),
)
async def revoke(request: Revoke, office: Office, who: Who) -> Response:
    """For admins. A principal's ends what it was given until now: with a new token it is welcome again. A service or a device
    gets itself a new token: remove the client, or revoke the device."""
    return json_answer(_revocation(await office.revoke(who, request.scope, request.value, request.reason)), 201)


@router.get(
    "/v1/revocations",
    tags=["revocations"],
    operation_id="listRevocations",
    summary="What is revoked",
    response_model=RevocationsModel,
    responses=problems("forbidden", "not_found"),
)
async def list_revocations(office: Office, who: Who) -> Response:
    """For admins and auditors. Those in force, newest first, at most 1,000."""
    return json_answer({"revocations": [_revocation(each) for each in await office.revocations(who)]})


@router.delete(
    "/v1/revocations",
    tags=["revocations"],
    operation_id="lift",
    summary="Take a revocation back",
    response_model=RevocationModel,
    responses=problems("forbidden", "not_found"),
)
async def lift(
    scope: Annotated[Scope, Query()],
    value: Annotated[str, Query(min_length=1, max_length=256)],
    office: Office,
    who: Who,
) -> Response:
    """For admins. What it had ended may be used again, as far as its time is not over."""
    return json_answer(_revocation(await office.lift(who, scope, value)))


def _revocation(revocation: Revocation) -> dict[str, Any]:
    return {
        "scope": revocation.scope,
        "value": revocation.value,
        "at": at_bytes(revocation.at_ms).decode(),
        "until": None if revocation.until_ms is None else at_bytes(revocation.until_ms).decode(),
        "reason": revocation.reason,
        "by": revocation.by,
        "lifted": revocation.lifted,
    }


# -- audit ------------------------------------------------------------------------------------------------------------------


@router.get(
    "/v1/audit/proof",
    tags=["audit"],
    operation_id="proveEvent",
    summary="A proof of one event, to be checked anywhere",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "see docs/audit.md"},
        **problems("forbidden", "not_found", "too_large", "rate_limited"),
    },
)
async def prove_event(
    stream: Annotated[str, Query(pattern=STREAM_PATTERN, openapi_examples={"audit": {"value": "audit:log"}})],
    seq: Annotated[int, Query(ge=1, le=SEQ_MAX)],
    office: Office,
    who: Who,
) -> Response:
    """For admins and auditors. Up to the first anchor past the event, or to the present end of its partition. The body is in
    it where the caller may read the stream by its role in the tenant; elsewhere its hash stands for it."""
    headers = {"Content-Disposition": f'attachment; filename="{PROOF_NAME}"'}
    return Response(await office.prove_event(who, stream, seq), 200, headers, "application/json")
