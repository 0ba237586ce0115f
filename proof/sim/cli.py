"""``readback sim``: live seeds, judge them, and say how to see a failing one again."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.cli_errors import FINDINGS, CliError, mended
from gateway.config import ConfigError
from proof import history
from proof.sim.bites import SEEDS_MAX, bites
from proof.sim.many import Outcome, Task, live_task, many, outcome, shrink
from proof.sim.meters import Meters
from proof.sim.mutants import BY_NAME, MUTANTS
from proof.sim.scheduler import fits
from proof.sim.swarm import Size, draw, reduced

app = typer.Typer(
    add_completion=False, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)
FAILURES_SHOWN = 10
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@app.command()
@mended
def sim(
    seed: Annotated[int | None, typer.Option(metavar="N", help="One seed.", show_default=False)] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A-B", help="Many: 0-1999.", show_default=False)] = None,
    size: Annotated[str, typer.Option(help="short, small or large: how much there is in a run.")] = "small",
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes for many seeds.")] = os.cpu_count() or 1,
    minutes: Annotated[
        float | None,
        typer.Option(help="Go on from the first seed for so long, whatever --seeds ends at.", show_default=False),
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print everything that happens, as it happens.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--history", metavar="FILE", help="Write the history, for `readback check --history`.", show_default=False
        ),
    ] = None,
    crash_at: Annotated[
        int | None,
        typer.Option(metavar="STEP", help="In a short run: the first node crashes there.", show_default=False),
    ] = None,
    every_crash: Annotated[
        bool, typer.Option("--every-crash", help="In short runs: crash at each step of the first node, one run each.")
    ] = False,
    mutant: Annotated[str, typer.Option(metavar="NAME", help="With this error planted (`list` names them).")] = "",
    without: Annotated[str, typer.Option(metavar="A,B", help="Leave out these troubles of the seed.")] = "",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change what the seed drew.", show_default=False),
    ] = None,
    do_shrink: Annotated[
        bool, typer.Option("--shrink", help="Find as little of a failing seed as still fails.")
    ] = False,
    say_json: Annotated[bool, typer.Option("--json", help="The outcome as JSON on stdout.")] = False,
    all_paths: Annotated[
        bool, typer.Option("--all-paths", help="Fail as well where a rare path that must be met never was.")
    ] = False,
    bite: Annotated[
        bool,
        typer.Option("--bites", help="Plant each mutant (or --mutant alone) and find the first seed that finds it."),
    ] = False,
) -> None:
    """Live whole clusters from seeds: real nodes and clients on simulated sockets, log, bus and clocks, with faults.

    Every run is held to the guarantees of `readback check --history`. The same seed gives the same run on every machine;
    a failing one is told with the command that repeats it. Ends with 1 when a run fails.

    Examples:

      readback sim --seed 12 --trace

      readback sim --seeds 0-1999

      readback sim --seeds 0-39 --size large

      readback sim --seed 0 --size short --every-crash

      readback sim --seeds 0-1999 --mutant resume-off-by-one
    """
    why_not = fits()
    if why_not is not None:
        raise CliError(why_not)
    if size not in get_args(Size):
        raise ConfigError(f"--size {size}: one of {', '.join(get_args(Size))}")
    if mutant == "list":
        for planted in BY_NAME.values():
            typer.echo(f"{planted.name:32} {planted.where}")
        return
    if mutant and mutant not in BY_NAME:
        raise ConfigError(f"--mutant {mutant}: there is no such; --mutant list names them")
    if bite:
        _bites(mutant, jobs, _range(seeds, seed).stop if seeds or seed else SEEDS_MAX, say_json)
        return
    changes = _changes(size, without, change or [])
    first = Task(seed or 0, size, crash_at, mutant, changes)  # type: ignore[arg-type]  # looked up above
    if seed is not None and not every_crash:
        _one(first, trace, save, do_shrink, say_json)
    else:
        tasks = _crashes(first, _range(seeds, seed)) if every_crash else _tasks(first, _range(seeds, seed), minutes)
        total = None if minutes is not None else _count(first, _range(seeds, seed), every_crash)
        _many(tasks, total, jobs, do_shrink, say_json, all_paths, seeds or str(seed if seed is not None else "0-99"))


def _changes(size: str, without: str, change: list[str]) -> dict[str, object]:
    changes: dict[str, object] = {}
    if without:
        changes["without"] = tuple(without.split(","))
    for setting in change:
        name, _, value = setting.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            raise ConfigError(f"--set {setting}: a name, =, and a number") from None
    try:
        reduced(draw(0, size), changes)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"there is nothing to change called {error}") from None
    return changes


def _range(seeds: str | None, seed: int | None) -> range:
    if seed is not None:
        return range(seed, seed + 1)
    low, _, high = (seeds or "0-99").partition("-")
    if not low.isdigit() or not (high or low).isdigit() or int(high or low) < int(low):
        raise ConfigError(f"--seeds {seeds}: two numbers, such as 0-1999")
    return range(int(low), int(high or low) + 1)


def _tasks(like: Task, seeds: range, minutes: float | None) -> Iterator[Task]:
    until_s = time.monotonic() + (minutes or 0.0) * 60
    for seed in seeds if minutes is None else itertools.count(seeds.start):
        if minutes is not None and time.monotonic() >= until_s:
            return
        yield Task(seed, like.size, None, like.mutant, like.changes)


def _steps(like: Task, seed: int) -> int:
    return outcome(Task(seed, "short", None, "", like.changes)).steps


def _count(like: Task, seeds: range, every_crash: bool) -> int:
    return sum(_steps(like, seed) for seed in seeds) if every_crash else len(seeds)


def _crashes(like: Task, seeds: range) -> Iterator[Task]:
    for seed in seeds:
        for step in range(1, _steps(like, seed) + 1):
            yield Task(seed, "short", step, like.mutant, like.changes)


def _one(task: Task, trace: bool, save: Path | None, do_shrink: bool, say_json: bool) -> None:
    lived = live_task(task, typer.echo if trace else None)
    if save is not None:
        count = history.write(save, lived.records)
        typer.echo(f"{count} records in {save}: readback check --history {save}", err=True)
    if say_json:
        told = {"command": task.command(), "run": str(lived.swarm), "trace": lived.digest, "findings": lived.findings,
                "judged": lived.judged, "meters": lived.meters, "ok": lived.ok}  # fmt: skip
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    else:
        typer.echo(f"seed {task.seed}, {lived.swarm}")
        times = f"{lived.simulated_s:.1f} s simulated in {lived.took_s:.2f} s"
        typer.echo(f"{len(lived.records)} records, {times}, trace {lived.digest}")
    if lived.failure is not None:
        _shrunk(task, do_shrink)
        raise lived.failure
    for finding in lived.findings[:FAILURES_SHOWN]:
        typer.echo(finding, err=True)
    if lived.findings:
        _shrunk(task, do_shrink)
        raise typer.Exit(FINDINGS)
    if not say_json:
        typer.echo("all guarantees hold")


def _shrunk(task: Task, do_shrink: bool) -> None:
    if do_shrink:
        least = shrink(task, lambda command: typer.echo(f"  still fails: {command}", err=True))
        typer.echo(f"as little as still fails: {least.command()}", err=True)


def _many(
    tasks: Iterator[Task],
    total: int | None,
    jobs: int,
    do_shrink: bool,
    say_json: bool,
    all_paths: bool,
    seeds: str,
) -> None:
    console = Console(stderr=True)
    meters, judged, failed, done = Meters(), Counter[str](), [], 0
    simulated_s = cpu_s = 0.0
    began_s = time.monotonic()
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        bar = progress.add_task("seeds", total=total)
        for result in many(tasks, jobs):
            done += 1
            meters.update(result.meters)
            judged.update(result.judged)
            simulated_s += result.simulated_s
            cpu_s += result.cpu_s
            if not result.ok:
                failed.append(result)
                _tell(result, progress.console)
            progress.update(bar, completed=done, description=f"seeds, {len(failed)} failed")
            if len(failed) >= FAILURES_SHOWN:
                break
    took_s = time.monotonic() - began_s
    if say_json:
        told: dict[str, Any] = {
            "seeds": seeds, "runs": done, "failed": [result.task.command() for result in failed], "seconds": round(took_s, 1),
            "cpu_seconds": round(cpu_s, 1), "simulated_s": round(simulated_s), "judged": judged, "meters": meters,
            "never_met": meters.missing(),
        }  # fmt: skip
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    else:
        typer.echo(
            f"{done} runs, {len(failed)} failed; {simulated_s / 3600:.1f} h simulated in {took_s:.0f} s "
            f"({60 * done / cpu_s if cpu_s else 0:.0f} a minute of a core)"
        )
    missing = meters.missing() if all_paths else []
    if missing:
        typer.echo(f"never met, though they must be: {', '.join(missing)}", err=True)
    if failed and do_shrink:
        _shrunk(failed[0].task, True)
    if failed or missing:
        raise typer.Exit(FINDINGS)


def _bites(name: str, jobs: int, seeds_max: int, say_json: bool) -> None:
    chosen = [BY_NAME[name]] if name else list(MUTANTS)
    told, loose = [], 0
    with Progress(*COLUMNS, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("mutants", total=len(chosen))
        for done, bite in enumerate(bites(chosen, jobs, seeds_max), 1):
            found = bite.found
            loose += found is None
            seed = None if found is None else found.task.seed
            told.append({"mutant": bite.mutant.name, "where": bite.mutant.where, "seed": seed, "by": bite.by})
            if not say_json:
                at = "" if seed is None else f"seed {seed}: "
                progress.console.print(f"{bite.mutant.name:32} {at}{bite.by}", highlight=False, soft_wrap=True)
            progress.update(bar, completed=done)
    if say_json:
        sys.stdout.write(json.dumps({"seeds_max": seeds_max, "mutants": told}, indent=1) + "\n")
    else:
        typer.echo(f"{len(chosen) - loose} of {len(chosen)} planted errors found, each within {seeds_max} seeds")
    if loose:
        raise typer.Exit(FINDINGS)


def _tell(result: Outcome, console: Console) -> None:
    console.print(result.why[:400], markup=False, highlight=False, soft_wrap=True)
    console.print(f"  to see it again: {result.task.command()}", markup=False, highlight=False, soft_wrap=True)
