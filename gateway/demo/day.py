"""One operating day of a fictional airline, as the commands that its people and systems give: 200 flights, 41 aircraft,
120 crew members.

For: the demo that plays it (`gateway.demo.play`), and the test that replays a recorded one. In it is what such days have:
schedules the evening before, gates and their changes, bookings and boarding, milestones that come late, twice, out of order and
from two sources, delays that go on along the aircraft's line with their codes, cancellations (one is reinstated), a diversion
that continues, returns to gate and field, another aircraft with other seats, corrections, duties that a rule pack does not
allow, mistakes that are refused, and a flight whose landing nobody reports.

Promises: the same seed, date and run give the same commands, in the order of their time; no command tells of what is yet to
come except as planned, expected or by mistake. Does not: read a clock, or give the commands to anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from random import Random

from gateway.demo import network
from gateway.demo.cabins import tell_cabins
from gateway.demo.crews import tell_crews
from gateway.demo.fates import draw
from gateway.demo.network import Flight
from gateway.demo.script import Given, Teller
from gateway.demo.telling import Telling


@dataclass(frozen=True, slots=True)
class Day:
    date: date
    run: int
    flights: tuple[Flight, ...]
    streams: tuple[str, ...]
    """Of flights, of the cabins that are told of, of crew members."""
    given: tuple[Given, ...]


def make_day(rng: Random, day: date, run: int = 1) -> Day:
    lines = network.lines(day, run)
    found = draw(lines, rng)
    teller = Teller()
    begins_ms = network.evening_before(day)
    telling = Telling(teller, rng, found)
    for line in lines:
        telling.line(line, begins_ms)
    flights = tuple(flight for line in lines for flight in line)
    tell_cabins(teller, rng, found, telling.left, flights, begins_ms)
    tell_crews(teller, rng, found, telling.arrived, lines, network.suffix(day, run), begins_ms)
    given = tuple(sorted(teller.given, key=lambda one: one.at_ms))  # stable: at one moment, as they were told
    streams = tuple(dict.fromkeys([flight.stream for flight in flights] + [one.stream for one in given]))
    return Day(day, run, flights, streams, given)
