"""bench.scenarios.soak: the figures out of samples and scrapes, the targets, and a short run end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli, model
from bench.gen.soak import FOLD_AT, Book
from bench.model import PeerResult, Result
from bench.proc import Machine
from bench.scenarios import soak
from bench.scenarios.common import Tally
from bench.stats import spread


def text(delays: list[int], full: list[int], shed: int = 0) -> str:
    """A node's metrics: cumulative counts of two delay buckets, of two pause buckets of full collections."""
    return "\n".join(
        [
            *(f'{soak.DELAY}_bucket{{le="{le}"}} {n}' for le, n in zip((0.001, 0.05, "+Inf"), delays, strict=True)),
            f'{soak.PAUSE}_bucket{{generation="0",le="0.001"}} 7',
            f'{soak.PAUSE}_bucket{{generation="0",le="+Inf"}} 7',
            *(
                f'{soak.PAUSE}_bucket{{generation="2",le="{le}"}} {n}'
                for le, n in zip((0.01, "+Inf"), full, strict=True)
            ),
            f'readback_shed_total{{what="sends"}} {shed}',
            "",
        ]
    )


def test_slope_is_the_change_a_second() -> None:
    """A straight line gives its own slope; noise around a level gives none; too little gives nothing."""
    assert soak.slope([(at, 70.0 + 0.25 * at) for at in range(100)]) == pytest.approx(0.25)
    assert soak.slope([(at, 70.0 + at % 2) for at in range(101)]) == pytest.approx(0.0, abs=1e-9)
    assert soak.slope([(1.0, 70.0)]) == soak.slope([]) == 0.0


def test_memory_is_told_by_thirds() -> None:
    """Growth in the first third is filling up and in no slope; the means are those of the other two."""
    tally = Tally("readback")
    samples = [(float(at), 60.0 + min(at, 30)) for at in range(91)]
    soak._memory(tally, samples)
    values = {name: one[0] for name, one in tally.values.items()}
    assert values["RSS, least (MiB)"] == 60.0
    assert values["RSS, greatest (MiB)"] == 90.0
    assert values["RSS, mean of the middle third (MiB)"] == values["RSS, mean of the last third (MiB)"] == 90.0
    assert values["RSS slope, last two thirds (MiB/h)"] == 0.0
    assert tally.series["RSS (MiB)"] == samples


def test_a_long_series_is_thinned_for_the_plot_alone() -> None:
    """Half an hour of seconds is 1,800 samples: at most so many points are drawn."""
    tally = Tally("readback")
    soak._memory(tally, [(float(at), 60.0) for at in range(1_800)])
    assert 0 < len(tally.series["RSS (MiB)"]) <= soak.SERIES_MAX


def test_loop_and_collector_figures_are_of_the_run_alone() -> None:
    """What the histograms held before is taken off; a figure is a bucket's bound; what did not happen is not told."""
    tally = Tally("readback")
    soak._loop(tally, text([100, 100, 100], [5, 5]), text([1_099, 1_100, 1_100], [6, 6], shed=3))
    values = {name: one[0] for name, one in tally.values.items()}
    assert values["loop delay, p99 (ms, at most)"] == 1.0
    assert values["loop delay, greatest (ms, at most)"] == 50.0
    assert values["collector pause, full, longest (ms, at most)"] == 10.0
    assert "collector pause, young, longest (ms, at most)" not in values
    assert tally.counts == {
        "loop delay samples": 1_000,
        "collections, young": 0,
        "collections, middle": 0,
        "collections, full": 1,
        "things shed": 3,
    }


@pytest.mark.parametrize(
    ("middle", "last", "met"),
    [(70, 73.9, True), (70, 74.1, False), (500, 509, True), (500, 511, False), (80, 70, False)],
)
def test_flat_is_two_percent_or_four_mebibytes(middle: float, last: float, met: bool) -> None:
    """Whichever is more, up or down."""
    values = {
        "RSS, mean of the middle third (MiB)": spread([middle]),
        "RSS, mean of the last third (MiB)": spread([last]),
    }
    counts = {"seqs that were not the next": 0, "sends never answered": 0}
    machine = Machine(2, 8.0, "6.0", "3.11", None, 0.1)
    made = Result("soak", "", False, machine, {}, [PeerResult("readback", values=values, counts=counts)], [])
    assert soak._targets(made)[0].met is met


def test_latencies_are_folded_so_that_hours_cost_no_memory() -> None:
    """However many: the list stays short, and the histogram has them all in the end."""
    book = Book({"seed": 1, "payload": 130})
    for _ in range(FOLD_AT + 5):
        book.answered(1_000_000)
    assert (book.acks.count, len(book._acks)) == (FOLD_AT, 5)
    book.fold()
    assert book.acks.count == book.counts["answered"] == FOLD_AT + 5


@pytest.mark.slow
def test_a_quick_soak_checks_every_seq(tmp_path: Path) -> None:
    """A node with its Postgres, clients that come and go by both ways: nothing skipped, everything answered."""
    path = tmp_path / "soak.json"
    made = CliRunner().invoke(
        cli.app, ["soak", "--quick", "--minutes", "0.1", "--json", str(path)], env={"NO_COLOR": "1"}
    )
    assert made.exit_code == 0, made.output
    (ours,) = model.from_json(path.read_bytes()).peers
    for name in ("deliveries", "connections cut", "sessions entered", "sessions resumed", "sends answered"):
        assert ours.counts[name] > 0, name
    assert ours.counts["seqs that were not the next"] == ours.counts["sends never answered"] == 0
    assert len(ours.series["RSS (MiB)"]) >= 4


@pytest.mark.slow
def test_gc_pauses_are_told() -> None:
    """`python -m bench.gc_pauses` ends well and names each way of freezing."""
    command = [sys.executable, "-m", "bench.gc_pauses", "--connections", "50", "--streams", "20"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for words in ("nothing frozen", "frozen at start alone", "clients frozen too"):
        assert words in said
