"""A way does to a connection what its cases say it does."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.faults.test_proxy import heard
from tests.faults.way import DOWN, UP, Way, way_to


class Server:
    """Echoes, and says what it got and who left."""

    def __init__(self) -> None:
        self.got = b""
        self.open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            async with stream:
                while data := await stream.receive_some():
                    self.got += data
                    await stream.send_all(data)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1


@asynccontextmanager
async def server_over_way() -> AsyncIterator[tuple[Server, Way]]:
    server = Server()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        port = listener.socket.getsockname()[1]
        async with way_to(lambda: port, random.Random(1)) as way:
            yield server, way
        nursery.cancel_scope.cancel()


async def dial(way: Way) -> trio.SocketStream:
    """A link that stands at both ends."""
    stream = await trio.open_tcp_stream("127.0.0.1", way.port)
    await stream.send_all(b"hello")
    await heard(stream, b"hello")
    return stream


async def hears_nothing(stream: trio.SocketStream) -> None:
    await trio.testing.wait_all_tasks_blocked(0.02)
    with trio.move_on_after(0) as nothing:
        await stream.receive_some()
    assert nothing.cancelled_caught


async def test_a_cut_is_a_reset_and_new_links_work() -> None:
    """On both sides; nothing was on its way to be read first."""
    async with server_over_way() as (server, way):
        stream = await dial(way)
        way.cut()
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        await (await dial(way)).aclose()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert server.open == 0


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_one_direction_stalls(direction: str) -> None:
    """The other goes on; what was held arrives when it flows again."""
    async with server_over_way() as (server, way):
        stream = await dial(way)
        way.stall(direction)
        await stream.send_all(b"two")
        await hears_nothing(stream)
        assert server.got == (b"hello" if direction == UP else b"hellotwo")
        way.flow()
        await heard(stream, b"two")
        await stream.aclose()


async def test_who_vanished_is_not_heard_of_again() -> None:
    """Nothing arrives at either end, and the server does not learn that its client went; new links are as ever."""
    async with server_over_way() as (server, way):
        stream = await dial(way)
        way.vanish()
        await stream.send_all(b"two")
        await hears_nothing(stream)
        assert server.got == b"hello"
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (server.open, way.lost) == (1, 1)
        await (await dial(way)).aclose()


async def test_dribbling_brings_all_in_order() -> None:
    """A few bytes at a time."""
    async with server_over_way() as (server, way):
        stream = await dial(way)
        way.dribble()
        text = bytes(range(256)) * 2
        await stream.send_all(text)
        first = await stream.receive_some()
        assert len(first) < 100
        await heard(stream, text[len(first) :])
        assert server.got == b"hello" + text
        await stream.aclose()


async def test_slow_is_late_and_no_less(autojump_clock: trio.testing.MockClock) -> None:
    """By so much in each direction."""
    async with server_over_way() as (_, way):
        stream = await dial(way)
        way.slow(0.5)
        began = trio.current_time()
        await stream.send_all(b"two")
        await heard(stream, b"two")
        assert trio.current_time() - began >= 1.0
        await stream.aclose()
