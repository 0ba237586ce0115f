"""``readback dlq``, ``saga``, ``jobs``, ``lag``: what waits for an operator, and an operator's word on it.

For: a person at a terminal and scripts (``--json``), at the database, whether workers run or not. What is said here is heard
by the workers within a beat. Promises as `gateway.cli` does. Does not: hold logic (`gateway.work_tools`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli_errors import FINDINGS, USAGE, CliError, mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.config import Config, load_config

if TYPE_CHECKING:
    from collections.abc import Sequence

Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="Of this tenant only.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="The same as one JSON document.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="As `dlq list` shows it: stream:rules/123 or task:45.")]
SagaId = Annotated[str, typer.Argument(metavar="ID", help="The saga's number, or its key with --tenant.")]

_HELP: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": "rich",
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
dlq_app = typer.Typer(
    help="Dead letters: streams that a consumer waits with, tasks that keep failing. Each with its reason.", **_HELP
)
saga_app = typer.Typer(help="Steps in several streams that end all done or all undone.", **_HELP)
jobs_app = typer.Typer(help="What workers have to do and did: timers, jobs, sagas, long jobs.", **_HELP)


def _settings(database_url: str | None, data: Path | None, config: Path | None) -> Config:
    return load_config(file=config, arguments={"database_url": database_url, "data": data})


def _json(document: object) -> None:
    import orjson

    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> None:
    """Columns as wide as they need; texts of others in one line each."""
    from gateway.log_lines import one_line

    if not rows:
        typer.echo(none, err=True)
        return
    cells = [list(titles), *([one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(titles) - 1)]
    for row in cells:
        typer.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def _facts(facts: dict[str, Any]) -> None:
    import orjson

    from gateway.log_lines import one_line

    for name, value in facts.items():
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        typer.echo(f"{name + ':':<14}{one_line(text)}")


# -- dead letters -----------------------------------------------------------------------------------------------------------


@dlq_app.command("list")
@mended
def dlq_list(
    tenant: Tenant = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """What waits for an operator, the oldest first: why, since when, and how many events or tasks wait behind it.

    Streams that a consumer could not take on (read models, timers, rules): the consumer goes on with all others. Tasks that
    were given up: their lane waits. Ends with 1 where there is anything.

    Examples:

      readback dlq list

      readback dlq list --tenant demo --json
    """
    from gateway import work_tools

    letters = work_tools.letters(_settings(database_url, data, config), tenant)
    if json:
        _json([letter._asdict() for letter in letters])
    else:
        rows = [(one.id, one.tenant, one.what, one.since, one.attempts, one.behind, one.reason) for one in letters]
        _table(("ID", "TENANT", "WHAT", "SINCE", "TRIES", "BEHIND", "REASON"), rows, "nothing waits for an operator")
    if letters:
        raise typer.Exit(FINDINGS)


@dlq_app.command("show")
@mended
def dlq_show(
    id: Id, json: Json = False, database_url: DatabaseUrl = None, data: Data = None, config: ConfigFile = None
) -> None:
    """One of them with all that is known: the event it stopped at, or the task's body.

    Examples:

      readback dlq show stream:rules/123
    """
    from gateway import work_tools

    facts = work_tools.letter(_settings(database_url, data, config), id)
    _json(facts) if json else _facts(facts)


@dlq_app.command("retry")
@mended
def dlq_retry(
    id: Id,
    skip: Annotated[
        bool, typer.Option("--skip", help="Of a stream: go on after the event that it stopped at.")
    ] = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Have it tried again, now. A stream is taken on from the event it stopped at, in order; with --skip from the next.

    Examples:

      readback dlq retry task:45

      readback dlq retry stream:rules/123 --skip
    """
    from gateway import work_tools

    typer.echo(work_tools.retry(_settings(database_url, data, config), id, skip=skip))


@dlq_app.command("drop")
@mended
def dlq_drop(
    id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Give a task up for good: it is never done, and its lane goes on. Of a stream one event can be left out: retry --skip.

    Of a saga that stands half done `saga abort` is the better word: it undoes what was done.

    Examples:

      readback dlq drop task:45
    """
    from gateway import work_tools

    if id.startswith("stream:"):
        raise CliError(
            "a stream's events are not dropped; `readback dlq retry --skip` leaves out the one it stopped at", USAGE
        )
    if not yes:
        typer.confirm(f"Give up {id} for good?", abort=True, err=True)
    typer.echo(work_tools.drop(_settings(database_url, data, config), id))


# -- sagas ------------------------------------------------------------------------------------------------------------------


@saga_app.command("list")
@mended
def saga_list(
    tenant: Tenant = None,
    all: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False,
    json: Json = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Sagas that are under way or parked, by number, with their next step.

    Examples:

      readback saga list

      readback saga list --all --tenant demo
    """
    from gateway import work_tools

    sagas = work_tools.sagas(_settings(database_url, data, config), tenant, ended=all)
    if json:
        _json(sagas)
        return
    names = ("id", "tenant", "kind", "key", "state", "next", "reason")
    _table([name.upper() for name in names], [[one[name] for name in names] for one in sagas], "there are no sagas")


@saga_app.command("show")
@mended
def saga_show(
    id: SagaId, tenant: Tenant = None, json: Json = False, database_url: DatabaseUrl = None, data: Data = None,
    config: ConfigFile = None,
) -> None:  # fmt: skip
    """One saga: its steps and what became of each, where it stands and why, its data.

    Examples:

      readback saga show 12

      readback saga show swap-4711 --tenant demo
    """
    from gateway import work_tools

    facts = work_tools.saga(_settings(database_url, data, config), id, tenant)
    _json(facts) if json else _facts(facts)


@saga_app.command("start")
@mended
def saga_start(
    kind: Annotated[str, typer.Argument(help="cancel_and_rebook, seat_swap or aircraft_substitution.")],
    key: Annotated[str, typer.Option(help="Its own name; who repeats it gets the same saga.")],
    tenant: Annotated[str, typer.Option(help="Whose it is.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its data as JSON; - for standard input.")],
    deadline: Annotated[str, typer.Option(help="If it is not done by then it is undone: 90s, 15m, 12h.")] = "1h",
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Start a saga with data from a file. docs/workers.md says what each kind needs.

    Examples:

      readback saga start seat_swap swap.json --tenant demo --key swap-4711
    """
    from gateway import work_tools
    from gateway.cli import parse_ttl

    settings = _settings(database_url, data, config)
    typer.echo(work_tools.start(settings, tenant, kind, key, work_tools.read_json(file), parse_ttl(deadline)))


@saga_app.command("resume")
@mended
def saga_resume(
    id: SagaId,
    tenant: Tenant = None,
    past: Annotated[bool, typer.Option("--past", help="The step was seen to by hand: go on after it.")] = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Have a parked saga go on at its step, and give it another hour at least.

    Examples:

      readback saga resume 12

      readback saga resume 12 --past
    """
    from gateway import work_tools

    typer.echo(work_tools.resume_saga(_settings(database_url, data, config), id, tenant, past=past))


@saga_app.command("abort")
@mended
def saga_abort(
    id: SagaId, tenant: Tenant = None, database_url: DatabaseUrl = None, data: Data = None, config: ConfigFile = None
) -> None:
    """Have a saga turn back: what was done is undone, the last step first.

    Examples:

      readback saga abort 12
    """
    from gateway import work_tools

    typer.echo(work_tools.abort_saga(_settings(database_url, data, config), id, tenant))


# -- tasks ------------------------------------------------------------------------------------------------------------------


@jobs_app.command("list")
@mended
def jobs_list(
    kind: Annotated[str | None, typer.Option(help="timer, job, saga or long.", show_default=False)] = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, claimed, parked, done or dropped.", show_default=False)
    ] = None,
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of a kind.")] = 100,
    json: Json = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Tasks by number: due when, in which state, how often tried, and why it failed last.

    Examples:

      readback jobs list --state waiting

      readback jobs list --kind long
    """
    from gateway import work_tools

    tasks = work_tools.tasks(_settings(database_url, data, config), kind, state, tenant, limit)
    if json:
        _json(tasks)
        return
    names = ("id", "kind", "tenant", "key", "state", "due", "attempts", "reason")
    _table(
        [name.upper() for name in names], [[one[name] for name in names] for one in tasks], "there are no such tasks"
    )


@jobs_app.command("show")
@mended
def jobs_show(
    id: Annotated[int, typer.Argument(metavar="N", help="The task's number.")],
    json: Json = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """One task with its body and its progress.

    Examples:

      readback jobs show 45
    """
    from gateway import work_tools

    facts = work_tools.task(_settings(database_url, data, config), id)
    _json(facts) if json else _facts(facts)


@jobs_app.command("cancel")
@mended
def jobs_cancel(
    id: Annotated[int, typer.Argument(metavar="N", help="The task's number.")],
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Have a task that runs stop at its next step; one that waits is dropped.

    Examples:

      readback jobs cancel 45
    """
    from gateway import work_tools

    typer.echo(work_tools.cancel(_settings(database_url, data, config), id))


@jobs_app.command("webhook-secret")
@mended
def jobs_webhook_secret(
    tenant: Annotated[str, typer.Option(help="Whose receivers.")], data: Data = None, config: ConfigFile = None
) -> None:
    """The secrets by which a tenant's receivers know webhooks as ours, newest first: for them alone.

    They are derived from `webhook_keys` of the secrets file. Give a receiver the first; during a change of keys both are good.

    Examples:

      readback jobs webhook-secret --tenant demo
    """
    from gateway import work_tools

    for secret in work_tools.webhook_secrets(load_config(file=config, arguments={"data": data}), tenant):
        typer.echo(secret)


@mended
def lag(
    consumer: Annotated[
        str | None, typer.Argument(help="views, timers or rules; all if left out.", show_default=False)
    ] = None,
    json: Json = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """How far workers are behind the log: by consumer and partition, who holds it, and when it last moved.

    Examples:

      readback lag

      readback lag rules --json
    """
    from gateway import work_tools

    cursors = work_tools.lag(_settings(database_url, data, config), consumer)
    if json:
        _json(cursors)
        return
    names = ("consumer", "partition", "pos", "behind", "holder", "moved")
    _table(
        [name.upper() for name in names], [[one[name] for name in names] for one in cursors], "no worker ran here yet"
    )
