"""Long jobs: what takes minutes or for ever, done in slices, so that a worker that ends costs one slice and no more.

A job's body says which (``job``) and where it is (``at``, its cursor). A slice is what is done under one claim; after it the
cursor is written and the job is due again at once. Within a slice it says after each step how far it is (`Hold.pulse`), which
keeps the claim, and hears whether an operator wants it to stop (`readback jobs cancel`): then it does, at its cursor, and is
done with that as its reason.

Here: ``clean``, which every worker makes sure is there and which comes again for ever: tasks that were done
`WorkLimits.keep_done_s` ago, and rows of read models gone since, are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import trio

from core.work import NewTask, Task, Work
from core.work_limits import WorkLimits
from gateway.work.ports import Hold, Outcome

KIND: Final = "long"
TENANT: Final = "readback.operator"
"""Whose the jobs are that are nobody's: no tenant's, as tenants are named in tokens that operators issue."""
SLICE_S: Final = 10.0
CLEAN: Final = "clean"
CLEAN_EVERY_S: Final = 3_600.0
CLEAN_AT_ONCE: Final = 1_000


class Step(NamedTuple):
    """``at`` is the cursor after it, ``progress`` for people. ``again_s``: done for now, and to come again so much later."""

    at: Any
    progress: Mapping[str, Any]
    finished: bool
    again_s: float | None = None


class LongJob(Protocol):
    async def step(self, task: Task, at: Any) -> Step:
        """A second's work or so from the cursor on (``None`` at the start); done twice, it is the same."""
        ...


class LongRunner:
    kind = KIND

    def __init__(self, jobs: Mapping[str, LongJob], now_s: Callable[[], float] = trio.current_time) -> None:
        self._jobs = jobs
        self._now_s = now_s

    async def run(self, task: Task, hold: Hold) -> Outcome:
        name = task.body.get("job")
        job = self._jobs.get(name) if isinstance(name, str) else None
        if job is None:
            known = ", ".join(sorted(self._jobs))
            return Outcome("parked", f"there is no long job {name!r}; there are {known}")
        at, until_s = task.body.get("at"), self._now_s() + SLICE_S
        stop = task.cancel
        while not stop:
            step = await job.step(task, at)
            at, body = step.at, {**task.body, "at": step.at}
            stop = await hold.pulse(step.progress)
            if step.finished:
                return Outcome("done", body=body)
            if step.again_s is not None and not stop:
                return Outcome("waiting", after_s=step.again_s, body=body)
            if self._now_s() >= until_s and not stop:
                return Outcome("waiting", after_s=0.0, body=body)
        return Outcome("done", "stopped by an operator", body={**task.body, "at": at})


class Clean:
    """Counts, as its cursor, what it has deleted since it was made."""

    def __init__(self, work: Work, limits: WorkLimits, wall: Callable[[], float]) -> None:
        self._work = work
        self._limits = limits
        self._wall = wall

    async def step(self, task: Task, at: Any) -> Step:
        before_ms = int(1000 * (self._wall() - self._limits.keep_done_s))
        count = await self._work.clean(before_ms, CLEAN_AT_ONCE)
        done = (at or 0) + count
        return Step(done, {"deleted": done}, False, None if count >= CLEAN_AT_ONCE else CLEAN_EVERY_S)


def standing_task(job: str, now_ms: int) -> NewTask:
    """Of a job that comes again for ever: one in an installation, however many workers ask for it."""
    return NewTask(KIND, TENANT, job, now_ms, {"job": job})
