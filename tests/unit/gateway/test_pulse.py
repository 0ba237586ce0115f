"""gateway.pulse: the loop's delay is measured, the ladder is fed with it, and its level is set where it takes effect."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from core.limits import Limits
from core.model import Entry
from core.overload import CONNECTIONS, POSITIONS, PRESENCE, SENDS, STEPS, TYPING
from gateway.memory import COLLECTOR
from gateway.node import Node
from gateway.pulse import POSITION_FACTOR, RECENT
from tests.nodes import serving_node

LIMITS = Limits()
BY_HAND = replace(LIMITS, pulse_interval_s=3_600.0)
"""The node's own beats do not come while a test runs: it gives them."""


def raise_to(node: Node, level: int) -> None:
    """Beats that end in this level, as a loop does that is late by just that much."""
    for _ in range(LIMITS.shed_samples + level):
        node.pulse.beat(LIMITS.shed_delay_s * STEPS[level - 1].delay if level else 0.0)
    assert node.pulse.level == level


def flags(node: Node) -> tuple[bool, bool, bool, bool, bool]:
    """What is shed, in the ladder's order, read where it takes effect."""
    return (
        node.hub.signals.shed_typing,
        node.hub.signals.shed_presence,
        node.pulse.position_factor == POSITION_FACTOR,
        node.shard.shedding_retry_after_s is not None,
        node.ops.shedding_sends,
    )


async def waking(clock: MockClock, seconds: float) -> None:
    """The clock goes on by so much at once, then all who were woken have had their turn."""
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_beat_that_comes_late_is_measured_late(mock_clock: MockClock) -> None:
    """The loop is held for 0.35 s: the beat due after 0.1 s finds itself 0.25 s late, and says so everywhere."""
    async with serving_node() as node:
        pulse = node.node.pulse
        beats: list[float] = []
        pulse.on_beat = lambda: beats.append(pulse.delay_s)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await waking(mock_clock, 0.1)
        await waking(mock_clock, 0.35)
        assert beats == [pytest.approx(0.0), pytest.approx(0.25)]
        assert pulse.recent(1.0) == pytest.approx(0.25)
        text = node.desk.metrics_text().decode()
        assert "readback_loop_delay_seconds_count 2\n" in text
        assert 'readback_loop_delay_seconds_bucket{le="0.2"} 1\n' in text
        assert 'readback_loop_delay_recent_seconds{quantile="1"} 0.2' in text


async def test_each_level_sets_its_flags_and_those_before_it() -> None:
    """Up and down the ladder: at every level just the steps up to it are shed; metrics say the same."""
    async with serving_node(limits=BY_HAND) as node:
        for level in (1, 2, 3, 4, 5):
            raise_to(node.node, level)
            assert flags(node.node) == tuple(
                step <= level for step in (TYPING, PRESENCE, POSITIONS, CONNECTIONS, SENDS)
            )
            text = node.desk.metrics_text().decode()
            assert f"readback_overload_level {level}\n" in text
            for number, step in enumerate(STEPS, 1):
                assert f'readback_shedding{{what="{step.what}"}} {int(number <= level)}\n' in text
        for level in (4, 3, 2, 1, 0):
            node.node.pulse.beat(0.0)
            assert flags(node.node) == tuple(step <= level for step in (1, 2, 3, 4, 5))


async def test_a_change_of_level_is_one_line_with_what_was_measured(caplog: pytest.LogCaptureFixture) -> None:
    """Up is a warning, down is said too; a level that stays says nothing."""
    caplog.set_level(logging.INFO, "readback.pulse")
    async with serving_node(limits=BY_HAND) as node:
        raise_to(node.node, 2)
        node.node.pulse.beat(0.1)
        node.node.pulse.beat(0.0)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "overload level 1 (was 0): typing shed; the loop was 100 ms late, the fullest lane 0% full"),
        (
            "WARNING",
            "overload level 2 (was 1): typing, presence shed; the loop was 100 ms late, the fullest lane 0% full",
        ),
        ("INFO", "overload level 1 (was 2): typing shed; the loop was 0 ms late, the fullest lane 0% full"),
    ]


async def test_how_full_the_fullest_lane_is() -> None:
    """Depth is told of the lane that has least room, and a lane nearly full stops sends at the next beat."""
    async with serving_node(limits=replace(BY_HAND, lane_entries_max=10, batch_entries_max=5)) as node:
        pulse, lane = node.node.pulse, node.node.lanes.lanes[0]
        assert pulse.depth() == 0.0
        for n in range(9):
            lane._waiting.append(Entry("demo", 1, f"{n}", "message", "user:amy", b"1"))
        assert pulse.depth() == 0.9
        pulse.beat(0.0)
        assert pulse.level == SENDS
        lane._waiting.clear()


async def test_health_says_that_newcomers_should_go_elsewhere() -> None:
    """Ready up to level 3, with the level among the facts; from 4 on not ready, with the reason; always alive."""
    async with serving_node(limits=BY_HAND) as node:
        assert "overload" not in node.desk.health().facts
        raise_to(node.node, POSITIONS)
        health = node.desk.health()
        assert health.ready
        assert health.facts["overload"] == "level 3: the loop was 200 ms late, the fullest lane 0% full"
        raise_to(node.node, CONNECTIONS)
        health = node.desk.health()
        assert (health.live, health.ready) == (True, False)
        assert health.reasons == ["overloaded: the loop was 400 ms late, the fullest lane 0% full"]


async def test_recent_delays_are_a_window() -> None:
    """Percentiles of the last beats; what lies further back is forgotten, and nothing at all is zero."""
    async with serving_node(limits=BY_HAND) as node:
        pulse = node.node.pulse
        assert pulse.recent(0.99) == 0.0
        pulse.beat(4.0)
        for n in range(RECENT - 1):
            pulse.beat(n / 1e6)
        assert pulse.recent(1.0) == 4.0
        assert pulse.recent(0.5) == pytest.approx(0.0006)
        pulse.beat(0.0)
        assert pulse.recent(1.0) < 0.01


async def test_collections_are_measured_until_the_node_ends() -> None:
    """Each collection is a sample of its generation; afterwards the collector calls nothing of ours."""

    def count(metrics: Callable[[], bytes], generation: int) -> int:
        text = metrics().decode()
        line = f'readback_gc_pause_seconds_count{{generation="{generation}"}} '
        return int(text.partition(line)[2].partition("\n")[0])

    before = len(gc.callbacks)
    async with serving_node() as node:
        await trio.testing.wait_all_tasks_blocked(0.005)
        assert len(gc.callbacks) == before + 1
        full = count(node.desk.metrics_text, 2)
        gc.collect()
        assert count(node.desk.metrics_text, 2) == full + 1
        assert count(node.desk.metrics_text, 0) >= 0
    assert len(gc.callbacks) == before


async def test_an_ended_node_sheds_nothing() -> None:
    """The flags go with the pulse: what looks at the node afterwards finds it as it was."""
    async with serving_node(limits=BY_HAND) as node:
        await trio.testing.wait_all_tasks_blocked(0.005)
        raise_to(node.node, SENDS)
        await node.stop()
        assert flags(node.node)[:2] == (False, False)
        assert not node.node.ops.shedding_sends


async def test_the_collector_is_tidied_while_nothing_is_shed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Housekeeping freezes what came to stay, and leaves that pause for later while the node has too much to do."""
    calls: list[int] = []
    async with serving_node(limits=BY_HAND) as node:
        monkeypatch.setattr(COLLECTOR, "tidy", lambda: calls.append(node.node.pulse.level))
        await trio.sleep(12)
        assert calls == [0, 0]
        raise_to(node.node, TYPING)
        await trio.sleep(10)
        assert calls == [0, 0]
