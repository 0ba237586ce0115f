"""What an arrival time costs: `python -m bench.eta_cpu [FILE]`, microseconds of CPU a fix, in one thread.

Trips are those of the file (docs/eta.md), or of the made-up city that the tests use; the model is trained on half of the
vehicles and serves the other half's trips, as a node would: route laid at the first fix, then matching, features, trees and
steadying a fix. The least of some rounds is told, since another process may take the core amid any of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from core.geo.estimate import Estimator
from core.geo.model import Model
from gateway.eta.train import grouped, train
from gateway.eta.trips import Trip, read_trips

ROUNDS = 5
MADE = Path(__file__).parent.parent / "tests/data/eta_synthetic.jsonl"


def learned(file: Path) -> tuple[Model, list[Trip]]:
    """A model of half of the vehicles, and the other half's trips."""
    trips = read_trips(file)
    half = grouped([trip.vehicle for trip in trips], 2, 1)
    model = train([trip for trip in trips if half[trip.vehicle] == 0], 1, lambda: None)
    return model, [trip for trip in trips if half[trip.vehicle] == 1]


def served(trips: Sequence[Trip], model: Model) -> tuple[float, float]:
    """Seconds for the first fixes of trips, and for all others."""
    first = rest = 0
    for trip in trips:
        estimator = Estimator(trip.route, model=model, week0_s=trip.week_s)
        for at, fix in enumerate(trip.fixes):
            began = time.thread_time_ns()
            estimator.take(fix)
            took = time.thread_time_ns() - began
            if at:
                rest += took
            else:
                first += took
    return first / 1e9, rest / 1e9


def least(trips: Sequence[Trip], model: Model) -> tuple[float, float]:
    """Of `ROUNDS`."""
    return min((served(trips, model) for _ in range(ROUNDS)), key=sum)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else MADE
    model, trips = learned(path)
    fixes = sum(len(trip.fixes) for trip in trips)
    first, rest = least(trips, model)
    print(f"{path.name}: {len(trips)} trips, {fixes} fixes, {len(model.mean.trees) + len(model.spread.trees)} trees")
    print(f"  a route laid, with its first fix  {first / len(trips) * 1e6:8.1f} us")
    print(f"  each fix after it                 {rest / (fixes - len(trips)) * 1e6:8.1f} us")
    print(f"  all of it, a fix                  {(first + rest) / fixes * 1e6:8.1f} us")


if __name__ == "__main__":
    main()
