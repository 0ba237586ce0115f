"""The same seed is the same run: in another process, with other hashes of strings, after other runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from proof.sim.many import Task, outcome

SCRIPT = """
import json, sys
from proof.sim.many import Task, outcome
tasks = [Task(seed, size, at) for seed, size, at in json.loads(sys.argv[1])]
print(json.dumps([outcome(task).digest for task in tasks]))
"""
RUNS: list[tuple[int, str, int | None]] = [
    *((seed, "small", None) for seed in range(12)),
    (55, "small", None),  # with a trip
    (72, "small", None),
    (3, "short", None),
    (3, "short", 57),
    (1, "large", None),
]


def digests(hash_seed: str, runs: list[tuple[int, str, int | None]]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(runs)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    told: list[str] = json.loads(done.stdout)
    return told


def test_the_same_seed_gives_the_same_trace_in_any_process() -> None:
    """Two processes, two PYTHONHASHSEEDs, one of them in the other order: the same hash of everything that happened."""
    assert digests("1", RUNS) == digests("77", RUNS[::-1])[::-1]


@pytest.mark.parametrize("size", ["small", "short"])
def test_another_seed_is_another_run(size: str) -> None:
    """Else the seeds would prove nothing."""
    traces = {outcome(Task(seed, size)).digest for seed in range(5)}  # type: ignore[arg-type]
    assert len(traces) == 5
