"""A flight that commands are given to, for tests of its legs."""

from __future__ import annotations

from typing import Any, Final

from core.flight import times
from core.flight.leg_state import State
from core.flight.legs import LEGS
from core.flight.machine import Command, Decision, Fact, Malformed, Recorded, Refusal

NOW: Final = "2026-11-21T12:00Z"
SCHEDULE: Final = {"flight": "QX12", "from": "MEL", "to": "SYD", "out": "2026-11-21T09:30Z", "in": "2026-11-21T10:55Z"}


def ms(text: str) -> int:
    """Of a time, or of an hour and minute on the day of the flight."""
    return times.read(text if "T" in text else f"2026-11-21T{text}Z").ms


def at(text: str) -> str:
    return times.write(ms(text))


class Flight:
    """``events`` are what its stream would have."""

    def __init__(self, *, scheduled: bool = True) -> None:
        self.state: State = LEGS.initial()
        self.events: list[Recorded] = []
        if scheduled:
            self.did("schedule", SCHEDULE)

    def give(
        self, verb: str, body: Any = None, *, now: str = NOW, by: str = "user:amy", role: str = "owner", **more: Any
    ) -> Decision:
        """What the machine answers; facts become events."""
        assert body is None or not more, "a body, or its fields"
        decision = LEGS.decide(self.state, Command(verb, more if body is None else body, by, role), ms(now))
        for fact in decision if isinstance(decision, list) else ():
            self.record(fact, now=now, by=by)
        return decision

    def record(self, fact: Fact, *, now: str = NOW, by: str = "user:amy") -> None:
        self.events.append(Recorded(len(self.events) + 1, fact.type, by, ms(now), fact.body))
        self.state = LEGS.evolve(self.state, self.events[-1])

    def did(self, verb: str, body: Any = None, **more: Any) -> list[Fact]:
        decision = self.give(verb, body, **more)
        assert isinstance(decision, list), (verb, decision)
        return decision

    def refused(self, verb: str, body: Any = None, **more: Any) -> Refusal:
        before = self.state
        decision = self.give(verb, body, **more)
        assert isinstance(decision, Refusal), (verb, decision)
        assert self.state is before
        return decision

    def malformed(self, verb: str, body: Any = None, **more: Any) -> str:
        decision = self.give(verb, body, **more)
        assert isinstance(decision, Malformed), (verb, decision)
        return decision.message

    @property
    def seq(self) -> int:
        """Of the last event."""
        return len(self.events)

    @property
    def shown(self) -> dict[str, Any]:
        return LEGS.show(self.state)

    @property
    def status(self) -> str:
        return str(self.shown["status"])

    def best(self, milestone: str) -> str | None:
        """To the minute, where it is on the day of the flight."""
        best = self.shown["times"][milestone]["best"]
        return None if best is None else str(best)[11:16]


def flown(*, to: str = "IN") -> Flight:
    """A flight that went as planned, as far as ``to``."""
    flight = Flight()
    for verb, milestone, time in (
        ("depart", "OUT", "09:32"),
        ("takeoff", "OFF", "09:44"),
        ("land", "ON", "10:41"),
        ("arrive", "IN", "10:52"),
    ):
        flight.did(verb, at=at(time))
        if milestone == to:
            break
    return flight
