"""gateway.audit: what is noted lands once, in its tenant's stream, whatever the log does; and the hot path never waits."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
import trio
from trio.testing import MockClock

from core.limits import Limits
from core.model import AUDIT_STREAM, AUDITOR, Entry, Outcome, Verdict
from core.ports import CorruptLog, Unavailable
from gateway import audit as audit_module
from gateway.audit import Audit
from store.memory import MemoryLog
from tests.nodes import TestNode, memory_log, serving_node


class Scene:
    def __init__(self, node: TestNode, log: MemoryLog, audit: Audit) -> None:
        self.node = node
        self.log = log
        self.audit = audit

    async def events(self, tenant: str = "demo") -> list[tuple[str, dict[str, Any]]]:
        """The events of a tenant's audit stream: type and body."""
        (facts,) = await self.log.open_streams([(tenant, AUDIT_STREAM, AUDITOR)])
        if facts is None:
            return []
        found = []
        for event in await self.log.read(tenant, facts.sid, 0, 1_000):
            assert event.by == AUDITOR
            assert event.body is not None
            found.append((event.type, orjson.loads(event.body)))
        return found


@asynccontextmanager
async def scene(log: MemoryLog | None = None, *, run: bool = True, **limits: Any) -> AsyncIterator[Scene]:
    log = log or memory_log()
    async with serving_node(log, replace(Limits(), **limits)) as node, trio.open_nursery() as nursery:
        audit = Audit(node.node)
        if run:
            nursery.start_soon(audit.run)
        yield Scene(node, log, audit)
        nursery.cancel_scope.cancel()


async def test_notes_of_a_moment_are_one_event(autojump_clock: MockClock) -> None:
    """Three that come in together, each named with its time; what is of another type or tenant is an event of its own."""
    async with scene() as it:
        for n in range(3):
            it.audit.note("demo", "admitted", principal=f"user:{n}", resumed=False, roles=frozenset({"admin"}))
        it.audit.note("demo", "refused", code="unauthorized", reason="expired", address="192.0.2.1")
        it.audit.note("other", "admitted", principal="user:zoe", resumed=True)
        await trio.sleep(1)
        (admitted, many), (refused, one) = await it.events()
        assert (admitted, refused) == ("admitted", "refused")
        assert [note["principal"] for note in many["many"]] == ["user:0", "user:1", "user:2"]
        assert all(note["at"].endswith("Z") and note["roles"] == ["admin"] for note in many["many"])
        assert (one["code"], one["address"]) == ("unauthorized", "192.0.2.1")
        ((_, zoe),) = await it.events("other")
        assert zoe["principal"] == "user:zoe"
        assert (it.audit.notes, it.audit.events, len(it.audit)) == (5, 3, 0)


async def test_a_storm_is_tens_of_events(autojump_clock: MockClock) -> None:
    """5,000 resumes in a second: all are in the stream, in fewer than fifty events."""
    async with scene() as it:
        for tenth in range(10):
            for n in range(500):
                it.audit.note("demo", "admitted", principal=f"user:p{tenth}-{n}", session="s" * 16, resumed=True)
            await trio.sleep(0.1)
        await trio.sleep(1)
        events = await it.events()
        notes = [note["principal"] for _, body in events for note in body["many"]]
        assert len(events) < 50
        assert len(notes) == len(set(notes)) == 5_000


async def test_an_auditor_follows_the_stream(autojump_clock: MockClock) -> None:
    """Events reach who subscribes as those of any stream do."""
    async with scene() as it:
        await it.audit.noted(
            "demo", "member.put", stream="chat:ops", principal="user:bob", role="member", by="user:amy"
        )
        node = it.node.node
        await node.loader.load([("demo", AUDIT_STREAM, AUDITOR)])
        stream = node.hub.by_name["demo", AUDIT_STREAM]
        assert stream.head == 1
        it.audit.note("demo", "left", principal="user:bob", why="closed", seconds=1.5)
        await trio.sleep(1)
        assert stream.head == 2


async def test_an_act_is_recorded_before_it_is_answered() -> None:
    """`noted` returns the seq of a committed event."""
    async with scene(run=False) as it:
        assert await it.audit.noted("demo", "limits.changed", names=["sends_per_s"], by="user:amy") == 1
        assert await it.audit.noted("demo", "limits.changed", names=["streams"], by="user:amy") == 2
        assert [body["names"] for _, body in await it.events()] == [["sends_per_s"], ["streams"]]
        assert it.log.calls["create_stream"] == 1


async def test_an_act_that_cannot_be_recorded_is_told() -> None:
    """The log is away, before the stream is known and after: `Unavailable`, with when to try again."""
    async with scene(run=False) as it:
        it.log.down = "stopped"
        with pytest.raises(Unavailable):
            await it.audit.noted("demo", "limits.changed", by="user:amy")
        it.log.down = None
        await it.audit.noted("demo", "limits.changed", by="user:amy")
        it.log.down = "stopped"
        with pytest.raises(Unavailable, match="stopped"):
            await it.audit.noted("demo", "limits.changed", by="user:amy")
        it.log.down = None
        it.node.node.lanes.put = lambda partition, entry: False  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="too much is waiting"):
            await it.audit.noted("demo", "limits.changed", by="user:amy")


async def test_a_log_that_is_away_loses_nothing(autojump_clock: MockClock) -> None:
    """Notes of an outage are written when it is over, with the times at which they were made."""
    async with scene() as it:
        it.log.down = "stopped"
        for n in range(20):
            it.audit.note("demo", "admitted", principal=f"user:{n}")
            await trio.sleep(1)
        assert len(it.audit) == 20
        it.log.down = None
        await trio.sleep(5)
        notes = [note for _, body in await it.events() for note in body.get("many", [body])]
        assert sorted(note["principal"] for note in notes) == sorted(f"user:{n}" for n in range(20))


async def test_an_event_of_unknown_outcome_lands_once(autojump_clock: MockClock) -> None:
    """Committed, but the answer was lost: it is sent again under the same key, and the log knows it."""
    async with scene() as it:
        await it.audit.noted("demo", "limits.changed", by="user:amy")
        it.log.fail_next("unknown", "append")
        it.audit.note("demo", "refused", code="x")
        await trio.sleep(2)
        assert [type for type, _ in await it.events()] == ["limits.changed", "refused"]
        assert len(it.audit) == 0


async def test_what_the_outage_was_too_long_for_is_told(autojump_clock: MockClock) -> None:
    """The bound is met: how many of which type are missing is the first thing in the stream afterwards."""
    async with scene(audit_tenant_bytes_max=2_000) as it:
        it.log.down = "stopped"
        for n in range(100):
            it.audit.note("flood", "admitted", principal=f"user:{n}")
        it.audit.note("calm", "admitted", principal="user:calm")
        await trio.sleep(2)
        it.log.down = None
        await trio.sleep(5)
        events = dict(await it.events("flood"))
        assert events["suppressed"]["counts"] == {"admitted": 100 - len(events["admitted"]["many"])}
        assert [type for type, _ in await it.events("calm")] == ["admitted"]


async def test_two_nodes_make_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another node was faster: that is no error, and its stream is used."""
    async with scene(run=False) as it:
        read = it.log.open_streams

        async def open_streams(asked: Any) -> Any:
            facts = await read(asked)
            monkeypatch.undo()
            await it.log.create_stream("demo", AUDIT_STREAM, open=False, members=[], by=AUDITOR)
            return facts

        monkeypatch.setattr(it.log, "open_streams", open_streams)
        assert await it.audit.noted("demo", "limits.changed", by="user:amy") == 1


async def test_a_mistake_of_ours_ends_nobody(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    """A name that is none, an unknown fact, a tenant that cannot be: said once, counted, and never raised."""
    async with scene() as it:
        for _ in range(3):
            it.audit.note("No Tenant", "admitted")
            it.audit.note("demo", "Bad Type", principal="user:amy")
            it.audit.note("demo", "denied", password="secret", principal="user:amy")
        await trio.sleep(1)
        assert it.audit.lost == 6
        assert [body.keys() for _, body in await it.events()] == [{"many"}]
        said = [record.getMessage() for record in caplog.records if record.name == "readback.audit"]
        assert len(said) == 3
        assert "secret" not in caplog.text + str(await it.events())


async def test_a_stream_that_cannot_be_made_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """The log refuses it for good: its notes are lost and counted, and others' are not kept waiting."""
    async with scene(run=False) as it:
        make = it.log.create_stream

        async def create_stream(tenant: str, *args: Any, **kwargs: Any) -> Any:
            return await make("Bad" if tenant == "bad" else tenant, *args, **kwargs)

        it.log.create_stream = create_stream  # type: ignore[method-assign]
        it.audit.note("bad", "admitted")
        it.audit.note("demo", "admitted")
        assert await it.audit.flush(trio.current_time() + 5) == 0
        assert len(await it.events()) == 1
        assert it.audit.lost == 1
        with pytest.raises(Unavailable, match="does not take"):
            await it.audit.noted("bad", "limits.changed")
        assert "is lost" in caplog.text


async def test_an_event_that_the_log_refuses_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Tried again where its stream may be another, a few times; then counted as lost."""
    async with scene(run=False) as it:
        append = it.log.append
        refused = [Outcome.NOT_FOUND]

        async def refuse(entries: list[Entry]) -> list[Verdict]:
            if refused:
                return [Verdict(refused[0], 0, 0, 0, 0) for _ in entries]
            return await append(entries)

        it.log.append = refuse  # type: ignore[method-assign, assignment]
        it.audit.note("demo", "admitted")
        assert await it.audit.flush(trio.current_time() + 5) == 0
        assert (it.audit.lost, it.audit.events) == (1, 0)
        with pytest.raises(Unavailable, match="does not take"):
            await it.audit.noted("demo", "limits.changed")
        refused.clear()
        assert await it.audit.noted("demo", "limits.changed") == 1


async def test_a_log_that_was_restored_has_other_streams(autojump_clock: MockClock) -> None:
    """Numbers of streams are asked for anew: one could be another stream's now."""
    async with scene() as it:
        await it.audit.noted("demo", "limits.changed")
        asked = it.log.calls["open_streams"]
        it.node.node.follower.restored += 1
        await it.audit.noted("demo", "limits.changed")
        assert it.log.calls["open_streams"] == asked + 1


async def test_a_log_that_contradicts_itself_is_not_ours_to_end(caplog: pytest.LogCaptureFixture) -> None:
    """The follower ends the node for that; here it is a log that is away."""
    async with scene(run=False) as it:

        async def open_streams(asked: object) -> object:
            raise CorruptLog("a hole")

        it.log.open_streams = open_streams  # type: ignore[method-assign, assignment]
        it.audit.note("demo", "admitted")
        with pytest.raises(Unavailable):
            await it.audit.noted("demo", "limits.changed")
        assert "a hole" in caplog.text


async def test_what_is_remembered_of_tenants_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are asked for again."""
    monkeypatch.setattr(audit_module, "PLACES_MAX", 2)
    async with scene(run=False) as it:
        for tenant in ("a", "b", "c", "a"):
            await it.audit.noted(tenant, "limits.changed")
        assert len(it.audit._places) == 2
        assert len(await it.events("a")) == 2


async def test_leaving_writes_what_was_gathered(autojump_clock: MockClock) -> None:
    """`flush` does not wait for the gathering to end, and tells what it could not write by its deadline."""
    async with scene() as it:
        it.audit.note("demo", "left", principal="user:amy", why="draining")
        began_s = trio.current_time()
        assert await it.audit.flush(began_s + 5) == 0
        assert trio.current_time() - began_s < 0.25
        assert len(await it.events()) == 1
        it.log.down = "stopped"
        it.audit.note("demo", "left", principal="user:bob", why="draining")
        assert await it.audit.flush(trio.current_time() + 1) == 1
        it.log.down = None
        await trio.sleep(2)
        assert len(await it.events()) == 2


async def test_a_full_lane_is_waited_for(autojump_clock: MockClock) -> None:
    """Others' sends fill the lane: the events go when there is room."""
    async with scene() as it:
        await it.audit.noted("demo", "limits.changed")
        lanes, full = it.node.node.lanes, [True] * 3
        put = lanes.put
        lanes.put = lambda partition, entry: False if full and full.pop() else put(partition, entry)  # type: ignore[method-assign]
        it.audit.note("demo", "admitted")
        await trio.sleep(3)
        assert len(await it.events()) == 2


async def test_strangers_are_counted_and_said_now_and_then(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """A flood of forged tokens writes nothing into any stream, and a line a minute into the node's log."""
    caplog.set_level(logging.WARNING)
    async with scene() as it:
        for _ in range(1_000):
            it.audit.note("", "refused", code="unauthorized", reason="bad signature", address="192.0.2.1")
        await trio.sleep(61)
        it.audit.stranger("bad signature")
        said = [record.getMessage() for record in caplog.records if record.name == "readback.audit"]
        assert [line.split()[0] for line in said] == ["1", "1000"]
        assert it.audit.strangers == 1_001
        assert it.log.calls.get("append", 0) == 0


async def test_the_same_seed_gives_the_same_keys() -> None:
    """Keys are drawn from the node's own randomness, which a simulated run decides."""

    async def keys() -> list[str]:
        async with scene(run=False) as it:
            it.node.node.rng.seed(7)
            await it.audit.noted("demo", "limits.changed")
            it.audit.note("demo", "admitted")
            await it.audit.flush(trio.current_time() + 5)
            return [event.key for log in range(16) for event in await it.log.tail(log, 0, 10)]

    first = await keys()
    assert first == await keys()
    assert len(set(first)) == 2


async def test_random_trouble_loses_nothing(autojump_clock: MockClock) -> None:
    """Outages, lost answers, full lanes, by a seed: every note is in its stream exactly once."""
    rng = random.Random(11)
    async with scene(audit_events_max=3, body_bytes_max=1_024) as it:
        lanes = it.node.node.lanes
        put = lanes.put
        lanes.put = lambda partition, entry: rng.random() < 0.9 and put(partition, entry)  # type: ignore[method-assign]
        sent: dict[str, list[str]] = {"a": [], "b": [], "c": []}
        for n in range(600):
            tenant = rng.choice("aaab" + "c" * (n % 2))
            sent[tenant].append(f"user:{n}")
            it.audit.note(tenant, rng.choice(("admitted", "left")), principal=f"user:{n}")
            chance = rng.random()
            if chance < 0.05:
                it.log.fail_next("unknown")
            elif chance < 0.1:
                it.log.fail_next("unavailable")
            elif chance < 0.12:
                it.log.down = "stopped"
            elif chance < 0.2:
                it.log.down = None
            if rng.random() < 0.2:
                await trio.sleep(rng.random())
        it.log.down = None
        await trio.sleep(60)
        for tenant, principals in sent.items():
            notes = [note["principal"] for _, body in await it.events(tenant) for note in body.get("many", [body])]
            assert sorted(notes) == sorted(principals)
        assert it.audit.lost == 0
