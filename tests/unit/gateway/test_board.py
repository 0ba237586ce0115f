"""gateway.board: what workers change in the flight board reaches who follows it, row by row."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import trio

from core.limits import Limits
from core.model import Epoch, StreamFacts
from core.stream import Stream
from core.work import Effects, Lease, Row
from gateway.board import POLL_S, Boards, station_of
from gateway.node import Node
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.fake_port import FakePort
from tests.hubs import Bench

FIRST_MS = 1_790_000_000_000


def now_ms() -> int:
    return FIRST_MS + int(1000 * trio.current_time())


class Desk:
    """As much of a node as a board sees, and workers that commit rows at a word."""

    def __init__(self, rows_max: int = 100) -> None:
        keys = itertools.count(1)
        self.log = MemoryLog(now_ms=now_ms, new_key=lambda: f"00000000-0000-4000-8000-{next(keys):012x}", partitions=2)
        self.work = MemoryWork(self.log, now_ms)
        self.limits = replace(Limits(), board_rows_max=rows_max, stream_idle_s=0.0)
        self.bench = Bench(self.limits, partitions=2)
        self.hub = self.bench.hub
        self.epoch = Epoch("here", 2)
        self.boards = Boards(cast(Node, self), self.work)
        self.hub.on_held = self.boards.hold
        self.hub.on_let_go = self.boards.let_go
        self.leases: dict[tuple[str, int], Lease] = {}
        self._sids = itertools.count(1)
        self.settled = 0

    def trouble(self) -> str | None:
        return self.boards.trouble

    def wall(self) -> float:
        return now_ms() / 1000

    def settle(self) -> None:
        self.settled += 1
        self.hub.flush()

    def follow(self, name: str = "flight:board", tenant: str = "demo", who: str = "user:amy") -> FakePort:
        stream = self.hub.by_name.get((tenant, name))
        return self.bench.follow(self.held(name, tenant) if stream is None else stream, who)

    def held(self, name: str, tenant: str = "demo") -> Stream:
        self.hub.loading()
        sid = next(self._sids)
        self.hub.load([(StreamFacts(sid, tenant, name, 0, 0, 1, True, "member"), "user:amy")], trio.current_time())
        return self.hub.by_sid[sid]

    async def rows(
        self, *rows: tuple[str, dict[str, Any] | None], partition: int = 0, tenant: str = "demo", behind: bool = False
    ) -> None:
        """Workers have taken one more event for each of these rows."""
        if ("views", partition) not in self.leases:
            for lease in await self.work.beat("w1", ["views"], 3_600_000):
                self.leases.setdefault((lease.consumer, lease.partition), lease)
        lease = self.leases["views", partition]
        pos = lease.pos if behind else lease.pos + len(rows)
        made = [
            Row("flight_board", tenant, key, partition, 1 if behind else lease.pos + n, 1, now_ms(), doc)
            for n, (key, doc) in enumerate(rows, 1)
        ]
        self.leases["views", partition] = await self.work.commit(lease, pos, Effects(rows=made))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.boards.run)
            yield
            nursery.cancel_scope.cancel()


def flight(departure: str = "SYD", arrival: str = "MEL", status: str = "scheduled", day: int = 21) -> dict[str, Any]:
    out = {"scheduled": f"2026-11-{day:02}T06:30:00.000Z", "best": None}
    return {"from": departure, "to": arrival, "status": status, "diverted": None, "times": {"OUT": out, "IN": out}}


def told(port: FakePort) -> list[tuple[str, Any]]:
    """(key, status or None) of the rows that came since the last call."""
    frames = [frame for frame in port.frames() if frame["op"] == "signal" and frame["kind"] == "row"]
    return [(frame["key"], frame["value"] and frame["value"]["status"]) for frame in frames]


async def turns(count: int = 5) -> None:
    """A few turns of the loop, and no time."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()


def test_a_boards_streams_are_known_by_name() -> None:
    """`flight:board` is all, what follows the dot a station; a flight may be called nearly so."""
    names = ("flight:board", "flight:board.SYD", "flight:boards", "flight:QX12", "chat:board")
    assert [station_of(name) for name in names] == ["", "SYD", None, None, None]


async def test_who_follows_gets_all_rows_and_then_each_that_changes(autojump_clock: trio.testing.MockClock) -> None:
    """At a hint at once; the value is the row's document, and null when it is gone."""
    desk = Desk()
    await desk.rows(("QX1", flight()), ("QX2", flight()))
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        assert told(amy) == [("QX1", "scheduled"), ("QX2", "scheduled")]
        await desk.rows(("QX1", flight(status="departed")))
        desk.boards.heard(0)
        await turns()
        assert told(amy) == [("QX1", "departed")]
        await desk.rows(("QX2", None))
        desk.boards.heard(0)
        await turns()
        assert told(amy) == [("QX2", None)]
        bob = desk.follow(who="user:bob")
        assert told(bob) == [("QX1", "departed")]
    assert (desk.boards.loads, len(desk.boards)) == (1, 1)


async def test_without_a_hint_a_change_is_seen_within_a_poll(autojump_clock: trio.testing.MockClock) -> None:
    """In whichever partition it was, also one that nobody worked on before."""
    desk = Desk()
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(2 * POLL_S)
        await desk.rows(("QX1", flight()), partition=1)
        await trio.sleep(POLL_S * 1.5)
        assert told(amy) == [("QX1", "scheduled")]
        await trio.sleep(10 * POLL_S)
        assert told(amy) == []


async def test_a_stations_board_shows_its_flights_alone(autojump_clock: trio.testing.MockClock) -> None:
    """From there, to there, diverted there; one that is no longer of it is told as gone."""
    desk = Desk()
    async with desk.running():
        amy = desk.follow("flight:board.SYD")
        bob = desk.follow(who="user:bob")
        await trio.sleep(POLL_S)
        await desk.rows(("QX1", flight()), ("QX2", flight("PER", "SYD")), ("QX3", flight("PER", "MEL")))
        await trio.sleep(2 * POLL_S)
        assert [key for key, _ in told(amy)] == ["QX1", "QX2"]
        assert [key for key, _ in told(bob)] == ["QX1", "QX2", "QX3"]
        await desk.rows(
            ("QX1", flight("CBR", "MEL")), ("QX3", flight("PER", "MEL", "diverted") | {"diverted": {"to": "SYD"}})
        )
        await trio.sleep(2 * POLL_S)
        assert told(amy) == [("QX1", None), ("QX3", "diverted")]
        assert told(bob) == [("QX1", "scheduled"), ("QX3", "diverted")]
        cy = desk.follow("flight:board.MEL", who="user:cy")
        assert [key for key, _ in told(cy)] == ["QX1", "QX3"]


async def test_no_row_of_another_tenant_is_shown(autojump_clock: trio.testing.MockClock) -> None:
    """Neither at the beginning nor later; and what nobody here follows is not kept."""
    desk = Desk()
    await desk.rows(("QX1", flight()), tenant="twin")
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        await desk.rows(("QX2", flight()), tenant="twin")
        await trio.sleep(2 * POLL_S)
        assert told(amy) == []
        assert len(desk.boards) == 0
        await desk.rows(("QX1", flight(status="landed")))
        await trio.sleep(2 * POLL_S)
        assert told(amy) == [("QX1", "landed")]


async def test_a_rebuilt_read_model_is_read_anew_and_what_differs_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Rows that are the same are not told again; those that are no more are told as gone."""
    desk = Desk()
    await desk.rows(("QX1", flight()), ("QX2", flight()), ("QX3", flight()))
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        told(amy)
        at_ms = {row.key: row.at_ms for row in await desk.work.rows("flight_board", "demo")}
        generation = await desk.work.begin_rebuild("flight_board", "rebuild")
        for lease in await desk.work.beat("w2", ["rebuild"], 60_000):
            rows = [
                Row("flight_board", "demo", "QX1", 0, 1, 1, at_ms["QX1"], flight()),
                Row("flight_board", "demo", "QX3", 0, 3, 1, at_ms["QX3"], flight(status="landed")),
            ]
            live = desk.leases["views", lease.partition]
            await desk.work.commit(lease, live.pos, Effects(rows=rows if lease.partition == 0 else []))
        assert await desk.work.swap("flight_board", generation, "rebuild", "views")
        await trio.sleep(2 * POLL_S)
        assert told(amy) == [("QX3", "landed"), ("QX2", None)]


async def test_a_row_that_changed_behind_the_cursor_is_told(autojump_clock: trio.testing.MockClock) -> None:
    """As when a parked stream is taken at last: its place lies before what was read already."""
    desk = Desk()
    await desk.rows(("QX1", flight()), ("QX2", flight()))
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        told(amy)
        await desk.rows(("QX9", flight()), behind=True)
        await trio.sleep(2 * POLL_S)
        assert told(amy) == [("QX9", "scheduled")]


async def test_a_board_that_is_full_lets_the_oldest_flights_go_that_are_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """They are told as gone; also those of a board that was too large from the beginning are never shown."""
    desk = Desk(rows_max=3)
    await desk.rows(*[(f"QX{day}", flight(status="completed", day=day)) for day in (11, 12, 13, 14, 15)])
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        assert [key for key, _ in told(amy)] == ["QX13", "QX14", "QX15"]
        await desk.rows(("QX1", flight(day=1)))
        await trio.sleep(2 * POLL_S)
        assert told(amy) == [("QX1", "scheduled"), ("QX13", None)]
        assert len(desk.boards) == 3


async def test_a_store_that_does_not_answer_delays_rows_and_no_more(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and what changed meanwhile comes when it answers."""
    desk = Desk()
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        desk.log.down = "gone fishing"
        await trio.sleep(10 * POLL_S)
        assert desk.trouble() == "gone fishing"
        desk.log.down = None
        await desk.rows(("QX1", flight()))
        await trio.sleep(3 * POLL_S)
        assert told(amy) == [("QX1", "scheduled")]
        assert desk.trouble() is None
    assert caplog.text.count("boards stand still") == 1


async def test_nothing_is_asked_while_nobody_follows(autojump_clock: trio.testing.MockClock) -> None:
    """Not before the first, not after the last was let go; hints are not heard then, nor ever of places that are none."""
    desk = Desk()
    async with desk.running():
        desk.boards.heard(0)
        await trio.sleep(10 * POLL_S)
        assert desk.log.calls == {}
        amy = desk.follow()
        desk.held("flight:QX1")
        await trio.sleep(POLL_S)
        desk.boards.heard(7)
        desk.boards.heard(-1)
        assert desk.log.calls["rows"] == 1
        desk.hub.drop(amy, 0.0)
        desk.hub.signals.tick(1_000_000.0)
        desk.hub.evict(1_000_000.0)
        assert len(desk.hub.by_sid) == 0
        asked = dict(desk.log.calls)
        await trio.sleep(10 * POLL_S)
        assert desk.log.calls == asked
        await desk.rows(("QX1", flight()))
        assert told(desk.follow()) == []
        again = desk.follow(who="user:bob")
        await trio.sleep(POLL_S)
        assert told(again) == [("QX1", "scheduled")]


async def test_many_rows_are_read_in_pages(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the beginning and when many changed at once; each is told once."""
    monkeypatch.setattr("gateway.board.PAGE", 3)
    desk = Desk()
    await desk.rows(*[(f"QX{n}", flight()) for n in range(7)])
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S)
        assert [key for key, _ in told(amy)] == [f"QX{n}" for n in range(7)]
        await desk.rows(*[(f"QX{n}", flight(status="landed")) for n in range(7)])
        desk.boards.heard(0)
        await turns()
        assert [key for key, _ in told(amy)] == [f"QX{n}" for n in range(7)]


async def test_a_row_has_the_age_of_its_event(autojump_clock: trio.testing.MockClock) -> None:
    """Not of when this node first saw it."""
    desk = Desk()
    await desk.rows(("QX1", flight()))
    await trio.sleep(40)
    async with desk.running():
        amy = desk.follow()
        await trio.sleep(POLL_S / 2)
        (frame,) = [frame for frame in amy.frames() if frame["op"] == "signal" and frame["kind"] == "row"]
        assert frame["age"] == pytest.approx(40.0, abs=0.1)
