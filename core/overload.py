"""The shedding ladder: what a node gives up, and in which order, so that an accepted send is never dropped.

Every pulse (`Limits.pulse_interval_s`) brings one sample: how late the loop was, and how full the fullest lane is. The
two see different troubles. Delay says that this process has more to do than time: it grows with clients and what they
ask. Depth says that the log takes less than what comes in, while the loop may be idle. Out of the samples comes a level
from 0 (nothing is given up) to 5; at a level everything of the steps up to it is given up.

The rules:

1. The order is fixed: what costs a user least goes first, and sends go last. Up it goes by single steps.
2. A step is taken when `Limits.shed_samples` samples in a row were at or over its threshold in delay or in depth. One
   slow turn, one full collection, one stolen time slice is no overload. A sample of `FAR` times its delay counts as all
   of them: waiting half a second more to learn what is plain would help nobody.
3. One exception to single steps: a lane as deep as the last step's threshold stops sends at once. What is left of the
   lane is then what arrives within one more pulse, and a full lane is the point where nothing can be promised any more.
4. A step is left, again one at a time, when its calm time has passed with every sample under `LOW` of its thresholds.
   Between low and high the level stays, so that a constant load holds one level for good. Sends come back after the
   shortest calm: their queue is short (a full lane is a third of a second of commits) and would run dry meanwhile.

The level is a monotone function of what was measured: a node that fared worse at every moment never gives up less
(tests/unit/core/test_overload.py). Memory: one count a step.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.limits import Limits


class Step(NamedTuple):
    """One rung. ``delay`` is in multiples of `Limits.shed_delay_s`, ``depth`` a share of `Limits.lane_entries_max`,
    ``calm`` a share of `Limits.shed_calm_s`."""

    what: str
    delay: float
    depth: float
    calm: float


STEPS: Final = (
    Step("typing", 1, 0.30, 1.0),  # who misses it still gets the message; "off" passes, so that nobody types for ever
    Step("presence", 2, 0.45, 1.0),  # who came and went is told when this ends, at most a key a person
    Step("positions", 4, 0.60, 1.0),  # devices are told to send less often; the latest still counts
    Step("connections", 8, 0.75, 0.5),  # those who are in are served on; newcomers may find another node
    Step("sends", 16, 0.90, 0.15),  # refused before they are accepted, with a time to repeat the same key
)
TYPING, PRESENCE, POSITIONS, CONNECTIONS, SENDS = range(1, 6)
"""The level from which each is shed."""

FAR: Final = 8.0
"""A delay of so many times a step's threshold is believed at once."""
LOW: Final = 0.5
"""A step is left below this share of its thresholds."""


class Ladder:
    """Takes samples, keeps the level."""

    def __init__(self, limits: Limits) -> None:
        self.level = 0
        self.reason = ""
        """What was measured at the last change of level, in words for a log."""
        self._rungs = tuple((limits.shed_delay_s * step.delay, step.depth) for step in STEPS)
        self._samples = limits.shed_samples
        calm_samples = limits.shed_calm_s / limits.pulse_interval_s
        self._calm_needed = tuple(max(1, round(calm_samples * step.calm)) for step in STEPS)
        self._runs = [0] * len(STEPS)
        """For every step, how many of the last samples were over it without a break; no more than are needed."""
        self._calm = 0
        """Samples in a row that were low enough to leave the present step."""

    def sample(self, delay_s: float, depth: float) -> bool:
        """One measurement: seconds that the loop was late, share of the fullest lane in use. Whether the level changed."""
        runs, needed = self._runs, self._samples
        for at, (high_delay_s, high_depth) in enumerate(self._rungs):
            if delay_s >= FAR * high_delay_s:
                runs[at] = needed
            elif delay_s >= high_delay_s or depth >= high_depth:
                runs[at] = min(runs[at] + 1, needed)
            else:
                runs[at] = 0
        level = self.level
        if level < SENDS and depth >= STEPS[SENDS - 1].depth:
            return self._move(SENDS, delay_s, depth)
        if level < SENDS and runs[level] >= needed:
            return self._move(level + 1, delay_s, depth)
        if not level:
            return False
        high_delay_s, high_depth = self._rungs[level - 1]
        if delay_s < LOW * high_delay_s and depth < LOW * high_depth:
            self._calm += 1
            if self._calm >= self._calm_needed[level - 1]:
                return self._move(level - 1, delay_s, depth)
        else:
            self._calm = 0
        return False

    def _move(self, level: int, delay_s: float, depth: float) -> bool:
        self.level = level
        self._calm = 0
        self.reason = f"the loop was {delay_s * 1000:.0f} ms late, the fullest lane {depth:.0%} full"
        return True
