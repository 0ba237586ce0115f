"""The crew roster: what the ledger of a crew member says to read models, a row for each flight that they were assigned.

A row stays when the member is released from the flight, with that as its status, so that who was to be on a flight's crew at
some time in the past is found without looking through all ledgers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from core.flight.ledger import Entry, Ledger, evolve
from core.flight.machine import Recorded
from core.flight.times import write
from core.flight.views import Key

ROSTER: Final = "crew_roster"
RELEASED: Final = "released"
RELEASED_MAX: Final = 3_000
"""Flights remembered that the member was released from; the rows of the oldest stay as they are."""


class Crew(NamedTuple):
    """A ledger, and the duties that were taken from it again, by flight. Never changed in place."""

    ledger: Ledger
    released: Mapping[str, Entry]


class CrewView:
    """See the module."""

    models = (ROSTER,)

    def initial(self) -> Crew:
        return Crew(Ledger(), {})

    def evolve(self, state: Crew, event: Recorded) -> Crew:
        after = evolve(state.ledger, event)
        if after is state.ledger:
            return state
        released = state.released
        flight = str(event.body.get("flight"))
        if event.type == "crew.released":
            gone = state.ledger.find(flight)
            if gone is not None:
                released = {**released, flight: gone}
                if len(released) > RELEASED_MAX:
                    del released[next(iter(released))]
        elif flight in released:
            released = {other: entry for other, entry in released.items() if other != flight}
        return Crew(after, released)

    def touched(self, name: str, before: Crew, event: Recorded, after: Crew) -> Iterable[Key]:
        if "flight" in event.body:
            return [(ROSTER, f"{event.body['flight']}/{name}")]
        if before.ledger.name == after.ledger.name:
            return ()
        flights = [*(entry.duty.flight for entry in after.ledger.entries), *after.released]
        return [(ROSTER, f"{flight}/{name}") for flight in flights]

    def doc(self, name: str, state: Crew, key: Key) -> dict[str, Any] | None:
        return member_of(name, state, key[1][: -len(name) - 1])

    def size(self, state: Crew) -> int:
        return 4 + len(state.ledger.entries) + len(state.released)


def member_of(name: str, state: Crew, flight: str) -> dict[str, Any] | None:
    """The member's part in a flight; ``None``: it never had one, or not in the last two years."""
    entry = state.ledger.find(flight) or state.released.get(flight)
    if entry is None:
        return None
    duty = entry.duty
    return {
        "crew": name,
        "name": state.ledger.name,
        "flight": flight,
        "role": entry.role,
        "status": RELEASED if flight in state.released else entry.status,
        "acknowledged": entry.acknowledged,
        "report_at": write(duty.report_ms),
        "release_at": write(duty.release_ms),
        "from": entry.origin or None,
        "to": entry.dest or None,
    }


CREW_VIEW: Final = CrewView()
