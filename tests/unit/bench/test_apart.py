"""bench.apart: while it lasts a node has a core alone, and afterwards everything is where it was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bench.apart import apart


@contextmanager
def processes(count: int) -> Iterator[list[int]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(count)]
    try:
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()


def where(pids: list[int]) -> list[set[int]]:
    return [os.sched_getaffinity(pid) for pid in pids]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core for all")
def test_the_node_has_a_core_alone_while_it_lasts() -> None:
    """Postgres goes first on the others where that is allowed, and the words say whether it does."""
    cores = os.sched_getaffinity(0)
    with processes(3) as pids:
        node, postgres, load = pids
        cluster: Any = SimpleNamespace(pid=node, postgres_pid=postgres)
        with apart(cluster) as how:
            assert where(pids) == [{min(cores)}, *[cores - {min(cores)}] * 2]
            assert os.sched_getaffinity(0) == cores - {min(cores)}
            first = os.sched_getscheduler(postgres) == os.SCHED_FIFO
            assert how.endswith("Postgres first there" if first else "(not allowed)")
            assert [os.sched_getscheduler(pid) for pid in (node, load)] == [os.SCHED_OTHER] * 2
        assert where([*pids, os.getpid()]) == [cores] * 4
        assert os.sched_getscheduler(postgres) == os.SCHED_OTHER


def test_what_is_not_allowed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores can be apart without priorities."""

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    with apart(SimpleNamespace(pid=1, postgres_pid=os.getpid())) as how:  # type: ignore[arg-type]
        assert how == "the node on core 0, all else on 2 more, Postgres without priority (not allowed)"


def test_of_one_core_nothing_is_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it says so."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    with apart(SimpleNamespace(pid=1, postgres_pid=1)) as how:  # type: ignore[arg-type]
        assert how == "one core for all: nothing is apart"
