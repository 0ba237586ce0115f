"""The node's pulse: how late its loop is, how long the collector held it, and what is shed for that.

A task that asks to be woken every `pulse_interval_s` and measures how late it is: the same delay has everything else that
waits for this loop. Each beat feeds the shedding ladder (`core.overload`), and what the ladder says is set where it
takes effect, as plain flags that cost the hot path one attribute:

| level | shed | where |
|---|---|---|
| 1 | typing that begins | `Signals.shed_typing` |
| 2 | who came and went; told when the level falls | `Signals.shed_presence` |
| 3 | position rate | `position_factor` here |
| 4 | new connections: 503 with Retry-After | `Shard.shedding_retry_after_s` |
| 5 | sends: ``overloaded`` with ``retry_after`` | `Ops.shedding_sends` |

Promises: what was accepted before is not touched by any of it; every change of level is one line in the log, with what
was measured; everything is set back when the node ends. Does not: decide (the ladder does), or know why the loop is late.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from core.overload import CONNECTIONS, POSITIONS, PRESENCE, SENDS, STEPS, TYPING, Ladder
from gateway import memory

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.pulse")

RECENT: Final = 1_200
"""Beats of which the percentiles are told: two minutes."""
CONNECT_RETRY_S: Final = 2.0
"""What newcomers are told at least; the shard spreads it up to twice that. The step's calm time is a second."""
POSITION_FACTOR: Final = 4.0


class Pulse:
    def __init__(self, node: Node) -> None:
        self._node = node
        self.ladder = Ladder(node.limits)
        self.beats = 0
        self.delay_s = 0.0
        """How late the last beat was."""
        self.on_beat: Callable[[], None] = lambda: None
        """Called after every beat, by the loop itself: whoever watches over the process may take it for a sign of life."""
        self.observe_delay: Callable[[float], None] = lambda seconds: None
        self.observe_pause: Callable[[int, float], None] = lambda generation, seconds: None
        self._recent: deque[float] = deque(maxlen=RECENT)

    # -- beating ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        interval_s = self._node.limits.pulse_interval_s
        try:
            with memory.watching(lambda generation, seconds: self.observe_pause(generation, seconds)):
                while True:
                    due_s = trio.current_time() + interval_s
                    await trio.sleep_until(due_s)
                    self.beat(trio.current_time() - due_s)
        finally:
            self._apply(0)

    def beat(self, delay_s: float) -> None:
        """One measurement, in seconds of delay."""
        self.beats += 1
        self.delay_s = delay_s
        self._recent.append(delay_s)
        self.observe_delay(delay_s)
        ladder, before = self.ladder, self.ladder.level
        if ladder.sample(delay_s, self.depth()):
            self._apply(ladder.level)
            self._tell(before)
        self.on_beat()

    def depth(self) -> float:
        """How full the fullest lane is, 0 to 1."""
        lanes = self._node.lanes.lanes
        return max(map(len, lanes)) / self._node.limits.lane_entries_max

    def recent(self, q: float) -> float:
        """The delay that this share of the recent beats did not exceed; 1 for the greatest. 0 before the first."""
        ordered = sorted(self._recent)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    # -- what is shed -------------------------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        return self.ladder.level

    @property
    def position_factor(self) -> float:
        """What the time between two position fixes is to be multiplied by (`gateway.pings`)."""
        return POSITION_FACTOR if self.ladder.level >= POSITIONS else 1.0

    @property
    def full(self) -> str | None:
        """Why newcomers had better go elsewhere, in words; ``None`` while they are welcome."""
        return None if self.ladder.level < CONNECTIONS else f"overloaded: {self.ladder.reason}"

    def _apply(self, level: int) -> None:
        node = self._node
        node.hub.signals.shed_typing = level >= TYPING
        node.hub.signals.shed_presence = level >= PRESENCE
        node.shard.shedding_retry_after_s = CONNECT_RETRY_S if level >= CONNECTIONS else None
        if level >= CONNECTIONS:
            node.shard.jitter = node.uniform
        node.ops.shedding_sends = level >= SENDS

    def _tell(self, before: int) -> None:
        level, reason = self.ladder.level, self.ladder.reason
        shed = ", ".join(step.what for step in STEPS[:level]) or "nothing"
        tell = log.warning if level > before else log.info
        tell("overload level %d (was %d): %s shed; %s", level, before, shed, reason)
