"""Commands of before the log was restored: what a node knew of the other log decides nothing in this one."""

from __future__ import annotations

import uuid

import pytest
import trio

from core.commands import Answer
from core.flight.machine import Command
from gateway.commander import Ask
from gateway.service import WireError
from gateway.waiting import Waiting
from tests.nodes import memory_log, serving_node, until


async def test_what_waits_is_sent_back_and_what_comes_is_decided_anew() -> None:
    """A stream whose command was under way when the log was found restored is folded anew for the next one; what waited behind
    that command, for a state that is no more, is to be repeated."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("flight:QX12", members={"user:amy": "owner"})
        await node.node.loader.load([("demo", "flight:QX12", "user:amy")])
        commander, stream = node.node.commander, node.node.hub.by_name["demo", "flight:QX12"]

        def give(timer: str) -> Waiting[Answer]:
            waiting = Waiting[Answer]()
            body = {"name": timer, "due": "2027-01-01T00:00:00.000Z"}
            command = Command("timer.set", body, "user:amy", "owner")
            commander.give(stream, Ask(command, str(uuid.uuid4()), None, True, waiting.answered))
            return waiting

        await give("first").answer()
        gate = trio.Event()
        log._pause = gate.wait
        committing, behind = give("second"), give("third")
        await until(lambda: not len(commander.lanes))
        node.node.follower.restored += 1
        log._pause = None
        folded = log.calls["ruled"]
        coming = give("fourth")
        gate.set()
        assert isinstance(await committing.answer(), Answer)
        with pytest.raises(WireError) as told:
            await behind.answer()
        assert told.value.code == "unavailable"
        assert isinstance(await coming.answer(), Answer)
        assert log.calls["ruled"] > folded
        assert (len(commander), commander.waiting) == (1, 0)
