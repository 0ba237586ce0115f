"""The machine of one crew member's ledger (stream `flight:crew.<id>`): what they may fly, their duties, their absences.

How it thinks. A duty is assigned for a flight, from report to release, and is checked then: that they fly as that, are rated
and there, are on no other duty, and that a rule pack (`core.flight.duty`) finds nothing that it would break. What would be
broken is cited. Then comes what happened: they report and come off, and those times take the place of the planned ones, so
that what is assigned next is checked against the day as it was. Reporting is refused where the rest before was too short:
then the roster has to change. `extend` is for what nobody foresaw; its fact lists the duties after it that can no longer be.

Promises: no two duties overlap when assigned, none is in an absence, and none breaks the pack by what was known then. An owner
has no way around the pack but to register another one, which is on record.

Does not: know other crew, so that a flight lacks nobody; take flying elsewhere into account that nobody recorded here; give
legal advice. Of a person an id (the stream's name), a name to show, and qualifications are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from core.flight import crew_verbs, ledger
from core.flight.crew_verbs import Ask
from core.flight.duty import REASONS
from core.flight.ledger import Ledger
from core.flight.machine import Decision, Recorded, Rule
from core.flight.tabled import Tabled

_OWNER: Final = frozenset(("owner",))
_ALL: Final = frozenset(("owner", "member"))
_LATER: Final = ("registered",)

_RULES: Final[tuple[tuple[Rule, Callable[[Ask], Decision]], ...]] = (
    (
        Rule(
            "register",
            "Says who this is: base, roles, aircraft types, when qualifications run out, and the rule pack.",
            ("crew.registered",),
            ("new", "registered"),
            _OWNER,
            ("unchanged",),
        ),
        crew_verbs.register,
    ),
    (
        Rule(
            "pack",
            "Holds duties from now on to another rule pack.",
            ("crew.packed",),
            _LATER,
            _OWNER,
            ("not_registered", "unchanged"),
        ),
        crew_verbs.pack,
    ),
    (
        Rule(
            "assign",
            "Puts a duty into the roster, if it is legal.",
            ("crew.assigned",),
            _LATER,
            _OWNER,
            ("not_registered", "unchanged", "impossible_time", "full", "unqualified", "absent", "overlaps", *REASONS),
        ),
        crew_verbs.assign,
    ),
    (
        Rule(
            "release",
            "Takes a duty out of the roster before it began.",
            ("crew.released",),
            _LATER,
            _OWNER,
            ("not_registered", "no_such_duty", "wrong_state"),
        ),
        crew_verbs.release,
    ),
    (
        Rule(
            "acknowledge",
            "They have seen the duty.",
            ("crew.acknowledged",),
            _LATER,
            _ALL,
            ("not_registered", "no_such_duty", "unchanged"),
        ),
        crew_verbs.acknowledge,
    ),
    (
        Rule(
            "report",
            "They are here for it. Said again with another time, that one holds.",
            ("crew.reported",),
            _LATER,
            _ALL,
            ("not_registered", "no_such_duty", "unchanged", "wrong_state", "impossible_time", "too_little_rest"),
        ),
        crew_verbs.report,
    ),
    (
        Rule(
            "off",
            "The duty is over, with the flight time that it was. Said again with other figures, those hold.",
            ("crew.off",),
            _LATER,
            _ALL,
            ("not_registered", "no_such_duty", "unchanged", "wrong_state", "impossible_time"),
        ),
        crew_verbs.off,
    ),
    (
        Rule(
            "extend",
            "The duty takes longer, for reasons that nobody foresaw.",
            ("crew.extended",),
            _LATER,
            _ALL,
            (
                "not_registered",
                "no_such_duty",
                "unchanged",
                "wrong_state",
                "impossible_time",
                "over_duty",
                "over_flight_time",
            ),
        ),
        crew_verbs.extend,
    ),
    (
        Rule(
            "leave",
            "They are not there for a while: nothing is assigned in it.",
            ("crew.absent",),
            _LATER,
            _OWNER,
            ("not_registered", "unchanged", "impossible_time", "overlaps", "has_duties"),
        ),
        crew_verbs.leave,
    ),
    (
        Rule(
            "return",
            "They are back before that was over; one that has not begun is taken back.",
            ("crew.returned",),
            _LATER,
            _OWNER,
            ("not_registered", "unchanged", "not_absent"),
        ),
        crew_verbs.come_back,
    ),
)

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    verb: frozenset(names.split())
    for verb, names in {
        "register": "base name zone roles types valid_until pack",
        "pack": "pack",
        "assign": "flight role type report_at release_at block_minutes off_block on_block crew_of sectors from to zone regular",
        "release": "flight why",
        "acknowledge": "flight",
        "report": "flight at",
        "off": "flight at block_minutes",
        "extend": "flight release_at why",
        "leave": "from to kind",
        "return": "at from",
    }.items()
}
"""What a verb's body may have."""


class Crew(Tabled[Ledger, Ask]):
    """`core.flight.machine.Machine` of `Ledger`."""

    name = "crew"

    def initial(self) -> Ledger:
        return Ledger()

    def evolve(self, state: Ledger, event: Recorded) -> Ledger:
        return ledger.evolve(state, event)

    def show(self, state: Ledger) -> dict[str, Any]:
        """``duties``, ``absences``, ``totals`` by window with their limits, ``next`` and ``rested``: see `Ledger.show`."""
        return state.show()

    def fold(self, events: Iterable[Recorded], recorded_ms: int | None = None, valid_ms: int | None = None) -> Ledger:
        """The state of events in their order, at a moment where one is named (`core.flight.ledger.fold`)."""
        return ledger.fold(events, recorded_ms, valid_ms)


CREW: Final = Crew(_RULES, FIELDS, Ask)
