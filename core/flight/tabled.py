"""What machines have in common whose table says by verb who may, which fields there are, and what decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from core.flight.body import Fields, stray
from core.flight.machine import Command, Decision, Malformed, Refusal, Rule, Unallowed
from core.flight.times import write

SLACK_MS: Final = 60_000
"""How far ahead of the gateway's clock another's may be."""

S = TypeVar("S")
A = TypeVar("A")


class Asked:
    """One command being decided: what it says, and when. What it meets is added by who decides."""

    __slots__ = ("command", "fields", "now_ms")

    def __init__(self, command: Command, now_ms: int) -> None:
        self.command = command
        self.fields = Fields(command.body)
        self.now_ms = now_ms

    def happened(self, at_ms: int) -> Refusal | None:
        """Why it cannot have happened then."""
        if at_ms > self.now_ms + SLACK_MS:
            return Refusal("impossible_time", f"{write(at_ms)} is yet to come; `at` says when it happened")
        return None


class Tabled(Generic[S, A]):
    """The deciding half of a `core.flight.machine.Machine`. ``ask`` makes what a verb's function is given."""

    def __init__(
        self,
        rules: Sequence[tuple[Rule, Callable[[A], Decision]]],
        fields: Mapping[str, frozenset[str]],
        ask: Callable[[S, Command, int], A],
    ) -> None:
        self.table: Mapping[str, Rule] = {rule.verb: rule for rule, _ in rules}
        self._obey = {rule.verb: obey for rule, obey in rules}
        self._fields = fields
        self._ask = ask

    def decide(self, state: S, command: Command, now_ms: int) -> Decision:
        rule = self.table.get(command.type)
        if rule is None:
            return Malformed(f"no command {command.type!r} here; there are {', '.join(self.table)}")
        if command.role not in rule.roles:
            return Unallowed(f"{rule.verb} is for owners of the stream")
        if (wrong := stray(command.body, self._fields[rule.verb], rule.verb)) is not None:
            return wrong
        return self._obey[rule.verb](self._ask(state, command, now_ms))
