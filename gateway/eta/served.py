"""Replay as it is served: a trip of a file is planned, started and moved fix by fix as the gateway does it (`core.trip`), with
somebody who wants to be told, and a provider of routes that answers.

What differs from the gateway: fixes are believed as they come (`core.geo.plausible` judges them there), answers of the provider
take no time, and the trip is shown on to the truth's end where the gateway would say sooner that it has arrived. When that
is, is kept; no alert after it counts.

For: `readback eta replay` and `train --cross-validate`. Promises: what is said rests on the plan, history and the fixes so far;
alerts are facts of the trip, refused where they are twice. Does not: score.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from core.flight.machine import BY_GATEWAY, Command, Recorded
from core.flight.times import read, write
from core.geo.estimate import Emission, Fixed
from core.geo.fences import Fences
from core.geo.model import Model
from core.geo.polyline import encode
from core.geo.score import Call
from core.tenants import Arrivals
from core.tracks import Sample
from core.trip.arriving import Arriving, Deed, Give
from core.trip.plan import POLYLINE_CHARS_MAX, POLYLINE_PRECISION
from core.trip.state import Trip as Planned
from core.trip.trips import TRIP
from gateway.eta.played import Faults, Played, Rung, deliveries
from gateway.eta.stand_in import StandIn, wrong_plan
from gateway.eta.trips import Trip

MONDAY_MS: Final = 1_704_067_200_000
"""2024-01-01T00:00Z, a Monday: where the clock of a trip's week begins."""
TICK_MS: Final = 500
"""How often the gateway looks at its trips (`gateway.arrivals.engine.TICK_S`)."""
TENANT: Final = "replay"
SUBJECT: Final = "device:vehicle"
WHO: Final = "user:somebody"
GOAL: Final = "goal"
ARRIVALS: Final = Arrivals()
"""Thresholds of 10 and 5 minutes."""
NO_FENCES: Final = Fences([])


class World(NamedTuple):
    """What is around the trips. ``provider``: there is one, which dies ``dead_after_s`` into each trip. ``wrong``: the part of
    plans that are. ``planned``: plans come with a way."""

    provider: bool = True
    dead_after_s: float | None = None
    wrong: float = 0.0
    planned: bool = True


SERVED: Final = World()


class Ride:
    """One trip on its way; `serve` drives it."""

    def __init__(self, trip: Trip, model: Model | None, world: World, seed: int) -> None:
        self._trip = trip
        self._zero_ms = MONDAY_MS + round(1000 * trip.week_s)
        self._state = Planned()
        self._stream = f"trip:{trip.name}"
        self._arriving = Arriving(TENANT, self._stream, ARRIVALS, model)
        route = wrong_plan(trip, world.wrong, seed) or trip.route
        pace = None if model is None else model.pace
        self._provider = StandIn(trip, route, pace, world.dead_after_s) if world.provider else None
        self._looked_ms = 0
        self.rung: list[Rung] = []
        self.calls: list[Call] = []
        self.reached_s: float | None = None
        self.spent_ns = 0
        lat, lon = trip.route.points[-1]
        plan: dict[str, Any] = {"mode": "car", "subject": SUBJECT, "stops": [{"stop": GOAL, "lat": lat, "lon": lon}]}
        if world.planned:
            plan["route"] = {"polyline": _polyline(route.points), "source": "history"}
        for verb, body in (
            ("plan", plan),
            ("start", {"at": write(self._zero_ms)}),
            ("notify", {"recipient": WHO, "stop": GOAL}),
        ):
            taken = self._command(verb, body, self._zero_ms)
            assert taken, verb
        self._arriving.became(self._state, self._zero_ms)

    def _ms(self, at_s: float) -> int:
        return self._zero_ms + round(1000 * at_s)

    def _s(self, at_ms: int) -> float:
        return (at_ms - self._zero_ms) / 1000

    def _command(self, verb: str, body: Mapping[str, Any], now_ms: int) -> bool:
        """Whether it was obeyed; the trip is what became of it."""
        facts = TRIP.decide(self._state, Command(verb, body, BY_GATEWAY, "owner"), now_ms)
        if not isinstance(facts, list):
            return False
        for fact in facts:
            kept = orjson.loads(orjson.dumps(fact.body))
            self._state = TRIP.evolve(self._state, Recorded(0, fact.type, BY_GATEWAY, now_ms, kept))
        return True

    def fix(self, at_s: float, fix: Fixed) -> None:
        """A delivery, ``at_s`` after the start."""
        self.wait(at_s)
        if self._provider is not None:
            self._provider.moved(fix)
        now_ms = self._ms(at_s)
        sample = Sample(
            TENANT, SUBJECT, self._stream, self._ms(fix.at_s), 0, fix.lat, fix.lon, fix.acc_m, fix.speed_mps, fix.heading_deg,
            None, "accepted", "", now_ms,
        )  # fmt: skip
        began = time.thread_time_ns()
        deeds = self._arriving.take(sample, now_ms, NO_FENCES)
        self.spent_ns += time.thread_time_ns() - began
        self._done(deeds, now_ms)

    def wait(self, until_s: float) -> None:
        """Nothing comes until then: the gateway looks when it said it would."""
        while (due_ms := self._arriving.look_ms) is not None:
            now_ms = max(due_ms, self._looked_ms + TICK_MS)
            if now_ms >= self._ms(until_s):
                break
            self._look(now_ms)

    def _look(self, now_ms: int) -> None:
        self._looked_ms = now_ms
        began = time.thread_time_ns()
        deeds = self._arriving.look(now_ms)
        self.spent_ns += time.thread_time_ns() - began
        self._done(deeds, now_ms)

    def _done(self, deeds: Sequence[Deed], now_ms: int) -> None:
        for deed in deeds:
            if not isinstance(deed, Give):
                continue
            if deed.type == "complete" and self.reached_s is None:
                self.reached_s = self._s(now_ms)
            elif deed.type == "alert" and self.reached_s is None and self._command("alert", deed.body, now_ms):
                merged = tuple(float(one) for one in deed.body.get("merged", ()))
                eta_s = self._s(read(deed.body["eta"]).ms)
                self.rung.append(Rung(float(deed.body["threshold_s"]), self._s(now_ms), eta_s, merged))
                self._arriving.became(self._state, now_ms)
        if self._provider is not None:
            self._ask(self._provider, now_ms)

    def _ask(self, provider: StandIn, now_ms: int) -> None:
        arriving = self._arriving
        began = time.thread_time_ns()
        wanted = arriving.route_wanted(now_ms, provider.well_ms)
        self.spent_ns += time.thread_time_ns() - began
        if wanted is None:
            return
        why, ask = wanted
        at_s = self._s(now_ms)
        failed = provider.dead(at_s)
        self.calls.append(Call(at_s, why, failed))
        arriving.route_asked(now_ms)
        snapshot = provider.route(ask, at_s, now_ms)
        began = time.thread_time_ns()
        arriving.routed(snapshot, 1, failed, why, ask, now_ms)
        self.spent_ns += time.thread_time_ns() - began
        self._look(max(now_ms, self._looked_ms))

    def said(self, at_s: float) -> Emission:
        """What is shown then."""
        shown = self._arriving.estimate(GOAL)
        assert shown is not None, "nothing is shown before the first fix"
        eta_s = max(at_s, self._s(shown.eta_ms))
        low_s, high_s = max(at_s, self._s(shown.low_ms)), max(eta_s, self._s(shown.high_ms))
        age_s = at_s - self._s(shown.made_ms)
        return Emission(at_s, eta_s, min(low_s, eta_s), high_s, shown.source, age_s, self._s(shown.likely_ms))


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    """Thinned as far as a plan may hold it."""
    step = 1
    while len(text := encode([*points[:-1:step], points[-1]], POLYLINE_PRECISION)) > POLYLINE_CHARS_MAX:
        step += 1
    return text


def serve(trip: Trip, model: Model | None, faults: Faults, world: World) -> Played:
    ride = Ride(trip, model, world, faults.seed)
    said: list[Emission] = []
    for at_s, fix in deliveries(trip, faults):
        ride.fix(at_s, fix)
        said.append(ride.said(at_s))
    ride.wait(trip.arrive_s)
    return Played(trip, said, ride.rung, ride.calls, len(said), ride.spent_ns / 1e9, ride.reached_s)
