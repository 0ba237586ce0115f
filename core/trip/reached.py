"""Which stops a trip has reached, by its positions: those that it is at, and those that it has passed.

How it thinks. A stop is reached where the subject is near it and slow, near it twice in a row, was near it and is gone, was
near it and said nothing more for `SILENT_MS`, or is beyond it on its way. A later stop than the next counts as near only once
the subject was away from it since it set out: a round that ends where it began does not end as it begins. None counts that is
still far ahead on the way, so that a stop across the street is not reached on the way to the turn; but the next one does
where it stands, since ways are not always kept to.

For: `core.trip.arriving`. Does not: know what was reached before (``ahead`` are the stops that were not).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.geo.sphere import distance_m
from core.tracks import Sample
from core.trip.plan import Stop

AT_STOP_M: Final[Mapping[str, float]] = {
    "foot": 30.0,
    "bike": 40.0,
    "car": 60.0,
    "bus": 60.0,
    "truck": 80.0,
    "train": 150.0,
    "ship": 300.0,
    "aircraft": 3_000.0,
}
"""How near a stop counts as there."""
SLOW_MPS: Final[Mapping[str, float]] = {"aircraft": 40.0, "train": 4.0, "ship": 2.0}
"""Slower than that and near is there; of others `SLOW_ELSE_MPS`."""
SLOW_ELSE_MPS: Final = 2.5
BEYOND_M: Final = 80.0
"""So far past a stop on the way it was passed, however near it was."""
AHEAD_M: Final = 500.0
"""A stop further ahead on the way than that, and its nearness, is not where the subject is: of 742 taxi trips 21 passed their
goal so, one of them 24 minutes before they were there."""
SILENT_MS: Final = 180_000
"""Who parks ends the app: its last word was that it is near."""
AWAY: Final = 2.0
"""So many times further than near is away."""


class Reached:
    """Of one plan."""

    __slots__ = ("_at_ms", "_away", "_mode", "_near")

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._near: tuple[str, int] | None = None
        """The stop that the last position was near, and when it first was."""
        self._at_ms = 0
        """Of the last position."""
        self._away: set[str] = set()

    def silent(self, ahead: Sequence[Stop]) -> tuple[str, int, int] | None:
        """The stop that the last position was near, and since when; and from when on it counts as reached though nothing more
        is heard. ``None``: it was near none that is ahead."""
        if self._near is None or all(stop.stop != self._near[0] for stop in ahead):
            return None
        return *self._near, self._at_ms + SILENT_MS

    def take(
        self, sample: Sample, ahead: Sequence[Stop], along: Mapping[str, float], progress_m: float | None
    ) -> list[tuple[str, int]]:
        """Stops that are reached with this position, each with its time. ``along`` are metres of stops on the way, and
        ``progress_m`` those of the subject; ``None``: it is on none that is known."""
        radius_m = AT_STOP_M[self._mode] + min(sample.acc or 0.0, AT_STOP_M[self._mode])
        slow_mps = SLOW_MPS.get(self._mode, SLOW_ELSE_MPS)
        before, near = self._near, None
        reached: list[tuple[str, int]] = []
        for nth, stop in enumerate(ahead):
            name, off_m = stop.stop, distance_m(sample.lat, sample.lon, stop.lat, stop.lon)
            to_m = along[name] - progress_m if progress_m is not None and name in along else None
            if off_m > AWAY * radius_m:
                self._away.add(name)
            if to_m is not None and to_m < -BEYOND_M:
                reached.append((name, sample.at_ms))
            elif off_m <= radius_m:
                slow = sample.speed is not None and sample.speed <= slow_mps
                far = to_m is not None and to_m > AHEAD_M + radius_m
                may = nth == 0 and slow if far else nth == 0 or name in self._away
                if may and near is None:
                    near = name, sample.at_ms if before is None or before[0] != name else before[1]
                    if slow or near[1] < sample.at_ms:
                        reached.append(near)
            elif before is not None and before[0] == name:
                reached.append(before)  # it was there, once, and is gone
        self._near, self._at_ms = near, sample.at_ms
        return reached
