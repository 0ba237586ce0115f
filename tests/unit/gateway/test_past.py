"""gateway.past: a stream's facts, kept parsed while there is room, and folded as of a moment."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from core.model import Entry
from core.ports import Unavailable
from gateway.past import NOW, AsOf, Past, cabin_of, flight_of, seq_of
from store.memory import MemoryLog
from tests.flight_facts import OUT, Facts, equipped, milestone, scheduled

START_MS = 1_790_000_000_000


class Clock:
    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> MemoryLog:
    keys = itertools.count(1)
    return MemoryLog(now_ms=clock, new_key=lambda: f"00000000-0000-4000-8000-{next(keys):012x}", partitions=2)


async def test_only_what_is_new_is_read_again(log: MemoryLog) -> None:
    """The first time all, then what came since; and what is answered is always all."""
    facts, past = Facts(log), Past(log)
    await facts.tell("flight:QX1", scheduled(), equipped("VH-XYZ"))
    sid = await facts.sid("flight:QX1")
    first = await past.facts("demo", sid)
    assert [fact.type for fact in first] == ["flight.scheduled", "flight.equipped"]
    await facts.tell("flight:QX1", milestone("OUT", "actual", OUT))
    again = await past.facts("demo", sid)
    assert list(again[:2]) == list(first)
    assert again[0] is first[0]
    assert [fact.seq for fact in again] == [1, 2, 3]
    assert len(past) == 3
    assert len(first) == 2, "whoever has the first answer still has it as it was"


async def test_a_long_past_is_read_in_pages(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chat in between is left out."""
    monkeypatch.setattr("gateway.past.FOLDED_AT_ONCE", 3)
    facts = Facts(log)
    await facts.tell("flight:QX1", scheduled())
    sid = await facts.sid("flight:QX1")
    for n in range(7):
        await facts.tell("flight:QX1", equipped(f"VH-{n}"))
        key = f"00000000-0000-4000-8000-0000000000f{n}"
        await log.append([Entry("demo", sid, key, "message", "user:amy", b"{}", privileged=True)])
    found = await Past(log).facts("demo", sid)
    assert [fact.type for fact in found] == ["flight.scheduled", *["flight.equipped"] * 7]


async def test_what_is_kept_is_bounded(log: MemoryLog) -> None:
    """Those asked about longest ago go first; a stream that is too long by itself is not kept at all."""
    facts, past = Facts(log), Past(log, kept_max=4)
    sids = []
    for name in ("QX1", "QX2", "QX3"):
        await facts.tell(f"flight:{name}", scheduled(), equipped("VH-XYZ"))
        sids.append(await facts.sid(f"flight:{name}"))
    for sid in (sids[0], sids[1], sids[0], sids[2]):
        assert len(await past.facts("demo", sid)) == 2
    assert len(past) == 4
    log.calls.clear()
    await facts.tell("flight:QX3", *[equipped(f"VH-{n}") for n in range(5)])
    assert len(await past.facts("demo", sids[2])) == 7
    assert len(past) == 0


async def test_another_tenants_stream_is_empty(log: MemoryLog) -> None:
    """Whatever number one names."""
    facts, past = Facts(log), Past(log)
    await facts.tell("flight:QX1", scheduled())
    sid = await facts.sid("flight:QX1")
    assert len(await past.facts("demo", sid)) == 1
    assert await past.facts("twin", sid) == []


async def test_after_a_restore_nothing_of_before_is_answered(log: MemoryLog) -> None:
    """And a log that cannot be reached is said."""
    facts, past = Facts(log), Past(log)
    await facts.tell("flight:QX1", scheduled())
    sid = await facts.sid("flight:QX1")
    await past.facts("demo", sid)
    past.forget()
    assert len(past) == 0
    log.down = "away"
    with pytest.raises(Unavailable):
        await past.facts("demo", sid)


async def test_as_of_a_moment(log: MemoryLog, clock: Clock) -> None:
    """By what was recorded by then, and what was true then; the seq is of the last fact that was recorded."""
    facts, past = Facts(log), Past(log)
    await facts.tell("flight:QX1", scheduled())
    clock.ms += 1_000
    await facts.tell("flight:QX1", milestone("OUT", "actual", "2026-09-21T13:00:00.000Z"))
    await facts.tell("flight:QX1.seats", ("seat.opened", {"flight": "QX1", "layout": "1:AB"}))
    found = await past.facts("demo", await facts.sid("flight:QX1"))
    cabin = await past.facts("demo", await facts.sid("flight:QX1.seats"))
    early = AsOf(recorded_ms=START_MS + 500)
    assert (flight_of(found, early)["status"], seq_of(found, early)) == ("scheduled", 1)
    assert (flight_of(found, NOW)["status"], seq_of(found, NOW)) == ("departed", 2)
    assert (seq_of(found, AsOf(recorded_ms=START_MS - 1)), seq_of([], NOW)) == (0, 0)
    assert flight_of(found, AsOf(recorded_ms=START_MS - 1))["status"] == "new"
    true_ms = 1_790_000_000_000 + 86_400_000
    assert flight_of(found, AsOf(valid_ms=true_ms))["status"] == "departed"
    assert flight_of(found, AsOf(valid_ms=START_MS - 86_400_000_0))["status"] == "scheduled"
    assert list(cabin_of(cabin, NOW).layout.seats) == ["1A", "1B"]
    assert cabin_of(cabin, early).flight == ""
    assert (NOW.is_now, early.is_now, AsOf(valid_ms=0).is_now) == (True, False, False)


async def test_what_was_read_before_a_restore_is_not_kept_after_it(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another log may have fewer events under the same seqs: a reading that was under way then must not be gone on from."""
    facts = Facts(log)
    await facts.tell("flight:QX1", scheduled(), equipped("VH-XYZ"))
    sid = await facts.sid("flight:QX1")

    past = Past(log)
    ruled = log.ruled

    async def put_back_meanwhile(*args: Any) -> Any:
        found = await ruled(*args)
        past.forget()
        return found

    monkeypatch.setattr(log, "ruled", put_back_meanwhile)
    assert len(await past.facts("demo", sid)) == 2
    assert len(past) == 0
    monkeypatch.setattr(log, "ruled", ruled)
    assert len(await past.facts("demo", sid)) == 2
    assert len(past) == 2
