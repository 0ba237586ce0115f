"""Training: from history to a model of arrival times. How it is kept honest:

- A trip's features are made with a pace that was learned from other vehicles' trips alone (`GROUPS` groups): else the trees
  would trust the pace more than they may where it is served.
- The spread, the interval and the aim come from what the mean says of vehicles that it was not fitted to.
- Fixes within the last 15 minutes weigh by the benchmark's buckets, which count the same; farther ones less.

For: `readback eta train` and replay's cross-validation. Promises: the same model for the same history, seed and library. Does
not: serve; the learning library (LightGBM, the extra ``eta``) is needed here alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import exp, log
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.geo.estimate import Estimator
from core.geo.features import BASE_S, FACTOR, NAMES
from core.geo.match import Matcher
from core.geo.model import BANDS_S, SPREAD_MAX, SPREAD_MIN, Model, aimed_s, seconds_of
from core.geo.pace import Pace, Trace, learn, spent_between
from core.geo.score import BUCKETS, Said, percentile, score
from core.geo.steady import Calm, Steady
from core.geo.trees import Tree, Trees
from core.geo.way import Way
from gateway.cli_errors import CANNOT, USAGE, CliError
from gateway.eta.trips import Trip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

GROUPS: Final = 8
FOLDS: Final = 4  # of the inner cross-validation that spread, interval and aim come from
MEAN: Final = {"rounds": 80, "num_leaves": 6, "learning_rate": 0.12}
SPREAD: Final = {"rounds": 20, "num_leaves": 6, "learning_rate": 0.15}
FAR_WEIGHT: Final = 0.25
FAR_S: Final = 1_500.0
AIMS: Final = tuple(-step / 10 for step in range(17))
EVENS: Final = tuple(step / 20 for step in range(-10, 13))
ALERTS_S: Final = (300.0, 600.0)
CARRIED_S: Final = (
    450.0  # bands that end above it are even as the 10-minute alert needs it, those below as the 5-minute one
)


class Row(NamedTuple):
    """One fix: its features, when, and how long it then took."""

    trip: int
    at_s: float
    x: list[float]
    left_s: float


def units_of(trips: Sequence[Trip], by: str) -> list[str]:
    """Of each trip what is kept together: its vehicle, or it alone."""
    return [trip.vehicle if by == "vehicle" else trip.name for trip in trips]


def grouped(units: Sequence[str], count: int, seed: int) -> dict[str, int]:
    """Each unit (a vehicle) in one of so many groups, drawn from the seed."""
    names = sorted(set(units))
    random.Random(seed).shuffle(names)
    return {name: at % count for at, name in enumerate(names)}


def trace(trip: Trip) -> Trace:
    """What a trip that was made tells of pace."""
    way = Way(trip.route)
    matcher = Matcher(way)
    times: list[tuple[float, float]] = []
    for fix in trip.fixes:
        if times and fix.at_s <= times[-1][0]:
            continue
        x, y = way.plane.xy(fix.lat, fix.lon)
        at_m = matcher.take(x, y, fix.at_s - times[-1][0] if times else 0.0).at_m
        times.append((fix.at_s, max(at_m, times[-1][1]) if times else at_m))
    return Trace(way.pieces, way.piece_m, spent_between(times, way), trip.week_s)


def bare(pace: Pace | None) -> Model | None:
    """A model that knows pace and nothing else."""
    none = Trees(0.0, ())
    ends = (0.0,) * (len(BANDS_S) + 1)
    return None if pace is None else Model(pace, none, none, ends, ends, ends, 0.0, Calm(), {})


def rows_of(number: int, trip: Trip, pace: Pace) -> list[Row]:
    estimator = Estimator(trip.route, model=bare(pace), week0_s=trip.week_s)
    rows: list[Row] = []
    for fix in trip.fixes:
        left_s = trip.arrive_s - fix.at_s
        if left_s >= 0.0 and estimator.advance(fix) and (x := estimator.look()) is not None:
            rows.append(Row(number, fix.at_s, x, left_s))
    return rows


def train(trips: Sequence[Trip], seed: int, step: Callable[[], None], by: str = "vehicle") -> Model:
    """A model of these trips. `step` is called `steps()` times meanwhile."""
    library = learning_library()
    import numpy as np

    units = units_of(trips, by)
    count = min(GROUPS, len(set(units)))
    if count < 2:
        raise CliError("history needs trips of two vehicles at least: what one teaches is tried on the other", USAGE)
    group = grouped(units, count, seed)
    traces = [trace(trip) for trip in trips]
    rows: list[Row] = []
    for one in range(count):
        pace = learn(told for told, unit in zip(traces, units, strict=True) if group[unit] != one)
        for number, (trip, unit) in enumerate(zip(trips, units, strict=True)):
            if group[unit] == one:
                rows += rows_of(number, trip, pace)
    step()
    rows.sort()
    x = np.array([row.x for row in rows])
    left = np.array([row.left_s for row in rows])
    y = np.log(left + BASE_S) - x[:, 0]
    weight = np.array(_weights([row.left_s for row in rows]))
    fold = np.array([group[units[row.trip]] % FOLDS for row in rows])

    def crossed(target: Array, how: dict[str, float]) -> Array:
        out = np.zeros(len(target))
        for one in sorted(set(fold.tolist())):
            inner = fold != one
            trees = _fit(library, x[inner], target[inner], weight[inner], how, seed)
            out[~inner] = [trees.ask(line) for line in x[~inner].tolist()]
            step()
        return out

    mean = crossed(y, MEAN)
    off = np.abs(y - mean)
    spread = np.clip(crossed(off, SPREAD), SPREAD_MIN, SPREAD_MAX)
    told = Told(rows, [trip.arrive_s for trip in trips], (x[:, 0] + mean).tolist(), spread.tolist())
    low, high = told.interval()
    aim = told.aim(low, high)
    even = told.even()
    trained = {
        "trips": len(trips),
        "vehicles": len({trip.vehicle for trip in trips}),
        "fixes": len(rows),
        "seed": seed,
        "library": f"lightgbm {library.__version__}",
    }
    trees = _fit(library, x, y, weight, MEAN, seed), _fit(library, x, off, weight, SPREAD, seed)
    step()
    return Model(learn(traces), *trees, low, high, even, aim, Calm(), trained)


def steps(trips: Sequence[Trip], by: str) -> int:
    """How often `train` calls its `step`, at most."""
    return 2 + 2 * min(FOLDS, len(set(units_of(trips, by))))


def learning_library() -> Any:
    """LightGBM, whose types are its own."""
    try:
        import lightgbm
    except ImportError:
        raise CliError("training needs LightGBM, which serving does not: pip install 'readback[eta]'", CANNOT) from None
    return lightgbm


def _weights(left_s: Sequence[float]) -> list[float]:
    near = [sum(bucket.from_s <= left < bucket.to_s for left in left_s) for bucket in BUCKETS]
    out: list[float] = []
    for left in left_s:
        at = next((i for i, bucket in enumerate(BUCKETS) if bucket.from_s <= left < bucket.to_s), None)
        far = FAR_WEIGHT * min(1.0, FAR_S / max(1.0, left))
        out.append(far if at is None else len(left_s) / near[at] / (len(BUCKETS) + 1))
    return out


def _fit(library: Any, x: Array, y: Array, weight: Array, how: dict[str, float], seed: int) -> Trees:
    parameters = {
        "objective": "l2",
        "num_leaves": how["num_leaves"],
        "learning_rate": how["learning_rate"],
        "min_data_in_leaf": max(5, min(200, len(y) // 130)),
        "feature_fraction": 0.8,
        "bagging_fraction": 0.6,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,  # two wait for each other on a busy machine longer than they help
        "verbosity": -1,
    }
    data = library.Dataset(x, y, weight=weight, params={"verbosity": -1})
    dumped = library.train(parameters, data, int(how["rounds"])).dump_model()
    return Trees(0.0, [_tree(tree["tree_structure"]) for tree in dumped["tree_info"]])


def _tree(node: dict[str, Any]) -> Tree:
    """LightGBM's dump of a node, of numerical features without gaps: at most the threshold goes left."""
    if "leaf_value" in node:
        return float(f"{node['leaf_value']:.6g}")
    assert node["decision_type"] == "<=", node["decision_type"]
    assert 0 <= node["split_feature"] < len(NAMES)
    left, right = _tree(node["left_child"]), _tree(node["right_child"])
    return (int(node["split_feature"]), float(f"{node['threshold']:.9g}"), left, right)


class Told:
    """What the mean and the spread say of fixes that they were not fitted to: `level` is the mean of log(seconds to go +
    20)."""

    def __init__(
        self, rows: Sequence[Row], arrivals: Sequence[float], level: Sequence[float], spread: Sequence[float]
    ) -> None:
        self.rows, self.arrivals, self.level, self.spread = rows, arrivals, level, spread
        self.names = [str(row.trip) for row in rows]

    def _band(self, level: float) -> int:
        return sum(exp(level) > end for end in BANDS_S)

    def _left(self, at: int, spreads: float) -> float:
        return seconds_of(self.level[at] + spreads * self.spread[at])

    def interval(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The 10th and 90th percentile of the error in spreads, by band; a band of few fixes as all are."""
        errors: list[list[float]] = [[] for _ in range(len(BANDS_S) + 1)]
        for at, row in enumerate(self.rows):
            errors[self._band(self.level[at])].append((log(row.left_s + BASE_S) - self.level[at]) / self.spread[at])
        every = [error for band in errors for error in band]
        held = [band if len(band) >= 50 else every for band in errors]
        low = tuple(round(min(0.0, percentile(band, 0.1)), 4) for band in held)
        return low, tuple(round(max(0.0, percentile(band, 0.9)), 4) for band in held)

    def aim(self, low: Sequence[float], high: Sequence[float]) -> float:
        """How many spreads before the mean the shown value scores best, as it is shown: steadied."""
        arrivals = {str(number): arrive_s for number, arrive_s in enumerate(self.arrivals)}
        bands = [self._band(level) for level in self.level]
        best, best_score = 0.0, -1.0
        for aim in AIMS:
            said: dict[str, list[Said]] = {}
            steady: dict[str, Steady] = {}
            for at, row in enumerate(self.rows):
                name = self.names[at]
                lines = said.setdefault(name, [])
                calm = steady.setdefault(name, Steady(Calm()))
                low_s = row.at_s + self._left(at, low[bands[at]])
                high_s = row.at_s + self._left(at, high[bands[at]])
                shown = calm.take(row.at_s, row.at_s + aimed_s(self.level[at], self.spread[at], aim), low_s, high_s)
                lines.append(Said(row.at_s, shown, low_s, high_s))
            overall = score(arrivals, said).overall
            if overall > best_score:
                best, best_score = aim, overall
        return best

    def even(self) -> tuple[float, ...]:
        """How many spreads from the mean alerts are as often early as late: of the first passing of a threshold, which noise
        makes earlier than the middle of the estimate alone would."""
        found = [min(EVENS, key=lambda spreads: abs(self._lead(spreads, threshold))) for threshold in ALERTS_S]
        return tuple(found[end > CARRIED_S] for end in (*BANDS_S, BANDS_S[-1] + 1.0))

    def _lead(self, spreads: float, threshold_s: float) -> float:
        """The median of how much later than the threshold the vehicle comes, from when the threshold is passed."""
        first: dict[int, float] = {}
        began: dict[int, float] = {}
        last: dict[int, float] = {}
        for at, row in enumerate(self.rows):
            began.setdefault(row.trip, row.at_s)
            if row.trip in first:
                continue
            due = row.at_s + self._left(at, spreads) - threshold_s
            if row.trip in last and last[row.trip] <= row.at_s:
                first[row.trip] = last[row.trip]
            elif due <= row.at_s:
                first[row.trip] = row.at_s
            last[row.trip] = due
        long = [trip for trip in first if self.arrivals[trip] - began[trip] > threshold_s + 60.0]
        return percentile([self.arrivals[trip] - first[trip] - threshold_s for trip in long], 0.5)


def grid_left(x: Sequence[float]) -> float:
    """The plainest estimate: expected seconds to go times the trip's factor."""
    return max(0.0, exp(x[0]) - BASE_S) * exp(x[FACTOR])
