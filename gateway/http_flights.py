"""The HTTP API's routes for flights: commands for those without a socket.

As `gateway.http_routes`: requests checked for shape, one call to the service, an answer in the wire's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Path, Request, Response

from core.limits import Limits
from core.model import Member
from core.ports import Refused
from core.tokens import Identity
from core.wire import at_bytes
from gateway.http_models import KEY_PATTERN, STREAM_NAME_PATTERN, CommandedModel, CreateFlight, FlightModel, GiveCommand
from gateway.http_routes import Node, Who, first_members, json_answer, parse_key, problems
from gateway.service import Service, WireError

FlightPath = Annotated[
    str,
    Path(
        pattern=STREAM_NAME_PATTERN,
        description="what follows `flight:` in the stream's name; NAME.seats is its cabin, crew.ID a crew member",
        openapi_examples={"flight": {"value": "QX12-20261121"}},
    ),
]
KeyHeader = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        description="a UUID of your choice, new for each command, the same when you repeat one",
        json_schema_extra={"pattern": KEY_PATTERN},
        openapi_examples={"uuid": {"value": "5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55"}},
    ),
]

router = APIRouter()


@router.post(
    "/v1/flights",
    status_code=201,
    tags=["flights"],
    operation_id="createFlight",
    summary="Make a flight's streams",
    response_model=FlightModel,
    responses={
        200: {"model": FlightModel, "description": "they were there before; their members are as they were"},
        **problems("forbidden", "too_large"),
    },
)
async def create_flight(request: CreateFlight, node: Node, who: Who) -> Response:
    """The flight's own stream and its cabin's, with the same first members. Repeating it makes what is missing. Needs a token
    with role `admin` or `service`. Nothing is known of the flight before its first command, `schedule`."""
    streams = [f"flight:{request.flight}", f"flight:{request.flight}.seats"]
    made = await make(streams, first_members(who, "flight", request.members), request.open, node, who)
    return json_answer({"flight": request.flight, "streams": streams}, 201 if made else 200)


@router.post(
    "/v1/flights/{flight}/commands",
    status_code=201,
    tags=["flights"],
    operation_id="giveCommand",
    summary="Give a command to a flight, its cabin or a crew member",
    response_model=CommandedModel,
    responses={
        200: {"model": CommandedModel, "description": "the key was used before: what was answered then, `dup` is true"},
        **problems("forbidden", "not_found", "conflict", "too_large", "rejected", "rate_limited"),
    },
)
async def give_command(
    flight: FlightPath, request: GiveCommand, node: Node, who: Who, http: Request, key: KeyHeader
) -> Response:
    """Answered after the commit. A command becomes events of the stream, all or none, or is refused with a `reason`; either is
    kept under the key, and a repeated key is answered the same."""
    return await give(f"flight:{flight}", request.type, request.body, request.expect, key, node, who, http)


async def make(streams: Sequence[str], members: Sequence[Member], open: bool, node: Service, who: Identity) -> bool:
    """Those that are not there; whether any was not."""
    made = False
    for stream in streams:
        try:
            await node.create_stream(who, stream, open=open, members=members)
            made = True
        except Refused as error:
            if error.code != "conflict":
                raise
    return made


async def give(
    stream: str,
    type: str,
    body: dict[str, object],
    expect: int | None,
    key: str,
    node: Service,
    who: Identity,
    http: Request,
) -> Response:
    """One command to a stream, answered in the wire's words. Raises `WireError`."""
    limits: Limits = http.app.state.limits
    if len(orjson.dumps(body)) > limits.body_bytes_max:
        raise WireError("too_large", f"a command's body has at most {limits.body_bytes_max} bytes of JSON")
    answer = await node.command(who, stream, key=parse_key(key), type=type, body=body, expect=expect)
    if answer.refusal is not None:
        raise WireError("rejected", answer.refusal.message, facts=answer.facts())
    told = {
        "stream": stream,
        "seqs": list(answer.seqs),
        "at": at_bytes(answer.at_ms).decode(),
        "dup": answer.dup,
    }
    return json_answer(told, 200 if answer.dup else 201)
