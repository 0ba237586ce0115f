"""The table of the legs machine: every verb, who may give it, in which states it is obeyed, and why it may be refused.

Code, docs and diagram are made from it. ``FIELDS`` are what a verb's body may have. `core.flight.legs` has the theory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.flight.machine import Rule

_OWNER: Final = frozenset(("owner",))
_BOTH: Final = frozenset(("owner", "member"))

BEFORE: Final = ("scheduled", "boarding")
BEGUN: Final = ("scheduled", "boarding", "departed", "landed", "completed", "diverted")
KNOWN: Final = (*BEGUN, "cancelled")

_WRONG: Final = ("wrong_state",)
_TIMED: Final = (*_WRONG, "skipped_time", "doubled_time")
_MOVED: Final = (*_TIMED, "unchanged", "corrected", "in_future", "out_of_order", "too_far")
_EXPECTED: Final = (*_TIMED, "unchanged", "corrected", "happened", "out_of_order", "too_far")


def _rule(
    verb: str,
    says: str,
    facts: tuple[str, ...],
    when: tuple[str, ...],
    refusals: tuple[str, ...],
    *,
    owner: bool = False,
) -> Rule:
    return Rule(verb, says, tuple(f"flight.{fact}" for fact in facts), when, _OWNER if owner else _BOTH, refusals)


TABLE: Final[Mapping[str, Rule]] = {
    rule.verb: rule
    for rule in (
        _rule(
            "schedule",
            "Makes the flight: designator, airports, scheduled OUT and IN; operator and aircraft as far as known.",
            ("scheduled",),
            ("new",),
            (*_TIMED, "out_of_order", "too_far"),
            owner=True,
        ),
        _rule(
            "reschedule",
            "Plans other times; what was estimated before counts no more.",
            ("rescheduled",),
            BEFORE,
            (*_TIMED, "unchanged", "out_of_order", "too_far"),
            owner=True,
        ),
        _rule(
            "estimate",
            "Says when a milestone is expected.",
            ("milestone",),
            ("scheduled", "boarding", "departed", "landed", "diverted"),
            _EXPECTED,
        ),
        _rule(
            "target",
            "Says when a milestone is aimed at, as airports do that decide together.",
            ("milestone",),
            ("scheduled", "boarding", "departed", "landed", "diverted"),
            _EXPECTED,
        ),
        _rule(
            "board",
            "Boarding has begun.",
            ("boarding",),
            ("scheduled",),
            (*_TIMED, "in_future", "out_of_order", "too_far"),
        ),
        _rule("depart", "OUT: it has left the gate.", ("milestone",), BEGUN, _MOVED),
        _rule("takeoff", "OFF: it is in the air.", ("milestone",), BEGUN, _MOVED),
        _rule("land", "ON: it has touched down.", ("milestone",), BEGUN, _MOVED),
        _rule("arrive", "IN: it is at the gate.", ("milestone",), BEGUN, _MOVED),
        _rule(
            "movement",
            "Several times at once, with estimates and reasons of delay, as a movement message has them.",
            ("milestone", "delayed"),
            BEGUN,
            (*_MOVED, "happened"),
        ),
        _rule("gate", "Terminal, gate, stand at either end.", ("gate",), BEGUN, (*_WRONG, "unchanged")),
        _rule(
            "delay",
            "The reasons of the delay, up to eight, in place of those before; none: there is nothing to explain.",
            ("delayed",),
            BEGUN,
            (*_WRONG, "unchanged"),
        ),
        _rule(
            "equip",
            "Another aircraft, or which it is; after departure this sets right what was recorded.",
            ("equipped",),
            BEGUN,
            (*_WRONG, "unchanged"),
            owner=True,
        ),
        _rule("cancel", "It will not be flown.", ("cancelled",), BEFORE, _WRONG, owner=True),
        _rule("reinstate", "It will be flown after all.", ("reinstated",), ("cancelled",), _WRONG, owner=True),
        _rule(
            "divert",
            "It goes to another airport, or went there.",
            ("diverted",),
            ("departed", "landed", "completed", "diverted"),
            (*_TIMED, "same_airport", "in_future", "out_of_order", "too_far"),
            owner=True,
        ),
        _rule(
            "continue",
            "After a diversion: the leg onward, under the same flight.",
            ("continued",),
            ("diverted",),
            (*_TIMED, "not_landed", "same_airport", "out_of_order", "too_far", "too_many_legs"),
            owner=True,
        ),
        _rule(
            "return",
            "It came back to the gate (return to ramp) or to the field (forced return), and a new attempt begins.",
            ("returned",),
            ("departed", "landed", "completed"),
            (*_TIMED, "in_future", "out_of_order", "too_many_legs"),
        ),
        _rule(
            "correct",
            "Another time in place of one that was said, by the seq of that event, and why.",
            ("corrected",),
            KNOWN,
            (*_TIMED, "no_such_fact", "unchanged", "in_future", "out_of_order", "too_far"),
            owner=True,
        ),
        _rule(
            "withdraw",
            "What was said by the event of that seq was not so: a time, boarding, a diversion; and why.",
            ("withdrawn",),
            KNOWN,
            (*_WRONG, "no_such_fact", "out_of_order"),
            owner=True,
        ),
    )
}

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    verb: frozenset(names.split())
    for verb, names in {
        "schedule": "flight from to out in zone operator registration type service",
        "reschedule": "out in zone reason",
        "estimate": "milestone at zone source",
        "target": "milestone at zone source",
        "board": "at zone",
        "depart": "at zone source",
        "takeoff": "at zone source",
        "land": "at zone source",
        "arrive": "at zone source",
        "movement": "actual estimated reasons zone source",
        "gate": "departure arrival",
        "delay": "reasons",
        "equip": "registration type",
        "cancel": "reason",
        "reinstate": "reason",
        "divert": "to at eta reason zone",
        "continue": "to out in zone",
        "return": "to at reason zone",
        "correct": "ref at zone why",
        "withdraw": "ref why",
    }.items()
}

INSTEAD: Final[Mapping[str, str]] = {
    "new": "it is not scheduled: `schedule` it first",
    "scheduled": "it is scheduled, and has not left the gate; other times are given by `reschedule`",
    "boarding": "it is boarding, and has not left the gate; other times are given by `reschedule`",
    "departed": "it has left the gate: `return` or `divert` it, or `withdraw` what was said wrongly",
    "landed": "it has landed; what was said wrongly is withdrawn by the seq of its event",
    "completed": "it has arrived: `return` or `divert` it, if it came elsewhere; what was said wrongly is withdrawn by its seq",
    "diverted": "it is diverted: `continue` it, or `withdraw` the diversion",
    "cancelled": "it is cancelled: `reinstate` it first",
}
"""What a refusal as `wrong_state` says of the state."""
