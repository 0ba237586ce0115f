"""A client of raw bytes over a socket pair: what the shard does with each byte, with no WebSocket library between."""

from __future__ import annotations

import json
import socket
from typing import Any

import trio

from core.frames import TEXT, masked_frame
from gateway.connection import Connection
from gateway.node import Node
from tests.nodes import token

UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\x01\x02\x03\x04"


class RawClient:
    """One end of a socket pair; the other was given to a node's shard as an accepted connection."""

    def __init__(self, node: Node, buffer_bytes: int | None = None) -> None:
        ours, theirs = socket.socketpair()
        if buffer_bytes is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        ours.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        added = node.shard.add(theirs)
        assert added is not None
        self.connection: Connection = added
        self.received = bytearray()

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def say(self, op: str, **fields: Any) -> None:
        await self.write(masked_frame(TEXT, json.dumps({"op": op, **fields}).encode(), MASK))

    async def _more(self) -> bool:
        with trio.fail_after(5):
            data = await self.stream.receive_some(65_536)
        self.received += data
        return bool(data)

    async def upgrade(self) -> None:
        """Shake hands; whatever follows the answer stays in ``received``."""
        await self.write(UPGRADE)
        while b"\r\n\r\n" not in self.received:
            assert await self._more(), "closed instead of upgraded"
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        self.received[:] = rest

    async def hello(self, principal: str = "user:amy", **fields: Any) -> dict[str, Any]:
        await self.upgrade()
        await self.say("hello", id=0, token=token(principal), **fields)
        return await self.message()

    async def frame(self) -> tuple[int, bytes] | None:
        """The next frame as (opcode, payload); None when the server has closed."""
        while True:
            data = self.received
            if len(data) >= 2:
                size, start = data[1], 2
                if size >= 126:
                    start = 4 if size == 126 else 10
                    size = int.from_bytes(data[2:start], "big") if len(data) >= start else 1 << 62
                if len(data) >= start + size:
                    payload = bytes(data[start : start + size])
                    opcode = data[0] & 15
                    del data[: start + size]
                    return opcode, payload
            if not await self._more():
                return None

    async def message(self) -> dict[str, Any]:
        """The next JSON message."""
        got = await self.frame()
        assert got is not None, "closed instead of a message"
        assert got[0] == TEXT, got
        message: dict[str, Any] = json.loads(got[1])
        return message

    async def close_code(self) -> int:
        """Read on to the close frame; its code."""
        while True:
            got = await self.frame()
            assert got is not None, "closed without a close frame"
            if got[0] == 8:
                return int.from_bytes(got[1][:2], "big")

    async def ended(self) -> bytes:
        """Everything up to the end of the server's bytes."""
        try:
            while await self._more():
                pass
        except trio.BrokenResourceError:
            pass
        return bytes(self.received)
