"""Progress: how far along its way a vehicle is, from fixes that are noisy, late, doubled or wrong. Theory of operation:

- A fix is compared with the line near where the vehicle was: a little behind it, and as far ahead as it can have come since
  (`REACH_MPS`). The nearest segment wins, where a metre along the way costs `AHEAD_COST` of a metre off it: so that on a loop,
  or where the way crosses itself, the pass that continues the trip is taken. A heading against the segment's costs
  `AGAINST_M`.
- Progress does not go back for noise: a fix up to `BACK_M` behind leaves it where it is. `BACK_FIXES` in a row farther behind
  than that are believed.
- A fix farther off than its tolerance moves nothing. `OFF_FIXES` in a row, not all from one spot, are *off route*; on the
  third, and now and then after it, the whole way is searched, for a vehicle that took a short cut. `ON_FIXES` in a row near
  the line end it.

For: `core.geo.estimate`. Promises: looks at a few segments a fix; finite whatever comes; a fix that is not newer than the last
changes nothing. Does not: judge whether a fix is plausible (`core.geo.plausible`), order fixes.
"""

from __future__ import annotations

from math import hypot
from typing import Final, NamedTuple

from core.geo.way import Way

REACH_MPS: Final = 40.0
REACH_M: Final = 200.0
BEHIND_M: Final = 400.0
BACK_M: Final = 50.0
BACK_FIXES: Final = 3
AHEAD_COST: Final = 0.02
AGAINST_M: Final = 40.0
OFF_M: Final = 60.0
OFF_ACCURACIES: Final = 3.0
OFF_MAX_M: Final = 300.0  # however bad a device says that its fix is
OFF_FIXES: Final = 3
OFF_MOVED_M: Final = 60.0  # a vehicle that stands with a bad fix is not off route
ON_FIXES: Final = 2
SEARCH_EVERY: Final = 4
SEGMENTS_MAX: Final = 400  # looked at for one fix in the usual search: 16 km of a winding way


class Match(NamedTuple):
    at_m: float
    """Along the way; what earlier fixes said where this one says nothing."""
    off_m: float
    """How far the fix lay from the line where it was searched for."""
    moved: bool
    """Whether this fix was believed."""


class Matcher:
    """One vehicle on one way. `at_m` and `off_route` are what is known of it."""

    __slots__ = ("_backs", "_off_x", "_off_y", "_offs", "_ons", "_seg", "_way", "at_m", "off_route")

    def __init__(self, way: Way) -> None:
        self._way = way
        self.at_m = 0.0
        self.off_route = False
        self._seg = 0
        self._backs = self._offs = self._ons = 0
        self._off_x = self._off_y = 0.0

    def take(
        self, x: float, y: float, after_s: float, heading_deg: tuple[float, float] | None = None, acc_m: float = 0.0
    ) -> Match:
        """A fix on the way's plane, `after_s` since the last; of its heading the (east, north) parts."""
        far = self.at_m + REACH_M + REACH_MPS * after_s
        at_m, off_m, seg = self._search(x, y, self.at_m - BEHIND_M, far, heading_deg, SEGMENTS_MAX)
        tolerance = min(OFF_MAX_M, max(OFF_M, OFF_ACCURACIES * acc_m))
        if off_m > tolerance:
            self._ons = 0
            if self._offs == 0:
                self._off_x, self._off_y = x, y
            self._offs += 1
            if self._offs >= OFF_FIXES and (self._offs - OFF_FIXES) % SEARCH_EVERY == 0:
                whole_m, near_m, whole = self._search(x, y, 0.0, self._way.length_m, heading_deg, len(self._way.dx))
                if near_m <= tolerance:
                    self._believe(whole_m, whole)
                    return Match(self.at_m, near_m, True)
                if hypot(x - self._off_x, y - self._off_y) >= OFF_MOVED_M:
                    self.off_route = True
            return Match(self.at_m, off_m, False)
        self._offs = 0
        if self.off_route:
            self._ons += 1
            if self._ons < ON_FIXES:
                return Match(self.at_m, off_m, False)
        if at_m < self.at_m - BACK_M:
            self._backs += 1
            if self._backs < BACK_FIXES:
                return Match(self.at_m, off_m, False)
        elif at_m < self.at_m:
            at_m, seg = self.at_m, self._seg
        self._believe(at_m, seg)
        return Match(at_m, off_m, True)

    def _believe(self, at_m: float, seg: int) -> None:
        self.at_m, self._seg, self.off_route = at_m, seg, False
        self._backs = self._offs = self._ons = 0

    def _search(
        self, x: float, y: float, low_m: float, high_m: float, heading: tuple[float, float] | None, most: int
    ) -> tuple[float, float, int]:
        """The cheapest place between two offsets: metres along, metres off, which segment. The hot path: `sphere.nearest` by
        hand, squares before roots (5 us for ten segments)."""
        way, here = self._way, self.at_m
        xs, ys, dx, dy, at = way.xs, way.ys, way.dx, way.dy, way.at_m
        i = self._seg
        while i > 0 and at[i] > low_m:
            i -= 1
        best, best_m, best_off, best_seg = 1e18, here, 1e18, i
        for k in range(i, min(len(dx), i + most)):
            if at[k] > high_m:
                break
            ax, ay, vx, vy = x - xs[k], y - ys[k], dx[k], dy[k]
            long2 = vx * vx + vy * vy
            part = (ax * vx + ay * vy) / long2 if long2 > 0.0 else 0.0
            part = 0.0 if part < 0.0 else 1.0 if part > 1.0 else part
            ax -= part * vx
            ay -= part * vy
            off2 = ax * ax + ay * ay
            if off2 >= best * best:
                continue
            off = off2**0.5
            along = at[k] + part * (at[k + 1] - at[k])
            cost = off + AHEAD_COST * abs(along - here)
            if heading is not None and heading[0] * vx + heading[1] * vy < 0.0:
                cost += AGAINST_M
            if cost < best:
                best, best_m, best_off, best_seg = cost, along, off, k
        return best_m, best_off, best_seg
