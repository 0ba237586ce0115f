"""gateway.work where clocks differ, and where names are thrown away amid a look: bugs that the simulator found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import trio
from trio.testing import MockClock

from core.work import NewTask, Task
from gateway.work.ports import Hold, Outcome, Place, Runner, Transient
from gateway.work.worker import Worker
from tests.working import FIRST_MS, LIMITS, Doing, Noting, World, happens, now_ms, wall


def a_worker(world: World, runner: Runner, ahead_s: float) -> Worker:
    """Its clock is that much ahead of the store's."""
    return Worker(
        world.log,
        world.work,
        [],
        [runner],
        holder="w",
        limits=LIMITS,
        rng=Random(1),
        wall=lambda: wall() + ahead_s,
    )


class Slow(Noting):
    name = "slow"

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        await trio.sleep(0.035)


async def test_no_event_is_passed_over_where_names_are_thrown_away(autojump_clock: MockClock) -> None:
    """Two consumers remember names in one place with room for three. While one waited for the names of new streams, the other
    threw away those it had found there, and events of streams that were known looked like events of none."""
    world = World(partitions=1)

    async def away() -> None:
        await trio.sleep(0.01)

    world.log._pause = away
    first, second = Noting(), Slow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.worker([first, second], limits=replace(LIMITS, names_kept_max=3, batch_events=2)).run)
        for _ in range(10):
            for n in range(4):
                await world.event(f"flight:f{n}")

        async def all_noted() -> bool:
            noted = await world.fired()
            return {stream: sorted(seqs) for stream, seqs in noted.items()} == {
                f"flight:f{n}": sorted([*range(1, 11)] * 2) for n in range(4)
            }

        await happens(all_noted)
        nursery.cancel_scope.cancel()


async def test_a_clock_ahead_of_the_stores_is_no_reason_to_ask_without_pause(autojump_clock: MockClock) -> None:
    """Due by the worker's clock and not by the store's, a task was looked for a thousand times a second."""
    world, runner = World(), Doing()
    await world.work.add([NewTask("job", "demo", "k", FIRST_MS + 5_000, {})])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a_worker(world, runner, 10.0).run)
        await trio.sleep(5.1)
        nursery.cancel_scope.cancel()
    assert runner.ran == ["k"]
    assert world.log.calls["claim"] < 300


async def test_a_clock_behind_the_stores_is_no_reason_to_try_again_at_once(autojump_clock: MockClock) -> None:
    """What failed was due again by the store's clock as soon as it was put back: it was given up within a moment."""

    async def fails(task: Task, hold: Hold) -> Outcome:
        raise Transient("away", 1.0, tries_max=50)

    world, runner = World(), Doing(do=fails)
    await world.work.add([NewTask("job", "demo", "k", now_ms(), {})])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a_worker(world, runner, -3_600.0).run)
        await trio.sleep(5.0)
        nursery.cancel_scope.cancel()
    assert 2 <= len(runner.ran) <= 6
    (task,) = await world.work.tasks("job")
    assert task.state == "waiting"


async def test_what_goes_on_at_once_goes_on_whatever_the_workers_clock_says(autojump_clock: MockClock) -> None:
    """A worker whose clock was two hours ahead put off each saga's next step by two hours."""

    async def goes_on(task: Task, hold: Hold) -> Outcome:
        return Outcome("waiting", after_s=0.0) if len(runner.ran) < 5 else Outcome("done")

    world, runner = World(), Doing(do=goes_on)
    await world.work.add([NewTask("job", "demo", "k", now_ms(), {})])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a_worker(world, runner, 7_200.0).run)
        await trio.sleep(2.0)
        nursery.cancel_scope.cancel()
    (task,) = await world.work.tasks("job")
    assert (task.state, len(runner.ran)) == ("done", 5)
