"""What the Python peers share: streams in memory, and answers encoded once with orjson.

Promises nothing that Readback promises: a send is numbered in memory, a reconnecting client gets no replay, no token is
checked. That is the nearest equivalent these libraries offer by themselves, and it favours them.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Generic, TypeVar

import orjson

C = TypeVar("C")


class Clock:
    """RFC 3339 UTC with milliseconds, formatted once a millisecond: what a careful author of a peer would do."""

    __slots__ = ("_at", "_text")

    def __init__(self) -> None:
        self._at = 0
        self._text = ""

    def text(self) -> str:
        now = int(time.time() * 1000)
        if now != self._at:
            self._at = now
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000)) + f".{now % 1000:03d}Z"
        return self._text


class Rooms(Generic[C]):
    """Streams with their subscribers (connections of the peer's own kind) and their heads."""

    def __init__(self) -> None:
        self.subscribers: dict[str, set[C]] = {}
        self.heads: dict[str, int] = {}
        self.clock = Clock()

    def handle(self, connection: C, frame: bytes | str) -> tuple[bytes, bytes | None, set[C]]:
        """Take one frame: the answer, and an event with those it goes to (``None`` and nobody unless it was a send)."""
        message: dict[str, Any] = orjson.loads(frame)
        op = message["op"]
        if op == "ping":
            return orjson.dumps({"op": "pong", "id": message["id"], "time": self.clock.text()}), None, set()
        if op == "send":
            stream = message["stream"]
            seq = self.heads[stream] = self.heads.get(stream, 0) + 1
            at = self.clock.text()
            event = orjson.dumps(
                {
                    "op": "event",
                    "stream": stream,
                    "seq": seq,
                    "type": message["type"],
                    "key": message["key"],
                    "by": "user:bench",
                    "at": at,
                    "body": message["body"],
                }
            )
            answer = {"op": "ok", "id": message["id"], "stream": stream, "seq": seq, "at": at, "dup": False}
            return orjson.dumps(answer), event, self.subscribers.get(stream, set())
        if op == "hello":
            streams = {name: self.join(connection, name) for name in message.get("streams", {})}
            return orjson.dumps({"op": "welcome", "id": message["id"], "streams": streams}), None, set()
        if op == "sub":
            place = self.join(connection, message["stream"])
            return orjson.dumps({"op": "ok", "id": message["id"], "stream": message["stream"], **place}), None, set()
        return orjson.dumps({"op": "error", "id": message.get("id"), "code": "unknown_op"}), None, set()

    def join(self, connection: C, stream: str) -> dict[str, int]:
        self.subscribers.setdefault(stream, set()).add(connection)
        head = self.heads.get(stream, 0)
        return {"head": head, "after": head}

    def leave(self, connection: C) -> None:
        for members in self.subscribers.values():
            members.discard(connection)


def listening(port: int) -> None:
    """Tell the harness where to connect."""
    sys.stdout.write(f"listening {port}\n")
    sys.stdout.flush()
