"""Timers for any machine, and the rules a fact came of: `Timed` is a machine around a machine.

A timer is a fact of the stream that it belongs to. `timer.set` names it and says when it is due; the seq of that event is
its *fence*. Setting it anew moves it, under a new fence. Only the gateway fires (`timer.fire` with the fence), so that however
many workers fire, however often and however late, the stream says what became of it, once: the second finds another fence or
none, and is refused (`timer_gone`).

What it is for is in ``do``: the command that the gateway gives in the same stream once it has fired. The fact carries it, so
that whoever follows the stream needs nothing else. Times that have passed are allowed: such a timer is due at once.

Every fact of a command that rules led to says which (``via``), whatever machine wrote it; by that loops are bounded. Nobody
else's word for it is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from core.flight import times
from core.flight.machine import (
    BY_GATEWAY,
    Command,
    Decision,
    Fact,
    Machine,
    Malformed,
    Recorded,
    Refusal,
    Rule,
    Unallowed,
)

TIMERS_MAX: Final = 64
"""Timers of one stream that wait at once."""
AHEAD_MAX_MS: Final = 400 * 86_400_000
"""A year and a month: schedules are published no further."""
DO_BYTES_MAX: Final = 32_768
"""Of what is to follow: the event that says that a timer fired has all of it and more, and must fit where the setting did."""
NAME_RE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "timer.set": frozenset(("name", "due", "do")),
    "timer.cancel": frozenset(("name",)),
    "timer.fire": frozenset(("name", "fence")),
}
_OWNER: Final = frozenset(("owner",))
TABLE: Final[Mapping[str, Rule]] = {
    rule.verb: rule
    for rule in (
        Rule(
            "timer.set",
            "Sets a timer, or moves the one of that name; what it is to `do` is a command of this stream.",
            ("timer.set",),
            roles=_OWNER,
            refusals=("unchanged", "too_many_timers", "too_far"),
        ),
        Rule("timer.cancel", "Takes a timer back.", ("timer.cancelled",), roles=_OWNER, refusals=("timer_gone",)),
        Rule(
            "timer.fire",
            "The timer is due: given by the gateway alone, with the seq of the event that set it.",
            ("timer.fired",),
            roles=_OWNER,
            refusals=("timer_gone", "too_early"),
        ),
    )
}

S = TypeVar("S")


class Timer(NamedTuple):
    """One that waits. ``fence`` is the seq of the event that set it; ``do`` a command's ``type`` and ``body``, or ``None``."""

    due_ms: int
    fence: int
    do: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class TimedState(Generic[S]):
    inner: S
    timers: Mapping[str, Timer]
    """By name; never changed in place."""


class Timed(Generic[S]):
    """See the module."""

    def __init__(self, machine: Machine[S]) -> None:
        self.machine = machine
        self.name = machine.name
        self.table: Mapping[str, Rule] = {**machine.table, **TABLE}

    def initial(self) -> TimedState[S]:
        return TimedState(self.machine.initial(), {})

    def decide(self, state: TimedState[S], command: Command, now_ms: int) -> Decision:
        if command.type not in self.table:
            return Malformed(f"no command {command.type!r} here; there are {', '.join(self.table)}")
        if command.type in TABLE:
            decision = self._timer(state.timers, command, now_ms)
        else:
            decision = self.machine.decide(state.inner, command, now_ms)
        if isinstance(decision, list):
            for fact in decision:
                if command.via:
                    fact.body["via"] = list(command.via)
                else:
                    fact.body.pop("via", None)
        return decision

    def evolve(self, state: TimedState[S], event: Recorded) -> TimedState[S]:
        if not event.type.startswith("timer."):
            inner = self.machine.evolve(state.inner, event)
            return state if inner is state.inner else TimedState(inner, state.timers)
        name = event.body.get("name")
        if not isinstance(name, str):
            return state
        timers = dict(state.timers)
        if event.type == "timer.set":
            due, do = times.read(event.body.get("due")), event.body.get("do")
            if due.ms < 0:
                return state
            timers[name] = Timer(due.ms, event.seq, do if isinstance(do, Mapping) else None)
        elif event.type in ("timer.cancelled", "timer.fired"):
            timers.pop(name, None)
        return TimedState(state.inner, timers)

    def show(self, state: TimedState[S]) -> dict[str, Any]:
        """The machine's own, and ``timers``: by name, ``due``, ``fence`` and, where something is to follow, ``do``."""
        shown = self.machine.show(state.inner)
        shown["timers"] = {
            name: {"due": times.write(timer.due_ms), "fence": timer.fence} | ({"do": timer.do} if timer.do else {})
            for name, timer in state.timers.items()
        }
        return shown

    def _timer(self, timers: Mapping[str, Timer], command: Command, now_ms: int) -> Decision:
        verb = command.type
        body: object = command.body
        if command.role not in TABLE[verb].roles:
            return Unallowed(f"{verb} is for owners of the stream")
        if verb == "timer.fire" and command.by != BY_GATEWAY:
            return Unallowed(
                "timers are fired by the gateway alone; to have it sooner, set it anew with an earlier `due`"
            )
        if not isinstance(body, Mapping) or not body.keys() <= FIELDS[verb]:
            return Malformed(f"the body of {verb} is an object of {', '.join(sorted(FIELDS[verb]))}")
        name = body.get("name")
        if not isinstance(name, str) or NAME_RE.match(name) is None:
            return Malformed("`name` is the timer's: 1 to 64 letters, digits, dots, colons, dashes and underscores")
        timer = timers.get(name)
        if verb == "timer.set":
            return self._set(timers, timer, name, command, now_ms)
        if timer is None:
            return Refusal("timer_gone", f"no timer {name} waits here: it was fired or cancelled, or never set")
        if verb == "timer.cancel":
            return [Fact("timer.cancelled", {"name": name})]
        fence = body.get("fence")
        if type(fence) is not int:
            return Malformed("`fence` is the seq of the event that set the timer")
        if fence != timer.fence:
            return Refusal(
                "timer_gone", f"timer {name} was set anew at seq {timer.fence}; the one of {fence} is no more"
            )
        due = times.write(timer.due_ms)
        if now_ms < timer.due_ms:
            return Refusal("too_early", f"timer {name} is due at {due}, and it is {times.write(now_ms)}")
        fired: dict[str, Any] = {"name": name, "due": due, "late_ms": now_ms - timer.due_ms, "fence": fence}
        return [Fact("timer.fired", fired if timer.do is None else fired | {"do": timer.do})]

    def _set(
        self, timers: Mapping[str, Timer], timer: Timer | None, name: str, command: Command, now_ms: int
    ) -> Decision:
        due, do = times.read(command.body.get("due")), command.body.get("do")
        if due.why:
            return Malformed(f"`due` {due.message}")
        if do is not None and (
            not isinstance(do, Mapping)
            or not {"type"} <= do.keys() <= {"type", "body"}
            or not isinstance(do.get("body", {}), Mapping)
        ):
            return Malformed("`do` is a command to give in this stream: {type, body}, or is left out")
        if do is not None and len(json.dumps(do, ensure_ascii=False).encode(errors="replace")) > DO_BYTES_MAX:
            return Malformed(f"`do` has at most {DO_BYTES_MAX} bytes as JSON")
        if do is not None and (do["type"] not in tuple(self.table) or do["type"] == "timer.fire"):
            verbs = ", ".join(verb for verb in self.table if verb != "timer.fire")
            return Malformed(f"`do.type` is a command of this stream: {verbs}")
        if timer is not None and timer.due_ms == due.ms and timer.do == do:
            return Refusal("unchanged", f"timer {name} is due at {times.write(due.ms)} already (seq {timer.fence})")
        if timer is None and len(timers) >= TIMERS_MAX:
            return Refusal("too_many_timers", f"{len(timers)} timers wait in this stream: cancel one first")
        if due.ms > now_ms + AHEAD_MAX_MS:
            return Refusal("too_far", "a timer is due within 400 days: set one that sets the next")
        body: dict[str, Any] = {"name": name, "due": times.write(due.ms)}
        return [Fact("timer.set", body if do is None else body | {"do": do})]


def timers_of(state: TimedState[Any]) -> Mapping[str, Timer]:
    """Those that wait, by name."""
    return state.timers
