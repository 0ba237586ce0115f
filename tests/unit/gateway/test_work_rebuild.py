"""gateway.work.rebuild: read models made anew from the log, beside the live ones, and put in their place in one step."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
import trio

from core.flight.machine import Recorded
from core.flight.views import CONSUMER, MODELS
from core.flight.views_board import BOARD_VIEW
from core.ports import Unavailable
from core.work import Effects, Lease, Row
from core.work_limits import WorkLimits
from gateway.work.rebuild import Progress, Rebuild, RebuildError
from gateway.work.views import Views
from gateway.work.worker import Worker
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.flight_facts import Facts, equipped, scheduled

FIRST_MS = 1_790_000_000_000
LAYOUT = {"rows": [{"row": 1, "seats": "AB", "class": "Y"}]}


def now_ms() -> int:
    return FIRST_MS + int(1000 * trio.current_time())


class World:
    """A log with some flights, and a worker that has taken them."""

    def __init__(self) -> None:
        keys = itertools.count(1)
        self.log = MemoryLog(now_ms=now_ms, new_key=lambda: f"00000000-0000-4000-8000-{next(keys):012x}", partitions=3)
        self.work = MemoryWork(self.log, now_ms)
        self.facts = Facts(self.log)
        self._holders = itertools.count(1)

    async def flights(self, count: int, first: int = 0) -> None:
        for n in range(first, first + count):
            await self.facts.tell(f"flight:QX{n}", scheduled(flight=f"QX{n}"))
            await self.facts.tell(f"flight:QX{n}.seats", ("seat.opened", {"flight": f"QX{n}", "layout": LAYOUT}))
            await self.facts.tell(f"flight:QX{n}", equipped("VH-XYZ"))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        worker = Worker(
            self.log,
            self.work,
            [Views(self.log)],
            [],
            holder=f"w{next(self._holders)}",
            limits=WorkLimits(),
            rng=Random(1),
            wall=lambda: now_ms() / 1000,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            await self.taken()
            yield worker
            await self.taken()
            await worker.leave()
            nursery.cancel_scope.cancel()

    async def taken(self) -> None:
        with trio.fail_after(600):
            while not (cursors := await self.work.cursors(CONSUMER)) or any(c.pos < c.head for c in cursors):  # noqa: ASYNC110
                await trio.sleep(0.05)

    def rebuild(self, *models: str, **more: Any) -> Rebuild:
        return Rebuild(self.log, self.work, models or MODELS, holder=f"r{next(self._holders)}", **more)

    async def rows(self, model: str = "flight_board") -> list[Row]:
        return await self.work.rows(model, "demo", limit=10_000)

    async def spoil(self) -> None:
        """The live board says what no log ever said."""
        for row in await self.rows():
            cursor = next(c for c in await self.work.cursors(CONSUMER) if c.partition == row.partition)
            lease = Lease(CONSUMER, cursor.partition, cursor.fence, cursor.pos)
            await self.work.commit(lease, cursor.pos, Effects(rows=[row._replace(doc={"wrong": True})]))


async def test_a_rebuilt_model_is_what_the_log_says(autojump_clock: trio.testing.MockClock) -> None:
    """Row for row, place for place, as a worker made them; and the generation is another."""
    world = World()
    await world.flights(5)
    async with world.working():
        pass
    good = {model: await world.rows(model) for model in MODELS}
    await world.spoil()
    before = await world.work.generations()
    seen: list[tuple[int, int]] = []
    done = await world.rebuild("flight_board", tell=lambda p: seen.append((p.done, p.total)), batch_events=2).run()
    assert await world.rows() == good["flight_board"]
    assert (done.events, done.done, done.total) == (15, 15, 15)
    assert seen == sorted(seen)
    assert seen[-1] == (15, 15)
    assert (await world.work.generations())["flight_board"] > before["flight_board"]
    assert {cursor.consumer for cursor in await world.work.cursors()} == {CONSUMER}
    await world.rebuild().run()
    assert {model: await world.rows(model) for model in MODELS} == good


async def test_readers_see_the_old_one_until_the_new_one_is_whole(autojump_clock: trio.testing.MockClock) -> None:
    """At every step of it the live model is as it was."""
    world = World()
    await world.flights(4)
    async with world.working():
        pass
    await world.spoil()
    spoilt = await world.rows()
    steps = 0

    def tell(progress: Progress) -> None:
        nonlocal steps
        steps += 1
        model = world.work._models["flight_board"]
        assert len(world.work._rows["flight_board", model.live]) == len(spoilt)

    async with trio.open_nursery() as nursery:

        async def look() -> None:
            while True:
                rows = await world.rows()
                assert rows == spoilt or all(row.doc != {"wrong": True} for row in rows)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(look)
        await world.rebuild("flight_board", tell=tell, batch_events=1).run()
        nursery.cancel_scope.cancel()
    assert steps >= 12
    assert all(row.doc != {"wrong": True} for row in await world.rows())


async def test_workers_go_on_and_nothing_of_meanwhile_is_missing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flights that come while it is made are in it, and those after it too."""
    monkeypatch.setattr("gateway.work.rebuild.NEAR_EVENTS", 2)
    world = World()
    await world.flights(5)
    async with world.working():
        more = itertools.count(100)

        async with trio.open_nursery() as nursery:

            async def come() -> None:
                while True:
                    await world.flights(1, next(more))
                    await trio.sleep(0.01)

            nursery.start_soon(come)
            world.log._pause = partial(trio.sleep, 0.003)
            await world.rebuild("flight_board", "aircraft_line", batch_events=3).run()
            nursery.cancel_scope.cancel()
        world.log._pause = None
        await world.flights(1, 999)
    boards = {row.key for row in await world.rows()}
    assert {f"QX{n}" for n in (*range(5), 999)} <= boards
    heads = [await world.facts.sid(f"flight:{key}") for key in sorted(boards)]
    assert len(await world.rows("aircraft_line")) == len(boards) == len(heads)


async def test_what_is_ended_leaves_no_trace(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelled in the middle: the live model, its generation and its cursors are as they were, and workers go on."""
    world = World()
    await world.flights(5)
    async with world.working():
        before, generations = await world.rows(), await world.work.generations()
        world.log._pause = trio.lowlevel.checkpoint
        with trio.CancelScope() as scope:
            await world.rebuild("flight_board", tell=lambda progress: scope.cancel(), batch_events=1).run()
        assert scope.cancelled_caught
        assert await world.rows() == before
        assert (await world.work.generations())["flight_board"] == generations["flight_board"]
        assert {cursor.consumer for cursor in await world.work.cursors()} == {CONSUMER}
        await world.flights(1, 77)
    assert "QX77" in {row.key for row in await world.rows()}


def bad_for(name: str) -> Callable[..., Any]:
    """An `evolve` that cannot take what names this aircraft."""
    good = type(BOARD_VIEW).evolve

    def evolve(self: Any, state: Any, event: Recorded) -> Any:
        if event.body.get("registration") == name:
            raise ValueError("no such aircraft")
        return good(self, state, event)

    return evolve


async def test_a_parked_stream_is_taken_up_to_where_it_is_parked(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the live model has it; and when it is taken at last, the rest follows."""
    world = World()
    with monkeypatch.context() as patched:
        patched.setattr(type(BOARD_VIEW), "evolve", bad_for("VH-BAD"))
        await world.flights(2)
        async with world.working():
            await world.facts.tell("flight:QX0", equipped("VH-BAD"), equipped("VH-OK"))
        assert [parked.stream for parked in await world.work.parked(CONSUMER)] == ["flight:QX0"]
        before = await world.rows()
        await world.rebuild("flight_board").run()
        assert await world.rows() == before
    (parked,) = await world.work.parked(CONSUMER)
    assert await world.work.ask_retry(CONSUMER, parked.sid, skip=False)
    async with world.working():
        await trio.sleep(5)
    docs = {row.key: row.doc for row in await world.rows()}
    assert docs["QX0"] is not None
    assert docs["QX0"]["registration"] == "VH-OK"


async def test_a_stream_parked_meanwhile_is_no_failure(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left where the live consumer left it, before or within what was being taken."""
    monkeypatch.setattr(type(BOARD_VIEW), "evolve", bad_for("VH-BAD"))
    for facts in (("VH-1", "VH-BAD"), ("VH-BAD",)):
        world = World()
        await world.flights(1)
        async with world.working():
            await world.facts.tell("flight:QX0", *[equipped(name) for name in facts])
        before = await world.rows()
        rebuild = world.rebuild("flight_board")

        async def nothing() -> None:
            """As if it were parked only after the look."""

        monkeypatch.setattr(rebuild, "_look_at_parked", nothing)
        await rebuild.run()
        assert await world.rows() == before


async def test_a_stream_taken_at_last_meanwhile_is_whole(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was parked when the rebuild began, and an operator had it retried before the end."""
    world = World()
    monkeypatch.setattr("gateway.work.rebuild.NEAR_EVENTS", 0)
    with monkeypatch.context() as patched:
        patched.setattr(type(BOARD_VIEW), "evolve", bad_for("VH-BAD"))
        await world.flights(2)
        async with world.working():
            await world.facts.tell("flight:QX0", equipped("VH-BAD"), equipped("VH-OK"))
            await world.facts.tell("flight:QX0", equipped("VH-OK2"))
    (parked,) = await world.work.parked(CONSUMER)
    rebuild = world.rebuild("flight_board", batch_events=1)
    catch_up = rebuild._catch_up

    async def slowly() -> None:
        await catch_up()
        assert await world.work.ask_retry(CONSUMER, parked.sid, skip=False)
        async with world.working():
            await trio.sleep(5)

    monkeypatch.setattr(rebuild, "_catch_up", slowly)
    await rebuild.run()
    docs = {row.key: row.doc for row in await world.rows()}
    assert docs["QX0"] is not None
    assert docs["QX0"]["registration"] == "VH-OK2"


async def test_a_stream_that_only_the_rebuild_cannot_take_ends_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which, and why; the live model is as it was."""
    world = World()
    await world.flights(3)
    async with world.working():
        pass
    before = await world.rows()
    monkeypatch.setattr(type(BOARD_VIEW), "evolve", bad_for("VH-XYZ"))
    with pytest.raises(RebuildError, match=r"flight:QX\d of tenant demo cannot be taken.*no such aircraft"):
        await world.rebuild("flight_board").run()
    assert await world.rows() == before
    assert {cursor.consumer for cursor in await world.work.cursors()} == {CONSUMER}


async def test_what_cannot_be_rebuilt_is_said(autojump_clock: trio.testing.MockClock) -> None:
    """A name that is none, and an installation in which no worker ever ran."""
    world = World()
    with pytest.raises(RebuildError, match="there are flight_board"):
        world.rebuild("flightboard")
    with pytest.raises(RebuildError, match="no worker ever kept read models here"):
        await world.rebuild().run()


async def test_a_second_rebuild_ends_the_first(autojump_clock: trio.testing.MockClock) -> None:
    """Which says so; the second is made."""
    world = World()
    await world.flights(5)
    async with world.working():
        pass
    told: list[str] = []

    async def first() -> None:
        try:
            await world.rebuild("flight_board", batch_events=1).run()
        except RebuildError as error:
            told.append(str(error))

    world.log._pause = partial(trio.sleep, 0.01)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.sleep(0.1)
        await world.rebuild("flight_board").run()
    assert len(told) == 1
    assert "somebody else rebuilds this read model" in told[0]
    assert all(row.doc for row in await world.rows())


async def test_a_consumer_that_will_not_stand_still_is_given_up(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries, and with a word; it is not held for that."""
    world = World()
    await world.flights(2)
    async with world.working():
        pass
    before = await world.rows()

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(world.work, "swap", never)
    with pytest.raises(RebuildError, match="did not stand still"):
        await world.rebuild("flight_board").run()
    assert await world.rows() == before
    async with world.working():
        await world.flights(1, 50)
    assert "QX50" in {row.key for row in await world.rows()}


async def test_a_store_that_goes_away_ends_it_with_its_word(autojump_clock: trio.testing.MockClock) -> None:
    """As the store says it, not as a group of tasks."""
    world = World()
    await world.flights(2)
    async with world.working():
        pass
    world.log.fail_next("unavailable", method="tail")
    began_s = trio.current_time()
    with pytest.raises(Unavailable):
        await world.rebuild("flight_board").run()
    world.log.fail_next("unavailable", method="tail")
    world.log.fail_next("unavailable", method="forget")
    with pytest.raises(Unavailable):
        await world.rebuild("flight_board").run()
    assert trio.current_time() - began_s < 5
