"""gateway.ops: every op checks its input, and every refusal that can be answered is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from core.limits import Limits
from core.model import Entry, Outcome, Verdict
from gateway.ops import check_body, refusal
from gateway.service import WireError
from tests.nodes import memory_log, serving_node
from tests.raw_client import RawClient

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
SEND: dict[str, Any] = {"op": "send", "stream": "chat:ops", "key": KEY, "type": "message", "body": 1}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"op": "dance"}, "unknown_op"),
        ({"op": None}, "unknown_op"),
        ({"op": ["ping"]}, "unknown_op"),
        ({}, "unknown_op"),
        ({**SEND, "stream": "chat:none"}, "not_found"),
        ({**SEND, "stream": "none"}, "bad_request"),
        ({**SEND, "stream": []}, "bad_request"),
        ({**SEND, "stream": {"a": 1}}, "bad_request"),
        ({**SEND, "stream": None}, "bad_request"),
        ({**SEND, "key": "x"}, "bad_request"),
        ({**SEND, "key": None}, "bad_request"),
        ({**SEND, "type": "Message"}, "bad_request"),
        ({**SEND, "type": 7}, "bad_request"),
        ({**SEND, "type": "member.left"}, "forbidden"),
        ({**SEND, "expect": -1}, "bad_request"),
        ({**SEND, "body": "x" * 50_000}, "too_large"),
        ({k: v for k, v in SEND.items() if k != "body"}, "bad_request"),
        ({"op": "sub", "stream": "chat:ops", "after": "1"}, "bad_request"),
        ({"op": "sub", "stream": 1}, "bad_request"),
        ({"op": "unsub", "stream": []}, "not_found"),
        ({"op": "unsub"}, "not_found"),
        ({"op": "history", "stream": []}, "bad_request"),
        ({"op": "mark", "stream": "chat:ops", "read": "1"}, "bad_request"),
        ({"op": "mark", "stream": []}, "bad_request"),
        ({"op": "signal", "stream": "chat:ops", "kind": "typing", "value": "yes"}, "bad_request"),
        ({"op": "signal", "stream": [], "kind": "typing", "value": True}, "bad_request"),
        ({"op": "signal", "kind": {}}, "bad_request"),
        ({"op": "presence", "stream": "chat:none"}, "not_found"),
        ({"op": "position", "stream": "trip:9"}, "bad_request"),
        ({"op": "command", "stream": "trip:9"}, "not_found"),
        ({"op": "hello", "token": "x"}, "bad_request"),
        ({"op": "resume", "resume": "x"}, "bad_request"),
    ],
)
async def test_bad_input_is_answered_and_harms_nothing(message: dict[str, Any], code: str) -> None:
    """An error with the message's id and its code; the connection goes on."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello()
        await client.say(**{"op": None, "id": 5, **message})
        answer = await client.message()
        assert (answer["op"], answer["id"], answer["code"]) == ("error", 5, code)
        await client.say("ping", id=6)
        assert (await client.message())["id"] == 6
        await client.stream.aclose()


@pytest.mark.parametrize("id", ["5", 1.5, True, 2**53, [], {}])
async def test_an_id_is_an_integer(id: object) -> None:
    """What cannot be echoed is said without one."""
    async with serving_node() as node:
        client = RawClient(node.node)
        await client.hello()
        await client.say("ping", id=id)
        answer = await client.message()
        assert (answer["code"], "id" in answer) == ("bad_request", False)
        await client.stream.aclose()


@pytest.mark.parametrize("op", ["sub", "history", "presence"])
async def test_ops_that_exist_for_their_answer_need_an_id(op: str) -> None:
    """Without one there is nobody to answer to."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello()
        await client.say(op, stream="chat:ops")
        answer = await client.message()
        assert (answer["code"], "id" in answer) == ("bad_request", False)
        await client.stream.aclose()


async def test_what_has_no_id_is_done_and_not_answered() -> None:
    """send, mark, signal and unsub without an id: their effects show, no ok does."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        client = RawClient(node.node)
        await client.hello(streams={"chat:ops": {}})
        await client.say(**SEND)
        assert (await client.message())["op"] == "event"
        await client.say("mark", stream="chat:ops", read=1)
        await client.say("signal", stream="chat:ops", kind="typing", value=True)
        await client.say("signal", kind="presence", value="away")
        await client.say("unsub", stream="chat:ops")
        await client.say("ping")
        pong = await client.message()
        assert (pong["op"], "id" in pong) == ("pong", False)
        stream = node.node.hub.by_name["demo", "chat:ops"]
        assert stream.marks == {"user:amy": (1, 1)}
        assert client.connection.away
        assert not client.connection.subs
        await client.stream.aclose()


async def test_unanswered_sends_are_bounded() -> None:
    """More than so many in flight: rate_limited, with a time; a full lane: overloaded. What was taken is answered."""
    log = memory_log()
    limits = replace(Limits(), inflight_sends_per_connection_max=2, lane_entries_max=3)
    async with serving_node(log, limits) as node:
        await node.stream("chat:ops")
        clients = [RawClient(node.node) for _ in range(2)]
        for client in clients:
            await client.hello(streams={"chat:ops": {}})
        gate = trio.Event()
        log._pause = gate.wait
        first, second = clients
        for n in range(3):
            await first.say(**{**SEND, "id": n + 1, "key": KEY[:-1] + str(n)})
        answer = await first.message()
        assert (answer["id"], answer["code"], answer["retry_after"] > 0) == (3, "rate_limited", True)
        for lane in node.node.lanes.lanes:
            lane._limits = replace(limits, lane_entries_max=0)
        await second.say(**{**SEND, "id": 9, "key": KEY[:-1] + "9"})
        answer = await second.message()
        assert (answer["id"], answer["code"], answer["retry_after"] > 0) == (9, "overloaded", True)
        log._pause = None
        gate.set()
        answers = [await first.message() for _ in range(4)]
        assert sorted(a["id"] for a in answers if a["op"] == "ok") == [1, 2]
        assert first.connection.inflight == 0
        for client in clients:
            await client.stream.aclose()


async def test_who_left_meanwhile_is_not_answered() -> None:
    """The verdict comes when the sender is gone: committed all the same, and nothing breaks."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        client, other = RawClient(node.node), RawClient(node.node)
        await client.hello(streams={"chat:ops": {}})
        await other.hello("user:bob", streams={"chat:ops": {}})
        gate = trio.Event()
        log._pause = gate.wait
        await client.say(**{**SEND, "id": 1})
        await client.say("history", id=2, stream="chat:ops")
        await trio.testing.wait_all_tasks_blocked(0.005)
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.005)
        log._pause = None
        gate.set()
        while (await other.message())["op"] != "event":
            pass
        assert node.node.hub.by_name["demo", "chat:ops"].head == 1
        await other.stream.aclose()


async def test_history_that_comes_after_the_close_is_kept_back() -> None:
    """Nothing follows a close frame: a page that was under way used to."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        for fails in (False, True):
            client = RawClient(node.node)
            await client.hello(streams={"chat:ops": {}})
            gate = trio.Event()
            log._pause = gate.wait
            await client.say("history", id=2, stream="chat:ops")
            await trio.testing.wait_all_tasks_blocked(0.005)
            node.node.shard._closed_by_peer(client.connection, b"")
            if fails:
                log.fail_next("unavailable", "read_before")
            log._pause = None
            gate.set()
            assert await client.frame() == (8, b"")
            assert await client.frame() is None
            await client.stream.aclose()


@pytest.mark.parametrize(
    ("type", "body", "ref"),
    [
        ("message", None, None),
        ("message", {"ref": 9}, None),
        ("edit", {"ref": 9, "text": "x"}, 9),
        ("delete", {"ref": 9}, 9),
        ("react", {"ref": 9, "emoji": "+1", "on": False}, 9),
    ],
)
def test_bodies(type: str, body: object, ref: int | None) -> None:
    """Types that point at an event say at which; others are the sender's own affair."""
    assert check_body(type, body) == ref


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("edit", None),
        ("edit", {}),
        ("edit", {"ref": 0}),
        ("delete", {"ref": "1"}),
        ("delete", {"ref": True}),
        ("react", {"ref": 1}),
        ("react", {"ref": 1, "emoji": "x" * 33, "on": True}),
        ("react", {"ref": 1, "emoji": "x", "on": 1}),
    ],
)
def test_bodies_their_type_cannot_have(type: str, body: object) -> None:
    """Named in a bad_request."""
    with pytest.raises(WireError) as refused:
        check_body(type, body)
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize(
    ("outcome", "ref", "code", "text"),
    [
        (Outcome.CONFLICT, None, "conflict", "the head is 7"),
        (Outcome.FORBIDDEN, None, "forbidden", "user:amy may not send here"),
        (Outcome.FORBIDDEN, 3, "forbidden", "user:amy may not change that event"),
        (Outcome.NOT_FOUND, None, "not_found", "no such stream"),
        (Outcome.NOT_FOUND, 3, "not_found", "no event 3 is kept"),
    ],
)
def test_refusals(outcome: Outcome, ref: int | None, code: str, text: str) -> None:
    """What the log did not take, in words for the sender."""
    entry = Entry("demo", 1, KEY, "edit", "user:amy", b"1", ref=ref)
    error = refusal(entry, Verdict(outcome, 0, 0, 7, 0))
    assert (error.code, error.message, error.head) == (code, text, 7 if outcome is Outcome.CONFLICT else None)
