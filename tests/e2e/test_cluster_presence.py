"""Presence, typing and markers over nodes, as clients see them: sockets, a bus in memory, one log."""

from __future__ import annotations

from dataclasses import replace

from core.limits import Limits
from tests.nodes import serving_cluster, until
from tests.wire_client import hello

SHORT = replace(Limits(), presence_grace_s=0.2, lease_s=1.0, node_beat_s=0.2)


async def test_two_clients_of_two_nodes_know_of_each_other() -> None:
    """Who comes, types, reads and goes on one node is told on the other; the list is that of both."""
    async with serving_cluster(2, limits=SHORT) as (one, two):
        await one.stream("chat:ops")
        async with hello(one.url, "user:amy", {"chat:ops": {}}) as amy:
            await amy.ask("send", stream="chat:ops", key="00000000-0000-4000-8000-000000000001", body={})
            async with hello(two.url, "user:bob", {"chat:ops": {}}) as bob:
                assert (await amy.next("signal", by="user:bob"))["value"] == "online"
                listed = await bob.ask("presence", stream="chat:ops")
                assert {(person["by"], person["devices"]) for person in listed["online"]} == {
                    ("user:amy", 1),
                    ("user:bob", 1),
                }
                await bob.say("signal", stream="chat:ops", kind="typing", value=True)
                assert (await amy.next("signal", kind="typing"))["value"] is True
                await bob.say("mark", stream="chat:ops", read=1)
                assert await amy.next("mark") == {
                    "op": "mark",
                    "stream": "chat:ops",
                    "by": "user:bob",
                    "delivered": 1,
                    "read": 1,
                }
                await bob.ask("signal", kind="presence", value="away")
                assert (await amy.next("signal", kind="presence"))["value"] == "away"
            assert (await amy.next("signal", kind="presence"))["value"] == "offline"


async def test_a_list_asked_for_at_once_has_the_people_of_other_nodes() -> None:
    """The first question about a stream that this node has never held waits for the others' answers."""
    async with serving_cluster(3) as (one, two, three):
        await one.stream("chat:ops")
        async with (
            hello(one.url, "user:amy", {"chat:ops": {}}),
            hello(two.url, "user:bob", {"chat:ops": {}}),
            hello(three.url, "user:cy", {}) as cy,
        ):
            listed = await cy.ask("presence", stream="chat:ops")
            assert {person["by"] for person in listed["online"]} == {"user:amy", "user:bob"}
            refused = await cy.ask("presence", stream="chat:none")
            assert refused["code"] == "not_found"


async def test_a_node_killed_is_seen_one_lease_later() -> None:
    """Its people are offline; who has come back to another node meanwhile never was."""
    async with serving_cluster(2, limits=SHORT) as (one, two):
        await one.stream("chat:ops")
        async with hello(one.url, "user:amy", {"chat:ops": {}}) as amy:
            async with hello(two.url, "user:bob", {"chat:ops": {}}), hello(two.url, "user:cy", {"chat:ops": {}}):
                await amy.next("signal", by="user:bob", value="online")
                await amy.next("signal", by="user:cy", value="online")
                await two.stop()
            async with hello(one.url, "user:cy", {"chat:ops": {}}) as cy:
                assert (await amy.next("signal", kind="presence"))["by"] == "user:bob"
                listed = await cy.ask("presence", stream="chat:ops")
                assert {(person["by"], person["devices"]) for person in listed["online"]} == {
                    ("user:amy", 1),
                    ("user:cy", 1),
                }
            await two.start()
            assert one.node.cluster is not None
            await until(lambda: len(one.node.cluster.gossip.nodes) == 1)  # type: ignore[union-attr]
            async with hello(two.url, "user:dee", {"chat:ops": {}}):
                assert (await amy.next("signal", by="user:dee"))["value"] == "online"
