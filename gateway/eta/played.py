"""What was said of a trip when it was played, and how its fixes come: in the order of the file, or with faults of the way in.

For: `gateway.eta.served` and `gateway.eta.replay`. Promises: a trip's faults depend on the seed and its name alone.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from core.geo.estimate import Emission, Fixed
from core.geo.score import Call
from gateway.eta.trips import Trip

DELAY_S: Final = 90.0
DOUBLED_S: Final = 30.0


class Faults(NamedTuple):
    """Which part of fixes is dropped, delayed, doubled."""

    drop: float = 0.0
    delay: float = 0.0
    duplicate: float = 0.0
    seed: int = 0


class Rung(NamedTuple):
    """An alert, and the arrival shown with it; it stands for thresholds ``merged``, too."""

    threshold_s: float
    at_s: float
    eta_s: float
    merged: tuple[float, ...] = ()


class Played(NamedTuple):
    """``cpu_s``: spent on the fixes by what serves. ``reached_s``: when it was taken to have arrived."""

    trip: Trip
    said: list[Emission]
    alerts: list[Rung]
    calls: list[Call]
    fixes: int
    cpu_s: float
    reached_s: float | None = None


def deliveries(trip: Trip, faults: Faults) -> list[tuple[float, Fixed]]:
    """When each fix reaches the server; the first one always does, as a trip begins with it."""
    draw = random.Random(f"{faults.seed} {trip.name}")
    coming: list[tuple[float, Fixed]] = []
    for at, fix in enumerate(trip.fixes):
        if at and draw.random() < faults.drop:
            continue
        late_s = draw.uniform(0.0, DELAY_S) if at and draw.random() < faults.delay else 0.0
        coming.append((fix.at_s + late_s, fix))
        if draw.random() < faults.duplicate:
            coming.append((fix.at_s + late_s + draw.uniform(0.0, DOUBLED_S), fix))
    return sorted(coming, key=lambda one: one[0]) if any(faults[:3]) else coming
