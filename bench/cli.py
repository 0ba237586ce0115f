"""`readback bench SCENARIO`: runs a scenario, shows its table, and writes its JSON; `report` writes the page from it.

Exit status: 0 when the measurement could be made, met or not (a target is a statement about a machine, not a test);
1 when it could not; 2 for a wrong command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import cli_alone, cli_cluster
from bench.options import (
    GeneratorsOption,
    HistoryOption,
    JsonOption,
    PeerOption,
    QuickOption,
    RoundsOption,
    Scenarios,
    SecondsOption,
    chosen,
    measured,
)
from bench.scenarios import chat as chat_scenario
from bench.scenarios import echo as echo_scenario
from bench.scenarios import fanout as fanout_scenario
from bench.scenarios import floor as floor_scenario
from bench.scenarios import idle as idle_scenario
from bench.scenarios import jitter as jitter_scenario
from bench.scenarios import resume as resume_scenario
from bench.scenarios import slow as slow_scenario
from bench.scenarios.common import Context
from bench.servers import PEERS

app = typer.Typer(
    help="Measure Readback beside its peers and beside this machine's own limit, in one run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


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
    measured(ctx, lambda ctx: echo_scenario.run(ctx, connections=connections, payload=payload, seconds=seconds), json)


@app.command()
def fanout(
    subscribers: Annotated[int, typer.Option(min=1, max=15_000)] = 1000,
    rate: Annotated[int, typer.Option(min=1, max=1000, help="Events a second, one at a time.")] = 40,
    batched_rate: Annotated[int, typer.Option(min=1, max=5000, help="Events a second, in bursts.")] = 80,
    burst: Annotated[int, typer.Option(min=1, max=500, help="Events that leave together in the second mode.")] = 40,
    payload: Annotated[int, typer.Option(min=30, max=40_000, help="Bytes of an event's body.")] = 130,
    seconds: SecondsOption = 6.0,
    rounds: RoundsOption = 3,
    generators: GeneratorsOption = 1,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """One publisher, many subscribers: what a delivery costs beside a bare send."""
    ctx = Context(quick, chosen(peer, PEERS), 1 if quick else rounds, generators)
    measured(
        ctx,
        lambda ctx: fanout_scenario.run(
            ctx,
            subscribers=subscribers,
            rate=rate,
            batched_rate=batched_rate,
            burst=burst,
            payload=payload,
            seconds=seconds,
        ),
        json,
    )


@app.command()
def chat(
    rooms: Annotated[int, typer.Option(min=1, max=5000)] = 40,
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients of a room.")] = 5,
    outstanding: Annotated[int, typer.Option(min=1, max=20_000, help="Unanswered sends over all connections.")] = 1_600,
    payload: Annotated[int, typer.Option(min=30, max=40_000, help="Bytes of a message's body.")] = 130,
    seconds: SecondsOption = 6.0,
    rounds: RoundsOption = 3,
    generators: GeneratorsOption = 1,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Many rooms, durable: most sends a second, latency at half of that, and a lone send beside its commit."""
    ctx = Context(quick, chosen(peer, PEERS, chat_scenario.DEFAULT_PEERS), 1 if quick else rounds, generators)
    measured(
        ctx,
        lambda ctx: chat_scenario.run(
            ctx, rooms=rooms, clients=clients, outstanding=outstanding, payload=payload, seconds=seconds
        ),
        json,
    )


@app.command("resume-storm")
def resume_storm(
    clients: Annotated[int, typer.Option(min=1, max=15_000)] = 2000,
    each: Annotated[int, typer.Option(min=1, max=500, help="Streams of a client.")] = 5,
    streams: Annotated[int, typer.Option(min=1, max=5000, help="Streams in all.")] = 500,
    missed: Annotated[int, typer.Option(min=0, max=100, help="Events in every stream while all are away.")] = 1,
    rounds: RoundsOption = 5,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Everybody drops and comes back at once: CPU a resume, and the time until all are whole."""
    ctx = Context(quick, chosen(peer, resume_scenario.FITTING), 2 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: resume_scenario.run(ctx, clients=clients, each=each, streams=streams, missed=missed),
        json,
    )


@app.command()
def jitter(
    clients: Annotated[int, typer.Option(min=1, max=15_000)] = 2000,
    messages: Annotated[int, typer.Option(min=1, max=10_000)] = 120,
    rate: Annotated[float, typer.Option(min=0.1, max=100, help="Messages a second.")] = 2.0,
    cut_every: Annotated[float, typer.Option(min=0.5, max=600, help="Mean seconds between a client's cuts.")] = 15.0,
    away: Annotated[float, typer.Option(min=0.0, max=60, help="Seconds a client stays away.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Of the plan of cuts.")] = 1,
    python_clients: Annotated[int, typer.Option(min=0, max=500, help="Of a second run with the Python client.")] = 50,
    nodes: Annotated[int, typer.Option(min=1, max=8, help="Above 1: Readback alone; all return to another node.")] = 1,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
    history: HistoryOption = None,
) -> None:
    """Connections are killed while messages flow; every seq at every client is accounted for."""
    ctx = Context(quick, ("readback",) if nodes > 1 else chosen(peer, jitter_scenario.FITTING), 1, 1)
    ctx.history = history
    measured(
        ctx,
        lambda ctx: jitter_scenario.run(
            ctx,
            clients=clients,
            messages=messages,
            rate=rate,
            cut_every_s=cut_every,
            away_s=away,
            seed=seed,
            python_clients=python_clients,
            nodes=nodes,
        ),
        json,
    )


@app.command()
def idle(
    connections: Annotated[int, typer.Option(min=1, max=15_000)] = 5000,
    each: Annotated[int, typer.Option(min=1, max=100, help="Streams of a connection.")] = 3,
    streams: Annotated[int, typer.Option(min=1, max=5000, help="Streams in all.")] = 1000,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """What an idle connection costs in memory."""
    ctx = Context(quick, chosen(peer, PEERS), 1, 1)
    measured(ctx, lambda ctx: idle_scenario.run(ctx, connections=connections, each=each, streams=streams), json)


@app.command()
def slow(
    subscribers: Annotated[int, typer.Option(min=2, max=15_000)] = 200,
    stalled_percent: Annotated[float, typer.Option(min=0.1, max=90)] = 5.0,
    rate: Annotated[int, typer.Option(min=1, max=1000, help="Events a second.")] = 80,
    payload: Annotated[int, typer.Option(min=30, max=40_000, help="Bytes of an event's body.")] = 12_000,
    seconds: SecondsOption = 8.0,
    rounds: RoundsOption = 3,
    peer: PeerOption = None,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Some subscribers stop reading: the others' latency, and the server's memory."""
    ctx = Context(quick, chosen(peer, PEERS, slow_scenario.DEFAULT_PEERS), 1 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: slow_scenario.run(
            ctx, subscribers=subscribers, stalled_percent=stalled_percent, rate=rate, payload=payload, seconds=seconds
        ),
        json,
    )


cli_alone.add_to(app)
cli_cluster.add_to(app)

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the results.")]
OutOption = Annotated[Path, typer.Option("--out", help="The page to write.")]
DATA = Path("docs/data")
PAGE = Path("docs/benchmarks.md")
README = Path("README.md")


def _one_node(rounds: int, quick: bool, histories: Path | None) -> Scenarios:
    return {
        "floor": lambda path: floor(rounds=rounds, quick=quick, json=path),
        "echo": lambda path: echo(rounds=rounds, quick=quick, json=path),
        "fanout": lambda path: fanout(rounds=rounds, quick=quick, json=path),
        "chat": lambda path: chat(rounds=rounds, quick=quick, json=path),
        "resume-storm": lambda path: resume_storm(quick=quick, json=path),
        "jitter": lambda path: jitter(
            quick=quick, json=path, history=histories / "jitter.jsonl" if histories else None
        ),
        "idle": lambda path: idle(quick=quick, json=path),
        "slow": lambda path: slow(rounds=rounds, quick=quick, json=path),
        **cli_alone.scenarios(rounds, quick),
    }


def _many_nodes(rounds: int, quick: bool, histories: Path | None) -> Scenarios:
    return {
        **cli_cluster.scenarios(rounds, quick, histories),
        "jitter-cluster": lambda path: jitter(
            nodes=3, quick=quick, json=path, history=histories / "jitter-cluster.jsonl" if histories else None
        ),
    }


HistoriesOption = Annotated[
    Path | None,
    typer.Option(
        "--history",
        metavar="FOLDER",
        help="Write down what the clients of jitter, drain, redis-loss and node-loss see, a file each.",
    ),
]
OnlyOption = Annotated[list[str] | None, typer.Option("--only", help="A scenario to run (repeatable). Default: all.")]


@app.command("all")
def everything(
    quick: QuickOption = False,
    rounds: RoundsOption = 3,
    only: OnlyOption = None,
    data: DataOption = None,
    out: OutOption = PAGE,
    history: HistoriesOption = None,
) -> None:
    """Every scenario with every installed server, then the page. About 55 minutes; the machine should be quiet."""
    _run(_one_node(rounds, quick, history) | _many_nodes(rounds, quick, history), quick, only, data, out)


@app.command("cluster-all")
def cluster_all(
    quick: QuickOption = False,
    rounds: RoundsOption = 3,
    only: OnlyOption = None,
    data: DataOption = None,
    out: OutOption = PAGE,
    history: HistoriesOption = None,
) -> None:
    """The scenarios of several nodes, then the page. About 15 minutes; the machine should be quiet."""
    _run(_many_nodes(rounds, quick, history), quick, only, data, out)


def _run(scenarios: Scenarios, quick: bool, only: list[str] | None, data: Path | None, out: Path) -> None:
    if quick and data is None:
        raise typer.BadParameter(
            "a quick run needs --data: its figures must not replace real ones", param_hint="--quick"
        )
    folder = data or DATA
    for name in only or ():
        if name not in scenarios:
            raise typer.BadParameter(f"no scenario {name!r}; there are {', '.join(scenarios)}", param_hint="--only")
    failed = []
    for name, run in scenarios.items():
        if only and name not in only:
            continue
        try:
            run(folder / f"bench-{name}.json")
        except typer.Exit:
            failed.append(name)  # the reason was said; the others go on
    report(folder, out)
    if failed:
        Console().print(f"[red]could not be measured: {', '.join(failed)}[/red]")
        raise typer.Exit(1)


@app.command()
def report(data: DataOption = None, out: OutOption = PAGE) -> None:
    """Write the page and its plots from the results."""
    from bench import report as reporting  # late: matplotlib takes a second to import

    console = Console()
    try:
        found = reporting.write(data or DATA, out)
    except FileNotFoundError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    if out == PAGE and data in (None, DATA) and README.exists():
        reporting.write_readme(found, README)
    for name, reason in found.unreadable.items():
        console.print(f"[yellow]{name} left out: {reason}[/yellow]")
    console.print(f"{out}: {len(found.results)} scenarios")
