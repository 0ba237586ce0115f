"""gateway.work.following, one partition's way: answers that never came, pages that are shared, words that no store keeps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from core.work import Effects, Lease, NewTask, Task
from gateway.work import following as module
from gateway.work import worker as worker_module
from gateway.work.ports import Hold, Outcome, Place, Seen
from tests.working import LIMITS, Doing, Noting, World, happens

ALONE = replace(LIMITS, poll_s=1e6, beat_s=1e6, lease_s=2e6)
"""Nobody looks without being told."""


class Steps(trio.abc.Instrument):
    """Counts the turns of the loop's tasks."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


class Other(Noting):
    name = "other"


async def seqs(world: World, consumer: str) -> list[int]:
    return [firing.seq for firing in reversed(await world.work.firings("demo", rule=consumer))]


@pytest.mark.parametrize("kind", ["unavailable", "unknown"])
async def test_a_retry_of_which_nothing_was_heard_loses_no_event(kind: Any, autojump_clock: MockClock) -> None:
    """Where the answer to a retry's commit never came, the worker looks again whom it waits with: a stream that is parked no
    longer was passed over for as long as the lease was held."""
    world, noting = World(1), Noting()
    await world.event("chat:a", bad=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([noting]).run)
        await happens(world.work.parked)
        (parked,) = await world.work.parked()
        noting.mended = True
        world.log.fail_next(kind, "commit")
        await world.work.ask_retry("noting", parked.sid, skip=False)
        await world.fires({"chat:a": [1]})
        await world.event("chat:a")
        await world.fires({"chat:a": [1, 2]})
        nursery.cancel_scope.cancel()
    assert await world.work.parked() == []


async def test_a_page_that_another_read_hides_no_later_event(autojump_clock: MockClock) -> None:
    """Who is told of a commit and finds an older page reads on at once, instead of resting until the next look."""
    world, late, other = World(1), Noting(), Other()
    late.gate = trio.Event()
    worker = world.worker([late, other], limits=ALONE)
    await world.event("chat:a")
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        assert await seqs(world, "other") == [1]
        other.gate = trio.Event()
        for last in (2, 3):  # the other one has read the second event, and the third came after that
            await world.event("chat:a")
            worker.heard(0, last)
            await trio.testing.wait_all_tasks_blocked()
        late.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await seqs(world, "noting") == [1, 2, 3]
        nursery.cancel_scope.cancel()


async def test_a_hint_that_is_wrong_makes_nobody_read_without_end(autojump_clock: MockClock) -> None:
    """A position that the log never had costs one look a consumer."""
    world = World(1)
    await world.event("chat:a")
    worker = world.worker([Noting(), Other()], limits=ALONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        before = world.log.calls["tail"]
        worker.heard(0, 1_000)
        await trio.testing.wait_all_tasks_blocked()
        assert world.log.calls["tail"] - before <= 2
        nursery.cancel_scope.cancel()


async def test_large_pages_are_not_kept(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shared between consumers is bounded in bytes, whatever people send."""
    monkeypatch.setattr(worker_module, "PAGE_BYTES_MAX", 1_000)
    world = World(1)
    worker = world.worker([Noting(), Other()], limits=ALONE)
    await world.event("chat:a", text="x" * 2_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        assert (await seqs(world, "noting"), await seqs(world, "other")) == ([1], [1])
        assert worker._pages == {}
        nursery.cancel_scope.cancel()


async def test_pages_of_before_a_fence_are_not_believed(autojump_clock: MockClock) -> None:
    """Where the cursor is elsewhere the log may be another one, as after a restore: it is read anew."""
    world = World(1)
    worker = world.worker([Noting()], limits=ALONE)
    await world.event("chat:a")
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        assert worker._pages
        await world.work.forget("noting")
        await world.event("chat:a")
        worker.heard(0, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert worker.fenced == 1
        assert worker._pages == {}
        nursery.cancel_scope.cancel()


async def test_reasons_that_no_store_keeps_are_kept_as_far_as_they_can_be(autojump_clock: MockClock) -> None:
    """Whatever an error quotes, the stream or the task is parked with it, and the worker goes on."""

    class Quoting(Noting):
        def take(self, place: Place, events: Sequence[Seen]) -> Effects:
            raise ValueError("said \0 and \ud800")

    async def quote(task: Task, hold: Hold) -> Outcome:
        raise ValueError("said \0 and \ud800")

    world = World(1)
    await world.event("chat:a")
    await world.work.add([_job("k")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([Quoting()], [Doing(do=quote)]).run)
        await happens(world.work.parked)
        await happens(lambda: world.work.tasks("job", state="parked"))
        nursery.cancel_scope.cancel()
    assert [parked.reason for parked in await world.work.parked()] == ["ValueError: said ? and ?"]
    assert [task.reason for task in await world.work.tasks("job")] == ["ValueError: said ? and ?"]


async def test_a_cursor_that_went_back_is_followed_from_there(autojump_clock: MockClock) -> None:
    """Where the database was restored to an earlier point, a worker that has read further would wait until the log is as long
    again. The next beat tells it, and what it knew of the other log is forgotten."""
    world, noting = World(1), Noting()
    for _ in range(3):
        await world.event("chat:a")
    worker = world.worker([noting])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires({"chat:a": [1, 2, 3]})
        world.work._cursors["noting"][0].pos = 1
        noting.forgotten.clear()
        await world.fires({"chat:a": [1, 2, 3, 2, 3]})
        assert (0, None) in noting.forgotten
        nursery.cancel_scope.cancel()


async def test_nothing_is_believed_of_a_log_that_was_restored(autojump_clock: MockClock) -> None:
    """What the node beside it says of the log holds for the worker: a stream's number may be another's now, in another tenant.
    Nothing is taken by names, pages and folded states of before, not even in what was read already."""
    world, noting, restored = World(1), Noting(), [0]
    worker = world.worker([noting])
    worker.restored = lambda: restored[0]
    await world.event("chat:a")
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await world.fires({"chat:a": [1]})
        assert worker._names
        assert worker._pages
        noting.forgotten.clear()
        restored[0] = 1
        sid = world.sids["chat:a"]
        worker._names[sid] = worker._names[sid]._replace(stream="chat:of-before")
        await world.event("chat:a")
        await world.fires({"chat:a": [1, 2]})
        assert (0, None) in noting.forgotten
        nursery.cancel_scope.cancel()


async def test_who_was_given_a_partition_anew_begins_after_the_one_before(autojump_clock: MockClock) -> None:
    """One that lost its lease and got it back at the same beat has two ways through the partition for a moment: what the first
    still has in hand is forgotten before the second begins."""
    world, noting = World(1), Noting()
    worker = world.worker([noting])
    did: list[str] = []
    gate = trio.Event()

    async def prepare(places: Sequence[tuple[Place, int]]) -> None:
        did.append("prepare")
        if did.count("prepare") == 1:
            with trio.CancelScope(shield=True):  # it cannot be ended at once, like one whose answer is there already
                await gate.wait()
            did.append("prepared")

    noting.prepare = prepare  # type: ignore[method-assign]
    noting.forget = lambda partition, sid=None: did.append("forget")  # type: ignore[method-assign]
    await world.event("chat:a")
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _has(did, "prepare"))
        await world.work.forget("noting")  # as a restart of the consumer does: the next beat brings another fence
        await trio.sleep(30)
        assert did == ["forget", "prepare"]
        gate.set()
        await world.fires({"chat:a": [1]})
        nursery.cancel_scope.cancel()
    assert did[:4] == ["forget", "prepare", "prepared", "forget"]


async def test_a_retry_is_seen_however_many_wait_before_it(autojump_clock: MockClock) -> None:
    """Another consumer's parked streams, older and as many as are looked at, hide no operator's word on this one's."""
    world, noting, other = World(1), Noting(), Other()
    for name in ("chat:a", "chat:b"):
        await world.event(name, bad=True)
    limits = replace(LIMITS, parked_max=3)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([other], limits=limits).run)
        await happens(lambda: _many(world, "other", 2))
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker([noting, Other()], limits=limits).run)
        await happens(lambda: _many(world, "noting", 2))
        await trio.sleep(60)
        noting.mended = True
        parked = await world.work.parked("noting")
        await world.work.ask_retry("noting", parked[-1].sid, skip=False)
        await happens(lambda: _many(world, "noting", 1))
        nursery.cancel_scope.cancel()


async def test_others_have_their_turn_amid_a_batch(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many streams is taken a slice at a time, each prepared before it, and committed as one."""
    monkeypatch.setattr(module, "TAKEN_AT_ONCE", 4)
    world, noting = World(1), Noting()
    steps, taken_at = Steps(), list[int]()
    take = noting.take

    def counted(place: Place, events: Sequence[Seen]) -> Effects:
        taken_at.append(steps.count)
        return take(place, events)

    noting.take = counted  # type: ignore[method-assign]
    for n in range(10):
        await world.event(f"chat:{n}")
    worker = world.worker([noting], limits=ALONE)
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(steps)
    assert [len(list(group)) for _, group in itertools.groupby(taken_at)] == [4, 4, 2]
    assert [len(places) for places in noting.prepared] == [4, 4, 2]
    assert worker.commits == 1


async def test_a_beat_under_way_is_waited_for_before_leaving(autojump_clock: MockClock) -> None:
    """What a heartbeat gets while the worker leaves is given back too: nobody waits for a lease to run out."""
    world = World(1)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.work, name)

        async def beat(self, *args: Any) -> list[Lease]:
            await trio.sleep(0.5)
            return await world.work.beat(*args)

    worker = world.worker([Noting()], work=Slow())  # type: ignore[arg-type]  # a stand-in
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.sleep(0.25)
        await worker.leave()
        await trio.sleep(1)
        assert [cursor.holder for cursor in await world.work.cursors()] in ([], [""])
        nursery.cancel_scope.cancel()


def _job(key: str) -> NewTask:
    return NewTask("job", "demo", key, 0, {})


async def _true(value: object) -> bool:
    return bool(value)


async def _has(did: list[str], what: str) -> bool:
    return what in did


async def _many(world: World, consumer: str, count: int) -> bool:
    return len(await world.work.parked(consumer)) == count
