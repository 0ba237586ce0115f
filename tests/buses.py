"""Buses under test, what they were told, and the Redis behind them. Import the fixture where it is wanted::

from tests.buses import redis_server  # noqa: F401
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest
import redis
import trio

from core.bus import Message
from store.bus import BusLimits, RedisBus
from store.embedded_redis import EmbeddedRedis, embedded_redis
from store.memory_bus import MemoryBroker, MemoryBus
from tests.nodes import until

PATIENT = BusLimits(canary_timeout_s=5.0, connect_timeout_s=5.0, reply_timeout_s=5.0, backoff_max_s=0.1)
"""For tests that are not about time: a busy machine must not look like a deaf Redis."""
HASTY = BusLimits(canary_every_s=0.02, canary_timeout_s=0.1, connect_timeout_s=0.3, backoff_max_s=0.1)
"""For tests that wait for a fault to be found; a false alarm does them no harm."""


class Seen:
    """A bus and everything it said."""

    def __init__(self, bus: MemoryBus | RedisBus, *channels: str) -> None:
        self.bus = bus
        self.messages: list[Message] = []
        self.calls = 0
        self.changes: list[str | None] = []
        self.listening: list[str] = []
        bus.on_messages = self._messages
        bus.on_change = lambda: self.changes.append(bus.trouble)
        bus.on_listening = self.listening.append
        for channel in channels:
            bus.listen(channel)

    def _messages(self, messages: Sequence[Message]) -> None:
        self.calls += 1
        self.messages += messages

    def on(self, channel: str) -> list[bytes]:
        return [payload for name, payload in self.messages if name == channel]

    async def well(self) -> None:
        await until(lambda: self.bus.trouble is None)

    async def troubled(self) -> None:
        await until(lambda: self.bus.trouble is not None)

    async def hears(self, payload: bytes, channel: str = "a") -> None:
        await until(lambda: (channel, payload) in self.messages)


class MemoryStage:
    """Where buses of a test meet, and how they are parted."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()

    def bus(self, node: str = "n1") -> MemoryBus:
        return MemoryBus(self.broker)

    def away(self) -> None:
        self.broker.down = True

    def back(self) -> None:
        self.broker.down = False


class RedisStage:
    def __init__(self, server: EmbeddedRedis, limits: BusLimits = PATIENT) -> None:
        self.server = server
        self.cell = str(uuid4())
        self.limits = limits

    def bus(self, node: str = "n1", *, url: str = "", cell: str = "", limits: BusLimits | None = None) -> RedisBus:
        return RedisBus(url or self.server.url, cell=cell or self.cell, node=node, limits=limits or self.limits)

    def name(self, channel: str) -> str:
        return f"readback:{{{self.cell}:{channel}}}"

    def away(self) -> None:
        self.server.kill()

    def back(self) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def module_redis() -> Iterator[EmbeddedRedis]:
    with embedded_redis() as server:
        yield server


@pytest.fixture
def redis_server(module_redis: EmbeddedRedis) -> EmbeddedRedis:
    """Up, whatever the last test did to it; its names are kept apart by cells."""
    if module_redis.pid is None:
        module_redis.start()
    return module_redis


@pytest.fixture
def plain(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """Somebody else's client of the same Redis."""
    with redis.Redis.from_url(redis_server.url, protocol=2) as client:
        yield client


class Proxy:
    """Between a bus and its Redis: a place to lose and to slip in bytes. Run `serve` in a nursery."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.deaf = False
        """Whether a listening link gets nothing any more."""
        self.swallow = b""
        """What a listening link gets is dropped where it contains this."""
        self.listening: list[trio.abc.SendStream] = []
        """Towards the server, of links on which something is listened to."""
        self._target = port
        self._tls = tls

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, plain: trio.SocketStream) -> None:
        client: trio.abc.Stream = plain if self._tls is None else trio.SSLStream(plain, self._tls, server_side=True)
        try:
            async with (
                client,
                await trio.open_tcp_stream("127.0.0.1", self._target) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._upstream, client, server, nursery.cancel_scope)
                while data := await server.receive_some():
                    if server not in self.listening or not (self.deaf or (self.swallow and self.swallow in data)):
                        await client.send_all(data)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError):
            pass

    async def _upstream(self, client: trio.abc.Stream, server: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            while data := await client.receive_some():
                if b"\r\nSUBSCRIBE\r\n" in data and server not in self.listening:
                    self.listening.append(server)
                await server.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()
