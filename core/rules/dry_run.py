"""What rules would have done: the engine over histories, with a clock that is simulated from the events' own times.

For: `readback rules test`, and whoever wants to know before a rule is in force. Timers that the rules set fire exactly when
they are due, between the events. What the rules in force did at the time is part of the history and stays in it, apart from
their timers; what these rules *would* have given (commands, messages) is told and not done, so nothing follows of it.

Promises: the same histories give the same report. Firings that are kept whole, streams and timers are bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from core.flight.machine import BY_GATEWAY, Machine, Recorded
from core.flight.registry import machine_of
from core.rules.engine import step
from core.rules.expr import time_text
from core.rules.model import VERDICTS, Rule, RuleSet, Step, timer_of
from core.rules.waits import pending
from core.work import Firing

FIRST: Final = 5
"""Firings of a rule that a report shows, where it is not told how many."""

TIMERS_MAX: Final = 10_000
"""Timers that are simulated in one stream; past that it is left, and the report says so."""

REASONS_MAX: Final = 5
"""Different errors of a rule that a report shows."""


class History(NamedTuple):
    """One stream's events, in order, from its first."""

    tenant: str
    stream: str
    events: Iterable[Recorded]


@dataclass(slots=True)
class RuleReport:
    """What became of one rule. ``first`` are its first firings that fired or failed."""

    rule: Rule
    verdicts: Counter[str] = field(default_factory=Counter)
    streams: set[tuple[str, str]] = field(default_factory=set)
    """Where it fired."""
    later: int = 0
    """Steps that were taken later than the firing that they belong to."""
    actions: Counter[str] = field(default_factory=Counter)
    first: list[Firing] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    waiting: int = 0
    """Streams in which it waits at the end."""

    def json(self) -> dict[str, Any]:
        return {
            "rule": self.rule.id,
            "version": self.rule.version,
            "says": self.rule.says,
            "severity": self.rule.severity,
            **{verdict: self.verdicts[verdict] for verdict in VERDICTS},
            "later": self.later,
            "streams": len(self.streams),
            "actions": dict(self.actions),
            "waiting": self.waiting,
            "errors": self.errors,
            "first": [firing._asdict() | {"at": time_text(firing.at_ms)} for firing in self.first],
        }


@dataclass(slots=True)
class Report:
    """By rule, in the order of their files. ``cut`` are streams that were left because of `TIMERS_MAX`."""

    rules: dict[str, RuleReport]
    streams: int = 0
    events: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    cut: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        return {
            "streams": self.streams,
            "events": self.events,
            "first": None if self.first_ms is None else time_text(self.first_ms),
            "last": None if self.last_ms is None else time_text(self.last_ms),
            "cut": self.cut,
            "rules": [rule.json() for rule in self.rules.values()],
        }


class DryRun:
    """Takes histories one after the other; `report` grows with each.

    Every rule is judged as if it had been in force all along (`RuleSet.newest`), unless ``dated``. Firings before
    ``since_ms`` are not counted, though what was waited for then is; nothing after ``until_ms`` happens.
    """

    def __init__(
        self,
        rules: RuleSet,
        *,
        since_ms: int = 0,
        until_ms: int | None = None,
        first: int = FIRST,
        dated: bool = False,
    ) -> None:
        self.rules = rules if dated else rules.newest()
        self.report = Report({rule.id: RuleReport(rule) for rule in self.rules.rules})
        self.until_ms = until_ms
        self._since_ms = since_ms
        self._first = first

    def begin(self, tenant: str, stream: str) -> Run:
        """A stream, whose events are to be given to `Run.event` in order, and then `Run.end`."""
        self.report.streams += 1
        return Run(self, tenant, stream)

    def take(self, history: History, until_ms: int) -> None:
        """A whole stream; what is waited for when its events end is until then."""
        run = self.begin(history.tenant, history.stream)
        for event in history.events:
            run.event(event)
        run.end(until_ms)

    def count(self, run: Run, firings: Iterable[Firing]) -> None:
        for firing in firings:
            if firing.at_ms < self._since_ms:
                continue
            of = self.report.rules[firing.rule]
            if firing.verdict == "fired" and "step" in firing.inputs:
                of.later += 1
            else:
                of.verdicts[firing.verdict] += 1
            if firing.verdict == "fired":
                of.streams.add((run.tenant, run.stream))
                of.actions.update(action["kind"] for action in firing.actions)
            reason = firing.inputs.get("reason", "")
            if firing.verdict in ("error", "loop") and reason not in of.errors and len(of.errors) < REASONS_MAX:
                of.errors.append(reason)
            if firing.verdict in ("fired", "error", "loop") and len(of.first) < self._first:
                of.first.append(firing)


class Run:
    """One stream's."""

    def __init__(self, owner: DryRun, tenant: str, stream: str) -> None:
        self.owner = owner
        self.tenant = tenant
        self.stream = stream
        self.memory: dict[str, Any] = {}
        self.machine: Machine[Any] | None = machine_of(stream)
        self.state: Any = None if self.machine is None else self.machine.initial()
        self.seq = 0
        self.fired = 0

    def event(self, event: Recorded) -> None:
        until_ms = self.owner.until_ms
        if until_ms is not None and event.at_ms > until_ms:
            return
        self.until(event.at_ms)
        report = self.owner.report
        report.events += 1
        report.first_ms = event.at_ms if report.first_ms is None else min(report.first_ms, event.at_ms)
        report.last_ms = event.at_ms if report.last_ms is None else max(report.last_ms, event.at_ms)
        if self.machine is not None:
            self.state = self.machine.evolve(self.state, event)
        self.seq = event.seq
        if event.type.startswith("timer.") and timer_of(event.body.get("name")) is not None:
            return  # of the rules in force then
        self.take(event)

    def end(self, until_ms: int) -> None:
        """No event came up to and at this time, or `DryRun.until_ms` where that is earlier."""
        if self.owner.until_ms is not None:
            until_ms = min(until_ms, self.owner.until_ms)
        self.until(until_ms + 1)
        for id in {timer[0] for name in pending(self.memory) if (timer := timer_of(name)) is not None}:
            self.owner.report.rules[id].waiting += 1

    def until(self, at_ms: int) -> None:
        """Timers that are due before then fire, each at its time."""
        while waiting := pending(self.memory):
            due, name = min((due, name) for name, due in waiting.items())
            if due >= at_ms:
                return
            if self.fired >= TIMERS_MAX:
                self.owner.report.cut.append(self.stream)
                self.memory = {}
                return
            self.fired += 1
            body = {"name": name, "due": time_text(due), "late_ms": 0}
            self.take(Recorded(self.seq, "timer.fired", BY_GATEWAY, due, body))

    def take(self, event: Recorded) -> None:
        found: Step = step(self.owner.rules, self.memory, self.tenant, self.stream, event, self.show)
        self.memory = found.memory
        self.owner.count(self, found.firings)

    def show(self) -> dict[str, Any]:
        return {} if self.machine is None else self.machine.show(self.state)


def dry_run(rules: RuleSet, histories: Iterable[History], until_ms: int, **options: Any) -> Report:
    """What the rules would have done in all of these; options as of `DryRun`."""
    run = DryRun(rules, until_ms=until_ms, **options)
    for history in histories:
        run.take(history, until_ms)
    return run.report
