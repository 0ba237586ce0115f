"""What stands between the network and the routes: bounds, headers, and the one place where an exception ends.

For: ASGI middlewares around the FastAPI app. Promises: whatever comes in, exactly one answer goes out; an error is an
RFC 9457 problem document without internals; a body is bounded in bytes and in time before anything parses it; what the
routes see as JSON was read and written again by orjson (so no NaN, no lone surrogates, no integer beyond 64 bits) and
nests no deeper than the wire allows; ``scope["client"]`` is the caller's address as best known; every answer, those for
browsers' preflights too, carries the security headers. Does not: authorise, or know any route.

The body is gathered here rather than streamed because every route wants it whole and none takes more than
``request_bytes_max``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import orjson
import trio

from core.addresses import Trusted, canonical
from core.proxy import forwarded_for
from core.wire import too_deep
from gateway.service import HTTP_STATUS

log = logging.getLogger("readback.http")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBLEM_TYPE = "application/problem+json"
_FRAMINGS = frozenset((b"content-length", b"transfer-encoding"))

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),  # answers are one principal's own
    # Opened as a page, an answer does nothing and is in no frame (so X-Frame-Options says nothing more). The first does not
    # stand for the next two.
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    # No other site's page may draw an answer into its process as an image or a script; CORS is for pages that may call.
    (b"cross-origin-resource-policy", b"same-origin"),
    # Nothing here needs a device, and a page that framed us all the same could lend us none.
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"referrer-policy", b"no-referrer"),  # paths name streams
    (b"x-content-type-options", b"nosniff"),  # a body that somebody sent is JSON, whatever it looks like
)
HSTS: tuple[bytes, bytes] = (b"strict-transport-security", b"max-age=31536000")
"""Over TLS only: over plain HTTP browsers must ignore it (RFC 6797, section 8.1). Subdomains are not ours to speak for."""


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds of the HTTP edge alone; what it shares with the socket is in `core.limits.Limits`."""

    request_bytes_max: int = 262_144  # the longest: a stream created with 1,000 members of the longest names
    request_timeout_s: float = 10.0  # from the head to the last byte of the body; a slow sender gets this and no more
    requests_max: int = 64  # at once; they share the sockets' thread, where each takes about 1 ms; more: overloaded
    query_bytes_max: int = 2_048


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retry_after_s: float | None = None,
    head: int | None = None,
    errors: list[dict[str, str]] | None = None,
    facts: Mapping[str, object] | None = None,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An RFC 9457 problem document as (status, headers, body)."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    if facts is not None:
        document.update(facts)
    if head is not None:
        document["head"] = head
    if errors is not None:
        document["errors"] = errors
    if retry_after_s is not None:
        document["retry_after"] = retry_after_s
        # RFC 9110, section 10.2.3: whole seconds. Rounded up, so that nobody comes back too early.
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after_s))).encode()))
    if status == 401:
        error = b' error="invalid_token"' if code == "unauthorized" else b""
        headers.append((b"www-authenticate", b'Bearer realm="readback",' + error if error else b"Bearer"))
    body = orjson.dumps(document)
    headers.append((b"content-length", str(len(body)).encode()))
    return status, headers, body


class _Refusal(Exception):
    def __init__(self, status: int, code: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.answer = problem(status, code, detail, retry_after_s=retry_after_s)


class SecurityHeaders:
    """The outermost middleware: the headers that every answer carries, whoever gives it."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        extra = (*SECURITY_HEADERS, HSTS) if scope.get("scheme") == "https" else SECURITY_HEADERS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Edge:
    """The middleware within it, and within CORS. Everything that is not an HTTP request (lifespan, a WebSocket) is passed on
    as it is.

    ``trusted`` are the proxies whose ``Forwarded`` is believed. ``barred_s`` says how long a caller's address is not listened
    to, for wrong tokens: 0.0 where it is.
    """

    def __init__(
        self,
        app: App,
        limits: EdgeLimits | None = None,
        depth_max: int = 64,
        *,
        trusted: Trusted | None = None,
        barred_s: Callable[[str], float] = lambda address: 0.0,
    ) -> None:
        self.app = app
        self.limits = limits or EdgeLimits()
        self.depth_max = depth_max
        self.trusted = trusted or Trusted()
        self.barred_s = barred_s
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        async def answer(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
            await send_on({"type": "http.response.start", "status": status, "headers": headers})
            await send_on({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

        if {name for name, _ in scope["headers"]} >= _FRAMINGS:
            # RFC 9112, section 6.1: whoever stands between may have seen this request end elsewhere, and so what follows
            # on the connection may be somebody else's; the server must close it. h11 alone would go on.
            status, headers, body = problem(400, "bad_request", "Content-Length or Transfer-Encoding, not both")
            await answer(status, [*headers, (b"connection", b"close")], body)
            return
        # Probes must be answered above all when everything else is refused.
        counted = scope["path"] not in ("/livez", "/readyz", "/metrics")
        if counted and self.running >= self.limits.requests_max:
            await answer(*problem(503, "overloaded", "too many requests at once", retry_after_s=1.0))
            return
        self.running += counted
        try:
            self._see_client(scope)
            self._check_query(scope)
            await self.app(scope, await self._whole_body(scope, receive), send_on)
        except _Refusal as refusal:
            await answer(*refusal.answer)
        except Exception:
            # The route and the traceback are for the operator; the client learns that it was us, and no more.
            log.exception("HTTP request failed: %s %s", scope["method"], scope.get("route", scope["path"]))
            if started:
                raise  # half an answer is out; only ending the connection still says so
            await answer(*problem(500, "internal", "something went wrong on our side; it was logged"))
        finally:
            self.running -= counted

    def _see_client(self, scope: Scope) -> None:
        """Who calls: the peer, or whom a trusted one speaks for; and whether it is listened to."""
        peer = scope.get("client")
        address = (canonical(peer[0]) or "") if peer else ""
        port = peer[1] if peer and address else 0
        headers = scope["headers"]
        if address in self.trusted:
            said = [value.decode("latin-1") for name, value in headers if name == b"forwarded"]
            spoken_for = forwarded_for(",".join(said), self.trusted)
            if spoken_for is not None:
                address, port = spoken_for, 0
        scope["client"] = (address, port)
        if any(name == b"authorization" for name, _ in headers):
            wait_s = self.barred_s(address)
            if wait_s:
                raise _Refusal(429, "rate_limited", "too many wrong tokens from this address", wait_s)

    def _check_query(self, scope: Scope) -> None:
        query: bytes = scope.get("query_string", b"")
        if len(query) > self.limits.query_bytes_max:
            raise _Refusal(414, "bad_request", f"a query has at most {self.limits.query_bytes_max} bytes")
        if b"token" in query:
            names = {name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
            if not names.isdisjoint(("token", "access_token")):
                # URLs end up in logs and histories.
                raise _Refusal(400, "bad_request", "a token travels in the Authorization header, never in the URL")

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """Gather the body within its bounds; a `receive` that hands it out once and then whatever comes after."""
        limits = self.limits
        headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"content-type")}
        declared = headers.get(b"content-length", b"")
        too_large = _Refusal(413, "too_large", f"a request body has at most {limits.request_bytes_max} bytes")
        if declared.isdigit() and (len(declared) > 15 or int(declared) > limits.request_bytes_max):
            raise too_large
        chunks: list[bytes] = []
        size = 0
        with trio.move_on_after(limits.request_timeout_s) as waiting:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Refusal(400, "bad_request", "the request ended before its body did")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limits.request_bytes_max:
                    raise too_large
                if chunk:
                    chunks.append(chunk)
                if not message.get("more_body", False):
                    break
        if waiting.cancelled_caught:
            raise _Refusal(408, "bad_request", f"a request body comes whole within {limits.request_timeout_s:g} s")
        body = b"".join(chunks)
        if body and headers.get(b"content-type", b"").split(b";")[0].strip().lower() == b"application/json":
            body = self._sane_json(body)
        handed_out = False

        async def receive_whole() -> Message:
            nonlocal handed_out
            if handed_out:
                return await receive()
            handed_out = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive_whole

    def _sane_json(self, body: bytes) -> bytes:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _Refusal(400, "bad_request", f"the body is not JSON: {error.msg}") from None
        if too_deep(value, self.depth_max):
            raise _Refusal(400, "bad_request", f"the body nests deeper than {self.depth_max}")
        return orjson.dumps(value)


assert set(HTTP_STATUS) >= {"bad_request", "too_large", "overloaded", "internal"}, "codes used here are the wire's"
