"""``readback rebuild NAME``: make a read model anew from the log, and put it in place of the old one.

For: an operator, after a change of what rows hold, or in doubt of them. Promises as `gateway.cli` does. Does not: hold logic
(`gateway.work.rebuild`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli_errors import CANNOT, USAGE, CliError, mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.cli_show import open_console
from gateway.config import Config, load_config

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.work.rebuild import Progress

ALL = "all"


@mended
def rebuild(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The read model, or `all`.")],
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Make a read model anew from the log: flight_board, aircraft_line, manifest, seat_map, crew_roster, or all.

    Everything goes on meanwhile: readers have the old one until the new one is whole, then all have the new one at once, and
    who follows a board is told what differs. Nothing but rows is made: no timer fires, no rule acts, nothing is sent. Ended
    before its end, it leaves all as it was. Workers must be of the same version as this command.

    Examples:

      readback rebuild flight_board

      readback rebuild all --database-url postgresql://readback_gateway@db.internal/readback
    """
    from core.flight.views import MODELS

    if name != ALL and name not in MODELS:
        raise CliError(f"There is no read model {name!r}; there are {', '.join(MODELS)}, and all.", USAGE)
    settings = load_config(file=config, arguments={"database_url": database_url, "data": data})
    began = time.monotonic()
    done = run_rebuild(settings, MODELS if name == ALL else (name,), open_console())
    seconds = time.monotonic() - began
    typer.echo(
        f"{name} is made anew: {done.rows} rows of {done.events} events in {seconds:.1f} s; workers waited "
        f"{1000 * done.held_s:.0f} ms"
    )


def run_rebuild(config: Config, models: tuple[str, ...], console: Console) -> Progress:
    """With a progress bar. `CliError` where it cannot be made."""
    import secrets

    import trio
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from gateway.cli_run import new_key
    from gateway.cli_tools import database
    from gateway.work.rebuild import Rebuild, RebuildError
    from store.postgres import open_postgres_log

    columns = (TextColumn("rebuilding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    async def main() -> Progress:
        async with database(config) as url, open_postgres_log(url, new_key=new_key) as log:
            with Bar(*columns, console=console, transient=True) as bar:
                task = bar.add_task("rebuilding", total=None)

                def tell(progress: Progress) -> None:
                    bar.update(task, completed=progress.done, total=progress.total)

                holder = f"rebuild.{secrets.token_hex(4)}"
                try:
                    return await Rebuild(log, log.work, models, holder=holder, tell=tell).run()
                except RebuildError as error:
                    raise CliError(str(error), CANNOT) from None

    return trio.run(main)
