"""Slowly, and then no more: a client that stops at any stage of its life is let go when that stage's time is over.

Stages are places in one stream of bytes: the request, the bytes after it up to the hello, and the frames of an open
connection. The clock is moved; nobody waits.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from core.frames import CLOSE, PING, TEXT, close_payload, masked_frame
from core.limits import Limits
from gateway.http_edge import Edge
from gateway.http_serve import READ_TIMEOUT_S
from tests.hostile.bystanders import COUNT
from tests.hostile.peer import MASK, PATIENCE_S, Peer, request, text
from tests.hostile.scene import ROOM, Scene, scene
from tests.hostile.test_http_port import HEAD, KEY, http_scene
from tests.nodes import token

REQUEST = request()
HELLO = text({"op": "hello", "id": 1, "token": token("user:slow"), "streams": {ROOM: {}}})
PING_OP = b'{"op":"ping","id":77}'
LARGE = text(PING_OP + b" " * 60_000)


def until_after(part: bytes) -> bytes:
    """The request up to and with these bytes."""
    return REQUEST[: REQUEST.index(part) + len(part)]


HANDSHAKE: dict[str, bytes] = {
    "the first byte": REQUEST[:1],
    "the method": until_after(b"GET "),
    "the target": until_after(b"/v1/"),
    "the request line without its end": until_after(b"HTTP/1.1"),
    "the request line's CR": until_after(b"HTTP/1.1\r"),
    "the request line": until_after(b"HTTP/1.1\r\n"),
    "a field's name": until_after(b"Sec-WebSocket-"),
    "a field's colon": until_after(b"Upgrade:"),
    "a field's value": until_after(b"dGhlIHNh"),
    "a field": until_after(b"Connection: Upgrade\r\n"),
    "all fields": REQUEST[:-2],
    "all fields and a CR": REQUEST[:-1],
}


@pytest.mark.parametrize("name", HANDSHAKE)
async def test_who_stops_in_the_handshake(name: str, clock: MockClock) -> None:
    """Cut off without a word when its time from accept is over, and not before."""
    async with scene(limits=Limits(handshake_timeout_s=20.0)) as stage:
        peer = await _put_all(stage, HANDSHAKE[name])
        clock.jump(1.0)
        await stage.room.rounds(1)
        assert len(stage.node.node.shard.connections) == COUNT + 1
        clock.jump(22.0)
        assert await peer.ended() == (1006, "")
        assert not peer.raw
        await _gone(stage)


@pytest.mark.parametrize("name", HANDSHAKE)
async def test_who_stops_in_the_handshake_and_goes_on_in_time(name: str) -> None:
    """The same bytes are a good beginning: the rest opens the socket, wherever the pause was."""
    async with scene() as stage:
        peer = await _put_all(stage, HANDSHAKE[name])
        await peer.put(REQUEST[len(HANDSHAKE[name]) :] + HELLO)
        assert (await peer.next(id=1))["op"] == "welcome"


AFTER_UPGRADE: dict[str, bytes] = {
    "nothing": b"",
    "half a frame's header": HELLO[:1],
    "a length that is not whole": HELLO[:3],
    "a header without its mask": HELLO[:4],
    "half a mask": HELLO[:6],
    "a header": HELLO[:8],
    "half a hello": HELLO[:100],
    "all but a hello's last byte": HELLO[:-1],
    "the first fragment of a hello": masked_frame(TEXT, b'{"op":"hello",', MASK, fin=False),
    "a fragment and half of the next": masked_frame(TEXT, b'{"op":', MASK, fin=False)
    + masked_frame(0, b'"hello"', MASK)[:5],
    "half a ping between fragments": masked_frame(TEXT, b"{", MASK, fin=False) + masked_frame(PING, b"abc", MASK)[:4],
    "half a close frame": masked_frame(CLOSE, close_payload(1000, "so long"), MASK)[:7],
    "pings only": masked_frame(PING, b"", MASK) * 3,
    "pings of the protocol only": text(b'{"op":"ping","id":1}') * 3,
}


@pytest.mark.parametrize("name", AFTER_UPGRADE)
async def test_who_stops_between_upgrade_and_hello(name: str, clock: MockClock) -> None:
    """Told so, in words, when the time for a hello is over; bytes on the way to one do not prolong it."""
    async with scene(limits=Limits(hello_timeout_s=3.0)) as stage:
        peer = await stage.upgraded()
        await _put_all(stage, AFTER_UPGRADE[name], peer)
        clock.jump(5.0)
        code, bye = await peer.bye()
        assert (code, bye["code"]) == (4003, "hello_timeout")
        await peer.stream.send_eof()
        await _gone(stage)


@pytest.mark.parametrize("name", ["half a hello", "the first fragment of a hello", "half a close frame"])
async def test_dribbling_before_hello_buys_no_time(name: str, clock: MockClock) -> None:
    """A byte each second goes on for as long as the limit and no longer."""
    async with scene(limits=Limits(hello_timeout_s=4.0)) as stage:
        peer = await stage.upgraded()
        start = AFTER_UPGRADE[name]
        rest = HELLO[100:] if name == "half a hello" else masked_frame(0, b" " * 120, MASK, fin=False)
        if name == "half a close frame":
            start, rest = start[:6], b"\x34\x12 o"  # never the whole of its nine bytes
        await _put_all(stage, start, peer)
        for byte in rest[:8]:
            await peer.put(bytes((byte,)))
            clock.jump(1.0)
            await stage.room.rounds(1)
        assert (await peer.bye())[0] == 4003


OPEN: dict[str, bytes] = {
    "half a frame's header": LARGE[:1],
    "a header without its mask": LARGE[:4],
    "a header": LARGE[:8],
    "the middle of a payload": LARGE[:30_000],
    "all but the last byte": LARGE[:-1],
    "between fragments": masked_frame(TEXT, PING_OP[:9], MASK, fin=False),
    "half a close frame": masked_frame(CLOSE, close_payload(1000, ""), MASK)[:5],
    "silence": b"",
}


@pytest.mark.parametrize("name", OPEN)
async def test_who_stops_amid_a_frame(name: str, clock: MockClock) -> None:
    """Silence for two heartbeats is silence, whatever was begun before: 4005, and others are not meant."""
    async with scene(limits=Limits(heartbeat_s=10.0)) as stage:
        peer = await stage.welcomed()
        await _put_all(stage, OPEN[name], peer)
        for _ in range(3):
            clock.jump(9.9)
            await stage.room.rounds(COUNT)  # everyone else is heard
        code, bye = await peer.bye()
        assert (code, bye["code"]) == (4005, "idle")


@pytest.mark.parametrize("name", ["half a frame's header", "a header", "the middle of a payload"])
async def test_who_goes_on_after_a_long_pause_is_served(name: str, clock: MockClock) -> None:
    """A pause within the heartbeats is a slow line and no attack; what is held for it meanwhile is bounded by a frame."""
    async with scene(limits=Limits(heartbeat_s=10.0)) as stage:
        peer = await stage.welcomed()
        begun = OPEN[name]
        await _put_all(stage, begun, peer)
        for at in range(3):
            clock.jump(9.9)
            await peer.put(LARGE[len(begun) + at : len(begun) + at + 1])
            await stage.room.rounds(COUNT)
        assert stage.server_side("user:mallory").reader.pending
        await peer.put(LARGE[len(begun) + 3 :])
        assert (await peer.next(id=77))["op"] == "pong"


REQUEST_HTTP = b"POST /v1/streams/chat:ops/events HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n" + KEY
HTTP: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 0),
    "the first byte": (b"P", 0),
    "the request line": (REQUEST_HTTP[:40], 0),
    "a field": (REQUEST_HTTP[:80], 0),
    "all fields": (REQUEST_HTTP + b"Content-Length: 10\r\n", 0),
    "the head": (REQUEST_HTTP + b"Content-Length: 10\r\n\r\n", 408),
    "half a body": (REQUEST_HTTP + b'Content-Length: 10\r\n\r\n{"bod', 408),
    "half a chunk": (REQUEST_HTTP + b"Transfer-Encoding: chunked\r\n\r\n8\r\n{", 408),
}


@pytest.mark.parametrize("name", HTTP)
async def test_who_stops_on_the_http_port(name: str, clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not come is cut off, a body that does not is 408; either way the connection ends."""
    data, status = HTTP[name]
    waits = trio.Event()
    whole_body = Edge._whole_body

    async def noticed(self: Edge, scope: Any, receive: Any) -> Any:
        waits.set()
        return await whole_body(self, scope, receive)

    monkeypatch.setattr(Edge, "_whole_body", noticed)
    async with http_scene() as (stage, port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        if status:
            await waits.wait()
        ended = trio.Event()

        async def hurry() -> None:
            for _ in range(READ_TIMEOUT_S + 2):
                clock.jump(1.0)
                await stage.room.rounds(1)
                if ended.is_set():
                    break

        stage.nursery.start_soon(hurry)
        got = b""
        with trio.fail_after(PATIENCE_S + READ_TIMEOUT_S + 2):
            while part := await stream.receive_some():
                got += part
        ended.set()
        assert got.startswith(b"HTTP/1.1 408 ") if status else not got, got


async def _put_all(stage: Scene, data: bytes, peer: Peer | None = None) -> Peer:
    """Send, and wait until the node has read it."""
    shard = stage.node.node.shard
    peer = peer or await stage.connect()
    await stage.until(lambda: len(shard.connections) == COUNT + 1)
    (end,) = [c for c in shard.connections.values() if c.sock.getpeername() == peer.stream.socket.getsockname()]
    taken = 0

    def recv(size: int) -> bytes:
        nonlocal taken
        data = end.sock.recv(size)
        taken += len(data)
        return data

    end.recv = recv
    await peer.put(data)
    await stage.until(lambda: taken == len(data))
    return peer


async def _gone(stage: Scene) -> None:
    await stage.until(lambda: len(stage.node.node.shard.connections) == COUNT)
