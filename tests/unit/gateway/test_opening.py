"""gateway.opening: what a position means, and welcomes that are true although the world moved while the log was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from trio_websocket import open_websocket_url

from core.limits import Limits
from core.stream import Stream
from gateway.opening import AT_HEAD, Position, parse_position, start
from store.memory import MemoryLog
from tests.nodes import TestNode, memory_log, serving_node, token
from tests.wire_client import WireClient, hello, wire_client


@pytest.mark.parametrize(
    ("spec", "position"),
    [
        ({}, AT_HEAD),
        ({"after": None}, AT_HEAD),
        ({"after": 0}, Position(after=0)),
        ({"last": 20, "more": 1}, Position(last=20)),
        ({"after": 1, "last": 1}, "after, last: one of them, not both"),
        ({"after": -1}, "after, last: an integer from 0"),
        ({"after": True}, "after, last: an integer from 0"),
        ({"last": "2"}, "after, last: an integer from 0"),
        ({"last": 2**60}, "after, last: an integer from 0"),
    ],
)
def test_positions(spec: dict[str, Any], position: Position | str) -> None:
    """after, last, or neither; anything else is said to be wrong."""
    assert parse_position(spec) == position


def test_where_a_position_starts() -> None:
    """``last`` reaches back no further than what is kept, nor before the first event."""
    stream = Stream("demo", "chat:a", 1, 0, 10, 4, False)
    assert start(stream, Position(after=99)) == 99
    assert start(stream, AT_HEAD) == 10
    assert start(stream, Position(last=2)) == 8
    assert start(stream, Position(last=50)) == 3
    assert start(Stream("demo", "chat:a", 1, 0, 0, 1, False), Position(last=5)) == 0


def meanwhile(log: MemoryLog, act: Any) -> None:
    """Let ``act`` happen while the next question about streams is on its way back."""
    ask = log.open_streams

    async def open_streams(asked: Any) -> Any:
        facts = await ask(asked)
        log.open_streams = ask  # type: ignore[method-assign]
        await act()
        return facts

    log.open_streams = open_streams  # type: ignore[method-assign]


async def warm(node: TestNode) -> None:
    """The node knows chat:warm and amy's role there; chat:cold it has to ask about."""
    await node.stream("chat:warm", open=False, members={"user:amy": "member"})
    await node.stream("chat:cold")
    async with hello(node.url, "user:amy", {"chat:warm": {}}):
        pass


BOTH: dict[str, Any] = {"chat:warm": {"after": 0}, "chat:cold": {}}


async def test_a_role_that_changed_while_the_log_was_asked_is_asked_again() -> None:
    """Promoted during the hello: the welcome used to say forbidden, because the old role was gone and the new unknown."""
    log = memory_log()
    async with serving_node(log) as node:
        await warm(node)

        async def promote() -> None:
            event = await log.put_member("demo", "chat:warm", "user:amy", "owner", "service:x")
            assert event is not None
            node.node.show(event)

        meanwhile(log, promote)
        async with hello(node.url, "user:amy", BOTH) as amy:
            assert amy.seen[0]["streams"]["chat:warm"] == {"head": 1, "after": 0}
            assert (await amy.next("event"))["type"] == "member.role"


async def test_removed_while_the_log_was_asked() -> None:
    """Removed during the hello: forbidden, and no event of that stream."""
    log = memory_log()
    async with serving_node(log) as node:
        await warm(node)

        async def remove() -> None:
            node.node.show(await log.remove_member("demo", "chat:warm", "user:amy", "service:x"))

        meanwhile(log, remove)
        async with hello(node.url, "user:amy", BOTH) as amy:
            assert amy.seen[0]["streams"] == {"chat:warm": {"error": "forbidden"}, "chat:cold": {"head": 0, "after": 0}}


async def test_a_stream_let_go_while_the_log_was_asked_is_asked_for() -> None:
    """Evicted during the hello: the welcome used to call it not found."""
    log = memory_log()
    async with serving_node(log, replace(Limits(), presence_grace_s=0.0, signal_flush_s=0.001)) as node:
        await warm(node)

        async def forget() -> None:
            node.node.hub.signals.tick(1e12)
            node.node.hub.evict(1e12)
            assert ("demo", "chat:warm") not in node.node.hub.by_name

        meanwhile(log, forget)
        async with hello(node.url, "user:amy", BOTH) as amy:
            assert amy.seen[0]["streams"] == {
                "chat:warm": {"head": 0, "after": 0},
                "chat:cold": {"head": 0, "after": 0},
            }


async def test_a_membership_that_never_rests_ends_as_unavailable() -> None:
    """Every answer is overtaken: after some tries the client is told to come back."""
    log = memory_log()
    async with serving_node(log) as node:
        await warm(node)
        role = iter(["owner", "member"] * 50)

        async def change() -> None:
            event = await log.put_member("demo", "chat:warm", "user:amy", next(role), "service:x")
            assert event is not None
            node.node.show(event)
            meanwhile(log, change)

        meanwhile(log, change)
        async with wire_client(node.url) as client:
            await client.say("hello", token=token("user:amy"), streams=BOTH)
            assert (await client.closed())[0] == 4006


async def test_a_cursor_that_this_node_has_not_heard_of_is_asked_about() -> None:
    """Committed elsewhere a moment ago: the log knows it, so it is no cursor beyond head and no reset."""
    log = memory_log()
    async with serving_node(log) as here, serving_node(log) as there:
        await here.stream("chat:ops")
        async with (
            hello(here.url, "user:amy", {"chat:ops": {}}),
            hello(there.url, "user:amy", {"chat:ops": {}}) as amy,
        ):
            for n in range(3):
                await amy.send("chat:ops", f"{n}")
            async with hello(here.url, "user:bob", {"chat:ops": {"after": 2}}) as bob:
                assert bob.seen[0]["streams"]["chat:ops"]["after"] == 2
                assert (await bob.next("event"))["seq"] == 3
                ok = await bob.ask("sub", stream="chat:ops", after=3)
                assert ok["after"] == 3
                assert not [frame for frame in bob.seen if frame["op"] == "reset"]


async def test_an_authorization_header_stands_in_for_the_token() -> None:
    """Bearer in the upgrade is enough; another scheme is not."""
    async with serving_node() as node:
        for scheme, op in (("Bearer", "welcome"), ("bearer", "welcome"), ("Basic", "bye")):
            headers = [("Authorization", f"{scheme} {token()}")]
            async with open_websocket_url(node.url, extra_headers=headers) as websocket:
                client = WireClient(websocket)
                await client.say("hello")
                assert (await client.next())["op"] == op
                if op == "bye":
                    assert (await client.closed())[0] == 4501
                await websocket.aclose()
                await websocket._close_stream()
