"""How the played day looks in a terminal: a departure board that changes in place, what came last, and how far the day is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from core.flight.times import read
from gateway.demo.board import Board, News
from gateway.demo.network import HOME, Flight, zone

STYLES: Final = {
    "scheduled": "dim",
    "boarding": "cyan",
    "departed": "green",
    "landed": "blue",
    "completed": "dim green",
    "diverted": "bold magenta",
    "cancelled": "bold red",
    "new": "dim",
}
WORDS: Final = {"departed": "under way", "completed": "arrived"}
LATE_MINUTES: Final = 15
"""From then on a flight counts as late, as it does in the statistics of airlines."""
ROWS_BESIDE: Final = 15
"""Of the terminal, that are not the board's."""


def clock(at: str | None, airport: str) -> str:
    """Local time of day."""
    if not at:
        return ""
    return datetime.fromtimestamp(read(at).ms / 1000, zone(airport)).strftime("%H:%M")


def _time(of: Mapping[str, Any], airport: str, planned: str | None) -> Text:
    """The best time of a milestone; as it was, green, as it is expected, yellow where it is not as planned."""
    text = Text(clock(of["best"], airport))
    if of["actual"]:
        text.stylize("green")
    elif of["best"] and of["best"] != planned:
        text.stylize("yellow")
    return text


def board_table(board: Board, flights: list[Flight]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", expand=False)
    for name in ("flight", "from", "std", "out", "off", "to", "sta", "on", "in", "gate", "aircraft", "status", "late"):
        table.add_column(name, justify="right" if name == "late" else "left", no_wrap=True)
    for flight in flights:
        table.add_row(*_cells(flight, board.row(flight)))
    return table


def _cells(flight: Flight, row: Mapping[str, Any]) -> list[RenderableType]:
    times = row["times"]
    origin, to = row["from"] or flight.origin, row["to"] or flight.to
    std, sta = times["OUT"]["scheduled"], times["IN"]["scheduled"]
    gate = (row["gates"]["departure"] or {}).get("gate", "")
    status = row["status"]
    late = row["delayed"]["minutes"] if row["delayed"] else 0
    where = Text(to)
    if row["diverted"]:
        where = Text(f"{to}→{row['diverted']['to']}", "magenta")
    word = WORDS.get(status, status) + (f" ({row['attempt']}.)" if row["attempt"] > 1 else "")
    return [
        Text(flight.designator, "bold"),
        origin,
        clock(std, origin),
        _time(times["OUT"], origin, std),
        _time(times["OFF"], origin, None),
        where,
        clock(sta, to),
        _time(times["ON"], to, None),
        _time(times["IN"], to, sta),
        gate,
        Text(f"{row['registration']} {row['type']}", "dim"),
        Text(word, STYLES.get(status, "")),
        Text(f"+{late}" if late else "", "red" if late >= LATE_MINUTES else "yellow"),
    ]


def news_line(news: News) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" {'✗' if news.refused else '›'} ", "red" if news.refused else "cyan")
    text.append(f"{news.flight:<10} ", "bold")
    return text.append(news.says, "dim" if news.refused else "")


def counts_line(board: Board, per_s: float) -> Text:
    text = Text(" ", no_wrap=True, overflow="ellipsis")
    statuses = board.statuses()
    for status, style in STYLES.items():
        if statuses[status] and status != "new":
            text.append(f"{statuses[status]} {WORDS.get(status, status)}", style).append("  ")
    text.append(f"· {board.given:,} commands, {board.events:,} events, {per_s:,.0f} a second", "dim")
    return text


def refused_line(board: Board) -> Text:
    text = Text(" refused: ", "dim", no_wrap=True, overflow="ellipsis")
    return text.append(", ".join(f"{count} {reason}" for reason, count in board.refused.most_common()) or "none")


def screen(board: Board, now_ms: int, total: int, per_s: float, *, rows: int) -> Group:
    """All of it. ``now_ms`` is the time of the day that is played."""
    now = datetime.fromtimestamp(now_ms / 1000, zone(HOME))
    title = Text(f" QX · {now:%a %d %b %Y  %H:%M} in Sydney", "bold")
    title.append("   rows of flight:board" if board.from_node else "   folded from events", "dim")
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        "", ProgressBar(total=total, completed=board.given, width=50), Text(f"{board.given:,} of {total:,}", "dim")
    )
    return Group(
        title,
        Text(),
        board_table(board, board.around(now_ms, rows)),
        Text(),
        *[news_line(news) for news in board.news],
        Text(),
        counts_line(board, per_s),
        refused_line(board),
        bar,
    )


def rows_of(console: Console) -> int:
    return max(5, console.size.height - ROWS_BESIDE)
