"""Cores apart: what stands for a node, a database and clients on machines of their own, where there are two cores for all.

A kernel that preempts only at its ticks (4 ms apart at 250 Hz) lets a backend of Postgres that was woken wait behind whatever
runs on its core, the node and the generators too: `perf sched` saw 3 ms. On shared cores a chat's p99 says much about that, and
little about the node.

`apart`: the node has the first core alone. On the others Postgres goes before everything else (real-time priority, where that
is allowed). Generators that stand for clients elsewhere run when nobody else would (`bench.gen.moving`, always).

Promises: all is as it was afterwards. Does not: move processes that begin later, other than children of those that are there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from bench import proc
from bench.node import Cluster

PRIORITY = 10


@contextlib.contextmanager
def apart(cluster: Cluster) -> Iterator[str]:
    """How it was done, in words. With a single core nothing is moved."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        yield "one core for all: nothing is apart"
        return
    postgres = cluster.postgres_pid
    assert postgres is not None, "a cluster has a Postgres"
    try:
        _place([cluster.pid], cores[:1])
        _place([pid for pid in proc.tree(os.getpid()) if pid != cluster.pid], cores[1:])
        first = _schedule(proc.tree(postgres), os.SCHED_FIFO, PRIORITY)
        place = f"the node on core {cores[0]}, all else on {len(cores) - 1} more"
        yield f"{place}, Postgres first there" if first else f"{place}, Postgres without priority (not allowed)"
    finally:
        _schedule(proc.tree(postgres), os.SCHED_OTHER, 0)
        _place(proc.tree(os.getpid()), cores)


def _place(pids: Iterable[int], cores: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, cores)


def _schedule(pids: Iterable[int], policy: int, priority: int) -> bool:
    for pid in pids:
        try:
            os.sched_setscheduler(pid, policy, os.sched_param(priority))
        except ProcessLookupError:
            continue
        except PermissionError:
            return False
    return True
