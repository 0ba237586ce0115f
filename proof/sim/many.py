"""Many seeds, in several processes, and what became of each; a failing one is shrunk to as little as still fails."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from proof.sim import mutants
from proof.sim.run import Lived, judge, live
from proof.sim.swarm import Size, draw, reduced

SWEEP_EVERY = 5
"""Runs between two collections: some 20 MB."""
IN_HAND = 4
"""Tasks given out ahead, a process: enough to keep it busy, few enough to stop soon."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run. ``changes`` as `proof.sim.swarm.reduced` takes them; ``mutant``: planted for its length."""

    seed: int
    size: Size = "small"
    crash_at: int | None = None
    mutant: str = ""
    changes: Mapping[str, object] = field(default_factory=dict)

    def command(self) -> str:
        """What repeats it."""
        words = [f"readback sim --seed {self.seed}"]
        if self.size != "small":
            words.append(f"--size {self.size}")
        if self.crash_at is not None:
            words.append(f"--crash-at {self.crash_at}")
        if self.mutant:
            words.append(f"--mutant {self.mutant}")
        for name, value in self.changes.items():
            if name == "without":
                assert isinstance(value, tuple)
                words.append(f"--without {','.join(value)}")
            else:
                words.append(f"--set {name}={value}")
        return " ".join(words)


@dataclass(slots=True)
class Outcome:
    """Of a task; small enough to be sent between processes."""

    task: Task
    swarm: str
    digest: str
    records: int
    steps: int
    simulated_s: float
    cpu_s: float
    """Of this process: living it, judging it, and sweeping up."""
    findings: list[str]
    guarantees: list[str]
    meters: dict[str, int]
    judged: dict[str, int]
    failure: str = ""

    @property
    def ok(self) -> bool:
        return not self.findings and not self.failure

    @property
    def why(self) -> str:
        """The first thing that is wrong, in one line."""
        if self.failure:
            return f"the run itself failed: {self.failure.strip().splitlines()[-1].strip(' |+-')}"
        return self.findings[0] if self.findings else ""


def live_task(task: Task, say: Callable[[str], object] | None = None) -> Lived:
    swarm = reduced(draw(task.seed, task.size), task.changes)
    with mutants.planted(task.mutant):
        return judge(live(swarm, say, task.crash_at))


def outcome(task: Task) -> Outcome:
    """Live and judge it, in this process."""
    began_s = time.process_time()
    lived = live_task(task)
    failure = "" if lived.failure is None else "".join(traceback.format_exception(lived.failure))
    _sweep()
    return Outcome(
        task,
        str(lived.swarm),
        lived.digest,
        len(lived.records),
        lived.steps,
        lived.simulated_s,
        time.process_time() - began_s,
        lived.findings[:20],
        lived.guarantees,
        dict(lived.meters),
        lived.judged,
        failure,
    )


_lived = 0


def _sweep() -> None:
    """A run leaves cycles behind, and no collection runs amid one."""
    global _lived
    _lived += 1
    if _lived % SWEEP_EVERY == 0:
        gc.collect()


def _begin() -> None:
    """In a process for nothing else: what was imported is not walked again and again."""
    gc.collect()
    gc.freeze()


def many(tasks: Iterable[Task], jobs: int) -> Iterator[Outcome]:
    """Outcomes in the order of the tasks. Close it to stop early."""
    if jobs == 1:
        yield from map(outcome, tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin) as pool:
        waiting: list[concurrent.futures.Future[Outcome]] = []
        try:
            for task in tasks:
                waiting.append(pool.submit(outcome, task))
                if len(waiting) >= jobs * IN_HAND:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def shrink(task: Task, say: Callable[[str], object] = lambda text: None) -> Task:
    """As little of the task as still breaks one of the same guarantees (or fails at all, where the run itself failed).

    Takes away one trouble after the other, then what is odd about links and clients, then clients, nodes, tenants, time;
    what no longer fails without something keeps it.
    """
    first = outcome(task)
    assert not first.ok, "it does not fail"
    wanted = set(first.guarantees)

    def fails(changes: Mapping[str, object]) -> bool:
        tried = outcome(Task(task.seed, task.size, task.crash_at, task.mutant, changes))
        same = bool(tried.failure) if first.failure else bool(wanted & set(tried.guarantees))
        if same:
            say(Task(task.seed, task.size, task.crash_at, task.mutant, changes).command())
        return same

    changes: dict[str, object] = dict(task.changes)
    swarm = reduced(draw(task.seed, task.size), changes)
    for trouble in swarm.troubles:
        without = (*changes.get("without", ()), trouble)  # type: ignore[misc]  # a tuple of names
        if fails({**changes, "without": without}):
            changes["without"] = without
    plain: dict[str, object] = {
        "newer_clients": 0.0, "slow_readers": 0.0, "short_tokens": 0.0, "loiterers": 0.0, "liars": 0.0, "thieves": 0.0,
        "partial": 0.0, "tenants": 1, "lanes": 1, "partitions": 1, "gather_ports_max": 64,
    }  # fmt: skip
    for name, value in plain.items():
        if getattr(swarm, name) != value and fails({**changes, name: value}):
            changes[name] = value
    for name, least in (("clients", 1), ("nodes", 1)):
        for count in range(least, getattr(swarm, name)):
            if fails({**changes, name: count}):
                changes[name] = count
                break
    for troubled_s in (0.5, 1.0, 2.0, 4.0, 8.0):
        if troubled_s < swarm.troubled_s and fails({**changes, "troubled_s": troubled_s}):
            changes["troubled_s"] = troubled_s
            break
    return Task(task.seed, task.size, task.crash_at, task.mutant, changes)
