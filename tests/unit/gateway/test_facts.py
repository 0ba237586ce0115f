"""gateway.facts: all facts of a stream, for who may follow it, and what they come to now."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pytest_trio import trio_fixture

from core.tokens import Identity
from gateway.facts import Facts
from gateway.service import WireError
from store.memory import MemoryLog
from tests.flight_facts import Facts as Told
from tests.flight_facts import equipped, scheduled
from tests.nodes import TestNode, memory_log, serving_node

ROOT = Identity("demo", "user:root", frozenset({"admin"}), 0.0)


@trio_fixture
async def node() -> AsyncIterator[TestNode]:
    log = memory_log()
    async with serving_node(log) as made:
        await made.stream("flight:QX1")
        await Told(log).tell("flight:QX1", scheduled(), equipped("VH-XYZ"))
        yield made


async def test_they_come_to_what_their_machine_makes_of_them(node: TestNode) -> None:
    """All that was committed; and nothing where nothing was."""
    facts = Facts(node.node, node.desk)
    found = await facts.state(ROOT, await node.desk.readable(ROOT, "flight:QX1"))
    assert (found.seq, found.doc["registration"]) == (2, "VH-XYZ")
    await node.stream("trip:9")
    nothing = await facts.state(ROOT, await node.desk.readable(ROOT, "trip:9"))
    assert (nothing.seq, nothing.doc["status"]) == (0, "new")


async def test_none_is_of_a_log_that_was_before_a_restore(node: TestNode) -> None:
    """Kept parsed until then, read anew after it."""
    facts, stream = Facts(node.node, node.desk), await node.desk.readable(ROOT, "flight:QX1")
    first = await facts.of(ROOT, stream)
    assert (await facts.of(ROOT, stream))[0] is first[0]
    node.node.follower.restored += 1
    anew = await facts.of(ROOT, stream)
    assert list(anew) == list(first)
    assert anew[0] is not first[0]
    assert (await facts.of(ROOT, stream))[0] is anew[0]


async def test_a_log_that_cannot_be_read_is_told_in_the_wire_s_words(node: TestNode) -> None:
    """And the next one is answered."""
    facts, stream = Facts(node.node, node.desk), await node.desk.readable(ROOT, "flight:QX1")
    assert isinstance(node.log, MemoryLog)
    node.log.fail_next("unavailable", "ruled")
    with pytest.raises(WireError) as told:
        await facts.of(ROOT, stream)
    assert told.value.code == "unavailable"
    assert len(await facts.of(ROOT, stream)) == 2
