"""core.flight.crew under any commands in any order, beside a model that is plain: a list of duties and one of absences.

Whatever is asked, no two duties that were assigned overlap, none is in an absence, none is lost; what was assigned keeps the
pack's plainest limits by brute force; and folding the events gives the state that commands were decided over.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.flight.crew import CREW
from core.flight.duty_time import DAY_MS, HOUR_MS
from core.flight.times import write
from tests.flight_desk import Desk

FLIGHTS = st.sampled_from([f"F{n}" for n in range(5)])
HOUR = st.integers(-12, 60)
PICK = st.integers(0, 9)
"""Which of the duties there are."""
LONG = st.sampled_from([2, 5, 9, 12, 14, 15])


class CrewBeside(RuleBasedStateMachine):
    """``duties`` is the model: report, release and flight time in ms by flight, as planned or as told since."""

    @initialize(pack=st.sampled_from(["far135", "cao48"]))
    def register(self, pack: str) -> None:
        self.desk = Desk(CREW)
        self.zero_ms = self.desk.now_ms
        self.desk.done("register", base="BNE", roles=["captain"], pack=pack)
        self.pack = pack
        self.duties: dict[str, tuple[int, int, int]] = {}
        self.status: dict[str, str] = {}
        self.absences: set[tuple[int, int]] = set()

    def _tell(self, verb: str, **body: Any) -> bool:
        return isinstance(self.desk.tell(verb, **body), list)

    def _at(self, hour: float) -> int:
        return self.zero_ms + round(hour * HOUR_MS)

    @rule(hours=st.sampled_from([1, 6, 14]))
    def wait(self, hours: int) -> None:
        self.desk.later(hours * 3600)

    @rule(flight=FLIGHTS, hour=HOUR, long=LONG, share=st.sampled_from([0.0, 0.4, 0.8]))
    def assign(self, flight: str, hour: int, long: int, share: float) -> None:
        start, end = self._at(hour), self._at(hour + long)
        block = round(long * 60 * share)
        overlap = any(begin < end and start < until for begin, until, _ in self.duties.values())
        absent = any(begin < end and start < until for begin, until in self.absences)
        if not self._tell(
            "assign",
            flight=flight,
            role="captain",
            report_at=write(start),
            release_at=write(end),
            block_minutes=block,
        ):
            return
        assert not overlap, "two duties at once"
        assert not absent, "on duty while away"
        assert flight not in self.duties, "assigned twice"
        self.duties[flight], self.status[flight] = (start, end, block * 60_000), "assigned"
        if self.pack == "far135":
            assert block <= 600
            self._rested(start, end)
        else:
            assert end - start <= 13 * HOUR_MS
            before = [until for begin, until, _ in self.duties.values() if begin < start]
            gap = start - max(before, default=start - DAY_MS)
            assert gap < 6 * HOUR_MS or gap >= 10 * HOUR_MS, "neither one period nor rest between two"

    def _rested(self, start: int, end: int) -> None:
        """Ten hours without duty in the 24 before the end, looked for in steps of a minute."""
        busy = [(begin, until) for begin, until, _ in self.duties.values()]
        free = 0
        at = end - DAY_MS
        while at < start and free < 600:
            free = 0 if any(begin <= at < until for begin, until in busy) else free + 1
            at += 60_000
        assert free >= 600, "assigned without rest"

    def _pick(self, pick: int) -> str:
        return sorted(self.duties)[pick % len(self.duties)]

    @precondition(lambda self: self.duties)
    @rule(pick=PICK)
    def release(self, pick: int) -> None:
        flight = self._pick(pick)
        if self._tell("release", flight=flight, why="so"):
            assert self.status.pop(flight) == "assigned"
            del self.duties[flight]

    @precondition(lambda self: self.duties)
    @rule(pick=PICK, in_time=st.booleans())
    def report(self, pick: int, in_time: bool) -> None:
        flight = self._pick(pick)
        start, end, block = self.duties[flight]
        if in_time:
            self.desk.now_ms = max(self.desk.now_ms, start)
        if self._tell("report", flight=flight):
            assert self.status[flight] != "off"
            self.duties[flight], self.status[flight] = (self.desk.now_ms, end, block), "reported"

    @precondition(lambda self: self.duties)
    @rule(pick=PICK, block=st.sampled_from([0, 60, 300]))
    def off(self, pick: int, block: int) -> None:
        flight = self._pick(pick)
        if self._tell("off", flight=flight, block_minutes=block):
            assert self.status[flight] != "assigned"
            start, _, _ = self.duties[flight]
            self.duties[flight], self.status[flight] = (start, self.desk.now_ms, block * 60_000), "off"

    @precondition(lambda self: self.duties)
    @rule(pick=PICK, hours=st.sampled_from([1, 3]))
    def extend(self, pick: int, hours: int) -> None:
        flight = self._pick(pick)
        start, end, block = self.duties[flight]
        if self._tell("extend", flight=flight, release_at=write(end + hours * HOUR_MS), why="so"):
            assert self.status[flight] != "off"
            self.duties[flight] = (start, end + hours * HOUR_MS, block)

    @rule(hour=HOUR, long=st.sampled_from([12, 48]))
    def leave(self, hour: int, long: int) -> None:
        start, end = self._at(hour), self._at(hour + long)
        if self._tell("leave", kind="leave", **{"from": write(start), "to": write(end)}):
            assert not any(begin < end and start < until for begin, until, _ in self.duties.values())
            assert not any(begin < end and start < until for begin, until in self.absences)
            self.absences.add((start, end))

    @rule()
    def come_back(self) -> None:
        now = self.desk.now_ms
        if self._tell("return"):
            ((start, end),) = [one for one in self.absences if one[0] <= now < one[1]]
            self.absences.discard((start, end))
            if now > start:
                self.absences.add((start, now))

    @invariant()
    def nothing_is_lost(self) -> None:
        entries = {entry.duty.flight: entry for entry in self.desk.state.entries}
        shown = {
            flight: (entry.duty.report_ms, entry.duty.release_ms, entry.duty.flight_ms)
            for flight, entry in entries.items()
        }
        assert shown == self.duties
        assert {flight: entry.status for flight, entry in entries.items()} == self.status
        assert {(one.from_ms, one.to_ms) for one in self.desk.state.absences} == self.absences
        reports = [entry.duty.report_ms for entry in self.desk.state.entries]
        assert reports == sorted(reports)

    @invariant()
    def events_fold_to_it(self) -> None:
        assert CREW.show(CREW.fold(self.desk.events)) == self.desk.show()


TestCrewBeside = CrewBeside.TestCase
TestCrewBeside.settings = settings(
    max_examples=80, stateful_step_count=30, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
