"""Advice: a device's own navigation may say when it will arrive. How far to believe it depends on what its advice was worth
before.

A record is the mean square of log((advised to go + 20 s) / (actual to go + 20 s)) over earlier advice, begun with
`PRIOR_ERROR` as if seen `PRIOR_SEEN` times, old advice fading. Advice then counts as one more measurement beside the estimate:
the mean of both logs, weighted by the inverse of their squared errors. It ages: after `STALE_S` it counts for nothing.

For: `core.geo.estimate`. Promises: one advice moves the mean by no more than its record earns; an absurd one is not taken.
Does not: trust a device to judge itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final, NamedTuple

from core.geo.features import BASE_S

PRIOR_ERROR: Final = 0.35
PRIOR_SEEN: Final = 4.0
SEEN_MAX: Final = 50.0  # older advice fades: a device may get a better map
AGE_ERROR: Final = 0.3  # added to the error for each 10 minutes
STALE_S: Final = 900.0
LEFT_MAX_S: Final = 48 * 3_600.0
HELD_MAX: Final = 16  # of a trip, to be judged at its end
SPACING_S: Final = 60.0


class Record(NamedTuple):
    """What a device's advice was worth. Keep it with the device; hand it to its next trip."""

    seen: float = PRIOR_SEEN
    square: float = PRIOR_ERROR * PRIOR_ERROR

    def told(self, advised: Sequence[tuple[float, float]], arrived_s: float) -> Record:
        """After a trip: its advice as (at, arrival) against the arrival."""
        seen, square = self
        for at_s, eta_s in advised:
            if at_s < arrived_s:
                error = log((max(0.0, eta_s - at_s) + BASE_S) / (arrived_s - at_s + BASE_S))
                square = (square * seen + error * error) / (seen + 1.0)
                seen = min(SEEN_MAX, seen + 1.0)
        return Record(seen, square)


def read_record(kept: object) -> Record | None:
    """What was kept of one; ``None`` of anything else."""
    if not (isinstance(kept, list) and len(kept) == 2 and all(type(each) in (int, float) for each in kept)):
        return None
    seen, square = float(kept[0]), float(kept[1])
    return Record(seen, square) if 0.0 < seen <= SEEN_MAX and 0.0 <= square < 100.0 else None


def mixed(
    mean: float, spread: float, at_s: float, advice: tuple[float, float] | None, record: Record
) -> tuple[float, float]:
    """Mean and error of log(seconds to go + 20), with the advice in it."""
    if advice is None or at_s - advice[0] > STALE_S or at_s < advice[0]:
        return mean, spread
    own = spread * spread
    age = (at_s - advice[0]) / 600.0 * AGE_ERROR
    theirs = record.square + age * age
    weight = own / (own + theirs)
    said = log(max(0.0, advice[1] - at_s) + BASE_S)
    return mean + weight * (said - mean), (own * theirs / (own + theirs)) ** 0.5
