"""What workers are held to at the end of a simulated run: all that is due is done, and every row is what the log says.

Read from the truth's own log and store, past all weather. What should be there is folded anew from the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from core.commands import recorded
from core.flight.machine import BY_GATEWAY, Recorded
from core.flight.read_models import source_of
from core.flight.registry import machine_of
from core.flight.views import CONSUMER, MODELS, changes
from core.flight.views_board import BOARD
from core.rules.engine import step
from gateway.board import STREAM
from proof import history
from proof.history import digest
from proof.sim.labour import TALLY, count

if TYPE_CHECKING:
    from proof.sim.world import World

EVERYTHING: Final = 1_000_000
SOON_MS: Final = 60_000
ONCE: Final = "fired once each"
RULED: Final = "firings of rules"
SAID: Final = "said by rules"
"""Beside the models proper: what else is to be as the log has it, by stream."""

Rows = dict[tuple[str, str], str]
"""Digests by model and key."""


async def left(world: World) -> AsyncIterator[history.Left]:
    """What is still to be done of what should be."""
    t, work = world.recorder.now(), world.work
    for cursor in await work.cursors():
        if cursor.consumer.startswith("rebuild."):
            continue  # of one that died: the next rebuild takes its place
        what = f"{cursor.consumer}, partition {cursor.partition}"
        yield history.Left(t, what, cursor.head - cursor.pos, f"held by {cursor.holder!r}")
    parked = [f"{park.consumer} {park.stream}: {park.reason}" for park in await work.parked()]
    yield history.Left(t, "parked streams", len(parked), "; ".join(parked))
    now_ms = world.log._now_ms()
    for kind in ("timer", "job", "saga"):
        tasks = [task for task in await work.tasks(kind, limit=EVERYTHING) if task.state not in ("done", "dropped")]
        # A saga that waits for an operator says why: see `proof.sim.company.ends`.
        due = [
            f"{task.key} {task.state} {task.reason}"
            for task in tasks
            if (task.state != "waiting" or task.due_ms <= now_ms) and (kind, task.state) != ("saga", "parked")
        ]
        yield history.Left(t, f"tasks of kind {kind}", len(due), "; ".join(due))


async def at_rest(world: World) -> bool:
    """Whether nothing is left, and no timer falls due while the last look is taken."""
    if any([remains.left async for remains in left(world)]):
        return False
    due_ms = await world.work.next_due_ms("timer")
    return due_ms is None or due_ms > world.log._now_ms() + SOON_MS


async def rows(world: World) -> AsyncIterator[history.Modelled]:
    """Every row that is there or should be."""
    for tenant, streams in world.rooms.items():
        should: Rows = {}
        for stream in streams:
            if stream.startswith("flight:"):
                should |= _should(world, tenant, stream)
        held = await _held(world, tenant)
        t = world.recorder.now()
        for model, key in sorted(held.keys() | should.keys()):
            yield history.Modelled(t, model, tenant, key, held.get((model, key), ""), should.get((model, key), ""))


def _should(world: World, tenant: str, stream: str) -> Rows:
    events = [recorded(event) for event in world.log.events_of(tenant, stream)]
    if not events:
        return {}
    counted: dict[str, Any] = {"count": 0, "chain": ""}
    for event in events:
        counted = count(counted, event.seq, event.type)
    should = {(TALLY, stream): digest(counted), (ONCE, stream): digest([event.seq for event in events])}
    if stream not in world.flights:
        return should
    should |= _folded(stream, _facts(world, tenant, stream))
    firings, said = _ruled(world, tenant, stream, events)
    if firings:
        should[RULED, stream] = digest(firings)
    if said:
        should[SAID, stream] = digest(sorted(said))
    return should


def _ruled(world: World, tenant: str, stream: str, events: list[Recorded]) -> tuple[list[list[Any]], list[str]]:
    """What rules make of the stream: their firings, and the keys of what they say in it."""
    machine = machine_of(stream)
    assert machine is not None
    state = machine.initial()
    memory: dict[str, Any] = {}
    firings: list[list[Any]] = []
    said: list[str] = []
    for event in events:
        state = machine.evolve(state, event)
        taken = step(world.rules, memory, tenant, stream, event, machine.show(state))
        memory = taken.memory
        firings += [[firing.rule, firing.seq, firing.verdict] for firing in taken.firings]
        said += [action.key for action in taken.actions if action.kind == "message"]
    return firings, said


def swapped(world: World, model: str) -> None:
    """A model that was rebuilt has taken the live one's place: all of it is as of where the live consumer's cursors stand."""
    at = {cursor: each.pos for cursor, each in enumerate(world.work._cursors[CONSUMER])}
    world.meters.seen("read model rebuilt")
    t = world.recorder.now()
    for tenant in world.rooms:
        should: Rows = {}
        for stream in world.flights:
            ruled = world.log.ruled_of(tenant, stream)
            facts = [
                recorded(event)
                for event in world.log.events_of(tenant, stream)
                if event.seq in ruled and event.pos <= at[event.partition]
            ]
            should |= {key: doc for key, doc in _folded(stream, facts).items() if key[0] == model}
        held = {
            (model, key): digest(orjson.loads(doc))
            for (of, key), (_, doc) in world.work._live(model).items()
            if of == tenant and doc is not None
        }
        for key in sorted(held.keys() | should.keys()):
            world.recorder.add(history.Modelled(t, model, tenant, key[1], held.get(key, ""), should.get(key, "")))


def boards(world: World) -> None:
    """What followers of the board were told last of each row, and what it should be."""
    if not world.swarm.board or not world.swarm.workers:
        return
    t = world.recorder.now()
    for tenant in world.rooms:
        should: Rows = {}
        for stream in world.flights:
            should |= {
                key: doc for key, doc in _folded(stream, _facts(world, tenant, stream)).items() if key[0] == BOARD
            }
        for visit in world.visits():
            if visit.client.tenant != tenant or not visit.welcomed:
                continue
            for stream in sorted(visit.following):
                if stream == STREAM:
                    told = visit.rows.get(stream, {})
                    held = {(BOARD, key): digest(value) for key, value in told.items() if value is not None}
                    for key in sorted(held.keys() | should.keys()):
                        row = history.Board(
                            t, visit.name, tenant, stream, key[1], held.get(key, ""), should.get(key, "")
                        )
                        world.recorder.add(row)


def _facts(world: World, tenant: str, stream: str) -> list[Recorded]:
    ruled = world.log.ruled_of(tenant, stream)
    return [recorded(event) for event in world.log.events_of(tenant, stream) if event.seq in ruled]


def _folded(stream: str, facts: list[Recorded]) -> Rows:
    """The rows that a stream's facts make."""
    source = source_of(stream)
    assert source is not None
    found = changes(source.view, source.name, source.view.initial(), facts)[1]
    return {(change.model, change.key): digest(change.doc) for change in found if change.doc is not None}


async def _held(world: World, tenant: str) -> Rows:
    work, held = world.work, Rows()
    for model in (TALLY, *MODELS):
        for row in await work.rows(model, tenant, limit=EVERYTHING):
            held[model, row.key] = digest(row.doc)
    once: dict[str, list[int]] = {}
    ruled: dict[str, list[list[Any]]] = {}
    for firing in reversed(await work.firings(tenant, limit=EVERYTHING)):
        if firing.rule == TALLY:
            once.setdefault(firing.stream, []).append(firing.seq)
        else:
            ruled.setdefault(firing.stream, []).append([firing.rule, firing.seq, firing.verdict])
    held |= {(ONCE, stream): digest(seqs) for stream, seqs in once.items()}
    held |= {(RULED, stream): digest(firings) for stream, firings in ruled.items()}
    for stream in world.flights:
        events = world.log.events_of(tenant, stream)
        said = [
            event.key
            for event in events
            if event.by == BY_GATEWAY and event.type == "message" and b'"saga":' not in (event.body or b"")
        ]
        if said:
            held[SAID, stream] = digest(sorted(said))
    return held
