"""Before the upgrade: what is no handshake, or one that would do harm later, is refused in words, at the byte that shows it."""

from __future__ import annotations

import struct

import pytest
import trio
from trio.testing import MockClock

from core.limits import Limits
from tests.hostile.peer import request, text
from tests.hostile.scene import scene
from tests.nodes import token

GET = "GET /v1/ws HTTP/1.1"

TLS_CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)) + b"\x20" + b"\0" * 64

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "TLS": (TLS_CLIENT_HELLO, 400, "without TLS"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
    "HTTP/1.0": (request("GET /v1/ws HTTP/1.0"), 505, "HTTP/1.1"),
    "HTTP/0.9": (b"GET /v1/ws\r\n\r\n", 400, "request line"),
    "zeros": (b"\0" * 100, 400, "without TLS"),
    "an SSH client, which waits for our banner": (b"SSH-2.0-OpenSSH_9.6\r\n", 400, "request line"),
    "a Redis client": (b"*1\r\n$4\r\nPING\r\n", 400, "HTTP/1.1"),
    "bare line feeds": (request().replace(b"\r\n", b"\n"), 400, "CR LF"),
    "a line feed in a value": (request(X_Name="a\nX-Other: b"), 400, "CR LF"),
    "a NUL in a value": (request(X_Name="a\0b"), 400, "control character"),
    "an escape code in a value": (request(User_Agent="\x1b[31mred"), 400, "control character"),
    "obs-fold": (request(X_Name="a\r\n b"), 400, "obs-fold"),
    "white space before the colon": (request().replace(b"Upgrade:", b"Upgrade :"), 400, "Name: value"),
    "a line that is no field": (request().replace(b"Upgrade: websocket", b"websocket"), 400, "Name: value"),
    "wrong path": (request("GET /v1/wss HTTP/1.1"), 404, "/v1/ws"),
    "a path that climbs": (request("GET /v1/ws/../../etc/passwd HTTP/1.1"), 404, "/v1/ws"),
    "absolute-form elsewhere": (request("GET http://other/ HTTP/1.1"), 404, "/v1/ws"),
    "POST": (request("POST /v1/ws HTTP/1.1"), 405, "GET"),
    "CONNECT": (request("CONNECT 127.0.0.1:22 HTTP/1.1"), 404, ""),
    "no Upgrade": (request(Upgrade=None), 426, "Upgrade: websocket"),
    "Upgrade to h2c": (request(Upgrade="h2c"), 426, "Upgrade: websocket"),
    "Connection: keep-alive": (request(Connection="keep-alive"), 400, "Connection"),
    "version 12": (request(Sec_WebSocket_Version="12"), 426, "13"),
    "no version": (request(Sec_WebSocket_Version=None), 426, "13"),
    "no key": (request(Sec_WebSocket_Key=None), 400, "base64"),
    "a short key": (request(Sec_WebSocket_Key="c2hvcnQ="), 400, "base64"),
    "a key that is no base64": (request(Sec_WebSocket_Key="!" * 22 + "=="), 400, "base64"),
    "two keys": (
        request().replace(b"Upgrade: w", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUpgrade: w"),
        400,
        "once",
    ),
    "no Host": (request(Host=None), 400, "Host"),
    "two Hosts": (request().replace(b"Upgrade: w", b"Host: b\r\nUpgrade: w"), 400, "once"),
    "Content-Length": (request(Content_Length="5") + b"hello", 400, "no body"),
    "Transfer-Encoding": (request(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400, "no body"),
    "both (smuggling)": (request(Content_Length="4", Transfer_Encoding="chunked") + b"0\r\n\r\n", 400, "no body"),
    "a subprotocol that is no token": (request(Sec_WebSocket_Protocol="a b"), 400, "tokens"),
    "10,000 fields": (request().replace(b"\r\n\r\n", b"\r\n" + b"a:b\r\n" * 10_000 + b"\r\n"), 431, "at most"),
    "65 fields": (request().replace(b"\r\n\r\n", b"\r\n" + b"a:b\r\n" * 65 + b"\r\n"), 431, "64"),
    "one huge field": (request(Cookie="a" * 100_000), 431, "at most 16384 bytes"),
    "a huge request line": (b"GET /" + b"a" * 100_000, 431, "at most 16384 bytes"),
    "a token in the URL": (request("GET /v1/ws?token=abc HTTP/1.1"), 400, "Authorization"),
    "a token in the URL, spelled oddly": (request("GET /v1/ws?a=1&%54OKEN=abc HTTP/1.1"), 400, "Authorization"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_handshake_is_refused_in_words(name: str) -> None:
    """One HTTP response says what to change, and the connection ends; nothing of the request is repeated in it."""
    data, status, words = REFUSED[name]
    async with scene() as stage:
        peer = await stage.connect()
        await peer.put(data)
        await peer.ended()
        assert peer.status == status
        assert words in peer.raw.decode()
        assert b"abc" not in peer.raw


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil.example", "HTTPS://APP"])
async def test_a_page_of_another_site_gets_no_socket(origin: str) -> None:
    """Origin is compared whole with the allow-list; near misses are misses."""
    async with scene(origins=frozenset(("https://app.example",))) as stage:
        peer = await stage.connect()
        await peer.put(request(Origin=origin))
        await peer.ended()
        assert peer.status == 403
        good = await stage.upgraded()
        await good.hello()
        allowed = await stage.connect()
        await allowed.upgrade(Origin="https://APP.example")


async def test_bytes_after_the_upgrade_request_belong_to_the_socket() -> None:
    """A client may pipeline its hello behind the request: another gateway died of one trailing byte."""
    async with scene() as stage:
        peer = await stage.connect()
        hello = text({"op": "hello", "id": 1, "token": token("user:eager"), "streams": {"chat:ops": {}}})
        await peer.put(request() + hello + text({"op": "ping", "id": 2}))
        assert (await peer.next(id=1))["op"] == "welcome"
        assert (await peer.next(id=2))["op"] == "pong"


async def test_rubbish_after_the_upgrade_request_ends_that_connection_alone() -> None:
    """One trailing byte that is no frame is a protocol error of its sender."""
    async with scene() as stage:
        peer = await stage.connect()
        await peer.put(request() + b"\n")
        assert (await peer.ended())[0] == 1002
        assert peer.status == 101


SLOW = {
    "nothing at all": b"",
    "half a request line": b"GET /v1",
    "all but the last byte": request()[:-1],
}


@pytest.mark.parametrize("name", SLOW)
async def test_half_a_handshake_is_not_held_for_ever(name: str, clock: MockClock) -> None:
    """The time from accept to upgrade is limited, however the bytes are spread."""
    async with scene(limits=Limits(handshake_timeout_s=2.0)) as stage:
        peer = await stage.connect()
        await peer.put(SLOW[name])
        await stage.until(lambda: stage.node.node.shard.counts.accepted == 21)
        clock.jump(4.0)
        await peer.ended()
        assert peer.status == 0
        await stage.until(lambda: len(stage.node.node.shard.connections) == 20)


async def test_a_dribbled_handshake_does_not_prolong_its_time(clock: MockClock) -> None:
    """A byte now and then (slowloris) buys nothing: the limit counts from accept."""
    async with scene(limits=Limits(handshake_timeout_s=3.0)) as stage:
        peer = await stage.connect()
        for byte in b"GET /v1/":
            await peer.put(bytes((byte,)))
            clock.jump(1.0)
            await stage.room.rounds(1)
        await peer.ended()
        assert peer.status == 0


async def test_who_says_no_hello_is_told_so(clock: MockClock) -> None:
    """Pings do not stand in for a hello."""
    async with scene(limits=Limits(hello_timeout_s=2.0)) as stage:
        peer = await stage.upgraded()
        assert (await peer.ask("ping"))["op"] == "pong"
        clock.jump(2.0)
        await peer.put(text({"op": "ping", "id": 9}))
        await stage.room.rounds(1)
        clock.jump(2.0)
        code, bye = await peer.bye()
        assert (code, bye["code"]) == (4003, "hello_timeout")


async def test_fifteen_hundred_connections_that_never_speak(clock: MockClock) -> None:
    """Silent connections cost the node little and nobody else anything, and are gone when their time is over."""
    async with scene(limits=Limits(handshake_timeout_s=20.0)) as stage:
        shard = stage.node.node.shard
        for _ in range(1500):
            await stage.connect()
        await stage.until(lambda: len(shard.connections) == 1520)
        await stage.room.rounds(5)
        clock.jump(22.0)
        await stage.until(lambda: len(shard.connections) == 20)


async def test_a_storm_of_connections_that_reset_at_once() -> None:
    """A reset right after connecting, during the handshake or amid a frame is that connection's end and nothing more."""
    async with scene() as stage:
        shard = stage.node.node.shard
        opening = (b"", b"GET /v1/ws HT", request(), request() + text("{}")[:5], request() + b"\x81\xfe\xff")
        for n in range(500):
            stream = await trio.open_tcp_stream("127.0.0.1", stage.node.port)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.send_all(opening[n % len(opening)] or b"G")
            stream.socket.close()
        await stage.until(lambda: shard.counts.accepted >= 20 + 400 and len(shard.connections) == 20)


async def test_more_connections_than_the_node_takes_are_told_when_to_come_back() -> None:
    """The bound on connections answers 503 with Retry-After and leaves those who are there alone."""
    async with scene(limits=Limits(connections_max=22)) as stage:
        for _ in range(2):
            await stage.welcomed(f"user:guest-{len(stage.peers)}")
        late = await stage.connect()
        await late.put(request())
        await late.ended()
        assert late.status == 503
        assert b"Retry-After: " in late.head
