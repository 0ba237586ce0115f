"""The tasks of a worker: those that are due are claimed, run side by side, and settled under their claim's fence.

Each kind has its own bound on how many run here (a bulkhead), so that one that hangs takes no other's room. What fails for
a while is tried again, later each time; what fails for good, or too often, is parked with its reason for an operator
(`readback dlq`), and stops its lane and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trio

from core.ports import StoreError, Unavailable
from core.work import Fenced, NewTask, Task
from gateway.work.ports import Outcome, Runner, Transient
from store.work_input import RAN_OUT, storable

if TYPE_CHECKING:
    from gateway.work.worker import Worker

log = logging.getLogger("readback.work")

REASON_MAX = 500
TIMER = "timer"
RAN_OUT_MAX = 10
"""Claims of one task that may run out before it is no longer tried: whatever takes a worker with it must not take all."""
APART_S = 0.02
"""Between looks at what is due by this clock and not by the store's yet."""


class _Kind:
    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.wake = trio.Event()
        self.running = 0
        self.done = 0
        """What became of those that ran here, steps that went well of what goes on left out."""
        self.retried = 0
        self.parked = 0


class Tasks:
    """Of one worker."""

    def __init__(self, worker: Worker, runners: Sequence[Runner]) -> None:
        self._worker = worker
        self.kinds = {runner.kind: _Kind(runner) for runner in runners}
        self._stopped = trio.CancelScope()

    def heard(self, tasks: Sequence[NewTask]) -> None:
        """These were added, most likely: look for what is due."""
        for task in tasks:
            kind = self.kinds.get(task.kind)
            if kind is not None:
                kind.wake.set()

    def stop(self) -> None:
        """No more is claimed, and what runs is left as it is."""
        self._stopped.cancel()

    async def run(self) -> None:
        with self._stopped:
            async with trio.open_nursery() as nursery:
                for kind in self.kinds.values():
                    nursery.start_soon(self._run_kind, kind, nursery)

    async def _run_kind(self, kind: _Kind, nursery: trio.Nursery) -> None:
        worker, limits = self._worker, self._worker.limits
        while True:
            kind.wake = trio.Event()
            room = min(limits.claim_tasks, limits.running_tasks_max - kind.running)
            claimed: list[Task] = []
            wait_s = limits.task_look_s
            try:
                if room > 0:
                    ttl_ms = int(1000 * (limits.timer_s if kind.runner.kind == TIMER else limits.task_s))
                    claimed = await worker.work.claim(worker.holder, kind.runner.kind, room, ttl_ms)
                    if not claimed:
                        due_ms = await worker.work.next_due_ms(kind.runner.kind)
                        if due_ms is not None:
                            due_s = due_ms / 1000.0 - worker.wall()
                            # Due by our clock, and none was given: the store's is behind ours.
                            wait_s = min(wait_s, due_s if due_s > 0 else APART_S)
            except Unavailable as error:
                worker.failed(error)
            else:
                worker.answered()
            for task in claimed:
                kind.running += 1
                nursery.start_soon(self._run_one, kind, task)
            if not claimed or kind.running >= limits.running_tasks_max:
                with trio.move_on_after(wait_s):
                    await kind.wake.wait()

    async def _run_one(self, kind: _Kind, task: Task) -> None:
        try:
            outcome = await self._outcome(kind, task)
            if outcome is not None:
                await self._settle(kind, task, outcome)
        finally:
            kind.running -= 1
            kind.wake.set()

    async def _outcome(self, kind: _Kind, task: Task) -> Outcome | None:
        """``None``: somebody else has it."""
        if task.reason == RAN_OUT and task.attempts >= RAN_OUT_MAX:
            return Outcome(
                "parked", f"its claim ran out {task.attempts} times in a row: it may be what ends its workers"
            )
        try:
            return await kind.runner.run(task, _Hold(self._worker, task))
        except Fenced:
            return None
        except (StoreError, Transient) as error:
            tries_max = error.tries_max if isinstance(error, Transient) else None
            if tries_max is not None and task.attempts + 1 >= tries_max:
                return Outcome("parked", f"given up after {task.attempts + 1} attempts: {error}"[:REASON_MAX])
            retry_after_s = error.retry_after_s if isinstance(error, (Transient, Unavailable)) else None
            after_s = max(self._backoff_s(task.attempts), retry_after_s or 0.0)
            return Outcome("waiting", str(error)[:REASON_MAX], after_s)
        except Exception as error:
            log.exception("a task of kind %s of tenant %s cannot be done: %s", task.kind, task.tenant, task.key)
            return Outcome("parked", f"{type(error).__name__}: {error}"[:REASON_MAX])

    def _backoff_s(self, attempts: int) -> float:
        limits = self._worker.limits
        wait_s = min(limits.retry_first_s * 2.0 ** min(attempts, 30), limits.retry_max_s)
        return wait_s * (0.5 + self._worker.rng.random())

    async def _settle(self, kind: _Kind, task: Task, outcome: Outcome) -> None:
        """As often as it takes: else the claim runs out, and it is done again for nothing."""
        worker = self._worker
        failed = outcome.state == "parked" or (outcome.state == "waiting" and bool(outcome.reason))
        after_s = outcome.after_s if outcome.after_s is not None else self._backoff_s(task.attempts)
        for attempt in range(4):
            try:
                await worker.work.settle(
                    task,
                    state=outcome.state,
                    after_ms=round(1000 * after_s),
                    reason=storable(outcome.reason),
                    body=outcome.body,
                    tasks=outcome.tasks,
                    failed=failed,
                )
            except Fenced:
                return
            except Unavailable as error:
                worker.failed(error)
                await trio.sleep(self._backoff_s(attempt))
                continue
            if outcome.state == "done":
                kind.done += 1
            elif outcome.state == "parked":
                kind.parked += 1
            elif failed:
                kind.retried += 1
            self.heard(outcome.tasks)
            return


class _Hold:
    def __init__(self, worker: Worker, task: Task) -> None:
        self._worker = worker
        self._task = task

    async def pulse(self, progress: Mapping[str, Any] | None = None) -> bool:
        return await self._worker.work.pulse(self._task, int(1000 * self._worker.limits.task_s), progress)
