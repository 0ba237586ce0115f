"""Rules on a bench: a text of TOML becomes rules, and a stream is told event by event what the rules make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.flight import times
from core.flight.machine import BY_GATEWAY, Recorded
from core.rules.engine import step
from core.rules.load import Problem, load
from core.rules.model import Action, RuleSet, Step
from core.rules.waits import pending

START = "2026-11-21T06:00:00.000Z"
HEAD = '[[rule]]\nid = "r"\nversion = "1"\ntenants = ["*"]\n'
SAY = '\n[[rule.do]]\nmessage.text = "said"\n'


def ms(text: str) -> int:
    found = times.read(text)
    assert not found.why, found.message
    return found.ms


def text(at_ms: int) -> str:
    return times.write(at_ms)


def rules(*texts: str) -> RuleSet:
    """Rules that load."""
    found = load([(f"f{at}.toml", text) for at, text in enumerate(texts)])
    assert isinstance(found, RuleSet), [str(problem) for problem in found]
    return found


def one(when: str, *, head: str = "", do: str = SAY) -> str:
    """A rule called r with this trigger, as text."""
    return f"{HEAD}{head}\n[rule.when]\n{when}\n{do}"


def problems(*texts: str, facts: Mapping[str, tuple[str, ...]] | None = None) -> list[str]:
    """What is wrong, as it is told."""
    found = load([(f"f{at}.toml", text) for at, text in enumerate(texts)], facts)
    assert isinstance(found, list), "nothing is wrong"
    assert all(isinstance(problem, Problem) for problem in found)
    return [str(problem) for problem in found]


class Told:
    """One stream. ``state`` is what its machine would show; time is in seconds since `START`."""

    def __init__(self, rules: RuleSet, stream: str = "flight:QX12", tenant: str = "demo") -> None:
        self.rules = rules
        self.stream = stream
        self.tenant = tenant
        self.state: dict[str, Any] = {}
        self.memory: dict[str, Any] = {}
        self.seq = 0
        self.last = Step({}, [], [])

    def event(
        self, type: str, at_s: float = 0, body: Mapping[str, Any] | None = None, by: str = "user:amy"
    ) -> list[str]:
        """The verdicts it led to, with their rules."""
        self.seq += 1
        event = Recorded(self.seq, type, by, ms(START) + int(at_s * 1000), body or {})
        self.last = step(self.rules, self.memory, self.tenant, self.stream, event, self.state)
        self.memory = self.last.memory
        return [f"{firing.rule} {firing.verdict}" for firing in self.last.firings]

    def fire(self, name: str = "rule:r", late_s: float = 0) -> list[str]:
        """The timer that the rules wait by fires."""
        due = self.waits()[name]
        return self.fire_at(name, due, late_s)

    def fire_at(self, name: str, due_s: float, late_s: float = 0) -> list[str]:
        due = text(ms(START) + int(due_s * 1000))
        body = {"name": name, "due": due, "late_ms": int(late_s * 1000)}
        return self.event("timer.fired", due_s + late_s, body, BY_GATEWAY)

    def waits(self) -> dict[str, float]:
        """Timers that the memory stands for, in seconds since `START`."""
        return {name: (due - ms(START)) / 1000 for name, due in pending(self.memory).items()}

    def reason(self) -> str:
        return str(self.last.firings[-1].inputs.get("reason", ""))

    def done(self) -> list[str]:
        """Kinds of the actions given, timers among them by their verbs and names."""
        return [_short(action) for action in self.last.actions]


def _short(action: Action) -> str:
    return f"{action.type} {action.body['name']}" if action.type.startswith("timer.") else action.kind
