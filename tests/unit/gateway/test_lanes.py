"""gateway.lanes: what is put in is answered exactly once, in batches that the log accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio

from core.limits import Limits
from core.model import Entry, Outcome, Verdict
from core.ports import Unavailable
from gateway import lanes as lanes_module
from gateway.lanes import Lanes
from store.memory import MemoryLog
from tests.nodes import memory_log

LIMITS = replace(Limits(), batch_entries_max=4, lane_entries_max=6)


def entry(n: int, *, sid: int = 1, expect: int | None = None, size: int = 2) -> Entry:
    return Entry(
        "demo",
        sid,
        f"00000000-0000-4000-8000-{n:012x}",
        "message",
        "user:amy",
        b'"%b"' % (b"x" * size),
        expect=expect,
        privileged=True,
        ticket=n,
    )


class SlowLog(MemoryLog):
    """Keeps the batches it was given, and answers one each time ``step`` is called."""

    def __init__(self) -> None:
        base = memory_log()
        super().__init__(now_ms=base._now_ms, new_key=base._new_key)
        self.batches: list[list[Entry]] = []
        self._answers = trio.Semaphore(0)
        self.failure: Unavailable | None = None

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        self.batches.append(list(entries))
        await self._answers.acquire()
        if self.failure is not None:
            raise self.failure
        return await super().append(entries)

    async def step(self, count: int = 1) -> None:
        for _ in range(count):
            self._answers.release()
            await trio.testing.wait_all_tasks_blocked(0.001)


class Desk:
    """Lanes over a slow log, and the answers they gave."""

    def __init__(self, limits: Limits = LIMITS, count: int = 1) -> None:
        self.log = SlowLog()
        self.answers: list[tuple[object, Outcome | str]] = []
        self.lanes = Lanes(self.log, limits, count, self._committed, self._failed)

    def _committed(self, batch: Sequence[Entry], verdicts: Sequence[Verdict]) -> None:
        self.answers += [(entry.ticket, verdict.outcome) for entry, verdict in zip(batch, verdicts, strict=True)]

    def _failed(self, batch: Sequence[Entry], error: Unavailable) -> None:
        self.answers += [(entry.ticket, str(error)) for entry in batch]

    async def start(self, nursery: trio.Nursery, streams: int = 2) -> None:
        for n in range(streams):
            await self.log.create_stream("demo", f"chat:{n}", open=True, members=[], by="user:amy")
        nursery.start_soon(self.lanes.run)

    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.log.batches]


async def test_what_gathers_during_a_commit_is_the_next_batch(nursery: trio.Nursery) -> None:
    """One goes at once, the rest together, at most `batch_entries_max` at a time; all answered once, in order."""
    desk = Desk()
    await desk.start(nursery)
    for n in range(6):
        assert desk.lanes.put(0, entry(n))
        await trio.testing.wait_all_tasks_blocked(0.001)
    assert (desk.sizes(), len(desk.lanes)) == ([1], 5)
    await desk.log.step(3)
    assert desk.sizes() == [1, 4, 1]
    assert desk.answers == [(n, Outcome.OK) for n in range(6)]
    assert [lane.commits for lane in desk.lanes.lanes] == [3]


async def test_a_full_lane_refuses(nursery: trio.Nursery) -> None:
    """Past `lane_entries_max` the caller is told to answer overloaded; what was taken is not dropped."""
    desk = Desk()
    await desk.start(nursery)
    taken = [desk.lanes.put(0, entry(n)) for n in range(8)]
    assert taken == [True] * 6 + [False] * 2
    await desk.log.step(3)
    assert [n for n, _ in desk.answers] == list(range(6))
    assert desk.lanes.put(0, entry(9))


async def test_an_expectation_comes_first_of_its_stream(nursery: trio.Nursery) -> None:
    """``expect`` is judged against the head before the batch: an entry that has one never follows its stream's other."""
    desk = Desk()
    await desk.start(nursery)
    for one in (entry(1, sid=1), entry(2, sid=2, expect=0), entry(3, sid=1, expect=1), entry(4, sid=1, expect=9)):
        desk.lanes.put(0, one)
    await desk.log.step(3)
    assert [[e.ticket for e in batch] for batch in desk.log.batches] == [[1, 2], [3], [4]]
    assert desk.answers == [(1, Outcome.OK), (2, Outcome.OK), (3, Outcome.OK), (4, Outcome.CONFLICT)]


async def test_a_batch_is_bounded_in_bytes(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large bodies make small batches, and one larger than all of it goes alone."""
    monkeypatch.setattr(lanes_module, "BATCH_BYTES_MAX", 100)
    desk = Desk()
    await desk.start(nursery)
    for n, size in enumerate((40, 40, 40, 300, 10)):
        desk.lanes.put(0, entry(n, size=size))
    await desk.log.step(4)
    assert desk.sizes() == [2, 1, 1, 1]
    assert [n for n, _ in desk.answers] == [0, 1, 2, 3, 4]


async def test_a_store_that_is_away(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """Its batch is answered unavailable, once; the lane goes on by itself, without spinning."""
    desk = Desk()
    await desk.start(nursery)
    desk.log.failure = Unavailable("away")
    desk.lanes.put(0, entry(1))
    await desk.log.step()
    assert desk.answers == [(1, "away")]
    desk.log.failure = None
    desk.lanes.put(0, entry(2))
    await trio.sleep(1)
    await desk.log.step()
    assert desk.answers == [(1, "away"), (2, Outcome.OK)]
    assert [lane.failures for lane in desk.lanes.lanes] == [1]


async def test_partitions_keep_to_their_lane(nursery: trio.Nursery) -> None:
    """A partition's order is one lane's order; lanes do not wait for each other."""
    desk = Desk(count=2)
    await desk.start(nursery)
    for n, partition in enumerate((0, 1, 2, 3)):
        desk.lanes.put(partition, entry(n))
    await trio.testing.wait_all_tasks_blocked(0.001)
    assert sorted([e.ticket for e in batch] for batch in desk.log.batches) == [[0, 2], [1, 3]]
    await desk.log.step(2)


async def test_drained_waits_for_every_lane(nursery: trio.Nursery) -> None:
    """Work that comes into a lane already waited for is waited for too; it used to be left behind."""
    desk = Desk(count=2)
    await desk.start(nursery)
    done = trio.Event()

    async def drain() -> None:
        await desk.lanes.drained()
        done.set()

    desk.lanes.put(1, entry(1))
    nursery.start_soon(drain)
    await trio.testing.wait_all_tasks_blocked(0.001)
    desk.lanes.put(0, entry(2))  # lane 0 was found idle already
    await desk.log.step()
    assert not done.is_set()
    await desk.log.step()
    assert done.is_set()
    await desk.lanes.drained()


async def test_every_commit_is_observed(nursery: trio.Nursery) -> None:
    """The metrics hear of each batch how many entries it had."""
    desk = Desk()
    await desk.start(nursery)
    seen: list[int] = []
    desk.lanes.lanes[0].observe = lambda seconds, entries: seen.append(entries)
    for n in range(3):
        desk.lanes.put(0, entry(n))
    await desk.log.step()
    assert seen == [3]
