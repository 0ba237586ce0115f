"""Shape only, until the real one takes its place."""
from __future__ import annotations
from collections.abc import Callable, Sequence
import trio
from core.bus import Message


class MemoryBroker:
    def __init__(self) -> None:
        self.down = False
        self.lose: Callable[[str, bytes], bool] = lambda channel, payload: False

    def publish(self, channel: str, payload: bytes) -> None: ...


class MemoryBus:
    def __init__(self, broker: MemoryBroker) -> None:
        self.trouble: str | None = None
        self.on_messages: Callable[[Sequence[Message]], None] = lambda messages: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_listening: Callable[[str], None] = lambda channel: None

    def publish(self, channel: str, payload: bytes) -> None: ...
    def listen(self, channel: str) -> None: ...
    def unlisten(self, channel: str) -> None: ...
    async def raise_number(self, key: str, number: int, ttl_s: float) -> int:
        return 0
    async def run(self) -> None:
        await trio.sleep_forever()
