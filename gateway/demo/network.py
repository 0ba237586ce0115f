"""The fictional airline of the demo: where it flies, with what, and the lines of flying of one day.

Airports are real; the airline, its flights and its aircraft are not. Block times are what such flights take, within a quarter
of an hour. A line is what one aircraft flies that day, each flight from where the last one ended.

Pure: the day and the run decide all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from core.flight.times import zone_of

OPERATOR: Final = "QX"
HOME: Final = "SYD"
MINUTE_MS: Final = 60_000

BLOCK_MINUTES: Final = {
    ("SYD", "MEL"): 95,
    ("SYD", "BNE"): 90,
    ("SYD", "ADL"): 130,
    ("SYD", "OOL"): 85,
    ("SYD", "CBR"): 55,
    ("SYD", "HBA"): 115,
    ("SYD", "CNS"): 185,
    ("SYD", "PER"): 305,
    ("SYD", "AKL"): 185,
    ("SYD", "CHC"): 185,
    ("SYD", "WLG"): 190,
    ("SYD", "ZQN"): 180,
    ("SYD", "NAN"): 240,
    ("SYD", "DPS"): 375,
    ("SYD", "SIN"): 490,
    ("MEL", "ADL"): 80,
    ("MEL", "HBA"): 75,
    ("MEL", "BNE"): 130,
    ("MEL", "CBR"): 65,
    ("MEL", "OOL"): 125,
    ("MEL", "PER"): 250,
    ("MEL", "AKL"): 215,
    ("MEL", "DPS"): 350,
    ("BNE", "CNS"): 140,
    ("BNE", "DRW"): 240,
    ("BNE", "AKL"): 195,
    ("BNE", "CBR"): 110,
    ("BNE", "SIN"): 480,
    ("AKL", "WLG"): 65,
    ("AKL", "CHC"): 85,
    ("AKL", "ZQN"): 110,
}
"""From block to block, either way."""

TURN_MINUTES: Final = {"E190": 35, "B738": 45, "A321": 50, "A333": 80}
LEAST_TURN_MINUTES: Final = {"E190": 25, "B738": 32, "A321": 38, "A333": 65}
"""When it is late."""
LAYOUTS: Final = {
    "E190": "1-3:ACD/J 4-27:ABCD",
    "B738": "1-3:ACDF/J 4-30:ABCDEF",
    "A321": "1-4:ACDF/J 5-36:ABCDEF",
    "A333": "1-6:ACDG/J 11-45:ACDEFGHK",
}

_E190: Final = (("SYD", "CBR"), ("SYD", "OOL"), ("MEL", "HBA"), ("MEL", "CBR"), ("AKL", "WLG"), ("AKL", "CHC"))
_SHORT: Final = (("SYD", "MEL"), ("SYD", "BNE"), ("MEL", "ADL"), ("SYD", "OOL"), ("SYD", "HBA"))
_MIDDLE: Final = (("SYD", "CNS"), ("SYD", "WLG"), ("BNE", "AKL"), ("SYD", "ZQN"), ("BNE", "DRW"), ("SYD", "CHC"))
_A321: Final = (("SYD", "AKL"), ("SYD", "PER"), ("MEL", "AKL"), ("MEL", "PER"), ("SYD", "NAN"))
_A333: Final = (("SYD", "SIN"), ("SYD", "DPS"), ("MEL", "DPS"), ("BNE", "SIN"))
FLEET: Final = (
    ("E190", 8, 6, _E190),
    ("B738", 14, 6, _SHORT),
    ("B738", 6, 4, _MIDDLE),
    ("A321", 9, 4, _A321),
    ("A333", 4, 2, _A333),
)
"""Type, aircraft, flights of each that day, and the pairs of airports they go to and fro between: 41 aircraft, 200 flights."""
FIRST_OUT: Final = time(5, 50)
LATE_BY: Final = 240
"""Minutes by which a third of the aircraft begin later, if their line is shorter than the next figure."""
LATE_LINE_MAX: Final = 840


@dataclass(frozen=True, slots=True)
class Flight:
    """As planned. ``name`` is what follows `flight:` in its stream; times are Unix milliseconds."""

    name: str
    designator: str
    origin: str
    to: str
    out_ms: int
    in_ms: int
    registration: str
    type: str

    @property
    def stream(self) -> str:
        return f"flight:{self.name}"

    @property
    def seats(self) -> str:
        return f"flight:{self.name}.seats"


def block_minutes(origin: str, to: str) -> int:
    pair = (origin, to) if (origin, to) in BLOCK_MINUTES else (to, origin)
    return BLOCK_MINUTES[pair]


def zone(airport: str) -> ZoneInfo:
    name = zone_of(airport)
    assert name is not None, airport
    return ZoneInfo(name)


def local_ms(day: date, at: time, airport: str) -> int:
    """Unix milliseconds of a time of day at an airport."""
    return round(datetime.combine(day, at, zone(airport)).timestamp() * 1000)


def local_text(ms: int, airport: str) -> str:
    """As a timetable has it: local, to the minute, without offset."""
    return datetime.fromtimestamp(ms / 1000, zone(airport)).strftime("%Y-%m-%dT%H:%M")


def suffix(day: date, run: int) -> str:
    """What makes the names of a day, and of a run after the first, its own."""
    return f"{day:%Y%m%d}" + (f"-{run}" if run > 1 else "")


def lines(day: date, run: int = 1) -> list[list[Flight]]:
    """By aircraft, in the order in which it flies. Whoever plays a day anew has other registrations: a line is one day's."""
    return list(_lines(day, run))


def _lines(day: date, run: int) -> Iterator[list[Flight]]:
    number = 100
    tail = 0
    for type, aircraft, flights, pairs in FLEET:
        for one in range(aircraft):
            base, away = pairs[one % len(pairs)]
            registration = (
                f"VH-{chr(ord('A') + (15 + run) % 26)}{chr(ord('A') + tail // 26)}{chr(ord('A') + tail % 26)}"
            )
            length = flights * (block_minutes(base, away) + TURN_MINUTES[type])
            late = LATE_BY if one % 3 == 2 and length < LATE_LINE_MAX else 0
            out_ms = local_ms(day, FIRST_OUT, base) + (late + one * 17 % 125 // 5 * 5) * MINUTE_MS
            line = []
            for leg in range(flights):
                origin, to = (base, away) if leg % 2 == 0 else (away, base)
                in_ms = out_ms + block_minutes(origin, to) * MINUTE_MS
                designator = f"{OPERATOR}{number}"
                name = f"{designator}-{suffix(day, run)}"
                line.append(Flight(name, designator, origin, to, out_ms, in_ms, registration, type))
                number += 1
                out_ms = in_ms + TURN_MINUTES[type] * MINUTE_MS
            tail += 1
            yield line


def evening_before(day: date) -> int:
    """When the day's telling begins: 18:00 at home."""
    return local_ms(day - timedelta(days=1), time(18), HOME)
