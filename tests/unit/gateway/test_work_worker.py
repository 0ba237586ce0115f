"""gateway.work.worker: effects of each stream once and in order, whoever crashes, hangs or cannot take an event."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from core.ports import Unavailable
from core.work import Lease
from gateway.work.worker import Worker, facts
from tests.working import LIMITS, Noting, World, happens


async def crash(world: World, worker: Worker, until: dict[str, list[int]]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires(until)
        nursery.cancel_scope.cancel()


class Deaf:
    """The work, whose heartbeats go unheard once ``deaf``."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self.deaf = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)

    async def beat(self, *args: Any) -> list[Lease]:
        if self.deaf:
            raise Unavailable("nobody hears this one")
        leases: list[Lease] = await self._work.beat(*args)
        return leases


async def test_every_event_has_its_effect_once_in_its_streams_order(autojump_clock: MockClock) -> None:
    """Two workers share the partitions; each stream's events are taken in order, more than a batch of them too."""
    world = World()
    expected: dict[str, list[int]] = {}
    for n, name in itertools.product(range(25), ("chat:a", "chat:b", "flight:c", "trip:d", "chat:e")):
        expected.setdefault(name, []).append((await world.event(name, n=n)).seq)
    workers = [world.worker([Noting()]) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for worker in workers:
            await nursery.start(worker.run)
        await happens(lambda: _true([len(worker.lags()) for worker in workers] == [2, 2]))
        await world.fires(expected)
        expected["chat:a"].append((await world.event("chat:a")).seq)
        await world.fires(expected)
        nursery.cancel_scope.cancel()
    assert sum(worker.parked for worker in workers) == 0


async def test_streams_of_no_concern_are_passed_by(autojump_clock: MockClock) -> None:
    """A consumer is asked for the streams that it wants, and the cursor goes on past the others."""
    world, noting = World(1), Noting()
    await world.event("chat:other")
    await world.event("chat:a")
    worker = world.worker([noting])
    await crash(world, worker, {"chat:a": [1]})
    assert noting.prepared == [[("chat:a", 1)]]
    assert (worker.events, worker.skipped) == (1, 1)
    assert [cursor.pos for cursor in await world.work.cursors("noting")] == [2]


async def test_a_worker_that_dies_is_followed_without_loss(autojump_clock: MockClock) -> None:
    """Whatever a dead worker had committed is not done again, and the rest is done once its leases ran out."""
    world = World()
    for name in ("chat:a", "chat:b", "chat:c"):
        await world.event(name)
    await crash(world, world.worker([Noting()]), {"chat:a": [1], "chat:b": [1], "chat:c": [1]})
    for name in ("chat:a", "chat:b", "chat:c"):
        await world.event(name)
    await crash(world, world.worker([Noting()]), {"chat:a": [1, 2], "chat:b": [1, 2], "chat:c": [1, 2]})


@pytest.mark.parametrize("kind", ["unavailable", "unknown"])
async def test_a_commit_of_which_nothing_was_heard_counts_once(kind: Any, autojump_clock: MockClock) -> None:
    """Whether the commit came to pass or not, its effects are there once, and the consumer is told to forget."""
    world, noting = World(1), Noting()
    await world.event("chat:a")
    world.log.fail_next(kind, "commit")
    worker = world.worker([noting])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires({"chat:a": [1]})
        await world.event("chat:a")
        await world.fires({"chat:a": [1, 2]})
        nursery.cancel_scope.cancel()
    assert worker.fenced == (kind == "unknown")
    assert len(noting.forgotten) >= 2


async def test_a_lease_that_was_lost_unknowingly_changes_nothing(autojump_clock: MockClock) -> None:
    """A worker that stood still while another took its partition commits nothing when it goes on."""
    world, slow = World(1), Noting()
    slow.gate = trio.Event()
    await world.event("chat:a")
    link = Deaf(world.work)
    first = world.worker([slow], work=link)  # type: ignore[arg-type]  # a stand-in
    async with trio.open_nursery() as nursery:
        await nursery.start(first.run)
        await happens(lambda: _true(slow.prepared))
        link.deaf = True
        first._let_go_of_the_expired = lambda: None  # type: ignore[method-assign]  # it knows nothing of the time
        await nursery.start(world.worker([Noting()]).run)
        await world.fires({"chat:a": [1]})
        slow.gate.set()
        await happens(lambda: _true(first.fenced))
        assert await world.fired() == {"chat:a": [1]}
        nursery.cancel_scope.cancel()


async def test_who_cannot_reach_the_store_lets_go_by_itself(autojump_clock: MockClock) -> None:
    """A worker that has not been heard for the length of a lease stops reading."""
    world = World(1)
    link = Deaf(world.work)
    worker = world.worker([Noting()], work=link)  # type: ignore[arg-type]  # a stand-in
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _true(worker.lags()))
        link.deaf = True
        await happens(lambda: _true(not worker.lags()))
        nursery.cancel_scope.cancel()


async def test_leaving_in_good_order_costs_the_others_no_lease(autojump_clock: MockClock) -> None:
    """What a worker gives up is taken at the others' next beat, long before its leases would have run out."""
    world = World()
    first = world.worker([Noting()], limits=replace(LIMITS, lease_s=100_000.0))
    second = world.worker([Noting()], limits=replace(LIMITS, lease_s=100_000.0))
    async with trio.open_nursery() as nursery:
        await nursery.start(first.run)
        await happens(lambda: _true(len(first.lags()) == 4))
        await nursery.start(second.run)
        await happens(lambda: _true(len(second.lags()) == 2))
        await first.leave()
        assert not first.lags()
        await happens(lambda: _true(len(second.lags()) == 4))
        nursery.cancel_scope.cancel()


async def test_after_it_left_a_worker_asks_for_nothing(autojump_clock: MockClock) -> None:
    """Its heartbeats end with it, so that what it gave up is not its own again."""
    world = World()
    worker = world.worker([Noting()])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _true(worker.lags()))
        await worker.leave()
        await trio.sleep(60)
        assert [cursor.holder for cursor in await world.work.cursors()] == [""] * 4
        nursery.cancel_scope.cancel()


async def test_a_stream_that_cannot_be_taken_is_parked_and_others_go_on(autojump_clock: MockClock) -> None:
    """The stream stops at the event, with its reason; all before it is done, what comes after waits, others do not."""
    world, noting = World(1), Noting()
    await world.event("chat:a")
    await world.event("chat:a", bad=True)
    await world.event("chat:a")
    await world.event("chat:b")
    worker = world.worker([noting])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires({"chat:a": [1], "chat:b": [1]})
        await world.event("chat:a")
        await world.event("chat:b")
        await world.fires({"chat:a": [1], "chat:b": [1, 2]})
        (parked,) = await world.work.parked()
        assert (parked.stream, parked.seq, parked.attempts) == ("chat:a", 2, 1)
        assert parked.reason == "ValueError: this one is bad"

        noting.mended = True
        assert await world.work.ask_retry("noting", parked.sid, skip=False)
        await world.fires({"chat:a": [1, 2, 3, 4], "chat:b": [1, 2]})
        await world.event("chat:a")
        await world.fires({"chat:a": [1, 2, 3, 4, 5], "chat:b": [1, 2]})
        assert await world.work.parked() == []
        nursery.cancel_scope.cancel()


async def test_a_parked_stream_can_go_on_past_the_event(autojump_clock: MockClock) -> None:
    """With skip the event that could not be taken is left out, and everything after it is taken."""
    world = World(1)
    for n in range(25):
        await world.event("chat:a", bad=n == 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([Noting()]).run)
        await happens(lambda: _parked(world, 2))
        (parked,) = await world.work.parked()
        await world.work.ask_retry("noting", parked.sid, skip=True)
        await world.fires({"chat:a": [1, *range(3, 26)]})
        nursery.cancel_scope.cancel()


async def test_what_fails_again_is_parked_again_where_it_fails(autojump_clock: MockClock) -> None:
    """A retry that gets further is parked at the next event that cannot be taken, with all before it done."""
    world = World(1)
    for n in range(6):
        await world.event("chat:a", bad=n in (1, 4))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([Noting()]).run)
        await happens(lambda: _parked(world, 2))
        (parked,) = await world.work.parked()
        await world.work.ask_retry("noting", parked.sid, skip=False)
        await happens(lambda: _true_of_parked(world, retry=False))
        await world.work.ask_retry("noting", parked.sid, skip=True)
        await happens(lambda: _parked(world, 5))
        nursery.cancel_scope.cancel()
    assert await world.fired() == {"chat:a": [1, 3, 4]}


async def test_parked_streams_outlive_their_worker(autojump_clock: MockClock) -> None:
    """Whoever follows a dead worker waits with the same streams."""
    world = World(1)
    await world.event("chat:a", bad=True)
    await world.event("chat:b")
    await crash(world, world.worker([Noting()]), {"chat:b": [1]})
    await world.event("chat:a")
    await world.event("chat:b")
    await crash(world, world.worker([Noting()]), {"chat:b": [1, 2]})
    assert [parked.seq for parked in await world.work.parked()] == [1]


async def test_with_too_many_parked_streams_the_consumer_stops(autojump_clock: MockClock) -> None:
    """Past the bound nobody could remember whom to wait with, so that nothing is taken until somebody has looked."""
    world, noting = World(1), Noting()
    limits = replace(LIMITS, parked_max=2)
    for name in ("chat:a", "chat:b"):
        await world.event(name, bad=True)
    worker = world.worker([noting], limits=limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _many_parked(world, 2))
        await trio.sleep(60)
        await world.event("chat:c")
        await trio.sleep(60)
        assert await world.fired() == {}
        noting.mended = True
        for parked in await world.work.parked():
            await world.work.ask_retry("noting", parked.sid, skip=False)
        await world.fires({"chat:a": [1], "chat:b": [1], "chat:c": [1]})
        nursery.cancel_scope.cancel()


async def test_cursors_that_are_held_still_go_on_afterwards(autojump_clock: MockClock) -> None:
    """While a consumer is held nothing of it is committed, and then all of it."""
    world = World(1)
    await world.event("chat:a")
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([Noting()]).run)
        await world.fires({"chat:a": [1]})
        await world.work.hold("noting", 600_000)
        await world.event("chat:a")
        await trio.sleep(30)
        assert await world.fired() == {"chat:a": [1]}
        await world.work.hold("noting", 0)
        await world.fires({"chat:a": [1, 2]})
        nursery.cancel_scope.cancel()


async def test_a_store_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    """While the store is away the worker says so; once it is back all goes on."""
    world = World(1)
    await world.event("chat:a")
    worker = world.worker([Noting()])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires({"chat:a": [1]})
        await world.event("chat:a")
        world.log.down = "gone fishing"
        await trio.sleep(120)
        assert facts(worker)["worker"] == "the store cannot be reached: gone fishing"
        world.log.down = None
        await world.fires({"chat:a": [1, 2]})
        assert worker.trouble is None
        nursery.cancel_scope.cancel()


async def test_hints_spare_the_wait(autojump_clock: MockClock) -> None:
    """Who is told of a commit looks at once, and one who hears old news does not."""
    world = World(1)
    await world.event("chat:a")
    told: list[tuple[str, int, int]] = []
    worker = world.worker([Noting()], limits=replace(LIMITS, poll_s=1e6, beat_s=1e6, lease_s=2e6))
    worker.committed.append(lambda *each: told.append(each))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires({"chat:a": [1]})
        await trio.testing.wait_all_tasks_blocked()
        await world.event("chat:a")
        worker.heard(0, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert await world.fired() == {"chat:a": [1]}
        worker.heard(0, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert await world.fired() == {"chat:a": [1, 2]}
        nursery.cancel_scope.cancel()
    assert told == [("noting", 0, 1), ("noting", 0, 2)]


async def test_names_are_remembered_within_a_bound(autojump_clock: MockClock) -> None:
    """Streams past the bound are asked for again, and nothing is lost for it."""
    world = World(1)
    expected = {}
    for n in range(30):
        await world.event(f"chat:{n}")
        expected[f"chat:{n}"] = [1]
    worker = world.worker([Noting()], limits=replace(LIMITS, names_kept_max=12))
    await crash(world, worker, expected)
    assert len(worker._names) <= 12


async def _true(value: object) -> bool:
    return bool(value)


async def _parked(world: World, seq: int) -> bool:
    return [parked.seq for parked in await world.work.parked()] == [seq]


async def _many_parked(world: World, count: int) -> bool:
    return len(await world.work.parked()) == count


async def _true_of_parked(world: World, *, retry: bool) -> bool:
    return all(parked.retry is retry for parked in await world.work.parked())
