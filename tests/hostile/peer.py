"""A WebSocket client that may break every rule: bytes as told, whatever comes back kept for inspection.

Unlike `tests.wire_client` it is no honest implementation, so that a case can send what a library would refuse to. It
reads with `core.frames`, which the conformance suite holds to Autobahn and to two other implementations.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import trio

from core.frames import CLOSE, TEXT, FrameReader, masked_frame, parse_close
from tests.nodes import token

Frame = dict[str, Any]

MASK = b"\x37\xfa\x21\x3d"
PATIENCE_S = 20.0
"""No answer is waited for longer; only a broken node makes a case meet it."""

UPGRADE_FIELDS = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "readback.v1",
}


def request(line: str = "GET /v1/ws HTTP/1.1", /, **fields: str | None) -> bytes:
    """An upgrade request; ``fields`` (``_`` for ``-``) replace the usual ones, ``None`` leaves one out."""
    merged: dict[str, str | None] = dict(UPGRADE_FIELDS)
    for name, value in fields.items():
        wanted = name.replace("_", "-").lower()
        merged = {known: v for known, v in merged.items() if known.lower() != wanted}
        merged[wanted] = value
    lines = [f"{name}: {value}" for name, value in merged.items() if value is not None]
    return "\r\n".join([line, *lines, "", ""]).encode("utf-8", "surrogateescape")


def text(payload: str | bytes | Frame) -> bytes:
    """One masked text frame."""
    if isinstance(payload, dict):
        payload = orjson.dumps(payload)
    elif isinstance(payload, str):
        payload = payload.encode()
    return masked_frame(TEXT, payload, MASK)


class Peer:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.raw = bytearray()
        """Everything that was received."""
        self.head = b""
        """The HTTP response, once it is all there."""
        self.messages: list[Frame] = []
        """JSON frames not yet asked for."""
        self.close: tuple[int, str] | None = None
        self.reset = False
        """The connection ended by a reset rather than by an end of stream."""
        self.on_message: Callable[[Frame], object] = self.messages.append
        self._reader = FrameReader(1 << 26, client_side=True)
        self._pending_head = b""
        self._id = 0

    async def put(self, data: bytes) -> None:
        """Send bytes; those that meet a closed connection are lost, as they would be for anyone."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.reset = True

    async def pull(self, size: int = 65_536) -> bool:
        """Take what has come; False at the end."""
        try:
            data = await self.stream.receive_some(size)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.reset = True
            return False
        if not data:
            return False
        self.raw += data
        if not self.head:
            self._pending_head += data
            head, gap, data = self._pending_head.partition(b"\r\n\r\n")
            if not gap:
                return True
            self.head = head
            if not head.startswith(b"HTTP/1.1 101 "):
                return True
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT:
                self.on_message(orjson.loads(payload))
            elif opcode == CLOSE:
                status = parse_close(payload)
                assert isinstance(status, tuple), status
                self.close = status
        assert self._reader.error is None, self._reader.error
        return True

    @property
    def status(self) -> int:
        """Of the HTTP response; 0 while there is none."""
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    async def upgrade(self, **fields: str | None) -> None:
        await self.put(request(**fields))
        await self.until(lambda: bool(self.head))
        assert self.status == 101, self.head

    async def until(self, ready: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not ready():
                if not await self.pull():
                    assert ready(), f"the connection ended: {self.close}, {self.messages[-3:]}"

    async def next(self, op: str | None = None, **fields: object) -> Frame:
        """The next message with these fields; others are kept."""

        def found() -> int | None:
            for at, message in enumerate(self.messages):
                if op in (None, message["op"]) and all(message.get(k) == v for k, v in fields.items()):
                    return at
            return None

        await self.until(lambda: found() is not None)
        at = found()
        assert at is not None
        return self.messages.pop(at)

    async def ask(self, op: object, **fields: object) -> Frame:
        """Send with a new id, and the answer to it."""
        self._id += 1
        await self.put(text({"op": op, "id": self._id, **fields}))
        return await self.next(id=self._id)

    async def hello(self, principal: str = "user:mallory", streams: object = None, **claims: Any) -> Frame:
        answer = await self.ask("hello", token=token(principal, **claims), streams=streams or {})
        assert answer["op"] == "welcome", answer
        return answer

    async def send(self, stream: str, body: object, **fields: object) -> Frame:
        fields = {"key": str(uuid.uuid4()), "body": body, **fields}
        return await self.ask("send", stream=stream, **fields)

    async def ended(self) -> tuple[int, str]:
        """Read to the end: code and reason of the server's close frame, (1006, "") where there was none."""
        with trio.fail_after(PATIENCE_S):
            while await self.pull():
                pass
        return self.close or (1006, "")

    async def bye(self) -> tuple[int, Frame]:
        """Read to the end: the close code and the ``bye`` before it."""
        code, _reason = await self.ended()
        byes = [message for message in self.messages if message["op"] == "bye"]
        assert len(byes) == 1, (code, self.messages[-3:])
        return code, byes[0]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    """A TCP connection that has said nothing yet."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        yield Peer(stream)
    finally:
        stream.socket.close()  # not aclose: a case may have made it so that nothing more can be sent
