"""A worker of a simulated host: the real `gateway.work.worker.Worker` beside its node, put together as the product does it.

Beside the product's consumers it has `Tally`, whose effects show how often and in which order each event was taken. It is
started again, under another name, whenever it ends. What all workers are held to at the end is in `proof.sim.labours`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from core.ports import StoreError
from core.rules.load import load
from core.rules.loops import FACTS
from core.rules.model import RuleSet
from core.work import Effects, Firing, Row, Work
from core.work_limits import WorkLimits
from gateway.node import Node
from gateway.work.make import make_worker
from gateway.work.ports import Place, Seen
from gateway.work.rules import Rules
from gateway.work.worker import Worker
from proof.history import digest
from proof.sim.work import NodeWork

if TYPE_CHECKING:
    from gateway.work.webhooks import Webhooks
    from proof.sim.net import Host
    from proof.sim.world import World

RULES: Final = """
[[rule]]
id = "delayed"
version = "1"
says = "A delay is told in the flight's chat, and has a stand of its own"
tenants = ["*"]
[rule.when]
event = "flight.delayed"
[[rule.do]]
message.text = "${flight.flight} is delayed"
[[rule.do]]
command = { type = "gate", body = { arrival = { stand = "99" } } }

[[rule]]
id = "no-gate"
version = "1"
says = "Nobody says from which gate a flight leaves"
tenants = ["*"]
[rule.when]
absent = { after = "flight.scheduled", no = "flight.gate", within = "1s" }
[[rule.do]]
message.text = "${flight.flight} has no gate"
"""
LIMITS: Final = replace(
    WorkLimits(),
    lease_s=1.5,
    beat_s=0.5,
    batch_events=4,
    poll_s=1.0,
    names_kept_max=3,
    claim_tasks=3,
    running_tasks_max=3,
    task_s=1.0,
    retry_first_s=0.1,
    retry_max_s=0.8,
    task_look_s=1.0,
)
"""Every bound so low that a short run meets it."""
WORK_S: Final = 8.0
"""Within so long after the troubles all must be done: a lease and a claim, a few retries, and clocks that were apart."""
TALLY: Final = "tally"
NOBODY: Final = cast("Webhooks", object())
"""No rule here calls outside, and what would do it takes 30 ms to make."""


def rules() -> RuleSet:
    found = load([("sim.toml", RULES)], FACTS)
    assert isinstance(found, RuleSet), found
    return found


class Tally:
    """Counts each stream's events and chains them, in a row; and fires for each, so that one taken twice is seen twice."""

    name = TALLY

    def __init__(self, world: World, work: Work) -> None:
        self._world = world
        self._work = work
        self._known: dict[int, tuple[int, dict[str, Any]]] = {}
        """By sid: its partition and what was counted up to what was taken."""

    def concerns(self, stream: str) -> bool:
        return stream.startswith("flight:")

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        unknown = [place for place, _ in places if place.sid not in self._known]
        if unknown:
            memories = await self._work.memories(TALLY, [place.sid for place in unknown])
            for place in unknown:
                self._known[place.sid] = (place.partition, memories.get(place.sid, {"count": 0, "chain": ""}))

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        effects = Effects()
        counted = self._known[place.sid][1]
        for pos, event in events:
            if place.stream in self._world.poisoned:
                raise ValueError(f"seq {event.seq} cannot be taken, as the seed has it")
            counted = count(counted, event.seq, event.type)
            row = Row(TALLY, place.tenant, place.stream, place.partition, pos, event.seq, event.at_ms, counted)
            effects.rows.append(row)
            effects.firings.append(
                Firing(place.tenant, TALLY, "1", place.stream, event.seq, event.at_ms, "counted", {}, [])
            )
        effects.memories.append((place.tenant, place.sid, counted))
        self._known[place.sid] = (place.partition, counted)
        return effects

    def forget(self, partition: int, sid: int | None = None) -> None:
        for known in [
            each for each, (of, _) in self._known.items() if sid == each or (sid is None and of == partition)
        ]:
            del self._known[known]


def count(counted: dict[str, Any], seq: int, type: str) -> dict[str, Any]:
    return {"count": counted["count"] + 1, "chain": digest(counted["chain"], seq, type)}


class Labour:
    """The worker of one start of a host."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self._scope = trio.CancelScope()
        self.worker: Worker | None = None

    async def run(self, node: Node) -> None:
        """To the end of the host."""
        rng = random.Random(f"{self._world.swarm.seed} worker {self._host.name}")
        starts = 0
        while True:
            starts += 1
            with trio.CancelScope() as self._scope:
                worker = self.worker = self._make(node, f"{self._host.name}.{starts}", rng)
                try:
                    await worker.run()
                finally:
                    self._note(worker)
            node.on_commit.remove(worker.heard)
            self.worker = None
            await trio.sleep(rng.choice((0.05, 0.3, 1.0)))

    def _make(self, node: Node, holder: str, rng: random.Random) -> Worker:
        work = cast(Work, NodeWork(self._world, self._host))
        worker = make_worker(
            node, work, rules_folder=None, webhook_keys={}, limits=LIMITS, holder=holder, rng=rng, webhooks=NOBODY,
            measured=False,
        )  # fmt: skip
        told = worker.consumers[Rules.name]
        assert isinstance(told, Rules)
        told.use(self._world.rules)
        worker.consumers[TALLY] = Tally(self._world, work)
        if node.boards is not None:
            worker.committed.append(node.rows_changed)
        return worker

    def _note(self, worker: Worker) -> None:
        meters = self._world.meters
        meters.seen("worker fenced", worker.fenced)
        meters.seen("stream parked", worker.parked)
        rules = worker.consumers[Rules.name]
        assert isinstance(rules, Rules)
        meters.seen("rule fired", rules.fired)

    async def leave(self) -> None:
        """In good order, as at a deployment."""
        worker = self.worker
        if worker is not None:
            self._world.meters.seen("worker left in good order")
            with trio.move_on_after(1.0):
                try:
                    await worker.leave()
                except StoreError:
                    pass
            self._scope.cancel()
