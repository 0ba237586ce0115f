"""The manifest and the seat map: what the stream of a flight's seats says to read models.

Every passenger of the manifest has a row, and every seat of the layout. A row is made for the passengers and seats that a fact
names, and for those that it moves without naming (a hold of somebody who takes another seat); a new layout touches all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from core.flight.cabin import Cabin, evolve
from core.flight.machine import Recorded
from core.flight.times import read, write
from core.flight.views import Key

MANIFEST: Final = "manifest"
SEATS: Final = "seat_map"
_WHOLE: Final = frozenset(("seat.opened", "seat.relaid"))


class CabinView:
    """See the module."""

    models = (MANIFEST, SEATS)

    def initial(self) -> Cabin:
        return Cabin()

    def evolve(self, state: Cabin, event: Recorded) -> Cabin:
        return evolve(state, event)

    def touched(self, name: str, before: Cabin, event: Recorded, after: Cabin) -> Iterable[Key]:
        seats: dict[str, None] = {}
        people: dict[str, None] = {}
        if event.type in _WHOLE:
            for cabin in (before, after):
                seats.update(dict.fromkeys(cabin.layout.seats))
                people.update(dict.fromkeys(cabin.passengers))
        else:
            _named(event.body, seats, people)
            for cabin in (before, after):
                for who in people:
                    known = cabin.passengers.get(who)
                    if known is not None and known.seat:
                        seats[known.seat] = None
            if before.holds is not after.holds:
                seats.update((seat, None) for seat in sorted(before.holds.keys() ^ after.holds.keys()))
        yield from ((MANIFEST, f"{name}/{who}") for who in people)
        yield from ((SEATS, f"{name}/{seat}") for seat in seats)

    def doc(self, name: str, state: Cabin, key: Key) -> dict[str, Any] | None:
        model, place = key[0], key[1][len(name) + 1 :]
        return _passenger(state, place) if model == MANIFEST else _seat(state, place)

    def size(self, state: Cabin) -> int:
        return 4 + len(state.layout.seats) // 4 + len(state.passengers)


def _named(body: Any, seats: dict[str, None], people: dict[str, None]) -> None:
    """What a fact names, however deep: `passenger` and `seat` anywhere, `seats` and `unheld` as lists."""
    for field, value in body.items():
        if field == "passenger":
            people[value] = None
        elif field == "seat":
            seats[value] = None
        elif field in ("seats", "unheld"):
            seats.update(dict.fromkeys(value))
        elif field in ("a", "b"):
            _named(value, seats, people)


def _passenger(cabin: Cabin, who: str) -> dict[str, Any] | None:
    known = cabin.passengers.get(who)
    if known is None:
        return None
    return {"passenger": who, "name": known.name, "status": known.status, "seat": known.seat or None}


def _seat(cabin: Cabin, seat: str) -> dict[str, Any] | None:
    """As `Cabin.show` has it, but that a hold is shown whatever the time: ``until`` says how long it is one."""
    kind = cabin.layout.seats.get(seat)
    if kind is None:
        return None
    shown: dict[str, Any] = {
        "seat": seat,
        "class": kind,
        "status": "free",
        "passenger": None,
        "until": None,
        "why": None,
    }
    hold = cabin.holds.get(seat)
    if seat in cabin.taken:
        who = cabin.taken[seat]
        shown["status"] = "boarded" if cabin.passengers[who].status == "boarded" else "assigned"
        shown["passenger"] = who
    elif hold is not None:
        shown["status"], shown["passenger"], shown["until"] = "held", hold.passenger, write(hold.until_ms)
    elif seat in cabin.blocked:
        shown["status"], shown["why"] = "blocked", cabin.blocked[seat]
    return shown


def as_at(doc: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """A row as it is to be read at a moment: a seat whose hold has run out by then is free."""
    until = doc.get("until")
    if until is None or read(until).ms > now_ms:
        return doc
    return doc | {"status": "free", "passenger": None, "until": None}


CABIN_VIEW: Final = CabinView()
