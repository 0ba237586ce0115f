"""The HTTP port of the same process: what is thrown at it harms neither those on the WebSockets nor the next request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from gateway import http_serve
from gateway.http import make_app
from gateway.http_serve import bind_http, serve_http
from tests.hostile.peer import text
from tests.hostile.scene import ROOM, VAULT, Scene, forbidden_words, scene
from tests.nodes import token

HEAD = b"Host: a\r\nAuthorization: Bearer " + token("user:mallory").encode() + b"\r\n"
KEY = b"Idempotency-Key: 0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11\r\n"


@asynccontextmanager
async def http_scene() -> AsyncIterator[tuple[Scene, int]]:
    """A scene whose node serves HTTP too, and the port of that."""
    async with scene() as stage:
        sock = bind_http("127.0.0.1", 0)
        port = sock.getsockname()[1]
        app = make_app(stage.node.desk)

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            await serve_http(app, [sock], shutdown=trio.sleep_forever, task_status=task_status)

        await stage.nursery.start(serve)
        yield stage, port
        answer = await said(port, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def said(port: int, data: bytes) -> bytes:
    """Send, say no more, and read to the end."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    got = bytearray()

    async def say() -> None:
        try:
            await stream.send_all(data)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass  # refused before all was said

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(say)
        with trio.fail_after(20):
            try:
                async for part in stream:
                    got += part
            except trio.BrokenResourceError:
                pass
        nursery.cancel_scope.cancel()
    return bytes(got)


def send(body: bytes, *, extra: bytes = KEY, stream: str = ROOM, length: int | None = None) -> bytes:
    line = b"POST /v1/streams/%b/events HTTP/1.1\r\n" % stream.encode()
    size = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return line + HEAD + b"Content-Type: application/json\r\nConnection: close\r\n" + extra + size + b"\r\n" + body


RUBBISH: dict[str, bytes] = {
    "nothing": b"",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "HTTP/2 preface and nonsense": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
    "zeros": b"\0" * 10_000,
    "half a request": b"GET /livez HT",
    "a header of 100 KB": b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "20,000 headers": b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    "an upgrade with a trailing byte": (
        b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nx"
    ),
    "both lengths": b"POST /v1/streams HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that lies": b"POST /v1/streams HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nabc",
    "less than was announced": send(b"{}", length=100),
    "a target with control characters": b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", RUBBISH)
async def test_rubbish_on_the_http_port_is_its_senders_trouble(name: str) -> None:
    """Whatever it is, it ends there; the port answers the next request. One byte behind an upgrade request once raised
    in Hypercorn's code of that connection, out of its server and through the node's nursery: the whole gateway ended."""
    async with http_scene() as (stage, port):
        answer = await said(port, RUBBISH[name])
        if name.startswith("an upgrade"):
            stage.pardon("Error in ASGI Framework")
        assert not forbidden_words(answer)
        assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 500"))


UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
H2C = (
    b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
)
SECOND = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
"""What a smuggler wants answered: nothing else on this page answers 200."""
POST = b"POST /v1/streams HTTP/1.1\r\nHost: a\r\n"

SMUGGLED: dict[str, bytes] = {
    "behind an upgrade": UPGRADE + SECOND,
    "behind an upgrade, in a frame": UPGRADE + text(SECOND),
    "behind an upgrade, after a close frame": UPGRADE + b"\x88\x80" + b"\0" * 4 + SECOND,
    "behind an upgrade, after 64 KB of rubbish": UPGRADE + b"\xff" * 65_536 + SECOND,
    "behind an upgrade to h2c, rubbish": H2C + b"\xff" * 64,
    "behind an upgrade with a length": UPGRADE.replace(b"Host", b"Content-Length: 5\r\nHost") + b"hello",
    "in a body of two lengths": POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "in a body of two lengths in one field": POST + b"Content-Length: 0, %d\r\n\r\n" % len(SECOND) + SECOND,
    "in a body of both lengths": (
        POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SECOND)) + SECOND
    ),
    "in a body of both lengths, the other way": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\nzz\r\n"
    + SECOND,
    "in a body with a length and a sign": POST + b"Content-Length: +0\r\n\r\n" + SECOND,
    "in a body with a length below nothing": POST + b"Content-Length: -1\r\n\r\n" + SECOND,
    "in a body with a length in hex": POST + b"Content-Length: 0x0\r\n\r\n" + SECOND,
    "in a body with a length of 10,000 digits": POST + b"Content-Length: " + b"9" * 10_000 + b"\r\n\r\n" + SECOND,
    "in a body of an encoding nobody knows": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SECOND,
    "in a body encoded twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + SECOND,
    "in a body, white space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "behind a chunk of a length below nothing": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SECOND,
    "behind a chunk of 2^64 bytes": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + SECOND,
    "behind a chunk with 20 KB of extension": POST
    + b"Transfer-Encoding: chunked\r\n\r\n1;"
    + b"x" * 20_000
    + b"\r\n"
    + SECOND,
    "behind a fold": POST + b"X: a\r\n Content-Length: 0\r\nContent-Length: 99\r\n\r\n" + SECOND,
    "behind a NUL": POST + b"X: a\0b\r\n\r\n" + SECOND,
    "behind a bare CR": POST + b"X: a\rb\r\n\r\n" + SECOND,
    "behind two Hosts": POST + b"Host: b\r\n\r\n" + SECOND,
    "behind no Host": b"POST /v1/streams HTTP/1.1\r\n\r\n" + SECOND,
    "behind a name that is none": POST + b"X Y: a\r\n\r\n" + SECOND,
    "behind 10,000 fields": POST + b"".join(b"X-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n" + SECOND,
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_request_hidden_in_another_is_not_answered(name: str) -> None:
    """Where one ends is never in doubt: what is doubtful is refused and its connection over, and nobody's mistake."""
    async with http_scene() as (stage, port):
        answer = await said(port, SMUGGLED[name])
        assert b"HTTP/1.1 200" not in answer, answer[:300]
        assert b"HTTP/1.1 500" not in answer
        assert len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", answer)) <= 1
        assert not forbidden_words(answer)
        stage.pardon_all("Error in ASGI Framework")


REFUSED: dict[str, tuple[bytes, int, bytes]] = {
    "no JSON": (send(b"{"), 400, b"bad_request"),
    "NaN": (send(b'{"body":NaN}'), 400, b"bad_request"),
    "100,000 deep": (send(b'{"body":' + b"[" * 25_000 + b"]" * 25_000 + b"}"), 400, b"bad_request"),
    "100 deep": (send(b'{"body":' + b"[" * 100 + b"]" * 100 + b"}"), 400, b"bad_request"),
    "an integer beyond 64 bits": (send(b'{"body":123456789012345678901234567890}'), 400, b"64 bits"),
    "1e400": (send(b'{"body":1e400}'), 400, b"bad_request"),
    "a lone surrogate": (send(b'{"body":"\\ud800"}'), 400, b"bad_request"),
    "not UTF-8": (send(b'{"body":"\xff"}'), 400, b"bad_request"),
    "a body too large": (send(b'{"body":"' + b"x" * 50_000 + b'"}'), 413, b"too_large"),
    "10 MB": (send(b'{"body":"' + b"x" * 10_000_000 + b'"}'), 413, b"too_large"),
    "no key": (send(b'{"body":1}', extra=b""), 400, b"bad_request"),
    "a key that is none": (send(b'{"body":1}', extra=b"Idempotency-Key: x\r\n"), 400, b"bad_request"),
    "member.joined": (send(b'{"type":"member.joined","body":{}}'), 403, b"forbidden"),
    "another tenant's stream": (send(b'{"body":1}', stream=VAULT), 404, b"not_found"),
    "no stream": (send(b'{"body":1}', stream="chat:nowhere"), 404, b"not_found"),
    "a stream that climbs": (send(b'{"body":1}', stream="chat:..%2f..%2fx"), 404, b"not_found"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_request_is_a_problem_document(name: str) -> None:
    """The status, the wire's code, and nothing of ours inside it."""
    data, status, word = REFUSED[name]
    async with http_scene() as (_, port):
        answer = await said(port, data)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), answer[:400]
        assert b"application/problem+json" in head
        assert word in body
        assert not forbidden_words(answer)


async def test_more_http_connections_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a connection is closed at once; those within it are served, and so is the next when one has gone."""
    monkeypatch.setattr(http_serve, "CONNECTIONS_MAX", 20)
    async with http_scene() as (_, port):
        held = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(20)]
        for stream in held:
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert await said(port, b"") == b""
        for stream in held:
            await stream.aclose()
        answer = b""
        with trio.fail_after(20):
            while not answer:
                answer = await said(port, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
