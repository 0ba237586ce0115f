"""``readback rules``: check files of rules, and try them on history. What each command takes and says.

For: whoever writes rules, at a terminal or in a pipeline (`gateway.cli_errors` has the exit codes). Promises as `gateway.cli`
does: it imports nothing heavy before a command runs. Does not: hold logic (`gateway.rules_tools`).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli_errors import FINDINGS, USAGE, CliError, mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.cli_show import open_console
from gateway.config import load_config

rules_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Check rules before they are in force, and ask what they would have done. docs/rules.md says how they are written.",
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of rules (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="The same as one JSON document.")]


@rules_app.command()
@mended
def check(files: Files, json: Json = False) -> None:
    """Read files of rules and say all that is wrong with them: file, line, rule, field.

    Files that are used together are checked together: a name given twice, versions in force at the same time, rules that set
    each other off. Ends with 1 where something is wrong.

    Examples:

      readback rules check rules/*.toml

      readback rules check overdue.toml --json
    """
    from gateway import rules_tools

    found = rules_tools.read_rules(files)
    problems = found if isinstance(found, list) else []
    if json:
        import orjson

        rules = [] if isinstance(found, list) else found.rules
        document = {
            "rules": [{"id": rule.id, "version": rule.version, "file": rule.file, "line": rule.line} for rule in rules],
            "problems": [problem._asdict() for problem in problems],
        }
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        for line in rules_tools.told(problems):
            typer.echo(line)
        if not isinstance(found, list):
            count = len(found.rules)
            typer.echo(
                f"all is well: {count} rule{'' if count == 1 else 's'} in {len(files)} file{'s' * (len(files) > 1)}"
            )
    if problems:
        raise typer.Exit(FINDINGS)


@rules_app.command("test")
@mended
def try_out(
    files: Files,
    history: Annotated[
        Path | None,
        typer.Option(
            "--history",
            metavar="FILE",
            help="Events to try them on instead of the log: one a line, as JSON (docs/rules.md).",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[
        str, typer.Option("--stream", metavar="GLOB", help="Only streams of this name or pattern, such as flight:QX*.")
    ] = "*",
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Only this tenant's (all).", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Count what fired from then on: 2026-11-01.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Leave out what happened after: 2026-12-01.", show_default=False),
    ] = None,
    first: Annotated[
        int, typer.Option("--first", metavar="N", min=0, max=10_000, help="Firings of each rule to show.")
    ] = 5,
    dated: Annotated[
        bool, typer.Option("--dated", help="Heed the rules' dates (else each is tried as if always in force).")
    ] = False,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say what rules would have done over history, without doing any of it.

    Every stream's events are folded through the rules; timers fire when they are due, between the events. Changes nothing; it
    may run while the gateway does. Connect as a user that may read every tenant's rows. Ends with 1 where a rule failed or
    rules led to each other.

    Examples:

      readback rules test overdue.toml --since 2026-10-01 --until 2026-11-01

      readback rules test rules/*.toml --tenant acme --stream 'flight:QX*' --json

      readback rules test overdue.toml --history flights.jsonl
    """
    from gateway import rules_tools

    if history is not None and database_url is not None:
        raise CliError("--history needs no database: leave out one of them", USAGE)
    rules = rules_tools.read_rules(files)
    if isinstance(rules, list):
        for line in rules_tools.told(rules):
            typer.echo(line, err=True)
        raise CliError(f"{len(rules)} problem{'s' * (len(rules) > 1)} in these rules; they cannot be tried", USAGE)

    from core.rules.dry_run import DryRun
    from core.rules.model import globs

    since_ms = 0 if since is None else rules_tools.read_time(since, "--since")
    until_ms = None if until is None else rules_tools.read_time(until, "--until")
    if until_ms is not None and until_ms < since_ms:
        raise CliError("--until is before --since", USAGE)
    run = DryRun(rules, since_ms=since_ms, until_ms=until_ms, first=first, dated=dated)
    console = open_console()
    if history is not None:
        report = rules_tools.try_file(run, history, tenant, globs([stream]), console)
    else:
        settings = load_config(file=config, arguments={"database_url": database_url, "data": data})
        now_ms = time.time_ns() // 1_000_000
        report = rules_tools.try_log(run, settings, tenant, globs([stream]), now_ms, console)
    if json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(report.json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    else:
        rules_tools.print_report(report, open_console(stderr=False))
    if rules_tools.failed(report):
        raise typer.Exit(FINDINGS)
