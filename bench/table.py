"""Results as tables: for a terminal with rich, for the page with Markdown. One source of the cells for both."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from bench.model import Result
from bench.stats import Spread, Summary


def number(value: float) -> str:
    """Three figures that matter, thousands apart: ``34 500``, ``7.82``, ``0.153``."""
    if value == 0:
        return "0"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )


def percent(value: float) -> str:
    """Rounded down, so that only all of it is ever called 100."""
    return f"{math.floor(value * 1000) / 1000:g}"


def spread_cell(one: Spread | None, shown: Callable[[float], str] = number) -> str:
    """Median, with the least and the greatest of the runs where there were several."""
    if one is None:
        return "–"
    if one.runs == 1:
        return shown(one.median)
    return f"{shown(one.median)} ({shown(one.low)}..{shown(one.high)})"


def micros(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 1e6:
        return f"{number(value / 1e6)} s"
    return f"{number(value / 1000)} ms" if value >= 1000 else f"{number(value)} us"


DURABILITY_MATTERS = ("fanout", "chat", "jitter", "slow")
"""Where a server that keeps nothing does less work than one that does, and the table says so."""


Rows = tuple[list[str], list[list[str]]]


def figures(result: Result) -> Rows:
    """A row a server; a column each rate, CPU figure and value that any of them has; a missing server says why."""
    rates = _names([list(one.rates) for one in result.peers])
    # A group that did nothing anywhere (Postgres, in an echo) is no row; how busy everybody was comes last.
    cpu = [name for name in _names([list(one.cpu_us) for one in result.peers]) if _any(name, result)]
    values = _names([list(one.values) for one in result.peers])
    values = [name for name in values if "busy" not in name] + [
        name for name in values if "busy" in name and _any(name, result)
    ]
    durable = ["durable"] if result.scenario in DURABILITY_MATTERS else []
    head = ["server", *durable, *rates, *(f"CPU us, {name}" for name in cpu), *values]
    rows = []
    for one in result.peers:
        if one.missing is not None:
            rows.append([one.peer, f"not measured: {one.missing}", *[""] * (len(head) - 2)])
            continue
        rows.append(
            [
                one.peer,
                *(["yes" if one.durable else "no"] if durable else []),
                *(spread_cell(one.rates.get(name)) for name in rates),
                *(spread_cell(one.cpu_us.get(name)) for name in cpu),
                *(spread_cell(one.values.get(name), percent if name.endswith("(%)") else number) for name in values),
            ]
        )
    return head, rows


def _any(name: str, result: Result) -> bool:
    """Whether a figure is above zero on any server."""
    return any(
        figures[name].high > 0 for one in result.peers for figures in (one.cpu_us, one.values) if name in figures
    )


def latencies(result: Result) -> Rows:
    head = ["server", "latency of", "samples", "p50", "p95", "p99", "p99.9", "max"]
    rows = [
        [one.peer, name, number(made.count), *_percentiles(made)]
        for one in result.peers
        for name, made in one.latency_us.items()
    ]
    return head, rows


def _percentiles(made: Summary) -> list[str]:
    return [micros(value) for value in (made.p50_us, made.p95_us, made.p99_us, made.p999_us, made.max_us)]


def counts(result: Result) -> Rows:
    names = _names([list(one.counts) for one in result.peers])
    rows = [
        [one.peer, *(number(one.counts[name]) if name in one.counts else "–" for name in names)]
        for one in result.peers
        if one.missing is None and one.counts
    ]
    return ["server", *names], rows


def targets(result: Result) -> Rows:
    rows = [
        [
            one.name,
            one.asked,
            f"{(percent if one.unit == '%' else number)(one.measured)}{' ' + one.unit if one.unit else ''}",
            "yes" if one.met else "NO",
        ]
        for one in result.targets
    ]
    return ["target", "asked", "measured", "met"], rows


def _names(lists: list[list[str]]) -> list[str]:
    """All names in the order in which they first appear."""
    return list(dict.fromkeys(name for names in lists for name in names))


def show(result: Result, console: Console) -> None:
    """Everything of a result that a terminal should say, narrow tables first."""
    parameters = ", ".join(f"{name} {value}" for name, value in result.parameters.items())
    console.print(f"\n[bold]{result.scenario}[/bold]  {parameters}  ({result.took_s:g} s)")
    if result.quick:
        console.print("[yellow]a quick run: it shows that the harness works; its figures are not claims[/yellow]")
    for title, (head, rows) in (
        ("", _turned(figures(result))),
        ("latency", latencies(result)),
        ("counted exactly", _turned(counts(result))),
        ("targets", targets(result)),
    ):
        if rows:
            table = Table(title=title or None, title_justify="left", header_style="bold")
            for column, name in enumerate(head):
                table.add_column(name, justify="left" if column == 0 else "right", overflow="fold")
            for row in rows:
                style = "green" if title == "targets" and row[-1] == "yes" else "red" if title == "targets" else None
                table.add_row(*row, style=style)
            console.print(table)
    for one in result.peers:
        if one.missing is not None:
            console.print(f"[yellow]{one.peer} was not measured: {one.missing}[/yellow]")


def _turned(rows: Rows) -> Rows:
    """Servers as columns: there are few of them, and the figures have long names."""
    head, body = rows
    body = [row for row in body if not row[1].startswith("not measured")] if len(head) > 1 else []
    if not body:
        return [], []
    return ["", *(row[0] for row in body)], [[name, *(row[at] for row in body)] for at, name in enumerate(head) if at]


def markdown(rows: Rows) -> str:
    head, body = rows
    if not body:
        return ""
    # A column is text where any cell below its head is: only figures stand to the right.
    text = [any(row[at][:1].isalpha() for row in body) for at in range(len(head))]
    rule = ["---" if at == 0 or text[at] else "---:" for at in range(len(head))]
    lines = [_line(head), _line(rule), *(_line(row) for row in body)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def turned_markdown(rows: Rows) -> str:
    return markdown(_turned(rows))
