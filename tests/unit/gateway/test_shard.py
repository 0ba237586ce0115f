"""gateway.shard: every connection for itself, bounded in what it may pile up, looked after in time."""

from __future__ import annotations

import math
import select
from dataclasses import replace
from typing import Any

import pytest
import trio

from core.frames import BINARY, CLOSE, PING, PONG, TEXT, close_payload, masked_frame
from core.limits import Limits
from gateway.connection import State
from gateway.shard import LINGER_TICKS, PASSERS_MAX
from tests.nodes import TestNode, serving_node, ticks, token
from tests.raw_client import MASK, UPGRADE, RawClient


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_ping_is_ponged_and_a_close_echoed() -> None:
    """The framing's own business: pong with the same payload, close with the same code, then the end."""
    async with serving_node() as node:
        client = RawClient(node.node)
        assert (await client.hello())["op"] == "welcome"
        await client.write(masked_frame(PING, b"are you there", MASK))
        assert await client.frame() == (PONG, b"are you there")
        await client.write(masked_frame(CLOSE, close_payload(1000, "bye"), MASK))
        assert await client.frame() == (CLOSE, close_payload(1000, ""))
        assert await client.frame() is None
        await client.stream.aclose()
        await settled()
        assert client.connection.state is State.CLOSED
        assert not node.node.shard.connections


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked_frame(BINARY, b"x", MASK), 1003),
        (masked_frame(TEXT, b"\xff", MASK), 1007),
        (b"\x81\x01x", 1002),
        (masked_frame(TEXT, b"x" * 70_000, MASK), 4505),
        (masked_frame(TEXT, b"{", MASK), 4500),
        (masked_frame(TEXT, b"[]", MASK), 4500),
    ],
    ids=["binary", "bad utf-8", "unmasked", "too large", "no JSON", "no object"],
)
async def test_bytes_that_are_no_message_end_their_connection(data: bytes, code: int) -> None:
    """Each with its close code; the neighbour is served on."""
    async with serving_node() as node:
        bad, good = RawClient(node.node), RawClient(node.node)
        await good.hello()
        await bad.hello()
        await bad.write(data)
        assert await bad.close_code() == code
        await good.say("ping", id=1)
        assert (await good.message())["op"] == "pong"
        await bad.stream.aclose()
        await good.stream.aclose()


async def test_an_upgrade_that_is_refused_says_why() -> None:
    """No WebSocket request: an HTTP answer, and the end."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.ended()).startswith(b"HTTP/1.1 4")
        assert node.node.shard.counts.handshakes_refused == 1
        await client.stream.aclose()


async def test_messages_may_come_with_the_upgrade_and_in_pieces() -> None:
    """A client that does not wait for the answer, and one that dribbles: both are understood."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.write(UPGRADE + masked_frame(TEXT, b'{"op":"ping","id":1}', MASK))
        while b"pong" not in client.received:
            await client._more()
        for byte in masked_frame(TEXT, b'{"op":"ping","id":2}', MASK):
            await client.write(bytes([byte]))
        client.received.clear()
        assert (await client.message())["id"] == 2
        await client.stream.aclose()


async def test_half_a_handshake_is_not_waited_for() -> None:
    """Held open, it is closed after its time without a word."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.write(UPGRADE[:40])
        await settled()
        ticks(node, 6)
        assert await client.ended() == b""
        assert not node.node.shard.connections
        await client.stream.aclose()


async def test_after_the_last_words_nobody_is_waited_for_long() -> None:
    """A peer that does not close after our close is closed after the linger; what it still says is thrown away."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.hello()
        await client.write(masked_frame(TEXT, b"[]", MASK))
        assert await client.close_code() == 4500
        await client.say("ping", id=1)
        await settled()
        assert client.connection.state is State.CLOSING
        ticks(node, LINGER_TICKS)
        assert client.connection.state is State.CLOSED
        assert await client.ended() == b""
        node.node.shard.close(client.connection)
        await client.stream.aclose()


def plant_a_bug(node: TestNode) -> None:
    """A bug in the handling of messages whose id is 13."""
    message = node.node.ops.message

    def fails(connection: Any, payload: bytes) -> None:
        if b'"id": 13' in payload:
            raise RuntimeError("a bug")
        message(connection, payload)

    node.node.ops.message = fails  # type: ignore[method-assign]


@pytest.mark.parametrize("behind_a_wait", [False, True])
async def test_a_bug_met_by_one_connection_ends_it_alone(behind_a_wait: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, told as internal, and nobody else notices; also when the message had waited behind another."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        bad, good = RawClient(node.node), RawClient(node.node)
        await bad.hello()
        await good.hello("user:bob")
        plant_a_bug(node)
        if behind_a_wait:
            history = masked_frame(TEXT, b'{"op":"history","id":1,"stream":"chat:ops"}', MASK)
            await bad.write(history + masked_frame(TEXT, b'{"op":"ping","id": 13}', MASK))
        else:
            await bad.say("ping", id=13)
        assert await bad.close_code() == 4000
        await good.say("ping", id=1)
        assert (await good.message())["op"] == "pong"
        assert [record.message for record in caplog.records] == [
            "connection of tenant 'demo' ended by an internal error"
        ]
        await bad.stream.aclose()
        await good.stream.aclose()


async def test_ops_behind_a_wait_keep_their_order() -> None:
    """What comes after a message that waits for the log is answered after it."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello()
        ops = [b'{"op":"history","id":1,"stream":"chat:ops"}', b'{"op":"ping","id":2}']
        ops += [b'{"op":"history","id":3,"stream":"chat:ops"}', b'{"op":"ping","id":4}']
        await client.write(b"".join(masked_frame(TEXT, op, MASK) for op in ops))
        assert [(await client.message())["id"] for _ in ops] == [1, 2, 3, 4]
        assert not client.connection.choked
        await client.stream.aclose()


async def test_who_takes_no_answers_is_not_read_from() -> None:
    """Answers pile up to the bound, then requests stay in the kernel; when it reads again all are answered, once."""
    limits = replace(Limits(), replies_per_connection_max=20)
    async with serving_node(limits=limits) as node:
        client = RawClient(node.node, buffer_bytes=4_608)
        await client.hello()
        count = 3_000

        async def ask() -> None:
            for n in range(count):
                await client.say("ping", id=n)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with trio.fail_after(5):
                while not client.connection.choked:  # noqa: ASYNC110  # the shard has no event for it
                    await trio.sleep(0.001)
            assert len(client.connection.replies or ()) < 2_000
            assert [(await client.message())["id"] for _ in range(count)] == list(range(count))
        assert not client.connection.choked
        await client.stream.aclose()


async def test_a_reset_connection_is_cleared_away() -> None:
    """The peer vanished: found by reading or by sending, its place is free and its room is told."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        client, other = RawClient(node.node), RawClient(node.node)
        await client.hello(streams={"chat:ops": {}})
        await other.hello("user:bob", streams={"chat:ops": {}})
        await client.stream.aclose()
        await settled()
        await other.say(
            "send", id=1, stream="chat:ops", key="0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11", type="message", body=1
        )
        while (await other.message()).get("id") != 1:
            pass
        assert list(node.node.shard.connections.values()) == [other.connection]
        await other.stream.aclose()


async def test_a_bye_before_the_upgrade_is_just_the_end() -> None:
    """There is no frame to say it in."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await node.node.drain(0.1)
        assert await client.ended() == b""
        await client.stream.aclose()


async def test_a_hello_timeout_does_not_hit_who_said_it() -> None:
    """The wheel's old entries are stale once a connection has moved on."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.upgrade()
        ticks(node, 4)
        await client.say("hello", id=1, token=token())
        assert (await client.message())["op"] == "welcome"
        ticks(node, 20)
        assert client.connection.state is State.OPEN
        ticks(node, 5)
        assert await client.frame() == (PING, b"")
        await client.stream.aclose()


IDLE = replace(Limits(), presence_idle_s=60.0, shed_delay_s=60.0)


async def pinged(node: TestNode, client: RawClient, seconds: int) -> None:
    """Time passes with nothing but pings from the client."""
    for _ in range(seconds // 20):
        ticks(node, 20)
        client.connection.heard = node.node.shard.tick
        await client.say("ping", id=1)
        await settled()


async def test_a_connection_that_only_pings_is_away_until_its_next_op() -> None:
    """Pings keep it connected and not active; any other op brings it back, and another device keeps the person online."""
    async with serving_node(limits=IDLE) as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello(streams={"chat:ops": {}})
        signals, stream = node.node.hub.signals, node.node.hub.by_name["demo", "chat:ops"]
        await pinged(node, client, 40)
        assert signals.online(stream)[0] == [("user:amy", "online", 1)]
        await pinged(node, client, 60)
        assert signals.online(stream)[0] == [("user:amy", "away", 1)]
        desk = RawClient(node.node)
        await desk.hello(streams={"chat:ops": {}})
        assert signals.online(stream)[0] == [("user:amy", "online", 2)]
        await desk.stream.aclose()
        await settled()
        assert signals.online(stream)[0] == [("user:amy", "away", 1)]
        await client.say("mark", stream="chat:ops", read=0)
        await settled()
        node.node.hub.signals.flush(trio.current_time(), large_rooms=True)
        assert signals.online(stream)[0] == [("user:amy", "online", 1)]
        await client.stream.aclose()


async def test_who_said_away_stays_away_whatever_it_does() -> None:
    """Being idle meanwhile changes nothing: only saying online does."""
    async with serving_node(limits=IDLE) as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello(streams={"chat:ops": {}})
        await client.say("signal", kind="presence", value="away")
        await pinged(node, client, 120)
        await client.say("mark", stream="chat:ops", read=0)
        await settled()
        assert client.connection.away
        await client.say("signal", kind="presence", value="online")
        await settled()
        node.node.hub.signals.flush(trio.current_time(), large_rooms=True)
        assert not client.connection.away
        await client.stream.aclose()


async def test_nobody_is_idle_where_that_is_switched_off() -> None:
    """presence_idle_s of 0: silence is never away."""
    async with serving_node(limits=replace(IDLE, presence_idle_s=0.0)) as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello(streams={"chat:ops": {}})
        await pinged(node, client, 200)
        assert not client.connection.away
        await client.stream.aclose()


async def test_the_second_comes_once_whatever_the_clock_started_at(mock_clock: trio.testing.MockClock) -> None:
    """From 0.001 a second later is 1.001, and 1.001 - 0.001 is less than 1: the tick woke again and again, for as long as the
    clock said so."""
    mock_clock.jump(0.001)
    async with serving_node() as node:
        mock_clock.jump(1.0)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert node.node.shard.tick == 1


# -- a storm of newcomers -----------------------------------------------------------------------------------------------


async def test_newcomers_share_a_turn_with_those_who_talk() -> None:
    """Twenty come at once: while an open connection was heard just now, so many are read a turn; else all of them."""
    for talking, read in ((True, [PASSERS_MAX, 2 * PASSERS_MAX, 20]), (False, [20, 20, 20])):
        async with serving_node() as node:
            shard = node.node.shard
            clients = [RawClient(node.node) for _ in range(20)]
            shard._talk_s = math.inf if talking else -math.inf
            for client in clients:
                client.stream.socket._sock.send(UPGRADE)  # type: ignore[attr-defined]
            served = []
            for _ in range(3):
                unheard = [one.connection for one in clients if one.connection.state is State.HANDSHAKE]
                shard.serve([(connection.fd, select.EPOLLIN) for connection in unheard])
                served.append(sum(client.connection.state is State.HELLO for client in clients))
            assert served == read
            for client in clients:
                await client.stream.aclose()


async def test_the_wheel_holds_nobody_who_is_gone() -> None:
    """A storm of returns left every closed connection in it until its next heartbeat was due."""
    async with serving_node() as node:
        shard = node.node.shard
        clients = [RawClient(node.node) for _ in range(3)]
        for client in clients:
            await client.hello()
        assert sum(len(same) for same in shard._wheel.values()) == 3
        for client in clients:
            await client.stream.aclose()
        await settled()
        assert shard._wheel == {}
