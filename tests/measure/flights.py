"""``python -m tests.measure.flights [--write]``: the made parts of docs/flights.md, from the machines that the product obeys.

A made part is between ``<!-- made: NAME -->`` and ``<!-- end -->``; the rest of the page is written by hand. Without
``--write`` it says whether the page is as the machines are, with exit code 1 where it is not.
"""

from __future__ import annotations

import sys
from typing import Final

from core.flight import diagram
from core.flight.crew import CREW
from core.flight.crew import FIELDS as CREW_FIELDS
from core.flight.leg_table import FIELDS
from core.flight.legs import LEGS
from core.flight.seats import FIELDS as SEAT_FIELDS
from core.flight.seats import SEATS
from core.flight.timers import FIELDS as TIMER_FIELDS
from core.flight.timers import TABLE as TIMERS
from tests.measure.made import rendered, written
from tests.measure.own import ROOT

PAGE: Final = ROOT / "docs/flights.md"


def parts() -> dict[str, str]:
    return {
        "states": diagram.states(),
        "legs": diagram.verbs(LEGS.table, FIELDS),
        "seats": diagram.verbs(SEATS.table, SEAT_FIELDS),
        "crew": diagram.verbs(CREW.table, CREW_FIELDS),
        "timers": diagram.verbs(TIMERS, TIMER_FIELDS),
        "codes": diagram.codes(),
    }


def render(page: str) -> str:
    return rendered(page, parts())


def main(arguments: list[str]) -> int:
    return written(PAGE, render, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
