"""The machine of a flight's seats (stream `flight:<flight>.seats`): seat map, holds that expire, the manifest, boarding.

How it thinks. A passenger is on the manifest (`book`) with a seat or without one. A seat is free, blocked, held for somebody
until a time, or somebody's. A hold past its time is as if it were not there: whoever comes next may have the seat, and what
the hold was is recorded then (`seat.released`, why: expired), or by `expire`. For that the machine keeps one timer in the
stream (`holds`), due when the first hold may run out; `expire` sets it anew for the next. One passenger holds at
most one seat and has at most one. Once the manifest is closed only an owner changes it. A saga that moves passengers between
two flights names itself in `transfer_out` and `transfer_in`; each step of it is taken once however often it is asked for.

Promises: no seat is ever two passengers', no passenger is on the manifest twice or leaves it without a fact; a refusal says
nothing of who has the seat. Of a person only an id and, if given, a name to show is kept.

Does not: price, sort people by class, or know what an exit row asks of them (class and exits are shown, no more).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from core.flight import cabin, seat_verbs
from core.flight.cabin import Cabin
from core.flight.machine import Decision, Recorded, Rule
from core.flight.seat_asks import Ask
from core.flight.tabled import Tabled

OWNER: Final = frozenset(("owner",))

_WHO: Final = ("no_such_passenger",)
_PLACE: Final = ("no_such_seat", "seat_taken", "blocked")
_GATE: Final = ("not_open", "closed")


def _types(facts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(fact if "." in fact else f"seat.{fact}" for fact in facts)


def _rule(verb: str, says: str, facts: tuple[str, ...], refusals: tuple[str, ...]) -> Rule:
    when = ("open", "closed, for owners")
    return Rule(verb, says, _types(facts), when, refusals=_GATE + refusals)


def _owners(verb: str, says: str, facts: tuple[str, ...], refusals: tuple[str, ...], when: tuple[str, ...]) -> Rule:
    return Rule(verb, says, _types(facts), when, OWNER, refusals)


_EITHER: Final = ("open", "closed")

_RULES: Final[tuple[tuple[Rule, Callable[[Ask], Decision]], ...]] = (
    (
        _owners("open", "Opens the flight's cabin with a layout.", ("opened",), ("unchanged",), ("new",)),
        seat_verbs.open_cabin,
    ),
    (
        _owners(
            "relayout",
            "Another aircraft: seats that are in both stay as they are, who sat on others is listed in the fact.",
            ("relaid",),
            ("not_open", "unchanged", "boarded_already"),
            _EITHER,
        ),
        seat_verbs.relayout,
    ),
    (
        _owners(
            "block",
            "Takes seats out of use.",
            ("released", "blocked"),
            ("not_open", "unchanged", "no_such_seat", "seat_taken"),
            _EITHER,
        ),
        seat_verbs.block,
    ),
    (
        _owners("unblock", "Brings them back.", ("unblocked",), ("not_open", "unchanged"), _EITHER),
        seat_verbs.unblock,
    ),
    (
        _rule(
            "book", "Puts a passenger on the manifest, without a seat.", ("booked",), ("duplicate_passenger", "full")
        ),
        seat_verbs.book,
    ),
    (
        _rule(
            "hold",
            "Keeps a seat for somebody until a time; they need not be on the manifest.",
            ("released", "held", "timer.set"),
            (*_PLACE, "holding_already", "impossible_time"),
        ),
        seat_verbs.hold,
    ),
    (
        _rule(
            "assign",
            "Gives a passenger a seat: the one named, or else the one they hold.",
            ("released", "assigned"),
            (*_WHO, *_PLACE, "wrong_state", "no_hold", "hold_expired", "unchanged", "seated_already"),
        ),
        seat_verbs.assign,
    ),
    (
        _rule(
            "change",
            "Gives a passenger who has a seat another one.",
            ("released", "assigned"),
            (*_WHO, *_PLACE, "no_seat", "unchanged", "boarded_already"),
        ),
        seat_verbs.change,
    ),
    (
        _rule(
            "swap",
            "Two passengers change seats with each other.",
            ("swapped",),
            (*_WHO, "no_seat", "unchanged", "boarded_already"),
        ),
        seat_verbs.swap,
    ),
    (
        _rule(
            "release",
            "Gives up the seat that somebody has, and the one that they hold.",
            ("released",),
            (*_WHO, "unchanged", "boarded_already"),
        ),
        seat_verbs.release,
    ),
    (
        _rule("expire", "Records which holds have run out.", ("released", "timer.set"), ("unchanged",)),
        seat_verbs.expire,
    ),
    (
        _rule("cancel", "Takes a passenger off the manifest.", ("cancelled",), (*_WHO, "boarded_already")),
        seat_verbs.cancel,
    ),
    (
        _rule(
            "check_in",
            "The passenger is here to fly.",
            ("checked_in",),
            (*_WHO, "impossible_time", "unchanged", "boarded_already", "wrong_state"),
        ),
        seat_verbs.check_in,
    ),
    (
        _rule(
            "board",
            "The passenger is on board.",
            ("boarded",),
            (*_WHO, "impossible_time", "boarded_already", "no_seat", "not_checked_in"),
        ),
        seat_verbs.board,
    ),
    (
        _rule(
            "deboard",
            "The passenger left the aircraft again, and keeps the seat.",
            ("deboarded",),
            (*_WHO, "impossible_time", "not_boarded"),
        ),
        seat_verbs.deboard,
    ),
    (
        _rule(
            "offload",
            "The passenger does not fly: the seat is free, and the manifest says so.",
            ("offloaded",),
            (*_WHO, "impossible_time", "unchanged"),
        ),
        seat_verbs.offload,
    ),
    (
        _owners(
            "transfer_out",
            "A saga takes a passenger to another flight; `keep_for` holds the seat for who comes instead.",
            ("transferred_out", "released", "held", "timer.set"),
            ("not_open", *_WHO, "unchanged", "boarded_already", "impossible_time", "holding_already"),
            _EITHER,
        ),
        seat_verbs.transfer_out,
    ),
    (
        _owners(
            "transfer_in",
            "A saga brings a passenger from another flight, to a seat where one is named.",
            ("released", "transferred_in"),
            ("not_open", "unchanged", "duplicate_passenger", "full", *_PLACE),
            _EITHER,
        ),
        seat_verbs.transfer_in,
    ),
    (
        _owners("close", "Closes the manifest.", ("closed",), ("not_open", "unchanged"), ("open",)),
        seat_verbs.close,
    ),
    (
        _owners("reopen", "Opens the manifest again.", ("reopened",), ("not_open", "unchanged"), ("closed",)),
        seat_verbs.reopen,
    ),
)

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    verb: frozenset(names.split())
    for verb, names in {
        "open": "flight layout overbooking",
        "relayout": "layout registration",
        "block": "seats why",
        "unblock": "seats",
        "book": "passenger",
        "hold": "passenger seat until for_s",
        "assign": "passenger seat",
        "change": "passenger seat",
        "swap": "a b",
        "release": "passenger",
        "expire": "",
        "cancel": "passenger why",
        "check_in": "passenger at",
        "board": "passenger at",
        "deboard": "passenger at why",
        "offload": "passenger at why",
        "transfer_out": "passenger to saga keep_for until",
        "transfer_in": "passenger from saga seat",
        "close": "",
        "reopen": "why",
    }.items()
}
"""What a verb's body may have."""


class Seats(Tabled[Cabin, Ask]):
    """`core.flight.machine.Machine` of `Cabin`."""

    name = "seats"

    def initial(self) -> Cabin:
        return Cabin()

    def evolve(self, state: Cabin, event: Recorded) -> Cabin:
        return cabin.evolve(state, event)

    def show(self, state: Cabin) -> dict[str, Any]:
        """``status``, ``counts`` of seats, ``people`` counted, ``layout``, ``seats`` by seat, ``passengers`` by id."""
        return state.show()

    def fold(self, events: Iterable[Recorded], recorded_ms: int | None = None, valid_ms: int | None = None) -> Cabin:
        """The state of events in their order, at a moment where one is named (`core.flight.cabin.fold`)."""
        return cabin.fold(events, recorded_ms, valid_ms)


SEATS: Final = Seats(_RULES, FIELDS, Ask)
