"""A hub port over a socket of our choosing, and a decoder of its bytes that shares nothing with `core.frames`.

`FakePort` takes as many bytes as it has ``room`` for, blocks when there is none and breaks when told. `frames` decodes
what reached the wire; a byte lost, doubled or out of place shows as a frame that cannot be read.
"""

from __future__ import annotations

import json
from typing import Any

from core.stream import Port

Frame = dict[str, Any]
ENDLESS = 1 << 60


def take_frames(wire: bytearray) -> list[Frame]:
    """Cut the whole text frames off the front of ``wire`` and return their JSON; a cut frame stays."""
    frames = []
    while len(wire) >= 2:
        assert wire[0] == 0x81, f"no unfragmented text frame: {bytes(wire[:40])!r}"
        size, start = wire[1], 2
        assert size < 128, "a server does not mask"
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(wire) < start:
                break
            size = int.from_bytes(wire[2:start], "big")
        if len(wire) < start + size:
            break
        frames.append(json.loads(wire[start : start + size]))
        del wire[: start + size]
    return frames


class FakePort(Port):
    """A port whose socket has ``room`` for so many more bytes."""

    def __init__(self, principal: str = "user:amy", room: int = ENDLESS) -> None:
        super().__init__(self.take)
        self.principal = principal
        self.room = room
        self.gone = False
        self.wire = bytearray()
        self.sends: list[bytes] = []
        """What each ``send`` that took anything took."""
        self.seen: list[Frame] = []
        self.calls: list[str] = []

    def take(self, data: bytes) -> int:
        assert not self.closed, "a closed port was sent to"
        assert not self.blocked, "a blocked port was sent to"
        assert data, "an empty send"
        if self.gone:
            raise ConnectionResetError
        size = min(self.room, len(data))
        if not size:
            raise BlockingIOError
        self.room -= size
        self.sends.append(bytes(data[:size]))
        self.wire += data[:size]
        return size

    def frames(self) -> list[Frame]:
        """The frames that arrived since the last call."""
        fresh = take_frames(self.wire)
        self.seen += fresh
        return fresh

    def seqs(self) -> list[int]:
        """The seqs of the events that arrived since the last call; everything else is passed over."""
        return [frame["seq"] for frame in self.frames() if frame["op"] == "event"]

    def stall(self) -> None:
        self.calls.append("stall")

    def flow(self) -> None:
        self.calls.append("flow")

    def broken(self) -> None:
        self.calls.append("broken")
