"""gateway.desk: the HTTP API gets the socket's rules, lanes and limits, and authorises every call by itself."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from core.limits import Limits
from core.model import Member
from core.ports import Refused
from core.tokens import Identity
from gateway.service import Sent, WireError
from tests.nodes import TestNode, memory_log, serving_node, token
from tests.wire_client import hello


def who(node: TestNode, principal: str, **claims: Any) -> Identity:
    identity = node.node.proving.verify(token(principal, **claims))
    assert isinstance(identity, Identity)
    return identity


def admin(node: TestNode) -> Identity:
    return who(node, "service:ops", roles=["admin"])


async def code(call: Awaitable[object]) -> str:
    """The wire code that a call is refused with."""
    with pytest.raises((WireError, Refused)) as refused:
        await call
    return str(refused.value.code)


async def send(node: TestNode, identity: Identity, stream: str = "chat:ops", **fields: Any) -> Sent:
    wanted = {"key": str(uuid.uuid4()), "type": "message", "body": {"text": "hi"}, "expect": None, **fields}
    return await node.desk.send(identity, stream, **wanted)


async def test_streams_are_made_by_admins() -> None:
    """Nobody else; twice is a conflict; its facts come back."""
    async with serving_node() as node:
        members = [Member("user:amy", "member")]
        amy, boss = who(node, "user:amy"), admin(node)
        assert await code(node.desk.create_stream(amy, "chat:ops", open=False, members=members)) == "forbidden"
        facts = await node.desk.create_stream(boss, "chat:ops", open=False, members=members)
        assert (facts.stream, facts.head, facts.open) == ("chat:ops", 0, False)
        assert await code(node.desk.create_stream(boss, "chat:ops", open=False, members=[])) == "conflict"


async def test_a_send_without_a_socket_is_a_send() -> None:
    """Committed before it returns, shown to those with one, idempotent by key, refused by the same rules."""
    async with serving_node() as node:
        await node.stream("chat:ops", members={"user:rex": "reader"})
        await node.stream("chat:closed", open=False)
        amy = who(node, "user:amy")
        async with hello(node.url, "user:bob", {"chat:ops": {}}) as bob:
            key = str(uuid.uuid4())
            first = await send(node, amy, key=key)
            assert (first.seq, first.dup) == (1, False)
            assert (await bob.next("event"))["body"] == {"text": "hi"}
            again = await send(node, amy, key=key)
            assert (again.seq, again.dup, again.at_ms) == (1, True, first.at_ms)
            with pytest.raises(WireError) as conflict:
                await send(node, amy, expect=0)
            assert (conflict.value.code, conflict.value.head) == ("conflict", 1)
        assert await code(send(node, amy, "chat:closed")) == "forbidden"
        assert await code(send(node, amy, "chat:none")) == "not_found"
        assert await code(send(node, who(node, "user:rex"))) == "forbidden"
        assert await code(send(node, amy, type="Message")) == "bad_request"
        assert await code(send(node, amy, key="x")) == "bad_request"
        assert await code(send(node, amy, type="edit", body={"ref": 9})) == "not_found"
        assert await code(send(node, who(node, "user:bob"), type="delete", body={"ref": 1})) == "forbidden"
        assert (await send(node, admin(node), "chat:closed")).seq == 1


async def test_a_send_while_the_log_is_away() -> None:
    """Unavailable, for a stream that is known and for one that is not; overloaded when too much waits."""
    log = memory_log()
    async with serving_node(log, replace(Limits(), lane_entries_max=0)) as node:
        await node.stream("chat:ops")
        amy = who(node, "user:amy")
        assert await code(send(node, amy)) == "overloaded"
    async with serving_node(log) as node:
        amy = who(node, "user:amy")
        log.fail_next("unavailable", "open_streams")
        assert await code(send(node, amy)) == "unavailable"
        log.fail_next("unavailable", "append")
        assert await code(send(node, amy)) == "unavailable"
        log.fail_next("unavailable", "save_marks")
        log.down = "stopped"
        node.node.hub.signals.mark(node.node.hub.by_name["demo", "chat:ops"], "user:amy", 0, 0)
        node.node.hub.by_name["demo", "chat:ops"].head = 1
        node.node.hub.signals.mark(node.node.hub.by_name["demo", "chat:ops"], "user:amy", 1, 1)
        assert await code(node.desk.my_streams(amy)) == "unavailable"


async def test_reading_pages_and_what_is_trimmed() -> None:
    """Ascending past ``after``; ``first`` tells what is kept; trimming is for admins and cuts the ring too."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        amy, boss = who(node, "user:amy"), admin(node)
        for _ in range(5):
            await send(node, amy)
        page = await node.desk.read(amy, "chat:ops", after=2, limit=2)
        assert ([event.seq for event in page.events], page.head, page.first) == ([3, 4], 5, 1)
        assert await code(node.desk.trim(amy, "chat:ops", 3)) == "forbidden"
        assert await node.desk.trim(boss, "chat:ops", 3) == 3
        assert node.node.hub.by_name["demo", "chat:ops"].base == 3
        page = await node.desk.read(amy, "chat:ops", after=0, limit=10)
        assert ([event.seq for event in page.events], page.head, page.first) == ([3, 4, 5], 5, 3)
        page = await node.desk.read(amy, "chat:ops", after=5, limit=10)
        assert (page.events, page.head) == ([], 5)
        assert await code(node.desk.read(amy, "chat:none", after=0, limit=1)) == "not_found"
        assert await code(node.desk.trim(boss, "chat:none", 3)) == "not_found"
        await node.stream("chat:cold")
        assert await node.desk.trim(boss, "chat:cold", 3) == 1


async def test_members_are_managed_by_owners() -> None:
    """Owners and admins; a member sees the list; others see nothing; what changes nothing makes no event."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:olga": "owner", "user:bob": "member"})
        olga, bob, eve = (who(node, f"user:{name}") for name in ("olga", "bob", "eve"))
        assert await code(node.desk.put_member(bob, "chat:ops", "user:cy", "member")) == "forbidden"
        assert await code(node.desk.put_member(eve, "chat:none", "user:cy", "member")) == "not_found"
        event = await node.desk.put_member(olga, "chat:ops", "user:cy", "member")
        assert event is not None
        assert event.type == "member.joined"
        assert await node.desk.put_member(olga, "chat:ops", "user:cy", "member") is None
        assert await node.desk.put_member(admin(node), "chat:ops", "user:cy", "member") is None
        assert [m.principal for m in await node.desk.members(bob, "chat:ops")] == ["user:bob", "user:cy", "user:olga"]
        assert await code(node.desk.members(eve, "chat:ops")) == "forbidden"
        assert await code(node.desk.remove_member(bob, "chat:ops", "user:cy")) == "forbidden"
        assert (await node.desk.remove_member(admin(node), "chat:ops", "user:cy")).type == "member.left"
        assert await code(node.desk.remove_member(olga, "chat:ops", "user:cy")) == "not_found"


async def test_a_change_whose_turn_has_not_come_is_read_from_the_log() -> None:
    """Other events precede it in its partition: the log tells them in order, the change among them."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "member"})
        async with hello(node.url, "user:bob", {"chat:ops": {}}) as bob:
            await node.log.put_member("demo", "chat:ops", "user:x", "member", "service:elsewhere")
            await node.desk.remove_member(admin(node), "chat:ops", "user:bob")
            assert [e["type"] for e in await bob.events("chat:ops", 2)] == ["member.joined", "member.left"]
            assert (await bob.next("unsub"))["seq"] == 2


async def test_my_streams_and_the_nodes_own_word() -> None:
    """Mine with what is unread; health and metrics for those who run it."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member"})
        amy = who(node, "user:amy")
        await send(node, amy)
        (line,) = await node.desk.my_streams(amy)
        assert (line.stream, line.role, line.head, line.read) == ("chat:ops", "member", 1, 0)
        assert await node.desk.my_streams(who(node, "user:eve")) == []
        health = node.desk.health()
        assert (health.live, health.ready, health.reasons) == (True, True, [])
        assert b"readback_committed_total 1" in node.desk.metrics_text()
