"""What every state machine of the flight domain is: commands in, facts or a refusal out, facts folded into a state.

For: streams whose truth is decided here (`core.flight.registry` says which machine decides in which stream). A machine
decides from the state alone, which is the fold of the stream's own events; it knows no clock, no store and no other stream.
What it answers is kept in the log either way: facts as events, a refusal as the command's stored verdict, so that the same
command asked again is answered the same.

Promises of a machine: `decide` never raises for any JSON; whatever it answers, `evolve` takes, and every event that any
version of it ever wrote; `evolve` never fails on an event of a type it does not know (chat in a flight's stream is such).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

Body = Mapping[str, Any]
"""Parsed JSON of an event or a command. Times in it are RFC 3339 UTC texts with milliseconds."""

BY_GATEWAY: Final = "service:readback"
"""Who gives the commands of rules, timers and sagas. No token can be of this principal."""


class Command(NamedTuple):
    """What somebody wants to happen. ``role`` is `owner` or `member` in the stream; ``via`` names the rules that led to it."""

    type: str
    body: Body
    by: str
    role: str
    via: tuple[str, ...] = ()


class Fact(NamedTuple):
    """What has happened, and is to be an event of the stream."""

    type: str
    body: dict[str, Any]


class Recorded(NamedTuple):
    """An event as machines and rules see it. ``at_ms`` is when it was recorded, by whom; the body says when it is true."""

    seq: int
    type: str
    by: str
    at_ms: int
    body: Body


class Refusal(NamedTuple):
    """The state says no. ``reason`` is a word that programs compare (`wrong_state`, `seat_taken`, …), ``message`` says to a
    person what is and what to do, ``cite`` names the paragraph of a rule pack, where one was broken."""

    reason: str
    message: str
    cite: str = ""


class Malformed(NamedTuple):
    """No command that could ever be obeyed: `bad_request` on the wire, and no verdict is kept."""

    message: str


class Unallowed(NamedTuple):
    """This role may not: `forbidden` on the wire, and no verdict is kept."""

    message: str


Decision = list[Fact] | Refusal | Malformed | Unallowed
"""Facts are never empty: a command that would change nothing is a `Refusal` (`unchanged`)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a machine's table, from which code, docs and diagram are made.

    ``verb`` is the command's type; ``roles`` who may give it; ``when`` the states in which it is obeyed, in the machine's
    own words, empty for all; ``facts`` the types of what it may write; ``refusals`` every reason it may be refused for;
    ``says`` what it does, in a sentence.
    """

    verb: str
    says: str
    facts: tuple[str, ...]
    when: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset(("owner", "member"))
    refusals: tuple[str, ...] = ()


S = TypeVar("S")


class Machine(Protocol[S]):
    """See the module. States are values: `evolve` answers a new one and leaves the old as it was."""

    name: str
    table: Mapping[str, Rule]
    """By verb."""

    def initial(self) -> S: ...

    def decide(self, state: S, command: Command, now_ms: int) -> Decision:
        """What becomes of the command at ``now_ms`` (Unix milliseconds)."""
        ...

    def evolve(self, state: S, event: Recorded) -> S: ...

    def show(self, state: S) -> dict[str, Any]:
        """The state as JSON for people, programs and rules (``flight.status`` in a rule is of this). Stable field names."""
        ...
