"""``readback eta``: history out of the database, training on it, replay, and the score. What each command takes and says.

For: whoever wants to know how good the arrival times are, at a terminal or in a pipeline (`gateway.cli_errors` has the exit
codes). Promises as `gateway.cli` does: it imports nothing heavy before a command runs. Does not: hold logic (`gateway.eta`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli_errors import USAGE, CliError, mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.cli_show import open_console

if TYPE_CHECKING:
    from core.geo.model import Model
    from core.geo.score import Score
    from gateway.eta.played import Played
    from gateway.eta.trips import Trip

eta_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train arrival times on history, one's own or others', replay trips, and score what was said. docs/eta.md says how.",
)

History = Annotated[
    Path, typer.Option("--history", metavar="FILE", help="Trips that were made, one a line (docs/eta.md).")
]
Trips = Annotated[Path, typer.Option("--trips", metavar="FILE", help="Trips to say arrival times of, one a line.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of folds, of training, of faults.")]
By = Annotated[str, typer.Option("--by", metavar="WHAT", help="What a fold keeps together: vehicle or trip.")]
Folds = Annotated[int, typer.Option("--folds", metavar="K", min=2, max=1_000, help="Parts for cross-validation.")]
Json = Annotated[bool, typer.Option("--json", help="The same as one JSON document.")]
Part = Annotated[float, typer.Option(metavar="PART", min=0.0, max=1.0)]


@eta_app.command()
@mended
def train(
    history: History,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the model goes.")],
    cross_validate: Annotated[
        int,
        typer.Option("--cross-validate", metavar="K", min=0, help="First say how good it is, in K parts (0: do not)."),
    ] = 0,
    seed: Seed = 1,
    by: By = "vehicle",
) -> None:
    """Make a model of arrival times from history.

    Needs LightGBM (pip install 'readback\\[eta]'); what serves the model does not. The same history and seed make the same
    model.

    Examples:

      readback eta train --history trips.jsonl --out model.json

      readback eta train --history trips.jsonl --out model.json --cross-validate 5
    """
    from gateway.eta import files, show
    from gateway.eta import train as training
    from gateway.eta.bar import bar
    from gateway.eta.played import Faults
    from gateway.eta.replay import crossed, play

    _by(by)
    _into(out)
    console = open_console()
    trips = _read(history)
    training.learning_library()
    if cross_validate == 1:
        raise CliError("--cross-validate 1 leaves nothing to train on: 2 or more", USAGE)
    if cross_validate:
        played: list[Played] = []
        with bar("cross-validating", cross_validate * training.steps(trips, by)) as step:
            for model, mine in crossed(trips, cross_validate, seed, by, step):
                played += [play(trip, model, Faults()) for trip in mine]
        show.print_score(_scored(played), open_console(stderr=False))
    with bar("training", training.steps(trips, by)) as step:
        model = training.train(trips, seed, step, by)
    files.write_model(out, model)
    console.print(
        f"{out}: {model.trained['trips']} trips of {model.trained['vehicles']} vehicles, {len(model.pace.fine)} cells of pace, "
        f"{len(model.mean.trees)} and {len(model.spread.trees)} trees, {out.stat().st_size // 1000} kB",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@eta_app.command()
@mended
def export(
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose trips.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the trips go.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Trips that began then or later: a day or a time.", show_default=False
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Trips that began before then.", show_default=False)
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", metavar="MODE", help="Trips of this mode; may be repeated (car, bus, truck)."),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            "--zone", metavar="ZONE", help="Where the hour of the week is told (the tenant's).", show_default=False
        ),
    ] = None,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """History of one's own: trips that were completed, as `train` reads them.

    Leaves out what cannot teach, and says how many and why: trips without a planned way, without positions, or whose way is
    from a provider that lets nothing be kept. Reads alone, while the gateway runs or not. One mode a model is best.

    Examples:

      readback eta export --tenant demo --out trips.jsonl

      readback eta export --tenant demo --mode bus --from 2026-10-01 --out buses.jsonl
    """
    from core.trip.plan import MODES
    from gateway.config import load_config
    from gateway.eta import exporting
    from gateway.eta.bar import bar

    modes = mode or ["car", "bus", "truck"]
    for one in modes:
        if one not in MODES:
            raise CliError(f"--mode is one of {', '.join(MODES)}, not {one}", USAGE)
    _into(out)
    settings = load_config(file=config, arguments={"database_url": database_url, "data": data})
    wanted = exporting.wanted(settings, tenant, from_, to, zone, modes)
    with bar("reading trips", None) as step:
        kept, left_out = exporting.export(settings, tenant, wanted, out, step.of)
    console = open_console()
    console.print(f"{out}: {kept} trips", highlight=False, markup=False, soft_wrap=True)
    for why, count in left_out.most_common():
        console.print(f"left out, {why}: {count}", highlight=False, markup=False, soft_wrap=True)


@eta_app.command()
@mended
def replay(
    trips: Trips,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="Where what is said goes; beside it alerts.jsonl, calls.jsonl."),
    ],
    history: Annotated[
        Path | None,
        typer.Option(
            "--history",
            metavar="FILE",
            help="Train on it; where it is the trips' own file, in parts, so that no model has seen the vehicle.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="Use this model instead.", show_default=False)
    ] = None,
    estimator: Annotated[
        str, typer.Option("--estimator", metavar="NAME", help="shown; raw (not steadied); grid, grid93 (baselines).")
    ] = "shown",
    folds: Folds = 5,
    by: By = "vehicle",
    drop: Part = 0.0,
    delay: Part = 0.0,
    duplicate: Part = 0.0,
    no_provider_after: Annotated[
        float | None,
        typer.Option(
            "--no-provider-after",
            metavar="SECONDS",
            help="The provider of routes is dead from then on, in each trip.",
            show_default=False,
        ),
    ] = None,
    no_provider: Annotated[bool, typer.Option("--no-provider", help="There is no provider of routes.")] = False,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="Plans name the goal alone; only a provider knows the way.")
    ] = False,
    detour: Annotated[
        float,
        typer.Option(metavar="PART", min=0.0, max=1.0, help="The part of plans that is wrong in the middle third."),
    ] = 0.0,
    seed: Seed = 1,
) -> None:
    """Say arrival times of trips as they were, fix by fix, and write down each.

    Trips are planned, moved and told of as the gateway does it, alerts and calls for routes as well. --drop, --delay and
    --duplicate take the part of fixes (0.3) that the way in loses, holds up or doubles.

    Examples:

      readback eta replay --history trips.jsonl --trips trips.jsonl --out predictions.jsonl

      readback eta replay --model model.json --trips today.jsonl --out predictions.jsonl --drop 0.3

      readback eta replay --trips today.jsonl --out predictions.jsonl
    """
    from gateway.eta import files, show
    from gateway.eta import train as training
    from gateway.eta.bar import bar
    from gateway.eta.played import Faults
    from gateway.eta.replay import ESTIMATORS, crossed, play
    from gateway.eta.served import World

    _by(by)
    _into(out)
    if estimator not in ESTIMATORS:
        raise CliError(f"--estimator is one of {', '.join(ESTIMATORS)}, not {estimator}", USAGE)
    if history is not None and model is not None:
        raise CliError("--model needs no history: leave out one of them", USAGE)
    if no_provider and no_provider_after is not None:
        raise CliError("--no-provider leaves none to die: leave out --no-provider-after", USAGE)
    faults = Faults(drop, delay, duplicate, seed)
    world = World(not no_provider, no_provider_after, detour, not unplanned)

    def said(made: Model | None, trip: Trip) -> Played:
        return play(trip, made, faults, estimator, world)

    asked = _read(trips)
    loaded = None if model is None else files.load_model(model)
    same = history is not None and history.exists() and history.samefile(trips)
    seen: list[Trip] = []
    if history is not None and not same:
        seen = _without(_read(history), asked)
    played: list[Played] = []
    rounds = folds if same else 1 if seen else 0
    with bar("replaying", rounds * training.steps(asked if same else seen or asked, by) + len(asked)) as step:
        if same:
            for made, mine in crossed(asked, folds, seed, by, step):
                played += _each(mine, step, partial(said, made))
        else:
            used = training.train(seen, seed, step, by) if seen else loaded
            played += _each(asked, step, partial(said, used))
    order = {trip.name: at for at, trip in enumerate(asked)}
    played.sort(key=lambda one: order[one.trip.name])
    files.write_whole(out, files.prediction_lines(played))
    files.write_whole(out.with_name("alerts.jsonl"), files.alert_lines(played))
    files.write_whole(out.with_name("calls.jsonl"), files.call_lines(played))
    fixes = max(1, sum(one.fixes for one in played))
    console = open_console()
    console.print(
        f"{len(played)} trips, {fixes} fixes, {sum(one.cpu_s for one in played) / fixes * 1e6:.0f} us of CPU a fix",
        highlight=False,
        soft_wrap=True,
    )
    if estimator == "shown":
        show.print_played(played, console)


@eta_app.command()
@mended
def score(
    trips: Trips,
    predictions: Annotated[Path, typer.Option("--predictions", metavar="FILE", help="What was said of them.")],
    alerts: Annotated[
        Path | None, typer.Option("--alerts", metavar="FILE", help="Which alerts went out.", show_default=False)
    ] = None,
    calls: Annotated[
        Path | None,
        typer.Option("--calls", metavar="FILE", help="How often routes were asked for.", show_default=False),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="FOLDER", help="Draw pictures there.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Say how good arrival times were: the ETA Accuracy Benchmark, errors, intervals, how calmly they moved, alerts, calls.

    Examples:

      readback eta score --trips trips.jsonl --predictions predictions.jsonl

      readback eta score --trips trips.jsonl --predictions predictions.jsonl --alerts alerts.jsonl --plots pictures
    """
    from core.geo.score import score as scored
    from gateway.eta import files, show

    arrivals = {trip.name: trip.arrive_s for trip in _read(trips)}
    known = frozenset(arrivals)
    said = files.read_predictions(predictions, known)
    found = scored(
        arrivals,
        said,
        None if alerts is None else files.read_alerts(alerts, known),
        None if calls is None else files.read_calls(calls, known),
    )
    if json:
        import orjson

        sys.stdout.buffer.write(
            orjson.dumps(show.as_json(found), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
    else:
        show.print_score(found, open_console(stderr=False))
    if plots is not None:
        for path in show.draw(found, arrivals, said, plots):
            typer.echo(str(path), err=True)


def _by(what: str) -> None:
    if what not in ("vehicle", "trip"):
        raise CliError(f"--by is vehicle or trip, not {what}", USAGE)


def _into(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise CliError(f"there is no folder {path.absolute().parent} to write {path.name} to", USAGE)


def _read(path: Path) -> list[Trip]:
    from gateway.eta.trips import read_trips

    return read_trips(path)


def _without(history: list[Trip], asked: list[Trip]) -> list[Trip]:
    """History of other vehicles than those that are asked about."""
    vehicles = {trip.vehicle for trip in asked}
    rest = [trip for trip in history if trip.vehicle not in vehicles]
    if not rest:
        raise CliError("all of the history is of vehicles that the trips are of: nothing to train on", USAGE)
    return rest


def _each(trips: list[Trip], step: Callable[[], None], run: Callable[[Trip], Played]) -> list[Played]:
    played: list[Played] = []
    for trip in trips:
        played.append(run(trip))
        step()
    return played


def _scored(played: list[Played]) -> Score:
    from core.geo.score import Alert, Said, score

    return score(
        {one.trip.name: one.trip.arrive_s for one in played},
        {one.trip.name: [Said(*said[:5]) for said in one.said] for one in played},
        {one.trip.name: [Alert(rung.threshold_s, rung.at_s, rung.merged) for rung in one.alerts] for one in played},
        {one.trip.name: one.calls for one in played},
    )
