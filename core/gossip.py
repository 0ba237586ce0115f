"""Presence, typing and markers between nodes (shape only, until the real one takes its place)."""

from __future__ import annotations

from core.hub import Hub
from core.limits import Limits
from core.stream import Stream


class Gossip:
    def __init__(self, hub: Hub, node: str, limits: Limits) -> None:
        self.nodes: dict[str, float] = {}

    def take(self, now_s: float) -> list[tuple[str, bytes]]:
        return []

    def receive(self, channel: str, payload: bytes, now_s: float) -> bool:
        return False

    def held(self, stream: Stream) -> None: ...
    def let_go(self, stream: Stream) -> None: ...
    def tick(self, now_s: float) -> None: ...
    def bus_changed(self, up: bool, now_s: float) -> None: ...
    def leaving(self) -> list[tuple[str, bytes]]:
        return []
    def complete(self, stream: Stream) -> bool:
        return True
