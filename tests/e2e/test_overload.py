"""Overload, over real sockets: what is shed at each level, that it comes back, and that nothing accepted is lost.

The pulse of these nodes beats once an hour: the tests beat for it, so that a busy machine changes nothing. The last test
leaves it to the node, and fills a lane.
"""

from __future__ import annotations

import gc
import types
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from core.limits import Limits
from core.model import Entry, Verdict
from core.overload import CONNECTIONS, PRESENCE, SENDS, STEPS, TYPING
from core.tokens import Identity
from gateway.node import Node
from gateway.service import WireError
from store.memory import MemoryLog
from tests.nodes import memory_log, serving_node, token, until
from tests.raw_client import RawClient
from tests.wire_client import WireClient, hello

LIMITS = Limits()
BY_HAND = replace(LIMITS, pulse_interval_s=3_600.0, presence_grace_s=0.05)


def raise_to(node: Node, level: int) -> None:
    for _ in range(LIMITS.shed_samples + level):
        node.pulse.beat(LIMITS.shed_delay_s * STEPS[level - 1].delay)
    assert node.pulse.level == level


def calm_to(node: Node, level: int) -> None:
    while node.pulse.level > level:
        node.pulse.beat(0.0)


def gated(log: MemoryLog) -> trio.Event:
    """The log commits nothing before the event is set."""
    gate = trio.Event()
    append = log.append

    async def held(entries: Sequence[Entry]) -> list[Verdict]:
        await gate.wait()
        return await append(entries)

    log.append = held  # type: ignore[method-assign]
    return gate


async def quiet(client: WireClient, op: str, **fields: object) -> bool:
    """Whether no such frame comes before a pong asked for two flushes from now."""
    await trio.sleep(2.5 * LIMITS.signal_flush_s)
    await client.ask("ping")
    return not any(
        frame["op"] == op and all(frame.get(name) == value for name, value in fields.items())
        for frame in client._unread
    )


async def test_typing_is_shed_first_and_its_end_passes() -> None:
    """At level 1 who begins to type is not shown, who had begun before is shown to stop; at 0 all is as before."""
    async with serving_node(limits=BY_HAND) as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:cem", {"chat:ops": {}}) as cem,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            await amy.ask("signal", stream="chat:ops", kind="typing", value=True)
            assert (await bob.next("signal", kind="typing"))["value"] is True
            raise_to(node.node, TYPING)
            assert (await cem.ask("signal", stream="chat:ops", kind="typing", value=True))["op"] == "ok"
            await amy.ask("signal", stream="chat:ops", kind="typing", value=False)
            assert (await bob.next("signal", kind="typing", by="user:amy"))["value"] is False
            assert await quiet(bob, "signal", kind="typing", by="user:cem")
            assert 'readback_shed_total{what="typing"} 1\n' in node.desk.metrics_text().decode()
            calm_to(node.node, 0)
            await cem.ask("signal", stream="chat:ops", kind="typing", value=True)
            assert (await bob.next("signal", kind="typing", by="user:cem"))["value"] is True


async def test_presence_is_withheld_and_told_afterwards() -> None:
    """At level 2 comings and goings are not told, yet anybody who asks gets the truth; when the level falls, each who moved
    is told once, as it is by then: who came and went meanwhile is never called online."""
    async with serving_node(limits=BY_HAND) as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:cem", {"chat:ops": {}}) as cem,
        ):
            await amy.next("signal", kind="presence", by="user:cem")
            raise_to(node.node, PRESENCE)
            await cem.ask("signal", stream="chat:ops", kind="presence", value="away")
            async with hello(node.url, "user:dee", {"chat:ops": {}}):
                pass
            async with hello(node.url, "user:bob", {"chat:ops": {}}):
                assert await quiet(amy, "signal", kind="presence")
                here = await amy.ask("presence", stream="chat:ops")
                assert {one["by"] for one in here["online"]} >= {"user:amy", "user:bob", "user:cem"}
                await until(lambda: "user:dee" not in node.node.hub.by_name["demo", "chat:ops"].present)
                calm_to(node.node, TYPING)
                assert (await amy.next("signal", kind="presence", by="user:bob"))["value"] == "online"
                assert (await amy.next("signal", kind="presence", by="user:cem"))["value"] == "away"
                assert await quiet(amy, "signal", kind="presence", value="online")
                told = node.desk.metrics_text().decode()
                assert int(told.partition('readback_shed_total{what="presence"} ')[2].partition("\n")[0]) > 0


async def test_events_flow_while_all_else_is_shed() -> None:
    """At level 4 a chat goes on: sends are committed, acknowledged and delivered in order."""
    async with serving_node(limits=BY_HAND) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy, hello(node.url, "user:bob") as bob:
            raise_to(node.node, CONNECTIONS)
            await bob.ask("sub", stream="chat:ops")
            for n in range(1, 6):
                assert (await amy.send("chat:ops", f"{n}"))["seq"] == n
            assert [event["seq"] for event in await bob.events("chat:ops", 5)] == [1, 2, 3, 4, 5]


async def test_newcomers_are_told_when_to_come_back() -> None:
    """At level 4 a handshake is answered 503 with a Retry-After that differs from one to the next; those who are in stay;
    afterwards everybody gets in."""
    async with serving_node(limits=BY_HAND) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            raise_to(node.node, CONNECTIONS)
            waits = set()
            for _ in range(40):
                stream = await trio.open_tcp_stream("127.0.0.1", node.port)
                async with stream:
                    await stream.send_all(b"GET /v1/ws HTTP/1.1\r\n")
                    answer = b""
                    while data := await stream.receive_some(4_096):
                        answer += data
                assert answer.startswith(b"HTTP/1.1 503 ")
                waits.add(int(answer.lower().partition(b"retry-after: ")[2].partition(b"\r\n")[0]))
            assert waits == {3, 4}
            assert 'readback_shed_total{what="connections"} 40\n' in node.desk.metrics_text().decode()
            assert (await amy.send("chat:ops", "still here"))["seq"] == 1
            calm_to(node.node, CONNECTIONS - 1)
            async with hello(node.url, "user:bob", {"chat:ops": {"after": 0}}) as bob:
                assert len(await bob.events("chat:ops", 1)) == 1


async def test_a_drain_has_the_first_word() -> None:
    """Overload that ends during a drain does not open the door again."""
    async with serving_node(limits=BY_HAND) as node:
        shard = node.node.shard
        raise_to(node.node, CONNECTIONS)
        shard.refusing_retry_after_s = 9.0
        calm_to(node.node, 0)
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        async with stream:
            answer = b""
            while data := await stream.receive_some(4_096):
                answer += data
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert shard.counts.shed == 0


async def test_sends_are_refused_last_and_what_was_accepted_is_committed() -> None:
    """At level 5 a send, by socket or by HTTP, is ``overloaded`` with a time to repeat it; one that was taken before is
    committed, acknowledged and delivered all the same; repeated with the same key, the refused one lands once."""
    log = memory_log()
    gate = gated(log)
    async with serving_node(log, BY_HAND) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            before = await amy.say("send", stream="chat:ops", key=str(uuid.uuid4()), type="message", body=1)
            await until(lambda: node.node.ops.sends_taken == 1)
            raise_to(node.node, SENDS)
            key = str(uuid.uuid4())
            refused = await amy.send("chat:ops", "two", key=key)
            assert refused["code"] == "overloaded"
            assert 0.5 <= refused["retry_after"] <= 1.0
            who = node.node.proving.verify(token("user:amy"))
            assert isinstance(who, Identity)
            with pytest.raises(WireError) as http:
                await node.desk.send(who, "chat:ops", key=key, type="message", body=2, expect=None)
            assert http.value.code == "overloaded"
            assert http.value.retry_after_s is not None
            gate.set()
            assert (await amy.next("ok", id=before))["seq"] == 1
            calm_to(node.node, SENDS - 1)
            assert (await amy.send("chat:ops", "two", key=key))["seq"] == 2
            assert (await amy.send("chat:ops", "two", key=key))["dup"] is True
            assert [event["seq"] for event in await amy.events("chat:ops", 2)] == [1, 2]
            assert 'readback_shed_total{what="sends"} 2\n' in node.desk.metrics_text().decode()


async def test_a_lane_that_fills_stops_sends_and_all_that_was_taken_lands() -> None:
    """The log stops; sends of many tenants pile up until the node refuses all of them, by itself. It goes on: every send
    that was not refused is acknowledged, the log holds exactly those, once each, and sends are taken again."""
    log = memory_log()
    gate = gated(log)
    limits = replace(LIMITS, lane_entries_max=40, batch_entries_max=20, pulse_interval_s=0.01, shed_calm_s=0.1)
    tenants = [f"t{n}" for n in range(14)]
    async with serving_node(log, limits) as node, AsyncExitStack() as stack:
        clients = []
        for tenant in tenants:
            await node.stream("chat:ops", tenant=tenant)
            streams: dict[str, Any] = {"chat:ops": {}}
            clients.append(await stack.enter_async_context(hello(node.url, "user:amy", streams, tenant=tenant)))
        said = [[await _say_send(client, n) for n in range(3)] for client in clients]
        await until(lambda: node.node.pulse.level == SENDS)
        for client, ids in zip(clients, said, strict=True):
            ids.append(await _say_send(client, 3))
            assert (await client.next("error", id=ids[3]))["code"] == "overloaded"
        gate.set()
        for tenant, client, ids in zip(tenants, clients, said, strict=True):
            refused = {frame["id"] for frame in client.seen if frame["op"] == "error"}
            taken = {(await client.next("ok"))["id"] for _ in range(4 - len(refused))}
            assert taken | refused == set(ids)
            assert not taken & refused
            stream = node.node.hub.by_name[tenant, "chat:ops"]
            events = await log.read(tenant, stream.sid, 0, 100)
            assert [event.body for event in events] == [b"%d" % n for n in range(4) if ids[n] in taken]
        await until(lambda: node.node.pulse.level < SENDS)
        assert (await clients[0].send("chat:ops", "more"))["op"] == "ok"


async def test_a_tenant_that_fills_its_part_of_a_lane_is_told_so_alone() -> None:
    """The log stops; one tenant sends more than a lane has room for. It is refused past half of it; another's sends are
    taken, and only what is least is shed."""
    log = memory_log()
    gate = gated(log)
    limits = replace(LIMITS, lane_entries_max=40, batch_entries_max=20, pulse_interval_s=0.01, shed_calm_s=0.1)
    async with serving_node(log, limits) as node:
        await node.stream("chat:ops")
        await node.stream("chat:ops", tenant="quiet")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:qi", {"chat:ops": {}}, tenant="quiet") as qi,
        ):
            for n in range(50):
                await _say_send(amy, n)
            errors = [await amy.next("error") for _ in range(25)]
            assert {error["code"] for error in errors} == {"overloaded"}
            sent = await _say_send(qi, 1)
            await until(lambda: node.node.pulse.level == PRESENCE)
            gate.set()
            assert (await qi.next("ok"))["id"] == sent
            assert node.node.pulse.level <= PRESENCE


async def _say_send(client: WireClient, n: int) -> int:
    return await client.say("send", stream="chat:ops", key=str(uuid.uuid4()), type="message", body=n)


# -- the collector ----------------------------------------------------------------------------------------------------

OURS = ("core.", "store.", "gateway.")
FOLDERS = ("/core/", "/store/", "/gateway/")


def ours(thing: object) -> bool:
    """An instance, a function, a frame, a coroutine of the three rings."""
    if isinstance(thing, types.FunctionType):
        return thing.__module__.startswith(OURS)
    if isinstance(thing, types.MethodType):
        return ours(thing.__self__)
    code = None
    if isinstance(thing, types.FrameType):
        code = thing.f_code
    elif isinstance(thing, types.CoroutineType):
        code = thing.cr_code
    elif isinstance(thing, types.GeneratorType):
        code = thing.gi_code
    if code is not None:
        return any(f"{folder}" in code.co_filename for folder in FOLDERS) and "site-packages" not in code.co_filename
    return type(thing).__module__.startswith(OURS)


@contextmanager
def garbage_kept() -> Iterator[list[object]]:
    """No collection happens by itself; at the end of the block the list holds what only a collection would have freed."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def _one_life(node: Node, n: int, others: RawClient) -> None:
    """Connect, follow, talk, listen, be refused, type, leave; then resume and leave for good."""
    client = RawClient(node)
    welcome = await client.hello(f"user:{n}", streams={"chat:ops": {"last": 2}})
    await client.say("sub", id=1, stream="chat:more")
    await client.say("send", id=2, stream="chat:ops", key=str(uuid.uuid4()), type="message", body={"n": n})
    await client.say("send", id=3, stream="chat:ops", key="none", type="message", body=1)
    await client.say("mark", id=4, stream="chat:ops", delivered=1, read=1)
    await client.say("signal", id=5, stream="chat:ops", kind="typing", value=True)
    await client.say("history", id=6, stream="chat:ops", limit=5)
    await client.say("presence", id=7, stream="chat:ops")
    await client.say("unsub", id=8, stream="chat:more")
    await client.say("nonsense", id=9)
    answered = set()
    while len(answered) < 9:
        message = await client.message()
        if message.get("id"):
            answered.add(message["id"])
    await client.stream.aclose()
    again = RawClient(node)
    await again.upgrade()
    await again.say("resume", id=1, resume=welcome["resume"], log=welcome["log"], streams={"chat:ops": 0})
    while (await again.message()).get("op") != "event":
        pass
    await again.write(b"\x88\x80\x01\x02\x03\x04")  # a close frame
    await again.ended()
    await again.stream.aclose()
    while (await others.message()).get("op") != "event":
        pass


async def test_the_hot_path_leaves_nothing_to_the_collector(autojump_clock: trio.testing.MockClock) -> None:
    """Clients come, talk, resume and go: all that they were is freed by its last reference. A cycle would be found here,
    and would wait for the collector on a node where that comes by once a day."""
    async with serving_node() as served:
        node = served.node
        for name in ("chat:ops", "chat:more"):
            await served.stream(name)
        bob = RawClient(node)
        await bob.hello("user:bob", streams={"chat:ops": {}})
        for n in range(3):
            await _one_life(node, n, bob)  # imports and caches of a first time
        with garbage_kept() as found:
            for n in range(10):
                await _one_life(node, n, bob)
            await trio.sleep(6 * LIMITS.heartbeat_s)  # until the shard's wheel has forgotten them
            assert not node.shard.connections
            assert not node.shard._wheel
        assert [thing for thing in found if ours(thing)] == []
        await bob.stream.aclose()
