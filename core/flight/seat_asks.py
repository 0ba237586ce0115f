"""One command to a flight's seats while it is being decided: what it says, the cabin it meets, and what many verbs ask of both.

For: `core.flight.seat_verbs`. Questions answer what is asked for, or the `Refusal` that is the command's answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.flight.body import Fields
from core.flight.cabin import PASSENGERS_MAX, Cabin, Passenger
from core.flight.machine import Command, Fact, Malformed, Refusal
from core.flight.tabled import Asked
from core.flight.times import write


def boarded(who: str) -> Refusal:
    return Refusal("boarded_already", f"{who} is on board; `deboard` or `offload` them first")


class Ask(Asked):
    """One command being decided: what it says, and the cabin it meets."""

    __slots__ = ("cabin",)

    def __init__(self, cabin: Cabin, command: Command, now_ms: int) -> None:
        super().__init__(command, now_ms)
        self.cabin = cabin

    def wrong(self) -> Malformed | Refusal | None:
        """What is wrong before the verb itself is looked at. Asked once all fields are read."""
        if self.fields.problem:
            return Malformed(self.fields.problem)
        if not self.cabin.flight and self.command.type != "open":
            return Refusal("not_open", "this flight has no cabin yet; an owner opens it with `open` and a layout")
        if self.cabin.closed and self.command.role != "owner":
            return Refusal("closed", "the manifest is closed; an owner can change it, or `reopen` it")
        return None

    def person(self) -> tuple[str, str]:
        """Id and name of `passenger`, an object or just the id. Anything else that it says of the person is not kept."""
        value = self.fields.raw("passenger")
        if not isinstance(value, Mapping):
            return self.fields.identity("passenger"), ""
        inner = Fields(value)
        who, name = inner.identity("id"), inner.text("name", "")
        if inner.problem:
            self.fields.bad("passenger", f"is not well: {inner.problem}")
        return who, name

    def at(self) -> int:
        return self.fields.instant("at", self.now_ms)

    def someone(self, who: str) -> Passenger | Refusal:
        known = self.cabin.passengers.get(who)
        if known is None:
            return Refusal("no_such_passenger", f"{who} is not on the manifest; `book` them first")
        return known

    def seated(self, who: str) -> Passenger | Refusal:
        """The passenger, with a seat and not yet on board."""
        known = self.someone(who)
        if isinstance(known, Refusal):
            return known
        if known.status == "boarded":
            return boarded(who)
        if not known.seat:
            return Refusal("no_seat", f"{who} has no seat; `assign` one first")
        return known

    def free(self, seat: str, who: str) -> list[Fact] | Refusal:
        """What has to be recorded before ``who`` can have the seat (a hold that ran out), or why they cannot."""
        cabin = self.cabin
        if seat not in cabin.layout.seats:
            return Refusal("no_such_seat", f"there is no seat {seat} in this cabin")
        if seat in cabin.taken:
            return Refusal("seat_taken", f"{seat} is taken; choose another")
        if seat in cabin.blocked:
            return Refusal("blocked", f"{seat} is blocked; choose another, or have an owner `unblock` it")
        hold = cabin.live(seat, self.now_ms)
        if hold is not None and hold.passenger != who:
            return Refusal("seat_taken", f"{seat} is held until {write(hold.until_ms)}; choose another")
        return self.expired(seat) if hold is None else []

    def expired(self, seat: str) -> list[Fact]:
        """The fact that the hold of this seat has run out, where there is one that has."""
        hold = self.cabin.holds.get(seat)
        if hold is None or hold.until_ms > self.now_ms:
            return []
        body = {"seat": seat, "passenger": hold.passenger, "why": "expired", "until": write(hold.until_ms)}
        return [Fact("seat.released", body)]

    def newcomer(self, who: str) -> Refusal | None:
        """Why this passenger cannot come onto the manifest."""
        cabin = self.cabin
        known = cabin.passengers.get(who)
        if known is not None and known.status != "offloaded":
            return Refusal("duplicate_passenger", f"{who} is on the manifest already")
        if known is None and len(cabin.passengers) >= PASSENGERS_MAX:
            return Refusal("full", f"a manifest has at most {PASSENGERS_MAX} passengers")
        places = len(cabin.layout.seats) - len(cabin.blocked) + cabin.overbooking
        if len(cabin.passengers) >= places and cabin.expected() >= places:
            return Refusal(
                "full", f"all {places} places are booked; `cancel` somebody, or have an owner `relayout` or `unblock`"
            )
        return None
