"""Full-jitter exponential backoff: how long to stay away, so that ten thousand clients do not come back as one.

A delay is uniform in [0, min(cap, base * 2**attempt)] on top of whatever the server asked for (``retry_after``, a
drain slot), which is a floor, never shortened. Uniform down to zero on purpose: of the known schemes it spreads a herd
widest for the same mean. The attempt count falls back to zero only after a connection that held (``Limits.proved_s``):
a server that welcomes and drops at once must not be dialled twice a second for ever.
"""

from __future__ import annotations

from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""``random.Random().uniform``, or a test's choice."""


class Backoff:
    """
    >>> backoff = Backoff(0.5, 30.0, uniform=lambda low, high: high)
    >>> [backoff.next_s() for _ in range(3)]
    [0.5, 1.0, 2.0]
    """

    __slots__ = ("_base_s", "_cap_s", "_uniform", "attempt")

    def __init__(self, base_s: float, cap_s: float, uniform: Uniform) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._uniform = uniform
        self.attempt = 0

    def next_s(self, floor_s: float = 0.0) -> float:
        # 2**attempt would outgrow a float after a thousand tries; the cap is met long before 32.
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self.attempt, 32))
        self.attempt += 1
        return floor_s + self._uniform(0.0, ceiling)

    def reset(self) -> None:
        self.attempt = 0
