"""How a drain spread its clients: the pace that its slots planned, and the peak of those who really came.

Pure: moments in, figures out. Moments are nanoseconds of one clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SECOND_NS = 1_000_000_000


def peak(moments_ns: Iterable[int], width_ns: int = SECOND_NS) -> int:
    """The most moments in any window of this width (half open: two that lie a whole width apart do not share one)."""
    inside: deque[int] = deque()
    most = 0
    for moment in sorted(moments_ns):
        inside.append(moment)
        while inside[0] <= moment - width_ns:
            inside.popleft()
        most = max(most, len(inside))
    return most


@dataclass(frozen=True, slots=True)
class Drained:
    """One node's drain, seen from its clients."""

    clients: int
    spread_s: float
    """From the first slot to the last."""
    planned_per_s: float
    peak_per_s: int
    """Connections begun in the fullest second, those refused and begun again included."""

    @property
    def over(self) -> float:
        """The peak as a multiple of what was planned."""
        return self.peak_per_s / self.planned_per_s if self.planned_per_s else 0.0


def drained(slots_ns: Sequence[int], begun_ns: Sequence[int]) -> Drained:
    """From the moments that the clients were given, and those at which they began a connection.

    Slots within one second plan all their clients for that second.
    """
    if not slots_ns:
        return Drained(0, 0.0, 0.0, peak(begun_ns))
    spread_s = (max(slots_ns) - min(slots_ns)) / SECOND_NS
    # n slots evenly apart have n - 1 steps between them; the last has a step of its own.
    if len(slots_ns) > 1:
        spread_s *= len(slots_ns) / (len(slots_ns) - 1)
    return Drained(len(slots_ns), spread_s, len(slots_ns) / max(1.0, spread_s), peak(begun_ns))
