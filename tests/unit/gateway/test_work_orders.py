"""gateway.work.orders: what workers have a node do is done once, and what cannot be done says whether trying again may help."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from core.commands import FOLDED_AT_ONCE
from core.flight import times
from core.limits import Limits
from core.model import Verdict
from core.ports import Unavailable
from gateway.service import WireError
from gateway.work.orders import Impossible, Orders
from gateway.work.ports import Transient
from store.memory import MemoryLog
from tests.nodes import TestNode, serving_node

KEY = "0b5e7c1e-4f57-8d8a-9a53-3c1f0c8f2f11"
SCHEDULE = {
    "flight": "QX1", "operator": "QX", "from": "SYD", "to": "MEL",
    "out": "2026-11-21T08:00:00.000Z", "in": "2026-11-21T09:30:00.000Z",
}  # fmt: skip


@asynccontextmanager
async def ordering(limits: Limits | None = None) -> AsyncIterator[tuple[Orders, TestNode]]:
    async with serving_node(limits=limits) as node:
        await node.stream("flight:QX1", open=False)
        yield Orders(node.node), node


async def test_a_command_is_given_once_with_its_rules() -> None:
    """The same key is answered the same, and the fact says which rules led to it."""
    async with ordering() as (orders, _):
        first = await orders.command("demo", "flight:QX1", "schedule", SCHEDULE, KEY, via=["r1"])
        again = await orders.command("demo", "flight:QX1", "schedule", SCHEDULE, KEY, via=["r1"])
        assert (list(first.seqs), list(again.seqs), again.dup) == ([1], [1], True)
        (fact,) = await orders.facts("demo", "flight:QX1", first.seqs)
        assert (fact.type, fact.body["via"], fact.by) == ("flight.scheduled", ["r1"], "service:readback")


async def test_a_refusal_is_an_answer() -> None:
    """Whoever gave the command is told why not, and nothing is raised."""
    async with ordering() as (orders, _):
        answer = await orders.command("demo", "flight:QX1", "cancel", {"reason": "fog"}, KEY)
        assert answer.refusal is not None
        assert answer.refusal.reason == "wrong_state"


@pytest.mark.parametrize(
    ("stream", "type", "says"),
    [
        ("flight:QX9", "cancel", "there is no stream flight:QX9"),
        ("flight:QX1", "dance", "bad_request: "),
        ("chat:ops", "cancel", "not_found: chat:ops takes no commands"),
    ],
)
async def test_commands_that_can_never_be_obeyed(stream: str, type: str, says: str) -> None:
    """No such stream, no such verb, no machine there."""
    async with ordering() as (orders, node):
        await node.stream("chat:ops")
        with pytest.raises(Impossible, match=says):
            await orders.command("demo", stream, type, {}, KEY)


async def test_a_node_that_has_too_much_is_asked_again() -> None:
    """A shed command says when to come back, and may come very often."""
    async with ordering(replace(Limits(), commands_per_stream_max=0)) as (orders, _):
        with pytest.raises(Transient) as caught:
            await orders.command("demo", "flight:QX1", "schedule", SCHEDULE, KEY)
        assert (caught.value.retry_after_s, caught.value.tries_max) == (0.2, 1_000)


async def test_a_log_that_is_away_is_asked_again() -> None:
    """Neither a command nor a message nor a note is lost for it."""
    async with ordering() as (orders, node):
        assert isinstance(node.log, MemoryLog)
        await orders.stream("demo", "flight:QX1")
        node.log.down = "gone fishing"
        with pytest.raises(Transient):
            await orders.command("demo", "flight:QX1", "schedule", SCHEDULE, KEY)
        with pytest.raises(Transient):
            await orders.send("demo", "flight:QX1", "message", {"text": "x"}, KEY)
        with pytest.raises(Unavailable):
            await orders.notify("demo", "user:amy", "notice", {"text": "x"}, KEY)
        node.log.down = None


async def test_a_message_is_sent_once_into_any_stream() -> None:
    """Members or not, the gateway may; the same key is the same event. A fact it cannot be: those come of commands."""
    async with ordering() as (orders, _):
        seqs = [await orders.send("demo", "flight:QX1", "message", {"text": "hello"}, KEY) for _ in range(2)]
        assert seqs == [1, 1]
        with pytest.raises(Impossible, match="there is no stream chat:none"):
            await orders.send("demo", "chat:none", "message", {}, KEY)
        with pytest.raises(Impossible, match=r"type flight\.departed come of commands"):
            await orders.send("demo", "flight:QX1", "flight.departed", {}, str(uuid.uuid4()))
        with pytest.raises(Impossible, match="flight:QX1 does not take the event: forbidden"):
            await orders.send("demo", "flight:QX1", "member.left", {}, str(uuid.uuid4()))


async def test_a_note_makes_its_inbox_once() -> None:
    """Who was never here finds the note all the same; who can have no inbox is said to."""
    async with ordering() as (orders, node):
        assert await orders.notify("demo", "user:amy", "notice", {"text": "x"}, KEY) == 1
        assert await orders.notify("demo", "user:amy", "notice", {"text": "x"}, KEY) == 1
        for nobody in ("device:truck-7", "chat:ops", "user:"):
            with pytest.raises(Impossible, match=f"{nobody} can have no inbox"):
                await orders.notify("demo", nobody, "notice", {"text": "x"}, KEY)
        (facts,) = await node.log.open_streams([("demo", "user:amy", "user:amy")])
        assert facts is not None
        (event,) = await node.log.read("demo", facts.sid, 0, 10)
        assert orjson.loads(event.body or b"") == {"text": "x"}


async def test_a_state_is_of_all_that_the_log_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is more than is folded at once; where no machine decides there is none."""
    monkeypatch.setattr("gateway.work.folding.FOLDED_AT_ONCE", 2)
    assert FOLDED_AT_ONCE > 2
    async with ordering() as (orders, node):
        await orders.command("demo", "flight:QX1", "schedule", SCHEDULE, KEY)
        for n in range(4):
            body = {"name": f"t{n}", "due": times.write(int(1000 * node.node.wall()) + 60_000)}
            await orders.command("demo", "flight:QX1", "timer.set", body, str(uuid.uuid4()))
        shown = await orders.state("demo", "flight:QX1")
        assert (shown["status"], len(shown["timers"])) == ("scheduled", 4)
        with pytest.raises(Impossible, match="nothing is decided in chat:ops"):
            await orders.state("demo", "chat:ops")
        with pytest.raises(Impossible, match="there is no stream flight:QX9"):
            await orders.state("demo", "flight:QX9")


async def test_what_sheds_sends_sheds_messages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that the node has no room for is tried again."""
    async with ordering() as (orders, node):

        async def append(*_: Any) -> Verdict:
            raise WireError("overloaded", "too many sends", 0.5)

        monkeypatch.setattr(node.node, "append", append)
        with pytest.raises(Transient, match="too many sends"):
            await orders.send("demo", "flight:QX1", "message", {}, KEY)
