"""Presence, typing and markers over nodes, as clients see them: sockets, a bus in memory, one log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio

from core.limits import Limits
from core.stream import Stream
from tests.nodes import serving_cluster, until
from tests.wire_client import hello

LIMITS = Limits()
SHORT = replace(LIMITS, presence_grace_s=0.2, lease_s=1.0, node_beat_s=0.2)


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


async def test_a_marker_lost_on_the_bus_is_read_from_the_log_after_its_nodes_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stored by a node whose message nobody heard and that is no more: nobody else can tell it."""
    async with serving_cluster(2, limits=SHORT) as (one, two):
        await one.stream("chat:ops")
        async with hello(one.url, "user:amy", {"chat:ops": {}}) as amy:
            await amy.ask("send", stream="chat:ops", key="00000000-0000-4000-8000-000000000001", body={})
            async with hello(two.url, "user:bob", {"chat:ops": {}}) as bob:
                await amy.next("signal", by="user:bob", value="online")
                assert two.node.cluster is not None
                monkeypatch.setattr(two.node.cluster, "_publish", lambda channel, payload: None)
                await bob.say("mark", stream="chat:ops", read=1)
                (facts,) = await two.log.open_streams([("demo", "chat:ops", "user:bob")])
                assert facts is not None
                with trio.fail_after(20.0):
                    while not await two.log.load_marks("demo", [facts.sid]):  # noqa: ASYNC110  # the write-behind does it
                        await trio.sleep(0.01)
                await two.stop()
            assert (await amy.next("mark"))["by"] == "user:bob"
            async with hello(one.url, "user:cy", {"chat:ops": {}}) as cy:
                assert (await cy.next("mark"))["read"] == 1


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


async def test_when_somebody_was_last_here_is_known_on_every_node() -> None:
    """Who has left one node is told on another with the time of it; who is here is told as here; strangers are unknown."""
    async with serving_cluster(2, limits=SHORT) as (one, two):
        await one.stream("chat:crew", open=False, members={"user:amy": "member", "user:bob": "member"})
        async with hello(two.url, "user:bob", {"chat:crew": {}}) as bob:
            async with hello(one.url, "user:amy", {"chat:crew": {}}), hello(one.url, "user:eve"):
                await bob.next("signal", by="user:amy", value="online")
                here = await bob.ask("presence", stream="chat:crew", of=["user:amy"])
                assert here["online"] == [{"by": "user:amy", "value": "online", "devices": 1}]
            await bob.next("signal", by="user:amy", value="offline")
            await one.node.save_seen()
            answer = await bob.ask("presence", stream="chat:crew", of=["user:eve", "user:bob", "user:amy"])
            eve, himself, amy = answer["online"]
            assert eve == {"by": "user:eve", "value": "offline", "devices": 0, "seen": None}
            assert himself == {"by": "user:bob", "value": "online", "devices": 1}
            assert (amy["value"], amy["devices"]) == ("offline", 0)
            left = datetime.fromisoformat(amy["seen"])
            assert timedelta(0) <= datetime.now(UTC) - left < timedelta(minutes=1)


async def test_the_dead_nodes_people_were_last_here_within_its_lease() -> None:
    """Nobody but the dead node knew when: those who take its people away write down the beginning of its last lease."""
    async with serving_cluster(2, limits=SHORT) as (one, two):
        await one.stream("chat:ops")
        async with hello(two.url, "user:bob", {"chat:ops": {}}) as bob:
            async with hello(one.url, "user:amy", {"chat:ops": {}}):
                await bob.next("signal", by="user:amy", value="online")
                one.node._connection_closed = lambda connection: None  # type: ignore[method-assign]  # it dies: it writes nothing
                one.node.shard.on_closed = one.node._connection_closed
                await one.stop()
            await bob.next("signal", by="user:amy", value="offline")
            amy = (await bob.ask("presence", stream="chat:ops", of=["user:amy"]))["online"][0]
            assert amy["value"] == "offline"
            assert amy["seen"] is not None


async def test_wrong_questions_for_presence_are_answered_in_words() -> None:
    """``of`` is a list of 1 to 100 principals."""
    async with serving_cluster(1, limits=SHORT) as (one,):
        await one.stream("chat:ops")
        async with hello(one.url, "user:bob", {"chat:ops": {}}) as bob:
            for of in ([], "user:amy", ["amy"], [7], ["user:amy"] * 101, {}):
                answer = await bob.ask("presence", stream="chat:ops", of=of)
                assert (answer["code"], answer["message"]) == (
                    "bad_request",
                    "of: 1 to 100 principals such as user:bob",
                )
            assert len((await bob.ask("presence", stream="chat:ops", of=["user:amy"] * 100))["online"]) == 100
            assert (await bob.ask("presence", stream="chat:none", of=["user:amy"]))["code"] == "not_found"


async def test_a_stream_let_go_while_its_presence_is_asked_for_is_loaded_again() -> None:
    """The question ended its asker with an internal error: of the stream that was let go, nobody knew who was leaving it."""
    async with serving_cluster(2) as (one, two):
        await one.stream("chat:ops")
        async with hello(two.url, "user:bob", {"chat:ops": {}}), hello(one.url, "user:amy", {}) as amy:
            async with hello(one.url, "user:cy", {"chat:ops": {}}) as cy:
                await cy.ask("presence", stream="chat:ops")
            await until(lambda: not one.node.hub.by_name["demo", "chat:ops"].live)  # cy is leaving, within the grace
            ops, hub = one.node.ops, one.node.hub
            told, let_go = ops._all_have_told, []

            def told_and_full(stream: Stream) -> bool:
                if not let_go:
                    let_go.append(stream)
                    hub.evict(trio.current_time() + LIMITS.stream_idle_s + 1.0)
                    assert stream.sid not in hub.by_sid
                    return True
                return told(stream)

            ops._all_have_told = told_and_full  # type: ignore[method-assign]
            listed = await amy.ask("presence", stream="chat:ops", of=["user:bob", "user:cy"])
            assert [person["by"] for person in listed["online"]] == ["user:bob", "user:cy"]
            assert listed["online"][0]["value"] == "online"
            assert let_go
            assert (await amy.ask("ping"))["op"] == "pong"


async def test_a_stream_that_cannot_be_kept_is_said_to_be_too_much() -> None:
    """Where it is let go each time, the asker is told to come again; nothing else happens to it."""
    async with serving_cluster(2) as (one, _):
        await one.stream("chat:ops")
        async with hello(one.url, "user:amy", {}) as amy:

            def told_and_full(stream: Stream) -> bool:
                one.node.hub.evict(trio.current_time() + LIMITS.stream_idle_s + 1.0)
                return True

            one.node.ops._all_have_told = told_and_full  # type: ignore[method-assign]
            answer = await amy.ask("presence", stream="chat:ops")
            assert (answer["op"], answer["code"]) == ("error", "overloaded")
            assert answer["retry_after"] > 0
