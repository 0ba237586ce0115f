"""gateway.door: openings in line, the order in which they come through, and what an opening in hand waits for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from core.limits import Limits
from gateway.connection import State
from tests.nodes import TestNode, memory_log, serving_node, ticks, token, until
from tests.raw_client import RawClient
from tests.wire_client import WireClient, hello, wire_client

LIMITS = replace(Limits(), opening_work_max=2, openings_waiting_max=6, openings_waiting_tenant_max=4)


@asynccontextmanager
async def slow_log(limits: Limits = LIMITS) -> AsyncIterator[tuple[TestNode, trio.Event]]:
    """A node whose log answers nothing before the event is set, so that openings stay in hand."""
    async with serving_node(memory_log(), limits) as node:
        for tenant in ("demo", "quiet"):
            await node.stream("chat:ops", tenant=tenant)
        answers = trio.Event()
        node.log._pause = answers.wait  # type: ignore[attr-defined]
        yield node, answers


async def say_hello(stack: AsyncExitStack, node: TestNode, tenant: str = "demo") -> WireClient:
    client = await stack.enter_async_context(wire_client(node.url))
    await client.say("hello", token=token(tenant=tenant), streams={"chat:ops": {}})
    await wait_all_tasks_blocked(0.002)
    return client


async def test_a_storm_waits_and_another_tenants_client_does_not() -> None:
    """Two in hand, the next in line; a client of another tenant is asked about at once, and all are welcomed in the end."""
    async with slow_log() as (node, answers), AsyncExitStack() as stack:
        storm = [await say_hello(stack, node) for _ in range(6)]
        admission = node.node.door._admission
        assert (admission.work, admission.waiting) == (2, 4)
        quiet = await say_hello(stack, node, "quiet")
        assert (admission.work, admission.waiting) == (3, 4)
        answers.set()
        for client in (quiet, *storm):
            assert (await client.next("welcome"))["streams"]["chat:ops"] == {"head": 0, "after": 0}
        await until(lambda: admission.waiting == 0)
        metrics = node.desk.metrics_text()
        assert b"readback_openings_delayed_total 4" in metrics
        assert b"readback_openings_waiting 0" in metrics


async def test_beyond_the_line_is_sent_away_with_a_time() -> None:
    """bye/overloaded, a close code that says come back, and after how long."""
    async with slow_log() as (node, answers), AsyncExitStack() as stack:
        for _ in range(6):
            await say_hello(stack, node)
        refused = await say_hello(stack, node)
        assert (await refused.closed())[0] == 4002
        bye = await refused.next("bye")
        assert bye["code"] == "overloaded"
        assert bye["retry_after"] >= 1.0
        quiet = await say_hello(stack, node, "quiet")
        answers.set()
        assert (await quiet.next("welcome"))["op"] == "welcome"


async def test_who_stands_in_line_has_said_hello() -> None:
    """Neither a hello time-out nor a slow log is blamed while the wait has a bound of its own."""
    async with slow_log() as (node, answers), AsyncExitStack() as stack:
        held = [await say_hello(stack, node) for _ in range(2)]
        waits = await say_hello(stack, node)
        ticks(node, 5)
        for client in held:
            assert (await client.closed())[0] == 4006  # these wait for the log, which does not answer
        answers.set()
        assert (await waits.next("welcome"))["op"] == "welcome"


async def test_who_waited_in_vain_is_sent_away(autojump_clock: MockClock) -> None:
    """Not for ever: after `opening_wait_s` the client is told to come back, by the mock clock."""
    limits = replace(LIMITS, opening_work_max=1, opening_wait_s=2.0)
    async with serving_node(memory_log(), limits) as node:
        await node.stream("chat:ops")
        node.log._pause = trio.sleep_forever  # type: ignore[attr-defined]
        clients = [RawClient(node.node) for _ in range(2)]
        for client in clients:
            await client.upgrade()
            await client.say("hello", id=1, token=token(), streams={"chat:ops": {}})
            await wait_all_tasks_blocked(0.002)
        assert node.node.door._admission.waiting == 1
        node.node.shard.put_off(clients[0].connection, 60)
        bye = await clients[1].message()
        assert (bye["op"], bye["code"]) == ("bye", "overloaded")
        for client in clients:
            await client.stream.aclose()


async def test_a_client_that_left_the_line_takes_nobodys_place() -> None:
    """It closed while it waited: when its turn comes the next one has it."""
    async with slow_log(replace(LIMITS, opening_work_max=1)) as (node, answers), AsyncExitStack() as stack:
        await say_hello(stack, node)
        gone = RawClient(node.node)
        await gone.upgrade()
        await gone.say("hello", id=1, token=token(), streams={"chat:ops": {}})
        await wait_all_tasks_blocked(0.002)
        last = await say_hello(stack, node)
        assert node.node.door._admission.waiting == 2
        node.node.shard.close(gone.connection)
        answers.set()
        await last.next("welcome")
        node.node.door.sweep(trio.current_time())
        assert node.node.door._admission.work == 0
        await gone.stream.aclose()


async def test_a_long_replay_is_in_hand_until_it_has_caught_up(autojump_clock: MockClock) -> None:
    """Ten pages weigh while they are taken; a reader that takes nothing weighs for `HOLD_S` and no longer."""
    limits = replace(Limits(), replay_page_events=4, opening_work_max=1)
    async with serving_node(limits=limits) as node:
        await node.stream("chat:ops")
        sender = RawClient(node.node)
        await sender.hello(streams={"chat:ops": {}})
        for n in range(40):
            key = f"0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f{n:04x}"
            await sender.say("send", id=n + 1, stream="chat:ops", key=key, type="message", body="x" * 4_000)
            while (await sender.message()).get("id") != n + 1:
                pass
        door = node.node.door
        door.sweep(trio.current_time())
        assert door._admission.work == 0
        reader = RawClient(node.node, 4_096)
        await reader.upgrade()
        await reader.say("hello", id=0, token=token("user:bob"), streams={"chat:ops": {"after": 0}})
        await until(lambda: reader.connection.state is State.OPEN)
        assert reader.connection.lag
        assert door._admission.work == 1 + 10
        waits = RawClient(node.node)
        await waits.upgrade()
        await waits.say("hello", id=0, token=token("user:eve"))
        await wait_all_tasks_blocked(0.002)
        began_s = trio.current_time()
        while (await waits.message())["op"] != "welcome":
            pass
        assert 1.9 < trio.current_time() - began_s < 2.2  # by the mock clock
        door.sweep(trio.current_time())
        assert door._admission.work == 0
        other = RawClient(node.node)
        await other.hello("user:cal", streams={"chat:ops": {"after": 0}})
        got = 0
        while got < 40:
            got += (await other.message())["op"] == "event"
        await wait_all_tasks_blocked(0.002)
        door.sweep(trio.current_time())
        assert (door._admission.work, len(door._replaying)) == (0, 0)
        for client in (sender, reader, waits, other):
            await client.stream.aclose()


async def test_what_one_page_of_the_ring_holds_is_done_with_its_turn() -> None:
    """The common return after a short cut: no replay to look after."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            for n in range(3):
                await amy.send("chat:ops", f"{n}")
            async with hello(node.url, "user:bob", {"chat:ops": {"after": 0}}) as bob:
                assert not node.node.door._replaying
                assert len(await bob.events("chat:ops", 3)) == 3
