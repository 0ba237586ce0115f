"""The proxy does to a link what its cases say it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.faults.proxy import Proxy, proxy_to


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[Proxy]:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            while data := await stream.receive_some():
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        async with proxy_to(listener.socket.getsockname()[1]) as proxy:
            yield proxy
        nursery.cancel_scope.cancel()


async def heard(stream: trio.SocketStream, wanted: bytes) -> None:
    with trio.fail_after(5):
        got = b""
        while len(got) < len(wanted):
            data = await stream.receive_some()
            assert data, got
            got += data
        assert got == wanted


async def test_a_stalled_link_stays_open_and_arrives_later() -> None:
    """Nothing moves while it is stalled, on old links and on new ones; all of it comes afterwards, in order."""
    async with echo_behind_proxy() as proxy:
        old = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        await old.send_all(b"one")
        await heard(old, b"one")
        proxy.stall()
        new = await trio.open_tcp_stream("127.0.0.1", proxy.port)
        for stream in (old, new):
            await stream.send_all(b"two")
        await trio.testing.wait_all_tasks_blocked(0.02)
        for stream in (old, new):
            with trio.move_on_after(0) as nothing:
                await stream.receive_some()
            assert nothing.cancelled_caught
        proxy.mend()
        for stream in (old, new):
            await heard(stream, b"two")
            await stream.aclose()


async def test_a_cut_link_ends_and_so_do_new_ones() -> None:
    """Until it is mended; then new links work again."""
    async with echo_behind_proxy() as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            await stream.send_all(b"one")
            await heard(stream, b"one")
            proxy.cut()
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
        proxy.mend()
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            await stream.send_all(b"two")
            await heard(stream, b"two")
