"""bench.positions: its options choose what is measured, and what it prints is of the windows of bench.moving."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bench import moving, positions
from bench.load import Measured
from bench.stats import Histogram

CPU_S = {"nodes": 0.5, "postgres": 0.25}


def took(value_ns: int) -> dict[str, object]:
    made = Histogram()
    made.record_all([value_ns])
    return made.to_json()


class Windows:
    """In the place of those that are measured: what they find, and what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.refused: dict[str, int] = {}

    def taken(self, cluster: object, numbers: object, fixes: int, *how: Any, depth: int) -> Measured:
        self.asked.append((fixes, *how[:2], depth))
        found = {"fixes": 10_000, "accepted": 10_000, "took": took(3_000_000), "refused": self.refused}
        return Measured(2.0, CPU_S, [found])

    @contextlib.contextmanager
    def watching(self, cluster: object, numbers: object, *how: Any) -> Iterator[Windows]:
        self.asked.append(how[:3])
        yield self

    @contextlib.contextmanager
    def apart(self, cluster: object) -> Iterator[str]:
        self.asked.append(f"{cluster} has a core")
        yield "it has a core"

    def turn(self, seconds: float, *, moving: bool) -> moving.Turn:
        self.asked.append((seconds, moving))
        late = took(9_000_000 if moving else 2_000_000)
        moved = {"told": 700, "shown": took(50_000_000), "took": took(4_000_000), "refused": self.refused}
        return positions.moving.Turn(
            Measured(2.0, CPU_S, [{"acks": late, "deliveries": late}]), moved if moving else None
        )


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = Windows()
    monkeypatch.setattr(moving, "taken", made.taken)
    monkeypatch.setattr(moving, "watching", made.watching)
    monkeypatch.setattr(positions, "readback_cluster", lambda nodes, bus: contextlib.nullcontext("a node"))
    monkeypatch.setattr(positions, "apart", made.apart)
    return made


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr("sys.argv", ["positions", *options])
    positions.main()


def test_ten_fixes_a_message_and_one(
    windows: Windows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fixes a second, of a core and of the node's CPU, are told of each, as is how long answers took."""
    run(monkeypatch, "--seconds", "2")
    assert windows.asked == [(10, 200, 2.0, 4), (1, 200, 2.0, 4)]
    _, ten, one = capsys.readouterr().out.splitlines()
    assert ten.split(":")[0] == " 10 fixes a message, 200 connections x 4"
    for said in ("5000 fixes/s", "50.0 us/fix (25% of a core: 20000 a core)", "25.0 us/fix", "p99    3.0 ms"):
        assert said in ten
        assert said in one


def test_one_kind_alone_on_a_core_of_its_own(
    windows: Windows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was not accepted is told."""
    windows.refused = {"rejected late": 3}
    run(monkeypatch, "--only", "1", "--apart", "--connections", "5", "--depth", "2", "--seconds", "2")
    assert windows.asked == ["a node has a core", (1, 5, 2.0, 2)]
    assert "not all accepted: {'rejected late': 3}" in capsys.readouterr().out


def test_watchers_by_turns(
    windows: Windows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At rest and with movement, as many rounds as are asked for; at the end both over all rounds."""
    run(monkeypatch, "--watchers", "--rounds", "2", "--seconds", "2")
    assert windows.asked == [(1_000, 1_000, 200.0), *[(2.0, False), (2.0, True)] * 2]
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["resting", "moving", "resting", "moving", "all"]
    assert "positions told 700" in lines[1]
    assert "p50   50.0 ms" in lines[1]
    assert lines[-1].endswith("moving p50    9.0 ms  p99    9.0 ms")
    assert "resting p50    2.0 ms" in lines[-1]
