"""gateway.work.sagas: a step a run, written before the next; what parks, waits and turns back, and operators' words on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from trio.testing import MockClock

from core.commands import Answer
from core.flight.machine import Recorded, Refusal
from core.work import NewTask, Task
from gateway.work.jobs import Did
from gateway.work.orders import Impossible
from gateway.work.outside import Full
from gateway.work.ports import Transient
from gateway.work.sagas import SagaRunner, abort, by_id, find, new_saga, resume
from tests.working import World, happens, now_ms, wall

SWAP = {
    "a": {"flight": "QX1", "passenger": "p1", "inbox": "user:amy"},
    "b": {"flight": "QX2", "passenger": "p2"},
}
SUBSTITUTE = {"flight": "QX1", "registration": "VH-QXB", "layout": {"rows": []}, "inboxes": {"p9": "user:eve"}}


class FakeDeeds:
    """Does everything, unless told otherwise by stream and verb; keeps what it was asked, in order."""

    def __init__(self) -> None:
        self.orders = self
        self.asked: list[str] = []
        self.keys: list[str] = []
        self.troubles: dict[str, list[Exception | Refusal]] = {}
        self.lost: list[dict[str, str]] = []
        self.gate: trio.Event | None = None

    def wall(self) -> float:
        return wall()

    def _next(self, what: str) -> Refusal | None:
        self.asked.append(what)
        told = self.troubles.get(what)
        if not told:
            return None
        trouble = told.pop(0)
        if isinstance(trouble, Exception):
            raise trouble
        return trouble

    async def state(self, tenant: str, stream: str) -> dict[str, Any]:
        self._next(f"look {stream}")
        return {"passengers": {"p1": {"seat": "1A"}, "p2": {"seat": "2B"}}, "registration": "VH-QXA"}

    async def facts(self, tenant: str, stream: str, seqs: Sequence[int]) -> list[Recorded]:
        return [Recorded(seq, "seat.relaid", "", 0, {"lost": self.lost}) for seq in seqs]

    async def do(self, tenant: str, what: Any, key: str) -> Did:
        self.keys.append(key)
        if self.gate is not None:
            await self.gate.wait()
        if what["do"] != "command":
            self._next(f"{what['do']} {what.get('to') or what['stream']}")
            return Did(says="said")
        refusal = self._next(f"{what['type']} {what['stream'].removeprefix('flight:')}")
        return Did(Answer(range(0) if refusal else range(5, 6), 0, False, refusal))


class Sagas:
    def __init__(self) -> None:
        self.world = World()
        self.deeds = FakeDeeds()

    async def start(self, kind: str = "seat_swap", data: Any = SWAP, deadline_s: float = 3_600.0) -> None:
        await self.world.work.add([new_saga("demo", kind, "s1", data, now_ms(), deadline_s)])

    async def becomes(self, *states: str) -> Task:
        """By a worker, which is cut down then."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.world.worker(runners=[SagaRunner(self.deeds)]).run)  # type: ignore[arg-type]  # a stand-in
            await happens(lambda: self._is(states))
            nursery.cancel_scope.cancel()
        return await self.task()

    async def _is(self, states: Sequence[str]) -> bool:
        return (await self.task()).state in states

    async def task(self) -> Task:
        found = await find(self.world.work, "demo", "s1")
        assert found is not None
        return found


SWAPPED = [
    "look flight:QX1.seats",
    "look flight:QX2.seats",
    "transfer_out QX1.seats",
    "transfer_out QX2.seats",
    "transfer_in QX1.seats",
    "transfer_in QX2.seats",
    "notify user:amy",
]


async def test_all_steps_in_their_order(autojump_clock: MockClock) -> None:
    """Each is done once under a key of its own; at the end the saga says so."""
    sagas = Sagas()
    await sagas.start()
    task = await sagas.becomes("done")
    assert sagas.deeds.asked == SWAPPED
    assert len(set(sagas.deeds.keys)) == 5
    assert (task.body["ended"], task.reason) == ("done", "")


async def test_what_a_command_became_is_learned(autojump_clock: MockClock) -> None:
    """Who lost their seat is in the event that the cabin's layout became, and they are told."""
    sagas = Sagas()
    sagas.deeds.lost = [{"passenger": "p9", "seat": "9C"}]
    await sagas.start("aircraft_substitution", SUBSTITUTE)
    task = await sagas.becomes("done")
    assert task.body["data"]["lost"] == [{"passenger": "p9", "seat": "9C"}]
    assert sagas.deeds.asked[-2:] == ["notify user:eve", "message flight:QX1"]


async def test_a_refusal_turns_it_back(autojump_clock: MockClock) -> None:
    """What was done is undone, and the reason is the task's."""
    sagas = Sagas()
    sagas.deeds.troubles["transfer_in QX2.seats"] = [Refusal("full", "no room")]
    await sagas.start()
    task = await sagas.becomes("done")
    assert (task.body["ended"], task.reason) == ("undone", "undone: step 'a in': full: no room")
    assert sagas.deeds.asked[6:] == [
        "transfer_out QX1.seats",
        "release QX2.seats",
        "transfer_in QX2.seats",
        "release QX1.seats",
        "transfer_in QX1.seats",
    ]


async def test_what_fails_for_a_while_is_tried_under_the_same_key(autojump_clock: MockClock) -> None:
    """An answer that was never heard may be a command that was kept: it is asked for again as it was."""
    sagas = Sagas()
    sagas.deeds.troubles["transfer_out QX1.seats"] = [Transient("busy"), Transient("busy")]
    await sagas.start()
    await sagas.becomes("done")
    assert len(set(sagas.deeds.keys[:3])) == 1


async def test_a_worker_that_dies_amid_a_step_is_followed(autojump_clock: MockClock) -> None:
    """The next worker takes the step again, under its key, and goes on."""
    sagas = Sagas()
    await sagas.start()
    sagas.deeds.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(sagas.world.worker(runners=[SagaRunner(sagas.deeds)]).run)  # type: ignore[arg-type]  # a stand-in
        await happens(lambda: _true(sagas.deeds.keys))
        nursery.cancel_scope.cancel()
    sagas.deeds.gate = None
    await sagas.becomes("done")
    assert sagas.deeds.asked == SWAPPED
    assert sagas.deeds.keys[0] == sagas.deeds.keys[1]


async def test_a_step_that_cannot_be_done_parks_until_it_is_resumed(autojump_clock: MockClock) -> None:
    """The reason names the step; resumed, it goes on there, and what was done before is not done again."""
    sagas = Sagas()
    sagas.deeds.troubles["transfer_out QX2.seats"] = [Impossible("there is no stream")]
    await sagas.start(deadline_s=60.0)
    task = await sagas.becomes("parked")
    assert task.reason == "step 'b out': there is no stream"
    await trio.sleep(600)
    assert await resume(sagas.world.work, task, now_ms()) == "said"
    task = await sagas.becomes("done")
    assert task.body["ended"] == "done"
    assert sagas.deeds.asked == [*SWAPPED[:4], SWAPPED[3], *SWAPPED[4:]]


async def test_a_parked_saga_that_is_aborted_turns_back(autojump_clock: MockClock) -> None:
    """Also while the step that it parked at still cannot be done."""
    sagas = Sagas()
    sagas.deeds.troubles["transfer_out QX2.seats"] = [Impossible("no"), Impossible("no")]
    await sagas.start()
    task = await sagas.becomes("parked")
    assert await abort(sagas.world.work, task, now_ms()) == "said"
    task = await sagas.becomes("done")
    assert (task.body["ended"], task.reason) == ("undone", "undone: aborted by an operator")
    assert sagas.deeds.asked[-2:] == ["release QX1.seats", "transfer_in QX1.seats"]
    assert await abort(sagas.world.work, task, now_ms()) == "ended"


async def test_a_step_back_that_fails_parks_and_can_be_passed_by(autojump_clock: MockClock) -> None:
    """Where it was undone by hand the saga goes on after it."""
    sagas = Sagas()
    sagas.deeds.troubles["transfer_out QX2.seats"] = [Refusal("closed", "no more changes")]
    sagas.deeds.troubles["transfer_in QX1.seats"] = [Refusal("seat_taken", "1A is taken")]
    await sagas.start()
    task = await sagas.becomes("parked")
    assert task.reason == "undoing step 'a out': seat_taken: 1A is taken"
    assert await resume(sagas.world.work, task, now_ms(), past=True) == "said"
    task = await sagas.becomes("done")
    assert task.body["undone"] == ["a out, seat kept", "a out"]


async def test_a_deadline_that_passes_turns_it_back(autojump_clock: MockClock) -> None:
    """The command under way is asked for once more, since it may have been kept; then all is undone."""
    sagas = Sagas()
    sagas.deeds.troubles["transfer_in QX1.seats"] = [Transient("away", retry_after_s=100.0)]
    await sagas.start(deadline_s=60.0)
    task = await sagas.becomes("done")
    assert task.reason == "undone: its deadline has passed"
    assert sagas.deeds.asked[5:7] == ["transfer_in QX1.seats", "transfer_out QX1.seats"]


async def test_an_abort_is_heard_while_a_step_runs(autojump_clock: MockClock) -> None:
    """A worker that has it in hand is asked to turn back, and does after the step that it is at."""
    sagas = Sagas()
    await sagas.start()
    sagas.deeds.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(sagas.world.worker(runners=[SagaRunner(sagas.deeds)]).run)  # type: ignore[arg-type]  # a stand-in
        await happens(lambda: _true(sagas.deeds.keys))
        task = await sagas.task()
        assert await resume(sagas.world.work, task, now_ms()) == "running"
        assert await abort(sagas.world.work, task, now_ms()) == "said"
        sagas.deeds.gate.set()
        await happens(lambda: sagas._is(["done"]))
        nursery.cancel_scope.cancel()
    assert (await sagas.task()).reason == "undone: aborted by an operator"
    assert sagas.deeds.asked == [*SWAPPED[:3], "release QX1.seats", "transfer_in QX1.seats"]


async def test_a_host_without_room_is_waited_for(autojump_clock: MockClock) -> None:
    """It is no failure, and no attempt is counted."""
    sagas = Sagas()
    sagas.deeds.troubles["notify user:amy"] = [Full("4 calls", 0.25)]
    await sagas.start()
    assert (await sagas.becomes("done")).attempts == 0


async def test_what_is_no_saga_parks(autojump_clock: MockClock) -> None:
    """A kind of another version, or nonsense, waits for somebody who knows it."""
    for body in ({"saga": "dance", "key": "s1", "data": {}, "deadline_ms": 0}, {}):
        sagas = Sagas()
        await sagas.world.work.add([NewTask("saga", "demo", "s1", 0, body)])
        assert "this is no saga that this version knows" in (await sagas.becomes("parked")).reason


async def test_sagas_are_found(autojump_clock: MockClock) -> None:
    """By number, within a tenant where one is named, and by key among many."""
    work = World().work
    await work.add([new_saga("demo", "seat_swap", f"s{n}", SWAP, 0) for n in range(1_005)])
    found = await find(work, "demo", "s1004")
    assert found is not None
    assert await by_id(work, found.id) == await by_id(work, found.id, "demo") == found
    assert await by_id(work, found.id, "acme") is None
    assert await find(work, "acme", "s1") is None
    assert await find(work, "demo", "s9999") is None


async def test_an_aborted_saga_whose_abort_was_cut_short(autojump_clock: MockClock) -> None:
    """Dropped and not yet written anew, it is still there to be aborted again."""
    sagas = Sagas()
    await sagas.start()
    task = await sagas.task()
    await sagas.world.work.tell(task.id, "drop")
    assert await abort(sagas.world.work, await sagas.task(), now_ms()) == "said"
    assert (await sagas.becomes("done")).body["ended"] == "undone"


async def _true(value: object) -> bool:
    return bool(value)
