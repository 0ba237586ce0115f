"""Before the upgrade: what is no handshake, or one that would do harm later, is refused in words, at the byte that shows it."""

from __future__ import annotations

import re
import struct

import orjson
import pytest
import trio
from trio.testing import MockClock

from core.frames import TEXT, masked_frame
from core.limits import Limits
from tests.hostile.peer import MASK, request, text
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
    "10,000 distinct fields": (
        request().replace(b"\r\n\r\n", b"\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n"),
        431,
        "at most",
    ),
    "10,000 empty lines": (b"\r\n" * 10_000, 400, "without TLS"),
    "obs-fold with a tab": (request(X_Name="a\r\n\tb"), 400, "obs-fold"),
    "obs-fold of Connection": (request(Connection="keep-alive\r\n Upgrade"), 400, "obs-fold"),
    "obs-fold before any field": (request().replace(b"1.1\r\n", b"1.1\r\n Host: a\r\n", 1), 400, "obs-fold"),
    "obs-fold hiding a length": (request(X_Name="a\r\n Content-Length: 5") + b"hello", 400, "obs-fold"),
    "two lengths, the same": (
        request(Content_Length="5").replace(b"Upgrade: w", b"Content-Length: 5\r\nUpgrade: w") + b"hello",
        400,
        "once",
    ),
    "two lengths that differ": (
        request(Content_Length="0").replace(b"Upgrade: w", b"Content-Length: 5\r\nUpgrade: w") + b"hello",
        400,
        "once",
    ),
    "two lengths in one field": (request(Content_Length="0, 5") + b"hello", 400, "no body"),
    "a length with a sign": (request(Content_Length="+0"), 400, "no body"),
    "a length of 10,000 digits": (request(Content_Length="9" * 10_000), 400, "no body"),
    "a negative length": (request(Content_Length="-1"), 400, "no body"),
    "two encodings": (
        request(Transfer_Encoding="identity").replace(b"Upgrade: w", b"Transfer-Encoding: chunked\r\nUpgrade: w"),
        400,
        "once",
    ),
    "an encoding nobody knows, and a length": (
        request(Content_Length="0", Transfer_Encoding="xchunked"),
        400,
        "no body",
    ),
    "an encoding with white space before its colon": (
        request().replace(b"Upgrade: w", b"Transfer-Encoding : chunked\r\nUpgrade: w"),
        400,
        "Name: value",
    ),
    "an encoding in capitals": (
        request().replace(b"Upgrade: w", b"TRANSFER-ENCODING: CHUNKED\r\nUpgrade: w"),
        400,
        "no body",
    ),
    "a NUL in a name": (request().replace(b"Host", b"Ho\0st"), 400, "control character"),
    "a NUL in the request line": (request("GET /v1/ws\0 HTTP/1.1"), 400, "control character"),
    "DEL in a value": (request(X_Name="a\x7fb"), 400, "control character"),
    "a bare CR in a value": (request(X_Name="a\rb"), 400, "control character"),
    "an empty name": (request().replace(b"Upgrade: w", b": a\r\nUpgrade: w"), 400, "Name: value"),
    "a name with a space": (request().replace(b"Upgrade: w", b"X Y: a\r\nUpgrade: w"), 400, "Name: value"),
    "a name beyond ASCII": (request().replace(b"Upgrade: w", "Hóst: a\r\nUpgrade: w".encode()), 400, "Name: value"),
    "a name in parentheses": (request().replace(b"Upgrade: w", b"(X): a\r\nUpgrade: w"), 400, "Name: value"),
    "two spaces in the request line": (request("GET  /v1/ws HTTP/1.1"), 400, "request line"),
    "a tab in the request line": (request("GET\t/v1/ws HTTP/1.1"), 400, "request line"),
    "a space behind the request line": (request("GET /v1/ws HTTP/1.1 "), 400, "request line"),
    "a method in small letters": (request("get /v1/ws HTTP/1.1"), 400, "without TLS"),
    "a target beyond ASCII": (request("GET /v1/wś HTTP/1.1"), 400, "request line"),
    "HTTP/1.11": (request("GET /v1/ws HTTP/1.11"), 400, "request line"),
    "HTTP/2.0 by name": (request("GET /v1/ws HTTP/2.0"), 505, "HTTP/1.1"),
    "http/1.1 in small letters": (request("GET /v1/ws http/1.1"), 400, "request line"),
    "an empty line first": (b"\r\n" + request(), 400, "without TLS"),
    "a path with %00": (request("GET /v1/ws%00 HTTP/1.1"), 404, "/v1/ws"),
    "a path with an encoded slash": (request("GET /v1%2fws HTTP/1.1"), 404, "/v1/ws"),
    "a path with overlong dots": (request("GET /%c0%ae%c0%ae/v1/ws HTTP/1.1"), 404, "/v1/ws"),
    "a path with two slashes": (request("GET //v1/ws HTTP/1.1"), 404, "/v1/ws"),
    "a path with a slash behind": (request("GET /v1/ws/ HTTP/1.1"), 404, "/v1/ws"),
    "a path with a parameter": (request("GET /v1/ws;x=1 HTTP/1.1"), 404, "/v1/ws"),
    "a path in capitals": (request("GET /V1/WS HTTP/1.1"), 404, "/v1/ws"),
    "asterisk-form": (request("OPTIONS * HTTP/1.1"), 404, "/v1/ws"),
    "version 13, twice": (
        request().replace(b"Upgrade: w", b"Sec-WebSocket-Version: 13\r\nUpgrade: w"),
        400,
        "once",
    ),
    "versions in a list": (request(Sec_WebSocket_Version="13, 8"), 426, "13"),
    "version 013": (request(Sec_WebSocket_Version="013"), 426, "13"),
    "two origins": (request(Origin="a").replace(b"Upgrade: w", b"Origin: b\r\nUpgrade: w"), 400, "once"),
    "two tokens": (
        request(Authorization="Bearer a").replace(b"Upgrade: w", b"Authorization: Bearer b\r\nUpgrade: w"),
        400,
        "once",
    ),
    "a key with more behind it": (request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==x"), 400, "base64"),
    "an empty Host": (request(Host=""), 400, "Host"),
    "a subprotocol with CR LF, encoded": (request(Sec_WebSocket_Protocol="a%0d%0ab c"), 400, "tokens"),
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
        assert len(re.findall(rb"HTTP/1\.1 \d", peer.raw)) == 1  # one answer, whatever a smuggler thinks he sent


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


HELLO_OP = orjson.dumps({"op": "hello", "id": 1, "token": token("user:eager"), "streams": {"chat:ops": {}}})
HELLO = text(HELLO_OP)
PING_OP = text({"op": "ping", "id": 2})
BEHIND: dict[str, tuple[bytes, int, str]] = {
    "a line feed": (b"\n", 1002, "fragmented"),
    "CR LF": (b"\r\n", 1002, "opcode 13"),
    "a NUL": (b"\0\x80" + b"\0" * 4, 1002, "continuation"),
    "0xff": (b"\xff" * 16, 1002, "reserved bits"),
    "another request": (request(), 1002, "reserved bits"),
    "an HTTP body": (b"hello=1", 1002, "reserved bits"),
    "a chunk": (b"5\r\nhello\r\n0\r\n\r\n", 1002, "reserved bits"),
    "a TLS record": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1002, "reserved bits"),
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1002, "reserved bits"),
    "a frame without a mask": (b"\x81\x02{}", 1002, "masked"),
    "a binary frame": (b"\x82\x80" + b"\0" * 4, 1003, "binary"),
    "a frame too large": (b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0" * 4, 4505, "at most 65536"),
    "a frame that is no JSON": (text("{"), 4500, "malformed JSON"),
    "a hello and then rubbish": (HELLO + b"\xff" * 9, 1002, "reserved bits"),
    "a close frame and then a hello": (b"\x88\x80" + b"\0" * 4 + HELLO, 1005, ""),
}


@pytest.mark.parametrize("name", BEHIND)
async def test_rubbish_after_the_upgrade_request_ends_that_connection_alone(name: str) -> None:
    """In the same packet as the request: the upgrade was good and is answered, and what follows is judged as frames."""
    data, code, reason = BEHIND[name]
    async with scene() as stage:
        peer = await stage.connect()
        await peer.put(request() + data)
        ended = await peer.ended()
        assert (peer.status, ended[0]) == (101, code)
        assert reason in ended[1]
        assert not [m for m in peer.messages if m["op"] == "welcome"]  # the log was still being asked


SERVED_BEHIND: dict[str, tuple[bytes, bytes]] = {
    "a whole hello": (HELLO + PING_OP, b""),
    "half a hello": (HELLO[:50], HELLO[50:] + PING_OP),
    "one byte of a hello": (HELLO[:1], HELLO[1:] + PING_OP),
    "a ping of RFC 6455 and a hello": (b"\x89\x80" + b"\0" * 4 + HELLO + PING_OP, b""),
    "a hello in fragments": (
        masked_frame(TEXT, HELLO_OP[:9], MASK, fin=False) + masked_frame(0, HELLO_OP[9:], MASK) + PING_OP,
        b"",
    ),
    "a hello as large as a frame may be": (text(HELLO_OP + b" " * (65_536 - len(HELLO_OP))) + PING_OP, b""),
    "a thousand pings behind the hello": (HELLO + text({"op": "ping"}) * 1000 + PING_OP, b""),
}


@pytest.mark.parametrize("name", SERVED_BEHIND)
async def test_frames_after_the_upgrade_request_are_served(name: str) -> None:
    """In the same packet, or in part: no byte is lost between the request and the frames."""
    at_once, later = SERVED_BEHIND[name]
    async with scene() as stage:
        peer = await stage.connect()
        await peer.put(request() + at_once)
        if later:
            await peer.until(lambda: bool(peer.head))
            await peer.put(later)
        assert (await peer.next(id=1))["op"] == "welcome"
        assert (await peer.next(id=2))["op"] == "pong"


@pytest.mark.parametrize("name", ["a line feed", "another request", "a hello and then rubbish"])
async def test_what_comes_behind_a_refused_request_is_thrown_away(name: str) -> None:
    """One answer, to the request; nothing behind it is taken for another request or for a frame."""
    async with scene() as stage:
        peer = await stage.connect()
        await peer.put(request(Sec_WebSocket_Version="12") + BEHIND[name][0] + HELLO)
        await peer.ended()
        assert (peer.status, peer.raw.count(b"HTTP/1.1 4"), peer.messages) == (426, 1, [])


async def test_ten_thousand_fields_that_dribble_in() -> None:
    """Refused at the bound, long before the last; what is kept meanwhile is no more than the bound."""
    async with scene() as stage:
        peer = await stage.connect()
        await peer.put(request()[:-2])
        for n in range(0, 10_000, 100):
            await peer.put(b"".join(b"X-%d: 1\r\n" % m for m in range(n, n + 100)))
            if peer.reset:
                break
        await peer.ended()
        assert peer.status in (431, 0)  # 0: our last bytes may meet a connection that is gone, and its answer with it
        assert stage.node.node.shard.counts.handshakes_refused == 1


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
