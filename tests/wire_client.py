"""A client for tests that says exactly what it is told: JSON frames over trio-websocket, an implementation not ours."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.nodes import token

Frame = dict[str, Any]


class WireClient:
    def __init__(self, websocket: WebSocketConnection) -> None:
        self.websocket = websocket
        self.seen: list[Frame] = []
        self._id = 0
        self._unread: list[Frame] = []

    async def say(self, op: str, **fields: Any) -> int:
        """Send a frame with a new id; returns the id."""
        id = self._id = self._id + 1  # another task may say something while this waits
        await self.websocket.send_message(orjson.dumps({"op": op, "id": id, **fields}).decode())
        return id

    async def raw(self, text: str) -> None:
        await self.websocket.send_message(text)

    async def next(self, op: str | None = None, **fields: Any) -> Frame:
        """The next frame with these fields; others are kept for later calls, in order."""
        for at, frame in enumerate(self._unread):
            if _matches(frame, op, fields):
                return self._unread.pop(at)
        with trio.fail_after(10):
            while True:
                frame = orjson.loads(await self.websocket.get_message())
                self.seen.append(frame)
                if _matches(frame, op, fields):
                    return frame
                self._unread.append(frame)

    async def ask(self, op: str, **fields: Any) -> Frame:
        """Send and return the answer, whatever it is."""
        return await self.next(id=await self.say(op, **fields))

    async def send(self, stream: str, text: str, **fields: Any) -> Frame:
        fields = {"key": str(uuid.uuid4()), "type": "message", "body": {"text": text}, **fields}
        return await self.ask("send", stream=stream, **fields)

    async def events(self, stream: str, upto: int) -> list[Frame]:
        """Events of a stream until seq ``upto``."""
        got: list[Frame] = []
        while not got or got[-1]["seq"] < upto:
            got.append(await self.next("event", stream=stream))
        return got

    async def closed(self) -> tuple[int, str]:
        """Wait for the server's close; the frames before it stay readable."""
        with trio.fail_after(10):
            while True:
                try:
                    self._unread.append(orjson.loads(await self.websocket.get_message()))
                except ConnectionClosed as closed:
                    reason = closed.reason
                    return (1006, "") if reason is None else (reason.code, reason.reason or "")


def _matches(frame: Frame, op: str | None, fields: dict[str, Any]) -> bool:
    return (op is None or frame["op"] == op) and all(frame.get(name) == value for name, value in fields.items())


@asynccontextmanager
async def wire_client(url: str, *, give_up_s: float = 60.0) -> AsyncIterator[WireClient]:
    """A connection that has said nothing yet. ``give_up_s``: the longest that dialling, or closing, may take."""
    async with open_websocket_url(
        url, subprotocols=["readback.v1"], connect_timeout=give_up_s, disconnect_timeout=give_up_s
    ) as websocket:
        try:
            yield WireClient(websocket)
        finally:
            with trio.move_on_after(give_up_s):
                await websocket.aclose()
            # trio-websocket leaves the socket of a client open when the server was first to close.
            await websocket._close_stream()


@asynccontextmanager
async def hello(
    url: str, principal: str = "user:amy", streams: dict[str, Any] | None = None, **claims: Any
) -> AsyncIterator[WireClient]:
    """A connection that has been welcomed; the welcome is ``client.seen[0]``."""
    async with wire_client(url) as client:
        await client.say("hello", token=token(principal, **claims), streams=streams or {})
        await client.next("welcome")
        yield client
