"""Rules at a terminal: files read and checked, and tried on a history from the log or from a file.

For: `gateway.cli_rules`. Promises: changes nothing anywhere; whatever is wrong with a file of rules or a history is one
sentence that names the file and the line; nothing in them can say anything to the terminal that shows it. Reads the log a page
at a time, one stream after the other: what is held is one page and the rules' own memory. Does not: judge (`core.rules`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import trio
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.commands import recorded
from core.flight import times
from core.flight.machine import Recorded
from core.model import PRINCIPAL_RE, STREAM_RE, TENANT_RE, TYPE_RE
from core.ports import Log
from core.rules.dry_run import DryRun, Report, RuleReport, Run
from core.rules.expr import time_text
from core.rules.load import Problem, load
from core.rules.loops import FACTS
from core.rules.model import Globs, RuleSet
from core.work import Firing
from gateway.cli_errors import USAGE, CliError
from gateway.cli_run import new_key
from gateway.cli_tools import database
from gateway.config import Config
from gateway.log_lines import one_line
from store.postgres import open_postgres_log

PAGE: Final = 1_000
STEP_BYTES: Final = 1 << 20  # the bar moves after each: moving it costs more than reading a line
TEXT_SHOWN: Final = 100


def read_rules(paths: Sequence[Path]) -> RuleSet | list[Problem]:
    """The rules of these files, or what is wrong with them. `CliError` where one cannot be read."""
    texts: list[tuple[str, str]] = []
    for path in paths:
        try:
            texts.append((str(path), path.read_text(encoding="utf-8")))
        except OSError as error:
            raise CliError(f"the rules {path} cannot be read: {error.strerror}", USAGE) from None
        except UnicodeDecodeError:
            raise CliError(f"the rules {path} are not UTF-8 text", USAGE) from None
    return load(texts, FACTS)


def told(problems: Sequence[Problem]) -> list[str]:
    return [one_line(str(problem)) for problem in problems]


def read_time(text: str, option: str) -> int:
    """A day (its first moment, UTC) or a time, in Unix milliseconds."""
    found = times.read(f"{text}T00:00:00Z" if len(text) == 10 else text)
    if found.why:
        raise CliError(f"{option} {one_line(found.message)}; a day like 2026-11-01 is taken too", USAGE)
    return found.ms


# From a file


def try_file(run: DryRun, path: Path, tenant: str | None, streams: Globs, console: Console) -> Report:
    """A history with one event a line. What is waited for at its end is until its last event."""
    runs: dict[tuple[str, str], Run] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_with_bar(file, path, console), 1):
                if not line.strip():
                    continue
                of, stream, event = _parsed(line, f"{path}:{number}", tenant)
                if (tenant is not None and of != tenant) or not streams.match(stream):
                    continue
                one = runs.get((of, stream))
                if one is None:
                    one = runs[of, stream] = run.begin(of, stream)
                if event.seq <= one.seq:
                    raise CliError(
                        f"{path}:{number}: seq {event.seq} of {stream} comes after {one.seq}: a stream's events are in order",
                        USAGE,
                    )
                one.event(event)
    except OSError as error:
        raise CliError(f"the history {path} cannot be read: {error.strerror}", USAGE) from None
    for one in runs.values():
        one.end(run.report.last_ms or 0)
    return run.report


def _with_bar(file: Any, path: Path, console: Console) -> Iterator[bytes]:
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("reading", total=path.stat().st_size)
        size = 0
        for line in file:
            size += len(line)
            if size >= STEP_BYTES:
                progress.advance(bar, size)
                size = 0
            yield line


def _parsed(line: bytes, place: str, tenant: str | None) -> tuple[str, str, Recorded]:
    """An event of a history's line."""
    try:
        given = orjson.loads(line)
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise CliError(
            f"{place}: this is no event: a line is a JSON object with stream, seq, type, by, at, body", USAGE
        )
    of, stream, type, by = (given.get(name) for name in ("tenant", "stream", "type", "by"))
    of = (tenant or "demo") if of is None else of
    seq, body, at = given.get("seq"), given.get("body", {}), times.read(given.get("at"))
    for name, value, shape in (
        ("tenant", of, TENANT_RE), ("stream", stream, STREAM_RE), ("type", type, TYPE_RE), ("by", by, PRINCIPAL_RE),
    ):  # fmt: skip
        if not isinstance(value, str) or not shape.match(value):
            raise CliError(f"{place}: `{name}` is not one: {one_line(repr(value))[:100]}", USAGE)
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
        raise CliError(f"{place}: `seq` is the event's number in its stream, from 1", USAGE)
    if at.why:
        raise CliError(f"{place}: `at` {one_line(at.message)}", USAGE)
    if not isinstance(body, dict):
        raise CliError(f"{place}: `body` is an object", USAGE)
    return str(of), str(stream), Recorded(seq, str(type), str(by), at.ms, body)


# From the log


def try_log(run: DryRun, config: Config, tenant: str | None, streams: Globs, now_ms: int, console: Console) -> Report:
    """The whole log's history, of the streams that any rule is for. What is waited for at a stream's end is until now."""

    async def main() -> None:
        async with database(config) as url, open_postgres_log(url, new_key=new_key) as log:
            await fold_log(log, run, tenant, streams, now_ms, console)

    trio.run(main)
    return run.report


async def fold_log(log: Log, run: DryRun, tenant: str | None, streams: Globs, now_ms: int, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        wanted = await _wanted(log, run.rules, tenant, streams, progress)
        bar = progress.add_task("trying the rules", total=len(wanted))
        for sid, of, stream in wanted:
            one = run.begin(of, stream)
            after = 0
            while events := await log.read(of, sid, after, PAGE):
                for event in events:
                    one.event(recorded(event))
                after = events[-1].seq
            one.end(now_ms)
            progress.advance(bar)


async def _wanted(
    log: Log, rules: RuleSet, tenant: str | None, streams: Globs, progress: Progress
) -> list[tuple[int, str, str]]:
    """(sid, tenant, stream) of what any rule is for. There is no list of all streams: the log itself says which there are."""
    heads = await log.heads()
    bar = progress.add_task("finding streams", total=sum(heads))
    seen: set[int] = set()
    found: list[tuple[int, str, str]] = []
    for partition, head in enumerate(heads):
        pos = 0
        while pos < head:
            events = await log.tail(partition, pos, PAGE)
            if not events:
                break
            new = sorted({event.sid for event in events} - seen)
            seen.update(new)
            for sid, (of, stream) in (await log.names(new)).items() if new else ():
                applies = any(rule.for_tenant(of) and rule.streams.match(stream) for rule in rules.rules)
                if applies and tenant in (None, of) and streams.match(stream):
                    found.append((sid, of, stream))
            progress.advance(bar, events[-1].pos - pos)
            pos = events[-1].pos
    progress.remove_task(bar)
    return sorted(found, key=lambda one: one[1:])


# What is shown


def print_report(report: Report, console: Console) -> None:
    """How often each rule did what (columns of zeros are left out), then its first firings with what it would have done."""
    counts: dict[str, list[int]] = {
        "fired": [rule.verdicts["fired"] for rule in report.rules.values()],
        "later": [rule.later for rule in report.rules.values()],
        "held": [rule.verdicts["held"] for rule in report.rules.values()],
        "suppressed": [rule.verdicts["suppressed"] for rule in report.rules.values()],
        "ended": [rule.verdicts["not_effective"] for rule in report.rules.values()],
        "errors": [rule.verdicts["error"] for rule in report.rules.values()],
        "loops": [rule.verdicts["loop"] for rule in report.rules.values()],
        "streams": [len(rule.streams) for rule in report.rules.values()],
        "waiting": [rule.waiting for rule in report.rules.values()],
    }
    shown = {name: column for name, column in counts.items() if name == "fired" or any(column)}
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("rule")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for rule, *row in zip(report.rules.values(), *shown.values(), strict=True):
        table.add_row(f"{rule.rule.id} ({rule.rule.version})", *(f"{count:,}" for count in row))
    console.print(table)
    for rule in report.rules.values():
        for line in _lines(rule):
            console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
    for stream in report.cut:
        console.print(
            f"Mind that {stream} has more timers than are simulated: it was left.", markup=False, soft_wrap=True
        )
    console.print(summary(report), markup=False, highlight=False, soft_wrap=True)


def _lines(rule: RuleReport) -> Iterator[str]:
    if not rule.first and not rule.errors:
        return
    yield f"{rule.rule.id}: {rule.rule.says}" if rule.rule.says else f"{rule.rule.id}:"
    for firing in rule.first:
        done = "; ".join(_done(action) for action in firing.actions) or _reason(firing)
        yield f"  {time_text(firing.at_ms)}  {firing.stream}  {firing.verdict}: {done}"
    for error in rule.errors:
        if all(error != firing.inputs.get("reason") for firing in rule.first):
            yield f"  and {error}"


def _reason(firing: Firing) -> str:
    return str(firing.inputs.get("reason", ""))


def _done(action: dict[str, Any]) -> str:
    body = action["body"]
    text = str(body.get("text", "")) if action["kind"] in ("message", "notify") else orjson.dumps(body).decode()
    what = action["type"] if action["kind"] == "command" else action["url"] if action["kind"] == "webhook" else "→"
    where = "" if action["kind"] == "webhook" else f" {action['stream']}"
    return f"{action['kind']} {what}{where} {text[:TEXT_SHOWN]}{'…' if len(text) > TEXT_SHOWN else ''}"


def summary(report: Report) -> str:
    fired = sum(rule.verdicts["fired"] for rule in report.rules.values())
    span = ""
    if report.first_ms is not None and report.last_ms is not None:
        span = f" from {time_text(report.first_ms)} to {time_text(report.last_ms)}"
    rules = "1 rule" if len(report.rules) == 1 else f"{len(report.rules)} rules"
    return f"{rules} over {report.events:,} events in {report.streams:,} streams{span}: fired {fired:,} times"


def failed(report: Report) -> bool:
    """Whether a rule failed, or rules led to each other."""
    return any(rule.verdicts["error"] or rule.verdicts["loop"] for rule in report.rules.values())
