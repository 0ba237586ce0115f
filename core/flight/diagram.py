"""The tables and the diagram of docs/flights.md, made from the machines themselves.

A table is a machine's own (`Machine.table`). The diagram of a flight's states is found by trying: a flight is brought into each
state, every verb is given there, and what the status is then is an arrow. ``GIVEN`` and ``WAYS`` are those flights and
commands; tests use them as well, to show that each verb is answered in each state as the table says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from core.flight import delays, times
from core.flight.leg_state import STATES, State, status
from core.flight.leg_times import MOVES
from core.flight.legs import LEGS
from core.flight.machine import Command, Recorded, Rule

Said = tuple[str, Mapping[str, Any]]
"""A verb and its body."""

NOW_MS: Final = times.read("2026-11-21T12:00Z").ms

_SCHEDULE: Final[Said] = (
    "schedule",
    {"flight": "QX12", "from": "MEL", "to": "SYD", "out": "2026-11-21T09:30Z", "in": "2026-11-21T10:55Z"},
)
_ESTIMATE: Final[Said] = ("estimate", {"milestone": "OUT", "at": "2026-11-21T09:40Z"})
_BOARD: Final[Said] = ("board", {"at": "2026-11-21T09:10Z"})
_OUT: Final[Said] = ("depart", {"at": "2026-11-21T09:32Z"})
_OFF: Final[Said] = ("takeoff", {"at": "2026-11-21T09:44Z"})
_ON: Final[Said] = ("land", {"at": "2026-11-21T10:41Z"})
_IN: Final[Said] = ("arrive", {"at": "2026-11-21T10:52Z"})
_DIVERT: Final[Said] = ("divert", {"to": "CBR", "at": "2026-11-21T10:20Z", "reason": "thunderstorm"})

WAYS: Final[Mapping[str, Sequence[Sequence[Said]]]] = {
    "new": ((),),
    "scheduled": ((_SCHEDULE,), (_SCHEDULE, _ESTIMATE)),
    "boarding": ((_SCHEDULE, _BOARD),),
    "departed": ((_SCHEDULE, _OUT), (_SCHEDULE, _BOARD, _OUT), (_SCHEDULE, _OUT, _OFF)),
    "landed": ((_SCHEDULE, _OUT, _OFF, _ON),),
    "completed": ((_SCHEDULE, _OUT, _OFF, _ON, _IN),),
    "diverted": ((_SCHEDULE, _OUT, _OFF, _DIVERT), (_SCHEDULE, _OUT, _OFF, _DIVERT, _ON)),
    "cancelled": ((_SCHEDULE, ("cancel", {"reason": "no crew"})), (_SCHEDULE, _BOARD, ("cancel", {"reason": "fog"}))),
}
"""How a flight comes into each state; of some, every way that makes a difference to what may follow."""

GIVEN: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "schedule": (_SCHEDULE[1],),
    "reschedule": ({"out": "2026-11-21T11:00Z", "in": "2026-11-21T12:30Z"},),
    "estimate": ({"milestone": "IN", "at": "2026-11-21T12:40Z"},),
    "target": ({"milestone": "IN", "at": "2026-11-21T12:40Z"},),
    "board": (_BOARD[1],),
    "depart": ({"at": "2026-11-21T09:31Z"},),
    "takeoff": ({"at": "2026-11-21T09:45Z"},),
    "land": ({"at": "2026-11-21T10:42Z"},),
    "arrive": ({"at": "2026-11-21T10:53Z"},),
    "movement": ({"actual": {"OUT": "2026-11-21T09:31Z", "OFF": "2026-11-21T09:45Z"}},),
    "gate": ({"departure": {"gate": "7"}},),
    "delay": ({"reasons": [{"code": "93", "minutes": 15}]},),
    "equip": ({"registration": "VH-QXB", "type": "DH8D"},),
    "cancel": ({"reason": "no crew"},),
    "reinstate": ({},),
    "divert": ({"to": "NTL", "at": "2026-11-21T10:30Z", "reason": "fog"},),
    "continue": ({"out": "2026-11-21T12:30Z", "in": "2026-11-21T13:20Z"},),
    "return": (
        {"to": "gate", "at": "2026-11-21T11:00Z", "reason": "a door light"},
        {"to": "field", "at": "2026-11-21T11:00Z", "reason": "a bird"},
    ),
    "correct": tuple({"ref": ref, "at": f"2026-11-21T10:{ref}7Z", "why": "misread"} for ref in range(2, 6)),
    "withdraw": tuple({"ref": ref, "why": "misread"} for ref in range(1, 6)),
}
"""By verb, what is given in every state. Where it is of several, one of them is obeyed where the table says so."""


def flights_in(state: str) -> Iterator[State]:
    """Flights that are in that state, each come there by another way."""
    for way in WAYS[state]:
        flight = LEGS.initial()
        for seq, (verb, body) in enumerate(way, 1):
            decision = LEGS.decide(flight, Command(verb, body, "user:amy", "owner"), NOW_MS)
            assert isinstance(decision, list), (verb, decision)
            flight = LEGS.evolve(flight, Recorded(seq, decision[0].type, "user:amy", NOW_MS, decision[0].body))
        assert status(flight) == state
        yield flight


def arrows() -> dict[tuple[str, str], list[str]]:
    """The verbs by which a flight goes from one state to another."""
    found: dict[tuple[str, str], list[str]] = {}
    for state in STATES:
        for flight in flights_in(state):
            for verb, bodies in GIVEN.items():
                for body in bodies:
                    decision = LEGS.decide(flight, Command(verb, body, "user:amy", "owner"), NOW_MS)
                    after = flight
                    for fact in decision if isinstance(decision, list) else ():
                        after = LEGS.evolve(after, Recorded(9, fact.type, "user:amy", NOW_MS, fact.body))
                    verbs = found.setdefault((state, status(after)), [])
                    if verb not in verbs:
                        verbs.append(verb)
    return {ends: verbs for ends, verbs in found.items() if ends[0] != ends[1]}


_NEXT: Final = {
    "boarding": ("departed",),
    "scheduled": ("departed",),
    "departed": ("landed",),
    "landed": ("completed",),
}


def states() -> str:
    """A mermaid state diagram. Milestones that come out of order leap over states; those leaps are left out."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    for (start, end), verbs in arrows().items():
        leap = end not in _NEXT.get(start, ())
        drawn = [verb for verb in verbs if not (leap and (verb in MOVES or verb == "movement"))]
        if drawn:
            lines.append(f"    {start} --> {end}: {', '.join(drawn)}")
    return "\n".join([*lines, "    completed --> [*]", "```"])


def verbs(table: Mapping[str, Rule], fields: Mapping[str, Iterable[str]] | None = None) -> str:
    """A machine's table in Markdown; with ``fields``, what the body of each verb may have."""
    heads = ["verb", "what it says", "by", "obeyed when", "becomes", "may be refused as"]
    if fields is not None:
        heads.insert(1, "body")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for rule in table.values():
        cells = [
            f"`{rule.verb}`",
            rule.says,
            "owners" if rule.roles == {"owner"} else "owners, members",
            ", ".join(rule.when) or "always",
            _code(rule.facts),
            _code(rule.refusals) or "–",
        ]
        if fields is not None:
            cells.insert(1, _code(sorted(fields[rule.verb])))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _code(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def codes() -> str:
    """The delay codes of AHM 730 in Markdown."""
    lines = ["| code | letters | group | about |", "|---|---|---|---|"]
    for code, (letters, meaning) in sorted(delays.CODES.items()):
        lines.append(f"| {code} | {letters or '–'} | {delays.GROUPS[code[0]]} | {meaning} |")
    return "\n".join(lines)
