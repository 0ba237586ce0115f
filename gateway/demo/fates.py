"""Which flights of a day go otherwise than planned, and how. See `gateway.demo.day`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.demo.network import Flight


@dataclass(frozen=True, slots=True)
class Fates:
    """Which flights have a day that is not like the others', by name."""

    cancelled: frozenset[str]
    reinstated: str
    to_gate: str
    to_field: str
    diverted: str
    silent: str
    """Its landing is never reported."""
    swapped: Mapping[str, tuple[str, str]]
    """Another registration and type, in place of the planned ones."""
    mistyped: frozenset[str]
    misread: frozenset[str]
    wrong: Mapping[str, str]
    """By name, the mistake that somebody makes about it."""


DIVERTED_TO: Final = "CHC"
DIVERTED_ON_MINUTES: Final = 65
SPARE_TYPE: Final = "B738"


def draw(lines: list[list[Flight]], rng: Random) -> Fates:
    short = [line for line in lines if line[0].type == "B738" and len(line) == 6]
    one, two, *rest = rng.sample(short, 8)
    queenstown = next(flight for line in lines for flight in line if flight.to == "ZQN" and flight.type == "B738")
    large = next(line for line in lines if line[0].type == "A321" and line[0].to == "AKL")
    spare = f"{large[0].registration[:4]}ZZ"
    ordinary = [flight for line in rest for flight in line[:5]]
    picked = [flight.name for flight in rng.sample(ordinary, 20)]
    return Fates(
        cancelled=frozenset((one[2].name, one[3].name)),
        reinstated=two[4].name,
        to_gate=rest[0][1].name,
        to_field=rest[1][3].name,
        diverted=queenstown.name,
        silent=rest[2][5].name,
        swapped={flight.name: (spare, SPARE_TYPE) for flight in large[2:]},
        mistyped=frozenset(picked[:3]),
        misread=frozenset(picked[3:5]),
        wrong=dict(zip(picked[5:], MISTAKES * 2, strict=False)),
    )


MISTAKES: Final = (
    "wrong_date",
    "wrong_date",
    "too_early",
    "too_early",
    "not_allowed",
    "not_allowed",
    "no_time",
    "no_verb",
)

REASONS: Final = (
    ("15", "boarding, two passengers missing"),
    ("18", "baggage system"),
    ("32", "loading"),
    ("36", "fuelling"),
    ("41", "defect, deferred"),
    ("63", "crew"),
    ("71", "thunderstorm, ramp closed"),
    ("81", "flow control"),
    ("87", "no free stand"),
    ("89", "runway works"),
)
