"""gateway.lanes: what is put in is answered exactly once, in batches that the log accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import trio

from core.fair import even
from core.limits import Limits
from core.model import Entry, Outcome, Verdict
from core.ports import Unavailable
from gateway import lanes as lanes_module
from gateway.lanes import Lanes
from store.memory import MemoryLog
from tests.nodes import memory_log

LIMITS = replace(Limits(), batch_entries_max=4, lane_entries_max=12)


def entry(n: int, *, tenant: str = "demo", sid: int = 1, expect: int | None = None, size: int = 2) -> Entry:
    return Entry(
        tenant,
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

    def __init__(self, limits: Limits = LIMITS, count: int = 1, weight: Callable[[str], int] = even) -> None:
        self.log = SlowLog()
        self.answers: list[tuple[object, Outcome | str]] = []
        self.lanes = Lanes(self.log.append, limits, count, self._committed, self._failed, weight)

    def _committed(self, batch: Sequence[Entry], verdicts: Sequence[Verdict]) -> None:
        self.answers += [(entry.ticket, verdict.outcome) for entry, verdict in zip(batch, verdicts, strict=True)]

    def _failed(self, batch: Sequence[Entry], error: Unavailable) -> None:
        self.answers += [(entry.ticket, str(error)) for entry in batch]

    async def start(self, nursery: trio.Nursery, streams: int = 2) -> None:
        for n in range(streams):
            await self.log.create_stream("demo", f"chat:{n}", open=True, members=[], by="user:amy")
        nursery.start_soon(self.lanes.run)

    def batches(self) -> list[list[object]]:
        return [[entry.ticket for entry in batch] for batch in self.log.batches]

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


async def test_a_tenant_alone_has_half_of_a_lane(nursery: trio.Nursery) -> None:
    """Past half of `lane_entries_max` the caller is told to answer overloaded; what was taken is not dropped."""
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


# -- tenants ----------------------------------------------------------------------------------------------------------


async def test_a_tenants_crowd_does_not_hold_up_another(nursery: trio.Nursery) -> None:
    """Six of one wait when one of another comes: it is in the very next batch, and the six keep their order."""
    desk = Desk()
    await desk.start(nursery)
    desk.lanes.put(0, entry(0))
    await trio.testing.wait_all_tasks_blocked(0.001)
    for n in range(1, 7):
        assert desk.lanes.put(0, entry(n, size=2_000))
    assert desk.lanes.put(0, entry(100, tenant="other"))
    await desk.log.step(3)
    assert desk.batches() == [[0], [1, 100, 2, 3], [4, 5, 6]]
    assert len(desk.lanes) == 0


async def test_a_lane_has_room_for_whoever_comes_next(nursery: trio.Nursery) -> None:
    """A tenant may hold as much as is free: six of twelve, then three, then one and one."""
    desk = Desk()
    await desk.start(nursery)
    took = {}
    for tenant in ("a", "b", "c", "d"):
        took[tenant] = [desk.lanes.put(0, entry(n, tenant=tenant)) for n in range(12)].count(True)
    assert took == {"a": 6, "b": 3, "c": 2, "d": 1}
    assert (desk.lanes.lanes[0].refusals, len(desk.lanes)) == (48 - 12, 12)
    await desk.log.step(5)
    assert (sorted(desk.sizes()), len(desk.answers)) == ([4, 4, 4], 12)
    assert desk.lanes.put(0, entry(50, tenant="a"))


async def test_a_lane_is_bounded_in_bytes_by_tenant(nursery: trio.Nursery) -> None:
    """Where more waits than a batch takes: half of `lane_bytes_max` for one, and small ones of others still fit."""
    desk = Desk(replace(LIMITS, lane_entries_max=1_000, lane_bytes_max=40_000))
    await desk.start(nursery)
    assert [desk.lanes.put(0, entry(n, size=3_486)) for n in range(8)].count(True) == 5
    assert desk.lanes.put(0, entry(9, tenant="other", size=9_000))
    assert not desk.lanes.put(0, entry(10, tenant="other", size=9_000))
    await desk.log.step(2)
    assert len(desk.answers) == 6


@pytest.mark.parametrize(("room", "taken"), [(0, 0), (1, 1), (2, 1), (3, 2)])
async def test_a_lane_of_next_to_nothing(nursery: trio.Nursery, room: int, taken: int) -> None:
    """Its bounds hold, what it took is committed, and it goes on."""
    desk = Desk(replace(LIMITS, lane_entries_max=room))
    await desk.start(nursery)
    await trio.testing.wait_all_tasks_blocked(0.001)
    for _ in range(2):
        desk.answers.clear()
        assert [desk.lanes.put(0, entry(n)) for n in range(5)].count(True) == taken
        await desk.log.step(2)
        assert (len(desk.answers), len(desk.lanes), desk.lanes.lanes[0].busy) == (taken, 0, False)


async def test_weights_share_a_batch(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three places to one."""
    monkeypatch.setattr(lanes_module, "TURN_BYTES", 514 + 2)
    desk = Desk(replace(LIMITS, lane_entries_max=60), weight=lambda tenant: 3 if tenant == "gold" else 1)
    await desk.start(nursery)
    for n in range(9):
        desk.lanes.put(0, entry(n, tenant="gold"))
        desk.lanes.put(0, entry(100 + n, tenant="lead"))
    await desk.log.step(6)
    assert desk.batches()[:3] == [[0, 1, 2, 100], [3, 4, 5, 101], [6, 7, 8, 102]]


async def test_expectations_of_one_tenant_do_not_cut_the_batches_of_others(nursery: trio.Nursery) -> None:
    """A tenant that sends nothing but entries with ``expect`` to one stream has one a batch; it used to end each batch."""
    desk = Desk(replace(LIMITS, lane_entries_max=60))
    await desk.start(nursery)
    desk.lanes.put(0, entry(0))
    await trio.testing.wait_all_tasks_blocked(0.001)
    for n in range(4):
        desk.lanes.put(0, entry(n, tenant="strict", sid=2, expect=n))
    for n in range(100, 106):
        desk.lanes.put(0, entry(n))
    await desk.log.step(6)
    assert desk.batches() == [[0], [0, 100, 101, 102], [1, 103, 104, 105], [2], [3]]


async def test_a_lane_that_was_crowded_is_plain_again(nursery: trio.Nursery) -> None:
    """When all of a crowd has gone, what gathers is the next batch as before; `drained` knows of both."""
    desk = Desk()
    await desk.start(nursery)
    for n in range(6):
        desk.lanes.put(0, entry(n))
    await trio.testing.wait_all_tasks_blocked(0.001)
    desk.lanes.put(0, entry(6))  # behind the crowd's last two
    await desk.log.step(1)
    for n in range(7, 10):
        desk.lanes.put(0, entry(n))
    await desk.log.step(2)
    await desk.lanes.drained()
    assert desk.batches() == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
