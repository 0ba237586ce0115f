"""A client connection on picows and uvloop, opened as the dialect says; scenarios subclass it for their hot path.

Not on the hot path: opening, closing, and whatever is neither an answer nor an event. A subclass overrides `on_payload`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.gen.dialect import Dialect, OpeningError
from bench.gen.link import Link, monotonic_ns

OPEN_TIMEOUT_S = 30.0
OPEN_AT_ONCE = 64
TEXT = WSMsgType.TEXT


class Conn(WSListener):
    """One connection. ``last_ns`` is not kept for every frame: only what a subclass records costs anything."""

    transport: WSTransport

    def __init__(self, dialect: Dialect, hello: bytes) -> None:
        super().__init__()
        self.dialect = dialect
        self.hello = hello
        self.opened: asyncio.Future[dict[str, object]] | None = asyncio.get_running_loop().create_future()
        self.closed = False
        self.other = 0
        """Frames that were neither answers nor events: signals, markers, keep-alives."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        first = self.dialect.first(self.hello)
        if first is not None:
            transport.send(TEXT, first)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if self.opened is None:
            self.on_payload(payload, frame)
            return
        if payload[:1] not in (b"{", b"0", b"2", b"4"):
            return  # a control frame
        try:
            reply, welcome = self.dialect.opening(payload, self.hello)
        except (OpeningError, ValueError, KeyError) as error:
            if not self.opened.done():
                self.opened.set_exception(OpeningError(str(error)))
            return
        if reply is not None:
            transport.send(TEXT, reply)
        if welcome is not None and not self.opened.done():
            self.opened.set_result(welcome)

    def on_payload(self, payload: bytes, frame: WSFrame) -> None:
        """A frame after the welcome."""
        self.on_other(payload)

    def on_other(self, payload: bytes) -> None:
        self.other += 1
        reply = self.dialect.control(payload)
        if reply is not None:
            self.transport.send(TEXT, reply)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closed = True
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(OpeningError("the server closed the connection before it welcomed it"))

    def send(self, payload: bytes) -> None:
        self.transport.send(TEXT, payload)


C = TypeVar("C", bound=Conn)


async def open_one(conn: C, port: int) -> C:
    await ws_connect(
        lambda: conn,
        f"ws://127.0.0.1:{port}{conn.dialect.path}",
        websocket_handshake_timeout=OPEN_TIMEOUT_S,
        read_buffer_init_size=4096,
    )
    assert conn.opened is not None
    async with asyncio.timeout(OPEN_TIMEOUT_S):
        await conn.opened
    conn.opened = None
    return conn


async def open_all(
    conns: Sequence[Callable[[], C]], ports: int | Sequence[int], link: Link, note: str = "connecting"
) -> list[C]:
    """Open many, a bounded number at a time, in order. The first failure ends it: half a crowd measures nothing.

    ``ports``: one for all, or one for each.
    """
    places = [ports] * len(conns) if isinstance(ports, int) else ports
    gate = asyncio.Semaphore(OPEN_AT_ONCE)
    done = 0

    async def one(make: Callable[[], C], port: int) -> C:
        nonlocal done
        async with gate:
            made = await open_one(make(), port)
        done += 1
        link.progress(done, len(conns), note)
        return made

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(make, port)) for make, port in zip(conns, places, strict=True)]
    return [task.result() for task in tasks]


async def settle(conns: Sequence[Conn], quiet_s: float = 0.3, limit_s: float = 10.0) -> None:
    """Wait until nothing but keep-alives has arrived for a while: presence of a joining crowd is not what is measured."""
    deadline = monotonic_ns() + int(limit_s * 1e9)
    seen = -1
    while monotonic_ns() < deadline:
        now = sum(conn.other for conn in conns)
        if now == seen:
            return
        seen = now
        await asyncio.sleep(quiet_s)


async def close_all(conns: Sequence[Conn]) -> None:
    for conn in conns:
        conn.transport.disconnect(graceful=False)
    for conn in conns:
        await conn.transport.wait_disconnected()
