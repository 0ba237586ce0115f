"""The legs machine: what may be said of a flight, by whom and when, and what becomes of it.

A flight is scheduled once, under a designator that stays its own whatever happens. Then times are said of its milestones, by
people and by systems that are late, repeat themselves and come out of order: that is normal, and taken. ON may come before
OFF; what is refused is what cannot be: an actual time in the future, or one before what must have come before it. What was
said wrongly is corrected or withdrawn by naming the seq of the event that said it; both are events too, with who and why.

`TABLE` says for every verb in which states (`core.flight.leg_state.status`) it is obeyed. In any other the answer is the
refusal `wrong_state`, with what to do instead; that a cancelled flight is told nothing but its reinstatement, and corrections,
follows from the table and from nothing else. Planning and what cannot be undone by saying it again is for owners (schedule,
reschedule, equip, cancel, reinstate, divert, continue, correct, withdraw); what is seen and told is for members too.

Words: milestones and kinds of time as in IATA AIDX (Aviation Information Data Exchange, OperationTime); movements, forced
return and return to ramp as in AHM 780 (aircraft movement message); delay codes in `core.flight.delays`; service types are
letters of IATA SSIM, appendix C; types of aircraft are ICAO Doc 8643 designators or IATA's.

Promises: any JSON is answered; what is answered, `evolve` takes. Does not: know another flight, look at the clock, or keep a
status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.flight import fields, leg_state, leg_times, leg_verbs, leg_view
from core.flight.leg_asks import Ask
from core.flight.leg_state import NO_SLOTS, Leg, State, status
from core.flight.leg_table import FIELDS, INSTEAD, TABLE
from core.flight.machine import Command, Decision, Malformed, Recorded, Refusal, Rule, Unallowed

_NO_LEG: Final = Leg("", "", NO_SLOTS)
_DECIDES: Final[Mapping[str, Callable[[Ask], Decision]]] = {
    "schedule": leg_times.schedule,
    "reschedule": leg_times.reschedule,
    "estimate": leg_times.expect,
    "target": leg_times.expect,
    "board": leg_verbs.board,
    "depart": leg_times.move,
    "takeoff": leg_times.move,
    "land": leg_times.move,
    "arrive": leg_times.move,
    "movement": leg_times.movement,
    "gate": leg_verbs.gate,
    "delay": leg_times.delay,
    "equip": leg_verbs.equip,
    "cancel": leg_verbs.cancel,
    "reinstate": leg_verbs.reinstate,
    "divert": leg_verbs.divert,
    "continue": leg_verbs.go_on,
    "return": leg_verbs.come_back,
    "correct": leg_verbs.correct,
    "withdraw": leg_verbs.withdraw,
}
assert _DECIDES.keys() == TABLE.keys() == FIELDS.keys()


class Legs:
    """See the module, and `core.flight.machine.Machine` for what each method promises."""

    name = "legs"
    table: Mapping[str, Rule] = TABLE

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now_ms: int) -> Decision:
        verb = command.type
        body: object = command.body
        rule = TABLE.get(verb)
        if rule is None:
            return Malformed(f"no command {verb!r} here; there are {', '.join(TABLE)}")
        if command.role not in rule.roles:
            return Unallowed(f"{verb} is for owners of the stream")
        if not isinstance(body, Mapping):
            return Malformed("a command's body is an object")
        now = status(state)
        try:
            fields.only(body, FIELDS[verb], verb)
            if now not in rule.when:
                return Refusal("wrong_state", f"no {verb} now: {INSTEAD[now]}")
            return _DECIDES[verb](Ask(state, state.leg or _NO_LEG, command, now_ms))
        except fields.No as no:
            return no.decision

    def evolve(self, state: State, event: Recorded) -> State:
        return leg_state.evolve(state, event)

    def show(self, state: State) -> dict[str, Any]:
        return leg_view.show(state)


LEGS: Final = Legs()
