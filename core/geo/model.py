"""Models of arrival times: one JSON document that `readback eta train` writes and serving reads; no learning library needed.

`mean` answers log((seconds to go + 20) / (expected seconds to go + 20)), `spread` the size of its usual error in the same
measure. The 80 % interval and the shown value are that mean plus so many spreads: `low` and `high` by how long there is to go
(`BANDS_S`), `aim` once, earlier than the mean, because the benchmark, like people at a stop, forgives a vehicle that comes a
little after what was shown more than one that has left. `even` is what alerts go by: so many spreads from the mean they come
as often too early as too late.

For: `core.geo.estimate`, training. Promises: what cannot be used is a sentence. Does not: know where files are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from math import exp, isfinite
from typing import Final, NamedTuple

from core.geo.features import BASE_S, NAMES
from core.geo.pace import Pace, read_pace
from core.geo.steady import Calm
from core.geo.trees import Trees, read_trees

KIND: Final = "readback-eta"
VERSION: Final = 1
BANDS_S: Final = (180.0, 360.0, 600.0, 900.0)
"""Ends of the bands of time to go; the last band has none."""
EARLY_MAX_S: Final = 90.0
"""That much earlier than the mean at most: an hour away is no reason to be ten minutes early."""
LEFT_MAX_S: Final = 7 * 86_400.0  # no estimate is longer
SPREAD_MIN: Final = 0.03
SPREAD_MAX: Final = 1.5


class Model(NamedTuple):
    pace: Pace
    mean: Trees
    spread: Trees
    low: tuple[float, ...]
    high: tuple[float, ...]
    even: tuple[float, ...]
    aim: float
    calm: Calm
    trained: Mapping[str, object]
    """Of what: trips, vehicles, seed; for whoever reads the file."""

    def band(self, left_s: float) -> tuple[float, float, float]:
        """Low, high and even, in spreads, with so long to go."""
        at = bisect_left(BANDS_S, left_s)
        return self.low[at], self.high[at], self.even[at]

    def json(self) -> dict[str, object]:
        return {
            "kind": KIND,
            "version": VERSION,
            "trained": dict(self.trained),
            "features": list(NAMES),
            "low": list(self.low),
            "high": list(self.high),
            "even": list(self.even),
            "aim": self.aim,
            "calm": self.calm._asdict(),
            "mean": self.mean.json(),
            "spread": self.spread.json(),
            "pace": self.pace.json(),
        }


def seconds_of(level: float) -> float:
    """Seconds to go of a log(seconds to go + 20)."""
    return min(LEFT_MAX_S, max(0.0, exp(min(level, 30.0)) - BASE_S))


def aimed_s(mean: float, spread: float, aim: float) -> float:
    """Seconds to go that are to be shown."""
    return max(seconds_of(mean + aim * spread), seconds_of(mean) - EARLY_MAX_S)


def _numbers(value: object, least: float, most: float) -> tuple[float, ...] | None:
    if not isinstance(value, list):
        return None
    kept = [float(part) for part in value if isinstance(part, int | float) and isfinite(part) and least <= part <= most]
    return tuple(kept) if len(kept) == len(value) else None


def read_model(body: object) -> Model | str:
    """What `Model.json` wrote, or what is wrong with it."""
    if not isinstance(body, Mapping) or body.get("kind") != KIND:
        return f"this is no model of arrival times (kind {KIND})"
    if body.get("version") != VERSION or body.get("features") != list(NAMES):
        return "this model was made for another version; train it anew with `readback eta train`"
    pace = read_pace(body.get("pace"))
    if isinstance(pace, str):
        return pace
    mean, spread = read_trees(body.get("mean"), len(NAMES)), read_trees(body.get("spread"), len(NAMES))
    if isinstance(mean, str) or isinstance(spread, str):
        return next(fault for fault in (mean, spread) if isinstance(fault, str))
    low, high = _numbers(body.get("low"), -9.0, 0.0), _numbers(body.get("high"), 0.0, 9.0)
    even, aim = _numbers(body.get("even"), -9.0, 9.0), _numbers([body.get("aim")], -9.0, 9.0)
    if low is None or high is None or even is None or aim is None:
        return "low, high, even and aim are numbers of spreads"
    if not len(low) == len(high) == len(even) == len(BANDS_S) + 1:
        return f"low, high and even are of {len(BANDS_S) + 1} bands"
    given, trained = body.get("calm"), body.get("trained")
    calm = _numbers([given.get(name) for name in Calm._fields], 0.0, 1e6) if isinstance(given, Mapping) else None
    if calm is None or not isinstance(trained, Mapping):
        return f"calm has {', '.join(Calm._fields)}; trained is an object"
    return Model(pace, mean, spread, low, high, even, aim[0], Calm(*calm), trained)
