"""The commands of the scenarios that run several nodes; `bench.cli` adds them to its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bench.options import HistoryOption, JsonOption, QuickOption, RoundsOption, Scenarios, SecondsOption, measured
from bench.scenarios import cluster as cluster_scenario
from bench.scenarios import drain as drain_scenario
from bench.scenarios import node_loss as node_loss_scenario
from bench.scenarios import presence as presence_scenario
from bench.scenarios import redis_loss as redis_loss_scenario
from bench.scenarios.common import Context

NodesOption = Annotated[int, typer.Option(min=2, max=8, help="Nodes on one Postgres and one Redis.")]
OURS = ("readback",)


def cluster(
    rooms: Annotated[int, typer.Option(min=1, max=1000)] = 24,
    clients: Annotated[int, typer.Option(min=4, max=200, help="Clients of a room, spread over the nodes.")] = 8,
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Sends a second while delivery is timed.")] = 100.0,
    outstanding: Annotated[int, typer.Option(min=1, max=5000, help="Unanswered sends a node, when full.")] = 200,
    seconds: SecondsOption = 3.0,
    rounds: RoundsOption = 5,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """One to four nodes: delivery across nodes beside one node's, and the work that a core carries."""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: cluster_scenario.run(
            ctx, rooms=rooms, clients=clients, rate=rate, outstanding=outstanding, seconds=seconds
        ),
        json,
    )


def drain(
    nodes: NodesOption = 3,
    clients: Annotated[int, typer.Option(min=10, max=15_000)] = 5000,
    rooms: Annotated[int, typer.Option(min=1, max=5000)] = 500,
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Sends a second.")] = 150.0,
    rounds: RoundsOption = 1,
    quick: QuickOption = False,
    json: JsonOption = None,
    history: HistoryOption = None,
) -> None:
    """A rolling restart of all nodes under chat: what is lost, and how many come back at once."""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1, history=history)
    measured(ctx, lambda ctx: drain_scenario.run(ctx, nodes=nodes, clients=clients, rooms=rooms, rate=rate), json)


def presence_storm(
    nodes: NodesOption = 3,
    clients: Annotated[int, typer.Option(min=300, max=15_000)] = 2400,
    rooms: Annotated[int, typer.Option(min=1, max=900, help="Small rooms, beside the large one.")] = 200,
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Joins and leaves a second.")] = 5000.0,
    seconds: SecondsOption = 8.0,
    rounds: RoundsOption = 3,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Thousands join and leave every second: the nodes' CPU, and how soon everybody knows the truth."""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: presence_scenario.run(ctx, nodes=nodes, clients=clients, rooms=rooms, rate=rate, seconds=seconds),
        json,
    )


def redis_loss(
    nodes: NodesOption = 3,
    clients: Annotated[int, typer.Option(min=6, max=15_000)] = 300,
    rooms: Annotated[int, typer.Option(min=1, max=5000)] = 60,
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Sends a second.")] = 200.0,
    stretch: Annotated[float, typer.Option(min=1, max=60, help="Seconds of each of the five stretches.")] = 5.0,
    rounds: RoundsOption = 3,
    quick: QuickOption = False,
    json: JsonOption = None,
    history: HistoryOption = None,
) -> None:
    """Redis is killed, started, frozen and thawed under chat: how late is an event, is any lost?"""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1, history=history)
    measured(
        ctx,
        lambda ctx: redis_loss_scenario.run(
            ctx, nodes=nodes, clients=clients, rooms=rooms, rate=rate, stretch_s=stretch
        ),
        json,
    )


def node_loss(
    nodes: NodesOption = 3,
    clients: Annotated[int, typer.Option(min=10, max=15_000)] = 2000,
    rooms: Annotated[int, typer.Option(min=1, max=5000)] = 200,
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Sends a second.")] = 500.0,
    back_within: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds over which clients spread their return.")
    ] = 2.0,
    rounds: RoundsOption = 3,
    quick: QuickOption = False,
    json: JsonOption = None,
    history: HistoryOption = None,
) -> None:
    """A node is killed under chat: what is lost, when everybody is whole, when presence is right."""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1, history=history)
    measured(
        ctx,
        lambda ctx: node_loss_scenario.run(
            ctx, nodes=nodes, clients=clients, rooms=rooms, rate=rate, return_s=back_within
        ),
        json,
    )


def add_to(app: typer.Typer) -> None:
    for name, command in COMMANDS.items():
        app.command(name)(command)


COMMANDS: dict[str, Callable[..., None]] = {
    "cluster": cluster,
    "drain": drain,
    "presence-storm": presence_storm,
    "redis-loss": redis_loss,
    "node-loss": node_loss,
}


def scenarios(rounds: int, quick: bool, histories: Path | None) -> Scenarios:
    """All of them; `jitter` on several nodes is the command `jitter` with ``--nodes``. ``histories`` is a folder."""

    def kept(name: str) -> Path | None:
        return None if histories is None else histories / f"{name}.jsonl"

    return {
        "cluster": lambda path: cluster(quick=quick, json=path),
        "drain": lambda path: drain(quick=quick, json=path, history=kept("drain")),
        "presence-storm": lambda path: presence_storm(rounds=rounds, quick=quick, json=path),
        "redis-loss": lambda path: redis_loss(rounds=rounds, quick=quick, json=path, history=kept("redis-loss")),
        "node-loss": lambda path: node_loss(rounds=rounds, quick=quick, json=path, history=kept("node-loss")),
    }
