"""The workers' port in memory: `core.work.Work` over dicts, beside a `MemoryLog` whose partitions it works through.

The reference that `store.postgres_work` is held to (tests/contract), and the simulator's. The log's switches are its own
too: what `MemoryLog.fail_next`, ``down`` and ``pause`` say of a method's name holds here. The same calls give the same
answers. JSON is kept as bytes, so that nobody changes by accident what was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

from core.work import Cursor, Effects, Fenced, Firing, Held, Lease, NewTask, Parked, Row, Task
from store.memory import MemoryLog
from store.memory_tasks import MemoryTasks
from store.work_input import check_effects, check_kind, check_names, check_tasks, check_texts, dump, load

_Place = tuple[str, str]
"""(tenant, key) of a row."""


class _Cursor:
    __slots__ = ("at_ms", "fence", "hold_until_ms", "holder", "pos", "until_ms")

    def __init__(self, now_ms: int) -> None:
        self.pos = 0
        self.holder = ""
        self.fence = 0
        self.until_ms = 0
        self.hold_until_ms = 0
        self.at_ms = now_ms


class _Model:
    """``shown`` is what `generations` says, ``last`` the highest number given for any reason; ``building`` 0: none is."""

    __slots__ = ("builder", "building", "last", "live", "shown")

    def __init__(self) -> None:
        self.live = self.shown = self.last = 1
        self.building = 0
        self.builder = ""

    def number(self) -> int:
        self.last += 1
        return self.last


class MemoryWork:
    """See the port. ``now_ms`` is Unix time in milliseconds, asked once a call."""

    def __init__(self, log: MemoryLog, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._now_ms = now_ms
        self._fence = 0
        self._cursors: dict[str, list[_Cursor]] = {}
        self._workers: dict[tuple[str, str], int] = {}
        """Until when each (consumer, holder) is ready."""
        self._memories: dict[tuple[str, int], bytes] = {}
        self._parked: dict[tuple[str, int], Parked] = {}
        self._models: dict[str, _Model] = {}
        self._rows: dict[tuple[str, int], dict[_Place, tuple[Row, bytes | None]]] = {}
        """By model and generation; the row's own doc is left out."""
        self._firings: dict[str, list[tuple[Firing, bytes, bytes]]] = {}
        self._tasks = MemoryTasks()

    # -- sharing partitions ---------------------------------------------------------------------------------------------

    async def beat(self, holder: str, consumers: Sequence[str], ttl_ms: int) -> list[Lease]:
        check_names(holder, *consumers)
        async with self._log.call("beat"):
            now_ms = self._now_ms()
            named = list(dict.fromkeys(consumers))
            self._leave(holder, [each for each in self._cursors if each not in named])
            self._workers = {each: until for each, until in self._workers.items() if until > now_ms}
            return [lease for consumer in named for lease in self._share(holder, consumer, ttl_ms, now_ms)]

    def _share(self, holder: str, consumer: str, ttl_ms: int, now_ms: int) -> list[Lease]:
        partitions = len(self._log.tips)
        cursors = self._cursors.setdefault(consumer, [_Cursor(now_ms) for _ in range(partitions)])
        self._workers[consumer, holder] = now_ms + ttl_ms
        ready = sorted(each for ready_for, each in self._workers if ready_for == consumer)
        share, more = divmod(partitions, len(ready))
        share += ready.index(holder) < more
        mine = [cursor for cursor in cursors if cursor.holder == holder]
        for cursor in mine[share:]:
            cursor.holder = ""
        free = [cursor for cursor in cursors if not cursor.holder or (cursor.until_ms <= now_ms and cursor not in mine)]
        for cursor in free[: max(share - len(mine), 0)]:
            self._fence += 1
            cursor.fence = self._fence
            cursor.holder = holder
        leases = []
        for partition, cursor in enumerate(cursors):
            if cursor.holder == holder:
                cursor.until_ms = now_ms + ttl_ms
                leases.append(Lease(consumer, partition, cursor.fence, cursor.pos))
        return leases

    def _leave(self, holder: str, consumers: Sequence[str]) -> None:
        for consumer in consumers:
            self._workers.pop((consumer, holder), None)
            for cursor in self._cursors[consumer]:
                if cursor.holder == holder:
                    cursor.holder = ""

    async def leave(self, holder: str) -> None:
        check_names(holder)
        async with self._log.call("leave"):
            self._leave(holder, list(self._cursors))
            self._tasks.leave(holder, self._now_ms())

    async def commit(self, lease: Lease, to_pos: int, effects: Effects) -> Lease:
        check_effects(lease, to_pos, effects)
        rows = [(row._replace(doc=None), None if row.doc is None else dump(row.doc)) for row in effects.rows]
        memories = [(sid, None if doc is None else dump(doc)) for _, sid, doc in effects.memories]
        firings = [(each, dump(each.inputs), dump({"actions": each.actions})) for each in effects.firings]
        for task in effects.tasks:
            dump(task.body)  # whether it can be written at all, before anything is
        async with self._log.call("commit"):
            now_ms = self._now_ms()
            cursor = self._leased(lease, now_ms)
            cursor.pos = to_pos
            cursor.at_ms = now_ms
            self._write_rows(lease, rows)
            self._tasks.drop(effects.untasks, now_ms)
            self._tasks.add(effects.tasks, now_ms)
            for sid, memory in memories:
                if memory is None:
                    self._memories.pop((lease.consumer, sid), None)
                else:
                    self._memories[lease.consumer, sid] = memory
            for firing in firings:
                self._firings.setdefault(firing[0].tenant, []).append(firing)
            for park in effects.parks:
                before = self._parked.get((park.consumer, park.sid))
                since_ms = now_ms if before is None else before.since_ms
                self._parked[park.consumer, park.sid] = park._replace(since_ms=since_ms)
            for sid in effects.unparks:
                self._parked.pop((lease.consumer, sid), None)
            return lease._replace(pos=to_pos)

    def _leased(self, lease: Lease, now_ms: int) -> _Cursor:
        cursors = self._cursors.get(lease.consumer, [])
        cursor = cursors[lease.partition] if 0 <= lease.partition < len(cursors) else None
        if cursor is None or cursor.fence != lease.fence or cursor.pos != lease.pos:
            raise Fenced(
                f"partition {lease.partition} of {lease.consumer} is no longer at {lease.pos} under {lease.fence}"
            )
        if cursor.hold_until_ms > now_ms:
            raise Held(f"the cursors of {lease.consumer} are held still")
        return cursor

    def _write_rows(self, lease: Lease, rows: Sequence[tuple[Row, bytes | None]]) -> None:
        behind: dict[str, None] = {}
        for row, doc in rows:
            model = self._models.setdefault(row.model, _Model())
            is_building = model.building and model.builder == lease.consumer
            generation = model.building if is_building else model.live
            self._rows.setdefault((row.model, generation), {})[row.tenant, row.key] = (row, doc)
            if row.pos <= lease.pos and not is_building:
                behind[row.model] = None
        for name in behind:
            self._models[name].shown = self._models[name].number()

    async def cursors(self, consumer: str | None = None) -> list[Cursor]:
        async with self._log.call("cursors"):
            now_ms = self._now_ms()
            return [
                Cursor(
                    name,
                    partition,
                    cursor.pos,
                    self._log.tips[partition],
                    cursor.holder if cursor.until_ms > now_ms else "",
                    cursor.fence,
                    cursor.at_ms,
                )
                for name, cursors in sorted(self._cursors.items())
                if consumer is None or name == consumer
                for partition, cursor in enumerate(cursors)
            ]

    async def hold(self, consumer: str, for_ms: int) -> None:
        check_names(consumer)
        async with self._log.call("hold"):
            for cursor in self._cursors.get(consumer, ()):
                cursor.hold_until_ms = self._now_ms() + for_ms if for_ms > 0 else 0

    async def forget(self, consumer: str) -> None:
        check_names(consumer)
        async with self._log.call("forget"):
            self._forget(consumer)

    def _forget(self, consumer: str) -> None:
        self._restart(consumer)
        for model in self._models.values():
            if model.builder == consumer:
                model.building = 0
                model.builder = ""

    def _restart(self, consumer: str) -> None:
        self._cursors.pop(consumer, None)
        self._workers = {each: until for each, until in self._workers.items() if each[0] != consumer}
        self._memories = {each: doc for each, doc in self._memories.items() if each[0] != consumer}
        self._parked = {each: park for each, park in self._parked.items() if each[0] != consumer}

    async def memories(self, consumer: str, sids: Sequence[int]) -> dict[int, dict[str, Any]]:
        check_names(consumer)
        async with self._log.call("memories"):
            known = [sid for sid in sorted(set(sids)) if (consumer, sid) in self._memories]
            return {sid: load(self._memories[consumer, sid]) for sid in known}

    # -- parked streams -------------------------------------------------------------------------------------------------

    async def parked(
        self, consumer: str | None = None, *, tenant: str | None = None, limit: int = 1000
    ) -> list[Parked]:
        async with self._log.call("parked"):
            found = [
                park
                for park in self._parked.values()
                if (consumer is None or park.consumer == consumer) and (tenant is None or park.tenant == tenant)
            ]
            return sorted(found, key=lambda park: (park.since_ms, park.consumer, park.sid))[: max(limit, 0)]

    async def ask_retry(self, consumer: str, sid: int, *, skip: bool) -> bool:
        async with self._log.call("ask_retry"):
            park = self._parked.get((consumer, sid))
            if park is None:
                return False
            self._parked[consumer, sid] = park._replace(retry=True, attempts=0, seq=park.seq + skip)
            return True

    # -- tasks ------------------------------------------------------------------------------------------------------------

    async def add(self, tasks: Sequence[NewTask]) -> None:
        check_tasks(tasks)
        async with self._log.call("add"):
            self._tasks.add(tasks, self._now_ms())

    async def claim(self, holder: str, kind: str, limit: int, ttl_ms: int) -> list[Task]:
        check_names(holder)
        check_kind(kind)
        async with self._log.call("claim"):
            return self._tasks.claim(holder, kind, limit, ttl_ms, self._now_ms())

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
        for each in tasks:
            dump(each.body)  # whether it can be written at all, before anything is
        kept = None if body is None else dump(body)
        async with self._log.call("settle"):
            now_ms = self._now_ms()
            self._tasks.settle(task, state, after_ms, reason, kept, failed, now_ms)
            self._tasks.add(tasks, now_ms)

    async def pulse(self, task: Task, ttl_ms: int, progress: Mapping[str, Any] | None = None) -> bool:
        said = None if progress is None else dump(progress)
        async with self._log.call("pulse"):
            return self._tasks.pulse(task, ttl_ms, said, self._now_ms())

    async def tasks(
        self, kind: str, *, tenant: str | None = None, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[Task]:
        async with self._log.call("tasks"):
            return self._tasks.tasks(kind, tenant, state, limit, after)

    async def task(self, kind: str, tenant: str, key: str) -> Task | None:
        async with self._log.call("task"):
            return self._tasks.task(kind, tenant, key)

    async def next_due_ms(self, kind: str) -> int | None:
        check_kind(kind)
        async with self._log.call("next_due_ms"):
            return self._tasks.next_due_ms(kind)

    async def tell(self, id: int, what: Literal["retry", "drop", "cancel"]) -> bool:
        async with self._log.call("tell"):
            return self._tasks.tell(id, what, self._now_ms())

    async def clean(self, before_ms: int, limit: int) -> int:
        async with self._log.call("clean"):
            limit = max(limit, 0)
            done = self._tasks.clean(before_ms, limit)
            for (name, generation), rows in list(self._rows.items()):
                model = self._models[name]
                is_over = generation not in (model.live, model.building)
                gone = [
                    place for place, (row, doc) in rows.items() if is_over or (doc is None and row.at_ms < before_ms)
                ]
                for place in gone[: limit - done]:
                    del rows[place]
                    done += 1
                if is_over and not rows:
                    del self._rows[name, generation]
            return done

    # -- read models --------------------------------------------------------------------------------------------------

    def _live(self, model: str) -> dict[_Place, tuple[Row, bytes | None]]:
        known = self._models.get(model)
        return {} if known is None else self._rows.get((model, known.live), {})

    async def rows(self, model: str, tenant: str, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[Row]:
        async with self._log.call("rows"):
            found = sorted(
                key
                for (of, key), (_, doc) in self._live(model).items()
                if of == tenant and doc is not None and key > after and key.startswith(prefix)
            )
            return [_told(self._live(model)[tenant, key]) for key in found[: max(limit, 0)]]

    async def row(self, model: str, tenant: str, key: str) -> Row | None:
        async with self._log.call("row"):
            found = self._live(model).get((tenant, key))
            return None if found is None or found[1] is None else _told(found)

    async def rows_after(self, model: str, partition: int, pos: int, limit: int) -> list[Row]:
        async with self._log.call("rows_after"):
            found = sorted(
                (row.pos, place)
                for place, (row, _) in self._live(model).items()
                if row.partition == partition and row.pos > pos
            )
            if limit < len(found):
                found = [each for each in found if limit > 0 and each[0] <= found[limit - 1][0]]
            return [_told(self._live(model)[place]) for _, place in found]

    async def generations(self) -> dict[str, int]:
        async with self._log.call("generations"):
            return {name: model.shown for name, model in sorted(self._models.items())}

    async def begin_rebuild(self, model: str, consumer: str) -> int:
        check_names(model, consumer)
        async with self._log.call("begin_rebuild"):
            found = self._models.setdefault(model, _Model())
            if found.building and found.builder != consumer:
                self._forget(found.builder)
            self._restart(consumer)
            found.building = found.number()
            found.builder = consumer
            return found.building

    async def swap(self, model: str, generation: int, consumer: str, live_consumer: str) -> bool:
        check_names(model, consumer, live_consumer)
        async with self._log.call("swap"):
            found = self._models.get(model)
            if found is None or not found.building or (found.building, found.builder) != (generation, consumer):
                return False
            mine = [cursor.pos for cursor in self._cursors.get(consumer, ())]
            live = [cursor.pos for cursor in self._cursors.get(live_consumer, ())]
            if not mine or mine != live:
                return False
            found.live = found.shown = generation
            found.building = 0
            found.builder = ""
            if not any(each.builder == consumer for each in self._models.values()):
                self._forget(consumer)
            return True

    # -- what rules did ---------------------------------------------------------------------------------------------------

    async def firings(
        self, tenant: str, *, rule: str | None = None, stream: str | None = None, limit: int = 100
    ) -> list[Firing]:
        async with self._log.call("firings"):
            found = (
                firing._replace(inputs=load(inputs), actions=load(actions)["actions"])
                for firing, inputs, actions in reversed(self._firings.get(tenant, []))
                if (rule is None or firing.rule == rule) and (stream is None or firing.stream == stream)
            )
            return list(islice(found, max(limit, 0)))


def _told(kept: tuple[Row, bytes | None]) -> Row:
    row, doc = kept
    return row if doc is None else row._replace(doc=load(doc))
