"""Who calls providers of routes: within a tenant's budget, at most so often and so long, and never one that is dead.

Providers are asked in the order of the settings until one answers; what answers in the end, whatever happens, is the guess of
`gateway.routes.offline`. One that fails `breaker_failures` times in a row is left alone for `breaker_rest_s`, and then
tried by one call of whoever asks next (`core.breaker`); one that names a time (429, Retry-After) is left alone so long.
With trips that stop asking after their own call failed (`core.geo.route_calls`), a dead provider costs a node a few calls,
then one in `breaker_rest_s`.

Asks of one tenant that agree to some 10 m share one call while it is under way, and its answer for `kept_s`, where the
provider lets answers be kept. Tenants share nothing: how long an answer takes would tell one where another's vehicles are.

Promises: `route` always answers, within `wait_s` a provider; it makes no more than ``calls_max`` calls; every call was
taken from the budget first. Bounded: calls under way (a provider with none left is passed over, nobody waits in line),
answers kept.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import trio

from core.breaker import Breaker
from core.geo.routing import Ask, Provider, RouteError, Snapshot
from gateway.routes.budget import Budget
from gateway.routes.offline import Offline

log = logging.getLogger("readback.routes")

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RouteLimits:
    wait_s: float = 2.0  # for one provider: an arrival time does not wait longer for a better one
    calls_at_once_max: int = 8  # to one provider, so that one that hangs holds few of the node's connections
    breaker_failures: int = 3  # in a row, and a provider is left alone
    breaker_rest_s: float = 300.0  # for so long, a fifth more or less so that nodes do not try it together
    kept_s: float = 300.0  # answers that may be kept: traffic is not much older
    kept_max: int = 500
    kept_points_max: int = 200_000  # of all answers kept: some 30 MB


class Routed(NamedTuple):
    """``calls`` were made for it, none where it was shared. ``failed``: a provider was called in vain and no other
    answered."""

    snapshot: Snapshot
    calls: int
    failed: bool


class Line:
    """What is known of one provider."""

    __slots__ = ("breaker", "calls", "failures", "free_at_s", "no_way", "provider", "under_way")

    def __init__(self, provider: Provider, breaker: Breaker) -> None:
        self.provider = provider
        self.breaker = breaker
        self.free_at_s = 0.0
        """Until then it asked to be left alone."""
        self.under_way = 0
        self.calls = 0
        self.failures = 0
        self.no_way = 0
        """It answered that there is none."""


class _Flight:
    """A call under way that others wait for. ``ended`` without a way nor an error: it was cancelled, and one of them
    calls."""

    __slots__ = ("ended", "error", "snapshot")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.snapshot: Snapshot | None = None
        self.error: RouteError | None = None


class Routes:
    """Of one node. ``wall`` is Unix time in seconds, ``now_s`` a clock that only rises. Counters are for metrics."""

    def __init__(
        self,
        providers: Sequence[Provider],
        budget: Budget,
        limits: RouteLimits,
        rng: Random,
        wall: Callable[[], float],
        *,
        now_s: Callable[[], float] = trio.current_time,
    ) -> None:
        assert len({provider.name for provider in providers}) == len(providers)
        self._budget = budget
        self._limits = limits
        self._wall = wall
        self._now_s = now_s
        self._offline = Offline(wall)
        self.lines = [
            Line(provider, Breaker(limits.breaker_failures, limits.breaker_rest_s * rng.uniform(0.8, 1.2)))
            for provider in providers
        ]
        self._flights: dict[_Key, _Flight] = {}
        self._kept: OrderedDict[_Key, tuple[float, Snapshot]] = OrderedDict()
        self._kept_points = 0
        self.well_ms = 0
        """When any provider last answered anybody here; for `core.geo.route_calls.RouteCalls.why`."""
        self.shared = 0
        self.from_kept = 0
        self.over_budget = 0
        self.guessed = 0

    @property
    def calls(self) -> int:
        return sum(line.calls for line in self.lines)

    @property
    def failures(self) -> int:
        return sum(line.failures for line in self.lines)

    async def route(self, tenant: str, ask: Ask, calls_max: int = 2) -> Routed:
        """Raises `ValueError` with a sentence where nobody can be asked this."""
        problem = ask.problem()
        if problem:
            raise ValueError(problem)
        calls, failed = 0, False
        for line in self.lines:
            if ask.mode not in line.provider.modes:
                continue
            found, cost = await self._ask(line, tenant, ask, calls_max - calls)
            calls += cost
            if isinstance(found, Snapshot):
                return Routed(found, calls, False)
            failed = failed or (found is not None and not found.fatal)
        self.guessed += 1
        return Routed(await self._offline.route(ask), calls, failed)

    async def _ask(self, line: Line, tenant: str, ask: Ask, calls_max: int) -> tuple[Snapshot | RouteError | None, int]:
        """One provider's answer, or how it failed, or ``None`` where it was not called; and the calls it cost."""
        if not line.provider.shareable:
            return await self._call(line, tenant, ask, calls_max)
        key = (tenant, line.provider.name, *ask.key())
        while True:
            kept = self._kept.get(key)
            if kept is not None and kept[0] > self._now_s():
                self.from_kept += 1
                return kept[1], 0
            flight = self._flights.get(key)
            if flight is None:
                break
            self.shared += 1
            await flight.ended.wait()
            if flight.snapshot is not None or flight.error is not None:
                return flight.snapshot or flight.error, 0
        flight = self._flights[key] = _Flight()
        try:
            found, cost = await self._call(line, tenant, ask, calls_max)
            if isinstance(found, Snapshot):
                flight.snapshot = found
                self._keep(key, found)
            else:
                # Not called: nor are those who wait, for the same reasons.
                flight.error = found or RouteError(f"{line.provider.name} was not called", fatal=True)
            return found, cost
        finally:
            del self._flights[key]
            flight.ended.set()

    async def _call(
        self, line: Line, tenant: str, ask: Ask, calls_max: int
    ) -> tuple[Snapshot | RouteError | None, int]:
        limits, now_s, name = self._limits, self._now_s(), line.provider.name
        if calls_max <= 0 or now_s < line.free_at_s or line.under_way >= limits.calls_at_once_max:
            return None, 0
        if line.breaker.ask(now_s) > 0:
            return None, 0
        line.under_way += 1
        told = False
        try:
            if not await self._budget.take(tenant):
                self.over_budget += 1
                return None, 0
            line.calls += 1
            try:
                with trio.fail_after(limits.wait_s):
                    found = await line.provider.route(ask)
            except trio.TooSlowError:
                raise RouteError(f"{name} did not answer within {limits.wait_s:g} s") from None
            told = True
            line.breaker.went_well()
            self._well()
            return found, 1
        except RouteError as error:
            told = True
            if error.fatal:
                line.no_way += 1
                line.breaker.went_well()
                self._well()
            else:
                self._failed(line, error)
            return error, 1
        finally:
            line.under_way -= 1
            if not told:
                line.breaker.nothing()

    def _well(self) -> None:
        self.well_ms = max(self.well_ms, int(1000 * self._wall()))

    def _failed(self, line: Line, error: RouteError) -> None:
        now_s = self._now_s()
        line.failures += 1
        opened = line.breaker.opened
        line.breaker.failed(now_s)
        if error.retry_after_s is not None:
            line.free_at_s = max(line.free_at_s, now_s + error.retry_after_s)
        if line.breaker.opened > opened:
            log.warning("%s; it is left alone, and arrival times go on with what they have", error.reason)

    def _keep(self, key: _Key, snapshot: Snapshot) -> None:
        assert snapshot.shareable
        self._forget(key)
        self._kept[key] = self._now_s() + self._limits.kept_s, snapshot
        self._kept_points += len(snapshot.points)
        while len(self._kept) > self._limits.kept_max or self._kept_points > self._limits.kept_points_max:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: _Key) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._kept_points -= len(gone[1].points)
