"""core.flight.legs: whatever is said, by anybody, in any order, a flight stays one that can be."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.flight import times
from core.flight.leg_state import ACTUAL, MILESTONES, STATES, holds, status
from core.flight.leg_table import FIELDS, TABLE
from core.flight.leg_view import fold, show
from core.flight.legs import LEGS
from core.flight.machine import Command, Malformed, Recorded, Refusal, Unallowed
from tests.legs import SCHEDULE, ms

MINUTE_MS = 60_000
MINUTES = st.integers(-90, 300)
SOURCES = st.sampled_from(["acars", "atc", "ops", "desk"])
MOVES = st.sampled_from(["depart", "takeoff", "land", "arrive"])
PLACES = st.sampled_from(["SYD", "CBR", "NTL", "MEL"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)


class FlightOfAnyDay(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = LEGS.initial()
        self.events: list[Recorded] = []
        self.now_ms = ms("09:00")

    def _at(self, minutes: int) -> str:
        return times.write(ms("09:30") + minutes * MINUTE_MS)

    def _give(self, verb: str, body: Any, role: str = "owner") -> None:
        before = self.state
        decision = LEGS.decide(before, Command(verb, body, "user:amy", role), self.now_ms)
        again = LEGS.decide(before, Command(verb, body, "user:amy", role), self.now_ms)
        assert decision == again
        rule_ = TABLE.get(verb)
        if isinstance(decision, list):
            assert rule_ is not None
            assert decision
            assert status(before) in rule_.when
            assert role in rule_.roles
            for fact in decision:
                assert fact.type in rule_.facts
                self.events.append(Recorded(len(self.events) + 1, fact.type, "user:amy", self.now_ms, fact.body))
                after = LEGS.evolve(self.state, self.events[-1])
                assert after != self.state, "a fact that changes nothing"
                self.state = after
        elif isinstance(decision, Refusal):
            assert rule_ is not None
            assert decision.reason in rule_.refusals
        else:
            assert isinstance(decision, Malformed | Unallowed)
        assert LEGS.decide(before, Command(verb, body, "user:amy", role), self.now_ms) == decision

    @initialize(scheduled=st.booleans())
    def begin(self, scheduled: bool) -> None:
        if scheduled:
            self._give("schedule", SCHEDULE)

    @rule(minutes=st.integers(0, 60))
    def wait(self, minutes: int) -> None:
        self.now_ms += minutes * MINUTE_MS

    @rule(verb=MOVES, minutes=MINUTES, source=SOURCES)
    def move(self, verb: str, minutes: int, source: str) -> None:
        self._give(verb, {"at": self._at(minutes), "source": source})

    @rule(
        actual=st.dictionaries(st.sampled_from(MILESTONES), MINUTES, max_size=4),
        estimated=st.dictionaries(st.sampled_from(MILESTONES), MINUTES, max_size=2),
        source=SOURCES,
    )
    def movement(self, actual: dict[str, int], estimated: dict[str, int], source: str) -> None:
        told = {name: self._at(minutes) for name, minutes in actual.items()}
        expected = {name: self._at(minutes) for name, minutes in estimated.items()}
        self._give("movement", {"actual": told, "estimated": expected, "source": source})

    @rule(verb=st.sampled_from(["estimate", "target"]), milestone=st.sampled_from(MILESTONES), minutes=MINUTES)
    def expect(self, verb: str, milestone: str, minutes: int) -> None:
        self._give(verb, {"milestone": milestone, "at": self._at(minutes)})

    @rule(minutes=MINUTES, length=st.integers(-10, 200))
    def plan(self, minutes: int, length: int) -> None:
        planned = {"out": self._at(minutes), "in": self._at(minutes + length)}
        self._give("reschedule", planned)
        self._give("schedule", SCHEDULE | planned)
        self._give("continue", planned)

    @rule(to=PLACES, minutes=MINUTES, eta=st.none() | MINUTES)
    def divert(self, to: str, minutes: int, eta: int | None) -> None:
        body: dict[str, Any] = {"to": to, "at": self._at(minutes), "reason": "fog"}
        self._give("divert", body if eta is None else body | {"eta": self._at(eta)})

    @rule(to=st.sampled_from(["gate", "field"]), minutes=MINUTES)
    def come_back(self, to: str, minutes: int) -> None:
        self._give("return", {"to": to, "at": self._at(minutes), "reason": "a light"})

    @rule(verb=st.sampled_from(["cancel", "reinstate", "board"]))
    def plainly(self, verb: str) -> None:
        self._give(verb, {} if verb == "board" else {"reason": "why not"})

    @rule(ref=st.integers(1, 20), minutes=MINUTES)
    def correct(self, ref: int, minutes: int) -> None:
        self._give("correct", {"ref": ref, "at": self._at(minutes), "why": "misread"})

    @rule(ref=st.integers(1, 20))
    def withdraw(self, ref: int) -> None:
        self._give("withdraw", {"ref": ref, "why": "misread"})

    @rule(gate=st.sampled_from(["1", "2"]), registration=st.sampled_from(["VH-QXA", "VH-QXB"]))
    def place(self, gate: str, registration: str) -> None:
        self._give("gate", {"departure": {"gate": gate}})
        self._give("equip", {"registration": registration})
        self._give("delay", {"reasons": [{"code": "93", "minutes": int(gate)}]})

    @rule(
        verb=st.sampled_from([*TABLE, "fly"]),
        data=st.data(),
        role=st.sampled_from(["owner", "member", "reader"]),
    )
    def anything(self, verb: str, data: st.DataObject, role: str) -> None:
        names = st.sampled_from(sorted(FIELDS.get(verb, frozenset(("at",)))))
        self._give(verb, data.draw(st.dictionaries(names, JSON, max_size=4) | JSON), role)

    @invariant()
    def what_was_goes_forward(self) -> None:
        """OUT, OFF, ON, IN as they hold are in order, of this attempt, and none is in the future."""
        leg = self.state.leg
        if leg is None:
            return
        been = [said.at_ms for milestone in range(4) if (said := holds(leg, milestone, ACTUAL))]
        assert been == sorted(been)
        assert all(leg.since_ms <= at_ms <= self.now_ms + 600_000 for at_ms in been)

    @invariant()
    def the_log_says_all(self) -> None:
        """The state is the fold of its events, and can be shown; as of now it is the same."""
        assert fold(self.events) == self.state
        assert fold(self.events, self.now_ms, self.now_ms + 600_000) == self.state
        assert show(self.state)["status"] == status(self.state)
        assert status(self.state) in STATES

    @invariant()
    def any_moment_can_be_asked_about(self) -> None:
        """And what was not yet, or not yet known, shows nothing that was said later."""
        for back in (0, 30, 120):
            as_of_ms = self.now_ms - back * MINUTE_MS
            past = show(fold(self.events, as_of_ms, as_of_ms))
            assert len(past["corrections"]) <= len(self.events)
            for milestone in past["times"].values():
                assert milestone["actual"] is None or times.read(milestone["actual"]).ms <= as_of_ms


FlightOfAnyDay.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyDay = FlightOfAnyDay.TestCase
TestAnyDay.__doc__ = (
    "Random days: the flight's times are in order, its log says all of it, and every answer is in the table."
)
