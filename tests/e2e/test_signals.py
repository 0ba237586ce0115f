"""Markers, typing and presence over real sockets."""

from __future__ import annotations

from dataclasses import replace

from core.limits import Limits
from core.tokens import Identity
from tests.nodes import TestNode, serving_node, token
from tests.wire_client import Frame, WireClient, hello

QUICK = replace(
    Limits(), signal_flush_s=0.01, typing_ttl_s=0.2, presence_grace_s=0.2, marker_flush_s=0.02, heads_interval_s=0.05
)


def identity(node: TestNode, principal: str) -> Identity:
    who = node.node.proving.verify(token(principal))
    assert isinstance(who, Identity)
    return who


async def presence(client: WireClient, by: str) -> str:
    frame: Frame = await client.next("signal", kind="presence", by=by)
    return str(frame["value"])


async def test_markers_reach_the_others_and_only_rise() -> None:
    """A read by bob is told to amy, with delivered at least as far; a lower one is not told again."""
    async with serving_node(limits=QUICK) as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            for n in range(3):
                await amy.send("chat:ops", f"{n}")
            await bob.events("chat:ops", 3)
            await bob.raw('{"op":"mark","stream":"chat:ops","delivered":3,"read":2}')
            mark = await amy.next("mark", by="user:bob")
            assert (mark["delivered"], mark["read"]) == (3, 2)
            ok = await bob.ask("mark", stream="chat:ops", read=1)
            assert (ok["delivered"], ok["read"]) == (3, 2)
            ok = await bob.ask("mark", stream="chat:ops", read=99)
            assert (ok["delivered"], ok["read"]) == (3, 3)
            mark = await amy.next("mark", by="user:bob")
            assert mark["read"] == 3
            assert (await bob.ask("mark", stream="chat:ops", read=-1))["code"] == "bad_request"
            async with hello(node.url, "user:cy", {"chat:ops": {}}) as cy:
                assert (await cy.next("mark", by="user:bob"))["read"] == 3


async def test_unread_counts_are_of_now_and_survive_a_restart() -> None:
    """What was marked a moment ago counts in `my_streams`, and is there on the next node."""
    async with serving_node(limits=QUICK) as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "member"})
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            for n in range(5):
                await amy.send("chat:ops", f"{n}")
            await bob.events("chat:ops", 5)
            await bob.ask("mark", stream="chat:ops", delivered=5, read=3)
            (line,) = await node.desk.my_streams(identity(node, "user:bob"))
            assert (line.stream, line.head, line.delivered, line.read) == ("chat:ops", 5, 5, 3)
        await node.restart()
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            assert (await amy.next("mark", by="user:bob"))["read"] == 3


async def test_what_is_read_on_one_device_is_read_on_the_other() -> None:
    """A person's second device gets the person's own markers; a lone device is not told what it said itself."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as phone:
            await phone.send("chat:ops", "one")
            await phone.ask("mark", stream="chat:ops", read=1)
            async with hello(node.url, "user:amy", {"chat:ops": {}}) as desk:
                await desk.next("mark", stream="chat:ops", by="user:amy", delivered=1, read=1)
                await desk.send("chat:ops", "two")
                await desk.ask("mark", stream="chat:ops", read=2)
                await phone.next("mark", stream="chat:ops", by="user:amy", delivered=2, read=2)
        assert [frame["read"] for frame in phone.seen if frame["op"] == "mark"] == [2]


async def test_typing_expires_by_itself() -> None:
    """Told to the others when it starts and, without a repeat, when it has run out."""
    async with serving_node(limits=QUICK) as node:
        await node.stream("chat:ops", members={"user:rex": "reader"})
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
            hello(node.url, "user:rex", {"chat:ops": {}}) as rex,
        ):
            await bob.ask("signal", stream="chat:ops", kind="typing", value=True)
            for client in (amy, rex):
                assert (await client.next("signal", kind="typing"))["value"] is True
                assert (await client.next("signal", kind="typing"))["value"] is False
            assert (await rex.ask("signal", stream="chat:ops", kind="typing", value=True))["code"] == "forbidden"
            for bad in (
                {"kind": "typing", "value": 1},
                {"kind": "mood", "value": True},
                {"kind": "presence", "value": "gone"},
            ):
                assert (await bob.ask("signal", stream="chat:ops", **bad))["code"] == "bad_request"
            await bob.ask("ping")
            assert not [f for f in bob.seen if f["op"] == "signal" and f["kind"] == "typing"]


async def test_presence_of_two_devices_with_grace_and_away() -> None:
    """Online with the first, offline after the last and the grace; away when all are; a reconnect is not seen."""
    async with serving_node(limits=QUICK) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            async with hello(node.url, "user:bob", {"chat:ops": {}}) as phone:
                assert await presence(amy, "user:bob") == "online"
                async with hello(node.url, "user:bob", {"chat:ops": {}}) as desk:
                    answer = await amy.ask("presence", stream="chat:ops")
                    assert {"by": "user:bob", "value": "online", "devices": 2} in answer["online"]
                    assert answer["count"] == 2
                    await phone.ask("signal", kind="presence", value="away")
                    await desk.ask("signal", kind="presence", value="away")
                    assert await presence(amy, "user:bob") == "away"
                    await desk.ask("signal", kind="presence", value="online")
                    assert await presence(amy, "user:bob") == "online"
                assert await presence(amy, "user:bob") == "away"
                await phone.ask("signal", kind="presence", value="online")
                assert await presence(amy, "user:bob") == "online"
            async with hello(node.url, "user:bob", {"chat:ops": {}}):
                await amy.ask("ping")
            assert await presence(amy, "user:bob") == "offline"
            said = [f["value"] for f in amy.seen if f["op"] == "signal" and f["kind"] == "presence"]
            assert said == ["online", "away", "online", "away", "online", "offline"]
            assert (await amy.ask("presence", stream="chat:ops"))["count"] == 1


async def test_signals_need_no_more_than_a_part_in_the_stream() -> None:
    """No mark, typing or presence for who has no part in the stream."""
    async with serving_node(limits=QUICK) as node:
        await node.stream("chat:closed", open=False)
        async with hello(node.url, "user:eve") as eve:
            for op, fields in (
                ("mark", {"delivered": 1}),
                ("signal", {"kind": "typing", "value": True}),
                ("presence", {}),
            ):
                assert (await eve.ask(op, stream="chat:closed", **fields))["code"] == "forbidden"
                assert (await eve.ask(op, stream="chat:none", **fields))["code"] == "not_found"
