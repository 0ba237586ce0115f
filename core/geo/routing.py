"""Routes from providers: what is asked, what is answered, and what of it may be kept. The port of providers and of their
budget.

Some providers' terms forbid keeping their durations. Google's (Maps Platform Terms of Service 3.2.3(b), with the Service
Specific Terms' clause on caching of the Routes API): nothing may be cached but what is expressly allowed, which is
latitudes and longitudes for 30 days at most and place ids. So durations of such a provider are `Passing`: they can be used
and cannot be written. They have no JSON, no pickle, no copy and no digits in their repr; `Snapshot.json` leaves them out, and
places read back after `kept_until_ms` are gone. Metres are always our own, measured on the points.

For: `gateway.routes` (providers), `core.geo.route_calls` (when one is asked), trips. Promises: a `Snapshot` that exists can
be used; one that is `shareable` may be given to other trips of its tenant, another may not. Does not: call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Final, Literal, NamedTuple, NoReturn, Protocol

from core.geo.polyline import decode, encode
from core.geo.route import POINTS_MAX, Route, Stop, make_route
from core.geo.sphere import distance_m

Mode = Literal["foot", "bike", "car", "bus", "truck", "train", "ship", "aircraft", "any"]
ROAD: Final[frozenset[Mode]] = frozenset(("foot", "bike", "car", "bus", "truck", "any"))
ASK_POINTS_MAX: Final = 52
"""From, fifty stops of a plan, to."""
ROAD_M_MAX: Final = 3_000_000.0
"""Of a road's ask, point to point: what a stranger's plan could make a provider search a continent for."""
OFF_M_MAX: Final = 10_000.0
"""How far from a point of the ask a way may pass: roads begin where they begin."""
SAME_DIGITS: Final = 4
"""Of degrees, some 10 m: asks that agree so far are one."""
PRECISION: Final = 6
"""Of places that are kept."""
SAME_DEPART_MS: Final = 300_000

Place = tuple[float, float]
"""Latitude and longitude."""


class RouteError(Exception):
    """No route of this provider. ``fatal``: it is well and has none for this ask, now or later; else it could not be had,
    and where ``retry_after_s`` is given the provider asked to be left alone for so long. The words name provider and
    reason, never an answer's text, a key or a place."""

    def __init__(self, reason: str, retry_after_s: float | None = None, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.fatal = fatal


class Ask(NamedTuple):
    """``points`` are from, via… and to. ``depart_ms``: ``None`` is now. ``way`` is the plan's own polyline, where it has
    one."""

    mode: Mode
    points: tuple[Place, ...]
    depart_ms: int | None = None
    way: tuple[Place, ...] = ()

    def problem(self) -> str:
        """Why nobody is asked this; empty where it may be asked."""
        if not 2 <= len(self.points) <= ASK_POINTS_MAX:
            return f"a route leads through 2 to {ASK_POINTS_MAX} points, not {len(self.points)}"
        if not all(abs(lat) <= 90.0 and abs(lon) <= 180.0 for lat, lon in self.points + self.way):
            return "a point is no latitude and longitude"
        if self.mode in ROAD and crow_m(self.points) > ROAD_M_MAX:
            return f"a way by road is at most {ROAD_M_MAX / 1000:.0f} km from point to point"
        return ""

    def key(self) -> tuple[object, ...]:
        """What is the same for asks that are: mode, points to 10 m, departure to 5 minutes."""
        depart = None if self.depart_ms is None else self.depart_ms // SAME_DEPART_MS
        return self.mode, depart, *((round(lat, SAME_DIGITS), round(lon, SAME_DIGITS)) for lat, lon in self.points)


class Passing:
    """Seconds that may be used for one trip and must not be kept. `use` is the only way to them."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: Iterable[float]) -> None:
        self._seconds = tuple(seconds)

    def __len__(self) -> int:
        return len(self._seconds)

    def __repr__(self) -> str:
        return f"Passing({len(self._seconds)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("these durations must not be kept: their provider's terms")

    def use(self) -> tuple[float, ...]:
        return self._seconds


class PassingRoute(Route):
    """A route whose times are of one trip's estimator alone: it has no pickle and no copy."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"PassingRoute({len(self.points)} points, {self.source})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("these durations must not be kept: their provider's terms")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One answer. ``legs_m`` and ``legs_s`` have one entry for each piece between two points; ``stops`` says for each point
    of the ask after the first at which of ``points`` it is reached. ``legs_s`` is ``None`` where they could not be kept."""

    points: tuple[Place, ...]
    legs_m: tuple[float, ...]
    legs_s: tuple[float, ...] | Passing | None
    stops: tuple[int, ...]
    source: str
    made_ms: int
    kept_until_ms: int | None = None
    """Until when the points may be kept; ``None``: for ever."""

    def __post_init__(self) -> None:
        assert 2 <= len(self.points) <= POINTS_MAX
        assert len(self.legs_m) == len(self.points) - 1
        assert self.legs_s is None or len(self.legs_s) == len(self.legs_m)
        assert self.stops
        assert self.stops[-1] == len(self.points) - 1
        assert not isinstance(self.legs_s, Passing) or self.kept_until_ms is not None

    @property
    def shareable(self) -> bool:
        """Whether other trips of the tenant may have it, and caches keep it."""
        return self.kept_until_ms is None

    def use(self) -> tuple[float, ...] | None:
        """Seconds, for this trip's estimator alone."""
        return self.legs_s.use() if isinstance(self.legs_s, Passing) else self.legs_s

    def total_s(self) -> float | None:
        seconds = self.use()
        return None if seconds is None else sum(seconds)

    def route(self, names: Sequence[str]) -> Route:
        """For an estimator: ``names`` of the ask's points after the first."""
        assert len(names) == len(self.stops)
        cum = [0.0]
        for leg_m in self.legs_m:
            cum.append(cum[-1] + leg_m)
        # A route measures its points itself; where metres are more than that (a detour guessed) stops are scaled along.
        crow = crow_m(self.points)
        scale = crow / cum[-1] if cum[-1] > 0.0 else 0.0
        stops = [Stop(name, min(cum[at] * scale, crow)) for name, at in zip(names, self.stops, strict=True)]
        made = make_route(self.points, leg_s=self.use(), stops=stops, source=self.source)
        assert isinstance(made, Route), made
        return PassingRoute(*made) if isinstance(self.legs_s, Passing) else made

    def json(self) -> dict[str, object]:
        """For a store or another node: durations only where they may be kept."""
        seconds = [round(s, 2) for s in self.legs_s] if isinstance(self.legs_s, tuple) else None
        return {
            "polyline": encode(self.points, PRECISION),
            "legs_m": [round(leg_m, 1) for leg_m in self.legs_m],
            "legs_s": seconds,
            "stops": list(self.stops),
            "source": self.source,
            "made_ms": self.made_ms,
            "kept_until_ms": self.kept_until_ms,
        }


def read_snapshot(body: object, now_ms: int) -> Snapshot | str:
    """What `Snapshot.json` wrote, or why there is none: also where it must be kept no longer."""
    if not isinstance(body, Mapping):
        return "a snapshot of a route is a JSON object"
    text, until = body.get("polyline"), body.get("kept_until_ms")
    source, made_ms = body.get("source"), body.get("made_ms")
    if not (isinstance(text, str) and isinstance(source, str) and isinstance(made_ms, int)):
        return "a snapshot of a route has a polyline, a source and a time"
    if until is not None and not (isinstance(until, int) and now_ms < until):
        return "the snapshot may be kept no longer"
    points = decode(text, PRECISION)
    if isinstance(points, str):
        return points
    if not 2 <= len(points) <= POINTS_MAX:
        return f"a snapshot of a route has 2 to {POINTS_MAX} points"
    legs_m, legs_s = _numbers(body.get("legs_m"), len(points) - 1), _numbers(body.get("legs_s"), len(points) - 1)
    stops = body.get("stops")
    if legs_m is None or (legs_s is None and body.get("legs_s") is not None):
        return "the legs of the snapshot do not fit its points"
    if not (isinstance(stops, list) and stops and all(isinstance(at, int) and 0 <= at < len(points) for at in stops)):
        return "the stops of the snapshot do not fit its points"
    if stops != sorted(stops) or stops[-1] != len(points) - 1:
        return "the stops of the snapshot do not follow its points"
    if until is not None and legs_s is not None:
        return "the snapshot holds durations that must not be kept"
    return Snapshot(tuple(points), legs_m, legs_s, tuple(stops), source, made_ms, until)


def _numbers(given: object, count: int) -> tuple[float, ...] | None:
    if not isinstance(given, list) or len(given) != count:
        return None
    if not all(type(each) in (int, float) and isfinite(each) and each >= 0.0 for each in given):
        return None
    return tuple(map(float, given))


class Shape:
    """Gathers a snapshot leg by leg, as answers tell of it. Raises `RouteError` where what is told cannot be."""

    __slots__ = ("_name", "points", "seconds", "stops")

    def __init__(self, name: str) -> None:
        self._name = name
        self.points: list[Place] = []
        self.seconds: list[float] = []
        self.stops: list[int] = []

    def add(self, points: Sequence[Place], seconds: Sequence[float]) -> None:
        """Points in their order with what each piece between them takes; begins where the last ended."""
        if len(seconds) != len(points) - 1 or not all(isfinite(s) and s >= 0.0 for s in seconds):
            raise RouteError(f"{self._name} answers with times that do not fit the way")
        if not all(abs(lat) <= 90.0 and abs(lon) <= 180.0 for lat, lon in points):
            raise RouteError(f"{self._name} answers with places that are none")
        if self.points and self.points[-1] == points[0]:
            points = points[1:]
        elif self.points:
            self.seconds.append(0.0)
        self.points += points
        self.seconds += seconds
        if len(self.points) > POINTS_MAX:
            raise RouteError(f"the way that {self._name} answers with has more than {POINTS_MAX} points", fatal=True)

    def stop(self) -> None:
        """Here the next point of the ask is reached."""
        self.stops.append(len(self.points) - 1)

    def snapshot(
        self,
        ask: Ask,
        made_ms: int,
        *,
        passing_until_ms: int | None = None,
        legs_m: Sequence[float] | None = None,
    ) -> Snapshot:
        """All of it. ``passing_until_ms``: its durations are of one trip, its points may be kept so long."""
        if len(self.points) == 1:
            self.points.append(self.points[0])
            self.seconds.append(0.0)
            self.stops = [1] * len(self.stops)
        if len(self.points) < 2 or len(self.stops) != len(ask.points) - 1 or self.stops[-1] != len(self.points) - 1:
            raise RouteError(f"{self._name} answers with a way that does not lead through what was asked")
        reached = (0, *self.stops)
        if any(distance_m(*self.points[at], *place) > OFF_M_MAX for at, place in zip(reached, ask.points, strict=True)):
            raise RouteError(f"{self._name} knows no way near what was asked", fatal=True)
        measured = pieces_m(self.points) if legs_m is None else legs_m
        seconds = tuple(self.seconds) if passing_until_ms is None else Passing(self.seconds)
        return Snapshot(
            tuple(self.points), tuple(measured), seconds, tuple(self.stops), self._name, made_ms, passing_until_ms
        )


def pieces_m(points: Sequence[Place]) -> list[float]:
    return [distance_m(*a, *b) for a, b in pairwise(points)]


def crow_m(points: Sequence[Place]) -> float:
    return sum(pieces_m(points))


def spread(points: Sequence[Place], total_s: float) -> list[float]:
    """A time over the pieces between points, by their length."""
    legs_m = pieces_m(points)
    whole = sum(legs_m)
    if whole <= 0.0:
        return [total_s / max(1, len(legs_m))] * len(legs_m)
    return [total_s * leg_m / whole for leg_m in legs_m]


class Provider(Protocol):
    """Somebody who knows ways. ``name`` is also the source of its snapshots; ``shareable`` that they all are; ``modes``
    what it has profiles for."""

    name: str
    shareable: bool
    modes: frozenset[Mode]

    async def route(self, ask: Ask) -> Snapshot:
        """Raises `RouteError`. Waits for as long as its host takes: who calls bounds that."""
        ...


class Purse(Protocol):
    """What tenants have spent on providers, by day, shared by all nodes and remembered over restarts."""

    async def grant(self, tenant: str, day: int, wanted: int, most: int) -> int:
        """How many of ``wanted`` calls this node may make: never more than ``most`` all together for (tenant, day), whoever
        asks. What was granted is spent. ``day`` counts UTC days of Unix time. Raises `core.ports.Unavailable`."""
        ...
