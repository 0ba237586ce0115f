"""Which machine decides in a stream, by the stream's name alone.

For: whoever folds a stream or takes a command for one. Every machine here has timers (`core.flight.timers`).

- ``flight:crew.<id>``: `crew`, one crew member's ledger
- ``flight:<flight>.seats``: `seats`, the seat map of that flight
- ``flight:board`` and ``flight:board.<station>``: none; board rows are shown there as signals
- any other ``flight:<flight>``: `legs`
- ``trip:<id>``: `trips`

In streams of other kinds nothing is decided.
"""

from __future__ import annotations

from typing import Any, Final

from core.flight.crew import CREW
from core.flight.legs import LEGS
from core.flight.machine import Machine
from core.flight.seats import SEATS
from core.flight.timers import Timed
from core.trip.trips import TRIP

FLIGHT: Final = "flight:"
TRIPS: Final = "trip:"
SEATS_SUFFIX: Final = ".seats"

_LEGS: Final[Machine[Any]] = Timed(LEGS)
_SEATS: Final[Machine[Any]] = Timed(SEATS)
_CREW: Final[Machine[Any]] = Timed(CREW)
_TRIP: Final[Machine[Any]] = Timed(TRIP)
MACHINES: Final[tuple[Machine[Any], ...]] = (_LEGS, _SEATS, _CREW, _TRIP)


def machine_of(stream: str) -> Machine[Any] | None:
    """The machine of a stream's name, ``None`` where nothing is decided there."""
    if not stream.startswith(FLIGHT):
        return _TRIP if stream.startswith(TRIPS) else None
    name = stream[len(FLIGHT) :]
    if name.startswith("crew."):
        return _CREW
    if name == "board" or name.startswith("board."):
        return None
    return _SEATS if name.endswith(SEATS_SUFFIX) else _LEGS
