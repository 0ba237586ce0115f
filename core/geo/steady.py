"""Steady arrivals: what is shown, moved only as far and as often as the evidence asks. Rules, in order:

1. The first target is shown as it is.
2. A target that differs from what is shown by more than a share of the interval (`gate_share` of high - low, at least
   `gate_s`) is evidence that has left it: the shown time moves there at once. So a trip that got stuck is told in one step,
   not in ten.
3. A difference up to `still_s` moves nothing: no flicker.
4. Else it moves by `gain` of the difference, at most `step_s` a fix.
5. What is shown is never before now.

It is the arrival that is steadied, never the time to go: that one falls by a second a second, which is no news.

For: `core.geo.estimate`. Promises: between fixes it stands; equal targets end up shown. Does not: estimate.
"""

from __future__ import annotations

from typing import NamedTuple


class Calm(NamedTuple):
    """How calm. Chosen in training on trips that the model had not seen (docs/eta.md has the figures)."""

    step_s: float = 28.0
    gain: float = 0.5
    still_s: float = 20.0
    gate_share: float = 0.45
    gate_s: float = 90.0


class Steady:
    """One shown arrival. `shown_s` is ``None`` until there is one."""

    __slots__ = ("calm", "shown_s")

    def __init__(self, calm: Calm, shown_s: float | None = None) -> None:
        self.calm = calm
        self.shown_s = shown_s

    def take(self, at_s: float, target_s: float, low_s: float, high_s: float) -> float:
        calm, shown = self.calm, self.shown_s
        if shown is None:
            shown = target_s
        else:
            apart = target_s - shown
            if abs(apart) > max(calm.gate_s, calm.gate_share * (high_s - low_s)):
                shown = target_s
            elif abs(apart) > calm.still_s:
                shown += min(calm.step_s, max(-calm.step_s, calm.gain * apart))
        self.shown_s = shown = max(shown, at_s)
        return shown
