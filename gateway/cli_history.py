"""`readback check --history`: a recorded run held against the guarantees, told as a table or as JSON.

For: `gateway.cli`. Promises: a file that is no history is one sentence and exit status 2; nothing in a history can say
anything to the terminal that shows it. Does not: judge (`proof.guarantees`). Holds the whole history in memory, where a
million records take some 300 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import orjson
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.cli_errors import USAGE, CliError
from gateway.cli_show import FINDINGS_SHOWN
from gateway.log_lines import one_line
from proof.committed import followed, read_log
from proof.files import SUFFIX, files_of, merged
from proof.guarantees import GUARANTEES, Report, check
from proof.history import Committed, End, HistoryError, Record, parse

STEP_BYTES = 1 << 20  # the bar moves after each: moving it costs more than reading a line
STYLES = {"holds": "green", "broken": "bold red", "nothing seen": "dim"}


def check_history(paths: Sequence[Path], console: Console, database_url: str | None = None) -> Report:
    """Read a history with a progress bar and judge it. `CliError` for a file that cannot be read or is none.

    Several files, or those of a folder, are one history (`proof.files`). With a database what its log holds of the streams
    in question is taken from there, which a capture cannot know; raises `core.ports.StoreError` as well then.
    """
    try:
        records = _load(paths, console)
    except HistoryError as error:
        raise CliError(f"this is no history: {one_line(str(error))}", USAGE) from None
    except OSError as error:
        path = paths[0] if error.filename is None else error.filename
        raise CliError(f"the history {path} cannot be read: {error.strerror}", USAGE) from None
    if not records:
        raise CliError(f"this is no history: {paths[0]} has no record in it", USAGE)
    if database_url is not None:
        _add_log(records, database_url, console)
    return check(records)


def _load(paths: Sequence[Path], console: Console) -> list[Record]:
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    files = files_of(paths)
    if not files:
        raise CliError(f"this is no history: the folder {paths[0]} holds no file named *{SUFFIX}", USAGE)
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ExitStack() as stack,
    ):
        opened = [stack.enter_context(path.open("rb")) for path in files]
        bar = progress.add_task("reading", total=sum(path.stat().st_size for path in files))

        def lines(file: IO[bytes]) -> Iterator[bytes]:
            size = 0
            for line in file:
                size += len(line)
                if size >= STEP_BYTES:
                    progress.advance(bar, size)
                    size = 0
                yield line

        return list(merged([parse(lines(file), str(path)) for file, path in zip(opened, files, strict=True)]))


def _add_log(records: list[Record], url: str, console: Console) -> None:
    """What the log holds, at the end of the history, where it was read."""
    if any(isinstance(record, Committed) for record in records):
        raise CliError("the history brings what it says of the log: --with-log is for captures, which do not", USAGE)
    import trio

    from store.postgres import open_postgres_log

    end = [records.pop()] if isinstance(records[-1], End) else []
    t = records[-1].t if records else 0.0
    wanted = sorted(followed(records))

    async def read() -> None:
        async with open_postgres_log(url) as log:
            await read_log(log, wanted, t, records.append)

    with console.status("reading the log"):
        trio.run(read)
    records += end


def print_report(report: Report, console: Console) -> None:
    """Each guarantee with what was seen of it, then the first findings, then the sum."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("guarantee", no_wrap=True)
    table.add_column("promise")
    table.add_column("judged", justify="right", no_wrap=True)
    table.add_column("findings", justify="right", no_wrap=True)
    found = report.found()
    for guarantee in GUARANTEES:
        state, judged = report.state(guarantee.name), report.judged[guarantee.name]
        findings = str(found.get(guarantee.name, 0)) if judged or state == "broken" else state
        table.add_row(guarantee.name, guarantee.promise, f"{judged:,}", Text(findings, style=STYLES[state]))
    console.print(table)
    for finding in report.findings[:FINDINGS_SHOWN]:
        text = one_line(
            f"record {finding.index + 1} ({finding.t:.3f} s) {finding.guarantee}: {finding.where}: {finding.detail}"
        )
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if len(report.findings) > FINDINGS_SHOWN:
        console.print(f"… and {len(report.findings) - FINDINGS_SHOWN} more", highlight=False)
    if report.findings:
        console.print()
    for warning in report.warnings:
        console.print(f"Mind that {warning}.", markup=False, highlight=False, soft_wrap=True)
    console.print(summary(report), markup=False, highlight=False, soft_wrap=True)


def summary(report: Report) -> str:
    records, unseen = f"{report.records:,} records", sum(not judged for judged in report.judged.values())
    if report.findings:
        broken = len(report.found())
        return f"{len(report.findings)} findings in {records}: {broken} of {len(GUARANTEES)} guarantees are broken"
    seen = len(GUARANTEES) - unseen
    return f"all is well: {seen} guarantees hold in {records}, of {unseen} nothing was seen"


def report_json(report: Report) -> bytes:
    """One document: what was seen of each guarantee, and every finding."""
    found = report.found()
    document = {
        "records": report.records,
        "holds": report.holds,
        "warnings": report.warnings,
        "guarantees": [
            {
                "guarantee": guarantee.name,
                "promise": guarantee.promise,
                "state": report.state(guarantee.name),
                "judged": report.judged[guarantee.name],
                "findings": found.get(guarantee.name, 0),
            }
            for guarantee in GUARANTEES
        ],
        "findings": [
            {
                "guarantee": finding.guarantee,
                "record": finding.index + 1,
                "t": finding.t,
                "where": finding.where,
                "detail": finding.detail,
            }
            for finding in report.findings
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
