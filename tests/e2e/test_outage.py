"""The log goes away and comes back: connections stay, sends say so, all recovers by itself, nothing twice."""

from __future__ import annotations

import uuid
from dataclasses import replace

import trio

from core.limits import Limits
from tests.nodes import TestNode, memory_log, serving_node, token
from tests.wire_client import hello, wire_client

QUICK = replace(Limits(), heads_interval_s=0.02, marker_flush_s=0.02)


async def healthy(node: TestNode, ready: bool) -> None:
    """Until the node says so."""
    with trio.fail_after(5):
        while node.desk.health().ready is not ready:  # noqa: ASYNC110  # the node's own reading has no event
            await trio.sleep(0.005)


async def test_sends_are_unavailable_while_the_log_is_away_and_connections_stay() -> None:
    """Each send is answered, nobody is cut; when it is back the same key lands once."""
    log = memory_log()
    async with serving_node(log, QUICK) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            log.down = "stopped"
            key = str(uuid.uuid4())
            refused = await amy.send("chat:ops", "one", key=key)
            assert (refused["code"], refused["retry_after"]) == ("unavailable", 1.0)
            await healthy(node, False)
            assert node.desk.health().reasons == ["the log cannot be reached: stopped"]
            assert (await amy.ask("sub", stream="chat:other"))["code"] == "unavailable"
            assert (await amy.ask("history", stream="chat:ops"))["code"] == "unavailable"
            assert (await amy.ask("mark", stream="chat:ops", read=0))["op"] == "ok"
            assert (await amy.ask("ping"))["op"] == "pong"
            log.down = None
            assert (await amy.send("chat:ops", "one", key=key))["dup"] is False
            await healthy(node, True)
            assert (await amy.next("event"))["seq"] == 1


async def test_a_commit_of_unknown_outcome_is_seen_once() -> None:
    """Committed, but the answer was lost: unavailable; the repeat answers dup; subscribers see one event."""
    log = memory_log()
    async with serving_node(log, QUICK) as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            log.fail_next("unknown", "append")
            key = str(uuid.uuid4())
            assert (await amy.send("chat:ops", "one", key=key))["code"] == "unavailable"
            again = await amy.send("chat:ops", "one", key=key)
            assert (again["seq"], again["dup"]) == (1, True)
            assert (await amy.send("chat:ops", "two"))["seq"] == 2
            for client in (amy, bob):
                assert [e["seq"] for e in await client.events("chat:ops", 2)] == [1, 2]
                await client.ask("ping")
                assert [f["seq"] for f in client.seen if f["op"] == "event"] == [1, 2]


async def test_silence_is_noticed_by_position() -> None:
    """Events committed behind this node's back (another node's) reach its subscribers through the heads watch."""
    log = memory_log()
    async with serving_node(log, QUICK) as here, serving_node(log, QUICK) as there:
        await here.stream("chat:ops")
        async with (
            hello(here.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(there.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            for n in range(1, 6):
                client = amy if n % 2 else bob
                assert (await client.send("chat:ops", f"{n}"))["seq"] == n
            for client in (amy, bob):
                assert [e["body"]["text"] for e in await client.events("chat:ops", 5)] == ["1", "2", "3", "4", "5"]


async def test_a_replay_waits_for_the_log() -> None:
    """What a cursor needs is not in the ring and the log is away: the replay goes on when it is back."""
    log = memory_log()
    async with serving_node(log, replace(QUICK, ring_events_max=8)) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            for n in range(30):
                await amy.send("chat:ops", f"{n}")
            log.fail_next("unavailable", "read")
            async with hello(node.url, "user:bob", {"chat:ops": {"after": 0}}) as bob:
                assert [e["seq"] for e in await bob.events("chat:ops", 30)] == list(range(1, 31))


async def test_a_hello_while_the_log_is_away_may_come_back() -> None:
    """Streams that must be asked about cannot be: unavailable, with a time to come back; what is warm is served."""
    log = memory_log()
    async with serving_node(log, QUICK) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            log.down = "stopped"
            async with wire_client(node.url) as again:
                wanted = {"resume": amy.seen[0]["resume"], "log": amy.seen[0]["log"], "streams": {"chat:ops": 0}}
                assert (await again.ask("resume", **wanted))["resumed"] is True
            async with wire_client(node.url) as bob:
                await bob.say("hello", token=token("user:bob"), streams={"chat:ops": {}})
                assert (await bob.closed())[0] == 4006
                assert (await bob.next("bye"))["retry_after"] == 1.0


async def test_markers_wait_for_the_log() -> None:
    """Raised while it is away, stored when it is back."""
    log = memory_log()
    async with serving_node(log, QUICK) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            await amy.send("chat:ops", "one")
            log.fail_next("unavailable", "save_marks")
            log.fail_next("unavailable", "save_marks")
            await amy.ask("mark", stream="chat:ops", read=1)
            with trio.fail_after(5):
                while not await log.load_marks("demo", [1]):  # noqa: ASYNC110  # the write-behind has no event
                    await trio.sleep(0.005)


async def test_a_hole_within_a_stream_is_filled_over_failures() -> None:
    """A later event is known and the one before is not: the log is asked until it answers, then both come in order."""
    log = memory_log()
    async with serving_node(log, QUICK) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            hub = node.node.hub
            stream = hub.by_name["demo", "chat:ops"]
            log.fail_next("unavailable", "read")
            hub.pos[stream.partition] = 1  # as if position 1 had been seen without the stream's first event
            assert (await amy.send("chat:ops", "one"))["seq"] == 1
            assert (await amy.send("chat:ops", "two"))["seq"] == 2
            assert [e["seq"] for e in await amy.events("chat:ops", 2)] == [1, 2]


async def test_a_trimmed_hole_is_jumped() -> None:
    """What was missing has been trimmed meanwhile: its followers are reset and go on."""
    log = memory_log()
    async with serving_node(log, QUICK) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            hub = node.node.hub
            stream = hub.by_name["demo", "chat:ops"]
            hub.pos[stream.partition] = 3  # two commits that this node will never be told of
            for n in range(3):
                assert (await amy.send("chat:ops", f"{n}"))["seq"] == n + 1
            await log.trim("demo", "chat:ops", 4)
            assert (await amy.send("chat:ops", "four"))["seq"] == 4
            assert (await amy.next("reset"))["first"] == 4
            assert (await amy.next("event"))["seq"] == 4
