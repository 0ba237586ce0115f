"""What the commands of `bench.cli` share: their options, the progress bar, and how a run is measured and shown."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import model, table
from bench.load import LoadError
from bench.model import Result
from bench.scenarios.common import Context
from bench.servers import PEERS, Missing

PAGE_WIDTH = 150
"""Columns where standard output is no terminal and so says none."""

PeerOption = Annotated[
    list[str] | None,
    typer.Option("--peer", help=f"A server to measure (repeatable): {', '.join(PEERS)}. Default: those that fit."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the result to this file as well.")]
HistoryOption = Annotated[
    Path | None,
    typer.Option(
        "--history",
        metavar="FILE",
        help="Write down all that the clients see, for `readback check --history`; it costs the figures.",
    ),
]
QuickOption = Annotated[bool, typer.Option("--quick", help="A short smoke run; its figures are not claims.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, max=20, help="Repeats of every server, in turn.")]
GeneratorsOption = Annotated[int, typer.Option("--generators", min=1, max=8, help="Load generator processes.")]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0.5, max=120.0, help="Length of a measured window.")]


@contextlib.contextmanager
def progressing(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """One bar that always says what is being done now."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def step(done: int, of: int, note: str) -> None:
            bar.update(task, description=note, completed=done, total=of or None)

        yield step


def chosen(
    peers: list[str] | None, fitting: tuple[str, ...], default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """The peers asked for, or the scenario's own; a wrong name is the user's error and says which exist."""
    for one in peers or ():
        if one not in PEERS:
            raise typer.BadParameter(f"no peer {one!r}; there are {', '.join(PEERS)}", param_hint="--peer")
        if one not in fitting:
            which = ", ".join(fitting)
            raise typer.BadParameter(f"{one} has no equivalent of this scenario; {which} have", param_hint="--peer")
    return tuple(dict.fromkeys(peers)) if peers else default or fitting


def measured(ctx: Context, run: Callable[[Context], Result], json: Path | None) -> Result:
    """Run, show, write; failures that the machine or an absent server explain are said in words."""
    console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
    try:
        with progressing(console) as ctx.progress:
            made = run(ctx)
    except (LoadError, Missing, TimeoutError) as error:
        console.print(f"[red]could not be measured:[/red] {error}")
        raise typer.Exit(1) from error
    table.show(made, console)
    if json is not None:
        model.write(made, json)
        console.print(f"written to {json}")
    return made


Scenarios = dict[str, Callable[[Path], None]]
"""How to run each scenario into a file."""
