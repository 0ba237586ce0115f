"""A commit of many commands does not hold the node: they are folded and answered a slice at a time."""

from __future__ import annotations

import itertools
import uuid
from functools import partial

import pytest
import trio

from core.commands import Answer
from core.flight.machine import Command
from gateway import commander
from gateway.commander import Ask
from gateway.service import WireError
from tests.nodes import memory_log, serving_node, until

FLIGHTS = 40
SLICE = 4


async def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one commit's commands each is answered once, in their order, and between slices whoever else is ready runs; what the
    first slice made way for is committed while the rest is still looked at."""
    monkeypatch.setattr(commander, "SETTLED_AT_ONCE", SLICE)
    log = memory_log()
    async with serving_node(log) as node:
        names = [f"flight:QX{number}" for number in range(FLIGHTS)]
        for name in names:
            await node.stream(name, members={"user:amy": "owner"})
        await node.node.loader.load([("demo", name, "user:amy") for name in names])
        answers: list[tuple[str, Answer | WireError]] = []

        def give(timer: str) -> None:
            for name in names:
                body = {"name": timer, "due": "2027-01-01T00:00:00.000Z"}
                command = Command("timer.set", body, "user:amy", "owner")
                ask = Ask(command, str(uuid.uuid4()), None, True, partial(note, name))
                node.node.commander.give(node.node.hub.by_name["demo", name], ask)

        def note(name: str, answer: Answer | WireError) -> None:
            answers.append((name, answer))

        give("first")
        await until(lambda: len(answers) == FLIGHTS)
        answers.clear()
        log._pause = trio.lowlevel.checkpoint
        commits = node.node.commander.lanes.lanes[0].commits
        give("second")
        give("third")
        seen = []
        while len(answers) < 2 * FLIGHTS:
            await trio.lowlevel.checkpoint()
            seen.append(len(answers))
        assert [name for name, _ in answers[:FLIGHTS]] == names
        # Two settle slices: the lane, and who does the rest. The order within a round of tasks is drawn, so between two looks
        # each may have had its turn twice.
        assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 2 * 2 * SLICE
        assert all(isinstance(answer, Answer) and answer.refusal is None for _, answer in answers)
        assert node.node.commander.waiting == 0
        assert node.node.commander.lanes.lanes[0].commits - commits > 2
        state = [node.node.commander._books[stream.sid].seq for stream in node.node.hub.by_name.values()]
        assert state == [3] * FLIGHTS
