"""Trio made deterministic, and its tasks held where a process would stand still. All of Trio's privates used are used here.

What is private, and why there is no other way (Trio is pinned in constraints.txt; `fits` says whether this one will do):

* ``_run._ALLOW_DETERMINISTIC_SCHEDULING`` and ``_run._r``: with the switch, each batch of runnable tasks is put in the
  order of their making and then shuffled by that generator, which the seed sets. Without it the order is chance.
* ``runner.runq``: the queue of runnable tasks. Ours keeps those of a node that is paused (SIGSTOP, a stolen CPU) aside until
  it goes on. Timers of a paused node run out meanwhile, as they do for a stopped process.

Which node a task is of is a context variable: what a task starts is of the same node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import trio
from trio._core import _run

NODE: Final[ContextVar[str]] = ContextVar("node", default="")
"""Of whom the running task is: a node's name, or empty for clients and the world."""


def fits() -> str | None:
    """Why this Trio cannot be made deterministic, or ``None``."""
    for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT"):
        if not hasattr(_run, name):
            return f"trio {trio.__version__} has no {name}: use the version of constraints.txt"
    return None


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Runs begun inside schedule as ``seed`` has it."""
    why_not = fits()
    if why_not is not None:
        raise RuntimeError(why_not)
    private: Any = _run
    before, state = private._ALLOW_DETERMINISTIC_SCHEDULING, private._r.getstate()
    private._ALLOW_DETERMINISTIC_SCHEDULING = True
    private._r.seed(seed)
    try:
        yield
    finally:
        private._ALLOW_DETERMINISTIC_SCHEDULING = before
        private._r.setstate(state)


class _RunQueue(deque[trio.lowlevel.Task]):
    """Runnable tasks, less those of paused nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, list[trio.lowlevel.Task]] = {}

    def append(self, task: trio.lowlevel.Task) -> None:
        if self.held:
            held = self.held.get(task.context.get(NODE, ""))
            if held is not None:
                held.append(task)
                return
        super().append(task)


class Scheduler:
    """Of the Trio run in which it is made."""

    def __init__(self) -> None:
        runner: Any = _run.GLOBAL_RUN_CONTEXT.runner
        self._queue = _RunQueue()
        self._queue.extend(runner.runq)
        runner.runq = self._queue

    def pause(self, node: str) -> None:
        """No task of the node runs any more, from the next step of each on. Idempotent."""
        self._queue.held.setdefault(node, [])

    def is_paused(self, node: str) -> bool:
        return node in self._queue.held

    def go_on(self, node: str) -> None:
        """What became runnable meanwhile runs, in the order in which it became so. Idempotent."""
        self._queue.extend(self._queue.held.pop(node, ()))


class Steps(trio.abc.Instrument):
    """Counts the steps of a node's tasks, from checkpoint to checkpoint, and calls at the chosen one, before it is taken."""

    def __init__(self, node: str, at: int | None, call: Callable[[], None]) -> None:
        self._node = node
        self._at = at
        self._call = call
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.context.get(NODE, "") == self._node:
            self.count += 1
            if self.count == self._at:
                self._call()
