"""gateway.rereading: what is stored of markers is shown here, though nobody is left who would tell it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from core.gossip import Gossip
from core.hub import Hub
from core.limits import Limits
from core.model import Mark
from core.ports import Unavailable
from gateway import rereading
from gateway.rereading import AFTER_S, REST, Rereading
from tests.nodes import memory_log


class Bench:
    """A hub that holds streams of two tenants, and a log that has markers of which the hub was not told."""

    def __init__(self) -> None:
        self.log = memory_log()
        self.hub = Hub(16, Limits(), fetch=lambda stream, after: None, fill=lambda stream: None)
        self.gossip = Gossip(self.hub, "a", Limits())
        self.failures: list[Unavailable] = []
        self.rereading = Rereading(self.log, self.hub, self.gossip, failed=self.failures.append)
        self.asked: list[tuple[str, int]] = []
        self.takes_s = 0.0
        read = self.log.load_marks

        async def load_marks(tenant: str, sids: Sequence[int]) -> list[Mark]:
            self.asked.append((tenant, len(sids)))
            await trio.sleep(self.takes_s)
            return await read(tenant, sids)

        self.log.load_marks = load_marks  # type: ignore[method-assign]

    async def hold(self, *streams: tuple[str, str]) -> None:
        for tenant, name in streams:
            await self.log.create_stream(tenant, name, open=True, members=[], by="service:x")
            for number in range(9):  # each is an event that may be read
                await self.log.put_member(tenant, name, f"user:m{number}", "member", "service:x")
        asked = [(tenant, name, "user:amy") for tenant, name in streams]
        self.hub.loading()
        self.hub.load(zip(await self.log.open_streams(asked), ["user:amy"] * len(asked), strict=True), 0.0)

    async def store(self, tenant: str, name: str, who: str, delivered: int, read: int) -> None:
        sid = self.hub.by_name[tenant, name].sid
        await self.log.save_marks(tenant, [Mark(sid, who, delivered, read)])

    def marks(self, tenant: str, name: str) -> dict[str, tuple[int, int]]:
        return self.hub.by_name[tenant, name].marks


ROOMS = (("demo", "chat:a"), ("demo", "chat:b"), ("other", "chat:a"))


async def test_stored_markers_come_after_a_doubt(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Of every tenant, each by its own name; what is higher here stays, and followers are told what is new."""
    bench = Bench()
    await bench.hold(*ROOMS)
    await bench.store("demo", "chat:b", "user:bob", 3, 2)
    await bench.store("other", "chat:a", "user:cy", 5, 5)
    stream = bench.hub.by_name["demo", "chat:b"]
    bench.hub.signals.far_mark(stream, "user:bob", 4, 1)
    bench.hub.signals.far_mark(stream, "user:dee", 7, 7)
    stream.dirty_marks.clear()
    nursery.start_soon(bench.rereading.run)
    await trio.sleep(10 * AFTER_S)
    assert bench.asked == []
    bench.gossip.doubts += 1
    await trio.sleep(2 * AFTER_S)
    assert bench.marks("demo", "chat:b") == {"user:bob": (4, 2), "user:dee": (7, 7)}
    assert stream.dirty_marks == {"user:bob"}
    assert bench.marks("other", "chat:a") == {"user:cy": (5, 5)}
    assert bench.marks("demo", "chat:a") == {}
    assert sorted(bench.asked) == [("demo", 2), ("other", 1)]
    assert bench.rereading.found == 2


async def test_one_pass_is_for_all_doubts_so_far(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """And a doubt that comes amid a pass gets another: its page may have been read already."""
    bench = Bench()
    await bench.hold(ROOMS[0])
    bench.takes_s = 0.5
    bench.gossip.doubts += 7
    nursery.start_soon(bench.rereading.run)
    await trio.sleep(AFTER_S + 0.1)
    await bench.store(*ROOMS[0], "user:bob", 1, 1)
    bench.gossip.doubts += 1
    await trio.sleep(100.0)
    assert len(bench.asked) == 2
    assert bench.marks(*ROOMS[0]) == {"user:bob": (1, 1)}


async def test_a_log_that_is_away_is_asked_again(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Until it has answered for all, a second apart."""
    bench = Bench()
    await bench.hold(*ROOMS)
    await bench.store(*ROOMS[2], "user:bob", 1, 0)
    bench.log.fail_next("unavailable", "load_marks")
    bench.gossip.doubts += 1
    nursery.start_soon(bench.rereading.run)
    await trio.sleep(AFTER_S + 0.1)
    assert len(bench.failures) == 1
    assert bench.marks(*ROOMS[2]) == {}
    await trio.sleep(AFTER_S)
    assert bench.marks(*ROOMS[2]) == {"user:bob": (1, 0)}
    assert len(bench.failures) == 1


async def test_pages_are_small_and_far_apart(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of the time at most goes to it, however many streams are held; one that is let go meanwhile is passed over."""
    monkeypatch.setattr(rereading, "STREAMS_AT_ONCE", 2)
    bench = Bench()
    names = [("demo", f"chat:r{number}") for number in range(5)]
    await bench.hold(*names)
    for number in range(5):
        await bench.store(*names[number], "user:bob", number, 0)
    bench.takes_s = 1.0
    bench.gossip.doubts += 1
    gone = bench.hub.by_name[names[1]]
    nursery.start_soon(bench.rereading.run)
    await trio.sleep(AFTER_S + 0.5)
    del bench.hub.by_sid[gone.sid]
    await trio.sleep(REST)
    assert bench.asked == [("demo", 2)]
    await trio.sleep(2.0 + REST + 1.0 + 0.6)
    assert bench.asked == [("demo", 2), ("demo", 2), ("demo", 1)]
    assert [bench.marks(*name) for name in names[2:]] == [{"user:bob": (number, 0)} for number in (2, 3, 4)]
    assert gone.marks == {}
