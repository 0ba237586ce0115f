"""Membership over real sockets: a change has a place in the order, and cuts there."""

from __future__ import annotations

import uuid

import pytest

from core.limits import Limits
from core.model import Entry
from core.tokens import Identity
from gateway.service import WireError
from tests.nodes import TestNode, serving_node, token
from tests.wire_client import hello


def boss(node: TestNode) -> Identity:
    identity = node.node.proving.verify(token("service:boss", roles=["admin"]))
    assert isinstance(identity, Identity)
    return identity


async def test_a_removal_cuts_exactly_after_its_place() -> None:
    """The removed gets its own removal as the last event, is told, and gets nothing of what follows."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "member"})
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            await amy.send("chat:ops", "one")
            event = await node.desk.remove_member(boss(node), "chat:ops", "user:bob")
            assert (event.seq, event.type) == (2, "member.left")
            await amy.send("chat:ops", "three")
            assert [e["seq"] for e in await amy.events("chat:ops", 3)] == [1, 2, 3]
            unsub = await bob.next("unsub")
            assert (unsub["stream"], unsub["seq"]) == ("chat:ops", 2)
            assert (await bob.ask("sub", stream="chat:ops"))["code"] == "forbidden"
            assert (await bob.send("chat:ops", "no"))["code"] == "forbidden"
            assert (await bob.ask("history", stream="chat:ops"))["code"] == "forbidden"
            assert (await bob.ask("presence", stream="chat:ops"))["code"] == "forbidden"
            assert [f["seq"] for f in bob.seen if f["op"] == "event"] == [1, 2]


async def test_a_lagging_subscriber_is_cut_at_the_same_place() -> None:
    """Behind by more than its socket holds when it is removed: it gets all up to the removal and nothing past it."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "member"})
        async with (
            hello(node.url, "user:amy") as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            port = next(c for c in node.node.shard.connections.values() if c.principal == "user:bob")
            send, taken = port.send, []

            def full(data: bytes) -> int:
                taken.append(len(data))
                raise BlockingIOError

            port.send = full
            for n in range(20):
                await amy.send("chat:ops", f"{n}")
            await node.desk.remove_member(boss(node), "chat:ops", "user:bob")
            await amy.send("chat:ops", "not for bob")
            port.send = send
            node.node.hub.pump(port)
            node.node.settle()
            assert (await bob.next("unsub"))["seq"] == 21
            assert [f["seq"] for f in bob.seen if f["op"] == "event"] == list(range(1, 22))
            assert (await bob.ask("ping"))["op"] == "pong"
            assert taken


async def test_a_node_that_has_not_heard_of_a_removal_shows_nothing_past_it() -> None:
    """Neither as history nor over HTTP: what the log holds beyond what this node knows of members is not handed out unasked.

    Whoever was removed at another node could read on here until this one had heard of it.
    """
    async with serving_node(limits=Limits(heads_interval_s=60.0)) as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "member"})
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy, hello(node.url, "user:bob") as bob:
            await amy.send("chat:ops", "for both")
            assert len((await bob.ask("history", stream="chat:ops"))["events"]) == 1
            await node.log.remove_member("demo", "chat:ops", "user:bob", "service:elsewhere")
            [facts] = await node.log.open_streams([("demo", "chat:ops", "user:amy")])
            assert facts is not None
            await node.log.append(
                [Entry("demo", facts.sid, str(uuid.uuid4()), "message", "user:amy", b'"not for bob"')]
            )
            for asked in ({}, {"before": 1_000}):
                answer = await bob.ask("history", stream="chat:ops", **asked)
                assert [event["seq"] for event in answer.get("events", [])] in ([1], [])
            bob_there, amy_there = (Identity("demo", f"user:{name}", frozenset(), 1e12) for name in ("bob", "amy"))
            with pytest.raises(WireError) as refused:
                await node.desk.read(bob_there, "chat:ops", after=0, limit=10)
            assert refused.value.code == "forbidden"
            page = await node.desk.read(amy_there, "chat:ops", after=0, limit=10)
            assert [event.seq for event in page.events] == [1, 2, 3]


async def test_taken_in_again_and_promoted() -> None:
    """Back in, one may follow and send at once; a reader becomes a member without reconnecting."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "reader"})
        async with hello(node.url, "user:bob", {"chat:ops": {}}) as bob:
            assert (await bob.send("chat:ops", "no"))["code"] == "forbidden"
            await node.desk.put_member(boss(node), "chat:ops", "user:bob", "member")
            assert (await bob.send("chat:ops", "yes"))["seq"] == 2
            assert await node.desk.put_member(boss(node), "chat:ops", "user:bob", "member") is None
            await node.desk.remove_member(boss(node), "chat:ops", "user:bob")
            await bob.next("unsub")
            await node.desk.put_member(boss(node), "chat:ops", "user:bob", "member")
            assert (await bob.ask("sub", stream="chat:ops", after=0))["head"] == 4
            events = await bob.events("chat:ops", 4)
            types = [event["type"] for event in events]
            assert types[-4:] == ["member.role", "message", "member.left", "member.joined"]


async def test_owners_manage_and_everybody_may_leave() -> None:
    """Membership is for owners and admins; leaving is one's own affair."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:olga": "owner", "user:bob": "member"})
        olga, bob = (node.node.proving.verify(token(who)) for who in ("user:olga", "user:bob"))
        assert isinstance(olga, Identity)
        assert isinstance(bob, Identity)
        async with hello(node.url, "user:olga", {"chat:ops": {}}) as client:
            event = await node.desk.put_member(olga, "chat:ops", "user:cy", "member")
            assert event is not None
            assert (await client.next("event"))["body"] == {"principal": "user:cy", "role": "member"}
            left = await node.desk.remove_member(bob, "chat:ops", "user:bob")
            assert left.by == "user:bob"
            assert [m.principal for m in await node.desk.members(olga, "chat:ops")] == ["user:cy", "user:olga"]
