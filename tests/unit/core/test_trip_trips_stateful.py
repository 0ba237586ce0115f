"""core.trip.trips under any commands in any order, beside a model that is plain: sets of what was said.

Whatever is asked, nobody is told twice, too late or unasked, fences alternate, and folding the events gives the state that
commands were decided over.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.flight.machine import BY_GATEWAY
from core.trip.state import fold
from core.trip.trips import TRIP
from tests.flight_desk import Desk
from tests.trip_desk import PLAN

STOP = st.sampled_from(["A", "B", "C", "D"])
WHO = st.sampled_from(["user:amy", "user:bob"])
THRESHOLD = st.sampled_from([300, 600, 900])


class TripBeside(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(TRIP)
        self.status = "new"
        self.stops: list[str] = []
        self.reached: set[str] = set()
        self.skipped: set[str] = set()
        self.wishes: dict[tuple[str, str], list[int] | None] = {}
        self.told: set[tuple[str, str, int]] = set()
        self.inside: set[str] = set()

    def _tell(self, verb: str, by: str = "user:ann", **body: Any) -> bool:
        return isinstance(self.desk.tell(verb, by=by, **body), list)

    @property
    def _going(self) -> bool:
        return self.status in ("planned", "underway")

    @rule(seconds=st.sampled_from([1, 60]))
    def wait(self, seconds: int) -> None:
        self.desk.later(seconds)

    @rule(stops=st.lists(STOP, min_size=1, unique=True))
    def plan(self, stops: list[str]) -> None:
        listed = [{"stop": stop, "lat": 1, "lon": 2} for stop in stops]
        changed = self.stops != stops
        assert self._tell("plan", **(PLAN | {"stops": listed})) is (
            self.status in ("new", "planned", "underway") and changed
        )
        if self.status in ("new", "planned", "underway"):
            self.status = "planned" if self.status == "new" else self.status
            self.stops = stops
            self.reached &= set(stops)
            self.skipped &= set(stops)
            self.wishes = {of: wish for of, wish in self.wishes.items() if of[1] in stops}

    @rule(stop=STOP)
    def arrive(self, stop: str) -> None:
        known = self._going and stop in self.stops and stop not in self.reached
        assert self._tell("arrive", stop=stop) is known
        if known:
            self.status = "underway"
            self.reached.add(stop)
            self.skipped.discard(stop)

    @rule(stop=STOP)
    def skip(self, stop: str) -> None:
        if self._tell("skip", stop=stop):
            assert stop not in self.reached
            self.skipped.add(stop)

    @rule(verb=st.sampled_from(["start", "complete", "cancel"]))
    def end(self, verb: str) -> None:
        if self._tell(verb, **({"reason": "x"} if verb == "cancel" else {})):
            self.status = {"start": "underway", "complete": "completed", "cancel": "cancelled"}[verb]

    @rule(who=WHO, stop=STOP, thresholds=st.none() | st.lists(THRESHOLD, min_size=1, unique=True))
    def notify(self, who: str, stop: str, thresholds: list[int] | None) -> None:
        if self._tell("notify", recipient=who, stop=stop, thresholds_s=thresholds):
            assert stop in self.stops
            self.wishes[who, stop] = thresholds

    @rule(who=WHO)
    def unnotify(self, who: str) -> None:
        if self._tell("unnotify", recipient=who):
            self.wishes = {of: wish for of, wish in self.wishes.items() if of[0] != who}

    @rule(who=WHO, stop=STOP, threshold=THRESHOLD, merged=st.lists(THRESHOLD))
    def alert(self, who: str, stop: str, threshold: int, merged: list[int]) -> None:
        body = {
            "recipient": who,
            "stop": stop,
            "threshold_s": threshold,
            "eta": "2026-11-21T07:00:00Z",
            "merged": merged,
        }
        wish = self.wishes.get((who, stop), [])
        due = (
            self._going
            and (stop, who, threshold) not in self.told
            and stop not in self.reached | self.skipped
            and (wish is None or threshold in wish)
        )
        assert self._tell("alert", BY_GATEWAY, **body) is due
        if due:
            self.told |= {(stop, who, one) for one in (threshold, *merged)}

    @rule(what=st.sampled_from(["enter", "exit", "dwell"]), subject=WHO, late=st.booleans())
    def fence(self, what: str, subject: str, late: bool) -> None:
        if not late:
            self.desk.later(1)
        if self._tell("fence", BY_GATEWAY, fence="f", what=what, subject=subject):
            assert (subject in self.inside) is (what != "enter")
            (self.inside.add if what != "exit" else self.inside.discard)(subject)

    @invariant()
    def it_is_as_was_said(self) -> None:
        shown = self.desk.show()
        assert shown["status"] == self.status
        assert [stop["stop"] for stop in shown.get("stops", [])] == self.stops
        assert {s["stop"] for s in shown.get("stops", []) if s["state"] == "arrived"} == self.reached
        assert {(a["stop"], a["recipient"], a["threshold_s"]) for a in shown["alerts"]} == self.told
        assert len(shown["alerts"]) == len(self.told)
        assert {(r["recipient"], r["stop"]) for r in shown["recipients"]} == self.wishes.keys()
        assert {one["subject"] for one in shown["inside"]} == self.inside

    @invariant()
    def events_fold_to_it(self) -> None:
        assert fold(self.desk.events) == self.desk.state


TestTripBeside = TripBeside.TestCase
TestTripBeside.settings = settings(
    max_examples=60, stateful_step_count=40, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
