"""Sagas and firings for the HTTP API: `gateway.work_service.WorkService` over a node and the workers' store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from core.policy import TenantAction, may_in_tenant
from core.saga_kinds import KINDS, problem
from core.sagas import load, next_move
from core.tokens import Identity
from core.work import Firing, Task, Work
from gateway.node import Node
from gateway.service import WireError
from gateway.work.sagas import DEADLINE_S, find, new_saga
from gateway.work_service import SagaFacts

DATA_BYTES_MAX = 65_536


class WorkDesk:
    def __init__(self, node: Node, work: Work) -> None:
        self._node = node
        self._work = work

    async def start_saga(
        self, who: Identity, kind: str, key: str, data: dict[str, Any], deadline_s: float | None
    ) -> tuple[SagaFacts, bool]:
        if not may_in_tenant(TenantAction.START_SAGA, who.roles):
            raise WireError("forbidden", "starting a saga needs a token with role admin or service")
        if len(orjson.dumps(data)) > DATA_BYTES_MAX:
            raise WireError("too_large", f"a saga's data have at most {DATA_BYTES_MAX} bytes of JSON")
        wrong = problem(kind, key, data)
        if wrong:
            raise WireError("bad_request", wrong)
        now_ms = int(1000 * self._node.wall())
        before = await find(self._work, who.tenant, key)
        if before is None:
            saga = new_saga(who.tenant, kind, key, data, now_ms, DEADLINE_S if deadline_s is None else deadline_s)
            await self._node.noted(who.tenant, "saga.started", what=kind, value=key, by=who.principal)
            await self._work.add([saga])
        found = await find(self._work, who.tenant, key)
        if found is None:
            raise WireError("unavailable", "the saga is being written; repeat with the same key", 1.0)
        if found.body.get("saga") != kind or not _same(found.body.get("data", {}), data):
            raise WireError("conflict", f"the key {key} is another saga's; give each its own")
        return shown(found), before is None

    async def saga(self, who: Identity, key: str) -> SagaFacts:
        self._check_reader(who)
        found = await find(self._work, who.tenant, key)
        if found is None:
            raise WireError("not_found", f"there is no saga {key}, or it was done long ago")
        return shown(found)

    async def firings(self, who: Identity, rule: str | None, stream: str | None, limit: int) -> Sequence[Firing]:
        self._check_reader(who)
        return await self._work.firings(who.tenant, rule=rule, stream=stream, limit=limit)

    @staticmethod
    def _check_reader(who: Identity) -> None:
        if not may_in_tenant(TenantAction.READ_WORK, who.roles):
            raise WireError("forbidden", "what workers did is for tokens with role admin or service")


def _same(kept: dict[str, Any], given: dict[str, Any]) -> bool:
    """What was given is among what is kept: a saga learns more as it goes."""
    return all(kept.get(name) == value for name, value in given.items())


def shown(task: Task) -> SagaFacts:
    saga = load(task.body)
    kind, move = KINDS.get(saga.kind), None
    if kind is not None and "ended" not in task.body:
        _, move = next_move(kind, task.tenant, saga)
    return SagaFacts(
        task.id,
        saga.kind,
        saga.key,
        task.state,
        task.body.get("ended", ""),
        "" if move is None else move.step.name,
        saga.compensating,
        dict(saga.marks),
        task.reason or saga.why,
        task.attempts,
        saga.deadline_ms,
        task.made_ms,
    )
