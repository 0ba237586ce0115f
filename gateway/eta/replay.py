"""Replay: trips as they were, fix by fix in the order in which they came in, through the estimator that serves; every emission
kept.

Faults of the way in are drawn from a seed: fixes dropped, delayed (by up to `DELAY_S`, so that some are overtaken) and doubled.

For: `readback eta replay`. Promises: an estimator is shown the route, history and the fixes so far, never the arrival; a
trip's faults depend on the seed and its name alone. Does not: score.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from core.geo.estimate import Emission, Estimator, Fixed
from core.geo.model import Model
from gateway.eta.train import bare, grid_left, grouped, train
from gateway.eta.trips import Trip

DELAY_S: Final = 90.0
DOUBLED_S: Final = 30.0
THRESHOLDS_S: Final = (600.0, 300.0)
ESTIMATORS: Final = ("shown", "grid", "grid93", "raw")


class Faults(NamedTuple):
    """Which part of fixes is dropped, delayed, doubled."""

    drop: float = 0.0
    delay: float = 0.0
    duplicate: float = 0.0
    seed: int = 0


class Played(NamedTuple):
    """What was said of one trip; alerts are (threshold, when, arrival shown then). `cpu_s`: spent on `fixes` by the
    estimator."""

    trip: Trip
    said: list[Emission]
    alerts: list[tuple[float, float, float]]
    calls: int
    fixes: int
    cpu_s: float


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


class Bell:
    """The plain rule of alerts: each threshold once, when the even arrival is so near; between fixes by the clock."""

    def __init__(self) -> None:
        self.rung: list[tuple[float, float, float]] = []
        self._open = list(THRESHOLDS_S)
        self._last: Emission | None = None

    def hear(self, said: Emission) -> None:
        for threshold_s in list(self._open):
            due_s = said.even_s - threshold_s
            if self._last is not None and (before_s := self._last.even_s - threshold_s) <= said.at_s:
                self._ring(threshold_s, max(before_s, self._last.at_s), self._last.eta_s)
            elif due_s <= said.at_s:
                self._ring(threshold_s, said.at_s, said.eta_s)
        self._last = said

    def end(self, at_s: float) -> None:
        """The trip is over: what was due by the clock before."""
        if self._last is not None:
            for threshold_s in list(self._open):
                if (due_s := self._last.even_s - threshold_s) <= at_s:
                    self._ring(threshold_s, max(due_s, self._last.at_s), self._last.eta_s)

    def _ring(self, threshold_s: float, at_s: float, eta_s: float) -> None:
        self._open.remove(threshold_s)
        self.rung.append((threshold_s, at_s, eta_s))


def play(
    trip: Trip, model: Model | None, faults: Faults, estimator: str = "shown", no_provider_after_s: float | None = None
) -> Played:
    """One trip. The provider is asked at the start; where it is dead by then, there is no route, only where the trip goes."""
    alive = no_provider_after_s is None or no_provider_after_s > 0.0
    asked = bare(model.pace) if model is not None and estimator.startswith("grid") else model
    serving = Estimator(trip.route if alive else None, goal=trip.route.points[-1], model=asked, week0_s=trip.week_s)
    said: list[Emission] = []
    bell = Bell()
    calls, off, spent, fixes = int(alive), False, 0, 0
    for at_s, fix in deliveries(trip, faults):
        began = time.thread_time_ns()
        serving.take(fix)
        emission = serving.now(at_s)
        spent += time.thread_time_ns() - began
        fixes += 1
        assert emission is not None
        if serving.off_route and not off and alive and (no_provider_after_s is None or at_s < no_provider_after_s):
            calls += 1  # the history's way is the only one there is, so the answer is the same
        off = serving.off_route
        if estimator != "shown":
            emission = _plain(serving, emission, estimator)
        said.append(emission)
        bell.hear(emission)
    bell.end(trip.arrive_s)
    return Played(trip, said, bell.rung, calls, fixes, spent / 1e9)


def _plain(serving: Estimator, shown: Emission, estimator: str) -> Emission:
    """Estimates that are not steadied, to compare with: expected seconds times the trip's factor (`grid`, `grid93`), or the
    target."""
    if estimator == "raw":
        return shown._replace(eta_s=serving.target_s)
    x = serving.look()
    assert x is not None
    fixed_s = shown.at_s - shown.age_s
    eta_s = max(shown.at_s, fixed_s + grid_left(x) * (0.93 if estimator == "grid93" else 1.0))
    return shown._replace(eta_s=eta_s, low_s=min(shown.low_s, eta_s), high_s=max(shown.high_s, eta_s), source="grid")


def crossed(
    trips: Sequence[Trip], folds: int, seed: int, by: str, step: Callable[[], None]
) -> Iterator[tuple[Model, list[Trip]]]:
    """Models of all folds but one, each with the trips of that one: nobody's model has seen his vehicle."""
    units = [trip.vehicle if by == "vehicle" else trip.name for trip in trips]
    fold = grouped(units, folds, seed)
    for one in range(min(folds, len(fold))):
        rest = [trip for trip, unit in zip(trips, units, strict=True) if fold[unit] != one]
        mine = [trip for trip, unit in zip(trips, units, strict=True) if fold[unit] == one]
        yield train(rest, seed, step, by), mine
