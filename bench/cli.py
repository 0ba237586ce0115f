"""`readback bench SCENARIO`: runs a scenario, shows its table, and writes its JSON; `report` writes the page from it.

Exit status: 0 when the measurement could be made, met or not (a target is a statement about a machine, not a test);
1 when it could not; 2 for a wrong command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import model, table
from bench.load import LoadError
from bench.model import Result
from bench.scenarios import echo as echo_scenario
from bench.scenarios import floor as floor_scenario
from bench.scenarios.common import Context
from bench.servers import PEERS, Missing

app = typer.Typer(
    help="Measure Readback beside its peers and beside this machine's own limit, in one run.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

PeerOption = Annotated[
    list[str] | None,
    typer.Option("--peer", help=f"A server to measure (repeatable): {', '.join(PEERS)}. Default: those that fit the scenario."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the result to this file as well.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="A short smoke run; its figures are not claims.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, max=20, help="Repeats of every server, in turn (A B A B).")]
GeneratorsOption = Annotated[int, typer.Option("--generators", min=1, max=8, help="Load generator processes that share the connections.")]
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


def chosen(peers: list[str] | None, fitting: tuple[str, ...]) -> tuple[str, ...]:
    """The peers asked for, or all that fit; a wrong name is the user's error and says which exist."""
    if not peers:
        return fitting
    for one in peers:
        if one not in PEERS:
            raise typer.BadParameter(f"no peer {one!r}; there are {', '.join(PEERS)}", param_hint="--peer")
        if one not in fitting:
            raise typer.BadParameter(f"{one} has no equivalent of this scenario; {', '.join(fitting)} have", param_hint="--peer")
    return tuple(dict.fromkeys(peers))


def measured(ctx: Context, run: Callable[[Context], Result], json: Path | None) -> Result:
    """Run, show, write; failures that the machine or an absent server explain are said in words."""
    console = Console(stderr=False)
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


@app.command()
def floor(
    connections: Annotated[int, typer.Option(min=1, max=15_000)] = 500,
    subscribers: Annotated[int, typer.Option(min=1, max=15_000)] = 1000,
    seconds: SecondsOption = 4.0,
    rounds: RoundsOption = 3,
    generators: GeneratorsOption = 1,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """The machine's own limit: a bare echo, and a bare send to as many sockets."""
    ctx = Context(quick, (), 1 if quick else rounds, generators)
    measured(
        ctx,
        lambda ctx: floor_scenario.run(ctx, connections=connections, subscribers=subscribers, seconds=seconds),
        json,
    )


@app.command()
def echo(
    connections: Annotated[int, typer.Option(min=1, max=15_000)] = 500,
    payload: Annotated[int, typer.Option(min=30, max=60_000, help="Bytes of a ping.")] = 130,
    seconds: SecondsOption = 4.0,
    rounds: RoundsOption = 3,
    generators: GeneratorsOption = 1,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Ping and pong at saturation: throughput, and CPU an echo."""
    ctx = Context(quick, chosen(peer, PEERS), 1 if quick else rounds, generators)
    measured(
        ctx, lambda ctx: echo_scenario.run(ctx, connections=connections, payload=payload, seconds=seconds), json
    )
