"""The machine of a trip (stream `trip:<id>`): its plan, the stops that were reached, who is told before, and who was told.

How it thinks. An owner plans a trip: who goes how, past which stops. As often as wanted it is planned anew; what happened at
stops that are in both plans stays, and so do the wishes for them. Then it is under way: stops are reached, left, skipped, by
whoever sees it, or by the gateway, which sees positions. A stop before one that was reached was passed: nobody is told of it
any more, though that it was reached all the same may still be said. People ask to be told some time before a stop
(`notify`); whether that time has come is worked out elsewhere (`core.trip.alerts`), and here it is said once: the fact that
somebody was told (`alert`) is of a stop, a recipient and a threshold, and a second one of the same is refused whatever came
between: a restart, another node, another plan. Crossings of fences are said the same way.

Promises: of a stop, a recipient and a threshold there is at most one alert for good, none once the stop was reached or the
trip is over, and none that nobody wants. Of a fence and a subject, entering and leaving alternate in the order of their
times. What others send into the stream (chat, positions) is theirs and changes nothing here.

Does not: compute arrival times, or know a fence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.flight.machine import Decision, Recorded, Rule
from core.flight.tabled import Tabled
from core.trip import state, verbs
from core.trip.state import Trip
from core.trip.verbs import WHEN, Ask

_OWNER: Final = frozenset(("owner",))
_ALL: Final = frozenset(("owner", "member"))


def _rule(
    obey: Callable[[Ask], Decision],
    says: str,
    facts: tuple[str, ...],
    refusals: tuple[str, ...],
    roles: frozenset[str] = _ALL,
) -> tuple[Rule, Callable[[Ask], Decision]]:
    verb = obey.__name__
    facts = tuple(f"trip.{fact}" for fact in facts)
    return Rule(verb, says, facts, WHEN[verb], roles, ("wrong_state", *refusals)), obey


_RULES: Final = (
    _rule(
        verbs.plan,
        "Says who goes how, past which stops; given again, the whole plan anew.",
        ("planned",),
        ("unchanged",),
        _OWNER,
    ),
    _rule(verbs.start, "The trip has begun.", ("started",), ("unchanged", "impossible_time")),
    _rule(
        verbs.arrive,
        "It is at a stop; a trip that nobody started has begun by then. The gateway gives it, too.",
        ("started", "arrived"),
        ("unknown_stop", "unchanged", "impossible_time"),
    ),
    _rule(
        verbs.depart,
        "It has left a stop.",
        ("departed",),
        ("unknown_stop", "unchanged", "not_arrived", "out_of_order", "impossible_time"),
    ),
    _rule(
        verbs.skip,
        "It will not call at a stop; nobody is told of it.",
        ("skipped",),
        ("unknown_stop", "arrived", "unchanged"),
    ),
    _rule(verbs.complete, "The trip has ended as it should.", ("completed",), ("unchanged", "impossible_time")),
    _rule(verbs.cancel, "The trip is called off.", ("cancelled",), ("unchanged",), _OWNER),
    _rule(
        verbs.notify,
        "Somebody wants to be told before it is at a stop; given again, in another way. Members ask for themselves.",
        ("recipient",),
        ("unknown_stop", "arrived", "too_many_recipients", "unchanged"),
    ),
    _rule(
        verbs.unnotify,
        "Somebody does not want to be told any more: of a stop, or of any. Members say it for themselves.",
        ("unrecipient",),
        ("unchanged",),
    ),
    _rule(
        verbs.alert,
        "Somebody is told. The gateway alone gives it; `merged` are thresholds that were passed with it.",
        ("alert",),
        ("alerted", "arrived", "unknown_stop", "not_wanted", "too_many_alerts"),
        _OWNER,
    ),
    _rule(
        verbs.fence,
        "Somebody came into a fence, left it, or stayed in it. The gateway alone gives it.",
        ("fence",),
        ("unchanged", "late"),
        _OWNER,
    ),
)

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    verb: frozenset(names.split())
    for verb, names in {
        "plan": "mode subject stops route fences note",
        "start": "at",
        "arrive": "stop at",
        "depart": "stop at",
        "skip": "stop why",
        "complete": "at",
        "cancel": "reason",
        "notify": "recipient stop thresholds_s quiet zone push",
        "unnotify": "recipient stop",
        "alert": "recipient stop threshold_s eta low high source push at merged",
        "fence": "fence what subject at",
    }.items()
}
"""What a verb's body may have."""


class Trips(Tabled[Trip, Ask]):
    """`core.flight.machine.Machine` of `Trip`."""

    name = "trips"

    def initial(self) -> Trip:
        return Trip()

    def evolve(self, state_: Trip, event: Recorded) -> Trip:
        return state.evolve(state_, event)

    def show(self, state_: Trip) -> dict[str, Any]:
        """``status``, the plan with what became of each stop, ``next``, ``route``, ``recipients``, ``alerts``, and who is
        ``inside`` which fence."""
        return state_.show()


TRIP: Final = Trips(_RULES, FIELDS, Ask)
