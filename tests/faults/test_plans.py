"""A seed names a plan, and the ten seeds of `make test-faults` have all kinds of trouble in them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from tests.faults.plans import KINDS, Trouble, draw

NODES = "abc"
PEOPLE = [f"p{number}" for number in range(12)]
SEEDS = range(1, 11)


def plan(seed: int, length_s: float = 30.0) -> list[Trouble]:
    return draw(seed, length_s, NODES, PEOPLE)


def overlap(one: Trouble, other: Trouble) -> bool:
    return one.at_s < other.at_s + other.for_s and other.at_s < one.at_s + one.for_s


def test_the_same_seed_draws_the_same_plan() -> None:
    """And another seed another one."""
    assert plan(1) == plan(1)
    assert len({tuple(plan(seed)) for seed in range(100)}) == 100


def test_ten_seeds_have_everything_several_times() -> None:
    """Each kind at least once a seed and a half, on each node, and much of it at the same time as something else."""
    kinds = Counter(trouble.kind for seed in SEEDS for trouble in plan(seed))
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 7, kinds
    ended = {trouble.on[0] for seed in SEEDS for trouble in plan(seed) if trouble.kind == "node killed"}
    assert ended == set(NODES)
    assert all(any(overlap(*pair) for pair in combinations(plan(seed), 2)) for seed in SEEDS)


def test_nothing_is_in_two_troubles_of_a_sort_at_once() -> None:
    """A node that is down is not killed again, and all is over when the run is."""
    for seed in range(100):
        for one, other in combinations(plan(seed), 2):
            if KINDS[one.kind].on == KINDS[other.kind].on and set(one.on) & set(other.on):
                assert not overlap(one, other), (seed, one, other)
        assert all(trouble.at_s + trouble.for_s <= 30.0 + 1e-3 for trouble in plan(seed))


def test_what_cannot_be_had_is_left_out() -> None:
    """Without a small disk there is no full one."""
    assert "disk full" not in {trouble.kind for trouble in draw(1, 60.0, NODES, PEOPLE, without=["disk full"])}
