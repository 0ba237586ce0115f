"""The way of one message over real sockets: in, committed, out to everyone, resumed after a cut."""

from __future__ import annotations

from tests.nodes import serving_node
from tests.wire_client import hello, wire_client


async def test_a_message_reaches_every_subscriber_and_its_sender() -> None:
    """A send is answered with its seq, and everyone who follows gets the event once, in order."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            assert amy.seen[0]["streams"] == {"chat:ops": {"head": 0, "after": 0}}
            for n in range(1, 6):
                ok = await amy.send("chat:ops", f"hi {n}")
                assert ok["op"] == "ok"
                assert (ok["seq"], ok["dup"]) == (n, False)
            for client in (amy, bob):
                events = await client.events("chat:ops", 5)
                assert [e["seq"] for e in events] == [1, 2, 3, 4, 5]
                assert [e["body"]["text"] for e in events] == [f"hi {n}" for n in range(1, 6)]
                assert {e["by"] for e in events} == {"user:amy"}


async def test_resume_replays_what_was_missed_and_nothing_else() -> None:
    """A client that was away brings its cursor and its resume token, and gets exactly what it missed."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            async with hello(node.url, "user:bob", {"chat:ops": {}}) as bob:
                await amy.send("chat:ops", "one")
                await bob.events("chat:ops", 1)
                welcome = bob.seen[0]
            for text in ("two", "three"):
                await amy.send("chat:ops", text)
            async with wire_client(node.url) as again:
                answer = await again.ask(
                    "resume", resume=welcome["resume"], log=welcome["log"], streams={"chat:ops": 1}
                )
                assert answer["op"] == "welcome"
                assert answer["resumed"] is True
                assert answer["session"] == welcome["session"]
                assert answer["resume"] != welcome["resume"]
                events = await again.events("chat:ops", 3)
                assert [e["body"]["text"] for e in events] == ["two", "three"]
