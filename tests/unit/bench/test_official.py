"""bench.gen.official: relays break connections as planned, and what a client got is counted as it is."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import trio
from trio.testing import MockClock

from bench.gen.official import Plan, Reader, Relay, account

JOB: dict[str, Any] = {
    "stream": "chat:a",
    "messages": 3,
    "rate": 1.0,
    "cut_every_s": 10.0,
    "away_s": 5.0,
    "payload": 10,
    "seed": 1,
}


async def echo(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(data)


async def relayed(nursery: trio.Nursery, plan: Plan) -> partial[Any]:
    """How to dial an echo server through a relay."""
    listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
    relay = Relay([listeners[0].socket.getsockname()[1]], plan)
    return partial(trio.open_tcp_stream, "127.0.0.1", await nursery.start(relay.run))


async def ended(stream: trio.SocketStream) -> bool:
    """Whether the other side is gone, by an end or by a reset."""
    try:
        return not await stream.receive_some(100)
    except trio.BrokenResourceError:
        return True


async def test_a_relay_carries_bytes_both_ways_while_nothing_is_cut(nursery: trio.Nursery) -> None:
    """A link that is whole is only a link."""
    plan = Plan(JOB)
    dial = await relayed(nursery, plan)
    async with await dial() as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some(100) == b"hello"
    assert plan.cuts == 0


async def test_a_relay_kills_its_connection_and_stays_away(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Alive for half to one and a half of the mean; refused for as long as planned; then it carries again."""
    autojump_clock.autojump_threshold = 0.05  # real sockets need a moment of real time
    plan = Plan(JOB)
    plan.cutting = True
    dial = await relayed(nursery, plan)
    began = trio.current_time()
    async with await dial() as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some(100) == b"hello"
        assert await ended(stream)
    lived = trio.current_time() - began
    assert 5.0 <= lived <= 15.0 + JOB["away_s"]
    assert plan.cuts == 1
    async with await dial() as stream:
        assert await ended(stream)
    await trio.sleep(JOB["away_s"])
    plan.stop_cutting()
    async with await dial() as stream:
        await stream.send_all(b"again")
        assert await stream.receive_some(100) == b"again"


async def test_stopping_lets_those_live_who_still_do(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """When the last message was sent, nobody is cut any more."""
    autojump_clock.autojump_threshold = 0.05
    plan = Plan(JOB)
    plan.cutting = True
    dial = await relayed(nursery, plan)
    async with await dial() as stream:
        await stream.send_all(b"a")
        assert await stream.receive_some(1) == b"a"
        plan.stop_cutting()
        await trio.sleep(100)
        await stream.send_all(b"b")
        assert await stream.receive_some(1) == b"b"
    assert plan.cuts == 0


def test_a_reader_counts_messages_and_order() -> None:
    """By the message's own number for once and only once, by seq for order."""
    plan = Plan(JOB)
    reader = Reader(plan)
    for seq, number in ((1, 0), (2, 1), (4, 1)):
        reader.take(seq, {"t": 0, "n": number})
    plan.seqs = [1, 2, 2]
    told = account(plan, [reader])
    assert (told["expected"], told["delivered"], told["duplicates"], told["out_of_order"]) == (3, 2, 1, 1)
    assert (told["acknowledged"], told["distinct"], told["not_whole"]) == (3, 2, 0)
