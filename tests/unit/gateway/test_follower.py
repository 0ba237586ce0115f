"""gateway.follower: what is read of the log, again where an answer was too old, and never once the node ends."""

from __future__ import annotations

from dataclasses import replace

import trio

from core.limits import Limits
from core.model import Event
from store.memory import MemoryLog
from tests.nodes import memory_log, serving_node, until
from tests.wire_client import hello

QUIET = replace(Limits(), shed_delay_s=60.0, heads_interval_s=3600.0)


class Late:
    """Holds back what a log's `tail` answers, after it was read."""

    def __init__(self, log: MemoryLog) -> None:
        self.asked = 0
        self.go_on: trio.Event | None = None
        read = log.tail

        async def tail(partition: int, after_pos: int, limit: int) -> list[Event]:
            self.asked += 1
            events = await read(partition, after_pos, limit)
            if self.go_on is not None:
                await self.go_on.wait()
            return events

        log.tail = tail  # type: ignore[method-assign]


async def test_a_removal_told_while_the_partition_is_read_is_read_too() -> None:
    """The answer under way was of before the removal, and the word of it was dropped: it took effect with the next look
    at the heads, a second later or two."""
    log = memory_log()
    late = Late(log)
    async with serving_node(log, QUIET) as node:
        await node.stream("chat:crew", open=False, members={"user:amy": "member"})
        async with hello(node.url, "user:amy", {"chat:crew": {}}) as amy:
            partition = node.node.hub.by_name["demo", "chat:crew"].partition
            late.go_on = trio.Event()
            node.node.follower.tail_soon(partition)
            await until(lambda: late.asked == 1)
            event = await log.remove_member("demo", "chat:crew", "user:amy", "user:boss")
            node.node.follower.tail_soon(partition, event.pos)
            late.go_on.set()
            assert (await amy.next("unsub"))["reason"] == "removed"
            assert late.asked == 2


async def test_a_word_of_more_than_there_is_costs_one_read() -> None:
    """Whoever speaks of positions that the log has not is not believed twice."""
    log = memory_log()
    late = Late(log)
    async with serving_node(log, QUIET) as node:
        late.go_on = trio.Event()
        node.node.follower.tail_soon(3)
        await until(lambda: late.asked == 1)
        node.node.follower.tail_soon(3, 10**9)
        node.node.follower.tail_soon(3, 10**6)
        late.go_on.set()
        await until(lambda: late.asked == 2)
        await trio.testing.wait_all_tasks_blocked()
        assert late.asked == 2
        node.node.follower.tail_soon(3)
        await until(lambda: late.asked == 3)


async def test_a_node_that_ends_reads_no_more() -> None:
    """Its tasks end in no order: one that asked for a page after the reads had ended broke the end of the node."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}):
            follower, stream = node.node.follower, node.node.hub.by_name["demo", "chat:ops"]
        await node.stop()
        follower.fetch_soon(stream, 0)
        follower.fill_soon(stream)
        follower.tail_soon(stream.partition)
