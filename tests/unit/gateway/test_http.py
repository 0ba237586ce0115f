"""gateway.http: the wire contract over HTTP, its errors as problem documents, and its bounds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
import trio
import trio.testing

from core.limits import Limits
from core.model import Event, Member, MyStream, StreamFacts
from core.ports import Refused, Unavailable
from core.tokens import Identity, TokenError
from gateway.http import make_app
from gateway.http_edge import Edge, EdgeLimits
from gateway.http_routes import parse_key
from gateway.http_serve import PortInUse, bind_http, serve_http
from gateway.service import HTTP_STATUS, WIRE_CODES, Credentials, Health, Page, Sent, WireError

KEY = "5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55"
AT_MS = 1_795_253_400_123
AT = "2026-11-21T09:30:00.123Z"
ADMIN = {"authorization": "Bearer admin"}
AMY = {"authorization": "Bearer amy"}


def event(seq: int, type: str = "message", body: bytes = b'{"text":"hi"}') -> Event:
    return Event(3, seq + 10, 1, seq, KEY, type, "user:amy", AT_MS, body)


class FakeService:
    """A service that answers from a script: records calls, raises what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fail: Exception | None = None
        self.healthy = Health(live=True, ready=True, facts={"connections": 2})
        self.dup = False
        self.page = Page([event(1), event(2)], head=2, first=1)
        self.change: Event | None = event(3, "member.joined", b'{"principal":"user:bob","role":"member"}')
        self.hold: trio.Event | None = None
        self.refusals: list[tuple[str, str]] = []

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fail is not None:
            raise self.fail

    def denied(self, who: Identity, what: str) -> None:
        self.refusals.append((who.principal, what))

    async def prove(self, credentials: Credentials) -> Identity | TokenError:
        if credentials.token == "admin":
            return Identity("demo", "service:ops", frozenset({"admin"}), 2e9)
        if credentials.token == "amy":
            return Identity("demo", "user:amy", frozenset(), 2e9)
        return TokenError("bad signature")

    async def create_stream(self, who: Identity, stream: str, *, open: bool, members: Sequence[Member]) -> StreamFacts:
        self.note("create", who.principal, stream, open, list(members))
        return StreamFacts(1, who.tenant, stream, 3, 0, 1, open, None)

    async def put_member(self, who: Identity, stream: str, principal: str, role: str) -> Event | None:
        self.note("put", who.principal, stream, principal, role)
        return self.change

    async def remove_member(self, who: Identity, stream: str, principal: str) -> Event:
        self.note("remove", who.principal, stream, principal)
        return event(4, "member.left", b'{"principal":"user:bob"}')

    async def members(self, who: Identity, stream: str) -> list[Member]:
        self.note("members", who.principal, stream)
        return [Member("user:amy", "owner")]

    async def send(self, who: Identity, stream: str, *, key: str, type: str, body: object, expect: int | None) -> Sent:
        if self.hold is not None:
            await self.hold.wait()
        self.note("send", who.principal, stream, key, type, body, expect)
        return Sent(121, AT_MS, self.dup)

    async def read(self, who: Identity, stream: str, *, after: int, limit: int) -> Page:
        self.note("read", who.principal, stream, after, limit)
        return self.page

    async def my_streams(self, who: Identity) -> list[MyStream]:
        self.note("mine", who.principal)
        return [MyStream("chat:ops", "member", 121, 1, 121, 119), MyStream("chat:old", "member", 50, 45, 0, 0)]

    async def trim(self, who: Identity, stream: str, before: int) -> int:
        self.note("trim", who.principal, stream, before)
        return before

    def health(self) -> Health:
        return self.healthy

    def metrics_text(self) -> bytes:
        return b"# TYPE readback_x gauge\nreadback_x 1\n"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@asynccontextmanager
async def client_of(service: FakeService, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(service, **options))
    async with httpx.AsyncClient(transport=transport, base_url="http://readback.test") as client:
        yield client


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"], document["type"]) == (status, code, "about:blank")
    assert document["title"]
    assert document["detail"]
    return document


# Routes


async def test_create_stream(service: FakeService) -> None:
    """An admin creates a stream with its first members, and learns where its events are."""
    async with client_of(service) as client:
        response = await client.post(
            "/v1/streams",
            headers=ADMIN,
            json={"stream": "chat:ops", "open": False, "members": [{"principal": "user:amy", "role": "member"}]},
        )
    assert response.status_code == 201
    assert response.json() == {"stream": "chat:ops", "open": False, "head": 0, "first": 1}
    assert response.headers["location"] == "/v1/streams/chat:ops/events"
    assert service.calls == [("create", "service:ops", "chat:ops", False, [Member("user:amy", "member")])]


async def test_create_stream_needs_a_privileged_token(service: FakeService) -> None:
    """A plain principal cannot create streams; nothing reaches the service."""
    async with client_of(service) as client:
        is_problem(await client.post("/v1/streams", headers=AMY, json={"stream": "chat:ops"}), 403, "forbidden")
    assert service.calls == []


async def test_the_service_hears_of_what_was_forbidden_and_to_whom(service: FakeService) -> None:
    """Whichever route and whoever decided it; not of other refusals."""
    async with client_of(service) as client:
        await client.post("/v1/streams", headers=AMY, json={"stream": "chat:ops"})
        service.fail = WireError("forbidden", "not a member of chat:ops")
        await client.get("/v1/streams/chat:ops/members", headers=AMY)
        service.fail = WireError("not_found", "no stream chat:ops")
        await client.get("/v1/streams/chat:ops/members", headers=AMY)
        await client.get("/v1/streams/chat:ops/members")
    assert [principal for principal, _ in service.refusals] == ["user:amy", "user:amy"]
    assert "chat:ops" in service.refusals[1][1]


async def test_create_stream_names_a_member_once(service: FakeService) -> None:
    """The same principal twice is a mistake that nobody should have to guess about."""
    twice = [{"principal": "user:amy", "role": "member"}, {"principal": "user:amy", "role": "owner"}]
    async with client_of(service) as client:
        response = await client.post("/v1/streams", headers=ADMIN, json={"stream": "chat:ops", "members": twice})
    assert "twice" in is_problem(response, 400, "bad_request")["detail"]


async def test_put_member(service: FakeService) -> None:
    """The answer holds the membership's event, exactly as the socket shows it."""
    async with client_of(service) as client:
        response = await client.put("/v1/streams/chat:ops/members/user:bob", headers=AMY, json={"role": "reader"})
        assert response.json() == {
            "changed": True,
            "event": {
                "op": "event",
                "stream": "chat:ops",
                "seq": 3,
                "type": "member.joined",
                "key": KEY,
                "by": "user:amy",
                "at": AT,
                "body": {"principal": "user:bob", "role": "member"},
            },
        }
        service.change = None
        response = await client.put("/v1/streams/chat:ops/members/user:bob", headers=AMY)
        assert response.json() == {"changed": False, "event": None}
    assert service.calls == [
        ("put", "user:amy", "chat:ops", "user:bob", "reader"),
        ("put", "user:amy", "chat:ops", "user:bob", "member"),
    ]


async def test_remove_and_list_members(service: FakeService) -> None:
    """Both pass through, with the service's answer."""
    async with client_of(service) as client:
        removed = await client.delete("/v1/streams/chat:ops/members/user:bob", headers=AMY)
        assert removed.json()["event"]["type"] == "member.left"
        listed = await client.get("/v1/streams/chat:ops/members", headers=AMY)
        assert listed.json() == {"members": [{"principal": "user:amy", "role": "owner"}]}
    assert service.calls == [("remove", "user:amy", "chat:ops", "user:bob"), ("members", "user:amy", "chat:ops")]


async def test_send(service: FakeService) -> None:
    """201 with the place in the order; the same key again is 200 with dup."""
    async with client_of(service) as client:
        for dup, status in ((False, 201), (True, 200)):
            service.dup = dup
            response = await client.post(
                "/v1/streams/chat:ops/events",
                headers={**AMY, "idempotency-key": KEY.upper()},
                json={"type": "message", "body": {"text": "hi"}, "expect": 120},
            )
            assert response.status_code == status
            assert response.json() == {"stream": "chat:ops", "seq": 121, "at": AT, "dup": dup}
    assert service.calls[0] == ("send", "user:amy", "chat:ops", KEY, "message", {"text": "hi"}, 120)


@pytest.mark.parametrize("key", ["", "1", "not-a-uuid", KEY + "0", KEY.replace("-", ""), '"' + KEY + '"x'])
def test_keys_that_are_no_uuid_are_refused(key: str) -> None:
    """A key is a UUID; anything else is refused, not mapped to one."""
    with pytest.raises(WireError, match="Idempotency-Key is not a UUID"):
        parse_key(key)


def test_key_in_quotes_or_capitals() -> None:
    """A structured field's quotes and capital letters make no other key."""
    assert parse_key(f'"{KEY}"') == parse_key(KEY.upper()) == parse_key(f" {KEY} ") == KEY


async def test_send_without_key(service: FakeService) -> None:
    """A send without Idempotency-Key is refused, naming the header."""
    async with client_of(service) as client:
        response = await client.post("/v1/streams/chat:ops/events", headers=AMY, json={"body": 1})
    assert "Idempotency-Key" in is_problem(response, 400, "bad_request")["detail"]


async def test_send_too_large(service: FakeService) -> None:
    """An event's body has the socket's bound."""
    async with client_of(service, limits=Limits(body_bytes_max=100)) as client:
        headers = {**AMY, "idempotency-key": KEY}
        fits = await client.post("/v1/streams/chat:ops/events", headers=headers, json={"body": "x" * 98})
        assert fits.status_code == 201
        over = await client.post("/v1/streams/chat:ops/events", headers=headers, json={"body": "x" * 99})
        is_problem(over, 413, "too_large")


async def test_read(service: FakeService) -> None:
    """Events as on the wire, and where to read on."""
    async with client_of(service) as client:
        response = await client.get("/v1/streams/chat:ops/events?after=0&limit=2", headers=AMY)
        page = response.json()
        assert (page["stream"], page["head"], page["first"], page["next"]) == ("chat:ops", 2, 1, 2)
        assert page["events"][0] == {
            "op": "event",
            "stream": "chat:ops",
            "seq": 1,
            "type": "message",
            "key": KEY,
            "by": "user:amy",
            "at": AT,
            "body": {"text": "hi"},
        }
        service.page = Page([], head=7, first=8)
        assert (await client.get("/v1/streams/chat:ops/events", headers=AMY)).json()["next"] == 7
        await client.get("/v1/streams/chat:ops/events?limit=100000", headers=AMY)
    assert service.calls[0] == ("read", "user:amy", "chat:ops", 0, 2)
    assert service.calls[-1] == ("read", "user:amy", "chat:ops", 0, 500)


async def test_my_streams_count_unread(service: FakeService) -> None:
    """Unread is what is kept past the read marker: trimmed events are not unread."""
    async with client_of(service) as client:
        streams = (await client.get("/v1/me/streams", headers=AMY)).json()["streams"]
    assert [(s["stream"], s["unread"]) for s in streams] == [("chat:ops", 2), ("chat:old", 6)]
    assert streams[0] == {
        "stream": "chat:ops",
        "role": "member",
        "head": 121,
        "first": 1,
        "delivered": 121,
        "read": 119,
        "unread": 2,
    }


async def test_trim(service: FakeService) -> None:
    """Trimming says what is still kept."""
    async with client_of(service) as client:
        response = await client.delete("/v1/streams/chat:ops/events?before=50", headers=ADMIN)
        assert response.json() == {"stream": "chat:ops", "first": 50}
        is_problem(await client.delete("/v1/streams/chat:ops/events", headers=ADMIN), 400, "bad_request")


# Who


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "Authorization"),
        ({"authorization": "Bearer forged"}, "bad signature"),
        ({"authorization": "Basic YTpi"}, "Authorization"),
        ({"authorization": "Bearer"}, "Authorization"),
    ],
)
async def test_unauthorized(service: FakeService, headers: dict[str, str], detail: str) -> None:
    """Without a token that holds: 401 with the reason and WWW-Authenticate, and no call."""
    async with client_of(service) as client:
        response = await client.get("/v1/me/streams", headers=headers)
    assert detail in is_problem(response, 401, "unauthorized")["detail"]
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert service.calls == []


@pytest.mark.parametrize("name", ["token", "access_token"])
async def test_token_in_the_url_is_refused(service: FakeService, name: str) -> None:
    """URLs end up in logs, so a token there is refused, even beside a good header."""
    async with client_of(service) as client:
        response = await client.get(f"/v1/me/streams?{name}=amy", headers=AMY)
    assert "never in the URL" in is_problem(response, 400, "bad_request")["detail"]


# Errors


@pytest.mark.parametrize("code", sorted(WIRE_CODES))
async def test_every_wire_code_has_its_status(service: FakeService, code: str) -> None:
    """Whatever code the service raises arrives as that code with the table's status."""
    service.fail = WireError(code, "because", retry_after_s=1.2, head=121)
    async with client_of(service) as client:
        response = await client.get("/v1/me/streams", headers=AMY)
    document = is_problem(response, HTTP_STATUS[code], code)
    assert (document["detail"], document["retry_after"], document["head"]) == ("because", 1.2, 121)
    assert response.headers["retry-after"] == "2"


async def test_store_errors(service: FakeService) -> None:
    """The log's refusals keep their code; its absence is 503 with a time to come back."""
    async with client_of(service) as client:
        service.fail = Refused("conflict", "the stream exists")
        is_problem(await client.get("/v1/me/streams", headers=AMY), 409, "conflict")
        service.fail = Unavailable("pool exhausted at 10.0.0.7", retry_after_s=0.5)
        response = await client.get("/v1/me/streams", headers=AMY)
        document = is_problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "1"
        assert "10.0.0.7" not in document["detail"]


async def test_a_fault_of_ours_shows_nothing(service: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    """The unexpected is one 500 without internals, logged once with its traceback; the next request is fine."""
    service.fail = RuntimeError("SELECT secret FROM readback.events")
    async with client_of(service) as client:
        response = await client.get("/v1/me/streams", headers=AMY)
        is_problem(response, 500, "internal")
        assert "SELECT" not in response.text
        assert "Traceback" not in response.text
        assert len([record for record in caplog.records if record.exc_info]) == 1
        service.fail = None
        assert (await client.get("/v1/me/streams", headers=AMY)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/ws", 404, "not_found"),
        ("POST", "/v1/me/streams", 405, "bad_request"),
        ("GET", "/v1/streams/flat/events", 400, "bad_request"),
        ("GET", "/v1/streams/chat:a%0Ab/events", 400, "bad_request"),
        ("GET", "/v1/streams/chat:ops%0A/events", 400, "bad_request"),
        ("GET", "/v1/streams/chat:ops/events?after=-1", 400, "bad_request"),
        ("GET", "/v1/streams/chat:ops/events?after=x", 400, "bad_request"),
        ("GET", "/v1/streams/chat:ops/events?limit=0", 400, "bad_request"),
        ("GET", "/v1/streams/chat:ops/events?after=9007199254740992", 400, "bad_request"),
        ("DELETE", "/v1/streams/chat:ops/members/amy", 400, "bad_request"),
        ("GET", "/v1/me/streams?q=" + "x" * 3000, 414, "bad_request"),
    ],
)
async def test_bad_requests(service: FakeService, method: str, path: str, status: int, code: str) -> None:
    """Unknown routes, methods and values are problem documents too, and reach no service."""
    async with client_of(service) as client:
        is_problem(await client.request(method, path, headers=AMY), status, code)
    assert service.calls == []


async def test_method_not_allowed_says_which(service: FakeService) -> None:
    """RFC 9110, section 15.5.6: a 405 carries Allow, with every method of the path. It named those of the first route with
    that path alone: for events, POST."""
    async with client_of(service) as client:
        assert (await client.post("/v1/me/streams", headers=AMY)).headers["allow"] == "GET"
        assert (await client.patch("/v1/streams/chat:ops/events", headers=AMY)).headers["allow"] == "GET, POST, DELETE"


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"null",
        b"",
        b'{"body":NaN}',
        b'{"body":1e999}',
        b'{"body":"\\ud800"}',
        b'{"body":"\xff"}',
        b'{"body":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"body":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"type":"message"}',
        b'{"body":1,"type":"Message"}',
        b'{"body":1,"type":"a\\n"}',
        b'{"body":1,"expect":-1}',
        b'{"body":1,"expect":true}',
        b'{"body":1,"expect":"1"}',
        b'{"body":1,"expcet":1}',
    ],
)
async def test_bad_bodies(service: FakeService, content: bytes) -> None:
    """JSON that is not JSON, too deep, or of another shape gets a clear 400."""
    async with client_of(service) as client:
        response = await client.post(
            "/v1/streams/chat:ops/events",
            headers={**AMY, "idempotency-key": KEY, "content-type": "application/json"},
            content=content,
        )
    is_problem(response, 400, "bad_request")
    assert service.calls == []


async def test_a_body_of_another_type(service: FakeService) -> None:
    """A form is not taken for JSON."""
    async with client_of(service) as client:
        response = await client.post(
            "/v1/streams/chat:ops/events", headers={**AMY, "idempotency-key": KEY}, data={"body": "1"}
        )
    is_problem(response, 400, "bad_request")


async def test_integers_beyond_64_bits_do_no_harm(service: FakeService) -> None:
    """A number that orjson could not write again comes through as the float that every JSON reader makes of it."""
    async with client_of(service) as client:
        response = await client.post(
            "/v1/streams/chat:ops/events",
            headers={**AMY, "idempotency-key": KEY, "content-type": "application/json"},
            content=b'{"body":123456789012345678901234567890}',
        )
    assert response.status_code == 201
    assert service.calls[0][5] == 1.2345678901234568e29


# Bounds


async def test_request_bytes_max(service: FakeService) -> None:
    """Too long a body is refused by its declared length, and when it lies, by its bytes."""
    async with client_of(service, edge=EdgeLimits(request_bytes_max=100)) as client:
        response = await client.post("/v1/streams", headers=ADMIN, content=b"x" * 101)
        is_problem(response, 413, "too_large")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 10

        is_problem(await client.post("/v1/streams", headers=ADMIN, content=chunks()), 413, "too_large")


async def test_a_body_that_never_ends(autojump_clock: trio.testing.MockClock) -> None:
    """A dribbled body is given up after request_timeout_s."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await trio.sleep(1)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app must not be reached")

    scope = {"type": "http", "method": "POST", "path": "/v1/streams", "headers": [], "query_string": b""}
    await Edge(app, EdgeLimits(request_timeout_s=5))(scope, receive, send)
    assert sent[0]["status"] == 408
    assert orjson.loads(sent[1]["body"])["code"] == "bad_request"


async def test_requests_max(service: FakeService) -> None:
    """Over the bound requests are shed with a time to come back; probes are still answered."""
    service.hold = trio.Event()
    async with client_of(service, edge=EdgeLimits(requests_max=1)) as client, trio.open_nursery() as nursery:
        held: list[httpx.Response] = []

        async def hold() -> None:
            headers = {**AMY, "idempotency-key": KEY}
            held.append(await client.post("/v1/streams/chat:ops/events", headers=headers, json={"body": 1}))

        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        response = await client.get("/v1/me/streams", headers=AMY)
        is_problem(response, 503, "overloaded")
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/livez")).status_code == 200
        service.hold.set()
        service.hold = None
        await trio.testing.wait_all_tasks_blocked()
        assert held[0].status_code == 201
        assert (await client.get("/v1/me/streams", headers=AMY)).status_code == 200


async def test_security_headers_on_every_answer(service: FakeService) -> None:
    """Good answers, problems and probes alike say: do not sniff, cache, frame or refer."""
    async with client_of(service) as client:
        for path in ("/v1/me/streams", "/livez", "/nowhere", "/openapi.json"):
            headers = (await client.get(path, headers=AMY)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"


async def test_cross_origin_only_where_allowed(service: FakeService) -> None:
    """The WebSocket's list of origins holds for pages that call the API as well; the default allows none."""
    ask = {"origin": "https://ops.example", "access-control-request-method": "POST"}
    async with client_of(service, origins=frozenset({"https://ops.example"})) as client:
        allowed = await client.options("/v1/streams", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://ops.example"
        other = await client.options("/v1/streams", headers={**ask, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
    async with client_of(service) as client:
        assert "access-control-allow-origin" not in (await client.options("/v1/streams", headers=ask)).headers


# Probes and documents


async def test_probes(service: FakeService) -> None:
    """Live and ready are different questions; reasons are given; no token is asked for."""
    async with client_of(service) as client:
        assert (await client.get("/readyz")).json() == {
            "status": "ok",
            "draining": False,
            "reasons": [],
            "facts": {"connections": 2},
        }
        service.healthy = Health(live=True, ready=False, reasons=["the database does not answer"], draining=True)
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["the database does not answer"]
        assert ready.json()["draining"] is True
        assert (await client.get("/livez")).status_code == 200
        service.healthy = Health(live=False, ready=False, reasons=["the log contradicts itself"])
        assert (await client.get("/livez")).status_code == 503


async def test_metrics(service: FakeService) -> None:
    """The node's text comes out as it is, under Prometheus' content type."""
    async with client_of(service) as client:
        response = await client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.content == service.metrics_text()


async def test_openapi_is_complete(service: FakeService) -> None:
    """Every operation has a name, a summary, its errors as problem documents and a schema that resolves."""
    async with client_of(service) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    assert {(path, method) for path, method, _ in operations} == {
        ("/v1/streams", "post"),
        ("/v1/streams/{stream}/members", "get"),
        ("/v1/streams/{stream}/members/{principal}", "put"),
        ("/v1/streams/{stream}/members/{principal}", "delete"),
        ("/v1/streams/{stream}/events", "post"),
        ("/v1/streams/{stream}/events", "get"),
        ("/v1/streams/{stream}/events", "delete"),
        ("/v1/me/streams", "get"),
        ("/v1/flights", "post"),
        ("/v1/flights/{flight}/commands", "post"),
        ("/livez", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names)
    for path, _, operation in operations:
        assert operation["summary"]
        assert "application/json" not in operation["responses"].get("422", {}).get("content", {}), "FastAPI's own"
        if path.startswith("/v1/"):
            assert operation["security"] == [{"HTTPBearer": []}]
            for status in ("400", "401", "500", "503"):
                problem = operation["responses"][status]["content"]["application/problem+json"]
                assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert problem["example"]["status"] == int(status)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', orjson.dumps(document).decode()))
    assert references == set(document["components"]["schemas"])


async def test_examples_are_valid(service: FakeService) -> None:
    """What the document shows as a request is taken as one."""
    async with client_of(service) as client:
        document = (await client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        create = schemas["CreateStream"]["examples"][0]
        assert (await client.post("/v1/streams", headers=ADMIN, json=create)).status_code == 201
        send = schemas["SendEvent"]["examples"][0]
        headers = {**AMY, "idempotency-key": KEY}
        assert (await client.post("/v1/streams/chat:ops/events", headers=headers, json=send)).status_code == 201
        put = schemas["PutMember"]["examples"][0]
        assert (await client.put("/v1/streams/chat:ops/members/user:bob", headers=AMY, json=put)).status_code == 200


# On the network


async def test_over_hypercorn(service: FakeService) -> None:
    """The same app through a real socket: answers, keeps its bounds, and ends when told to."""
    sock = bind_http("127.0.0.1", 0)
    port = sock.getsockname()[1]
    stop = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_http(make_app(service), [sock], shutdown=stop.wait, task_status=task_status)

            await nursery.start(serve)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                assert (await client.get("/readyz")).status_code == 200
                response = await client.post(
                    "/v1/streams/chat:ops/events", headers={**AMY, "idempotency-key": KEY}, json={"body": {"a": 1}}
                )
                assert response.json()["seq"] == 121
                assert "server" not in response.headers
                is_problem(await client.get("/nowhere"), 404, "not_found")
            with pytest.raises(PortInUse, match="READBACK_HTTP_PORT"):
                bind_http("127.0.0.1", port)
            raw = await trio.open_tcp_stream("127.0.0.1", port)
            async with raw:
                await raw.send_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                assert (await raw.receive_some(4096)).startswith(b"HTTP/1.1 400")
            stop.set()
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream("127.0.0.1", port)
