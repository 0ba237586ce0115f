"""The workers' port in Postgres: `core.work.Work` over the functions of store/sql/0010_work.sql.

Promises what the port does. Shares the links of the log that it is beside (`store.postgres`), and their deadlines. A commit
is one round trip: rows and tasks go as arrays, which cost least to read there, and what few commits bring as one JSON.
Nothing that writes is repeated by itself after a loss: the fence tells its caller what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import asyncpg
import orjson

from core.work import Cursor, Effects, Fenced, Firing, Held, Lease, NewTask, Parked, Row, Task
from store.links import Links
from store.pgwire import clamp
from store.work_input import RAN_OUT, check_effects, check_kind, check_names, check_tasks, check_texts, load

_COMMIT = f"select readback.commit_work({', '.join(f'${n}' for n in range(1, 23))})"
_SETTLE = f"select readback.settle_task({', '.join(f'${n}' for n in range(1, 19))})"
_TASK = "id, kind, tenant, key, lane, due_ms, state, fence, attempts, reason, body, progress, cancel, made_ms"
_PARKED = "consumer, tenant, sid, stream, partition, seq, pos, reason, attempts, since_ms, retry"


def _dump(doc: Mapping[str, Any] | Sequence[Any]) -> str:
    return orjson.dumps(doc).decode()


def _limit(number: int) -> int:
    return max(0, min(number, 2**31 - 1))


def _storable(*texts: str | None) -> bool:
    """Whether there can be an answer about these."""
    return not any(text is not None and "\0" in text for text in texts)


def _end_of(prefix: str) -> str | None:
    """The first text after all those that begin with the prefix; ``None`` where none is."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at]) + 1
        if code <= 0x10FFFF:
            return prefix[:at] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
    return None


def _task(row: asyncpg.Record) -> Task:
    return Task._make((*row[:10], load(row[10]), load(row[11]), *row[12:]))


def _tasks(
    tasks: Sequence[NewTask],
) -> tuple[list[str], list[str], list[str], list[int], list[str], list[str], list[bool]]:
    """The columns of these, the last of each (kind, tenant, key) only."""
    if not tasks:
        return [], [], [], [], [], [], []
    last: dict[tuple[str, str, str], NewTask] = {}
    for task in tasks:
        last.pop(task[:3], None)
        last[task[:3]] = task
    kept = list(last.values())
    return (
        [task.kind for task in kept],
        [task.tenant for task in kept],
        [task.key for task in kept],
        [task.due_ms for task in kept],
        [task.lane for task in kept],
        [_dump(task.body) for task in kept],
        [task.replace for task in kept],
    )


_Rows = tuple[list[str], list[int], list[int], list[str], list[str], list[int], list[int], list[int], list[str | None]]


def _rows(rows: Sequence[Row]) -> _Rows:
    """The columns of these, the last of each key only, in the order in which they are locked; models by their numbers."""
    if not rows:
        return [], [], [], [], [], [], [], [], []
    last = {row[:3]: row for row in rows}
    kept = [last[place] for place in sorted(last)]
    models: dict[str, int] = {}
    firsts: dict[str, int] = {}
    for row in kept:
        models.setdefault(row.model, len(models) + 1)
    for row in rows:
        firsts[row.model] = min(row.pos, firsts.get(row.model, row.pos))
    return (
        list(models),
        [firsts[model] for model in models],
        [models[row.model] for row in kept],
        [row.tenant for row in kept],
        [row.key for row in kept],
        [row.pos for row in kept],
        [row.seq for row in kept],
        [row.at_ms for row in kept],
        [None if row.doc is None else orjson.dumps(row.doc).decode() for row in kept],
    )


def _rest(effects: Effects) -> str | None:
    """[untasks, memories, firings, parks, unparks], JSON of theirs as texts; by sid, in the order in which they are locked."""
    if not (effects.untasks or effects.memories or effects.firings or effects.parks or effects.unparks):
        return None
    memories = {sid: (tenant, doc) for tenant, sid, doc in effects.memories}
    parks = {park.sid: park for park in effects.parks}
    return _dump(
        [
            sorted(set(effects.untasks)),
            [(tenant, sid, None if doc is None else _dump(doc)) for sid, (tenant, doc) in sorted(memories.items())],
            [
                (
                    each.tenant,
                    each.rule,
                    each.version,
                    each.stream,
                    each.seq,
                    each.at_ms,
                    each.verdict,
                    _dump(each.inputs),
                    _dump(each.actions),
                )
                for each in effects.firings
            ],
            [
                (each.tenant, each.sid, each.stream, each.seq, each.pos, each.reason, each.attempts, each.retry)
                for _, each in sorted(parks.items())
            ],
            sorted(set(effects.unparks)),
        ]
    )


class PostgresWork:
    """See the port."""

    def __init__(self, links: Links) -> None:
        self._links = links

    # -- sharing partitions ---------------------------------------------------------------------------------------------

    async def beat(self, holder: str, consumers: Sequence[str], ttl_ms: int) -> list[Lease]:
        check_names(holder, *consumers)
        named = {consumer: place for place, consumer in enumerate(dict.fromkeys(consumers))}
        rows = await self._links.fetch("select * from readback.beat($1, $2, $3)", holder, sorted(named), ttl_ms)
        return sorted((Lease(*row) for row in rows), key=lambda lease: (named[lease.consumer], lease.partition))

    async def leave(self, holder: str) -> None:
        check_names(holder)
        await self._links.fetch("select readback.leave_work($1)", holder)

    async def commit(self, lease: Lease, to_pos: int, effects: Effects) -> Lease:
        check_effects(lease, to_pos, effects)
        consumer, partition, fence, pos = lease
        rows = await self._links.fetch(
            _COMMIT,
            consumer,
            partition,
            fence,
            pos,
            to_pos,
            *_rows(effects.rows),
            *_tasks(effects.tasks),
            _rest(effects),
            retry=False,
        )
        match rows[0][0]:
            case "ok":
                return lease._replace(pos=to_pos)
            case "held":
                raise Held(f"the cursors of {consumer} are held still")
            case _:
                raise Fenced(f"partition {partition} of {consumer} is no longer at {pos} under {fence}")

    async def cursors(self, consumer: str | None = None) -> list[Cursor]:
        if not _storable(consumer):
            return []
        return [Cursor(*row) for row in await self._links.fetch("select * from readback.cursors($1)", consumer)]

    async def hold(self, consumer: str, for_ms: int) -> None:
        check_names(consumer)
        await self._links.fetch("select readback.hold_consumer($1, $2)", consumer, for_ms)

    async def forget(self, consumer: str) -> None:
        check_names(consumer)
        await self._links.fetch("select readback.forget_consumer($1)", consumer)

    async def memories(self, consumer: str, sids: Sequence[int]) -> dict[int, dict[str, Any]]:
        check_names(consumer)
        if not sids:
            return {}
        rows = await self._links.fetch("select * from readback.recall($1, $2)", consumer, [clamp(sid) for sid in sids])
        return {sid: load(doc) for sid, doc in rows}

    # -- parked streams -------------------------------------------------------------------------------------------------

    async def parked(
        self, consumer: str | None = None, *, tenant: str | None = None, limit: int = 1000
    ) -> list[Parked]:
        if not _storable(consumer, tenant):
            return []
        sql = f"select {_PARKED} from readback.parked_streams($1, $2, $3)"
        return [Parked(*row) for row in await self._links.fetch(sql, consumer, tenant, _limit(limit))]

    async def ask_retry(self, consumer: str, sid: int, *, skip: bool) -> bool:
        if not _storable(consumer):
            return False
        rows = await self._links.fetch(
            "select readback.retry_parked($1, $2, $3)", consumer, clamp(sid), skip, retry=not skip
        )
        return bool(rows[0][0])

    # -- tasks ------------------------------------------------------------------------------------------------------------

    async def add(self, tasks: Sequence[NewTask]) -> None:
        check_tasks(tasks)
        if tasks:
            await self._links.fetch(
                "select readback.add_tasks($1, $2, $3, $4, $5, $6, $7)", *_tasks(tasks), retry=False
            )

    async def claim(self, holder: str, kind: str, limit: int, ttl_ms: int) -> list[Task]:
        check_names(holder)
        check_kind(kind)
        sql = f"select {_TASK} from readback.claim_tasks($1, $2, $3, $4, $5)"
        rows = await self._links.fetch(sql, holder, kind, _limit(limit), ttl_ms, RAN_OUT, retry=False)
        return [_task(row) for row in rows]

    async def settle(
        self,
        task: Task,
        *,
        state: Literal["waiting", "parked", "done"],
        after_ms: int = 0,
        reason: str = "",
        body: Mapping[str, Any] | None = None,
        tasks: Sequence[NewTask] = (),
        failed: bool = False,
    ) -> None:
        check_texts((reason,))
        check_tasks(tasks)
        rows = await self._links.fetch(
            _SETTLE,
            task.kind,
            task.tenant,
            task.key,
            task.lane,
            task.id,
            task.fence,
            state,
            clamp(after_ms),
            reason,
            None if body is None else _dump(body),
            failed,
            *_tasks(tasks),
            retry=False,
        )
        if not rows[0][0]:
            raise Fenced(f"the claim of task {task.id} under fence {task.fence} is over")

    async def pulse(self, task: Task, ttl_ms: int, progress: Mapping[str, Any] | None = None) -> bool:
        said = None if progress is None else _dump(progress)
        rows = await self._links.fetch("select readback.pulse_task($1, $2, $3, $4)", task.id, task.fence, ttl_ms, said)
        if rows[0][0] is None:
            raise Fenced(f"the claim of task {task.id} under fence {task.fence} is over")
        return bool(rows[0][0])

    async def tasks(
        self, kind: str, *, tenant: str | None = None, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[Task]:
        if not _storable(kind, tenant, state):
            return []
        sql = f"select {_TASK} from readback.find_tasks($1, $2, $3, $4, $5)"
        return [_task(row) for row in await self._links.fetch(sql, kind, tenant, state, clamp(after), _limit(limit))]

    async def task(self, kind: str, tenant: str, key: str) -> Task | None:
        if not _storable(kind, tenant, key):
            return None
        sql = f"select {_TASK} from readback.find_task($1, $2, $3)"
        rows = await self._links.fetch(sql, kind, tenant, key)
        return _task(rows[0]) if rows else None

    async def next_due_ms(self, kind: str) -> int | None:
        check_kind(kind)
        found: int | None = (await self._links.fetch("select readback.next_due($1)", kind))[0][0]
        return found

    async def tell(self, id: int, what: Literal["retry", "drop", "cancel"]) -> bool:
        rows = await self._links.fetch("select readback.tell_task($1, $2)", clamp(id), what, retry=False)
        return bool(rows[0][0])

    async def clean(self, before_ms: int, limit: int) -> int:
        rows = await self._links.fetch("select readback.clean_work($1, $2)", clamp(before_ms), _limit(limit))
        return int(rows[0][0])

    # -- read models --------------------------------------------------------------------------------------------------

    async def rows(self, model: str, tenant: str, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[Row]:
        if not _storable(model, tenant, prefix, after):
            return []
        found = await self._links.fetch(
            "select * from readback.model_rows($1, $2, $3, $4, $5, $6)",
            model,
            tenant,
            prefix,
            _end_of(prefix),
            after,
            _limit(limit),
        )
        return [Row._make((model, tenant, *row[:5], load(row[5]))) for row in found]

    async def row(self, model: str, tenant: str, key: str) -> Row | None:
        if not _storable(model, tenant, key):
            return None
        found = await self._links.fetch("select * from readback.model_row($1, $2, $3)", model, tenant, key)
        return Row._make((model, tenant, *found[0][:5], load(found[0][5]))) if found else None

    async def rows_after(self, model: str, partition: int, pos: int, limit: int) -> list[Row]:
        if not _storable(model) or not 0 <= partition < 2**31:
            return []
        found = await self._links.fetch(
            "select * from readback.rows_after($1, $2, $3, $4)", model, partition, clamp(pos), _limit(limit)
        )
        return [Row._make((model, *row[:6], None if row[6] is None else load(row[6]))) for row in found]

    async def generations(self) -> dict[str, int]:
        rows = await self._links.fetch("select * from readback.generations()")
        return {row["model"]: row["shown"] for row in rows}

    async def begin_rebuild(self, model: str, consumer: str) -> int:
        check_names(model, consumer)
        rows = await self._links.fetch("select readback.begin_rebuild($1, $2)", model, consumer, retry=False)
        return int(rows[0][0])

    async def swap(self, model: str, generation: int, consumer: str, live_consumer: str) -> bool:
        check_names(model, consumer, live_consumer)
        rows = await self._links.fetch(
            "select readback.swap_model($1, $2, $3, $4)", model, generation, consumer, live_consumer, retry=False
        )
        return bool(rows[0][0])

    # -- what rules did ---------------------------------------------------------------------------------------------------

    async def firings(
        self, tenant: str, *, rule: str | None = None, stream: str | None = None, limit: int = 100
    ) -> list[Firing]:
        if not _storable(tenant, rule, stream):
            return []
        rows = await self._links.fetch(
            "select * from readback.rule_firings($1, $2, $3, $4)", tenant, rule, stream, _limit(limit)
        )
        return [Firing._make((tenant, *row[:6], load(row[6]), orjson.loads(row[7]))) for row in rows]
