"""Replay: trips as they were, fix by fix in the order in which they came in; every emission kept. `shown` is what is served
(`gateway.eta.served`); the others are estimates that are not steadied, to compare with: bare estimators on the trip's route,
whose alerts go by the plainest rule.

For: `readback eta replay`. Promises: an estimator is shown the route, history and the fixes so far, never the arrival. Does
not: score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from core.geo.estimate import Emission, Estimator
from core.geo.model import Model
from gateway.eta.played import Faults, Played, Rung, deliveries
from gateway.eta.served import SERVED, World, serve
from gateway.eta.train import bare, grid_left, grouped, train, units_of
from gateway.eta.trips import Trip

THRESHOLDS_S: Final = (600.0, 300.0)
ESTIMATORS: Final = ("shown", "grid", "grid93", "raw")


class Bell:
    """The plain rule of alerts: each threshold once, when the even arrival is so near; between fixes by the clock."""

    def __init__(self) -> None:
        self.rung: list[Rung] = []
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
        self.rung.append(Rung(threshold_s, at_s, eta_s))


def play(trip: Trip, model: Model | None, faults: Faults, estimator: str = "shown", world: World = SERVED) -> Played:
    """One trip."""
    if estimator == "shown":
        return serve(trip, model, faults, world)
    asked = bare(model.pace) if model is not None and estimator.startswith("grid") else model
    serving = Estimator(trip.route, model=asked, week0_s=trip.week_s)
    said: list[Emission] = []
    bell = Bell()
    spent = 0
    for at_s, fix in deliveries(trip, faults):
        began = time.thread_time_ns()
        serving.take(fix)
        emission = serving.now(at_s)
        spent += time.thread_time_ns() - began
        assert emission is not None
        said.append(_plain(serving, emission, estimator))
        bell.hear(said[-1])
    bell.end(trip.arrive_s)
    return Played(trip, said, bell.rung, [], len(said), spent / 1e9)


def _plain(serving: Estimator, shown: Emission, estimator: str) -> Emission:
    """Expected seconds times the trip's factor (`grid`, `grid93`), or the target of what is shown (`raw`)."""
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
    units = units_of(trips, by)
    fold = grouped(units, folds, seed)
    for one in range(min(folds, len(fold))):
        rest = [trip for trip, unit in zip(trips, units, strict=True) if fold[unit] != one]
        mine = [trip for trip, unit in zip(trips, units, strict=True) if fold[unit] == one]
        yield train(rest, seed, step, by), mine
