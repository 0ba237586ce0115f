"""Arrival times of one trip: from its fixes, its route, what was learned and what its device says. Theory of operation:

    fix → progress on the way (match) → what was covered, what is left, of the expected seconds (pace, track) → features →
    trees → mean and spread of log(time to go) → with advice (assist) → target, low, high → shown (steady)

Where most of what is left was learned, the trees speak ("learned"). Else the expected seconds times the trip's own factor do,
expected by the provider's leg times ("route") or by the mode's speed ("default"). Off the route, or without one, it is the
distance as the crow flies ("great_circle"): for aircraft that is the way, with the ground speed.

For: the gateway's trips and replay. Promises: low <= eta <= high, none before now; a fix that is not newer than the last
changes nothing; bounded memory; some 30 us a fix. Does not: order or judge fixes (`core.geo.plausible`), fetch routes, or go
on elsewhere: whoever takes a trip up gives it the fixes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, exp, hypot, isfinite, log, radians, sin
from typing import Final, NamedTuple

from core.geo.assist import HELD_MAX, LEFT_MAX_S, SPACING_S, Record, mixed
from core.geo.features import BASE_S, FACTOR, features
from core.geo.match import Matcher
from core.geo.model import SPREAD_MAX, SPREAD_MIN, Model, aimed_s, seconds_of
from core.geo.pace import SPEED_MPS, Expected, hour_of
from core.geo.route import Route
from core.geo.sphere import distance_m
from core.geo.steady import Calm, Steady
from core.geo.track import Track
from core.geo.way import Way

PLAIN_SPREAD: Final = {"learned": 0.3, "route": 0.3, "default": 0.45, "great_circle": 0.45}
PLAIN_AIM: Final = -0.3  # spreads; where no model says
PLAIN_Z: Final = 1.2816  # 80 % of a normal distribution
STRAIGHT: Final = frozenset(("aircraft", "ship"))
DETOUR: Final = 1.3  # roads to the crow's flight: 1.2 to 1.4 in most cities
SPEED_HALF_S: Final = 120.0  # where the crow's way is the way
ROAD_HALF_S: Final = 900.0  # elsewhere: a light is no jam
SPEED_MIN: Final = 0.15  # of the mode's: a vehicle that stands will go on
SPEED_MAX_MPS: Final = 400.0
SILENT_S: Final = 120.0  # after which the interval widens


class Fixed(NamedTuple):
    """A fix in time order of the trip's clock; what the device does not say is ``None``."""

    at_s: float
    lat: float
    lon: float
    speed_mps: float | None = None
    heading_deg: float | None = None
    acc_m: float | None = None


class Emission(NamedTuple):
    """What is shown at `at_s`: arrival, and the 80 % interval, on the clock of `at_s`. `age_s`: since the fix that it rests
    on. `even_s`: as likely before as after, not aimed early and not held still: what alerts go by."""

    at_s: float
    eta_s: float
    low_s: float
    high_s: float
    source: str
    age_s: float = 0.0
    even_s: float = 0.0


class _Guess(NamedTuple):
    """Of the time to go in seconds."""

    left_s: float
    low_s: float
    high_s: float
    even_s: float
    source: str


class _Path(NamedTuple):
    """A route, measured and expected, and where the vehicle is on it."""

    way: Way
    matcher: Matcher
    expected: Expected


class _Shown(NamedTuple):
    steady: Steady
    guess: _Guess
    at_s: float


class Estimator:
    """One trip. `week0_s`: where in the local week (Monday 0:00) its clock's zero falls. Give a route, or a place to go to."""

    def __init__(
        self,
        route: Route | None = None,
        *,
        goal: tuple[float, float] | None = None,
        model: Model | None = None,
        mode: str = "car",
        week0_s: float = 0.0,
        record: Record | None = None,
    ) -> None:
        assert mode in SPEED_MPS, mode
        assert route is not None or goal is not None, "neither a route nor a goal"
        self._model = model
        self._mode = mode
        self._week0_s = week0_s
        self._record = Record() if record is None else record
        self._calm = Calm() if model is None else model.calm
        self._goal = route.points[-1] if route is not None else goal or (0.0, 0.0)
        self._route = route
        self._path: _Path | None = None
        self._track = Track(0.0)
        self._last: Fixed | None = None
        self._speed = SPEED_MPS[mode]
        self._shown: dict[str, _Shown] = {}
        self._advised: list[tuple[float, float]] = []

    def _lay(self, route: Route, at_s: float) -> _Path:
        way = Way(route)
        pace = None if self._model is None else self._model.pace
        return _Path(way, Matcher(way), Expected(way, pace, self._week0_s + at_s, self._mode))

    @property
    def off_route(self) -> bool:
        return self._path is not None and self._path.matcher.off_route

    @property
    def progress_m(self) -> float:
        return 0.0 if self._path is None else self._path.matcher.at_m

    @property
    def target_s(self) -> float:
        """The arrival that the shown one moves towards; for who compares the two."""
        held = self._shown[""]
        return held.at_s + held.guess.left_s

    @property
    def advised(self) -> Sequence[tuple[float, float]]:
        """Advice taken, to be judged by `Record.told` at the end."""
        return tuple(self._advised)

    def take(self, fix: Fixed) -> Emission | None:
        """A fix; ``None`` where it is not newer than the last, or no place: then nothing has changed."""
        if not self.advance(fix):
            return None
        self._show("")
        return self.now(fix.at_s)

    def advance(self, fix: Fixed) -> bool:
        """Progress only: what `take` does before it estimates. For training, which goes on with `look`."""
        at_s, last = fix.at_s, self._last
        if last is not None and not at_s > last.at_s:
            return False
        if not (isfinite(at_s) and abs(fix.lat) <= 90.0 and abs(fix.lon) <= 180.0):
            return False
        if last is None:
            self._track = Track(at_s)
            if self._model is not None and self._mode not in STRAIGHT:
                self._speed = 1.0 / self._model.pace.hours[hour_of(self._week0_s + at_s)]
            self._path = None if self._route is None else self._lay(self._route, at_s)
        after_s = 0.0 if last is None else at_s - last.at_s
        if self._path is not None:
            way, matcher, expected = self._path
            x, y = way.plane.xy(fix.lat, fix.lon)
            turn = None if fix.heading_deg is None else radians(fix.heading_deg)
            before_m = matcher.at_m
            here_m = matcher.take(
                x, y, after_s, None if turn is None else (sin(turn), cos(turn)), fix.acc_m or 0.0
            ).at_m
            if last is not None:
                self._track.take(at_s, here_m - before_m, expected.at(here_m) - expected.at(before_m))
        if self._path is None or self._path.matcher.off_route:
            self._measure(fix, last, after_s)
        self._last = fix
        return True

    def _measure(self, fix: Fixed, last: Fixed | None, after_s: float) -> None:
        """The speed over ground, smoothed; of use where there is no route."""
        if fix.speed_mps is not None:
            speed = fix.speed_mps
        elif last is not None:
            speed = distance_m(last.lat, last.lon, fix.lat, fix.lon) / after_s
        else:
            return
        straight = self._mode in STRAIGHT
        weight = (
            float(straight) if last is None else 1.0 - 0.5 ** (after_s / (SPEED_HALF_S if straight else ROAD_HALF_S))
        )
        self._speed += weight * (min(max(speed, 0.0), SPEED_MAX_MPS) - self._speed)

    def look(self, stop: str = "") -> list[float] | None:
        """The features at the last fix, on the route; ``None`` where there is no route or no fix yet."""
        if self._last is None or self._path is None:
            return None
        way, matcher, expected = self._path
        to_m = self._offset(way, stop)
        x, y = way.plane.xy(self._last.lat, self._last.lon)
        tx, ty = way.place(to_m)
        return features(
            expected, self._track, matcher.at_m, to_m, hypot(tx - x, ty - y), self._week0_s + self._last.at_s
        )

    @staticmethod
    def _offset(way: Way, stop: str) -> float:
        named = way.route.stop(stop) if stop else None
        return way.length_m if named is None else named.at_m

    def _guess(self, last: Fixed, stop: str) -> _Guess:
        low, high, even, aim = -PLAIN_Z, PLAIN_Z, 0.0, PLAIN_AIM
        x = None if self.off_route else self.look(stop)
        if x is None or self._path is None:
            source = "great_circle"
            mean, spread = log(self._crow_s(last, stop) + BASE_S), PLAIN_SPREAD[source]
        else:
            way, matcher, expected = self._path
            source = expected.source(matcher.at_m, self._offset(way, stop))
            if source == "learned" and self._model is not None:
                mean = x[0] + self._model.mean.ask(x)
                spread = min(SPREAD_MAX, max(SPREAD_MIN, self._model.spread.ask(x)))
                low, high, even = self._model.band(exp(min(mean, 15.0)))
                aim = self._model.aim
            else:
                mean, spread = x[0] + x[FACTOR], PLAIN_SPREAD[source]
        if self._advised and not stop:
            mean, spread = mixed(mean, spread, last.at_s, self._advised[-1], self._record)
        target = aimed_s(mean, spread, aim)
        return _Guess(
            target,
            min(seconds_of(mean + low * spread), target),
            max(seconds_of(mean + high * spread), target),
            seconds_of(mean + even * spread),
            source,
        )

    def _crow_s(self, last: Fixed, stop: str) -> float:
        if self._path is None:
            speed = max(self._speed, SPEED_MIN * SPEED_MPS[self._mode])
            return distance_m(last.lat, last.lon, *self._goal) * (1.0 if self._mode in STRAIGHT else DETOUR) / speed
        way, _, expected = self._path
        goal = way.plane.place(*way.place(self._offset(way, stop)))
        factor = (last.at_s - self._track.began_s + 600.0) / (self._track.expected[-1] + 600.0)
        return distance_m(last.lat, last.lon, *goal) * DETOUR * factor * expected.seconds[-1] / max(1.0, way.length_m)

    def _show(self, stop: str) -> None:
        last, held = self._last, self._shown.get(stop)
        assert last is not None
        if held is not None and held.at_s == last.at_s:
            return
        guess, at_s = self._guess(last, stop), last.at_s
        steady = Steady(self._calm) if held is None else held.steady
        steady.take(at_s, at_s + guess.left_s, at_s + guess.low_s, at_s + guess.high_s)
        self._shown[stop] = _Shown(steady, guess, at_s)

    def now(self, at_s: float, stop: str = "") -> Emission | None:
        """What is shown at a moment, with or without a new fix; ``None`` before the first. Time alone moves an arrival only
        where it would lie in the past; silence widens the interval."""
        held = self._shown.get(stop)
        if held is None or held.steady.shown_s is None:
            return None
        at_s = max(at_s, held.at_s)
        silent_s = at_s - held.at_s
        eta = max(held.steady.shown_s, at_s)
        low = max(at_s, min(eta, held.at_s + held.guess.low_s))
        high = max(eta, held.at_s + held.guess.high_s) + max(0.0, silent_s - SILENT_S) / 2
        return Emission(at_s, eta, low, high, held.guess.source, silent_s, max(at_s, held.at_s + held.guess.even_s))

    def to(self, stop: str, at_s: float | None = None) -> Emission | None:
        """The arrival at a named stop of the route; ``None`` where it is passed or there is none of that name."""
        if self._last is None or self._path is None:
            return None
        named = self._path.way.route.stop(stop)
        if named is None or named.at_m < self.progress_m:
            self._shown.pop(stop, None)
            return None
        self._show(stop)
        return self.now(self._last.at_s if at_s is None else at_s, stop)

    def advise(self, eta_s: float, at_s: float) -> bool:
        """The device's own arrival time, as evidence from the next fix on; whether it was taken."""
        if not (isfinite(eta_s) and isfinite(at_s) and 0.0 <= eta_s - at_s <= LEFT_MAX_S):
            return False
        if self._advised and at_s - self._advised[-1][0] < SPACING_S:
            return False
        self._advised = [*self._advised[-HELD_MAX + 1 :], (at_s, eta_s)]
        return True

    def reroute(self, route: Route) -> None:
        """A new way from here on. What the trip has shown of itself stays; what is shown moves with the next fix."""
        self._route, self._goal = route, route.points[-1]
        self._shown = {stop: held for stop, held in self._shown.items() if not stop}
        if self._last is not None:
            self._path = self._lay(route, self._last.at_s)
            self._path.matcher.take(*self._path.way.plane.xy(self._last.lat, self._last.lon), 0.0)
