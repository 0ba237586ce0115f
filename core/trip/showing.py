"""What people see of a trip's arrival times: written where it says something new, or nothing was said for long.

For: `core.trip.arriving`. Promises: what says the same as before is not written, let alone sent: most of it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from core.flight.times import write
from core.trip.alerts import Estimate

SHOW_AGAIN_S: Final = 30.0
SHOW_WIDTH_S: Final = 10.0
"""An interval that is wider or narrower by so much is news."""
THEN_MAX: Final = 10
"""Stops after the next whose arrival times are shown with it."""


class Show(NamedTuple):
    """The trip's arrival time, as people see it, true since ``at_ms``."""

    value: dict[str, Any]
    at_ms: int


class _Said(NamedTuple):
    """What was shown last, as far as the next is held against it: when it was made, its stop and source, the arrival in whole
    seconds, how many stops came after, how wide the interval was."""

    made_ms: int
    stop: str
    source: str
    eta_s: int
    then: int
    wide_ms: int


class Showing:
    """Of one trip."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: _Said | None = None

    def worth(self, told: Sequence[tuple[str, Estimate]]) -> Show | None:
        """Of the stops ahead in their order, the next one first; ``None``: it says nothing new."""
        (stop, shown), *then = told
        eta_s = round(shown.eta_ms / 1000)
        said = _Said(shown.made_ms, stop, shown.source, eta_s, min(len(then), THEN_MAX), shown.high_ms - shown.low_ms)
        before = self._said
        if before is not None and said[1:5] == before[1:5]:
            again = said.made_ms - before.made_ms >= 1000 * SHOW_AGAIN_S
            if not again and abs(said.wide_ms - before.wide_ms) < 1000 * SHOW_WIDTH_S:
                return None
        self._said = said
        value: dict[str, Any] = {"stop": stop, **_written(shown), "source": shown.source}
        if then:
            value["then"] = [{"stop": name, **_written(later)} for name, later in then[:THEN_MAX]]
        return Show(value, shown.made_ms)


def _written(shown: Estimate) -> dict[str, str]:
    """Whole seconds: nobody reads more."""
    times = (("at", shown.eta_ms), ("low", shown.low_ms), ("high", shown.high_ms))
    return {name: write(1000 * round(at_ms / 1000)) for name, at_ms in times}
