"""Features: what the trees are asked about a trip at a fix. One function, for training and serving alike, so that they cannot
differ.

For: `core.geo.estimate`, training. Promises: finite numbers in the order of `NAMES`; some 10 us. Does not: read the future,
name places.
"""

from __future__ import annotations

from math import log
from typing import Final

from core.geo.pace import HOUR_S, WEEK_S, Expected
from core.geo.track import Track
from core.geo.way import read_at

NAMES: Final = (
    "log_left_s",  # expected seconds to go
    "left_m",
    "straightness",  # as the crow flies, of left_m
    "turns_left",
    "pace_500m",  # the last 500 m: log of seconds taken to seconds expected
    "pace_1500m",
    "pace_120s",
    "factor_600s",  # the whole trip so far, with so many seconds' belief in "as expected"
    "factor_150s",
    "elapsed_s",
    "covered_m",
    "hour",
    "weekend",
    "pace_ahead",  # seconds a metre expected of the next 1,500 m
)
FACTOR: Final = NAMES.index("factor_600s")
BASE_S: Final = 20.0
"""Added to both sides of a quotient of times to go: the last seconds would be noise otherwise."""


def features(expected: Expected, track: Track, here_m: float, to_m: float, crow_m: float, week_s: float) -> list[float]:
    """At `here_m` of the way, for its offset `to_m`, which is `crow_m` away as the crow flies; `week_s`: now, in the local
    week."""
    way = expected.way
    a_piece = way.piece_m
    done = expected.at(here_m)
    left_s = max(0.0, expected.at(to_m) - done)
    left_m = max(0.0, to_m - here_m)
    turns = read_at(way.turns, to_m / a_piece) - read_at(way.turns, here_m / a_piece)
    took_500, thought_500 = track.over_metres(500.0)
    took_1500, thought_1500 = track.over_metres(1_500.0)
    took_120, thought_120 = track.over_seconds(120.0)
    elapsed, covered_s = track.times[-1] - track.began_s, track.expected[-1]
    near_m = min(here_m + 1_500.0, to_m)
    within = week_s % WEEK_S
    return [
        log(left_s + BASE_S),
        left_m,
        (crow_m + 50.0) / (left_m + 50.0),
        turns,
        log((took_500 + 30.0) / (thought_500 + 30.0)),
        log((took_1500 + 30.0) / (thought_1500 + 30.0)),
        log((took_120 + 60.0) / (thought_120 + 60.0)),
        log((elapsed + 600.0) / (covered_s + 600.0)),
        log((elapsed + 150.0) / (covered_s + 150.0)),
        elapsed,
        track.metres[-1],
        within / HOUR_S % 24.0,
        1.0 if within >= 5 * 24 * HOUR_S else 0.0,
        (max(0.0, expected.at(near_m) - done) + 10.0) / (max(0.0, near_m - here_m) + 100.0),
    ]
