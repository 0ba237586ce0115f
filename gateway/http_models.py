"""The shapes of the HTTP API: what requests hold, what answers hold, and the problem document of every error.

For: FastAPI's validation of requests and a complete OpenAPI document. Promises: names and meanings are the wire
contract's; every model carries an example that is valid by its own schema. Does not: validate answers at run time (they
are written as bytes by `gateway.http`, an event by the same encoder as the socket's).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# pydantic's patterns are Rust's: there `$` is the end of the text, not the end of a line.
STREAM_NAME_PATTERN = r"^[A-Za-z0-9._~-]{1,128}$"
STREAM_PATTERN = r"^(chat|flight|trip|user|audit):[A-Za-z0-9._~-]{1,128}$"
PRINCIPAL_PATTERN = r"^(user|device|service):[A-Za-z0-9._~@+-]{1,128}$"
FLIGHT_PATTERN = r"^[A-Za-z0-9_~-]{1,96}$"
"""Of a flight's own name: without dots, which set off what belongs to it (`.seats`)."""
TYPE_PATTERN = r"^[a-z][a-z0-9_.-]{0,63}$"
KEY_PATTERN = r'^"?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"?$'
"""For the document; the route reads the header itself and says what is wrong in its own words."""
SEQ_MAX = 2**53 - 1
MEMBERS_MAX = 1_000  # of one creation; a bigger room adds the rest one by one, each with its place in the order

Role = Literal["owner", "member", "reader"]
_KEY = "5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55"
_EVENT: dict[str, Any] = {
    "op": "event",
    "stream": "chat:ops",
    "seq": 121,
    "type": "message",
    "key": _KEY,
    "by": "user:amy",
    "at": "2026-11-21T09:30:00.000Z",
    "body": {"text": "hi"},
}
_JOINED: dict[str, Any] = {
    **_EVENT,
    "seq": 122,
    "type": "member.joined",
    "body": {"principal": "user:bob", "role": "member"},
}


def example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class RequestModel(BaseModel):
    """Requests refuse unknown fields: a misspelt ``expect`` that did nothing would break its sender's promise."""

    model_config = ConfigDict(extra="forbid", strict=True)


class MemberModel(RequestModel):
    model_config = example({"principal": "user:amy", "role": "member"})

    principal: str = Field(pattern=PRINCIPAL_PATTERN, description="user:NAME, device:NAME or service:NAME")
    role: Role = Field(description="owner: also manages members; member: reads and sends; reader: reads")


class CreateStream(RequestModel):
    model_config = example(
        {"stream": "chat:ops", "open": False, "members": [{"principal": "user:amy", "role": "member"}]}
    )

    stream: str = Field(pattern=STREAM_PATTERN, description="kind:name; the tenant is the token's")
    open: bool = Field(False, description="whether every principal of the tenant is a member")
    members: list[MemberModel] = Field(default_factory=list, max_length=MEMBERS_MAX, description="the first members")


class CreateFlight(RequestModel):
    model_config = example(
        {"flight": "QX12-20261121", "members": [{"principal": "user:amy", "role": "owner"}], "open": False}
    )

    flight: str = Field(pattern=FLIGHT_PATTERN, description="names the streams flight:NAME and flight:NAME.seats")
    open: bool = Field(False, description="whether every principal of the tenant is a member")
    members: list[MemberModel] = Field(default_factory=list, max_length=MEMBERS_MAX, description="the first members")


class FlightModel(BaseModel):
    model_config = example(
        {"flight": "QX12-20261121", "streams": ["flight:QX12-20261121", "flight:QX12-20261121.seats"]}
    )

    flight: str
    streams: list[str] = Field(description="those that the flight has now")


class GiveCommand(RequestModel):
    model_config = example({"type": "depart", "body": {"at": "2026-11-21T09:30:00Z", "source": "acars"}, "expect": 7})

    type: str = Field(pattern=TYPE_PATTERN, description="the command's verb; docs/flights.md has the table")
    body: dict[str, Any] = Field(default_factory=dict, description="what the verb needs")
    expect: int | None = Field(None, ge=0, le=SEQ_MAX, description="obey only if the stream's head is this seq")


class CommandedModel(BaseModel):
    model_config = example(
        {"stream": "flight:QX12-20261121", "seqs": [8, 9], "at": "2026-11-21T09:30:00.000Z", "dup": False}
    )

    stream: str
    seqs: list[int] = Field(description="of the events that the command became, ascending without gaps")
    at: str = Field(description="when they were committed")
    dup: bool = Field(description="the key was used before: this is what was answered then")


class PutMember(RequestModel):
    model_config = example({"role": "member"})

    role: Role = "member"


class SendEvent(RequestModel):
    model_config = example({"type": "message", "body": {"text": "hi"}, "expect": 120})

    type: str = Field("message", pattern=TYPE_PATTERN, description="a lower-case word; member.* is the log's own")
    body: Any = Field(description="any JSON")
    expect: int | None = Field(None, ge=0, le=SEQ_MAX, description="append only if the stream's head is this seq")


class StreamModel(BaseModel):
    model_config = example({"stream": "chat:ops", "open": False, "head": 0, "first": 1})

    stream: str
    open: bool
    head: int = Field(description="seq of the last event, 0 when there is none")
    first: int = Field(description="lowest seq still kept")


class MembersModel(BaseModel):
    model_config = example({"members": [{"principal": "user:amy", "role": "member"}]})

    members: list[MemberModel]


class EventModel(BaseModel):
    """An event, exactly as on the socket."""

    model_config = example(_EVENT)

    op: Literal["event"]
    stream: str
    seq: int = Field(description="its place in the stream: from 1, no gaps")
    type: str
    key: str = Field(description="the UUID that its sender chose")
    by: str = Field(description="the principal that sent it")
    at: str = Field(description="RFC 3339 UTC with milliseconds", json_schema_extra={"format": "date-time"})
    body: Any


class MemberChanged(BaseModel):
    model_config = example({"changed": True, "event": _JOINED})

    changed: bool = Field(description="false when the member had this role already; then there is no event")
    event: EventModel | None = Field(description="the change's own place in the order of the stream")


class SentModel(BaseModel):
    model_config = example({"stream": "chat:ops", "seq": 121, "at": "2026-11-21T09:30:00.000Z", "dup": False})

    stream: str
    seq: int
    at: str = Field(json_schema_extra={"format": "date-time"})
    dup: bool = Field(description="the key was used before: seq and at are the first event's")


class PageModel(BaseModel):
    model_config = example({"stream": "chat:ops", "head": 122, "first": 1, "next": 121, "events": [_EVENT]})

    stream: str
    head: int
    first: int = Field(description="lowest seq still kept; what lies between `after` and it was trimmed")
    next: int = Field(description="pass as `after` to read on; equals head once everything was read")
    events: list[EventModel]


class MyStreamModel(BaseModel):
    model_config = example(
        {"stream": "chat:ops", "role": "member", "head": 121, "first": 1, "delivered": 121, "read": 119, "unread": 2}
    )

    stream: str
    role: str
    head: int
    first: int
    delivered: int
    read: int
    unread: int = Field(description="kept events past what was read")


class MyStreamsModel(BaseModel):
    streams: list[MyStreamModel]


class TrimmedModel(BaseModel):
    model_config = example({"stream": "chat:ops", "first": 100})

    stream: str
    first: int = Field(description="lowest seq still kept")


class HealthModel(BaseModel):
    model_config = example({"status": "ok", "draining": False, "reasons": [], "facts": {"connections": 2}})

    status: Literal["ok", "failing"]
    draining: bool
    reasons: list[str] = Field(description="why it is failing, for people")
    facts: dict[str, int | float | str]


class Problem(BaseModel):
    """An RFC 9457 problem document. `code` is the wire contract's, the same as on the socket."""

    model_config = example(
        {
            "type": "about:blank",
            "title": "Conflict",
            "status": 409,
            "detail": "the stream's head is 121, not 120",
            "code": "conflict",
            "head": 121,
        }
    )

    type: str = Field(description="always about:blank: `code` says which problem it is")
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what was wrong with this request, for people")
    code: str = Field(description="stable, for programs")
    head: int | None = Field(None, description="with conflict: the stream's head")
    retry_after: float | None = Field(None, description="seconds; also in the Retry-After header, rounded up")
    errors: list[dict[str, str]] | None = Field(None, description="with bad_request: each field that was refused")
    reason: str | None = Field(None, description="with rejected: the machine's word for why, for programs")
    cite: str | None = Field(
        None, description="with rejected: the paragraph of the rule that was broken, if it was one"
    )
    dup: bool | None = Field(None, description="with rejected: the command was refused before, under the same key")
