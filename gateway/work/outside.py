"""Calls to hosts that are not ours: at most so many at once to each, and none to one that fails again and again.

A host that hangs takes `webhooks_per_host_max` places and no more (a bulkhead); one that fails is left alone by a breaker of
its own (`core.breaker`). Neither makes anybody wait here: who finds no room, or an open breaker, is told when to come back.

Promises: hosts are remembered within a bound, those with a story longest; what an answer holds open is closed, whoever is
cancelled. Does not: say what is called, or how long that may take (`gateway.work.webhooks`, `gateway.push.line`,
`gateway.routes.wire`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import httpx
import trio

from core.breaker import Breaker
from core.work_limits import WorkLimits
from gateway.work.ports import Transient

HOSTS_MAX: Final = 1_000
FULL_S: Final = 0.25
TRIES_MAX: Final = 100
"""Of a task that fails outside: some eight hours with the backoff of `WorkLimits`, so that a night's outage loses nothing."""
CLOSE_S: Final = 0.5
"""For closing an answer, whose host may hang."""


class Full(Transient):
    """As many calls to this host are under way as may be. Says nothing of the host: no attempt is counted."""


class _Host:
    __slots__ = ("breaker", "calls")

    def __init__(self, limits: WorkLimits) -> None:
        self.breaker = Breaker(limits.breaker_failures, limits.breaker_rest_s)
        self.calls = 0


class Outside:
    """Of one worker. ``now_s`` is a clock that only rises."""

    def __init__(self, limits: WorkLimits, now_s: Callable[[], float] = trio.current_time) -> None:
        self._limits = limits
        self._now_s = now_s
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    @contextmanager
    def call(self, host: str) -> Iterator[None]:
        """Around one call. What raises `Transient` in it failed; what raises anything else `Exception` reached the host all
        the same; cancelled says nothing. Raises `Full`, or `Transient` with the rest of an open breaker."""
        found = self._host(host)
        if found.calls >= self._limits.webhooks_per_host_max:
            raise Full(f"{found.calls} calls to {host} are under way already", FULL_S)
        rest_s = found.breaker.ask(self._now_s())
        if rest_s > 0:
            raise Transient(
                f"{host} failed {found.breaker.failures} times in a row and is left alone", rest_s, tries_max=TRIES_MAX
            )
        found.calls += 1
        try:
            yield
        except Transient:
            found.breaker.failed(self._now_s())
            raise
        except Exception:
            found.breaker.went_well()
            raise
        except BaseException:
            found.breaker.nothing()
            raise
        else:
            found.breaker.went_well()
        finally:
            found.calls -= 1

    def _host(self, host: str) -> _Host:
        found = self._hosts.get(host)
        if found is None:
            if len(self._hosts) >= HOSTS_MAX:
                self._make_room()
            found = self._hosts[host] = _Host(self._limits)
        self._hosts.move_to_end(host)
        return found

    def _make_room(self) -> None:
        """The one called longest ago that is well; where none is, the one called longest ago."""
        idle = [host for host, found in self._hosts.items() if not found.calls]
        well = [host for host in idle if not self._hosts[host].breaker.failures]
        for host in (well or idle)[:1]:
            del self._hosts[host]

    def states(self) -> Mapping[str, int]:
        """How many hosts have a breaker in which state, for metrics: hosts themselves are tenants' own business."""
        counts = {"closed": 0, "open": 0, "half-open": 0}
        for found in self._hosts.values():
            counts[found.breaker.state] += 1
        return counts

    @property
    def opened(self) -> int:
        """How often breakers opened, of the hosts remembered."""
        return sum(found.breaker.opened for found in self._hosts.values())


@asynccontextmanager
async def answered(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    """The head of an answer, with its body to be read; closed in the end. Raises as the transport does."""
    answer = await transport.handle_async_request(request)
    try:
        yield answer
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_S):
            await answer.aclose()
