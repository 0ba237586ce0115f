"""Access tokens that end on live connections, and ``refresh``, which renews them without a reconnect."""

from __future__ import annotations

import time

from tests.nodes import memory_log, serving_node, ticks, token, until
from tests.wire_client import hello, wire_client


async def test_a_connection_ends_when_its_token_does() -> None:
    """Not at some later heartbeat: the shard looks when the time has come."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}, ttl_s=5.0) as amy:
            connection = next(iter(node.node.shard.connections.values()))
            assert connection.due - node.node.shard.tick <= 36  # five seconds, and the leeway for clocks
            node.node.wall = lambda: time.time() + 36.0
            ticks(node, 36)
            assert (await amy.closed())[0] == 4501
            assert (await amy.next("bye"))["code"] == "unauthorized"


async def test_a_refresh_prolongs_it_and_everything_goes_on() -> None:
    """Past the first token's end: the same connection, the same streams, no event missed."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}, ttl_s=5.0) as amy:
            first = amy.seen[0]
            answer = await amy.ask("refresh", token=token(ttl_s=7_200.0))
            assert answer["op"] == "ok"
            assert answer["expires"] > first["expires"]
            assert answer["streams"] == {}
            node.node.wall = lambda: time.time() + 60.0
            ticks(node, 60)
            assert (await amy.send("chat:ops", "still here"))["seq"] == 1
            assert (await amy.next("event"))["seq"] == 1


async def test_the_resume_token_of_a_refresh_is_good_for_the_new_time() -> None:
    """A resume never prolongs an identity, so that it must come from the refresh."""
    async with serving_node() as node:
        async with hello(node.url, "user:amy", ttl_s=5.0) as amy:
            answer = await amy.ask("refresh", token=token(ttl_s=7_200.0))
        node.node.wall = lambda: time.time() + 60.0
        async with wire_client(node.url) as again:
            assert (await again.ask("resume", resume=amy.seen[0]["resume"], streams={}))["code"] == "resume_rejected"
            assert (await again.ask("resume", resume=answer["resume"], streams={}))["op"] == "welcome"


async def test_a_refresh_that_is_refused_changes_nothing() -> None:
    """Forged, of somebody else, of another tenant, expired, missing, of another type: an error each, and it goes on."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            for bad in ("forged", token("user:bob"), token(tenant="other"), token(ttl_s=-60.0), 7, ["x"], {}):
                answer = await amy.ask("refresh", token=bad)
                assert (answer["op"], answer["code"]) == ("error", "unauthorized"), bad
            assert (await amy.ask("refresh"))["code"] == "bad_request"
            assert (await amy.send("chat:ops", "still here"))["seq"] == 1


async def test_what_the_new_token_no_longer_allows_ends_and_is_named() -> None:
    """An admin becomes nobody special: its own rooms stay, the others end, nothing more comes of them."""
    async with serving_node() as node:
        await node.stream("chat:mine", open=False, members={"user:amy": "member"})
        await node.stream("chat:theirs", open=False, members={"user:bob": "member"})
        everything = {"chat:mine": {}, "chat:theirs": {}, "audit:log": {}}
        async with (
            hello(node.url, "user:amy", everything, roles=["admin"]) as amy,
            hello(node.url, "user:bob", {"chat:theirs": {}}) as bob,
        ):
            answer = await amy.ask("refresh", token=token())
            assert answer["streams"] == {"chat:theirs": {"error": "forbidden"}}
            await bob.send("chat:theirs", "not for amy")
            assert (await amy.send("chat:mine", "hello"))["seq"] == 1
            assert (await amy.next("event"))["stream"] == "chat:mine"
            assert (await amy.ask("history", stream="chat:theirs"))["code"] == "forbidden"
            assert not [frame for frame in amy.seen if frame.get("stream") == "chat:theirs"]


async def test_a_refresh_may_bring_more() -> None:
    """Somebody becomes admin without a reconnect."""
    async with serving_node() as node:
        await node.stream("chat:theirs", open=False)
        async with hello(node.url, "user:amy") as amy:
            assert (await amy.ask("sub", stream="chat:theirs"))["code"] == "forbidden"
            await amy.ask("refresh", token=token(roles=["service"]))
            assert (await amy.ask("sub", stream="chat:theirs"))["op"] == "ok"


async def test_with_the_log_away_nobody_keeps_what_it_may_have_no_right_to() -> None:
    """The memberships behind lost roles cannot be looked up: the connection ends and comes back later."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:bob", {"chat:ops": {}}),
            hello(node.url, "user:amy", {"chat:ops": {}}, roles=["admin"]) as amy,
        ):
            log.fail_next("unavailable", "open_streams")
            await amy.say("refresh", token=token())
            assert (await amy.closed())[0] == 4006


async def test_before_a_hello_there_is_nothing_to_refresh() -> None:
    """An op like any other: say hello first."""
    async with serving_node() as node, wire_client(node.url) as client:
        assert (await client.ask("refresh", token=token()))["code"] == "unauthorized"
        await until(lambda: not node.node.gatekeeper.accounts.meters)
