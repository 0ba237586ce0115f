"""One trip on its way: positions in; arrival times, alerts, crossings of fences and wishes for a route out. Pure.

How it thinks. A trip that is planned has stops ahead. Its way to them is the plan's own, or a provider's, which is asked for
when `core.geo.route_calls` says so; until there is one, and where nobody knows one, it is the crow's. Each position moves the
trip on its way (`core.geo.estimate`), and what comes of that is shown where it says something new. Alerts go by the arrival
time that is as likely too early as too late (`core.trip.alerts`), at a position or when their time has come without one.

A stop is reached where the subject is near it and slow, near it twice in a row, or beyond it on its way. With the last stop
the trip is over.

What is to be done is answered as *deeds*, which whoever runs this does and which are the same when done twice: commands have
keys made from what they say. Nothing here is kept: a trip that is taken up anew (another node, a restart) is given its
positions again, and stands where it stood, since all of it follows from them and from the trip's stream.

For: `gateway.arrivals` and `readback eta replay`. Promises: a position older than the last one changes nothing but fences'
past; at most one `Give` of a key in a minute. Does not: call, wait, or remember over a restart what its device's advice was
worth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import exp, inf
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from core.commands import derived_key
from core.flight.times import write
from core.geo.assist import Record
from core.geo.estimate import Emission, Estimator, Fixed
from core.geo.fences import Fences, Watch
from core.geo.model import Model
from core.geo.polyline import decode
from core.geo.route import Route, Stop, make_route
from core.geo.route_calls import OFFLINE, CallPolicy, Look, RouteCalls, Why
from core.geo.routing import Ask, Mode, Place, Snapshot
from core.geo.sphere import Plane, distance_m, nearest
from core.tenants import Arrivals
from core.tracks import Sample
from core.trip import alerts
from core.trip.alerts import Estimate
from core.trip.plan import POLYLINE_PRECISION, Plan
from core.trip.state import Trip

AT_STOP_M: Final[Mapping[str, float]] = {
    "foot": 30.0,
    "bike": 40.0,
    "car": 60.0,
    "bus": 60.0,
    "truck": 80.0,
    "train": 150.0,
    "ship": 300.0,
    "aircraft": 3_000.0,
}
"""How near a stop counts as there."""
SLOW_MPS: Final[Mapping[str, float]] = {"aircraft": 40.0, "train": 4.0, "ship": 2.0}
"""Slower than that and near is there; of others `SLOW_ELSE_MPS`."""
SLOW_ELSE_MPS: Final = 2.5
BEYOND_M: Final = 80.0
"""So far past a stop on the way it was passed, however near it was."""
SHOW_AGAIN_S: Final = 30.0
SHOW_CHANGE_S: Final = 1.0
SHOW_WIDTH_S: Final = 10.0
THEN_MAX: Final = 10
"""Stops after the next whose arrival times are shown with it."""
KEPT_S: Final = 60.0
KEPT_MAX: Final = 32
"""Of arrival times shown of a stop: what alerts look back at."""
AGAIN_MS: Final = 60_000
"""What was given and came to nothing is given again after so long."""
NEAR_STEP_S: Final = 5.0
NEAR_S: Final = 120.0
"""With a threshold nearer than this, a position each `NEAR_STEP_S` is worth having."""


class Show(NamedTuple):
    """The trip's arrival time, as people see it, true since ``at_ms``."""

    value: dict[str, Any]
    at_ms: int


class Give(NamedTuple):
    """A command of the gateway's, in the trip's stream."""

    type: str
    body: dict[str, Any]
    key: str


Deed = Show | Give


class Arriving:
    """Of one trip stream. ``zone`` of ``arrivals`` says what time of the day it is there."""

    def __init__(
        self,
        tenant: str,
        stream: str,
        arrivals: Arrivals,
        model: Model | None = None,
        *,
        policy: CallPolicy | None = None,
        record: Record | None = None,
    ) -> None:
        self.tenant = tenant
        self.stream = stream
        self.arrivals = arrivals
        self.trip = Trip()
        self.record = Record() if record is None else record
        self.look_ms: int | None = None
        """When to `look` if no position comes before; ``None``: not before one comes."""
        self._model = model
        self._policy = policy
        self._estimator: Estimator | None = None
        self._zero_ms = 0
        """Where the estimator's clock begins."""
        self._calls: RouteCalls | None = None
        self._snapshot: Snapshot | None = None
        self._way: Route | None = None
        """The plan's own, with the stops where they lie on it."""
        self._along: dict[str, float] = {}
        """Metres along the route that the estimator has."""
        self._last: Sample | None = None
        self._near: tuple[str, int] | None = None
        """The stop that the last position was near, and when it first was."""
        self._shown: dict[str, deque[Estimate]] = {}
        self._told: Show | None = None
        self._given: dict[str, int] = {}
        """Keys given, and when."""
        self._watch = Watch()
        self._advice: tuple[float, float] | None = None

    @property
    def calls(self) -> int:
        """Of providers, for this trip."""
        return 0 if self._calls is None else self._calls.calls

    # -- what the stream says -----------------------------------------------------------------------------------------------

    def became(self, trip: Trip, now_ms: int) -> None:
        """The trip as its stream has it now."""
        before, self.trip = self.trip, trip
        if trip.plan is not None and (before.plan is None or _way_of(before.plan) != _way_of(trip.plan)):
            self._replan(trip.plan)
        if before.status == "planned" and trip.status == "underway" and self._estimator is not None:
            self._set_out()
        if trip.status == "completed" and self._estimator is not None:
            ended = self._seconds(trip.ended_ms or now_ms)
            self.record = self.record.told(self._estimator.advised, ended)
        if trip.over:
            self._estimator = None
            self.look_ms = None
            self._shown.clear()

    def _replan(self, plan: Plan) -> None:
        points = [] if plan.route is None else decode(plan.route.polyline, POLYLINE_PRECISION)
        self._way = None
        if plan.route is not None and not isinstance(points, str):
            legs = plan.route.legs_s + (None,) * (len(points) - 1 - len(plan.route.legs_s))
            bare = make_route(points, leg_s=legs, source=plan.route.source)
            if isinstance(bare, Route):
                self._way = bare._replace(stops=stops_along(bare, [(s.stop, s.lat, s.lon) for s in plan.stops]))
        self._estimator = None
        self._calls = None
        self._snapshot = None
        self._near = None

    def _set_out(self) -> None:
        """How long it stood before that says nothing of how fast it goes."""
        plan, last = self.trip.plan, self._last
        assert plan is not None
        assert last is not None
        self._begin(plan, last, last.at_ms, False)
        self._move(last)

    # -- positions ----------------------------------------------------------------------------------------------------------

    def take(self, sample: Sample, now_ms: int, fences: Fences, *, past: bool = False) -> list[Deed]:
        """A position that was believed, of whatever subject sends into the stream; arrival times are the plan's subject's.
        One of the ``past`` is of before this was taken up: nobody is told by it, and `look` comes after the last of them."""
        deeds = self._cross(sample, now_ms, fences)
        plan = self.trip.plan
        if plan is None or self.trip.over or sample.subject != plan.subject:
            return deeds
        if self._last is not None and sample.at_ms <= self._last.at_ms:
            return deeds
        if self._estimator is None:
            self._begin(plan, sample, now_ms, past)
        estimator = self._estimator
        assert estimator is not None
        if self._advice is not None and estimator.advise(*self._advice):
            self._advice = None
        self._move(sample)
        self._last = sample
        if self.trip.status == "underway":
            deeds += self._reached(plan, sample, now_ms)
            if not past:
                deeds += self._tell(now_ms)
            elif now_ms - sample.at_ms <= 1000 * KEPT_S:
                self._note(sample.at_ms)
        return deeds

    def _move(self, sample: Sample) -> None:
        assert self._estimator is not None
        at_s = self._seconds(sample.at_ms)
        self._estimator.take(Fixed(at_s, sample.lat, sample.lon, sample.speed, sample.heading, sample.acc))

    def advise(self, eta_ms: int, at_ms: int) -> None:
        """The device's own navigation says when it will be at the end of its way."""
        self._advice = (self._seconds(eta_ms), self._seconds(at_ms))

    def look(self, now_ms: int) -> list[Deed]:
        """Time has passed: what is due without a position."""
        self.look_ms = None
        if self._estimator is None or self.trip.status != "underway":
            return []
        return self._tell(now_ms)

    def wants_s(self, now_ms: int) -> float | None:
        """How soon the next position is worth something to an alert; ``None``: not for that."""
        if self.look_ms is None or self.trip.status != "underway":
            return None
        left_s = (self.look_ms - now_ms) / 1000
        return NEAR_STEP_S if left_s <= NEAR_S else left_s - NEAR_S

    def _seconds(self, at_ms: int) -> float:
        return (at_ms - self._zero_ms) / 1000

    def _ms(self, at_s: float) -> int:
        return self._zero_ms + round(1000 * at_s)

    def _begin(self, plan: Plan, sample: Sample, now_ms: int, past: bool) -> None:
        self._zero_ms = sample.at_ms
        local = datetime.fromtimestamp(sample.at_ms / 1000, ZoneInfo(self.arrivals.zone))
        week0_s = 86_400.0 * local.weekday() + 3_600.0 * local.hour + 60.0 * local.minute + local.second
        ahead = self.trip.ahead() or list(plan.stops)
        goal = (ahead[-1].lat, ahead[-1].lon)
        self._estimator = Estimator(
            None if plan.mode == "aircraft" else self._way,
            goal=goal,
            model=self._model,
            mode=plan.mode,
            week0_s=week0_s,
            record=self.record,
        )
        self._along = {} if self._way is None else {stop.name: stop.at_m for stop in self._way.stops}
        self._calls = (
            RouteCalls.resumed(sample.at_ms, now_ms, self._policy) if past else RouteCalls(sample.at_ms, self._policy)
        )

    # -- what comes of them -------------------------------------------------------------------------------------------------

    def _cross(self, sample: Sample, now_ms: int, fences: Fences) -> list[Deed]:
        deeds: list[Deed] = []
        if self.trip.plan is None or self.trip.over:
            return deeds
        for crossing in self._watch.step(fences, self.stream, sample.at_ms, sample.lat, sample.lon, sample.acc):
            body = {
                "fence": crossing.fence,
                "what": crossing.what,
                "subject": sample.subject,
                "at": write(min(crossing.at_ms, now_ms)),
            }
            what = f"{crossing.fence} {crossing.what} {sample.subject}"
            key = derived_key("trip.fence", self.tenant, self.stream, what, crossing.at_ms)
            deeds.append(Give("fence", body, key))
        return deeds

    def _reached(self, plan: Plan, sample: Sample, now_ms: int) -> list[Deed]:
        """Stops that it is at, or has passed."""
        radius_m = AT_STOP_M[plan.mode] + min(sample.acc or 0.0, AT_STOP_M[plan.mode])
        slow_mps = SLOW_MPS.get(plan.mode, SLOW_ELSE_MPS)
        near: tuple[str, int] | None = None
        reached: list[tuple[str, int]] = []
        progress_m = 0.0 if self._estimator is None or self._estimator.off_route else self._estimator.progress_m
        for stop in self.trip.ahead():
            off_m = distance_m(sample.lat, sample.lon, stop.lat, stop.lon)
            along_m = self._along.get(stop.stop)
            if along_m is not None and progress_m > along_m + BEYOND_M:
                reached.append((stop.stop, sample.at_ms))
            elif off_m <= radius_m and near is None:
                first_ms = self._near[1] if self._near is not None and self._near[0] == stop.stop else sample.at_ms
                near = (stop.stop, first_ms)
                if first_ms < sample.at_ms or (sample.speed is not None and sample.speed <= slow_mps):
                    reached.append(near)
            elif self._near is not None and self._near[0] == stop.stop and off_m > radius_m:
                reached.append(self._near)  # it was there, once, and is gone
        self._near = near
        deeds: list[Deed] = []
        for name, at_ms in reached:
            at_ms = min(at_ms, now_ms)
            deeds += self._give("arrive", {"stop": name, "at": write(at_ms)}, now_ms, name, at_ms)
            if name == plan.stops[-1].stop:
                deeds += self._give("complete", {"at": write(at_ms)}, now_ms, "", at_ms)
        return deeds

    def _give(self, type: str, body: dict[str, Any], now_ms: int, what: str, at_ms: int) -> list[Deed]:
        """A command under a key that is made of what happened, and when: a refusal is kept under it, and must not stand in the
        way of what happens later."""
        key = derived_key(f"trip.{type}", self.tenant, self.stream, what, at_ms)
        return self._once(f"{type} {what}", Give(type, body, key), now_ms)

    def _once(self, name: str, give: Give, now_ms: int) -> list[Deed]:
        """Given a moment ago, it is on its way."""
        given = self._given.get(name)
        if given is not None and now_ms - given < AGAIN_MS:
            return []
        if len(self._given) > 4 * KEPT_MAX:
            self._given = {name: at for name, at in self._given.items() if now_ms - at < AGAIN_MS}
        self._given[name] = now_ms
        return [give]

    def _tell(self, now_ms: int) -> list[Deed]:
        """Arrival times as they are now, and the alerts that are due by them."""
        deeds: list[Deed] = []
        told = self._note(now_ms)
        looks: list[int] = []
        for stop, _ in told:
            shown = self._shown[stop]
            look = alerts.look(self.tenant, self.stream, self.trip, stop, shown, now_ms, self.arrivals)
            for due in look.due:
                deeds += self._once(due.key, Give("alert", due.body(now_ms), due.key), now_ms)
            if look.look_ms is not None:
                looks.append(max(look.look_ms, now_ms + 1))
            elif look.due:
                looks.append(now_ms + AGAIN_MS)
        self.look_ms = min(looks, default=None)
        return self._worth_showing(told, now_ms) + deeds

    def _note(self, now_ms: int) -> list[tuple[str, Emission]]:
        """Of the stops ahead, as far as they are shown or wanted; what alerts look back at is kept."""
        ahead = self.trip.ahead()
        told: list[tuple[str, Emission]] = []
        for nth, stop in enumerate(ahead):
            last = nth == len(ahead) - 1
            if not last and nth > THEN_MAX and not self.trip.wishes(stop.stop):
                continue
            emission = self._emission(stop.stop, last, now_ms)
            if emission is not None:
                told.append((stop.stop, emission))
                self._keep(stop.stop, emission)
        return told

    def _emission(self, stop: str, last: bool, now_ms: int) -> Emission | None:
        estimator = self._estimator
        assert estimator is not None
        assert self._last is not None
        at_s = max(self._seconds(now_ms), self._seconds(self._last.at_ms))
        return estimator.now(at_s) if last else estimator.to(stop, at_s)

    def _keep(self, stop: str, emission: Emission) -> None:
        """Beside the one of now those of the last minute, each once."""
        made_ms = self._ms(emission.at_s - emission.age_s)
        estimate = Estimate(
            made_ms,
            self._ms(emission.eta_s),
            self._ms(emission.low_s),
            self._ms(emission.high_s),
            self._source(emission),
            self._ms(emission.even_s),
        )
        kept = self._shown.setdefault(stop, deque(maxlen=KEPT_MAX))
        if kept and kept[-1].made_ms == made_ms:
            kept[-1] = estimate
        else:
            kept.append(estimate)
        while kept[0].made_ms < made_ms - 1000 * KEPT_S:
            kept.popleft()

    def _source(self, emission: Emission) -> str:
        return emission.source if self._calls is None else self._calls.marked(emission.source)

    def _worth_showing(self, told: Sequence[tuple[str, Emission]], now_ms: int) -> list[Deed]:
        """Where it says something new, or nothing was said for long."""
        if not told:
            return []
        (stop, emission), *then = told
        value: dict[str, Any] = {"stop": stop, **self._said(emission), "source": self._source(emission)}
        if then:
            value["then"] = [{"stop": name, **self._said(later)} for name, later in then[:THEN_MAX]]
        show = Show(value, self._ms(emission.at_s - emission.age_s))
        before = self._told
        if (
            before is not None
            and before.value.keys() == value.keys()
            and show.at_ms - before.at_ms < 1000 * SHOW_AGAIN_S
        ):
            same = all(before.value[name] == value[name] for name in ("stop", "source", "at"))
            if same and abs(_span_s(before.value) - _span_s(value)) < SHOW_WIDTH_S:
                return []
        self._told = show
        return [show]

    def _said(self, emission: Emission) -> dict[str, str]:
        """Whole seconds: nobody reads more."""
        times = (("at", emission.eta_s), ("low", emission.low_s), ("high", emission.high_s))
        return {name: write(1000 * round(self._ms(at_s) / 1000)) for name, at_s in times}

    # -- routes ---------------------------------------------------------------------------------------------------------------

    def route_wanted(self, now_ms: int, well_ms: int) -> tuple[Why, Ask] | None:
        """Whether to ask for a route now, why, and for which. ``well_ms``: when any provider last answered anybody. Whoever
        asks says so by `route_asked`."""
        calls, last, plan, estimator = self._calls, self._last, self.trip.plan, self._estimator
        if calls is None or last is None or plan is None or estimator is None or plan.mode == "aircraft":
            return None
        ahead = self.trip.ahead()
        if not ahead or self.trip.status != "underway":
            return None
        shown = estimator.now(max(self._seconds(now_ms), self._seconds(last.at_ms)))
        left_s = None if shown is None else shown.eta_s - shown.at_s
        why = calls.why(Look(now_ms, left_s, estimator.off_route), well_ms)
        if why is None:
            return None
        points: tuple[Place, ...] = ((last.lat, last.lon), *((stop.lat, stop.lon) for stop in ahead))
        way = () if self._way is None or estimator.off_route else tuple(self._way.points)
        mode: Mode = plan.mode  # type: ignore[assignment]  # a plan's modes are among them
        return why, Ask(mode, points, None, way)

    def route_asked(self, now_ms: int) -> int:
        """How many calls may be made for it."""
        assert self._calls is not None
        left = self._calls.left(now_ms)
        self._calls.asked(now_ms)
        return left

    def route_dropped(self) -> None:
        """The ask was cancelled, or cannot be answered."""
        if self._calls is not None and self._calls.asking:
            self._calls.gave_up()

    def routed(self, snapshot: Snapshot, calls: int, failed: bool, why: Why, ask: Ask, now_ms: int) -> None:
        """What a provider said, or the guess where none did."""
        if self._calls is None or not self._calls.asking:
            return  # planned anew meanwhile
        guess = snapshot.source == OFFLINE
        keep = self._way is not None or self._snapshot is not None
        taken = not (guess and keep and why != "off_route")
        self._calls.answered(now_ms, calls, failed, snapshot if taken else None)
        estimator, ahead = self._estimator, self.trip.ahead()
        if not taken or estimator is None or len(snapshot.stops) != len(ahead):
            return
        route = snapshot.route([stop.stop for stop in ahead])
        self._snapshot = snapshot
        estimator.reroute(route)
        self._along = {stop.name: stop.at_m for stop in route.stops}
        total_s = snapshot.total_s()
        if total_s is not None and not guess:
            spread = exp(0.35)
            self._calls.expect(
                now_ms + round(1000 * total_s / spread), now_ms + round(1000 * total_s * spread), snapshot
            )


def _way_of(plan: Plan) -> tuple[object, ...]:
    return plan.mode, plan.subject, plan.route, tuple((stop.stop, stop.lat, stop.lon) for stop in plan.stops)


def _span_s(value: Mapping[str, Any]) -> float:
    low, high = (datetime.fromisoformat(value[name]) for name in ("low", "high"))
    return (high - low).total_seconds()


def stops_along(route: Route, stops: Sequence[tuple[str, float, float]]) -> tuple[Stop, ...]:
    """Where stops lie on a way that leads past them in this order: each at the nearest place that is not before the last
    one's; the last at the end."""
    plane = Plane(*route.points[len(route.points) // 2])
    xy = [plane.xy(lat, lon) for lat, lon in route.points]
    found: list[Stop] = []
    from_m = 0.0
    for name, lat, lon in stops[:-1]:
        x, y = plane.xy(lat, lon)
        best_m, best_off = from_m, inf
        for (ax, ay), (bx, by), start_m, end_m in zip(xy, xy[1:], route.cum_m, route.cum_m[1:], strict=False):
            if end_m >= from_m:
                part, off = nearest(x, y, ax, ay, bx, by)
                at_m = max(from_m, start_m + part * (end_m - start_m))
                if off < best_off:
                    best_m, best_off = at_m, off
        found.append(Stop(name, best_m))
        from_m = best_m
    found.append(Stop(stops[-1][0], route.length_m))
    return tuple(found)
