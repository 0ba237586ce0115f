"""gateway.node: what keeps the hub true to the log, whatever is late, lost or away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from core import hub as hub_module
from core.limits import Limits
from core.model import Event, Outcome
from core.ports import CorruptLog
from core.tokens import Identity
from gateway import node as node_module
from tests.nodes import memory_log, serving_node, token
from tests.raw_client import RawClient
from tests.wire_client import hello

KEY = "00000000-0000-4000-8000-{:012x}"


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_commit_after_another_nodes_is_shown_in_order() -> None:
    """Positions are missing before our own commit: the log is read, and both are shown in their order."""
    log = memory_log()
    async with serving_node(log) as here, serving_node(log) as there:
        await here.stream("chat:ops")
        async with hello(here.url, "user:amy", {"chat:ops": {}}) as amy, hello(there.url, "user:bob") as bob:
            assert (await bob.send("chat:ops", "theirs"))["seq"] == 1
            assert (await amy.send("chat:ops", "ours"))["seq"] == 2
            assert [e["body"]["text"] for e in await amy.events("chat:ops", 2)] == ["theirs", "ours"]
            assert here.node.hub.gaps == 1
            assert here.node.follower.tailed == 2


async def test_a_tail_that_fails_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    """The log does not answer at once: what is missing is read when it does."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        hub = node.node.hub
        await node.node.loader.load([("demo", "chat:ops", "user:amy")])
        stream = hub.by_name["demo", "chat:ops"]
        for n in range(3):
            await log.put_member("demo", "chat:ops", f"user:{n}", "member", "service:x")
        log.fail_next("unavailable", "tail")
        node.node.follower.tail_soon(stream.partition)
        node.node.follower.tail_soon(stream.partition)
        await trio.sleep(1)
        assert (stream.head, hub.pos[stream.partition], log.calls["tail"]) == (3, 3, 2)
        await client.stream.aclose()


async def test_a_page_of_which_nothing_is_kept_is_a_reset() -> None:
    """A laggard asks for events that have all been trimmed: no rows come, and the facts say where it goes on."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        for n in range(3):
            await log.put_member("demo", "chat:ops", f"user:{n}", "member", "service:x")
        async with hello(node.url, "user:amy", {"chat:ops": {}}):
            await log.trim("demo", "chat:ops", 9)
            async with hello(node.url, "user:amy", {"chat:ops": {"after": 1}}) as bob:
                assert bob.seen[0]["streams"]["chat:ops"]["after"] == 1  # this node has not heard of the trim
                reset = await bob.next("reset")
                assert (reset["reason"], reset["first"], reset["head"]) == ("trimmed", 4, 3)
                sent = await bob.send("chat:ops", "on we go")
                assert (await bob.next("event"))["seq"] == sent["seq"] == 4


async def test_rows_already_shown_are_not_shown_again() -> None:
    """A tail that overlaps what came meanwhile takes only what is new."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            stream = node.node.hub.by_name["demo", "chat:ops"]
            tail = log.tail

            async def slow_tail(partition: int, after_pos: int, limit: int) -> list[Event]:
                rows = await tail(partition, 0, limit)
                await settled()
                return rows

            log.tail = slow_tail  # type: ignore[method-assign]
            await amy.send("chat:ops", "one")
            node.node.follower.tail_soon(stream.partition)
            await amy.send("chat:ops", "two")
            await amy.events("chat:ops", 2)
            await amy.ask("ping")
            assert [frame["seq"] for frame in amy.seen if frame["op"] == "event"] == [1, 2]


async def test_a_big_room_is_served_outside_the_shards_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit starts a tour; whoever goes on with it, everybody gets every event once."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        hub = node.node.hub
        clients = [RawClient(node.node) for _ in range(6)]
        for n, client in enumerate(clients):
            await client.hello(f"user:{n}", streams={"chat:ops": {}})
        monkeypatch.setattr(hub_module, "GATHER_PORTS_MAX", 1)
        hub.limits = replace(hub.limits, slice_deliveries=2)
        identity = node.node.proving.verify(token())
        assert isinstance(identity, Identity)
        for n in range(5):
            sent = await node.desk.send(identity, "chat:ops", key=KEY.format(n), type="message", body=n, expect=None)
            assert sent.seq == n + 1
        for client in clients:
            bodies: list[int] = []
            while len(bodies) < 5:
                message = await client.message()
                if message["op"] == "event":
                    bodies.append(message["body"])
            assert bodies == [0, 1, 2, 3, 4]
        for client in clients:
            await client.stream.aclose()


async def test_a_drain_with_the_log_away_ends_all_the_same() -> None:
    """Sends are answered unavailable, markers are given up with a word, and the window is kept."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            await amy.send("chat:ops", "one")
            await amy.ask("mark", stream="chat:ops", read=1)
            log.down = "stopped"
            with trio.fail_after(5):
                await node.node.drain(0.2)
            assert (await amy.closed())[0] == 4001
        assert node.node.draining


async def test_idle_streams_and_ended_sessions_are_cleared_away(autojump_clock: trio.testing.MockClock) -> None:
    """Housekeeping: what nobody needs any more is let go by itself."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        await node.node.loader.load([("demo", "chat:ops", "user:amy")])
        assert node.node.hub.by_sid
        await trio.sleep(node.node.limits.stream_idle_s + 2 * node_module.HOUSEKEEPING_S)
        assert not node.node.hub.by_sid


async def test_an_entry_of_no_socket_waits_for_its_verdict() -> None:
    """`append` returns the log's own verdict, whatever it is."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        await node.node.loader.load([("demo", "chat:ops", "user:amy")])
        stream = node.node.hub.by_name["demo", "chat:ops"]
        entry = node_module.Entry("demo", stream.sid, KEY.format(1), "message", "user:amy", b"1")
        verdict = await node.node.append(stream, entry)
        assert (verdict.outcome, verdict.seq) == (Outcome.OK, 1)
        again = await node.node.append(stream, entry)
        assert (again.outcome, again.seq) == (Outcome.DUP, 1)


async def test_a_restored_log_ends_a_node_of_the_old_one() -> None:
    """Cursors and channels are of an epoch: the node says so and ends, rather than serve what is gone."""
    log = memory_log()

    async def serve() -> None:
        async with serving_node(log, replace(Limits(), heads_interval_s=0.01)) as node:
            node.node.hub.pos[0] = 5  # what it had seen before
            log._epoch = replace(log._epoch, log="00000000-0000-4000-8000-000000000000")
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as ended:
        await serve()
    broken = ended.value.split(CorruptLog)[0]
    assert broken is not None
    assert "start it anew" in repr(broken)
