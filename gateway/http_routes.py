"""The HTTP API's routes: requests checked for shape, one call to the service, an answer in the wire's words.

For: `gateway.http`, which puts them into an app. Promises: every decision is the service's, but for one that needs no
look at the log (creating a stream takes a privileged token); an event is written by the socket's own encoder, so the
two can never differ. Does not: turn errors into answers.

Routes answer with bytes of their own making; the models of `gateway.http_models` describe those answers in OpenAPI and
validate requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from core.limits import Limits
from core.model import KEY_RE, Event, Member
from core.policy import TenantAction, may_in_tenant
from core.tokens import Identity, TokenError
from core.wire import at_bytes, event_json
from gateway.gather import Gather
from gateway.http_edge import PROBLEM_TYPE, problem
from gateway.http_models import (
    KEY_PATTERN,
    PRINCIPAL_PATTERN,
    SEQ_MAX,
    STREAM_PATTERN,
    CreateStream,
    HealthModel,
    MemberChanged,
    MemberModel,
    MembersModel,
    MyStreamsModel,
    PageModel,
    PutMember,
    SendEvent,
    SentModel,
    StreamModel,
    TrimmedModel,
)
from gateway.metrics import CONTENT_TYPE as METRICS_TYPE
from gateway.service import HTTP_STATUS, Credentials, Service, WireError

_PROBLEMS = {
    "bad_request": "the request is malformed; `detail` and `errors` say where",
    "unauthorized": "no token, or one that does not hold",
    "forbidden": "this principal may not do this here",
    "not_found": "no such stream or member in this tenant",
    "conflict": "it exists already, or the head is not what was expected",
    "too_large": "the body is longer than allowed",
    "rejected": "a rule of this kind of stream said no",
    "rate_limited": "too many for this principal; come back after `retry_after`",
    "internal": "a fault on our side",
    "overloaded": "the node sheds load, or its store cannot answer (`unavailable`); come back after `retry_after`",
}

StreamPath = Annotated[
    str, Path(pattern=STREAM_PATTERN, description="kind:name", openapi_examples={"room": {"value": "chat:ops"}})
]
PrincipalPath = Annotated[
    str, Path(pattern=PRINCIPAL_PATTERN, description="whom", openapi_examples={"amy": {"value": "user:amy"}})
]
_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="claims: sub, tenant, roles, exp, aud")


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's error responses of a route, with those that every route may give."""
    result: dict[int | str, dict[str, Any]] = {}
    for code in ("bad_request", "unauthorized", *codes, "internal", "overloaded"):
        status = HTTP_STATUS[code]
        example = {"type": "about:blank", "title": "", "status": status, "detail": _PROBLEMS[code], "code": code}
        example["title"] = orjson.loads(problem(status, code, "")[2])["title"]
        if code in ("overloaded", "rate_limited"):
            example["retry_after"] = 1.0
        result[status] = {
            "description": _PROBLEMS[code],
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
        }
    return result


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


async def _identity(
    request: Request, documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    scheme = scheme.lower()
    if scheme not in ("bearer", "dpop") or not token.strip():
        raise WireError("unauthorized", "send a token as: Authorization: Bearer <JWT>")
    proof, host = request.headers.get("dpop"), request.headers.get("host", "")
    brought = Credentials(scheme, token.strip(), proof, request.method, host, path_of(request), address_of(request))
    who = await _service(request).prove(brought)
    if isinstance(who, TokenError):
        raise WireError("unauthorized", who.reason)
    request.state.who = who
    return who


def address_of(request: Request) -> str:
    """The caller's, as far as the edge knows it."""
    return request.client.host if request.client is not None else ""


def path_of(request: Request) -> str:
    """The path as it was sent, still encoded: what a proof may name."""
    sent: bytes | None = request.scope.get("raw_path")
    return quote(request.scope["path"]) if sent is None else sent.decode("latin-1")


def first_members(who: Identity, thing: str, named: Sequence[MemberModel]) -> list[Member]:
    """Of what is to be made, whose maker has the right to. Raises `WireError`."""
    if not may_in_tenant(TenantAction.CREATE_STREAM, who.roles):
        raise WireError("forbidden", f"creating a {thing} needs a token with role admin or service")
    members = [Member(member.principal, member.role) for member in named]
    if len({member.principal for member in members}) != len(members):
        raise WireError("bad_request", "members names a principal twice")
    return members


def _siblings(request: Request) -> Gather | None:
    return cast("Gather | None", request.app.state.gather)


Node = Annotated[Service, Depends(_service)]
Siblings = Annotated[Gather | None, Depends(_siblings)]
Who = Annotated[Identity, Depends(_identity)]

router = APIRouter()


@router.post(
    "/v1/streams",
    status_code=201,
    tags=["streams"],
    operation_id="createStream",
    summary="Create a stream",
    response_model=StreamModel,
    responses=problems("forbidden", "conflict", "too_large"),
)
async def create_stream(request: CreateStream, node: Node, who: Who) -> Response:
    """Needs a token with role `admin` or `service`. Members given here are there from before seq 1, so they make no
    events."""
    members = first_members(who, "stream", request.members)
    facts = await node.create_stream(who, request.stream, open=request.open, members=members)
    answer = {"stream": facts.stream, "open": facts.open, "head": facts.head, "first": facts.first}
    return json_answer(answer, 201, {"location": f"/v1/streams/{facts.stream}/events"})


@router.get(
    "/v1/streams/{stream}/members",
    tags=["members"],
    operation_id="listMembers",
    summary="Who is in a stream",
    response_model=MembersModel,
    responses=problems("forbidden", "not_found"),
)
async def list_members(stream: StreamPath, node: Node, who: Who) -> Response:
    """By principal, ascending. An open stream lists only those who were added by name."""
    members = await node.members(who, stream)
    return json_answer({"members": [{"principal": member.principal, "role": member.role} for member in members]})


@router.put(
    "/v1/streams/{stream}/members/{principal}",
    tags=["members"],
    operation_id="putMember",
    summary="Add a member, or change its role",
    response_model=MemberChanged,
    responses=problems("forbidden", "not_found"),
)
async def put_member(
    stream: StreamPath, principal: PrincipalPath, node: Node, who: Who, request: PutMember | None = None
) -> Response:
    """Appends `member.joined` or `member.role`, so the change has a place in the order. For owners of the stream and
    tokens with role `admin` or `service`. Without a body the role is `member`. Repeating it changes nothing."""
    event = await node.put_member(who, stream, principal, request.role if request else "member")
    return json_answer({"changed": event is not None, "event": None if event is None else _event(stream, event)})


@router.delete(
    "/v1/streams/{stream}/members/{principal}",
    tags=["members"],
    operation_id="removeMember",
    summary="Remove a member",
    response_model=MemberChanged,
    responses=problems("forbidden", "not_found"),
)
async def remove_member(stream: StreamPath, principal: PrincipalPath, node: Node, who: Who) -> Response:
    """Appends `member.left`; nothing after that event is delivered to the removed."""
    event = await node.remove_member(who, stream, principal)
    return json_answer({"changed": True, "event": _event(stream, event)})


@router.post(
    "/v1/streams/{stream}/events",
    status_code=201,
    tags=["events"],
    operation_id="sendEvent",
    summary="Send an event",
    response_model=SentModel,
    responses={
        200: {"model": SentModel, "description": "the key was used before: the first event's seq, `dup` is true"},
        **problems("forbidden", "not_found", "conflict", "too_large", "rejected", "rate_limited"),
    },
)
async def send_event(
    stream: StreamPath,
    request: SendEvent,
    node: Node,
    who: Who,
    http: Request,
    key: Annotated[
        str,
        Header(
            alias="Idempotency-Key",
            description="a UUID of your choice, new for each event, the same when you repeat one",
            json_schema_extra={"pattern": KEY_PATTERN},
            openapi_examples={"uuid": {"value": "5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55"}},
        ),
    ],
) -> Response:
    """Answered after the commit, never before."""
    limits: Limits = http.app.state.limits
    if len(orjson.dumps(request.body)) > limits.body_bytes_max:
        raise WireError("too_large", f"an event's body has at most {limits.body_bytes_max} bytes of JSON")
    sent = await node.send(who, stream, key=parse_key(key), type=request.type, body=request.body, expect=request.expect)
    answer = {"stream": stream, "seq": sent.seq, "at": at_bytes(sent.at_ms).decode(), "dup": sent.dup}
    return json_answer(answer, 200 if sent.dup else 201)


@router.get(
    "/v1/streams/{stream}/events",
    tags=["events"],
    operation_id="readEvents",
    summary="Read events in order",
    response_model=PageModel,
    responses=problems("forbidden", "not_found"),
)
async def read_events(
    stream: StreamPath,
    node: Node,
    who: Who,
    http: Request,
    after: Annotated[int, Query(ge=0, le=SEQ_MAX, description="the last seq you have; 0 for all that is kept")] = 0,
    limit: Annotated[int, Query(ge=1, description="at most so many; the node has its own bound, 500 unless set")] = 100,
) -> Response:
    """Ascending and without gaps. Read on with `after` = `next` until `next` equals `head`. Where `first` is above
    `after` + 1, what lies between was trimmed and the page starts at `first`."""
    limits: Limits = http.app.state.limits
    page = await node.read(who, stream, after=after, limit=min(limit, limits.history_limit_max))
    answer = {
        "stream": stream,
        "head": page.head,
        "first": page.first,
        "next": page.events[-1].seq if page.events else page.head,
        "events": [_event(stream, event) for event in page.events],
    }
    return json_answer(answer)


@router.delete(
    "/v1/streams/{stream}/events",
    tags=["events"],
    operation_id="trimEvents",
    summary="Forget old events",
    response_model=TrimmedModel,
    responses=problems("forbidden", "not_found"),
)
async def trim_events(
    stream: StreamPath,
    node: Node,
    who: Who,
    before: Annotated[int, Query(ge=1, le=SEQ_MAX, description="events with a lower seq are forgotten")],
) -> Response:
    """Bodies go, for good; places and keys stay, so that order and idempotency hold."""
    return json_answer({"stream": stream, "first": await node.trim(who, stream, before)})


@router.get(
    "/v1/me/streams",
    tags=["streams"],
    operation_id="myStreams",
    summary="My streams, with what is unread",
    response_model=MyStreamsModel,
    responses=problems(),
)
async def my_streams(node: Node, who: Who) -> Response:
    """Streams that I am a member of, my inbox, and open streams in which I have marked something; by name."""
    streams = [
        {
            "stream": mine.stream,
            "role": mine.role,
            "head": mine.head,
            "first": mine.first,
            "delivered": mine.delivered,
            "read": mine.read,
            "unread": max(0, mine.head - max(mine.read, mine.first - 1)),
        }
        for mine in await node.my_streams(who)
    ]
    return json_answer({"streams": streams})


@router.get(
    "/livez",
    tags=["health"],
    operation_id="livez",
    summary="Should this process live on?",
    response_model=HealthModel,
    responses={503: {"model": HealthModel, "description": "no: restart it"}},
)
async def livez(node: Node) -> Response:
    """Does not depend on Postgres: restarting a gateway heals no database."""
    health = node.health()
    return _health(health.live, health.draining, [] if health.live else health.reasons, health.facts)


@router.get(
    "/readyz",
    tags=["health"],
    operation_id="readyz",
    summary="Should it get new clients?",
    response_model=HealthModel,
    responses={503: {"model": HealthModel, "description": "no: send them elsewhere"}},
)
async def readyz(node: Node, siblings: Siblings) -> Response:
    """No while draining, while the database does not answer, or before the start is done.

    Where workers share the port, the one that answers speaks for itself; the facts tell how many are ready.
    """
    health = node.health()
    facts = health.facts if siblings is None else {**health.facts, **await siblings.facts()}
    return _health(health.ready, health.draining, health.reasons, facts)


@router.get(
    "/metrics",
    tags=["health"],
    operation_id="metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "format 0.0.4"}},
)
async def metrics(node: Node, siblings: Siblings) -> Response:
    """Text exposition format 0.0.4. Where workers share the port: of all of them, each series with its `worker`."""
    text = node.metrics_text() if siblings is None else await siblings.metrics()
    return Response(text, headers={"content-type": METRICS_TYPE})


def parse_key(text: str) -> str:
    """The canonical key of an ``Idempotency-Key`` header. Quotes, as of a structured field's string, are allowed."""
    key = text.strip().removeprefix('"').removesuffix('"').lower()
    if not KEY_RE.match(key):
        raise WireError("bad_request", "Idempotency-Key is not a UUID such as 5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55")
    return key


def _event(stream: str, event: Event) -> orjson.Fragment:
    body = event.body if event.body is not None else b"null"
    return orjson.Fragment(event_json(stream.encode(), event.seq, event.type, event.key, event.by, event.at_ms, body))


def json_answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _health(good: bool, draining: bool, reasons: list[str], facts: dict[str, int | float | str]) -> Response:
    answer = {"status": "ok" if good else "failing", "draining": draining, "reasons": reasons, "facts": facts}
    return json_answer(answer, 200 if good else 503)
