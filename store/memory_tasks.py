"""The tasks of `store.memory_work`: what becomes of each, with nothing but the time handed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from core.work import KINDS, Fenced, NewTask, Task, TaskState
from store.work_input import RAN_OUT, dump, load

_UNFINISHED = ("waiting", "claimed", "parked")


class _Kept:
    """A task as it lies here; see `Task`. ``at_ms`` is when it was last changed."""

    __slots__ = (
        "at_ms",
        "attempts",
        "body",
        "cancel",
        "due_ms",
        "fence",
        "holder",
        "id",
        "key",
        "kind",
        "lane",
        "made_ms",
        "progress",
        "reason",
        "state",
        "tenant",
        "until_ms",
    )

    def __init__(self, id: int, fence: int, task: NewTask, body: bytes, now_ms: int) -> None:
        self.id = id
        self.kind = task.kind
        self.tenant = task.tenant
        self.key = task.key
        self.lane = task.lane
        self.due_ms = task.due_ms
        self.state: TaskState = "waiting"
        self.fence = fence
        self.attempts = 0
        self.reason = ""
        self.body = body
        self.progress = b"{}"
        self.cancel = False
        self.made_ms = self.at_ms = now_ms
        self.holder = ""
        self.until_ms = 0

    def told(self) -> Task:
        return Task(
            self.id,
            self.kind,
            self.tenant,
            self.key,
            self.lane,
            self.due_ms,
            self.state,
            self.fence,
            self.attempts,
            self.reason,
            load(self.body),
            load(self.progress),
            self.cancel,
            self.made_ms,
        )


class MemoryTasks:
    """See `core.work.Work`. Everything is done in the order of numbers."""

    def __init__(self) -> None:
        self._last = 0
        self._all: dict[int, _Kept] = {}
        self._by_key: dict[tuple[str, str, str], _Kept] = {}
        self._open: dict[str, dict[int, _Kept]] = {kind: {} for kind in KINDS}
        """By kind, those that are not finished, by number."""

    def add(self, tasks: Sequence[NewTask], now_ms: int) -> None:
        bodies = [dump(task.body) for task in tasks]
        last = {task[:3]: number for number, task in enumerate(tasks)}
        for number, (task, body) in enumerate(zip(tasks, bodies, strict=True)):
            if last[task[:3]] == number:
                self._add(task, body, now_ms)

    def _add(self, task: NewTask, body: bytes, now_ms: int) -> None:
        fence = 0
        before = self._by_key.get(task[:3])
        if before is not None:
            if not task.replace:
                return
            self._remove(before)
            fence = before.fence + 1
        self._last += 1
        kept = _Kept(self._last, fence, task, body, now_ms)
        self._all[kept.id] = self._by_key[task[:3]] = self._open[kept.kind][kept.id] = kept

    def _remove(self, kept: _Kept) -> None:
        del self._all[kept.id]
        del self._by_key[kept.kind, kept.tenant, kept.key]
        self._open[kept.kind].pop(kept.id, None)

    def drop(self, keys: Sequence[tuple[str, str, str]], now_ms: int) -> None:
        for key in keys:
            kept = self._by_key.get(key)
            if kept is not None and kept.state in ("waiting", "parked"):
                self._change(kept, "dropped", now_ms)

    def _change(self, kept: _Kept, state: TaskState, now_ms: int) -> None:
        kept.state = state
        kept.at_ms = now_ms
        kept.holder = ""
        kept.until_ms = 0
        if state not in _UNFINISHED:
            del self._open[kept.kind][kept.id]

    def _let_through(self, kind: str) -> Iterator[_Kept]:
        """Those that wait, and whose lane has nothing unfinished before them."""
        seen: set[tuple[str, str]] = set()
        for kept in self._open[kind].values():
            lane = (kept.tenant, kept.lane)
            if kept.state == "waiting" and (not kept.lane or lane not in seen):
                yield kept
            seen.add(lane)

    def claim(self, holder: str, kind: str, limit: int, ttl_ms: int, now_ms: int) -> list[Task]:
        for kept in self._open[kind].values():
            if kept.state == "claimed" and kept.until_ms <= now_ms:
                kept.attempts += 1
                kept.reason = RAN_OUT
                self._change(kept, "waiting", now_ms)
        due = sorted(
            (kept for kept in self._let_through(kind) if kept.due_ms <= now_ms), key=lambda kept: (kept.due_ms, kept.id)
        )
        claimed = due[: max(limit, 0)]
        for kept in claimed:
            self._change(kept, "claimed", now_ms)
            kept.fence += 1
            kept.holder = holder
            kept.until_ms = now_ms + ttl_ms
        return [kept.told() for kept in claimed]

    def leave(self, holder: str, now_ms: int) -> None:
        for tasks in self._open.values():
            for kept in tasks.values():
                if kept.state == "claimed" and kept.holder == holder:
                    self._change(kept, "waiting", now_ms)

    def _claimed(self, task: Task) -> _Kept:
        kept = self._all.get(task.id)
        if kept is None or kept.fence != task.fence or kept.state != "claimed":
            raise Fenced(f"the claim of task {task.id} under fence {task.fence} is over")
        return kept

    def settle(
        self,
        task: Task,
        state: Literal["waiting", "parked", "done"],
        after_ms: int,
        reason: str,
        body: bytes | None,
        failed: bool,
        now_ms: int,
    ) -> None:
        kept = self._claimed(task)
        self._change(kept, state, now_ms)
        if state == "waiting" and after_ms > 0:
            kept.due_ms = now_ms + after_ms
        kept.reason = reason
        kept.attempts = kept.attempts + 1 if failed else 0
        if body is not None:
            kept.body = body

    def pulse(self, task: Task, ttl_ms: int, progress: bytes | None, now_ms: int) -> bool:
        kept = self._claimed(task)
        kept.until_ms = now_ms + ttl_ms
        if progress is not None:
            kept.progress = progress
        return kept.cancel

    def tasks(self, kind: str, tenant: str | None, state: str | None, limit: int, after: int) -> list[Task]:
        found = [
            kept
            for kept in self._all.values()
            if kept.kind == kind
            and kept.id > after
            and (tenant is None or kept.tenant == tenant)
            and (state is None or kept.state == state)
        ]
        return [kept.told() for kept in found[: max(limit, 0)]]

    def task(self, kind: str, tenant: str, key: str) -> Task | None:
        kept = self._by_key.get((kind, tenant, key))
        return None if kept is None else kept.told()

    def next_due_ms(self, kind: str) -> int | None:
        times = [kept.due_ms for kept in self._let_through(kind)]
        times += [kept.until_ms for kept in self._open[kind].values() if kept.state == "claimed"]
        return min(times, default=None)

    def tell(self, id: int, what: Literal["retry", "drop", "cancel"], now_ms: int) -> bool:
        kept = self._all.get(id)
        state = None if kept is None else kept.state
        match what, state:
            case "retry", "parked":
                assert kept is not None
                self._change(kept, "waiting", now_ms)
                kept.due_ms = now_ms
                kept.attempts = 0
            case "drop", "waiting" | "parked":
                assert kept is not None
                self._change(kept, "dropped", now_ms)
            case "cancel", "waiting":
                assert kept is not None
                self._change(kept, "dropped", now_ms)
            case "cancel", "claimed":
                assert kept is not None
                kept.cancel = True
            case _:
                return False
        return True

    def clean(self, before_ms: int, limit: int) -> int:
        over = [kept for kept in self._all.values() if kept.state in ("done", "dropped") and kept.at_ms < before_ms][
            :limit
        ]
        for kept in over:
            self._remove(kept)
        return len(over)
