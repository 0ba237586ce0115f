"""core.leases: a node is alive for one lease after it was last heard, and the dead stay dead."""

from __future__ import annotations

import pytest

from core import leases
from core.leases import Leases

LEASE_S = 10.0


def names(peers: list[leases.Peer]) -> list[str]:
    return [peer.node for peer in peers]


def wait(table: Leases, from_s: float, to_s: float) -> list[str]:
    """Look as a node does, again and again; who died meanwhile."""
    dead = []
    now_s = from_s
    while now_s < to_s:
        now_s = min(now_s + 0.5, to_s)
        dead += names(table.expired(now_s))
    return dead


def test_a_lease_runs_from_the_last_heartbeat() -> None:
    """And from no old one that comes again."""
    table = Leases("a", LEASE_S)
    assert table.beat("b", 1, 0.0) is not None
    assert table.beat("b", 2, 4.0) is not None
    assert wait(table, 0.0, 8.0) == []
    assert table.beat("b", 2, 8.0) is None
    assert wait(table, 8.0, 13.5) == []
    assert wait(table, 13.5, 14.0) == ["b"]
    assert table.peers == {}


def test_the_dead_come_back_with_a_newer_heartbeat_only() -> None:
    """Nothing that was late on the way brings them to life."""
    table = Leases("a", LEASE_S)
    table.beat("b", 5, 0.0)
    assert wait(table, 0.0, 10.0) == ["b"]
    assert table.heard("b", 11.0) is None
    assert table.beat("b", 5, 11.0) is None
    back = table.beat("b", 6, 11.0)
    assert back is not None
    assert (back.seen, back.first) == ({}, True)
    assert table.heard("b", 11.0) is back


def test_who_ended_in_order_never_comes_back() -> None:
    """Its successor has another id."""
    table = Leases("a", LEASE_S)
    table.beat("b", 5, 0.0)
    ended = table.ended("b")
    assert ended is not None
    assert ended.node == "b"
    assert table.ended("b") is None
    assert table.ended("c") is None
    for node in "bc":
        assert table.heard(node, 1.0) is None
        assert table.beat(node, 99, 1.0) is None


def test_a_node_that_stood_still_lets_nobody_die_of_it() -> None:
    """Stopped for a minute, it has heard nobody; everybody has the rest of the lease still."""
    table = Leases("a", LEASE_S)
    table.beat("b", 1, 0.0)
    assert wait(table, 0.0, 4.0) == []
    assert table.expired(64.0) == []
    assert wait(table, 64.0, 69.5) == []
    assert wait(table, 69.5, 70.0) == ["b"]


def test_nobody_dies_while_nobody_can_be_heard() -> None:
    """Frozen leases do not run; thawed, each is whole again."""
    table = Leases("a", LEASE_S)
    table.beat("b", 1, 0.0)
    table.freeze()
    assert wait(table, 0.0, 100.0) == []
    table.thaw(100.0)
    assert wait(table, 100.0, 109.5) == []
    assert wait(table, 109.5, 110.0) == ["b"]


def test_peers_and_the_dead_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more node than a cell can have is not known; of the dead the longest dead is forgotten."""
    monkeypatch.setattr(leases, "PEERS_MAX", 2)
    monkeypatch.setattr(leases, "GONE_MAX", 2)
    table = Leases("a", LEASE_S)
    assert table.heard("b", 0.0) is not None
    assert table.heard("c", 0.0) is not None
    assert table.heard("d", 0.0) is None
    assert table.beat("d", 1, 0.0) is None
    for node in "bcd":
        table.ended(node)
    assert table.heard("b", 0.0) is not None
    assert table.heard("c", 0.0) is None
