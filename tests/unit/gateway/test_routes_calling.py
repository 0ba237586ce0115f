"""gateway.routes.calling: an answer always, calls within their bounds, and none of what is dead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random

import pytest
import trio
import trio.testing

from core.geo.route_calls import OFFLINE, Look, RouteCalls
from core.geo.routing import ROAD, Ask, Mode, RouteError, Shape, Snapshot
from gateway.routes.budget import Budget
from gateway.routes.calling import Routed, RouteLimits, Routes
from gateway.routes.google import Google
from gateway.routes.osrm import Osrm
from gateway.routes.wire import Wire
from tests.purses import MemoryPurse
from tests.route_servers import KEY, NOW_S, GoogleServer, OsrmServer, Reply, serving

A, B = (30.0, 104.0), (30.1, 104.0)
ASK = Ask("car", (A, B))
DOWN = RouteError("fake cannot be reached")
NO_WAY = RouteError("fake knows no such way", fatal=True)


@dataclass
class Fake:
    """Answers after ``wait_s``, or fails as it is told to."""

    name: str = "fake"
    shareable: bool = True
    modes: frozenset[Mode] = ROAD
    wait_s: float = 0.0
    error: RouteError | None = None
    asked: list[Ask] = field(default_factory=list)

    async def route(self, ask: Ask) -> Snapshot:
        self.asked.append(ask)
        await trio.sleep(self.wait_s)
        if self.error is not None:
            raise self.error
        shape = Shape(self.name)
        shape.add(ask.points, [60.0] * (len(ask.points) - 1))
        shape.stops = list(range(1, len(ask.points)))
        return shape.snapshot(ask, 1, passing_until_ms=None if self.shareable else 10)


class Clock:
    """Wall and rising time at once, moved by hand; without one, Trio's mock clock is both."""

    def __init__(self) -> None:
        self.s = NOW_S

    def __call__(self) -> float:
        return self.s


def routes(
    *fakes: Fake, most: int = 10_000, limits: RouteLimits | None = None, clock: Callable[[], float] | None = None
) -> Routes:
    wall = clock or (lambda: NOW_S + trio.current_time())
    budget = Budget(MemoryPurse(), lambda _: most, wall)
    return Routes(fakes, budget, limits or RouteLimits(), Random(1), wall, now_s=clock or trio.current_time)


def far(n: int) -> Ask:
    return Ask("car", (A, (30.1 + n / 100, 104.0)))


async def test_the_first_that_answers() -> None:
    """In the order of the settings, and no other is asked; without any it is a guess."""
    first, second = Fake("first"), Fake("second")
    found = await routes(first, second).route("demo", ASK)
    assert (found.snapshot.source, found.calls, found.failed) == ("first", 1, False)
    assert (len(first.asked), len(second.asked)) == (1, 0)
    guess = await routes().route("demo", ASK)
    assert (guess.snapshot.source, guess.calls, guess.failed) == ("offline", 0, False)


@pytest.mark.parametrize(("error", "failed"), [(DOWN, True), (NO_WAY, False)])
async def test_the_next_where_one_does_not(error: RouteError, failed: bool) -> None:
    """It has no way, or failed; and in the end a guess, which says whether anybody failed."""
    first, second = Fake("first", error=error), Fake("second")
    asking = routes(first, second)
    assert await asking.route("demo", ASK) == Routed(await second.route(ASK), 2, False)
    second.error = error
    found = await asking.route("demo", far(1))
    assert (found.snapshot.source, found.calls, found.failed) == ("offline", 2, failed)
    assert asking.guessed == 1
    assert [(line.failures, line.no_way) for line in asking.lines] == ([(2, 0), (1, 0)] if failed else [(0, 2), (0, 1)])
    assert asking.failures == (3 if failed else 0)


async def test_no_more_calls_than_the_trip_may_make() -> None:
    """The chain ends there."""
    first, second = Fake("first", error=DOWN), Fake("second")
    asking = routes(first, second)
    found = await asking.route("demo", ASK, calls_max=1)
    assert (found.snapshot.source, found.calls, found.failed, second.asked) == ("offline", 1, True, [])
    assert (await asking.route("demo", ASK, calls_max=0)).calls == 0
    assert asking.calls == 1


async def test_modes_that_a_provider_does_not_serve() -> None:
    """It is passed over; nobody routes a ship."""
    bikes, cars = Fake("bikes", modes=frozenset(("bike",))), Fake("cars", modes=frozenset(("car",)))
    asking = routes(bikes, cars)
    assert (await asking.route("demo", ASK)).snapshot.source == "cars"
    assert (await asking.route("demo", ASK._replace(mode="ship"))).snapshot.source == "offline"
    assert (bikes.asked, len(cars.asked)) == ([], 1)


async def test_asks_that_cannot_be() -> None:
    """A sentence, before anybody is called."""
    fake = Fake()
    with pytest.raises(ValueError, match="through 2 to 52 points"):
        await routes(fake).route("demo", Ask("car", (A,)))
    assert fake.asked == []


async def test_a_dead_provider_is_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    """Three calls in vain; then none at all for some five minutes, then one, and so on."""
    fake = Fake(error=DOWN)
    asking = routes(fake)
    for n in range(100):
        found = await asking.route("demo", far(n))
        assert (found.snapshot.source, found.failed) == ("offline", n < 3)
    assert len(fake.asked) == 3
    for n in range(60):
        await trio.sleep(30)
        await asking.route("demo", far(n))
    assert 7 <= len(fake.asked) <= 10  # half an hour: one call in 240 to 360 s
    assert asking.well_ms == 0


async def test_one_that_lives_again_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    """By one call, while which others guess; then by all."""
    fake = Fake(error=DOWN)
    asking = routes(fake)
    for n in range(3):
        await asking.route("demo", far(n))
    fake.error, fake.wait_s = None, 1.0
    await trio.sleep(400)
    found: list[str] = []

    async def ask(n: int) -> None:
        found.append((await asking.route("demo", far(n))).snapshot.source)

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(ask, n)
    assert sorted(found) == ["fake", "offline", "offline", "offline", "offline"]
    assert asking.well_ms == int(1000 * (NOW_S + trio.current_time()))
    await ask(9)
    assert found[-1] == "fake"


async def test_one_that_has_no_way_is_well(autojump_clock: trio.testing.MockClock) -> None:
    """However often: hopeless asks of one trip keep nobody else from asking."""
    fake = Fake(error=NO_WAY)
    asking = routes(fake)
    for n in range(10):
        await asking.route("demo", far(n))
    assert len(fake.asked) == 10
    assert asking.well_ms > 0


async def test_one_that_names_a_time_is_left_alone_so_long(autojump_clock: trio.testing.MockClock) -> None:
    """From its first answer on."""
    fake = Fake(error=RouteError("fake has too many requests (429)", 50.0))
    asking = routes(fake)
    for _ in range(49):
        await asking.route("demo", ASK)
        await trio.sleep(1)
    assert len(fake.asked) == 1
    await trio.sleep(1)
    await asking.route("demo", ASK)
    assert len(fake.asked) == 2


async def test_one_that_hangs_holds_nobody(autojump_clock: trio.testing.MockClock) -> None:
    """Each ask waits for 2 s at most, and only so many at once: others pass it over."""
    fake = Fake(wait_s=1e6)
    asking = routes(fake)
    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(asking.route, "demo", far(n))
    assert len(fake.asked) == 8
    assert trio.current_time() == pytest.approx(2.0)
    assert asking.lines[0].under_way == 0
    assert asking.lines[0].breaker.state == "open"


async def test_asks_that_agree_share_one_call(autojump_clock: trio.testing.MockClock) -> None:
    """While it is under way and for five minutes; another tenant's never."""
    fake = Fake(wait_s=1.0)
    asking = routes(fake)
    found: list[Routed] = []

    async def ask(tenant: str, lat: float) -> None:
        found.append(await asking.route(tenant, Ask("car", ((lat, 104.0), B))))

    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(ask, "demo", 30.0 + n / 1_000_000)
    assert len(fake.asked) == 1
    assert sorted(each.calls for each in found) == [0] * 49 + [1]
    assert (asking.shared, asking.from_kept) == (49, 0)
    await trio.sleep(298)
    assert (await asking.route("demo", ASK)).calls == 0
    assert (asking.shared, asking.from_kept) == (49, 1)
    await ask("other", 30.0)
    assert len(fake.asked) == 2
    await trio.sleep(3)
    await ask("demo", 30.0)
    assert len(fake.asked) == 3


async def test_asks_that_share_share_the_failure(autojump_clock: trio.testing.MockClock) -> None:
    """One call in vain, and all of them go on with a guess; it is not kept."""
    fake = Fake(wait_s=1.0, error=DOWN)
    asking = routes(fake)
    found: list[Routed] = []

    async def ask() -> None:
        found.append(await asking.route("demo", ASK))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert len(fake.asked) == 1
    assert sorted((each.calls, each.failed) for each in found) == [(0, True)] * 9 + [(1, True)]
    fake.error = None
    await ask()
    assert found[-1].snapshot.source == "fake"


async def test_who_waits_for_a_call_that_was_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    """One of them calls instead."""
    fake = Fake(wait_s=1.5)
    asking = routes(fake)
    found: list[Routed] = []

    async def first() -> None:
        with trio.move_on_after(1.0):
            await asking.route("demo", ASK)

    async def other() -> None:
        await trio.sleep(0.5)
        found.append(await asking.route("demo", ASK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        nursery.start_soon(other)
        nursery.start_soon(other)
    assert [each.snapshot.source for each in found] == ["fake", "fake"]
    assert len(fake.asked) == 2
    assert asking.lines[0].breaker.failures == 0
    assert trio.current_time() == pytest.approx(2.5)


async def test_what_must_not_be_kept_is_not_shared(autojump_clock: trio.testing.MockClock) -> None:
    """Each trip's own call, at once and afterwards."""
    fake = Fake(shareable=False, wait_s=1.0)
    asking = routes(fake)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(asking.route, "demo", ASK)
    await asking.route("demo", ASK)
    assert len(fake.asked) == 4
    assert (asking.shared, asking.from_kept, asking._kept) == (0, 0, {})


async def test_answers_kept_are_bounded() -> None:
    """In their number and their points; the oldest go."""
    fake = Fake()
    asking = routes(fake, limits=replace(RouteLimits(), kept_max=3))
    for n in range(5):
        await asking.route("demo", far(n))
    assert (len(asking._kept), asking._kept_points) == (3, 6)
    await asking.route("demo", far(4))
    await asking.route("demo", far(0))
    assert (asking.from_kept, len(fake.asked)) == (1, 6)
    small = routes(fake, limits=replace(RouteLimits(), kept_points_max=5))
    for n in range(5):
        await small.route("demo", far(n))
    assert (len(small._kept), small._kept_points) == (2, 4)


async def test_a_budget_that_is_used_up() -> None:
    """No call more, of this tenant; it goes on with guesses, and that is no failure of anybody's."""
    clock = Clock()
    fake = Fake(shareable=False)
    asking = routes(fake, most=5, clock=clock)
    found = [await asking.route("demo", ASK) for _ in range(8)]
    assert [(each.snapshot.source, each.failed) for each in found] == [("fake", False)] * 5 + [("offline", False)] * 3
    assert (len(fake.asked), asking.over_budget) == (5, 3)
    assert (await asking.route("other", ASK)).snapshot.source == "fake"
    clock.s += 86_400
    assert (await asking.route("demo", ASK)).snapshot.source == "fake"


async def test_calls_in_vain_count() -> None:
    """A tenant's budget is of calls, not of answers; and who is refused by it tries no dead provider."""
    clock = Clock()
    fake = Fake(error=DOWN)
    asking = routes(fake, most=3, clock=clock)
    for n in range(3):
        await asking.route("demo", far(n))
    clock.s += 1_000
    await asking.route("demo", far(4))
    assert (len(fake.asked), asking.over_budget) == (3, 1)
    fake.error = None
    assert (await asking.route("other", ASK)).snapshot.source == "fake"


@asynccontextmanager
async def providing(servers: Sequence[OsrmServer | GoogleServer]) -> AsyncIterator[Routes]:
    """Real adapters over real sockets, one each."""
    async with serving(*servers):
        wire = Wire(lambda: NOW_S, 2.0)
        providers = [
            Osrm(wire, server.url) if isinstance(server, OsrmServer) else Google(wire, KEY, url=server.url)
            for server in servers
        ]
        try:
            yield Routes(
                providers, Budget(MemoryPurse(), lambda _: 100, lambda: NOW_S), RouteLimits(), Random(1), Clock()
            )
        finally:
            await wire.aclose()


async def test_real_calls_are_shared() -> None:
    """Fifty trips that set out together ask once."""
    server = OsrmServer(gate=trio.Event())
    async with providing([server]) as asking:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(asking.route, "demo", ASK)
            await server.heard.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert server.gate is not None
            server.gate.set()
        assert (len(server.asked), asking.shared) == (1, 49)


async def test_real_troubles_end_at_the_next_provider(mock_clock: trio.testing.MockClock) -> None:
    """A server that breaks off, one that hangs, and one that asks to be left alone; the other answers each time."""
    first, second = OsrmServer(), GoogleServer()
    async with providing([first, second]) as asking:
        for n, reply in enumerate((Reply(drop=True), Reply(hang=True), Reply(429, b"", (("Retry-After", "30"),)))):
            first.trouble = [reply]
            first.heard = trio.Event()
            found: list[Routed] = []

            async def ask(n: int, found: list[Routed]) -> None:
                found.append(await asking.route("demo", far(n)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, n, found)
                await first.heard.wait()
                if reply.hang:
                    mock_clock.jump(2.1)
            assert [(each.snapshot.source, each.calls) for each in found] == [("google", 2)]
        assert asking.lines[0].breaker.state == "open"
        assert asking.lines[0].free_at_s == pytest.approx(32.1)
        assert (await asking.route("demo", far(9))).calls == 1
        assert len(first.asked) == 3


async def test_a_trip_whose_provider_dies(autojump_clock: trio.testing.MockClock) -> None:
    """Half an hour off and on its way: few calls while it lives, the one that finds it dead, and none after that."""
    fake = Fake(wait_s=0.2)
    asking = routes(fake)
    calls = RouteCalls(int(1000 * NOW_S))
    had: Snapshot | None = None
    sources: list[str] = []
    for at_s in range(0, 1_800, 10):
        await trio.sleep_until(at_s)
        if at_s == 700:
            fake.error = DOWN
        now_ms = int(1000 * (NOW_S + trio.current_time()))
        why = calls.why(Look(now_ms, 1_800.0 - at_s, at_s % 300 > 200), asking.well_ms)
        if why is not None:
            left = calls.left(now_ms)
            calls.asked(now_ms)
            found = await asking.route("demo", Ask("car", (A, (30.1, 104.0 + at_s / 10_000))), left)
            taken = found.snapshot if had is None or found.snapshot.source != OFFLINE else None
            calls.answered(now_ms, found.calls, found.failed, taken)
            had = taken or had
        sources.append(calls.marked("route"))
    assert calls.calls == len(fake.asked) <= 6
    assert sum(1 for ask in fake.asked if ask.points[1][1] > 104.07) == 1
    assert sources[0] == "route"
