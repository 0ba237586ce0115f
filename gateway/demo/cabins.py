"""What is told of the cabins of some of the day's flights: seats, bookings, check-in, boarding. See `gateway.demo.day`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from core.flight.cabin import Layout, read_layout
from core.flight.times import write
from gateway.demo.fates import Fates
from gateway.demo.network import LAYOUTS, Flight
from gateway.demo.script import Teller, minutes

EVERY: Final = 16
"""One flight of so many has its passengers told, beside those with a fate of their own."""
PASSENGERS: Final = (24, 40)
FIRST: Final = (
    "Ana",
    "Ben",
    "Chloe",
    "Dev",
    "Ema",
    "Finn",
    "Grace",
    "Hiro",
    "Isla",
    "Jun",
    "Kai",
    "Lena",
    "Mia",
    "Noah",
)
LAST: Final = (
    "Adams",
    "Brown",
    "Chen",
    "Diaz",
    "Evans",
    "Fraser",
    "Gupta",
    "Hall",
    "Ito",
    "Jones",
    "Khan",
    "Lee",
    "Moana",
)


def tell_cabins(
    teller: Teller, rng: Random, fates: Fates, left: Mapping[str, int], flights: Sequence[Flight], begins_ms: int
) -> None:
    """``left``: when each flight left its gate, by name."""
    chosen = set(fates.cancelled) | {fates.to_gate, fates.diverted, *list(fates.swapped)[:1]}
    for number, flight in enumerate(flights):
        if number % EVERY == 0 or flight.name in chosen:
            _Cabin(teller, rng, flight).tell(begins_ms, left.get(flight.name), fates.swapped.get(flight.name))


class _Cabin:
    def __init__(self, teller: Teller, rng: Random, flight: Flight) -> None:
        self._teller = teller
        self._rng = rng
        self._flight = flight
        self._seats = dict(
            zip(
                (f"{flight.designator}-{n:03}" for n in range(rng.randrange(*PASSENGERS))),
                self._layout(flight.type),
                strict=False,
            )
        )
        self._seatless: set[str] = set()
        """Who is to get a seat at check-in."""
        self._names = {who: f"{rng.choice(LAST)}/{rng.choice(FIRST)}" for who in self._seats}

    def _tell(self, at_ms: int, type: str, by: str, /, **body: object) -> None:
        self._teller.tell(at_ms, self._flight.seats, type, by, **body)

    def _layout(self, type: str) -> list[str]:
        """Seats, in an order of chance."""
        layout = read_layout(LAYOUTS[type])
        assert isinstance(layout, Layout)
        return self._rng.sample(list(layout.seats), len(layout.seats))

    def tell(self, begins_ms: int, left_ms: int | None, swap: tuple[str, str] | None) -> None:
        flight = self._flight
        opened_ms = begins_ms + minutes(120)
        self._tell(opened_ms, "open", "user:planner", flight=flight.name, layout=LAYOUTS[flight.type], overbooking=2)
        self._booked(opened_ms)
        if swap is not None:
            at_ms = flight.out_ms - minutes(148)
            self._tell(at_ms, "relayout", "user:ops", layout=LAYOUTS[swap[1]], registration=swap[0])
            self._reseated(swap[1])
        if left_ms is not None:
            self._boarded(left_ms)

    def _reseated(self, type: str) -> None:
        """Whose seat is not in the other aircraft gets one that is, at check-in."""
        seats = self._layout(type)
        free = iter([seat for seat in seats if seat not in self._seats.values()])
        for who, seat in self._seats.items():
            if seat not in seats:
                self._seats[who] = next(free)
                self._seatless.add(who)

    def _booked(self, opened_ms: int) -> None:
        rng = self._rng
        taken = ""
        for who, seat in self._seats.items():
            at_ms = opened_ms + minutes(rng.randrange(5, 200))
            self._tell(at_ms, "book", "user:checkin", passenger={"id": who, "name": self._names[who]})
            if rng.random() < 0.15:
                self._tell(at_ms + 5_000, "hold", "user:checkin", seat=seat, passenger=who, for_s=900)
                self._tell(at_ms + minutes(4), "assign", "user:checkin", passenger=who)
            elif rng.random() < 0.85:
                self._tell(at_ms + 20_000, "assign", "user:checkin", passenger=who, seat=seat)
                if taken and rng.random() < 0.08:  # somebody wants a seat that is taken
                    self._tell(at_ms + minutes(260), "change", "user:checkin", passenger=who, seat=taken)
                taken = seat
            else:
                self._seatless.add(who)
            if rng.random() < 0.04:
                self._tell(at_ms + minutes(1), "book", "user:checkin", passenger={"id": who, "name": self._names[who]})

    def _boarded(self, left_ms: int) -> None:
        rng = self._rng
        missing = []
        for who, seat in self._seats.items():
            at_ms = left_ms - minutes(rng.randrange(60, 140)) + rng.randrange(60) * 1000
            if who in self._seatless and rng.random() < 0.9:  # the others come to the gate without one
                self._tell(at_ms - 20_000, "assign", "user:checkin", passenger=who, seat=seat)
            if rng.random() < 0.04:
                missing.append(who)
                continue
            self._tell(at_ms, "check_in", "user:checkin", passenger=who, at=write(at_ms))
            aboard_ms = left_ms - minutes(rng.randrange(9, 26)) + rng.randrange(60) * 1000
            self._tell(aboard_ms, "board", "user:gate", passenger=who, at=write(aboard_ms))
            if rng.random() < 0.02:
                self._tell(aboard_ms + 4_000, "board", "user:gate", passenger=who, at=write(aboard_ms))
        for who in missing:
            at_ms = left_ms - minutes(8)
            self._tell(at_ms, "offload", "user:gate", passenger=who, why="not at the gate", at=write(at_ms))
        self._tell(left_ms - minutes(6), "close", "user:ops")
        self._tell(left_ms - minutes(5), "book", "user:checkin", passenger={"id": f"{self._flight.designator}-999"})
