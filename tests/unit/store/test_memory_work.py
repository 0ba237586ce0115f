"""What the workers' store in memory has beside the contract: it fails with its log, and same calls give same answers."""

from __future__ import annotations

import uuid
from itertools import count
from random import Random

import pytest

from core.ports import Unavailable
from core.work import Effects, Fenced
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.works import TTL, keys, lease, park, row, task


def made() -> tuple[MemoryLog, MemoryWork]:
    ticks = count(1_700_000_000_000)
    log = MemoryLog(now_ms=lambda: next(ticks), new_key=lambda: str(uuid.UUID(int=next(ticks))), partitions=4)
    return log, MemoryWork(log, lambda: next(ticks))


async def test_it_is_down_when_the_log_is() -> None:
    """Every call, until that ends; and nothing of what was asked meanwhile was done."""
    log, work = made()
    log.down = "stopped"
    with pytest.raises(Unavailable, match="stopped"):
        await work.add([task()])
    with pytest.raises(Unavailable, match="stopped"):
        await work.beat("w1", ["views"], TTL)
    log.down = None
    assert await work.tasks("timer") == []
    assert await work.cursors() == []


async def test_a_call_fails_before_or_after_its_commit() -> None:
    """As the log is told by the method's name: without an effect, or with one that its caller does not hear of."""
    log, work = made()
    held = await lease(work)
    log.fail_next("unavailable", "commit")
    with pytest.raises(Unavailable):
        await work.commit(held, 5, Effects(rows=[row("lost", {})]))
    log.fail_next("unknown", "commit")
    with pytest.raises(Unavailable):
        await work.commit(held, 5, Effects(rows=[row("kept", {})]))
    with pytest.raises(Fenced):
        await work.commit(held, 5, Effects(rows=[row("twice", {})]))
    assert keys(await work.rows("flight_board", "demo")) == ["kept"]


async def test_nobody_changes_what_was_committed() -> None:
    """Neither through what was handed in, nor through what was answered."""
    _, work = made()
    doc = {"list": [1]}
    await work.commit(await lease(work), 1, Effects(rows=[row("a", doc)], memories=[("demo", 7, doc)]))
    await work.add([task("t", body=doc)])
    doc["list"].append(2)
    for _ in range(2):
        found = await work.row("flight_board", "demo", "a")
        assert found is not None
        answers = [found.doc, (await work.memories("views", [7]))[7], (await work.tasks("timer"))[0].body]
        for answer in answers:
            assert answer == {"list": [1]}
            answer["list"].append(3)


async def play(seed: int) -> list[str]:
    """Many calls by chance, and all that they answered."""
    _, work = made()
    random = Random(seed)
    told: list[object] = []
    for number in range(200):
        holder, key = f"w{random.randrange(3)}", f"k{random.randrange(8)}"
        match random.randrange(6):
            case 0:
                told.append(await work.beat(holder, random.sample(["views", "rules", "x"], 2), random.choice((1, 900))))
            case 1:
                await work.add([task(key, lane=random.choice(("", "x", "y")), replace=random.random() < 0.5)])
            case 2:
                told.append(await work.claim(holder, "timer", 3, random.choice((1, 900))))
            case 3:
                for held in await work.beat("w1", ["views"], TTL):
                    at = held.partition
                    effects = Effects(
                        rows=[row(key, {"n": number}, partition=at)], parks=[park(number % 9, partition=at)]
                    )
                    told.append(await work.commit(held, held.pos + 1, effects))
            case 4:
                await work.leave(holder)
            case _:
                told.append([await work.cursors(), await work.parked(), await work.rows("flight_board", "demo")])
    return [repr(each) for each in told]


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_calls_give_the_same_answers(seed: int) -> None:
    """In the same order."""
    assert await play(seed) == await play(seed)
