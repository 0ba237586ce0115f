"""A small made-up city with vehicles in it: trips for tests of arrival times, the same for the same seed.

Streets run north-south and east-west; the middle of the town is slow, slower in the rush hours; each trip has a factor of its
own, stands at some turns, and is seen with noise. ``python -m tests.eta_world > tests/data/eta_synthetic.jsonl`` makes the
file beside it.
"""

from __future__ import annotations

import json
import random
import sys
from itertools import pairwise
from typing import Any

from core.geo.sphere import Plane

SEED = 20261128
TRIPS = 36
VEHICLES = 12
MIDDLE = (10.0, 20.0)  # of the Gulf of Guinea's hinterland: no city is there
STEP_M = 100.0


def pace_s_per_m(x: float, y: float, hour: float) -> float:
    """What the streets are like: 12 m/s outside, 5 m/s in the middle, a third slower at 8 and 17."""
    middle = max(abs(x), abs(y)) < 1_000.0
    rush = min(abs(hour - 8.0), abs(hour - 17.0)) < 1.5
    return (0.2 if middle else 0.083) * (1.35 if rush else 1.0)


def make_trip(number: int, seed: int) -> dict[str, Any]:
    draw = random.Random(f"{seed} {number}")
    plane = Plane(*MIDDLE)
    x, y = draw.choice((-1, 1)) * 2_000.0, draw.randrange(-15, 16) * 100.0
    corner, goal = (draw.randrange(-8, 9) * 100.0, y), (0.0, draw.choice((-1, 1)) * 2_000.0)
    goal = (corner[0], goal[1])
    points = [(x, y)]
    for tx, ty in (corner, goal):
        while points[-1] != (tx, ty):
            px, py = points[-1]
            points.append((px + max(-STEP_M, min(STEP_M, tx - px)), py + max(-STEP_M, min(STEP_M, ty - py))))
    day, hour = draw.randrange(4, 11), draw.uniform(6.0, 22.0)
    factor = draw.lognormvariate(0.0, 0.2)
    times = [0.0]
    for (ax, ay), (bx, by) in pairwise(points):
        long = abs(bx - ax) + abs(by - ay)
        light = draw.uniform(5.0, 60.0) if (bx, by) == corner or draw.random() < 0.03 else 0.0
        now = hour + times[-1] / 3_600.0
        times.append(times[-1] + factor * long * pace_s_per_m((ax + bx) / 2, (ay + by) / 2, now) + light)
    fixes: list[list[float]] = []
    at_s, i = 0.0, 0
    while at_s < times[-1]:
        while times[i + 1] < at_s:
            i += 1
        part = (at_s - times[i]) / (times[i + 1] - times[i])
        (ax, ay), (bx, by) = points[i], points[i + 1]
        fx, fy = ax + part * (bx - ax) + draw.gauss(0.0, 8.0), ay + part * (by - ay) + draw.gauss(0.0, 8.0)
        lat, lon = plane.place(fx, fy)
        fixes.append([round(at_s), round(lat, 6), round(lon, 6)])
        at_s += draw.uniform(15.0, 45.0)
    lat, lon = plane.place(*points[-1])
    arrive_s = round(times[-1])
    fixes = [fix for fix in fixes if fix[0] < arrive_s] + [[arrive_s, round(lat, 6), round(lon, 6)]]
    places = [plane.place(px, py) for px, py in points]
    return {
        "trip": f"made-{number:03}",
        "vehicle": f"van-{number % VEHICLES:02}",
        "start": f"2026-05-{day:02}T{int(hour):02}:{int(hour * 60) % 60:02}:00Z",
        "route": [[round(lat, 6), round(lon, 6)] for lat, lon in places],
        "fixes": fixes,
        "arrive_s": arrive_s,
    }


def lines(trips: int = TRIPS, seed: int = SEED) -> str:
    return "".join(json.dumps(make_trip(number, seed), separators=(",", ":")) + "\n" for number in range(trips))


if __name__ == "__main__":
    sys.stdout.write(lines())
