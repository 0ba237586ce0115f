"""gateway.work.views: the consumer that keeps read models, over a real log and worker in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
import trio

from core.flight.machine import Recorded
from core.flight.views import MODELS
from core.flight.views_board import BOARD_VIEW
from core.ports import Unavailable
from core.work import Row
from core.work_limits import WorkLimits
from gateway.work.ports import Place, Seen
from gateway.work.views import Views
from gateway.work.worker import Worker
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.flight_facts import IN, OUT, Facts, equipped, milestone, scheduled

FIRST_MS = 1_790_000_000_000
LAYOUT = {"rows": [{"row": 1, "seats": "AB", "class": "Y"}]}


def now_ms() -> int:
    return FIRST_MS + int(1000 * trio.current_time())


class World:
    """A log with two partitions, facts, and one worker that runs the consumer."""

    def __init__(self) -> None:
        keys = itertools.count(1)
        self.log = MemoryLog(now_ms=now_ms, new_key=lambda: f"00000000-0000-4000-8000-{next(keys):012x}", partitions=2)
        self.work = MemoryWork(self.log, now_ms)
        self.facts = Facts(self.log)
        self._holders = itertools.count(1)

    @asynccontextmanager
    async def working(self, views: Views, batch: int = 100) -> AsyncIterator[Worker]:
        limits = replace(WorkLimits(), batch_events=batch)
        holder = f"w{next(self._holders)}"
        worker = Worker(
            self.log, self.work, [views], [], holder=holder, limits=limits, rng=Random(1), wall=lambda: now_ms() / 1000
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            yield worker
            await self.taken()
            await worker.leave()
            nursery.cancel_scope.cancel()

    async def taken(self) -> None:
        """Until every cursor is at its head."""
        with trio.fail_after(600):
            while any(c.pos < c.head for c in await self.work.cursors()) or not await self.work.cursors():  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def rows(self, model: str, tenant: str = "demo") -> dict[str, Row]:
        return {row.key: row for row in await self.work.rows(model, tenant)}


@pytest.fixture
def world() -> World:
    return World()


async def test_events_become_rows_with_the_place_they_came_from(world: World, autojump_clock: object) -> None:
    """Each model its rows; each row the seq, position and time of the event that last changed it."""
    last = await world.facts.tell("flight:QX12", scheduled(), milestone("OUT", "actual", OUT))
    await world.facts.tell("flight:QX12.seats", ("seat.opened", {"flight": "QX12", "layout": LAYOUT}))
    await world.facts.tell("flight:QX12.seats", ("seat.booked", {"passenger": "p1"}))
    async with world.working(Views(world.log)):
        pass
    board = (await world.rows("flight_board"))["QX12"]
    (sid,) = [await world.facts.sid("flight:QX12")]
    (event,) = (await world.log.read("demo", sid, last - 1, 1))[:1]
    assert (board.seq, board.pos, board.at_ms, board.partition) == (last, event.pos, event.at_ms, event.partition)
    assert board.doc is not None
    assert board.doc["status"] == "departed"
    assert list(await world.rows("aircraft_line")) == [f"VH-ABC/{OUT}/QX12"]
    assert list(await world.rows("seat_map")) == ["QX12/1A", "QX12/1B"]
    assert list(await world.rows("manifest")) == ["QX12/p1"]


async def test_a_row_that_is_gone_is_gone_and_told_to_who_follows(world: World, autojump_clock: object) -> None:
    """The line's old key after another aircraft: not among the rows, but among the changes."""
    await world.facts.tell("flight:QX12", scheduled())
    views = Views(world.log)
    async with world.working(views):
        await world.taken()
        await world.facts.tell("flight:QX12", equipped("VH-XYZ"))
    assert list(await world.rows("aircraft_line")) == [f"VH-XYZ/{OUT}/QX12"]
    partition = (await world.rows("aircraft_line"))[f"VH-XYZ/{OUT}/QX12"].partition
    changed = await world.work.rows_after("aircraft_line", partition, 0, 100)
    assert {(row.key, row.doc is None) for row in changed} == {
        (f"VH-ABC/{OUT}/QX12", True),
        (f"VH-XYZ/{OUT}/QX12", False),
    }
    assert views.folds == 0


async def test_chat_and_streams_without_read_models_cost_no_rows(world: World, autojump_clock: object) -> None:
    """Nobody asks for their past, and a board stream or a chat is no concern at all."""
    views = Views(world.log)
    assert [views.concerns(name) for name in ("flight:QX1", "flight:QX1.seats", "flight:crew.c1")] == [True] * 3
    assert [views.concerns(name) for name in ("chat:ops", "flight:board", "flight:board.SYD")] == [False] * 3
    place = Place("demo", 7, "flight:QX1", 0)
    await views.prepare([(place, 1)])
    effects = views.take(place, [Seen(1, Recorded(1, "message", "user:amy", FIRST_MS, {"text": "hi"}))])
    assert effects.rows == []


async def test_another_worker_goes_on_from_the_past_in_the_log(world: World, autojump_clock: object) -> None:
    """What the first had in memory the second folds, page by page if need be, and the rows are as if it were one."""
    await world.facts.tell("flight:QX12", scheduled())
    for minute in range(30):
        await world.facts.tell("flight:QX12", milestone("OUT", "estimated", f"2026-11-21T07:{minute:02}:00.000Z"))
    async with world.working(Views(world.log)):
        pass
    await world.facts.tell("flight:QX12", ("flight.gate", {"departure": {"gate": "7"}}))
    second = Views(world.log)
    async with world.working(second):
        pass
    board = (await world.rows("flight_board"))["QX12"].doc
    assert board is not None
    assert (board["gates"]["departure"], board["etd"]) == ({"gate": "7"}, "2026-11-21T07:29:00.000Z")
    assert second.folds == 1


async def test_a_long_past_is_folded_in_pages(
    world: World, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, and nothing from the event on that is to be taken."""
    monkeypatch.setattr("gateway.work.folding.FOLDED_AT_ONCE", 4)
    await world.facts.tell("flight:QX12", scheduled())
    for minute in range(10):
        last = await world.facts.tell(
            "flight:QX12", milestone("OUT", "estimated", f"2026-11-21T07:{minute:02}:00.000Z")
        )
    sid = await world.facts.sid("flight:QX12")
    views = Views(world.log)
    place = Place("demo", sid, "flight:QX12", 0)
    await views.prepare([(place, last - 1)])
    event = Recorded(last - 1, *milestone_event("2026-11-21T09:00:00.000Z"))
    (row,) = [row for row in views.take(place, [Seen(9, event)]).rows if row.model == "flight_board"]
    assert row.doc is not None
    assert (row.doc["times"]["OUT"]["best"], row.seq, row.pos) == ("2026-11-21T09:00:00.000Z", last - 1, 9)
    await views.prepare([(place._replace(sid=sid), last)])
    assert views.folds == 1


def milestone_event(when: str) -> tuple[str, str, int, dict[str, object]]:
    type, body = milestone("OUT", "estimated", when)
    return type, "user:ops", FIRST_MS, body


async def test_memory_is_bounded_and_what_was_let_go_is_folded_again(world: World, autojump_clock: object) -> None:
    """With room for two flights' states, three that take turns all have their rows right."""
    views = Views(world.log, size_max=8)
    async with world.working(views, batch=1):
        for name in ("A1", "A2", "A3"):
            await world.facts.tell(f"flight:{name}", scheduled(flight=name))
        for name in ("A1", "A2", "A3", "A1"):
            await world.facts.tell(f"flight:{name}", equipped(f"VH-{name}"))
    rows = await world.rows("flight_board")
    assert {key: row.doc["registration"] for key, row in rows.items() if row.doc} == {
        "A1": "VH-A1",
        "A2": "VH-A2",
        "A3": "VH-A3",
    }
    assert len(views) <= 2 + 1  # one that is being taken stays whatever it weighs
    assert views.folds > 0


async def test_what_was_not_committed_is_forgotten(world: World, autojump_clock: object) -> None:
    """After a commit that failed, the same events are taken again on the state before them, not on that after."""
    await world.facts.tell("flight:QX12", scheduled())
    async with world.working(Views(world.log)):
        await world.taken()
        world.log.fail_next("unavailable", method="commit")
        await world.facts.tell("flight:QX12", equipped("VH-XYZ"))
    assert list(await world.rows("aircraft_line")) == [f"VH-XYZ/{OUT}/QX12"]


async def test_a_store_that_does_not_answer_leaves_nothing_half_folded(world: World) -> None:
    """`prepare` raises what the store said, and asks again next time."""
    last = await world.facts.tell("flight:QX12", scheduled(), equipped("VH-XYZ"))
    await world.facts.tell("flight:QX13", scheduled(), equipped("VH-XYZ"))
    views = Views(world.log)
    places = [
        (Place("demo", await world.facts.sid(f"flight:{name}"), f"flight:{name}", 0), last + 1)
        for name in ("QX12", "QX13")
    ]
    world.log.fail_next("unavailable", method="ruled")
    with pytest.raises(Unavailable):
        await views.prepare(places)
    await views.prepare(places)
    assert len(views) == 2
    views.forget(1)
    assert len(views) == 2
    views.forget(0, places[0][0].sid)
    views.forget(0, 99)
    assert len(views) == 1
    views.forget(0)
    assert len(views) == 0


async def test_a_past_that_cannot_be_folded_parks_its_stream_alone(
    world: World, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the consumer: others' rows go on."""
    await world.facts.tell("flight:QX12", scheduled())
    async with world.working(Views(world.log)):
        pass
    good = BOARD_VIEW.evolve

    def evolve(self: object, state: object, event: Recorded) -> object:
        if event.body.get("flight") == "QX12":
            raise ValueError("no way")
        return good(state, event)  # type: ignore[arg-type]

    monkeypatch.setattr(type(BOARD_VIEW), "evolve", evolve)
    await world.facts.tell("flight:QX12", equipped("VH-XYZ"))
    await world.facts.tell("flight:QX99", scheduled(flight="QX99"))
    async with world.working(Views(world.log)):
        pass
    (parked,) = await world.work.parked("views")
    assert (parked.stream, parked.reason) == ("flight:QX12", "ValueError: no way")
    assert "QX99" in await world.rows("flight_board")


async def test_only_the_models_asked_for_are_written(world: World) -> None:
    """As a rebuild of one of them wants it."""
    views = Views(world.log, name="rebuild.flight_board", models=["flight_board"])
    place = Place("demo", 7, "flight:QX1", 1)
    await views.prepare([(place, 1)])
    type, body = scheduled()
    rows: Sequence[Row] = views.take(place, [Seen(5, Recorded(1, type, "user:ops", FIRST_MS, body))]).rows
    assert [(row.model, row.partition) for row in rows] == [("flight_board", 1)]
    assert set(MODELS) > {"flight_board"}
    assert IN > OUT
