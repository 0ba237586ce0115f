"""The commands of the scenarios of one node that have no peers; `bench.cli` adds them to its own.

Nothing among the peers has tenants, decides commands, follows positions or is left running for half an hour, so that these
are of Readback alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.options import JsonOption, QuickOption, RoundsOption, Scenarios, SecondsOption, measured
from bench.scenarios import arrivals as arrivals_scenario
from bench.scenarios import flights as flights_scenario
from bench.scenarios import noisy as noisy_scenario
from bench.scenarios import soak as soak_scenario
from bench.scenarios.common import Context

OURS = ("readback",)

VariantOption = Annotated[
    list[str] | None,
    typer.Option("--noise", help=f"A kind of noise (repeatable): {', '.join(noisy_scenario.VARIANTS)}. Default: all."),
]


def noisy_neighbour(
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Sends a second of the quiet tenant.")] = 200.0,
    times: Annotated[float, typer.Option(min=1, max=1000, help="How much more the noisy one sends.")] = 50.0,
    storm: Annotated[int, typer.Option(min=1, max=5000, help="Clients of it that resume without end.")] = 300,
    replayers: Annotated[int, typer.Option(min=1, max=5000, help="Clients of it that replay without end.")] = 100,
    events: Annotated[int, typer.Option(min=1, max=50_000, help="Events of each stream that they replay.")] = 2000,
    noise: VariantOption = None,
    seconds: SecondsOption = 3.0,
    rounds: RoundsOption = 3,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """One tenant does fifty times its share of something: what do the others notice? About two minutes."""
    for one in noise or ():
        if one not in noisy_scenario.VARIANTS:
            which = ", ".join(noisy_scenario.VARIANTS)
            raise typer.BadParameter(f"no noise {one!r}; there are {which}", param_hint="--noise")
    ctx = Context(quick, OURS, 1 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: noisy_scenario.run(
            ctx,
            rate=rate,
            times=times,
            storm=storm,
            replayers=replayers,
            events=events,
            seconds=seconds,
            variants=tuple(dict.fromkeys(noise)) if noise else noisy_scenario.VARIANTS,
        ),
        json,
    )


def flights(
    flights: Annotated[int, typer.Option(min=1, max=5000, help="Flights that commands go to.")] = 400,
    connections: Annotated[int, typer.Option(min=1, max=500, help="Connections that give them.")] = 20,
    outstanding: Annotated[int, typer.Option(min=1, max=20_000, help="Unanswered commands over all.")] = 800,
    events: Annotated[int, typer.Option(min=1000, max=2_000_000, help="Events for the read models.")] = 100_000,
    rate: Annotated[float, typer.Option(min=50, max=1000, help="Commands a second whose rows are timed.")] = 100.0,
    facts: Annotated[int, typer.Option(min=10, max=2_000, help="Facts of each stream asked about its past.")] = 1_000,
    waiting: Annotated[
        int, typer.Option(min=2000, max=5_000_000, help="Timers beside which others are claimed.")
    ] = 1_000_000,
    seconds: SecondsOption = 6.0,
    rounds: RoundsOption = 3,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Commands, read models and rebuilds, the live board, the past, and claims of timers. About eight minutes."""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: flights_scenario.run(
            ctx,
            flights=flights,
            connections=connections,
            outstanding=outstanding,
            events=events,
            rate=rate,
            facts=facts,
            waiting=waiting,
            seconds=seconds,
        ),
        json,
    )


def arrivals(
    connections: Annotated[int, typer.Option(min=1, max=500, help="Of devices that send as much as is taken.")] = 100,
    subjects: Annotated[int, typer.Option(min=1, max=5_000, help="That move, each in a trip of its own.")] = 1_000,
    watchers: Annotated[int, typer.Option(min=1, max=5_000, help="Who watch, twenty trips each.")] = 1_000,
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Sends a second of the chat beside it.")] = 200.0,
    trips: Annotated[int, typer.Option(min=1, max=2_000, help="Whose arrival times and alerts are timed.")] = 350,
    trip_seconds: Annotated[float, typer.Option(min=0.5, max=120, help="In which they have their positions.")] = 10.0,
    past: Annotated[int, typer.Option(min=100, max=9_000, help="Samples of a trip that is taken up anew.")] = 2_000,
    samples: Annotated[int, typer.Option(min=1000, max=1_000_000, help="Kept in each way.")] = 50_000,
    track: Annotated[int, typer.Option(min=100, max=10_000, help="Samples of the track that is read.")] = 10_000,
    model: Annotated[
        Path | None,
        typer.Option(
            "--trips-file", metavar="FILE", help="Trips that the model is trained on and serves (a made-up city's)."
        ),
    ] = None,
    seconds: SecondsOption = 4.0,
    rounds: RoundsOption = 3,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Positions taken, watched and kept, arrival times, and alerts in inboxes. About four minutes."""
    ctx = Context(quick, OURS, 1 if quick else rounds, 1)
    measured(
        ctx,
        lambda ctx: arrivals_scenario.run(
            ctx,
            connections=connections,
            subjects=subjects,
            watchers=watchers,
            rate=rate,
            riding=trips,
            riding_s=trip_seconds,
            past=past,
            samples=samples,
            track=track,
            file=model or arrivals_scenario.MADE,
            seconds=seconds,
        ),
        json,
    )


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, max=1440.0)] = 30.0,
    clients: Annotated[int, typer.Option(min=1, max=10_000)] = 400,
    rooms: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    rate: Annotated[int, typer.Option(min=1, max=5000, help="Sends a second.")] = 200,
    churn: Annotated[float, typer.Option(min=0.0, max=1000.0, help="Connections cut a second, and back later.")] = 10.0,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> None:
    """Chat for half an hour while clients come and go: does memory stay flat, does the loop stay on time? Not in `all`."""
    ctx = Context(quick, OURS, 1, 1)
    measured(
        ctx,
        lambda ctx: soak_scenario.run(ctx, minutes=minutes, clients=clients, rooms=rooms, rate=rate, churn=churn),
        json,
    )


def add_to(app: typer.Typer) -> None:
    app.command("noisy-neighbour")(noisy_neighbour)
    app.command()(flights)
    app.command()(arrivals)
    app.command()(soak)


def scenarios(rounds: int, quick: bool) -> Scenarios:
    """Those of `all`; a soak takes too long for it."""
    return {
        "noisy-neighbour": lambda path: noisy_neighbour(rounds=rounds, quick=quick, json=path),
        "flights": lambda path: flights(rounds=rounds, quick=quick, json=path),
        "arrivals": lambda path: arrivals(rounds=rounds, quick=quick, json=path),
    }
