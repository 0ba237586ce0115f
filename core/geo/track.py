"""Tracks of trips: what of its past a trip needs for its features, bounded, across changes of route.

Three lists that never fall: when, metres covered, seconds that were expected for them. Because it counts what was covered and
not where, a new route goes on from it: the trip's own factor is not forgotten on a detour.

For: `core.geo.features`, `core.geo.estimate`. Promises: at most `KEPT_MAX` entries, whatever comes. Does not: know the way.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

KEPT_MAX: Final = 256  # entries; 2 h of fixes every 30 s
KEPT_S: Final = 600.0
KEPT_M: Final = 2_000.0


class Track:
    """`times`, `metres`, `expected`: of each fix that counted, oldest first; what it covered since the trip began."""

    __slots__ = ("began_s", "expected", "metres", "times")

    def __init__(self, at_s: float) -> None:
        self.began_s = at_s
        self.times = [at_s]
        self.metres = [0.0]
        self.expected = [0.0]

    def take(self, at_s: float, metres_m: float, expected_s: float) -> None:
        """So many metres more, for which so many seconds were expected."""
        self.times.append(at_s)
        self.metres.append(self.metres[-1] + max(0.0, metres_m))
        self.expected.append(self.expected[-1] + max(0.0, expected_s))
        if len(self.times) > 64 and len(self.times) % 32 == 0:
            self._forget()

    def _forget(self) -> None:
        keep = min(bisect_left(self.times, self.times[-1] - KEPT_S), bisect_left(self.metres, self.metres[-1] - KEPT_M))
        keep = max(keep - 1, len(self.times) - KEPT_MAX, 0)
        del self.times[:keep], self.metres[:keep], self.expected[:keep]

    def over_metres(self, back_m: float) -> tuple[float, float]:
        """Seconds that the last so many metres took, and that were expected for them; fewer metres where fewer are known."""
        then = self.metres[-1] - back_m
        i = bisect_left(self.metres, then)
        if i == 0:
            at, expected = self.times[0], self.expected[0]
        else:
            low = self.metres[i - 1]
            part = (then - low) / (self.metres[i] - low)
            at = self.times[i - 1] + part * (self.times[i] - self.times[i - 1])
            expected = self.expected[i - 1] + part * (self.expected[i] - self.expected[i - 1])
        return self.times[-1] - at, self.expected[-1] - expected

    def over_seconds(self, back_s: float) -> tuple[float, float]:
        """Of the last so many seconds: how many are known, and how many were expected for what was covered in them."""
        then = self.times[-1] - back_s
        i = bisect_left(self.times, then)
        if i == 0:
            return self.times[-1] - self.times[0], self.expected[-1] - self.expected[0]
        part = (then - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        return back_s, self.expected[-1] - self.expected[i - 1] - part * (self.expected[i] - self.expected[i - 1])
