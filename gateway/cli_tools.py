"""Commands that look at a database: finding it, and checking the log in it.

For: `readback check` and `readback migrate`, which work on a URL, on a running `readback dev`, or on the data of one that
is stopped. Promises: a stopped database is started for the command and stopped after it; a running one is used as it is.
Does not: change events.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.cli_errors import CliError
from gateway.cli_run import new_key
from gateway.cli_show import FINDINGS_SHOWN
from gateway.config import Config
from store.embedded import running_postgres, running_url
from store.postgres import migrate_database, open_postgres_log


@asynccontextmanager
async def database(config: Config) -> AsyncIterator[str]:
    """The URL of the installation's database, with the rights of its administrator where it is the embedded one."""
    if config.database_url is not None:
        yield config.database_url
        return
    url = running_url(config.postgres_dir)
    if url is not None:
        yield url
        return
    if not config.postgres_dir.exists():
        raise CliError(f"there is no database in {config.data} yet: run `readback dev` once, or give --database-url")
    async with running_postgres(config.postgres_dir) as server:
        yield server.url()


def migrate(config: Config, partitions: int | None) -> list[str]:
    """Bring the schema up to date; the names of what was applied."""

    async def main() -> list[str]:
        async with database(config) as url:
            return await migrate_database(url, partitions=partitions)

    return trio.run(main)


def check_log(config: Config, console: Console) -> tuple[int, list[str]]:
    """Run the log's own check with a progress bar; the number of events seen, and what was found.

    Findings are printed as they come, the first hundred of them.
    """
    return trio.run(partial(_check, config, console))


async def _check(config: Config, console: Console) -> tuple[int, list[str]]:
    findings: list[str] = []
    done = 0
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with database(config) as url, open_postgres_log(url, new_key=new_key) as log:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("checking", total=None)
            async for done, total, finding in log.check():
                progress.update(bar, completed=done, total=total)
                if finding is not None:
                    findings.append(finding)
                    if len(findings) <= FINDINGS_SHOWN:
                        progress.console.print(finding, markup=False, highlight=False, soft_wrap=True)
    if len(findings) > FINDINGS_SHOWN:
        print(f"… and {len(findings) - FINDINGS_SHOWN} more", file=sys.stderr)
    return done, findings
