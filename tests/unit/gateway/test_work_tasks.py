"""gateway.work.tasks and gateway.work.long: what is due is done once, put off when it fails, parked when it keeps failing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from core.ports import Refused, Unavailable
from core.work import Fenced, NewTask, Task
from gateway.work.long import CLEAN, CLEAN_EVERY_S, SLICE_S, Clean, LongRunner, Step, standing_task
from gateway.work.ports import DONE, Hold, Outcome, Transient
from tests.working import LIMITS, Doing, World, happens, now_ms, wall

LONG_AGO = 1_000


def new(key: str, *, kind: str = "job", lane: str = "", due_ms: int = LONG_AGO, **body: object) -> NewTask:
    return NewTask(kind, "demo", key, due_ms, body, lane=lane)


async def state(world: World, key: str, kind: str = "job") -> Task:
    (task,) = [task for task in await world.work.tasks(kind, limit=1_000) if task.key == key]
    return task


async def becomes(world: World, key: str, *states: str, kind: str = "job") -> Task:
    async def there() -> bool:
        return (await state(world, key, kind)).state in states

    await happens(there)
    return await state(world, key, kind)


def failing(times: int, error: Exception) -> Doing:
    """Fails so often, then does it."""
    left = [times]

    async def do(task: Task, hold: Hold) -> Outcome:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return DONE

    return Doing(do=do)


async def test_what_is_due_is_done_once_by_one_of_many(autojump_clock: MockClock) -> None:
    """Each of many tasks runs in one worker, and what is due later waits until then."""
    world, doings = World(), [Doing(), Doing()]
    await world.work.add([new(f"t{n}") for n in range(100)])
    await world.work.add([new("later", due_ms=now_ms() + 60_000)])
    async with trio.open_nursery() as nursery:
        for doing in doings:
            await nursery.start(world.worker(runners=[doing]).run)
        await becomes(world, "t99", "done")
        await trio.sleep(30)
        assert sorted(doings[0].ran + doings[1].ran) == sorted(f"t{n}" for n in range(100))
        await becomes(world, "later", "done")
        assert trio.current_time() >= 60
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [Transient("busy"), Unavailable("away"), Refused("conflict", "no")])
async def test_what_fails_for_a_while_is_tried_again(error: Exception, autojump_clock: MockClock) -> None:
    """It is put off with the reason, later each time, and done in the end."""
    world, doing = World(), failing(3, error)
    await world.work.add([new("t")])
    worker = world.worker(runners=[doing])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _ran(doing, 1))
        assert str(error) in (await state(world, "t")).reason
        await becomes(world, "t", "done")
        nursery.cancel_scope.cancel()
    assert [task.attempts for task in doing.tasks] == [0, 1, 2, 3]
    kind = worker.tasks.kinds["job"]
    assert (kind.done, kind.retried, kind.parked) == (1, 3, 0)


async def test_who_says_when_to_come_back_is_obeyed(autojump_clock: MockClock) -> None:
    """A wait that was asked for is not shortened by the backoff."""
    world, doing = World(), failing(1, Transient("closed", retry_after_s=500.0))
    await world.work.add([new("t")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        await becomes(world, "t", "done")
        assert trio.current_time() >= 500
        nursery.cancel_scope.cancel()


async def test_what_keeps_failing_is_parked_and_can_be_retried(autojump_clock: MockClock) -> None:
    """After as many attempts as it may have it is an operator's, with the reason; told so it is tried again."""
    world, doing = World(), failing(3, Transient("busy", tries_max=3))
    await world.work.add([new("t")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        task = await becomes(world, "t", "parked")
        assert task.reason == "given up after 3 attempts: busy"
        assert await world.work.tell(task.id, "retry")
        await becomes(world, "t", "done")
        nursery.cancel_scope.cancel()


async def test_what_fails_for_good_is_parked_and_stops_its_lane_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw parks its task at once; later ones of its lane wait, others do not."""

    async def do(task: Task, hold: Hold) -> Outcome:
        if task.body.get("bad"):
            raise KeyError("stream")
        return DONE

    world, doing = World(), Doing(do=do)
    await world.work.add([new("a1", lane="a", bad=True), new("a2", lane="a"), new("b1", lane="b")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        task = await becomes(world, "a1", "parked")
        await becomes(world, "b1", "done")
        await trio.sleep(60)
        assert sorted(doing.ran) == ["a1", "b1"]
        await world.work.tell(task.id, "drop")
        await becomes(world, "a2", "done")
        nursery.cancel_scope.cancel()
    assert task.reason == "KeyError: 'stream'"
    assert "cannot be done" in caplog.text


async def test_a_lane_is_done_in_its_order(autojump_clock: MockClock) -> None:
    """Tasks of one lane run one after the other in the order they were added, though many may run at once."""
    running: list[str] = []

    async def do(task: Task, hold: Hold) -> Outcome:
        assert not [key for key in running if key[0] == task.key[0]], "two of one lane at once"
        running.append(task.key)
        await trio.sleep(1)
        running.remove(task.key)
        return DONE

    world, doing = World(), Doing(do=do)
    await world.work.add([new(f"{lane}{n}", lane=lane) for n in range(4) for lane in "abc"])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        await becomes(world, "c3", "done")
        nursery.cancel_scope.cancel()
    for lane in "abc":
        assert [key for key in doing.ran if key[0] == lane] == [f"{lane}{n}" for n in range(4)]


async def test_a_kind_that_hangs_takes_no_others_room(autojump_clock: MockClock) -> None:
    """At most so many of a kind run at once, and another kind's go on."""

    async def hang(task: Task, hold: Hold) -> Outcome:
        await trio.sleep_forever()

    world, hanging, doing = World(), Doing("long", hang), Doing()
    limits = replace(LIMITS, running_tasks_max=3)
    await world.work.add([new(f"h{n}", kind="long") for n in range(10)] + [new(f"t{n}") for n in range(10)])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[hanging, doing], limits=limits).run)
        await happens(lambda: _ran(doing, 10))
        assert len(hanging.ran) == 3
        nursery.cancel_scope.cancel()


async def test_a_worker_that_dies_leaves_its_tasks_to_others(autojump_clock: MockClock) -> None:
    """A claim of a dead worker runs out, and somebody else does the task; the dead one's answer would count no more."""
    world, first, second = World(), Doing(do=_hang), Doing()
    await world.work.add([new("t")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[first]).run)
        await happens(lambda: _ran(first, 1))
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[second]).run)
        await becomes(world, "t", "done")
        nursery.cancel_scope.cancel()
    with pytest.raises(Fenced):
        await world.work.settle(first.tasks[0], state="done")


async def test_leaving_gives_tasks_back_at_once(autojump_clock: MockClock) -> None:
    """What a worker had in hand when it left is another's without waiting for the claim, and no attempt is counted."""
    world, first, second = World(), Doing(do=_hang), Doing()
    await world.work.add([new("t")])
    worker = world.worker(runners=[first], limits=replace(LIMITS, task_s=1e6))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _ran(first, 1))
        await worker.leave()
        await nursery.start(world.worker(runners=[second]).run)
        await becomes(world, "t", "done")
        nursery.cancel_scope.cancel()
    assert second.tasks[0].attempts == 0


async def test_a_task_that_ends_its_workers_is_parked(autojump_clock: MockClock) -> None:
    """Whose claim runs out again and again is not given to any more workers."""
    world, doing = World(), Doing()
    await world.work.add([new("t")])
    for _ in range(10):
        assert await world.work.claim("doomed", "job", 1, 1_000)
        await trio.sleep(2)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        task = await becomes(world, "t", "parked")
        nursery.cancel_scope.cancel()
    assert "ran out 10 times" in task.reason
    assert doing.ran == []


@pytest.mark.parametrize("kind", ["unavailable", "unknown"])
async def test_a_settlement_that_was_not_heard_is_said_again(kind: Any, autojump_clock: MockClock) -> None:
    """The task is done once it is settled, whatever became of the first try to say so."""
    world, doing = World(), Doing()
    await world.work.add([new("t")])
    world.log.fail_next(kind, "settle")
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        await becomes(world, "t", "done")
        nursery.cancel_scope.cancel()
    assert doing.ran == ["t"]


async def test_a_store_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    """While nothing can be claimed the worker says why, and goes on when the store is back."""
    world, doing = World(), Doing()
    await world.work.add([new("t")])
    world.log.down = "gone fishing"
    worker = world.worker(runners=[doing])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.sleep(60)
        assert (worker.trouble, doing.ran) == ("gone fishing", [])
        world.log.down = None
        await becomes(world, "t", "done")
        nursery.cancel_scope.cancel()


async def test_tasks_that_follow_are_added_with_the_end(autojump_clock: MockClock) -> None:
    """What a task leads to is there once it is done, and runs at once."""

    async def do(task: Task, hold: Hold) -> Outcome:
        return Outcome("done", tasks=[new("next")] if task.key == "t" else [])

    world, doing = World(), Doing(do=do)
    await world.work.add([new("t")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[doing]).run)
        await happens(lambda: _ran(doing, 2))
        nursery.cancel_scope.cancel()
    assert doing.ran == ["t", "next"]


async def test_standing_tasks_are_there_once_the_store_answers(autojump_clock: MockClock) -> None:
    """What is to be there while there are workers is asked for again until it is."""
    world, doing = World(), Doing("long")
    worker = world.worker(runners=[doing])
    worker.standing.append(standing_task(CLEAN, now_ms()))
    world.log.fail_next("unavailable", "add")
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _ran(doing, 1))
        nursery.cancel_scope.cancel()
    assert (doing.ran, worker.standing) == ([CLEAN], [])


class Counting:
    """A long job: a second a step, so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seen: list[int] = []

    async def step(self, task: Task, at: Any) -> Step:
        await trio.sleep(1)
        at = (at or 0) + 1
        self.seen.append(at)
        return Step(at, {"of": self.steps, "done": at}, at >= self.steps)


async def test_a_long_job_goes_on_from_its_cursor(autojump_clock: MockClock) -> None:
    """It outlives the length of a claim many times over, tells how far it is, and no step is done twice."""
    world, job = World(), Counting(100)
    await world.work.add([new("count", kind="long", job="count")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[LongRunner({"count": job})]).run)
        await trio.sleep(3 * SLICE_S)
        assert (await state(world, "count", "long")).progress["of"] == 100
        task = await becomes(world, "count", "done", kind="long")
        nursery.cancel_scope.cancel()
    assert job.seen == list(range(1, 101))
    assert task.body["at"] == 100


async def test_a_long_job_stops_when_it_is_asked_to(autojump_clock: MockClock) -> None:
    """Cancelled, it ends at its next step, with its cursor and why."""
    world, job = World(), Counting(1_000)
    await world.work.add([new("count", kind="long", job="count")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[LongRunner({"count": job})]).run)
        await happens(lambda: _at(job, 15))

        async def cancelled() -> bool:
            task = await state(world, "count", "long")
            return task.state == "claimed" and await world.work.tell(task.id, "cancel")

        await happens(cancelled)
        task = await becomes(world, "count", "done", kind="long")
        nursery.cancel_scope.cancel()
    assert task.reason == "stopped by an operator"
    assert task.body["at"] == len(job.seen) < 100


async def test_a_long_job_that_nobody_knows_is_parked(autojump_clock: MockClock) -> None:
    """Its reason says which there are."""
    world = World()
    await world.work.add([new("what", kind="long", job="dance")])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.worker(runners=[LongRunner({"count": Counting(1)})]).run)
        task = await becomes(world, "what", "parked", kind="long")
        nursery.cancel_scope.cancel()
    assert task.reason == "there is no long job 'dance'; there are count"


async def test_what_is_done_is_deleted_in_time_and_again_and_again(autojump_clock: MockClock) -> None:
    """Tasks that were done longer ago than they are kept are gone, and the job waits to do it again."""
    world, doing = World(), Doing()
    limits = replace(LIMITS, keep_done_s=3_000.0)
    worker = world.worker(runners=[doing, LongRunner({CLEAN: Clean(world.work, limits, wall)})], limits=limits)
    worker.standing.append(standing_task(CLEAN, now_ms()))
    await world.work.add([new(f"t{n}") for n in range(20)])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await becomes(world, "t19", "done")
        await trio.sleep(2 * CLEAN_EVERY_S)
        assert await world.work.tasks("job") == []
        (task,) = await world.work.tasks("long")
        nursery.cancel_scope.cancel()
    assert (task.state, task.progress) == ("waiting", {"deleted": 20})


async def _hang(task: Task, hold: Hold) -> Outcome:
    await trio.sleep_forever()


async def _ran(doing: Doing, count: int) -> bool:
    return len(doing.ran) >= count


async def _at(job: Counting, at: int) -> bool:
    return len(job.seen) >= at
