"""Does the simulator bite? Each planted error, and the first seed that finds it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proof.sim.many import IN_HAND, Outcome, Task, many
from proof.sim.many import outcome as one
from proof.sim.mutants import Mutant
from proof.sim.swarm import draw

SEEDS_MAX = 2_000
"""Within so many a mutant must be found."""


@dataclass(frozen=True, slots=True)
class Bite:
    mutant: Mutant
    found: Outcome | None
    """The first outcome that was wrong; None: none was."""
    runs: int

    @property
    def by(self) -> str:
        """What found it, in words."""
        if self.found is None:
            return f"not found in {self.runs} seeds"
        return ", ".join(self.found.guarantees) or "the run itself failed"


def bites(mutants: Iterable[Mutant], jobs: int, seeds_max: int = SEEDS_MAX) -> Iterator[Bite]:
    """One after the other, each from seed 0 on until it is found."""
    for mutant in mutants:
        found, runs = None, 0
        # Few at first, in this process: most are found by one of the first seeds, and a pool takes a second to start.
        seeds = [seed for seed in range(seeds_max) if not mutant.needs or getattr(draw(seed), mutant.needs)]
        near = IN_HAND * jobs
        outcomes = itertools.chain(
            many((Task(seed, mutant=mutant.name) for seed in seeds[:near]), 1),
            many((Task(seed, mutant=mutant.name) for seed in seeds[near:]), jobs),
        )
        for outcome in outcomes:
            runs += 1
            if not outcome.ok and one(Task(outcome.task.seed)).ok:  # a seed that fails by itself finds nothing
                found = outcome
                break
        yield Bite(mutant, found, runs)
