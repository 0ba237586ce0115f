"""The simulated sockets: what a shard relies on in real ones, and each way in which they fail."""

from __future__ import annotations

import random
import select

import pytest
import trio

from proof.sim.net import FD_MIN, Host, Link, Listener
from proof.sim.timers import Timers


def linked(
    *, capacity: int = 100, partial: float = 0.0, latency_s: float = 0.0, timers: Timers | None = None
) -> tuple[Host, Link]:
    host = Host("a1", random.Random(1))
    link = Link(
        "c", host, timers or Timers(), random.Random(2), capacity=capacity, partial=partial, latency_s=latency_s
    )
    host.poller.register(link.end.fileno(), select.EPOLLIN)
    return host, link


async def test_a_full_socket_takes_nothing_and_is_writable_again_when_read() -> None:
    """EAGAIN at the bound; epoll says OUT only while there is room."""
    host, link = linked(capacity=10)
    host.poller.modify(link.end.fileno(), select.EPOLLOUT)
    assert link.end.send(b"x" * 25) == 10
    with pytest.raises(BlockingIOError):
        link.end.send(b"y")
    assert host.poller.poll(0, 10) == []
    assert await link.receive() == b"x" * 10
    assert host.poller.poll(0, 10) == [(link.end.fileno(), select.EPOLLOUT)]


async def test_readiness_is_level_triggered() -> None:
    """What was not read is told again; what was read is not."""
    host, link = linked()
    await link.send(b"abc")
    assert host.poller.poll(0, 10) == host.poller.poll(0, 10) == [(link.end.fileno(), select.EPOLLIN)]
    assert link.end.recv(2) == b"ab"
    assert host.poller.poll(0, 10) != []
    assert link.end.recv(2) == b"c"
    assert host.poller.poll(0, 10) == []
    with pytest.raises(BlockingIOError):
        link.end.recv(1)


async def test_waiting_ends_when_something_is_ready(autojump_clock: trio.testing.MockClock) -> None:
    """And not before."""
    host, link = linked()
    async with trio.open_nursery() as nursery:
        done = []

        async def wait() -> None:
            await host.poller.wait()
            done.append(trio.current_time())

        nursery.start_soon(wait)
        await trio.sleep(1)
        assert done == []
        await link.send(b"x")
    assert len(done) == 1


async def test_a_cut_is_a_reset_for_both() -> None:
    """Unread bytes towards the node are lost; the client's next read or send says so."""
    host, link = linked()
    await link.send(b"lost")
    link.cut()
    assert host.poller.poll(0, 10)[0][1] & select.EPOLLHUP
    with pytest.raises(ConnectionResetError):
        link.end.recv(10)
    with pytest.raises(ConnectionResetError):
        link.end.send(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await link.receive()
    with pytest.raises(trio.BrokenResourceError):
        await link.send(b"x")


async def test_closing_with_bytes_unread_is_a_reset_and_else_an_end() -> None:
    """As TCP has it."""
    _, link = linked()
    await link.send(b"unread")
    link.end.close()
    with pytest.raises(trio.BrokenResourceError):
        await link.receive()
    _, link = linked()
    link.end.send(b"last words")
    link.end.close()
    assert await link.receive() == b"last words"
    assert await link.receive() == b""


async def test_half_open_is_silence() -> None:
    """Nothing arrives, nobody is told, and the node's buffer fills."""
    host, link = linked(capacity=8)
    link.half_open()
    assert link.end.send(b"x" * 20) == 8
    with pytest.raises(BlockingIOError):
        link.end.send(b"y")
    await link.send(b"hello?")
    assert host.poller.poll(0, 10) == []


async def test_a_slow_way_keeps_the_order(autojump_clock: trio.testing.MockClock) -> None:
    """Latency and dribble move bytes later and in pieces, never past each other."""
    timers = Timers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        _, link = linked(latency_s=0.1, timers=timers, capacity=1_000)
        link.dribble = 3
        link.end.send(b"0123456789")
        link.latency_s, link.dribble = 0.0, 0
        link.end.send(b"abc")
        got = b""
        while len(got) < 13:
            got += await link.receive()
        assert got == b"0123456789abc"
        assert trio.current_time() > 0.1
        nursery.cancel_scope.cancel()


async def test_healing_brings_what_was_on_its_way() -> None:
    """All of it, in order, at once."""
    _, link = linked()
    link.stall(50.0)
    link.end.send(b"held up")
    assert not link.down
    link.heal()
    assert await link.receive() == b"held up"


async def test_descriptors_are_the_lowest_that_are_free() -> None:
    """So that a descriptor is soon somebody else's, as in a kernel."""
    host = Host("a1", random.Random(1))
    Listener(host)
    links = [Link(str(n), host, Timers(), random.Random(n), capacity=9, partial=0.0, latency_s=0.0) for n in range(3)]
    assert [link.end.fileno() for link in links] == [FD_MIN + 1, FD_MIN + 2, FD_MIN + 3]
    links[1].end.close()
    again = Link("again", host, Timers(), random.Random(9), capacity=9, partial=0.0, latency_s=0.0)
    assert again.end.fileno() == FD_MIN + 2


async def test_a_crash_resets_all_who_are_there_and_all_who_wait() -> None:
    """And a dead machine's sockets take nothing more."""
    host = Host("a1", random.Random(1))
    listener = Listener(host)
    here = Link("here", host, Timers(), random.Random(1), capacity=9, partial=0.0, latency_s=0.0)
    waiting = Link("waiting", host, Timers(), random.Random(2), capacity=9, partial=0.0, latency_s=0.0)
    listener.put(waiting.end)
    host.crash(silent=False)
    assert host.listener is None
    for link in (here, waiting):
        assert link.reset_client
        with pytest.raises(ConnectionResetError):
            link.end.send(b"x")
