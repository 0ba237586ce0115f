"""bench.table: figures are shown with three digits that matter, a missing server with its reason."""

from __future__ import annotations

import io

import pytest
from bench_results import result
from rich.console import Console

from bench import table
from bench.stats import Spread


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3, "3"),
        (1_200_000, "1 200 000"),
        (34_512.4, "34 512"),
        (999.4, "999"),
        (42.26, "42.3"),
        (7.824, "7.82"),
        (0.1534, "0.153"),
        (-1.17, "-1.17"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    """Three digits that matter; counts in full."""
    assert table.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (7.8, "7.80 us"), (999.0, "999 us"), (1500.0, "1.50 ms"), (2_000_000.0, "2.00 s")],
)
def test_times_choose_their_unit(value: float | None, shown: str) -> None:
    """Microseconds up to a millisecond, milliseconds up to a second."""
    assert table.micros(value) == shown


@pytest.mark.parametrize(
    ("one", "shown"),
    [(None, "–"), (Spread(2.0, 2.0, 2.0, 1), "2.00"), (Spread(2.0, 1.0, 3.0, 3), "2.00 (1.00..3.00)")],
)
def test_a_spread_shows_its_extremes_when_there_were_several_runs(one: Spread | None, shown: str) -> None:
    """One run is one number; several are a median with its range."""
    assert table.spread_cell(one) == shown


def test_nearly_all_is_not_all() -> None:
    """60 of 240,000 lost is not 100 %."""
    assert table.spread_cell(Spread(99.975, 99.975, 99.975, 1), table.percent) == "99.975"
    assert table.percent(99.99999) == "99.999"
    assert table.percent(100.0) == "100"


def test_a_missing_server_says_why() -> None:
    """Its row carries the reason instead of figures, in as many cells as the others have."""
    head, rows = table.figures(result())
    assert {len(row) for row in rows} == {len(head)}
    assert rows[-1][:2] == ["ws", "not measured: Node is not installed"]


def test_durability_is_a_column_where_it_changes_the_work() -> None:
    """A server that keeps nothing is not compared in silence with one that does."""
    head, rows = table.figures(result("chat"))
    assert [row[head.index("durable")] for row in rows[:2]] == ["no", "yes"]
    assert "durable" not in table.figures(result("echo"))[0]


def test_a_terminal_gets_every_part() -> None:
    """Figures, latencies, counts, targets, the missing server, and that a quick run claims nothing."""
    out = io.StringIO()
    table.show(result(quick=True), Console(file=out, width=160))
    said = out.getvalue()
    for part in (
        "quick run",
        "2.40 (2.20..2.90)",
        "send to delivery",
        "1 200 000",
        "at least 25000 sends/s",
        "NO",
        "ws was not measured: Node is not installed",
    ):
        assert part in said


def test_markdown_escapes_what_would_end_a_cell() -> None:
    """A bar in a text stays in its cell."""
    assert table.markdown((["a", "b"], [["x|y", "1"]])) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"


def test_an_empty_table_is_no_table() -> None:
    """No rows, no head."""
    assert table.markdown((["a"], [])) == ""
    assert table.turned_markdown((["server"], [])) == ""
