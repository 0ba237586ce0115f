"""Pace: how many seconds a metre takes, learned by place, direction and time of the week.

Two grids of cells, each a factor on what lies above it: all places together by the hour of the week, then cells of some 2 km,
then cells of some 500 m for each direction. A cell is the quotient of the seconds that were spent in it to those that the
level above expects, pulled towards 1 by `PULL_S` seconds: a cell with little history says little. Where there is no cell, a
provider's time of the leg counts, and where there is none, the mode's own speed.

For: `core.geo.features` (through `Expected`) and training. Promises: any place and any time gives a pace between the limits;
what is learned is sums, so that it is the same whatever the order of trips. Does not: know vehicles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from math import exp, floor, isfinite
from typing import Final, NamedTuple

from core.geo.route_calls import OFFLINE
from core.geo.way import Piece, Way, read_at, scale_lon

COARSE_DEG: Final = 0.018  # some 2 km
FINE_DEG: Final = 0.0045  # some 500 m
PULL_S: Final = 400.0
HOUR_WIDTH: Final = 1.0  # of the bell over which hours share what they know
WEEKEND_PULL_S: Final = 20_000.0  # weekends have a quarter of the history: pulled to all days
PACE_MIN: Final = 0.01  # 100 m/s
PACE_MAX: Final = 10.0
HOUR_S: Final = 3_600.0
WEEK_S: Final = 7 * 24 * HOUR_S
CELLS_MAX: Final = 2_000_000  # of one model: a country; some 300 MB

SPEED_MPS: Final[Mapping[str, float]] = {
    "foot": 1.3,
    "bike": 4.0,
    "car": 8.0,
    "bus": 5.0,
    "truck": 7.0,
    "train": 20.0,
    "ship": 8.0,
    "aircraft": 200.0,
    "any": 8.0,
}
"""By mode, door to door with its stops, for places of which nothing is known."""


class Trace(NamedTuple):
    """A trip that was made: its pieces, the seconds it spent in each, and where in the local week it began (0: Monday 0:00)."""

    pieces: Sequence[Piece]
    piece_m: float
    spent_s: Sequence[float]
    week_s: float


def week_s_of(local: datetime) -> float:
    """Where in its week a local time is, from Monday 0:00."""
    return 24 * HOUR_S * local.weekday() + HOUR_S * local.hour + 60.0 * local.minute + local.second


def hour_of(week_s: float) -> int:
    """0 to 23 for Monday to Friday, 24 to 47 for the weekend."""
    within = week_s % WEEK_S
    return int(within // HOUR_S) % 24 + (24 if within >= 5 * 24 * HOUR_S else 0)


def _cell(lat: float, lon: float, step: float) -> int:
    return floor(lat / step) * 1_000_003 + floor(lon * scale_lon(lat) / step)


def coarse_cell(piece: Piece) -> int:
    return _cell(piece.lat, piece.lon, COARSE_DEG)


def fine_cell(piece: Piece) -> int:
    return _cell(piece.lat, piece.lon, FINE_DEG) * 4 + piece.sector


class Pace(NamedTuple):
    """What was learned: seconds a metre for all places by `hour_of`, and factors by cell."""

    hours: tuple[float, ...]
    coarse: Mapping[int, float]
    fine: Mapping[int, float]

    def json(self) -> dict[str, object]:
        return {
            "hours": [round(hour, 6) for hour in self.hours],
            "coarse": {str(cell): round(factor, 4) for cell, factor in self.coarse.items()},
            "fine": {str(cell): round(factor, 4) for cell, factor in self.fine.items()},
        }


def read_pace(body: object) -> Pace | str:
    """What `Pace.json` wrote, or what is wrong with it."""
    if not isinstance(body, Mapping):
        return "pace is a JSON object"
    hours = body.get("hours")
    if not isinstance(hours, list) or len(hours) != 48 or not all(_pace(hour) for hour in hours):
        return "hours are 48 paces in seconds a metre"
    grids: list[dict[int, float]] = []
    for name in ("coarse", "fine"):
        given = body.get(name)
        if not isinstance(given, Mapping) or len(given) > CELLS_MAX:
            return f"{name} is an object of at most {CELLS_MAX} cells"
        cells: dict[int, float] = {}
        for key, factor in given.items():
            if not isinstance(key, str) or not key.removeprefix("-").isdecimal() or not _pace(factor):
                return f"{name} has a cell that is no number and factor: {str(key)[:40]}"
            cells[int(key)] = float(factor)
        grids.append(cells)
    return Pace(tuple(map(float, hours)), grids[0], grids[1])


def _pace(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value) and PACE_MIN / 10 <= value <= PACE_MAX * 10


def learn(traces: Iterable[Trace]) -> Pace:
    """Hours, then coarse cells, then fine ones: each from what the level above leaves unexplained."""
    held = list(traces)
    spent, gone = [0.0] * 48, [0.0] * 48
    for trace in held:
        hour = hour_of(trace.week_s)
        spent[hour] += sum(trace.spent_s)
        gone[hour] += trace.piece_m * len(trace.spent_s)
    hours = _hours(spent, gone)
    coarse: dict[int, float] = {}
    fine: dict[int, float] = {}
    keys: tuple[Callable[[Piece], int], ...] = (coarse_cell, fine_cell)
    for grid, key in zip((coarse, fine), keys, strict=True):
        actual: dict[int, float] = {}
        expected: dict[int, float] = {}
        for trace in held:
            base = hours[hour_of(trace.week_s)] * trace.piece_m
            for piece, seconds in zip(trace.pieces, trace.spent_s, strict=True):
                cell = key(piece)
                above = base * coarse.get(coarse_cell(piece), 1.0) if grid is fine else base
                actual[cell] = actual.get(cell, 0.0) + seconds
                expected[cell] = expected.get(cell, 0.0) + above
        for cell, seconds in actual.items():
            grid[cell] = min(8.0, max(0.125, (seconds + PULL_S) / (expected[cell] + PULL_S)))
    return Pace(hours, coarse, fine)


def _hours(spent: Sequence[float], gone: Sequence[float]) -> tuple[float, ...]:
    """Each hour of the day from its neighbours' sums; the weekend's from its own, pulled to all days'."""
    mean = _held(sum(spent) / sum(gone)) if sum(gone) > 0.0 else 1.0 / SPEED_MPS["car"]

    def bell(sums: Sequence[float], at: int) -> float:
        return sum(
            seconds * exp(-0.5 * (min((hour - at) % 24, (at - hour) % 24) / HOUR_WIDTH) ** 2)
            for hour, seconds in enumerate(sums)
        )

    days_s = [spent[h] + spent[h + 24] for h in range(24)]
    days_m = [gone[h] + gone[h + 24] for h in range(24)]
    all_days = [_held((bell(days_s, h) + PULL_S) / (bell(days_m, h) + PULL_S / mean)) for h in range(24)]
    parts: list[float] = []
    for first in (0, 24):
        for h, pace in enumerate(all_days):
            own_s, own_m = bell(spent[first : first + 24], h), bell(gone[first : first + 24], h)
            parts.append(_held((own_s + WEEKEND_PULL_S) / (own_m + WEEKEND_PULL_S / pace)))
    return tuple(parts)


def _held(pace: float) -> float:
    return min(PACE_MAX, max(PACE_MIN, pace))


class Expected:
    """What is expected of a way for a trip that begins then: seconds and known pieces up to the end of each piece.

    The hour is that of the expected passing.
    """

    __slots__ = ("_learned", "_told", "seconds", "way")

    def __init__(self, way: Way, pace: Pace | None, week_s: float, mode: str) -> None:
        self.way = way
        total, learned, told = 0.0, 0.0, 0.0
        self.seconds = [0.0]
        self._learned = [0.0]
        self._told = [0.0]
        plain = way.piece_m / SPEED_MPS[mode]
        for piece in way.pieces:
            fine = None if pace is None else pace.fine.get(fine_cell(piece))
            coarse = None if pace is None else pace.coarse.get(coarse_cell(piece))
            if pace is not None and (coarse is not None or fine is not None):
                hour = pace.hours[hour_of(week_s + total)]
                total += way.piece_m * _held(
                    hour * (1.0 if coarse is None else coarse) * (1.0 if fine is None else fine)
                )
                learned += 1.0
            elif piece.leg_s is not None:
                total += piece.leg_s
                told += 1.0
            else:
                total += plain
            self.seconds.append(total)
            self._learned.append(learned)
            self._told.append(told)

    def at(self, at_m: float) -> float:
        return read_at(self.seconds, at_m / self.way.piece_m)

    def source(self, at_m: float, to_m: float) -> str:
        """What most of the rest, or of the whole way, is expected by: "learned", "route" or "default". A guess has
        seconds, which are the mode's usual speed and nobody's word."""
        low, high, whole = at_m / self.way.piece_m, to_m / self.way.piece_m, len(self._told) - 1
        for sums, name in ((self._learned, "learned"), (self._told, "route")):
            rest = read_at(sums, high) - read_at(sums, low)
            if sums[-1] >= whole / 2 or (rest > 0.0 and rest >= (high - low) / 2):
                return "default" if name == "route" and self.way.route.source == OFFLINE else name
        return "default"


def spent_between(times: Sequence[tuple[float, float]], way: Way) -> list[float]:
    """Seconds spent in each piece, from progress that never falls: (at_s, at_m), read between its entries; standing counts to
    the piece where it was done. Pieces before the first fix and after the last get none."""
    spent = [0.0] * len(way.pieces)
    for (from_s, from_m), (to_s, to_m) in pairwise(times):
        first, last = from_m / way.piece_m, to_m / way.piece_m
        i, end = min(int(first), len(spent) - 1), min(int(last), len(spent) - 1)
        if end == i or last <= first:
            spent[i] += to_s - from_s
            continue
        a_piece = (to_s - from_s) / (last - first)
        spent[i] += (i + 1 - first) * a_piece
        for k in range(i + 1, end):
            spent[k] += a_piece
        spent[end] += (last - end) * a_piece
    return spent
