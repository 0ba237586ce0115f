"""Circuit breakers: somebody outside who fails again and again is left alone for a while, then tried with one call. Pure.

    closed --[failures_max failures in a row]--> open --[rest_s later, the next who asks]--> half-open
    half-open --[its call went well]--> closed;   half-open --[its call failed]--> open, for another rest_s

For: whatever is called over a network and is not ours. Promises: while it is open nobody is let through; of those who ask
once the rest is over one is, and the others wait for what becomes of it. Whoever was let through says exactly once how it
went: `went_well`, `failed`, or `nothing` (cancelled before it could be known).

Does not: read a clock (``now_s`` is any that only rises), bound how many call at once, or call.
"""

from __future__ import annotations

from typing import Final, Literal

ASK_AGAIN_S: Final = 1.0
"""How long to wait where somebody else is trying right now."""


class Breaker:
    """Of one host."""

    __slots__ = ("_failures_max", "_rest_s", "failures", "opened", "trying", "until_s")

    def __init__(self, failures_max: int, rest_s: float) -> None:
        assert failures_max > 0
        assert rest_s > 0
        self._failures_max = failures_max
        self._rest_s = rest_s
        self.failures = 0
        """In a row, those that opened it included."""
        self.until_s: float | None = None
        """When the rest ends or ended; ``None`` while it is closed."""
        self.trying = False
        self.opened = 0
        """How often."""

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        if self.until_s is None:
            return "closed"
        return "half-open" if self.trying else "open"

    def ask(self, now_s: float) -> float:
        """0: call, and say how it went. Else how many seconds to wait before asking again."""
        if self.until_s is None:
            return 0.0
        if now_s < self.until_s:
            return min(self.until_s - now_s, self._rest_s)  # what was rounded up in the sum is nobody's to wait
        if self.trying:
            return ASK_AGAIN_S
        self.trying = True
        return 0.0

    def went_well(self) -> None:
        """Also what answers with an error of the caller's: the host itself is well."""
        self.failures = 0
        self.until_s = None
        self.trying = False

    def failed(self, now_s: float) -> None:
        self.failures += 1
        if self.trying or (self.until_s is None and self.failures >= self._failures_max):
            self.opened += 1
            self.until_s = now_s + self._rest_s
        self.trying = False

    def nothing(self) -> None:
        """The call ended before it was known how the host is: whoever asks next is let through in its place."""
        self.trying = False
