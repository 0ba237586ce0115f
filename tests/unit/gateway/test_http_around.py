"""gateway.http_edge and gateway.http_serve: what every answer carries, who is believed to call, TLS on the HTTP port."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from core.addresses import Trusted
from core.tokens import Identity
from gateway.http import make_app
from gateway.http_edge import HSTS, SECURITY_HEADERS, Edge, EdgeLimits
from gateway.http_serve import bind_http, serve_http
from gateway.tls import Tls
from tests.certs import Pair, make_pair

ORIGIN = "https://ops.example"
METHODS = ("get", "post", "put", "delete", "patch")


class Broken:
    """A service that knows everybody and does nothing but fail."""

    async def prove(self, credentials: object) -> Identity:
        return Identity("demo", "service:ops", frozenset({"admin"}), 2e9)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(*args: object, **named: object) -> Any:
            raise RuntimeError(name)

        return fail


@asynccontextmanager
async def client_of(url: str = "http://readback.test", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = make_app(Broken(), **options)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        yield client


def carries_all(response: httpx.Response, *, secure: bool = False) -> None:
    for name, value in (*SECURITY_HEADERS, *((HSTS,) if secure else ())):
        assert response.headers.get_list(name.decode()) == [value.decode()], (
            response.request.url,
            response.status_code,
        )
    assert secure or HSTS[0].decode() not in response.headers


def documented() -> list[tuple[str, str]]:
    """Every method and path of the OpenAPI document, with names put into the paths."""
    app: Any = make_app(Broken())  # type: ignore[arg-type]
    return [
        (
            method,
            path.replace("{stream}", "chat:ops").replace("{principal}", "user:amy").replace("{", "x").replace("}", ""),
        )
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if method in METHODS
    ]


@pytest.mark.parametrize("url", ["http://readback.test", "https://readback.test"])
async def test_every_answer_carries_the_security_headers(url: str) -> None:
    """Of every route of the OpenAPI document, with a token and without, whether it works, fails or is refused; of what is
    no route; and of the answers that are given before any route is asked. HSTS only where TLS is."""
    routes = documented()
    assert len(routes) > 10
    secure = url.startswith("https")
    seen = set()
    async with client_of(url, origins=frozenset({ORIGIN}), edge=EdgeLimits(request_bytes_max=1_000)) as client:
        for method, path in routes:
            for headers in (
                {},
                {"authorization": "Bearer x", "idempotency-key": "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"},
            ):
                json = {"body": {}, "role": "member", "stream": "chat:new"} if method in ("post", "put") else None
                response = await client.request(method, path, headers=headers, json=json)
                carries_all(response, secure=secure)
                seen.add(response.status_code)
        for method, path, content in (
            ("get", "/nowhere", b""),
            ("patch", "/v1/streams", b""),
            ("get", "/openapi.json", b""),
            ("head", "/livez", b""),
            ("post", "/v1/streams", b"x" * 1_001),
            ("get", "/v1/me/streams?token=abc", b""),
            ("get", "/v1/me/streams?" + "a" * 3_000, b""),
        ):
            response = await client.request(method, path, content=content)
            carries_all(response, secure=secure)
            seen.add(response.status_code)
        preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
        carries_all(await client.options("/v1/streams", headers=preflight), secure=secure)
        carries_all(
            await client.options("/v1/streams", headers={**preflight, "origin": "https://evil.example"}), secure=secure
        )
    assert seen >= {200, 400, 401, 404, 405, 413, 414, 500}


async def test_refusals_of_the_edge_carry_them_too() -> None:
    """Too many at once, and an address that is not listened to."""
    async with client_of(edge=EdgeLimits(requests_max=0), barred_s=lambda address: 2.5) as client:
        busy = await client.get("/v1/me/streams")
        assert busy.status_code == 503
        carries_all(busy)
    async with client_of(barred_s=lambda address: 2.5) as client:
        barred = await client.get("/v1/me/streams", headers={"authorization": "Bearer x"})
        assert (barred.status_code, barred.json()["code"], barred.headers["retry-after"]) == (429, "rate_limited", "3")
        carries_all(barred)
        assert (await client.get("/v1/me/streams")).status_code == 401  # nothing was guessed


# Pages of other origins


async def test_pages_of_allowed_origins_may_call() -> None:
    """They read every answer, refusals of the edge among them, and send what the API wants; others read nothing."""
    async with client_of(origins=frozenset({ORIGIN}), edge=EdgeLimits(request_bytes_max=10)) as client:
        wanted = "authorization,content-type,dpop,idempotency-key"
        ask = {"origin": ORIGIN, "access-control-request-method": "PUT", "access-control-request-headers": wanted}
        allowed = await client.options("/v1/streams/chat:ops/members/user:amy", headers=ask)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert "PUT" in allowed.headers["access-control-allow-methods"]
        assert (
            "access-control-allow-credentials" not in allowed.headers
        )  # no cookies: tokens are the pages' own business
        odd = await client.options("/v1/streams", headers={**ask, "access-control-request-headers": "x-odd"})
        assert odd.status_code == 400
        for path, content in (("/v1/me/streams", b""), ("/nowhere", b""), ("/v1/streams", b"x" * 11)):
            response = await client.request(
                "POST" if content else "GET", path, headers={"origin": ORIGIN}, content=content
            )
            assert response.headers["access-control-allow-origin"] == ORIGIN, path
            assert "retry-after" in response.headers["access-control-expose-headers"].lower()
            assert "Origin" in response.headers["vary"]
        for origin in ("https://evil.example", "null", "http://ops.example", ORIGIN + ".evil.example", ORIGIN + ":444"):
            response = await client.get("/v1/me/streams", headers={"origin": origin})
            assert "access-control-allow-origin" not in response.headers, origin
            refused = await client.options("/v1/streams", headers={**ask, "origin": origin})
            assert "access-control-allow-origin" not in refused.headers, origin


async def test_any_origin_is_any_but_without_credentials() -> None:
    """`*` in the settings: every page may call, with a token that it has got by itself."""
    async with client_of(origins=None) as client:
        response = await client.get("/v1/me/streams", headers={"origin": "https://any.example"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers


# Who calls


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("192.0.2.1", [], ("192.0.2.1", 4711)),
        ("::ffff:192.0.2.1", [], ("192.0.2.1", 4711)),
        ("192.0.2.1", ["for=198.51.100.1"], ("192.0.2.1", 4711)),
        ("10.0.0.9", [], ("10.0.0.9", 4711)),
        ("10.0.0.9", ["for=198.51.100.1"], ("198.51.100.1", 0)),
        ("10.0.0.9", ["for=203.0.113.1", 'for="[2001:db8::1]:5"'], ("2001:db8::1", 0)),
        ("10.0.0.9", ["for=198.51.100.1, for=10.0.0.1"], ("198.51.100.1", 0)),
        ("10.0.0.9", ["for=unknown"], ("10.0.0.9", 4711)),
        (None, ["for=198.51.100.1"], ("", 0)),
        ("not an address", [], ("", 0)),
    ],
)  # fmt: skip
async def test_the_client_is_whom_a_trusted_proxy_names(
    peer: str | None, lines: list[str], client: tuple[str, int]
) -> None:
    """`scope["client"]`, for whoever asks: canonical, and by `Forwarded` of trusted peers alone."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"forwarded", line.encode()) for line in lines] + [(b"x-forwarded-for", b"8.8.8.8")],
        "query_string": b"",
        "client": None if peer is None else (peer, 4711),
    }
    await Edge(app, trusted=Trusted(["10.0.0.0/8"]))(scope, receive, send)
    assert seen == [client]


# TLS


@asynccontextmanager
async def https_port(pair: Pair) -> AsyncIterator[tuple[int, Tls]]:
    sock, tls = bind_http("127.0.0.1", 0), Tls(pair.cert, pair.key)
    app = make_app(Broken())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            await serve_http(app, [sock], shutdown=trio.sleep_forever, tls=tls, task_status=task_status)

        port = sock.getsockname()[1]
        await nursery.start(serve)
        yield port, tls
        nursery.cancel_scope.cancel()


async def get(port: int, pair: Pair | ssl.SSLContext) -> httpx.Response:
    context = pair.client() if isinstance(pair, Pair) else pair
    async with httpx.AsyncClient(verify=context) as client:
        return await client.get(f"https://localhost:{port}/openapi.json")


async def test_the_http_api_over_tls(tmp_path: Path) -> None:
    """With the same certificate as the WebSocket's port, and its reload; answers say that it is to stay so."""
    old = make_pair(tmp_path)
    trusts_old = old.client()
    async with https_port(old) as (port, tls):
        response = await get(port, old)
        assert (response.status_code, response.http_version) == (200, "HTTP/1.1")
        carries_all(response, secure=True)
        new = make_pair(tmp_path)
        assert tls.reload()
        assert (await get(port, new)).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await get(port, trusts_old)


async def test_what_is_no_tls_on_that_port_harms_nobody(tmp_path: Path) -> None:
    """A plain request is told so; rubbish, silence and half a handshake end by themselves, and the next is served."""
    pair = make_pair(tmp_path)
    async with https_port(pair) as (port, _):
        for data, answer in (
            (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 400 "),
            (b"\x00" * 50, b"HTTP/1.1 400 "),
            (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b""),  # Trio keeps the alert to itself
            (b"\x16", b""),
            (b"", b""),
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(data)
                await stream.send_eof()
                got = b""
                with trio.fail_after(5):
                    async for part in stream:
                        got += part
                assert got.startswith(answer)
        assert (await get(port, pair)).status_code == 200
