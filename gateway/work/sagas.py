"""Sagas, a step a run: read what is written, make the next move, write what became of it, due again at once.

What may be done twice is done under keys that make it once (`core.sagas`); what was done is written under the claim's fence,
so that of two workers with the same saga one goes on and the other finds out. A saga that parks is a parked task, and
`readback saga resume` or `abort` is an operator's word on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal

from core.saga_kinds import KINDS
from core.sagas import (
    Got,
    Learned,
    Move,
    Never,
    Obeyed,
    Saga,
    dump,
    ended,
    load,
    next_move,
    passed_by,
    resumed,
    take,
    turned_at_once,
    wish,
)
from core.work import NewTask, Task, Work
from gateway.work.jobs import Deeds
from gateway.work.orders import Impossible
from gateway.work.outside import Full
from gateway.work.ports import Hold, Outcome

KIND: Final = "saga"
DEADLINE_S: Final = 3_600.0
"""Where whoever starts one names none."""
RESUME_S: Final = 3_600.0
"""How long a saga that an operator resumes has at least."""


def new_saga(
    tenant: str, kind: str, key: str, data: dict[str, Any], now_ms: int, deadline_s: float = DEADLINE_S
) -> NewTask:
    """Its data must be well (`core.saga_kinds.problem`). One of the same key that is there already stays as it is."""
    saga = Saga(kind, key, data, now_ms + int(1000 * deadline_s))
    return NewTask(KIND, tenant, key, now_ms, dump(saga))


class SagaRunner:
    kind = KIND

    def __init__(self, deeds: Deeds) -> None:
        self._deeds = deeds

    async def run(self, task: Task, hold: Hold) -> Outcome:
        try:
            saga = load(task.body)
            kind = KINDS[saga.kind]
        except (KeyError, TypeError) as error:
            return Outcome("parked", f"this is no saga that this version knows: {error!r}")
        if task.cancel and not saga.compensating:
            saga = replace(saga, aborted=True)
        saga, move = next_move(kind, task.tenant, saga)
        if move is None:
            return _ended(saga)
        wanted = wish(saga, int(1000 * self._deeds.orders.wall()))
        turned = turned_at_once(saga, move, wanted)
        if turned is not None:
            return _goes_on(turned)
        try:
            got = await self._make(task.tenant, move)
        except Full as full:
            return Outcome("waiting", after_s=full.retry_after_s)
        if not wanted and not saga.compensating and await hold.pulse():
            saga = replace(saga, aborted=True)  # an operator said so meanwhile
            wanted = wish(saga, 0)
        saga, then = take(saga, move, got, wanted)
        if then.what == "park":
            return Outcome("parked", then.reason, body=dump(saga))
        if then.what == "again":
            return Outcome("waiting", then.reason, body=dump(saga))
        saga, move = next_move(kind, task.tenant, saga)
        return _ended(saga) if move is None else _goes_on(saga)

    async def _make(self, tenant: str, move: Move) -> Got:
        order, orders = move.order, self._deeds.orders
        try:
            if order["do"] == "look":
                return Obeyed(Learned(shown=await orders.state(tenant, order["stream"])))
            did = await self._deeds.do(tenant, order, move.key)
        except Impossible as error:
            return Never(str(error))
        if did.answer is None:
            return Obeyed()
        if did.answer.refusal is not None:
            return did.answer.refusal
        if move.step.learn is None or move.undo:
            return Obeyed()
        return Obeyed(Learned(facts=await orders.facts(tenant, order["stream"], did.answer.seqs)))


def _goes_on(saga: Saga) -> Outcome:
    return Outcome("waiting", after_s=0.0, body=dump(saga))


def _ended(saga: Saga) -> Outcome:
    how = ended(saga)
    return Outcome("done", f"undone: {saga.why}" if how == "undone" else "", body=dump(saga) | {"ended": how})


# -- an operator's word -----------------------------------------------------------------------------------------------------

Said = Literal["said", "running", "ended"]


async def find(work: Work, tenant: str, key: str) -> Task | None:
    """A saga by its key."""
    return await work.task(KIND, tenant, key)


async def by_id(work: Work, id: int, tenant: str | None = None) -> Task | None:
    page = await work.tasks(KIND, tenant=tenant, limit=1, after=id - 1)
    return page[0] if page and page[0].id == id else None


async def abort(work: Work, task: Task, now_ms: int) -> Said:
    """Have it turn back. One that a worker has in hand is asked to; any other is written anew, from what it is once nobody
    can take it: done twice, or after an end in between, it comes to the same."""
    if task.state == "claimed" and await work.tell(task.id, "cancel"):
        return "said"
    return await _rewrite(work, task, now_ms, lambda saga: replace(saga, aborted=True, reason=""))


async def resume(work: Work, task: Task, now_ms: int, *, past: bool = False) -> Said:
    """Have a parked one go on at its step, or past it, where somebody has seen to that by hand."""

    def change(saga: Saga) -> Saga:
        saga = resumed(saga, now_ms + int(1000 * RESUME_S))
        return passed_by(KINDS[saga.kind], task.tenant, saga) if past else saga

    if task.state == "claimed":
        return "running"
    return await _rewrite(work, task, now_ms, change)


async def _rewrite(work: Work, task: Task, now_ms: int, change: Callable[[Saga], Saga]) -> Said:
    if task.state in ("waiting", "parked"):
        await work.tell(task.id, "drop")
    now = await by_id(work, task.id, task.tenant)
    if now is None or now.state == "done":
        return "ended"
    if now.state != "dropped":
        return "running"
    await work.add([NewTask(KIND, now.tenant, now.key, now_ms, dump(change(load(now.body))), replace=True)])
    return "said"
