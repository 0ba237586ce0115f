"""The bus's port, sentence by sentence, in memory and on a real Redis: one suite, two buses."""

from __future__ import annotations

import os
from functools import partial

import pytest
import trio

from core.bus import BUS_PAYLOAD_MAX
from core.ports import Unavailable
from tests.buses import MemoryStage, RedisStage, Seen, module_redis, redis_server  # noqa: F401
from tests.nodes import until

Stage = MemoryStage | RedisStage


@pytest.fixture(params=["memory", "redis"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return MemoryStage() if request.param == "memory" else RedisStage(request.getfixturevalue("redis_server"))


async def opened(stage: Stage, nursery: trio.Nursery, *channels: str, node: str = "n1") -> Seen:
    """A bus that is well and listens to these channels."""
    seen = Seen(stage.bus(node), *channels)
    nursery.start_soon(seen.bus.run)
    await seen.well()
    return seen


# Messages


async def test_everybody_hears_each_publisher_in_its_order(stage: Stage, nursery: trio.Nursery) -> None:
    """Own messages included; nothing is promised between publishers."""
    one, two = await opened(stage, nursery, "a", "b"), await opened(stage, nursery, "a", "b", node="n2")
    for number in range(300):
        one.bus.publish("a", b"1:%d" % number)
        two.bus.publish("a", b"2:%d" % number)
        one.bus.publish("b", b"%d" % number)
    for seen in (one, two):
        await until(lambda seen=seen: len(seen.messages) == 900)
        for publisher in (b"1:", b"2:"):
            heard = [payload for payload in seen.on("a") if payload.startswith(publisher)]
            assert heard == [publisher + b"%d" % number for number in range(300)]
        assert seen.on("b") == [b"%d" % number for number in range(300)]
        assert seen.calls < 900  # what one read brought is one call
    assert one.bus.published == 600
    assert one.bus.received == 900


async def test_only_what_is_listened_to_is_heard(stage: Stage, nursery: trio.Nursery) -> None:
    """And it is heard once, however often it was asked for."""
    one, two = await opened(stage, nursery, "a"), await opened(stage, nursery, "b", node="n2")
    one.bus.listen("a")
    one.bus.publish("b", b"x")
    one.bus.publish("a", b"y")
    await one.hears(b"y")
    await two.hears(b"x", "b")
    assert one.messages == [("a", b"y")]
    assert two.messages == [("b", b"x")]
    assert one.listening == ["a"]


async def test_listening_begins_and_ends_while_the_bus_runs(stage: Stage, nursery: trio.Nursery) -> None:
    """`on_listening` says from when on messages come; after `unlisten` none does."""
    seen = await opened(stage, nursery, "a")
    seen.bus.listen("b")
    await until(lambda: "b" in seen.listening)
    seen.bus.publish("b", b"1")
    await seen.hears(b"1", "b")
    seen.bus.unlisten("b")
    seen.bus.unlisten("never")
    seen.bus.publish("b", b"2")
    seen.bus.publish("a", b"3")
    await seen.hears(b"3")
    seen.bus.listen("b")
    await until(lambda: seen.listening.count("b") == 2)
    seen.bus.publish("b", b"4")
    await seen.hears(b"4", "b")
    assert seen.on("b") == [b"1", b"4"]
    assert seen.bus.trouble is None
    assert seen.changes == [None]


async def test_left_and_wanted_again_in_one_breath_is_heard(stage: Stage, nursery: trio.Nursery) -> None:
    """A node lets a partition's last stream go and takes another in the same turn."""
    seen = await opened(stage, nursery, "a")
    for _ in range(3):
        seen.bus.unlisten("a")
        seen.bus.listen("a")
    await until(lambda: seen.listening.count("a") >= 2)
    with trio.fail_after(20):
        while not seen.on("a"):
            seen.bus.publish("a", b"here")
            await trio.sleep(0.005)
    assert seen.changes == [None]


async def test_a_publish_calls_nobody_back(stage: Stage, nursery: trio.Nursery) -> None:
    """Whoever publishes is in the middle of something."""
    seen = await opened(stage, nursery, "a")
    seen.bus.publish("a", b"1")
    assert seen.messages == []
    await seen.hears(b"1")


@pytest.mark.parametrize("payload", [b"", bytes(range(256)), b"\r\n$-1\r\n", os.urandom(BUS_PAYLOAD_MAX)])
async def test_a_payload_is_bytes(stage: Stage, nursery: trio.Nursery, payload: bytes) -> None:
    """Any, of any length up to the bound, and none is changed."""
    seen = await opened(stage, nursery, "a")
    seen.bus.publish("a", payload)
    await until(lambda: seen.messages)
    assert seen.on("a") == [payload]


async def test_many_large_payloads_go_through_whole(stage: Stage, nursery: trio.Nursery) -> None:
    """More than sockets hold: what the kernel does not take at once is sent on."""
    one, two = await opened(stage, nursery), await opened(stage, nursery, "a", node="n2")
    payloads = [os.urandom(1_048_576) for _ in range(8)]
    for payload in payloads:
        one.bus.publish("a", payload)
    await until(lambda: len(two.messages) == 8)
    assert two.on("a") == payloads


async def test_one_too_large_is_dropped_and_counted(stage: Stage, nursery: trio.Nursery) -> None:
    """The log has it."""
    seen = await opened(stage, nursery, "a")
    seen.bus.publish("a", bytes(BUS_PAYLOAD_MAX + 1))
    seen.bus.publish("a", b"next")
    await seen.hears(b"next")
    assert len(seen.messages) == 1
    assert seen.bus.dropped == 1


# Away and back


async def test_before_it_runs_it_is_in_trouble_and_drops(stage: Stage) -> None:
    """Nothing raises, but for a number that somebody waits for."""
    seen = Seen(stage.bus(), "a")
    assert seen.bus.trouble
    seen.bus.publish("a", b"1")
    seen.bus.unlisten("a")
    assert seen.bus.dropped == 1
    with pytest.raises(Unavailable):
        await seen.bus.raise_number("k", 1, 10.0)


async def test_it_says_when_it_is_away_and_when_it_is_back(stage: Stage, nursery: trio.Nursery) -> None:
    """One change each way; what is published meanwhile is dropped and counted; then all goes on."""
    seen = await opened(stage, nursery, "a", "b")
    stage.away()
    await seen.troubled()
    await until(lambda: len(seen.changes) == 2)
    while not seen.bus.dropped:  # of a Redis's two links one may be the first to know
        seen.bus.publish("a", b"lost")
        await trio.lowlevel.checkpoint()
    with pytest.raises(Unavailable):
        await seen.bus.raise_number("k", 1, 10.0)
    seen.bus.listen("c")
    seen.bus.unlisten("b")
    stage.back()
    await seen.well()
    assert seen.changes[0] is None
    assert seen.changes[1] is not None
    assert seen.changes[2:] == [None]
    assert seen.bus.reconnects == 1
    assert sorted(seen.listening) == ["a", "a", "b", "c"]
    seen.bus.publish("a", b"here")
    seen.bus.publish("c", b"too")
    await seen.hears(b"here")
    await seen.hears(b"too", "c")
    assert seen.on("a") == [b"here"]


async def test_every_channel_is_confirmed_before_all_is_called_well(stage: Stage, nursery: trio.Nursery) -> None:
    """Whoever sees no trouble may rely on every channel."""
    seen = Seen(stage.bus(), "a", "b")
    told: list[list[str]] = []
    seen.bus.on_change = lambda: told.append(sorted(seen.listening))
    nursery.start_soon(seen.bus.run)
    await until(lambda: told)
    assert told == [["a", "b"]]


async def test_it_can_be_away_more_than_once(stage: Stage, nursery: trio.Nursery) -> None:
    """Each reopening tells of each channel again."""
    seen = await opened(stage, nursery, "a")
    for times in (1, 2):
        stage.away()
        await seen.troubled()
        stage.back()
        await seen.well()
        assert seen.bus.reconnects == times
        assert seen.listening == ["a"] * (times + 1)
    seen.bus.publish("a", b"1")
    await seen.hears(b"1")


# Numbers


async def test_a_number_only_rises(stage: Stage, nursery: trio.Nursery) -> None:
    """And tells what was kept before, for any node of the cell."""
    one, two = await opened(stage, nursery), await opened(stage, nursery, node="n2")
    assert await one.bus.raise_number("k", 5, 60.0) == 0
    assert await two.bus.raise_number("k", 3, 60.0) == 5
    assert await two.bus.raise_number("k", 2**53 - 1, 60.0) == 5
    assert await one.bus.raise_number("k", 2**53 - 1, 60.0) == 2**53 - 1
    assert await one.bus.raise_number("another", 1, 60.0) == 0


async def test_of_two_nodes_one_is_first(stage: Stage, nursery: trio.Nursery) -> None:
    """Those who raised the number form one chain from 0 to the highest: no two saw the same number before them."""
    one, two = await opened(stage, nursery), await opened(stage, nursery, node="n2")
    before: dict[int, int] = {}

    async def raise_to(seen: Seen, number: int) -> None:
        before[number] = await seen.bus.raise_number("k", number, 60.0)

    async with trio.open_nursery() as racing:
        for number in range(1, 201):
            racing.start_soon(partial(raise_to, one if number % 2 else two, number))
    won = sorted(number for number, was in before.items() if was < number)
    assert [before[number] for number in won] == [0, *won[:-1]]
    assert won[-1] == 200
    assert len(before) == 200


async def test_a_number_is_forgotten_after_its_time(stage: Stage, nursery: trio.Nursery) -> None:
    """Sessions end; their numbers need no broom."""
    seen = await opened(stage, nursery)
    await seen.bus.raise_number("short", 7, 0.02)
    await seen.bus.raise_number("long", 7, 60.0)
    with trio.fail_after(20):
        while await seen.bus.raise_number("short", 0, 60.0):  # noqa: ASYNC110  # Redis's clock makes no event
            await trio.sleep(0.005)
    assert await seen.bus.raise_number("long", 0, 60.0) == 7
