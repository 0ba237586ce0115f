"""Sessions over real sockets: resume, supersede, refuse; time-outs with the shard's clock moved by hand."""

from __future__ import annotations

from dataclasses import replace

import orjson
import trio

from core.limits import Limits
from tests.nodes import serving_node, ticks, token
from tests.wire_client import Frame, WireClient, hello, wire_client


async def resume(client: WireClient, welcome: Frame, **fields: object) -> Frame:
    wanted = {"resume": welcome["resume"], "log": welcome["log"], "streams": {}, **fields}
    return await client.ask("resume", **wanted)


async def test_a_newer_connection_supersedes_the_older() -> None:
    """The older connection is told and closed with a code that says: do not come back."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as old, wire_client(node.url) as new:
            welcome = await resume(new, old.seen[0], streams={"chat:ops": 0})
            assert (welcome["op"], welcome["resumed"], welcome["session"]) == ("welcome", True, old.seen[0]["session"])
            assert (await old.closed())[0] == 4504
            assert (await old.next("bye"))["code"] == "superseded"
            assert (await new.send("chat:ops", "still here"))["seq"] == 1
            assert (await new.next("event"))["seq"] == 1


async def test_two_connections_with_one_token_have_one_winner() -> None:
    """Both wait for the log with the same token: one is welcomed, the other refused and may say hello instead."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            welcome = amy.seen[0]
        async with wire_client(node.url) as one, wire_client(node.url) as two:
            answers: list[tuple[WireClient, Frame]] = []

            async def race(client: WireClient) -> None:
                answers.append((client, await resume(client, welcome, streams={"chat:ops": 0})))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(race, one)
                nursery.start_soon(race, two)
            assert sorted(answer["op"] for _, answer in answers) == ["error", "welcome"]
            loser, refused = next((client, answer) for client, answer in answers if answer["op"] == "error")
            assert refused["code"] == "resume_rejected"
            assert (await loser.ask("hello", token=token()))["op"] == "welcome"


async def test_a_used_token_is_dead() -> None:
    """A resume token works once; the new one works once; forged and strange ones never."""
    async with serving_node() as node:
        async with hello(node.url, "user:amy") as amy:
            first = amy.seen[0]
        async with wire_client(node.url) as client:
            second = await resume(client, first)
        async with wire_client(node.url) as client:
            assert (await resume(client, first))["code"] == "resume_rejected"
            forged = second["resume"][:-2] + ("AA" if not second["resume"].endswith("AA") else "BB")
            for bad in (forged, "", 7, None, ["x"], token()):
                assert (await resume(client, {**second, "resume": bad}))["code"] == "resume_rejected"
            assert (await resume(client, second))["op"] == "welcome"
            assert (await resume(client, second))["code"] == "bad_request"
            assert (await client.ask("hello", token=token()))["code"] == "bad_request"


async def test_what_is_no_longer_allowed_is_refused_and_the_rest_resumes() -> None:
    """Removed while away: that stream is forbidden, the other replays; a cursor of another epoch starts over."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        await node.stream("chat:crew", open=False, members={"user:amy": "member"})
        async with hello(node.url, "user:amy", {"chat:ops": {}, "chat:crew": {}}) as amy:
            welcome = amy.seen[0]
            await amy.send("chat:ops", "one")
        await node.log.remove_member("demo", "chat:crew", "user:amy", "service:boss")
        await node.restart()
        async with wire_client(node.url) as again:
            answer = await resume(again, welcome, streams={"chat:ops": 0, "chat:crew": 0})
            assert answer["streams"] == {"chat:ops": {"head": 1, "after": 0}, "chat:crew": {"error": "forbidden"}}
            assert (await again.next("event"))["seq"] == 1
        async with wire_client(node.url) as other:
            cursors = {"chat:ops": 1, "chat:crew": {"after": "x"}}
            answer = await resume(other, {**answer, "log": "another"}, streams=cursors)
            assert answer["streams"]["chat:ops"] == {"head": 1, "after": 0}
            assert answer["streams"]["chat:crew"] == {"error": "bad_request"}
            reset = await other.next("reset")
            assert (reset["reason"], reset["first"]) == ("epoch", 1)
            assert (await other.next("event"))["seq"] == 1


async def test_hello_says_what_is_wrong_with_it() -> None:
    """No id, no token, a bad one, strange streams: each is named; a bad identity ends the connection for good."""
    async with serving_node() as node:
        async with wire_client(node.url) as client:
            await client.raw(orjson.dumps({"op": "hello", "token": token()}).decode())
            assert (await client.next("error"))["code"] == "bad_request"
            assert (await client.ask("hello", token=token(), streams=[]))["code"] == "bad_request"
            many = {f"chat:{n}": {} for n in range(1_001)}
            assert (await client.ask("hello", token=token(), streams=many))["code"] == "bad_request"
            await client.raw('{"op":"resume","resume":"x"}')
            assert (await client.next("error"))["code"] == "bad_request"
            assert (await client.ask("send", stream="chat:ops"))["code"] == "unauthorized"
            assert (await client.ask("ping"))["op"] == "pong"
            await client.say("hello")
            assert (await client.closed())[0] == 4501
        for bad in ("x", 7, token(ttl_s=-600)):
            async with wire_client(node.url) as client:
                await client.say("hello", token=bad)
                assert (await client.closed())[0] == 4501


async def test_silence_before_hello_ends() -> None:
    """Nothing said in the time for it: hello_timeout, which allows coming back."""
    async with serving_node() as node, wire_client(node.url) as client:
        ticks(node, 6)
        assert (await client.closed())[0] == 4003
        assert (await client.next("bye"))["code"] == "hello_timeout"


async def test_a_hello_that_waits_for_the_log_is_not_called_silence() -> None:
    """The log does not answer in time: unavailable, not a hello that was never said."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        never = trio.Event()
        node.log._pause = never.wait  # type: ignore[attr-defined]
        async with wire_client(node.url) as client:
            await client.say("hello", token=token(), streams={"chat:ops": {}})
            await trio.testing.wait_all_tasks_blocked(0.01)
            ticks(node, 6)
            assert (await client.closed())[0] == 4006
            never.set()


async def test_who_answers_pings_stays_and_who_does_not_goes() -> None:
    """Two heartbeats without a sign of life end a connection; a pong is one."""
    async with serving_node() as node, hello(node.url, "user:amy") as amy:
        (connection,) = node.node.shard.connections.values()
        for _ in range(4):
            ticks(node, 25)
            await amy.ask("ping")
        assert connection.heard == node.node.shard.tick
        connection.recv = _deaf  # what it says no longer arrives
        ticks(node, 75)
        assert (await amy.closed())[0] == 4005
        assert node.node.shard.counts.idle_ended == 1


def _deaf(size: int) -> bytes:
    raise BlockingIOError


async def test_an_identity_that_expires_ends_its_connection() -> None:
    """The access token behind the connection ran out: unauthorized at the next heartbeat, and no resume either."""
    async with serving_node() as node, hello(node.url, "user:amy") as amy:
        (connection,) = node.node.shard.connections.values()
        connection.auth_expires_at_s = 1.0
        ticks(node, 26)
        assert (await amy.closed())[0] == 4501


async def test_a_pong_renews_the_resume_token() -> None:
    """A long connection is given fresh tokens with its pongs, and the fresh one resumes."""
    async with serving_node() as node:
        async with hello(node.url, "user:amy") as amy:
            (connection,) = node.node.shard.connections.values()
            assert "resume" not in await amy.ask("ping")
            connection.token_at_s -= 100
            pong = await amy.ask("ping")
        async with wire_client(node.url) as again:
            assert (await resume(again, {**amy.seen[0], "resume": pong["resume"]}))["op"] == "welcome"


async def test_a_node_that_is_full_says_when_to_come_back() -> None:
    """Past `connections_max` a newcomer gets 503 with Retry-After, and who is in notices nothing."""
    async with serving_node(limits=replace(Limits(), connections_max=1)) as node, hello(node.url) as amy:
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        async with stream:
            with trio.fail_after(5):
                answer = bytes(await stream.receive_some(4096))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after:" in answer.lower()
        assert (await amy.ask("ping"))["op"] == "pong"


async def test_a_drain_gives_everyone_a_slot_and_loses_no_send() -> None:
    """Told when to come back and with what token; a send in flight is answered; then everything is closed."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy, hello(node.url, "user:bob") as bob:
            await amy.ask("mark", stream="chat:ops", delivered=0)
            sent = await amy.say(
                "send", stream="chat:ops", key="0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11", type="message", body=1
            )
            await amy.ask("ping")
            with trio.fail_after(5):
                await node.node.drain(0.5)
            assert (await amy.next(id=sent))["seq"] == 1
            drained = [await client.next("drain") for client in (amy, bob)]
            assert all(frame["after_ms"] >= 0 for frame in drained)
            for client in (amy, bob):
                assert (await client.closed())[0] == 4001
                assert (await client.next("bye"))["retry_after"] is not None
            assert node.node.measures.health().reasons == ["draining"]
        await node.restart()
        async with wire_client(node.url) as again:
            welcome = await resume(again, {**amy.seen[0], "resume": drained[0]["resume"]}, streams={"chat:ops": 0})
            assert welcome["resumed"] is True
            assert (await again.next("event"))["seq"] == 1
