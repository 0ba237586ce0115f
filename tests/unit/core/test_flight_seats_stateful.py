"""core.flight.seats under any commands in any order, beside a model that is plain: sets of seats, and one list of people.

Whatever is asked, no seat is two passengers', nobody is lost or there twice, holds end when they should, and folding the
events gives the state that commands were decided over.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.flight.machine import BY_GATEWAY, Fact
from core.flight.seats import SEATS
from tests.flight_desk import Desk, ms

PEOPLE = st.sampled_from([f"p{n}" for n in range(6)])
SEAT = st.sampled_from([f"{row}{letter}" for row in (1, 2, 3) for letter in "AB"])
LAYOUTS = ["1-2:AB", "1-3:A", "2-3:AB"]
SEATS_OF = [{"1A", "1B", "2A", "2B"}, {"1A", "2A", "3A"}, {"2A", "2B", "3A", "3B"}]
ROLE = st.sampled_from(["owner", "member"])


class SeatsBeside(RuleBasedStateMachine):
    """``seat_of`` and ``hold_of`` are the model, changed only by what was answered to each command."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(SEATS)
        self.desk.done("open", flight="QX1", layout=LAYOUTS[0], overbooking=1)
        self.layout = 0
        self.seat_of: dict[str, str] = {}
        """By everybody on the manifest; empty where they have none."""
        self.status: dict[str, str] = {}
        self.hold_of: dict[str, tuple[str, int]] = {}
        self.blocked: set[str] = set()
        self.timer_ms: int | None = None

    def _now_free(self, seat: str, who: str) -> bool:
        held = {hold[0] for other, hold in self.hold_of.items() if other != who and hold[1] > self.desk.now_ms}
        return (
            seat in SEATS_OF[self.layout]
            and seat not in self.blocked
            and seat not in held
            and seat not in self.seat_of.values()
        )

    def _tell(self, verb: str, role: str = "owner", by: str = "user:ann", **body: Any) -> bool:
        decision = self.desk.tell(verb, role, by, **body)
        if not isinstance(decision, list):
            return False
        for fact in decision:
            self._take(fact)
        return True

    def _take(self, fact: Fact) -> None:
        """What facts beside the verb's own say: holds that are gone, and the timer."""
        if fact.type == "timer.set":
            self.timer_ms = ms(fact.body["due"])
        if fact.type == "seat.released" and fact.body["why"] == "expired":
            seat, until_ms = self.hold_of.pop(fact.body["passenger"])
            assert seat == fact.body["seat"]
            assert until_ms <= self.desk.now_ms, "a hold ended before its time"

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait(self, seconds: int) -> None:
        self.desk.later(seconds)

    @rule(who=PEOPLE, role=ROLE)
    def book(self, who: str, role: str) -> None:
        if self._tell("book", role, passenger=who):
            assert self.status.get(who, "offloaded") == "offloaded", "there twice"
            self.seat_of[who], self.status[who] = "", "booked"

    @rule(who=PEOPLE, seat=SEAT, for_s=st.sampled_from([30, 60, 90]))
    def hold(self, who: str, seat: str, for_s: int) -> None:
        free = self._now_free(seat, who)
        if self._tell("hold", passenger=who, seat=seat, for_s=for_s):
            assert free
            self.hold_of[who] = (seat, self.desk.now_ms + 1000 * for_s)

    @rule(who=PEOPLE, seat=SEAT, role=ROLE)
    def sit(self, who: str, seat: str, role: str) -> None:
        free = self._now_free(seat, who)
        verb = "change" if self.seat_of.get(who) else "assign"
        told = self._tell(verb, role, passenger=who, seat=seat)
        if told:
            assert free
            self.seat_of[who] = seat
            if self.hold_of.get(who, ("", 0))[0] == seat:
                del self.hold_of[who]
        elif free and role == "owner" and self.status.get(who) in ("booked", "checked_in"):
            raise AssertionError(f"{seat} was free and {who} was refused it")

    @rule(who=PEOPLE)
    def sit_where_held(self, who: str) -> None:
        held = self.hold_of.get(who)
        if self._tell("assign", passenger=who):
            assert held is not None
            assert held[1] > self.desk.now_ms
            self.seat_of[who] = held[0]
            del self.hold_of[who]

    @rule(a=PEOPLE, b=PEOPLE)
    def swap(self, a: str, b: str) -> None:
        if self._tell("swap", a=a, b=b):
            self.seat_of[a], self.seat_of[b] = self.seat_of[b], self.seat_of[a]

    @rule(who=PEOPLE)
    def release(self, who: str) -> None:
        if self._tell("release", passenger=who):
            self.hold_of.pop(who, None)
            if who in self.seat_of:
                self.seat_of[who] = ""

    @rule(who=PEOPLE)
    def cancel(self, who: str) -> None:
        if self._tell("cancel", passenger=who):
            del self.seat_of[who], self.status[who]
            self.hold_of.pop(who, None)

    @rule(who=PEOPLE, verb=st.sampled_from(["check_in", "board", "deboard", "offload"]))
    def move(self, who: str, verb: str) -> None:
        if self._tell(verb, passenger=who, why="so"):
            self.status[who] = {"board": "boarded", "offload": "offloaded"}.get(verb, "checked_in")
            if verb == "offload":
                self.seat_of[who] = ""
                self.hold_of.pop(who, None)

    @rule(seat=SEAT, verb=st.sampled_from(["block", "unblock"]))
    def block(self, seat: str, verb: str) -> None:
        if self._tell(verb, seats=[seat], why="so"):
            (self.blocked.add if verb == "block" else self.blocked.discard)(seat)

    @rule(layout=st.integers(0, 2))
    def relayout(self, layout: int) -> None:
        if self._tell("relayout", layout=LAYOUTS[layout]):
            self.layout = layout
            seats = SEATS_OF[layout]
            lost = {who: seat for who, seat in self.seat_of.items() if seat and seat not in seats}
            assert {(one["passenger"], one["seat"]) for one in self.desk.events[-1].body["lost"]} == set(lost.items())
            self.seat_of.update(dict.fromkeys(lost, ""))
            self.hold_of = {who: hold for who, hold in self.hold_of.items() if hold[0] in seats}
            self.blocked &= seats

    @rule(who=PEOPLE, saga=st.sampled_from(["s1", "s2"]), keep_for=PEOPLE)
    def transfer_out(self, who: str, saga: str, keep_for: str) -> None:
        seat = self.seat_of.get(who, "")
        if self._tell("transfer_out", passenger=who, saga=saga, to="QX2", keep_for=keep_for):
            del self.seat_of[who], self.status[who]
            self.hold_of.pop(who, None)
            if seat:
                self.hold_of[keep_for] = (seat, self.desk.now_ms + 3_600_000)

    @rule(who=PEOPLE, saga=st.sampled_from(["s1", "s2"]), seat=SEAT)
    def transfer_in(self, who: str, saga: str, seat: str) -> None:
        free = self._now_free(seat, who)
        if self._tell("transfer_in", passenger=who, saga=saga, seat=seat, **{"from": "QX2"}):
            assert free
            self.seat_of[who], self.status[who] = seat, "booked"
            if self.hold_of.get(who, ("", 0))[0] == seat:
                del self.hold_of[who]

    @rule(verb=st.sampled_from(["close", "reopen"]))
    def close(self, verb: str) -> None:
        self._tell(verb)

    @rule()
    def fire(self) -> None:
        """What the gateway does when the timer is due."""
        if self.timer_ms is not None and self.timer_ms <= self.desk.now_ms:
            self.timer_ms = None
            self._tell("expire", by=BY_GATEWAY)
            assert all(until_ms > self.desk.now_ms for _, until_ms in self.hold_of.values()), "a hold outlived its time"

    @invariant()
    def nobody_is_lost(self) -> None:
        shown = self.desk.show()
        assert {who: one.get("seat", "") for who, one in shown["passengers"].items()} == self.seat_of
        assert {who: one["status"] for who, one in shown["passengers"].items()} == self.status
        taken = [seat for seat in self.seat_of.values() if seat]
        assert len(taken) == len(set(taken)), "a seat of two"
        assert {seat for seat, one in shown["seats"].items() if "passenger" in one and one["status"] != "held"} == set(
            taken
        )
        assert shown["seats"].keys() == SEATS_OF[self.layout]

    @invariant()
    def holds_are_as_they_should_be(self) -> None:
        holds = {hold.passenger: (seat, hold.until_ms) for seat, hold in self.desk.state.holds.items()}
        assert holds == self.hold_of
        if holds:
            assert self.timer_ms is not None, "a hold that nobody will end"
            assert self.timer_ms <= min(until_ms for _, until_ms in holds.values())

    @invariant()
    def events_fold_to_it(self) -> None:
        assert SEATS.show(SEATS.fold(self.desk.events)) == self.desk.show()


TestSeatsBeside = SeatsBeside.TestCase
TestSeatsBeside.settings = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
