"""The model's own switches; what it answers is held to the port in tests/contract."""

from __future__ import annotations

from itertools import count

import pytest
import trio

from core.model import Entry, Outcome
from core.ports import Log, LogChecker, Unavailable
from store.memory import MemoryLog


def make(**kwargs: object) -> MemoryLog:
    ticks = count(1)
    fields: dict[str, object] = {
        "now_ms": lambda: next(ticks),
        "new_key": lambda: f"00000000-0000-4000-8000-{next(ticks):012}",
    }
    return MemoryLog(**(fields | kwargs))  # type: ignore[arg-type]


async def filled(log: MemoryLog, events: int = 3) -> int:
    facts = await log.create_stream("demo", "chat:ops", open=True, members=[], by="user:amy")
    await log.append([message(facts.sid, n) for n in range(events)])
    return facts.sid


def message(sid: int, n: int) -> Entry:
    return Entry("demo", sid, f"10000000-0000-4000-8000-{n:012}", "message", "user:amy", b"{}")


def test_it_is_a_log_and_a_checker() -> None:
    """The ports' types accept it."""
    log: Log = make()
    checker: LogChecker = make()
    assert log is not checker


async def test_unavailable_has_no_effect() -> None:
    """The next call fails before it commits; the one after it works."""
    log = make()
    sid = await filled(log)
    log.fail_next("unavailable")
    with pytest.raises(Unavailable):
        await log.append([message(sid, 9)])
    assert [verdict.outcome for verdict in await log.append([message(sid, 9)])] == [Outcome.OK]


async def test_unknown_has_its_effect() -> None:
    """The commit stands although the caller was told nothing; repeating finds it by key."""
    log = make()
    sid = await filled(log)
    log.fail_next("unknown")
    with pytest.raises(Unavailable):
        await log.append([message(sid, 9)])
    assert [verdict.outcome for verdict in await log.append([message(sid, 9)])] == [Outcome.DUP]


async def test_a_failure_can_wait_for_its_method() -> None:
    """Calls of other methods pass it by; failures of one method queue up."""
    log = make()
    sid = await filled(log)
    log.fail_next("unavailable", "append")
    log.fail_next("unknown", "append")
    assert len(await log.read("demo", sid, 0, 10)) == 3
    for _ in range(2):
        with pytest.raises(Unavailable):
            await log.append([message(sid, 9)])
    assert [verdict.outcome for verdict in await log.append([message(sid, 9)])] == [Outcome.DUP]


async def test_down_until_up() -> None:
    """Every call fails with the reason given, until there is none; closing is for good."""
    log = make()
    sid = await filled(log)
    log.down = "gone fishing"
    with pytest.raises(Unavailable, match="gone fishing"):
        await log.heads()
    log.down = None
    assert len(await log.read("demo", sid, 0, 10)) == 3
    await log.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await log.heads()


async def test_calls_are_counted() -> None:
    """By method, so that a test can say that the log was not asked."""
    log = make()
    await filled(log)
    await log.heads()
    await log.heads()
    assert log.calls == {"create_stream": 1, "append": 1, "heads": 2}


async def test_a_pause_comes_before_the_effect() -> None:
    """Whoever is cancelled in it has changed nothing."""
    log = make(pause=trio.sleep_forever)
    with trio.move_on_after(0):
        await log.create_stream("demo", "chat:ops", open=True, members=[], by="user:amy")
    log._pause = None
    assert await log.open_streams([("demo", "chat:ops", "user:amy")]) == [None]


async def test_the_same_calls_give_the_same_log() -> None:
    """Nothing in it comes from outside: two models fed alike are alike."""
    logs = [make(), make()]
    told = []
    for log in logs:
        sid = await filled(log, 20)
        await log.put_member("demo", "chat:ops", "user:bob", "member", "user:amy")
        told.append((await log.read("demo", sid, 0, 100), await log.epoch()))
    assert told[0] == told[1]


async def test_time_that_goes_back_does_not_take_the_log_with_it() -> None:
    """A partition's times never fall, whatever the clock does."""
    clock = iter([1_000, 500, 1_200])
    log = make(now_ms=lambda: next(clock), epoch="10000000-0000-4000-8000-000000000000")
    sid = await filled(log, 1)
    await log.append([message(sid, 7)])
    await log.append([message(sid, 8)])
    assert [event.at_ms for event in await log.read("demo", sid, 0, 10)] == [1_000, 1_000, 1_200]


async def test_a_sound_model_has_no_findings() -> None:
    """After sends, a trim and a membership."""
    log = make()
    await filled(log, 9)
    await log.put_member("demo", "chat:ops", "user:bob", "member", "user:amy")
    await log.trim("demo", "chat:ops", 4)
    steps = [step async for step in log.check()]
    assert [finding for _, _, finding in steps if finding] == []
    assert steps[-1] == (10, 10, None)


async def test_a_damaged_model_is_found_out() -> None:
    """The place is named."""
    log = make(partitions=1)
    await filled(log, 9)
    events = log._partitions[0]
    events[4] = events[4]._replace(pos=7, at_ms=0)
    findings = [finding async for _, _, finding in log.check() if finding]
    assert any("partition 0 pos 5: the event says partition 0 pos 7" in finding for finding in findings)
    assert any("at falls" in finding for finding in findings)
