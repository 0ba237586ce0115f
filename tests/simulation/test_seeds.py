"""Whole clusters under faults, from seeds. Here a few of each size; `make seeds` lives 2,000 small and 40 large ones, and
`make test-long` a hundred thousand."""

from __future__ import annotations

import pytest

from proof.sim.many import Outcome, Task, many, outcome
from proof.sim.swarm import Size

MOVES = ("Kept", "Position-order", "Quarantine", "Last-place", "Alert-once", "Alert-comes", "Trip-fold")


def held(result: Outcome) -> None:
    assert result.ok, f"{result.why}\nto see it again: {result.task.command()}\n{result.failure}"


@pytest.mark.parametrize("size", ["small", "large", "short"])
def test_every_guarantee_holds(size: Size) -> None:
    """Whatever the seed has it, a run keeps every promise, and leaves something to judge for each that it can show."""
    judged: dict[str, int] = {}
    for result in many((Task(seed, size) for seed in range(2 if size == "large" else 20)), 1):
        held(result)
        for name, count in result.judged.items():
            judged[name] = judged.get(name, 0) + count
    unseen = {name for name, count in judged.items() if not count}
    # A link to a store cannot be poisoned where there is none (tests/faults does that); few worlds have sagas, boards or
    # trips (below); in a short run nobody comes back.
    rare = {"No-poison", "Whole-sagas", "Boards-converge", *MOVES}
    assert unseen <= rare | ({"Auth-fresh", "Resumable"} if size == "short" else set())


@pytest.mark.parametrize(("seed", "guarantee"), [(5, "Whole-sagas"), (28, "Boards-converge")])
def test_worlds_with_sagas_and_boards(seed: int, guarantee: str) -> None:
    """What few worlds have is there in these, and holds."""
    result = outcome(Task(seed, "small"))
    held(result)
    assert result.judged[guarantee] > 0


@pytest.mark.parametrize("seed", [55, 110])
def test_worlds_with_trips(seed: int) -> None:
    """A device drives, others watch it, and each promise about that has something to be judged by."""
    result = outcome(Task(seed, "small"))
    held(result)
    assert {name for name in MOVES if not result.judged[name]} == set()
    assert result.meters["trip completed"]


def test_a_node_that_crashes_at_any_of_its_checkpoints_loses_nothing() -> None:
    """The first node of a short run crashes before its first step, its second, its third … (each 7th; `make seeds`: all)."""
    whole = outcome(Task(0, "short"))
    held(whole)
    assert whole.steps > 100
    for at in range(1, whole.steps + 1, 7):
        result = outcome(Task(0, "short", at))
        held(result)
        assert result.meters["node crashed"] == 1
