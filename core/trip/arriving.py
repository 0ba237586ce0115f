"""One trip on its way: positions in; arrival times, alerts, crossings of fences and wishes for a route out. Pure.

How it thinks. A trip that is planned has stops ahead. Its way to them is the plan's own, or a provider's, which is asked for
when `core.geo.route_calls` says so; until there is one, and where nobody knows one, it is the crow's. Each position moves the
trip on its way (`core.geo.estimate`), and what comes of that is shown where it says something new. Alerts go by the arrival
time that is as likely too early as too late (`core.trip.alerts`), at a position or when their time has come without one.

Which stops are reached, `core.trip.reached` says. With the last one the trip is over. What comes late in a row with newer ones
behind it moves the trip and tells nobody: the newest does.

What is to be done is answered as *deeds*, which whoever runs this does and which are the same when done twice: commands have
keys made from what they say. Nothing here is kept: a trip that is taken up anew (another node, a restart) is given its
positions again, and stands where it stood, since all of it follows from them and from the trip's stream.

For: `gateway.arrivals` and `readback eta replay`. Promises: a position older than the last one changes nothing but fences'
past; at most one `Give` of an alert or an arrival in a minute. Does not: call, wait, or remember over a restart what its
device's advice was worth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from math import exp
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from core.commands import derived_key
from core.flight.times import write
from core.geo.assist import Record
from core.geo.estimate import SILENT_S, Emission, Estimator, Fixed
from core.geo.fences import Fences, Watch
from core.geo.model import Model
from core.geo.pace import week_s_of
from core.geo.polyline import decode
from core.geo.route import Route, make_route
from core.geo.route_calls import OFFLINE, CallPolicy, Look, RouteCalls, Why
from core.geo.routing import Ask, Mode, Place, Snapshot
from core.tenants import Arrivals
from core.tracks import Sample
from core.trip import alerts, showing
from core.trip.alerts import Estimate, Waits
from core.trip.along import stops_along
from core.trip.plan import POLYLINE_PRECISION, Plan
from core.trip.reached import Reached
from core.trip.showing import Show, Showing
from core.trip.state import Trip

RESHOWN_S: Final = 3600.0
"""Of silence; past it what is shown stays, as old as it says: a trip that nobody ended costs nothing."""
KEPT_S: Final = 60.0
KEPT_MAX: Final = 32
"""Of arrival times shown of a stop: what alerts look back at."""
AGAIN_MS: Final = 60_000
"""What was given and came to nothing is given again after so long."""
SUBJECTS_MAX: Final = 100
"""Of one stream whose places in fences are known; past it the one that came first is looked at anew."""
SOON_MS: Final = 3_000
"""What was kept while there was no network comes faster than it was made; once it has stopped for so long it is told."""
NEAR_STEP_S: Final = 5.0
NEAR_S: Final = 120.0
"""With a threshold nearer than this, a position each `NEAR_STEP_S` is worth having."""


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
        self._arrivals = arrivals
        self.trip = Trip()
        self._waits: dict[str, list[Waits]] | None = None
        """Of the trip and the settings as they are; ``None``: to be asked for."""
        self.record = Record() if record is None else record
        self.look_ms: int | None = None
        """When to `look` if no position comes before; ``None``: not before one comes."""
        self.reshow_ms: int | None = None
        """When to `reshow` likewise."""
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
        self._last_now_ms = 0
        """When that came."""
        self._reached = Reached("car")
        self._shown: dict[str, deque[Estimate]] = {}
        self._showing = Showing()
        self._given: dict[str, int] = {}
        """Keys given, and when."""
        self._watches: dict[str, Watch] = {}
        self._advice: tuple[int, int] | None = None
        """Of the device, and when, not taken yet; in milliseconds, since the estimator's clock may begin anew before it is."""
        self._asked: list[str] = []
        """Stops that a route was asked for."""

    @property
    def arrivals(self) -> Arrivals:
        """The tenant's settings; they may be set anew at any time."""
        return self._arrivals

    @arrivals.setter
    def arrivals(self, arrivals: Arrivals) -> None:
        if arrivals != self._arrivals:
            self._arrivals, self._waits = arrivals, None

    @property
    def calls(self) -> int:
        """Of providers, for this trip."""
        return 0 if self._calls is None else self._calls.calls

    def estimate(self, stop: str) -> Estimate | None:
        """The arrival time there that was worked out last, shown or not."""
        shown = self._shown.get(stop)
        return shown[-1] if shown else None

    # -- what the stream says -----------------------------------------------------------------------------------------------

    def became(self, trip: Trip, now_ms: int) -> None:
        """The trip as its stream has it now."""
        before, self.trip, self._waits = self.trip, trip, None
        if trip.plan is not None and (before.plan is None or _way_of(before.plan) != _way_of(trip.plan)):
            self._replan(before.plan, trip.plan, now_ms)
        if before.status == "planned" and trip.status == "underway" and self._estimator is not None:
            self._set_out()
        if trip.status == "completed" and self._estimator is not None:
            ended = self._seconds(trip.ended_ms or now_ms)
            self.record = self.record.told(self._estimator.advised, ended)
        if trip.over:
            self._estimator = None
            self.look_ms = self.reshow_ms = None
            self._shown.clear()

    def _replan(self, before: Plan | None, plan: Plan, now_ms: int) -> None:
        """Its times go on from where it is; those of before say nothing of the stops that are now."""
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
        self._reached = Reached(plan.mode)
        self._shown.clear()
        if before is not None and before.subject != plan.subject:
            self._last = self._advice = None
        if self._last is not None and not self.trip.over:
            self._begin(plan, self._last, now_ms, False)
            self._move(self._last)

    def _set_out(self) -> None:
        """How long it stood before that says nothing of how fast it goes."""
        plan, last = self.trip.plan, self._last
        assert plan is not None
        assert last is not None
        self._begin(plan, last, last.at_ms, False)
        self._move(last)

    # -- positions ----------------------------------------------------------------------------------------------------------

    def take(
        self, sample: Sample, now_ms: int, fences: Fences, *, past: bool = False, more: bool = False
    ) -> list[Deed]:
        """A position that was believed, of whatever subject sends into the stream; arrival times are the plan's subject's.
        One of the ``past`` is of before this was taken up, and behind one with ``more`` are others that came with it: nobody
        is told by these, and `look` comes after the last of them."""
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
        if self._advice is not None and estimator.advise(*map(self._seconds, self._advice)):
            self._advice = None
        self._move(sample)
        backlog = not past and self._in_backlog(sample, now_ms)
        self._last, self._last_now_ms = sample, now_ms
        if self.trip.status == "underway":
            deeds += self._arrive(plan, sample, now_ms)
            if backlog and not more:
                self.look_ms = now_ms + SOON_MS
            elif not past and not more:
                deeds += self._tell(now_ms)
            elif now_ms - sample.at_ms <= 1000 * KEPT_S:
                self._note(sample.at_ms)
        return deeds

    def _in_backlog(self, sample: Sample, now_ms: int) -> bool:
        """Whether it is old, though the last one was not so, or came much sooner after that than it was made. What is always
        as old comes as fast as it is made."""
        late_ms, last = now_ms - sample.at_ms, self._last
        if last is None or late_ms <= 1000 * KEPT_S:
            return False
        since_ms, made_ms = now_ms - self._last_now_ms, sample.at_ms - last.at_ms
        return made_ms > 2 * since_ms or since_ms > made_ms + 1000 * KEPT_S

    def _move(self, sample: Sample) -> None:
        assert self._estimator is not None
        at_s = self._seconds(sample.at_ms)
        self._estimator.take(Fixed(at_s, sample.lat, sample.lon, sample.speed, sample.heading, sample.acc))

    def advise(self, eta_ms: int, at_ms: int) -> None:
        """The device's own navigation says when it will be at the end of its way."""
        self._advice = eta_ms, at_ms

    def look(self, now_ms: int) -> list[Deed]:
        """Time has passed: what is due without a position."""
        self.look_ms = None
        if self._estimator is None or self.trip.status != "underway":
            return []
        return self._tell(now_ms)

    def reshow(self, now_ms: int) -> list[Deed]:
        """Time has passed: an arrival that is shown does not stay in the past, and silence is seen by its interval. Nobody is
        told by this."""
        self.reshow_ms = None
        if self._estimator is None or self.trip.status != "underway":
            return []
        return self._worth_showing(self._note(now_ms), now_ms)

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
        ahead = self.trip.ahead() or list(plan.stops)
        goal = (ahead[-1].lat, ahead[-1].lon)
        self._estimator = Estimator(
            None if plan.mode == "aircraft" else self._way,
            goal=goal,
            model=self._model,
            mode=plan.mode,
            week0_s=week_s_of(local),
            record=self.record,
        )
        self._along = {} if self._way is None else {stop.name: stop.at_m for stop in self._way.stops}
        # One that has only just begun asked for nothing elsewhere: its first position was in the store before its turn came.
        resumed = past and now_ms - sample.at_ms > 1000 * KEPT_S
        calls = RouteCalls.resumed(sample.at_ms, now_ms, self._policy) if resumed else None
        self._calls = calls or RouteCalls(sample.at_ms, self._policy)

    # -- what comes of them -------------------------------------------------------------------------------------------------

    def _cross(self, sample: Sample, now_ms: int, fences: Fences) -> list[Deed]:
        deeds: list[Deed] = []
        if self.trip.plan is None or self.trip.over:
            return deeds
        watch = self._watches.get(sample.subject)
        if watch is None:
            if len(self._watches) >= SUBJECTS_MAX:
                del self._watches[next(iter(self._watches))]
            watch = self._watches[sample.subject] = Watch()
        for crossing in watch.step(fences, self.stream, sample.at_ms, sample.lat, sample.lon, sample.acc):
            said = self.trip.fences.get((crossing.fence, sample.subject))
            if said is not None and crossing.at_ms <= said.at_ms:
                continue  # taken up again
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

    def _arrive(self, plan: Plan, sample: Sample, now_ms: int) -> list[Deed]:
        estimator = self._estimator
        assert estimator is not None
        progress_m = None if not self._along or estimator.off_route else estimator.progress_m
        return self._at_stops(plan, self._reached.take(sample, self.trip.ahead(), self._along, progress_m), now_ms)

    def _at_stops(self, plan: Plan, reached: Sequence[tuple[str, int]], now_ms: int) -> list[Deed]:
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

    def not_given(self, give: Give) -> None:
        """Of an alert: it could not be taken, and is due again at once if it still is."""
        self._given.pop(give.key, None)

    def _tell(self, now_ms: int) -> list[Deed]:
        """Arrival times as they are now, and the alerts that are due by them."""
        deeds: list[Deed] = []
        told, waits = self._note(now_ms), self._waiting()
        looks: list[int] = []
        for stop, _ in told:
            shown = self._shown[stop]
            look = alerts.look(self.tenant, self.stream, self.trip, stop, shown, now_ms, self.arrivals, waits)
            for due in look.due:
                deeds += self._once(due.key, Give("alert", due.body(now_ms), due.key), now_ms)
            if look.look_ms is not None:
                looks.append(max(look.look_ms, now_ms + 1))
            elif look.due:
                looks.append(now_ms + AGAIN_MS)
        parked = self._reached.silent(self.trip.ahead())
        if parked is not None:
            stop, since_ms, from_ms = parked
            if now_ms >= from_ms and self.trip.plan is not None:
                deeds += self._at_stops(self.trip.plan, [(stop, since_ms)], now_ms)
            looks.append(from_ms if now_ms < from_ms else now_ms + AGAIN_MS)
        self.look_ms = min(looks, default=None)
        return self._worth_showing(told, now_ms) + deeds

    def _waiting(self) -> dict[str, list[Waits]]:
        if self._waits is None:
            self._waits = alerts.waiting(self.trip, self._arrivals)
        return self._waits

    def _note(self, now_ms: int) -> list[tuple[str, Estimate]]:
        """Of the stops ahead, as far as they are shown or wanted; what alerts look back at is kept."""
        ahead, waits = self.trip.ahead(), self._waiting()
        told: list[tuple[str, Estimate]] = []
        for nth, stop in enumerate(ahead):
            last = nth == len(ahead) - 1
            if not last and nth > showing.THEN_MAX and stop.stop not in waits:
                continue
            emission = self._emission(stop.stop, last, now_ms)
            if emission is not None:
                told.append((stop.stop, self._keep(stop.stop, emission)))
        return told

    def _emission(self, stop: str, last: bool, now_ms: int) -> Emission | None:
        estimator = self._estimator
        assert estimator is not None
        assert self._last is not None
        at_s = max(self._seconds(now_ms), self._seconds(self._last.at_ms))
        return estimator.now(at_s) if last else estimator.to(stop, at_s)

    def _keep(self, stop: str, emission: Emission) -> Estimate:
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
        return estimate

    def _source(self, emission: Emission) -> str:
        return emission.source if self._calls is None else self._calls.marked(emission.source)

    def _worth_showing(self, told: Sequence[tuple[str, Estimate]], now_ms: int) -> list[Deed]:
        if not told:
            return []
        shown = told[0][1]
        if now_ms - shown.made_ms < 1000 * RESHOWN_S:
            moves_ms = min(shown.eta_ms, shown.made_ms + round(1000 * SILENT_S))
            self.reshow_ms = moves_ms if moves_ms > now_ms else now_ms + round(1000 * showing.SHOW_AGAIN_S)
        else:
            self.reshow_ms = None
        show = self._showing.worth(told)
        return [] if show is None else [show]

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
        self._asked = [stop.stop for stop in ahead]
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
        # Who is off his way comes back to it more often than a straight line is better: off it the crow's way counts anyhow.
        had = self._snapshot
        guessed = had is not None and had.source == OFFLINE
        keep = self._way is not None or (had is not None and not (guessed and why == "off_route"))
        taken = not (guess and keep)
        self._calls.answered(now_ms, calls, failed, snapshot if taken else None)
        estimator = self._estimator
        if not taken or estimator is None or len(snapshot.stops) != len(self._asked):
            return
        route = snapshot.route(self._asked)  # a stop that was reached meanwhile does no harm
        self._snapshot = snapshot
        estimator.reroute(route)
        self._along = {stop.name: stop.at_m for stop in route.stops}
        total_s = snapshot.total_s()
        if total_s is not None and not guess:
            spread = exp(0.35)
            self._calls.expect(now_ms + round(1000 * total_s / spread), now_ms + round(1000 * total_s * spread))


def _way_of(plan: Plan) -> tuple[object, ...]:
    return plan.mode, plan.subject, plan.route, tuple((stop.stop, stop.lat, stop.lon) for stop in plan.stops)
