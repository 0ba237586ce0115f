"""bench.scenarios.flights: its parts become one result with every target of the issue, each of which can be missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import as_of, board, cli, commands, model, plots, projection
from bench.load import LoadError
from bench.model import Result
from bench.scenarios import flights
from bench.scenarios.common import Context
from store.measure_work import LATER_MS, claims_beside
from store.memory import MemoryLog
from store.memory_work import MemoryWork


class Parts:
    """In the place of the measures, what they would find on a machine ``slow`` times as slow; and what they were asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slow: float) -> None:
        self.slow = slow
        self.asked: list[Any] = []
        monkeypatch.setattr(board, "measure", self.board)
        monkeypatch.setattr(commands, "measure", self.commands)
        monkeypatch.setattr(projection, "measure", self.projection)
        monkeypatch.setattr(as_of, "measure", self.past)
        monkeypatch.setattr(flights, "_claimed", self.claimed)

    def board(self, rate: float, seconds: float, *, apart: bool) -> board.Shown:
        self.asked.append("apart" if apart else "in the node")
        return board.Shown([10.0 * self.slow] * 30, [2.0 * self.slow] * 30, 1)

    def commands(self, shape: commands.Shape, say: object) -> dict[str, commands.Figures]:
        self.asked.append(shape)
        found = {}
        for op in commands.OPS:
            found[op] = commands.Figures([6_000 / self.slow], [50.0], [30.0], [0.5], half_rates=[3_000.0])
            found[op].half.record_all([round(15e6 * self.slow)] * 2_000)
            found[op].refused = 0 if self.slow == 1 else 1
        return found

    async def projection(self, events: int) -> dict[str, float]:
        self.asked.append(events)
        rates = dict.fromkeys(("projected_per_s", "rebuilt_per_s", "rebuilt_board_per_s"), 40000 / self.slow)
        costs = {f"{what}{whose}_us": 9.0 for what in ("projected", "rebuilt") for whose in ("", "_postgres")}
        return {"events": events, "rows": 9, "held_ms": 5.0, **rates, **costs}

    def past(self, events: int, rounds: int, nodes: int = 1) -> dict[str, list[float]]:
        self.asked.append((events, nodes))
        return {as_of.HTTP_FIRST: [12.0 * self.slow] * 300, as_of.HTTP_AGAIN: [1.0] * 900, "direct, first": [0.5] * 20}

    async def claimed(self, tally: object, waiting: int) -> list[float]:
        self.asked.append(waiting)
        return [2.0, 2.0 * self.slow]


def ran(monkeypatch: pytest.MonkeyPatch, slow: float, rounds: int = 2) -> tuple[Result, list[Any]]:
    parts = Parts(monkeypatch, slow)
    return flights.run(Context(rounds=rounds)), parts.asked


def test_a_machine_that_is_fast_enough_meets_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of them: commands, projection, rebuilds, both ways to the board, the past, claims."""
    found, _ = ran(monkeypatch, 1.0)
    assert [(one.name, one.met) for one in found.targets if not one.met] == []
    assert len(found.targets) == 10


def test_every_target_can_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that cannot fail promises nothing."""
    found, _ = ran(monkeypatch, 3.0)
    assert [one.name for one in found.targets if one.met] == []


def test_parts_take_turns_and_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part once a round, the worker's two places first this way and then that; samples and counts of all rounds."""
    found, asked = ran(monkeypatch, 1.0)
    shape = commands.Shape(6.0, 1, 400, 20, 800)
    rest = [shape, 100_000, (1_000, 2), 1_000_000]
    assert asked == ["in the node", "apart", *rest, "apart", "in the node", *rest]
    (ours,) = found.peers
    assert (ours.peer, ours.durable, found.scenario) == ("readback", True, "flights")
    assert ours.rates["commands/s, saturated"].runs == 2
    assert ours.latency_us["command to row at a subscriber, the worker apart, over Redis"].count == 60
    assert ours.counts["rows overtaken or not come, the worker in the node"] == 2
    assert ours.counts["commands and sends refused or never answered"] == 0
    assert ours.values["load average of five minutes, when a round ended"].runs == 2
    assert "no peers" in found.notes[0]


def test_the_slower_of_first_and_later_questions_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many quick answers do not hide the first ones, which are slow."""
    found, _ = ran(monkeypatch, 1.0)
    past = next(one for one in found.targets if one.name.startswith("as-of"))
    assert past.measured == pytest.approx(12.0, rel=0.01)


def test_the_picture_is_of_the_way_to_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each place of the worker; the other latencies are in the table."""
    found, _ = ran(monkeypatch, 1.0)
    figure = plots._latency(found)
    assert figure is not None
    lines = [line.get_label() for line in figure.axes[0].get_lines()]
    assert lines == [f"{flights.TO_ROW}, {where}" for where in (flights.IN_NODE, flights.APART)]


async def test_claims_are_beside_exactly_so_many() -> None:
    """What waits already is not added again; what was claimed is settled, so that nothing due is left."""
    log = MemoryLog(now_ms=lambda: 1_000, new_key=lambda: "key", partitions=1)
    work = MemoryWork(log, lambda: 1_000)
    few = await claims_beside(work, 0, 20, 4, 5)
    many = await claims_beside(work, 20, 60, 4, 5)
    assert (few.waiting, many.waiting) == (20, 60)
    assert (len(few.claims_ms), len(many.claims_ms)) == (4, 4)
    waiting = await work.tasks("timer", state="waiting", limit=1_000)
    assert len(waiting) == 60
    assert await work.next_due_ms("timer") == LATER_MS
    assert len(await work.tasks("timer", state="done", limit=1_000)) == 2 * (3 + 4) * 5


@pytest.mark.parametrize(
    ("refused", "began", "rows", "said"),
    [
        (["flight:QX1 is not scheduled"], True, 100, "commands were refused: flight:QX1"),
        ([], False, 0, "0 of 200 flights had a row"),
        ([], True, board.WARM, "40 commands after that"),
    ],
)
def test_a_board_that_shows_nothing_is_not_measured(refused: list[str], began: bool, rows: int, said: str) -> None:
    """In words that say what was missing, as for any server that could not be measured."""
    clients = board._Clients(100.0, 1.0)
    clients.refused, clients.began, clients.taken = refused, began, [1.0] * rows
    with pytest.raises(LoadError, match=said):
        board.shown(clients)


@pytest.mark.slow
def test_a_quick_run_measures_every_part(tmp_path: Path) -> None:
    """Real nodes, a worker in one and one apart, Postgres and Redis: everything was answered, and everything has a figure."""
    path = tmp_path / "flights.json"
    made = CliRunner().invoke(cli.app, ["flights", "--flights", "8", "--quick", "--json", str(path)])
    assert made.exit_code == 0, made.output
    found = model.from_json(path.read_bytes())
    (ours,) = found.peers
    assert ours.counts[flights.LOST] == 0
    for name in (flights.COMMANDS, flights.SENDS, flights.PROJECTED, flights.REBUILT, flights.REBUILT_BOARD):
        assert ours.rates[name].median > 0, name
    for where in (flights.IN_NODE, flights.APART):
        assert ours.latency_us[f"{flights.TO_ROW}, {where}"].count > 0
    for name in flights.HTTP.values():
        assert ours.latency_us[name].count > 0
    assert ours.latency_us["claim of 100, 5 000 timers waiting"].count == flights.CLAIM_ROUNDS
    assert len(found.targets) == 10
