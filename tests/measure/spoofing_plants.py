"""Faults of known kind, planted in clean flights: what share is caught, what slips through, and what good fixes it costs.

Each kind is planted once in each track that is long enough, at a place drawn by a fixed seed. *Caught* is whatever is not
clean: quarantined, degraded, rejected or a duplicate. *Believed* is what was accepted, by re-anchoring or otherwise. *Lost*
are good fixes after a planted one that were not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from core.geo.cadence import Mode
from core.geo.plausible import Judge
from core.geo.sphere import destination
from core.pings import Fix

SEED: Final = 7
LONG_ENOUGH: Final = 400
HOUR_MS: Final = 3_600_000
LATENCY_MS: Final = 500
TAKEN: Final = ("accepted", "degraded")

Track = Sequence[Fix]
Plant = Callable[[Track, int, Random], dict[int, Fix]]
"""Of a track and the place in it: what the fixes are that change."""


@dataclass(frozen=True, slots=True)
class Planted:
    kind: str
    mode: Mode
    times: int
    fixes: int
    caught: int
    believed: int
    lost: int
    most_in_a_row: int


@dataclass(frozen=True, slots=True)
class Clocked:
    kind: str
    fixes: int
    kept: int
    wrong: int
    """Kept with a time more than 12 s from the truth: the 10 s that a clock is left alone with, and the way's."""
    rejected: int
    right_at_end: str
    """Of how many flights the last fix is live, with the right time."""


def away(km: float, many: int = 1, every: Callable[[int], bool] = lambda n: True) -> Plant:
    """All that are moved, by the same way: a false track beside the true one."""

    def plant(track: Track, at: int, rng: Random) -> dict[int, Fix]:
        bearing = rng.uniform(0, 360)
        return {n: _moved(track[n], bearing, km) for n in range(at, at + many) if every(n - at)}

    return plant


def _moved(fix: Fix, bearing: float, km: float) -> Fix:
    lat, lon = destination(fix.lat, fix.lon, bearing, km * 1000)
    return fix._replace(lat=round(lat, 7), lon=round(lon, 7))


def _frozen(track: Track, at: int, rng: Random) -> dict[int, Fix]:
    held = track[at - 1]
    return {n: track[n]._replace(lat=held.lat, lon=held.lon) for n in range(at, at + 20)}


KINDS: Final[dict[str, Plant]] = {
    **{f"one fix {km} km off": away(km) for km in (2, 5, 10, 20, 50, 100, 500)},
    "20 fixes 50 km off": away(50, 20),
    "every second of 60, 50 km off": away(50, 60, lambda n: n % 2 == 0),
    "four by four of 80, 50 km off": away(50, 80, lambda n: n // 4 % 2 == 0),
    "eight by eight of 160, 50 km off": away(50, 160, lambda n: n // 8 % 2 == 0),
    "0, 0": lambda track, at, rng: {n: track[n]._replace(lat=0.0, lon=0.0) for n in range(at, at + 10)},
    "longitude 0": lambda track, at, rng: {n: track[n]._replace(lon=0.0) for n in range(at, at + 10)},
    "20 fixes frozen": _frozen,
    "mock": lambda track, at, rng: {at: track[at]._replace(mock=True)},
    "an hour ahead": lambda track, at, rng: {at: track[at]._replace(at_ms=track[at].at_ms + HOUR_MS)},
    "an hour behind": lambda track, at, rng: {at: track[at]._replace(at_ms=track[at].at_ms - HOUR_MS)},
    "the same again": lambda track, at, rng: {at: track[at - 1]},
}


RIDES: Final[dict[str, Plant]] = {f"one fix {km} km off": away(km) for km in (1, 2, 5, 20)}
"""For tracks of few fixes, half a minute apart, without speeds."""


def planted(mode: Mode, tracks: Sequence[Track], kinds: dict[str, Plant]) -> list[Planted]:
    return [_planted(kind, plant, mode, tracks) for kind, plant in kinds.items()]


def _planted(kind: str, plant: Plant, mode: Mode, tracks: Sequence[Track]) -> Planted:
    rng = Random(f"{SEED} {kind}")
    lead, after = (60, 200) if mode == "aircraft" else (5, 10)
    times = fixes = caught = believed = lost = most = 0
    for track in tracks:
        if len(track) <= lead + after:
            continue
        at = rng.randrange(lead, len(track) - after)
        bad = plant(track, at, rng)
        judge, in_a_row = Judge(mode), 0
        for nth, fix in enumerate(track):
            judged = judge.judge(bad.get(nth, fix), fix.at_ms + LATENCY_MS)
            taken = judged.verdict in TAKEN
            if nth in bad:
                caught += judged.verdict != "accepted"
                believed += judged.verdict == "accepted"
            elif nth > at:
                in_a_row = 0 if taken else in_a_row + 1
                lost, most = lost + (not taken), max(most, in_a_row)
        times, fixes = times + 1, fixes + len(bad)
    return Planted(kind, mode, times, fixes, caught, believed, lost, most)


def _steady(offset_ms: int) -> Callable[[float], int]:
    return lambda part: offset_ms


CLOCKS: Final[dict[str, Callable[[float], int]]] = {
    "right": _steady(0),
    "2 h ahead": _steady(2 * HOUR_MS),
    "2 h behind": _steady(-2 * HOUR_MS),
    "3 min ahead": _steady(180_000),
    "right, then 2 h ahead, then right": lambda part: 2 * HOUR_MS if 1 / 3 < part < 2 / 3 else 0,
    "right, then 2 h behind, then right": lambda part: -2 * HOUR_MS if 1 / 3 < part < 2 / 3 else 0,
    "2 h behind, then 1 h ahead": lambda part: -2 * HOUR_MS if part < 1 / 2 else HOUR_MS,
}
"""What a device's clock is off by, by the part of the flight that is over."""


def clocks(tracks: Sequence[Track]) -> list[Clocked]:
    found = [_clocked(kind, offset, tracks, 1) for kind, offset in CLOCKS.items()]
    found.append(_clocked("right, a third of the way offline", _steady(0), tracks, 50))
    found.append(_clocked("2 h ahead, a third of the way offline", _steady(2 * HOUR_MS), tracks, 50))
    return found


def _clocked(kind: str, offset_ms: Callable[[float], int], tracks: Sequence[Track], batch: int) -> Clocked:
    """``batch`` above 1: the second third comes in messages of so many, one a second, once it is over."""
    rng = Random(f"{SEED} {kind}")
    fixes = kept = wrong = rejected = right = flights = 0
    for track in tracks:
        if len(track) < LONG_ENOUGH:
            continue
        judge, live, end = Judge("aircraft"), False, 2 * len(track) // 3
        now = 0
        for nth, fix in enumerate(track):
            came_ms = fix.at_ms + rng.randrange(200, 2_000)
            if batch > 1 and len(track) // 3 <= nth < end:
                came_ms = track[end].at_ms + nth // batch * 1_000
            now = max(now, came_ms)
            judged = judge.judge(fix._replace(at_ms=fix.at_ms + offset_ms(nth / len(track))), now)
            taken, right_time = judged.verdict in TAKEN, abs(judged.at_ms - fix.at_ms) <= 12_000
            kept, wrong = kept + taken, wrong + (taken and not right_time)
            rejected += judged.verdict == "rejected"
            live = judged.live and right_time
        fixes, flights, right = fixes + len(track), flights + 1, right + live
    return Clocked(kind, fixes, kept, wrong, rejected, f"{right} of {flights}")
