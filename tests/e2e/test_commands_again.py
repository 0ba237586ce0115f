"""Commands that are given again, and commands of those who know the hour better than the node."""

from __future__ import annotations

import uuid

import pytest

from core.flight import times
from gateway.work.orders import Impossible
from tests.e2e.test_work import airport

SCHEDULE = {
    "flight": "QX1",
    "from": "SYD",
    "to": "MEL",
    "out": "2026-11-21T08:00:00.000Z",
    "in": "2026-11-21T09:30:00.000Z",
}
NOWHERE = {"reasons": [{"code": "there is no such code"}]}


async def test_a_command_that_is_malformed_by_now_is_answered_as_it_was() -> None:
    """A refusal was kept under its key when nothing could be said of the flight; when it could, what was asked turned out to
    be no command at all, and the same key was answered `bad_request`."""
    async with airport() as port:
        await port.node.stream("flight:QX1")
        key = str(uuid.uuid4())
        first = await port.orders.command("demo", "flight:QX1", "delay", NOWHERE, key)
        assert first.refusal is not None
        await port.give("flight:QX1", "schedule", SCHEDULE)
        again = await port.orders.command("demo", "flight:QX1", "delay", NOWHERE, key)
        assert again.dup
        assert again.refusal == first.refusal
        with pytest.raises(Impossible, match="bad_request"):
            await port.orders.command("demo", "flight:QX1", "delay", NOWHERE, str(uuid.uuid4()))


async def test_a_timer_that_is_due_by_the_stores_clock_fires_whatever_the_nodes_says() -> None:
    """A node whose clock was behind refused it as too early, and the refusal was kept under the key for good."""
    async with airport() as port:
        await port.flight("QX1")
        due_ms = int(1000 * (port.orders.wall() + 3_600.0))
        timer = {"name": "t", "due": times.write(due_ms)}
        (fence,) = (await port.give("flight:QX1", "timer.set", timer)).seqs
        fire = {"name": "t", "fence": fence}
        early = await port.orders.command("demo", "flight:QX1", "timer.fire", fire, str(uuid.uuid4()))
        assert early.refusal is not None
        assert early.refusal.reason == "too_early"
        fired = await port.orders.command(
            "demo", "flight:QX1", "timer.fire", fire, str(uuid.uuid4()), not_before_ms=due_ms
        )
        assert fired.refusal is None
