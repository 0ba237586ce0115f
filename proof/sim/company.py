"""Sagas in a simulated run: an airline's desk that starts them, operators who have a word, and how each one ended.

The passengers of sagas (`TRAVELLERS`) are booked before anything happens, and nobody but sagas moves them from flight to
flight; people go for the same seats meanwhile, cancel the flights and roster the crew. No two sagas have one passenger in
hand at once: sagas are not isolated from each other, and a desk that starts two about one person has itself to blame.

How a saga ended is looked up in the log and not in what it says of itself: which of its commands were kept, and which of those
that take them back.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import trio

from core.commands import derived_key, recorded, to_keep
from core.flight.machine import Command, Recorded
from core.flight.registry import machine_of
from core.flight.times import write
from core.model import Judged
from core.ports import StoreError
from core.saga_kinds import KINDS, problem
from core.sagas import Step, load
from core.work import Task, Work
from gateway.work import sagas
from gateway.work.sagas import KIND, by_id, new_saga
from proof import history
from proof.sim.unit import WALL_S
from proof.sim.work import NodeWork

if TYPE_CHECKING:
    from proof.sim.world import World

BY: Final = "service:desk"
HOUR_MS: Final = 3_600_000
TRAVELLERS: Final = {"RB10": ("s0", "s1", "s2"), "RB20": ("s3", "s4", "s5")}
CREW: Final = "c1"
SEATS: Final = ("1A", "1B", "2A", "2B", "3A", "9Z")
TRIES: Final = 30
"""More than any step of a saga is tried in a run."""
EVERYTHING: Final = 1_000_000
SLIPS: Final = 0.15
"""Of rebookings, so many go to a flight that is not there."""
WORD_S: Final = 1.0
"""An operator waits so long for an answer, and says it again."""


# -- before anything happens ------------------------------------------------------------------------------------------------


async def set_up(world: World, rng: random.Random) -> None:
    """Two flights of each tenant, with their passengers and somebody of the crew."""
    now_ms = int(WALL_S * 1000)
    duty = {"report_at": write(now_ms + HOUR_MS), "release_at": write(now_ms + 4 * HOUR_MS), "block_minutes": 90}
    for tenant in world.rooms:
        for flight, people in TRAVELLERS.items():
            leg, cabin = f"flight:{flight}", f"flight:{flight}.seats"
            times = {"out": write(now_ms + 2 * HOUR_MS), "in": write(now_ms + 3 * HOUR_MS)}
            route = {"flight": flight, "from": "CNS", "to": "TSV", "registration": "VH-RB1"}
            await _give(world, tenant, leg, "schedule", {**route, **times}, rng)
            await _give(world, tenant, cabin, "open", {"flight": flight, "layout": "1-3:AB"}, rng)
            for number, who in enumerate(people):
                await _give(world, tenant, cabin, "book", {"passenger": who}, rng)
                if number < 2:
                    await _give(world, tenant, cabin, "assign", {"passenger": who, "seat": SEATS[number]}, rng)
        ledger = f"flight:crew.{CREW}"
        await _give(world, tenant, ledger, "register", {"base": "CNS", "roles": ["cabin"], "pack": "far135"}, rng)
        await _give(world, tenant, ledger, "assign", {"flight": "RB10", "role": "cabin", **duty}, rng)


async def _give(world: World, tenant: str, stream: str, verb: str, body: dict[str, Any], rng: random.Random) -> None:
    log, machine = world.log, machine_of(stream)
    assert machine is not None
    state, seq = machine.initial(), 0
    for event in _ruled(world, tenant, stream):
        state, seq = machine.evolve(state, event), event.seq
    command = Command(verb, body, BY, "owner")
    decision = machine.decide(state, command, int(WALL_S * 1000))
    assert isinstance(decision, list), (stream, verb, decision)
    sid = log._by_name[tenant, stream].sid
    decided = to_keep(
        decision, command, tenant=tenant, sid=sid, key=world.key(rng), state=seq, expect=None, privileged=True
    )
    await log.command([decided])


def _ruled(world: World, tenant: str, stream: str) -> Iterator[Recorded]:
    ruled = world.log.ruled_of(tenant, stream)
    return (recorded(event) for event in world.log.events_of(tenant, stream) if event.seq in ruled)


# -- the desk -----------------------------------------------------------------------------------------------------------------


class Company:
    """The desk and the operators of a run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"{world.swarm.seed} company")
        self._number = 0

    async def run(self) -> None:
        """Start a saga now and then."""
        rng = self._rng
        while True:
            await trio.sleep(rng.choice((0.1, 0.2, 0.6)))
            tenant = rng.choice(list(self._world.rooms))
            await self._start(tenant)

    async def _start(self, tenant: str) -> None:
        world, rng = self._world, self._rng
        held = await _in_hand(world, tenant)
        free = {flight: [who for who in people if who not in held] for flight, people in _aboard(world, tenant).items()}
        kind = rng.choice(("cancel_and_rebook", "cancel_and_rebook", "seat_swap", "aircraft_substitution"))
        data = _DATA[kind](rng, free)
        if data is None:
            return
        self._number += 1
        key = f"{kind}-{self._number}"
        assert not problem(kind, key, data), problem(kind, key, data)
        deadline_s = rng.choice((0.3, 1.0, 3_600.0, 3_600.0, 3_600.0))
        now_ms = world.log._now_ms()
        await world.work.add([new_saga(tenant, kind, key, data, now_ms, deadline_s)])
        world.meters.seen("saga started")

    async def word(self) -> None:
        """An operator has a saga turn back, or go on where it is parked; says it again until there is an answer."""
        world, rng = self._world, self._rng
        tasks = [task for task in await world.work.tasks(KIND, limit=EVERYTHING) if task.state != "done"]
        if not tasks:
            return
        task = rng.choice(tasks)
        say = sagas.resume if task.state == "parked" and rng.random() < 0.6 else sagas.abort
        while True:
            unit = rng.choice(world.units)
            if unit.up and unit.host is not None:
                work = cast(Work, NodeWork(world, unit.host))
                with trio.move_on_after(WORD_S):
                    try:
                        now = await by_id(work, task.id, task.tenant)
                        if now is not None:
                            await say(work, now, world.log._now_ms())
                        world.meters.seen(f"operator said {say.__name__}")
                        return
                    except StoreError:
                        pass
            await trio.sleep(0.1)

    async def last_word(self) -> None:
        """When the troubles are over: who was amid a word says it again, and what is parked is tried once more, or undone."""
        world = self._world
        for task in await world.work.tasks(KIND, limit=EVERYTHING):
            if task.state == "dropped" or (task.state == "parked" and self._rng.random() < 0.6):
                await sagas.abort(world.work, task, world.log._now_ms())
            elif task.state == "parked":
                await sagas.resume(world.work, task, world.log._now_ms())


def _rebooking(rng: random.Random, free: dict[str, list[str]]) -> dict[str, Any] | None:
    flights = sorted(free)
    rng.shuffle(flights)
    old, new = flights
    if not free[old]:
        return None
    people: list[dict[str, Any]] = []
    for who in rng.sample(free[old], rng.randrange(1, len(free[old]) + 1)):
        one: dict[str, Any] = {"id": who}
        if rng.random() < 0.6:
            one["seat"] = rng.choice(SEATS)
        if rng.random() < 0.4:
            one["inbox"] = f"user:{who}"
        people.append(one)
    if rng.random() < SLIPS:
        new = (
            "RB99"  # there is no such flight: it parks when it has let go of the seats, which others may take meanwhile
        )
    data: dict[str, Any] = {"flight": old, "to": new, "why": "weather", "passengers": people}
    if rng.random() < 0.5:
        data["crew"] = [CREW]
    if rng.random() < 0.5:
        data["refund"] = {"to": "user:refunds"}
    return data


def _swap(rng: random.Random, free: dict[str, list[str]]) -> dict[str, Any] | None:
    if not all(free.values()):
        return None
    one, other = (
        {"flight": flight, "passenger": rng.choice(people), "inbox": "user:swaps"} for flight, people in free.items()
    )
    return {"a": one, "b": other}


def _substitution(rng: random.Random, free: dict[str, list[str]]) -> dict[str, Any]:
    layout = rng.choice(("1-2:AB", "1-3:AB", "1-4:AB"))
    return {"flight": rng.choice(sorted(free)), "registration": rng.choice(("VH-RB1", "VH-RB7")), "layout": layout}


_DATA: Final[dict[str, Callable[[random.Random, dict[str, list[str]]], dict[str, Any] | None]]] = {
    "cancel_and_rebook": _rebooking,
    "seat_swap": _swap,
    "aircraft_substitution": _substitution,
}


async def _in_hand(world: World, tenant: str) -> set[str]:
    """Passengers of sagas that have not ended."""
    held: set[str] = set()
    for task in await world.work.tasks(KIND, tenant=tenant, limit=EVERYTHING):
        if task.state != "done":
            held |= _people(task)
    return held


def _people(task: Task) -> set[str]:
    data = task.body["data"]
    return {one["id"] for one in data.get("passengers", ())} | {
        data[side]["passenger"] for side in ("a", "b") if side in data
    }


def _aboard(world: World, tenant: str) -> dict[str, list[str]]:
    """By flight, those of sagas' passengers who are on its manifest."""
    found: dict[str, list[str]] = {}
    for flight in TRAVELLERS:
        stream = f"flight:{flight}.seats"
        machine = machine_of(stream)
        assert machine is not None
        state = machine.initial()
        for event in _ruled(world, tenant, stream):
            state = machine.evolve(state, event)
        found[flight] = [who for who in machine.show(state).get("passengers", {}) if who.startswith("s")]
    return found


# -- how they ended -----------------------------------------------------------------------------------------------------------


async def ends(world: World) -> AsyncIterator[history.Saga | history.Aboard]:
    """How each saga ended, by the log; and on which manifests each of their passengers is."""
    t = world.recorder.now()
    for tenant in world.rooms:
        unsettled: set[str] = set()
        for task in await world.work.tasks(KIND, tenant=tenant, limit=EVERYTHING):
            how, half = "", []
            if task.state == "done":
                how = task.body["ended"]
                half = list(_half(world, tenant, task))
            else:
                unsettled |= _people(task)
            world.meters.seen(f"saga {how or task.state}")
            yield history.Saga(t, tenant, task.body["saga"], task.key, task.state, how, task.reason, half)
        aboard = _aboard(world, tenant)
        for who in (who for people in TRAVELLERS.values() for who in people if who not in unsettled):
            yield history.Aboard(t, tenant, who, [flight for flight, people in aboard.items() if who in people])


def _half(world: World, tenant: str, task: Task) -> Iterator[str]:
    """What is neither done nor undone of a saga that has ended, in words."""
    saga = load(task.body)
    for step in KINDS[saga.kind].plan(saga.key, saga.data):
        acted = _kept(world, tenant, saga.kind, saga.key, step, "act")
        undone = _kept(world, tenant, saga.kind, saga.key, step, "undo")
        if task.body["ended"] == "done":
            if undone is not None:
                yield f"step {step.name!r} was taken back"
            if step.name not in saga.marks:
                yield f"step {step.name!r} was never taken"
            elif saga.marks[step.name] == "done" and acted is None and _is_command(step.act):
                yield f"step {step.name!r} is called done, and no command of it was kept"
        elif acted is not None and acted.events and _is_command(step.undo) and not _is_taken_back(step, undone):
            yield f"step {step.name!r} was done, and not taken back"


def _is_taken_back(step: Step, undone: Judged | None) -> bool:
    """Obeyed, or refused for a reason that is as good."""
    if undone is None:
        return False
    return undone.events > 0 or (undone.refusal is not None and orjson.loads(undone.refusal)["reason"] in step.undo_on)


def _is_command(order: Any) -> bool:
    return order is not None and order["do"] == "command"


def _kept(world: World, tenant: str, kind: str, key: str, step: Step, way: str) -> Judged | None:
    """What the log knows of a step's command: that which was obeyed, else any."""
    order = step.act if way == "act" else step.undo
    if order is None or order["do"] != "command":
        return None
    stream = world.log._by_name.get((tenant, order["stream"]))
    if stream is None:
        return None
    parts = ("saga", tenant, kind, key, step.name, way)
    known = [stream.commands.get(derived_key(*parts, n) if n else derived_key(*parts)) for n in range(TRIES)]
    kept = [judged for judged in known if judged is not None]
    return next((judged for judged in kept if judged.events), kept[0] if kept else None)
