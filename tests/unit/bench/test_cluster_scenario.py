"""bench.scenarios.cluster: what is claimed of several nodes follows from what was measured, and from nothing else."""

from __future__ import annotations

import pytest

from bench.model import PeerResult
from bench.scenarios.cluster import ADDED, DOUBLED, carries, nodes_of, targets
from bench.stats import Spread


def measured(added_ms: float, doubled: float, unanswered: int = 0) -> list[PeerResult]:
    peers = [PeerResult(nodes_of(count), counts={"sends never answered": unanswered}) for count in (1, 2, 3, 4)]
    for one in peers[1:]:
        one.values[ADDED] = Spread(added_ms, 0.0, 9.0, 3)
    peers[3].values[DOUBLED] = Spread(doubled, 1.0, 3.0, 3)
    return peers


def test_nodes_that_cost_the_same_a_delivery_carry_twice_as_much() -> None:
    """And those that cost a quarter more carry 1.6 times as much."""
    assert carries(4, 8.0) / carries(2, 8.0) == 2.0
    assert carries(4, 10.0) / carries(2, 8.0) == pytest.approx(1.6)
    assert carries(1, 10.0) == 100_000


def test_a_run_that_reaches_everything_meets_every_target() -> None:
    """One for each arrangement of several nodes, one for capacity, one for sends."""
    found = targets(measured(1.5, 1.7))
    assert [one.met for one in found] == [True] * 5


def test_every_target_can_be_missed() -> None:
    """A bound that cannot fail promises nothing."""
    found = targets(measured(1.6, 1.69, unanswered=1))
    assert [one.met for one in found] == [False] * 5
