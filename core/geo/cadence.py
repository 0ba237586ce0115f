"""How often a position is worth sending: what a device is told (`next_in_s`), and what of too much is let go (`Throttle`).

A fix costs a device its battery and us a row. Often is right only where somebody sees it or something hangs on it: while the
trip is watched, or shortly before an alert (`core.trip.arriving` says when that is). Otherwise the usual rule of fleets holds:
a fix at most every 30 s and every 30 m; what stands may wait longer, but not so long that it seems lost.

For: the gateway, which tells ``next_in`` with every answer; `plausible.Judge`. Promises: `next_in_s` is between MIN_S and MAX_S
whatever is asked. `Throttle` counts times of fixes, not of arrival, so a backlog is as welcome as it was live.

Does not: know who watches; make anybody obey.
"""

from __future__ import annotations

from typing import Final, Literal

Mode = Literal["foot", "bike", "car", "bus", "truck", "train", "ship", "aircraft", "any"]

MIN_S: Final = 1.0
MAX_S: Final = 300.0
"""What stands is heard of every five minutes: stale is a matter of minutes for whoever waits."""
REST_S: Final = 30.0
REST_M: Final = 30.0
STANDING_MPS: Final = 0.5
WATCHED_S: Final[dict[Mode, float]] = {
    "foot": 5.0,
    "bike": 3.0,
    "car": 2.0,
    "bus": 2.0,
    "truck": 2.0,
    "train": 2.0,
    "ship": 5.0,
    "aircraft": 2.0,
    "any": 2.0,
}
"""Some 30 m of city traffic, less than who looks at a map can tell."""
WATCHED_STANDING_S: Final = 10.0


def next_in_s(
    mode: Mode,
    *,
    watched: bool,
    speed_mps: float | None,
    factor: float = 1.0,
) -> float:
    """Seconds until the next fix is worth sending. ``factor``: above 1 where the node has too much to do, below 1 where a
    tenant pays for more."""
    standing = speed_mps is not None and speed_mps < STANDING_MPS
    wait = REST_S if speed_mps is None else MAX_S if standing else max(REST_S, REST_M / speed_mps)
    if watched:
        wait = WATCHED_STANDING_S if standing else WATCHED_S[mode]
    return min(max(wait * factor, MIN_S), MAX_S)


class Throttle:
    """A bucket by the fixes' own times: ``burst`` at once, then one each ``gap_ms`` (the generic cell rate algorithm, which
    is one number)."""

    __slots__ = ("due_ms",)

    def __init__(self) -> None:
        self.due_ms = 0
        """When the bucket would be full again."""

    def admit(self, at_ms: int, gap_ms: int, burst: int, *, big: bool = False) -> bool:
        """Whether the fix of that time is taken. ``big``: it says something that its neighbours do not, and always is."""
        due = max(self.due_ms, at_ms)
        if due - at_ms > gap_ms * (burst - 1) and not big:
            return False
        self.due_ms = min(due, at_ms + gap_ms * burst) + gap_ms
        return True
