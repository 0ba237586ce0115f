"""``python -m tests.measure.trips [--write]``: the made parts of docs/trips.md, from the machine that the product obeys.

As `tests.measure.flights`. The diagram is found by trying: a trip is brought into each state and every verb is given there.
"""

from __future__ import annotations

import sys
from typing import Final

from core.flight import diagram
from core.trip.state import STATES
from core.trip.trips import FIELDS, TRIP
from tests.measure.made import rendered, written
from tests.measure.own import ROOT
from tests.trip_desk import SAID, by, trip_in

PAGE: Final = ROOT / "docs/trips.md"


def arrows() -> dict[tuple[str, str], list[str]]:
    """The verbs by which a trip goes from one state to another."""
    found: dict[tuple[str, str], list[str]] = {}
    for state in STATES:
        for verb, body in SAID.items():
            desk = trip_in(state)
            desk.tell(verb, by=by(verb), **body)
            if desk.state.status != state:
                found.setdefault((state, desk.state.status), []).append(verb)
    return found


def states() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    lines += [f"    {start} --> {end}: {', '.join(verbs)}" for (start, end), verbs in arrows().items()]
    return "\n".join([*lines, "    completed --> [*]", "    cancelled --> [*]", "```"])


def parts() -> dict[str, str]:
    return {"states": states(), "verbs": diagram.verbs(TRIP.table, FIELDS)}


def render(page: str) -> str:
    return rendered(page, parts())


def main(arguments: list[str]) -> int:
    return written(PAGE, render, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
