"""A desk that gives commands to one stream of a machine and keeps what came of them, as the log would.

Each answer is held to the machine's table: only facts and reasons that the verb's rule lists, and no state changed in place.
"""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

from core.flight.machine import Command, Decision, Fact, Machine, Malformed, Recorded, Refusal, Unallowed
from core.flight.times import read
from core.model import FACTS_MAX

S = TypeVar("S")


def ms(text: str) -> int:
    at = read(text)
    assert not at.why, at.message
    return at.ms


class Desk(Generic[S]):
    def __init__(self, machine: Machine[S], now: str = "2026-11-21T06:00:00Z") -> None:
        self.machine = machine
        self.state = machine.initial()
        self.now_ms = ms(now)
        self.events: list[Recorded] = []
        self.reasons: set[tuple[str, str]] = set()
        """(verb, reason) of every refusal so far."""

    def ask(self, verb: str, as_role: str = "owner", by: str = "user:ann", **body: Any) -> Decision:
        """What would become of it."""
        decision = self.machine.decide(self.state, Command(verb, body, by, as_role), self.now_ms)
        rule = self.machine.table.get(verb)
        if isinstance(decision, list):
            assert 1 <= len(decision) <= FACTS_MAX
            assert rule is not None
            assert {fact.type for fact in decision} <= set(rule.facts)
        elif isinstance(decision, Refusal):
            assert rule is not None
            assert decision.reason in rule.refusals, decision
            assert decision.message
            self.reasons.add((verb, decision.reason))
        return decision

    def record(self, facts: list[Fact], by: str = "user:ann") -> None:
        for fact in facts:
            body = json.loads(json.dumps(fact.body))
            event = Recorded(len(self.events) + 1, fact.type, by, self.now_ms, body)
            before = json.dumps(self.machine.show(self.state))
            after = self.machine.evolve(self.state, event)
            assert json.dumps(self.machine.show(self.state)) == before, "the old state was changed"
            self.state = after
            self.events.append(event)

    def tell(self, verb: str, as_role: str = "owner", by: str = "user:ann", **body: Any) -> Decision:
        """Ask, and record what was decided."""
        decision = self.ask(verb, as_role, by, **body)
        if isinstance(decision, list):
            self.record(decision, by)
        return decision

    def done(self, verb: str, as_role: str = "owner", by: str = "user:ann", **body: Any) -> list[Fact]:
        decision = self.tell(verb, as_role, by, **body)
        assert isinstance(decision, list), decision
        return decision

    def refused(self, verb: str, as_role: str = "owner", by: str = "user:ann", **body: Any) -> str:
        """The reason."""
        decision = self.tell(verb, as_role, by, **body)
        assert isinstance(decision, Refusal), decision
        return decision.reason

    def malformed(self, verb: str, as_role: str = "owner", by: str = "user:ann", **body: Any) -> str:
        decision = self.tell(verb, as_role, by, **body)
        assert isinstance(decision, Malformed), decision
        return decision.message

    def unallowed(self, verb: str, **body: Any) -> bool:
        return isinstance(self.tell(verb, "member", **body), Unallowed)

    def show(self) -> dict[str, Any]:
        return self.machine.show(self.state)

    def later(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
