"""The command `readback`: what each subcommand takes and says. `main` is its entry point.

For: a person at a terminal, and scripts (exit codes below; machine-readable where ``--json`` is offered; only results on
stdout, everything said about them on stderr). Promises: starts fast, because each command imports what it needs when it
runs (`readback --help` loads neither server nor database code); failures are one sentence (`gateway.cli_errors`). Does
not: hold logic. Running is in `gateway.cli_run`, looking at an installation in `gateway.doctor`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import cli_access, cli_audit, cli_collect, cli_demo, cli_eta, cli_rebuild, cli_rules, cli_work_tools
from gateway.cli_errors import FINDINGS, HURRIED, CliError, mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.cli_show import connectable, open_console, print_ready, say_end, saying, start_console
from gateway.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    from gateway.cli_run import Demo
    from gateway.config import Ready

EPILOG = (
    "Settings come from defaults, then a TOML file (--config or READBACK_CONFIG), then READBACK_… variables, then "
    "arguments; the last one wins. docs/operations.md lists them.\n\n"
    "Exit codes: 0 done · 1 check or doctor found something · 2 an argument or a setting cannot be used · "
    "3 the machine, the data folder or the database does not let us · 70 a fault of ours · 130 hurried by a second Ctrl-C."
)

app = typer.Typer(
    name="readback",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # `mended` says what went wrong; a page of locals could show a key
    epilog=EPILOG,
    help="A realtime gateway for operations that cannot lose a message.\n\n"
    "New here? Run [bold]readback dev[/bold] and follow what it prints.",
)

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url", metavar="URL", help="The Redis through which nodes hear each other.", show_default=False
    ),
]
Workers = Annotated[
    str | None,
    typer.Option("--workers", metavar="N", help="Node processes on one port (1): one a core.", show_default=False),
]
Rules = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FOLDER", help="Where the rules are: its *.toml files.", show_default=False),
]
NodeName = Annotated[
    str | None,
    typer.Option("--node", metavar="NAME", help="This node's name (the machine's).", show_default=False),
]
Host = Annotated[str | None, typer.Option(help="Where the WebSocket listens (127.0.0.1).", show_default=False)]
Port = Annotated[
    str | None, typer.Option(metavar="N", help="The WebSocket's port (8400); 0: any free one.", show_default=False)
]
HttpHost = Annotated[str | None, typer.Option(help="Where the HTTP API listens (as --host).", show_default=False)]
HttpPort = Annotated[
    str | None, typer.Option(metavar="N", help="The HTTP API's port (8401); 0: any free one.", show_default=False)
]
ReadyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the ports and the pid there, as JSON, once ready.", show_default=False),
]
Tenant = Annotated[str, typer.Option(help="The tenant to be in.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Say the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        typer.echo(f"readback {installed_version('readback')}")
        raise typer.Exit


@app.command(rich_help_panel="Run")
@mended
def dev(
    host: Host = None,
    port: Port = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    workers: Workers = None,
    rules: Rules = None,
    data: Data = None,
    config: ConfigFile = None,
    ready_file: ReadyFile = None,
) -> None:
    """Start a gateway with everything it needs: its own Postgres, keys, a demo tenant with two tokens.

    Nothing else needs to be installed or running. Data and tokens survive a restart; Ctrl-C drains and stops the
    database cleanly. With --workers it brings a Redis too. This is what `make run` starts.

    Examples:

      readback dev

      readback dev --port 9400 --http-port 9401 --data ./scratch

      readback dev --workers 2

      readback dev --rules docs/examples/rules
    """
    settings = _settings(
        config, host=host, port=port, http_host=http_host, http_port=http_port, workers=workers, rules=rules, data=data
    )
    console = start_console(settings)

    import trio

    from gateway.cli_run import deaf_to_interrupts, run_dev, write_ready_file

    def ready(facts: Ready, demo: Demo) -> None:
        print_ready(open_console(stderr=False), settings, facts, demo)
        if ready_file is not None:
            write_ready_file(ready_file, facts)

    hurried = trio.run(lambda: run_dev(settings, say=saying(console), on_ready=ready))
    deaf_to_interrupts()
    say_end(console, hurried)


@app.command(rich_help_panel="Run")
@mended
def serve(
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    workers: Workers = None,
    node: NodeName = None,
    host: Host = None,
    port: Port = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    config: ConfigFile = None,
    ready_file: ReadyFile = None,
) -> None:
    """Start a gateway on a Postgres of yours, as in production.

    Run `readback migrate` against that database first, and give every node the same keys (READBACK_SECRETS_FILE).
    A URL with a password belongs into READBACK_DATABASE_URL or a file, not into an argument that `ps` shows to everybody.
    Nodes on one database hear each other at once through a Redis, and within a second without one; --workers needs one.

    SIGTERM drains: clients come back to other nodes at times spread over the drain window. SIGHUP reads keys, tenants, the
    certificate, limits and log level anew. SIGUSR2 replaces the workers one by one, without a gap. Under systemd
    (systemd/README.md) it takes the sockets it is handed, says when it is ready, and feeds the watchdog.

    Examples:

      readback serve --database-url postgresql://readback_gateway@db.internal/readback

      READBACK_HOST=0.0.0.0 readback serve --config /etc/readback.toml

      READBACK_REDIS_URL=redis://redis.internal readback serve --config /etc/readback.toml --workers 4
    """
    arguments = {
        "database_url": database_url,
        "redis_url": redis_url,
        "workers": workers,
        "node": node,
        "host": host,
        "port": port,
        "http_host": http_host,
        "http_port": http_port,
    }
    if config is not None:
        config = config.absolute()
        os.environ["READBACK_CONFIG"] = str(config)  # workers look there for what a reload may change
    settings = _settings(config, **arguments)
    console = start_console(settings)

    import trio

    from gateway.cli_run import deaf_to_interrupts, run_serve, write_ready_file

    def ready(facts: Ready) -> None:
        several = f", {settings.workers} workers" if settings.workers > 1 else ""
        open_console(stderr=False).print(
            f"Readback is ready: {settings.ws_scheme}://{connectable(settings.host)}:{facts.port}/v1/ws, "
            f"{settings.http_scheme}://{connectable(settings.http_host)}:{facts.http_port}, database {facts.database}{several}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if ready_file is not None:
            write_ready_file(ready_file, facts)

    def reload() -> Config:
        return _settings(config, **arguments)

    hurried = trio.run(lambda: run_serve(settings, say=saying(console), on_ready=ready, reload=reload))
    deaf_to_interrupts()
    say_end(console, hurried)


@app.command(rich_help_panel="Run")
@mended
def work(
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    rules: Rules = None,
    node: NodeName = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    config: ConfigFile = None,
    ready_file: ReadyFile = None,
) -> None:
    """Start a worker: it keeps read models, fires timers, obeys rules, takes sagas on.

    Any number of them share the work, beside nodes that serve; `readback dev` has one inside. They need the Postgres and
    the keys of the nodes, and the same rules; with the nodes' Redis they hear of commits at once, and within a quarter of
    a second without. A worker that dies is replaced by the others within ten seconds. SIGTERM gives its work back at once,
    SIGHUP reads the rules anew. The HTTP port answers probes and /metrics.

    Examples:

      readback work --database-url postgresql://readback_gateway@db.internal/readback --rules /etc/readback/rules

      READBACK_REDIS_URL=redis://redis.internal readback work --config /etc/readback.toml --http-port 0
    """
    arguments = {
        "database_url": database_url,
        "redis_url": redis_url,
        "rules": rules,
        "node": node,
        "http_host": http_host,
        "http_port": http_port,
    }
    settings = _settings(config, **arguments)
    console = start_console(settings)

    import trio

    from gateway.cli_run import deaf_to_interrupts, run_work, write_ready_file

    def ready(facts: Ready) -> None:
        open_console(stderr=False).print(
            f"A worker is ready: probes at {settings.http_scheme}://{connectable(settings.http_host)}:{facts.http_port}, "
            f"database {facts.database}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if ready_file is not None:
            write_ready_file(ready_file, facts)

    hurried = trio.run(
        lambda: run_work(settings, say=saying(console), on_ready=ready, reload=lambda: _settings(config, **arguments))
    )
    deaf_to_interrupts()
    say_end(console, hurried)


@app.command(hidden=True)
@mended
def worker(
    number: Annotated[str, typer.Option(help="Its name among its siblings.")],
    folder: Annotated[Path, typer.Option(help="Where siblings answer each other.")],
    parent: Annotated[int, typer.Option(help="The process without which it ends.")],
) -> None:
    """One of the processes of `readback serve --workers`; started by it, with all settings as variables."""
    import logging

    import trio

    from gateway.cli_run import run_worker

    settings = load_config()
    start_console(settings, number)
    say = logging.getLogger("readback.worker").info
    if trio.run(lambda: run_worker(settings, number=number, folder=folder, parent=parent, say=say)):
        raise typer.Exit(HURRIED)


@app.command(rich_help_panel="Use")
@mended
def chat(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="What to join, such as chat:lobby.")] = "chat:lobby",
    as_: Annotated[str, typer.Option("--as", metavar="PRINCIPAL", help="Who to be.")] = "user:amy",
    url: Annotated[
        str | None, typer.Option(envvar="READBACK_URL", help="The gateway's WebSocket (this machine's).")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a token (else READBACK_TOKEN, else one is made).")
    ] = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Chat in the terminal: type and press Enter; see who types and who has read.

    Keeps what you typed over a restart of the server. Without a token it makes one from the keys of `readback dev`.
    When the input is no terminal, every line is sent and plain lines come out.

    Examples:

      readback chat --as user:amy chat:lobby

      READBACK_TOKEN=… readback chat --url wss://rt.example/v1/ws chat:ops

      echo "backup done" | readback chat --as service:cron chat:lobby
    """
    settings = _settings(config, data=data)
    token: str | Callable[[], Awaitable[str]] | None = cli_access.given_token(token_file)
    if token is None:
        from gateway.cli_run import demo_token
        from gateway.keyring import load_secrets

        make = partial(demo_token, load_secrets(settings), tenant, as_, (), 86_400.0, audience=settings.audience)
        make()  # so that a name that is none is said before anything is shown

        async def made() -> str:
            return make()

        token = made

    import trio

    from gateway.chat import run_chat

    address = url or f"{settings.ws_scheme}://{connectable(settings.host)}:{settings.port}/v1/ws"
    trio.run(lambda: run_chat(address, token, stream, principal=as_))


@app.command(rich_help_panel="Use")
@mended
def token(
    principal: Annotated[str, typer.Option(metavar="PRINCIPAL", help="user:NAME, device:NAME or service:NAME.")],
    tenant: Tenant = "demo",
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="A role in the tenant: admin, service. May be repeated.")
    ] = None,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it is good for: 90s, 15m, 12h, 30d.")] = "1h",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Make an access token and print it, signed with this installation's newest signing key (EdDSA): any node with that key
    takes it. Without one it is signed with the newest shared secret (HS256), which `dev` takes, and `serve` with dev_tokens.

    For development and for services of your own; people's tokens come from your identity provider.

    Examples:

      readback token --tenant demo --principal user:amy --ttl 12h

      curl -H "Authorization: Bearer $(readback token --principal service:ops --role admin)" http://127.0.0.1:8401/v1/me/streams
    """
    from gateway.cli_run import demo_token
    from gateway.keyring import load_secrets

    settings = _settings(config, data=data)
    roles, ttl_s = tuple(role or ()), parse_ttl(ttl)
    typer.echo(demo_token(load_secrets(settings), tenant, principal, roles, ttl_s, audience=settings.audience))


@app.command(rich_help_panel="Operate")
@mended
def migrate(
    database_url: DatabaseUrl = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=1024, help="Partitions of a new log (16); fixed from then on.", show_default=False
        ),
    ] = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Bring a database's schema up to date; safe to run twice and from two machines at once.

    Needs a user that may create roles and a schema; `serve` itself connects as readback_gateway, which may not.
    Without a URL it looks after the database of `readback dev`.

    Examples:

      readback migrate --database-url postgresql://postgres@db.internal/readback
    """
    from gateway import cli_tools

    applied = cli_tools.migrate(_settings(config, database_url=database_url, data=data), partitions)
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("the schema is up to date")


@app.command(rich_help_panel="Operate")
@mended
def check(
    database_url: DatabaseUrl = None,
    history: Annotated[
        list[Path] | None,
        typer.Option(
            "--history",
            metavar="FILE",
            help="A recorded run to judge, instead of a log; a folder, or repeated, for several files of one run.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="With --history: the same as one JSON document.")] = False,
    with_log: Annotated[
        bool,
        typer.Option("--with-log", help="With --history: what a capture cannot know of the log is read from it."),
    ] = False,
) -> None:
    """Verify the log against its own promises: places, order, keys, heads, the chain of hashes.

    Reads everything once and changes nothing; it may run while the gateway does. Ends with 1 and names the exact row
    where something does not hold. Connect as a user that may read every tenant's rows.

    With --history it judges a recorded run instead, as a simulation, a benchmark or a capture writes it: every guarantee
    of Readback, how much was seen of it, and the exact record where it was not kept. No database is needed for that; a
    capture does not know what the log holds, and --with-log takes that from the database.

    Examples:

      readback check

      readback check --database-url postgresql://postgres@db.internal/readback

      readback check --history run.jsonl

      READBACK_DATABASE_URL=… readback check --history /var/lib/readback/captures --with-log
    """
    if history:
        settings = _settings(config, database_url=database_url, data=data)
        if with_log and settings.database_url is None:
            raise ConfigError("--with-log needs the database: READBACK_DATABASE_URL, a file, or --database-url.")
        if database_url is not None and not with_log:
            raise ConfigError("--history needs no database; with --with-log what the log holds is read from it.")
        _check_history(history, settings.database_url if with_log else None, json=json)
        return
    if with_log:
        raise ConfigError("The argument --with-log is for --history; without that the log alone is checked.")
    if json:
        raise ConfigError("The argument --json is for --history; what is found in a log comes out line by line.")

    from gateway.cli_tools import check_log

    settings = _settings(config, database_url=database_url, data=data)
    checked, findings = check_log(settings, open_console())
    if findings:
        typer.echo(f"{len(findings)} findings in {checked} events", err=True)
        raise typer.Exit(FINDINGS)
    typer.echo(f"all is well: {checked} events checked")


def _check_history(files: list[Path], database_url: str | None, *, json: bool) -> None:
    from gateway.cli_history import check_history, print_report, report_json

    report = check_history(files, open_console(), database_url)
    if json:
        sys.stdout.buffer.write(report_json(report))
    else:
        print_report(report, open_console(stderr=False))
    if not report.holds:
        raise typer.Exit(FINDINGS)


@app.command(rich_help_panel="Operate")
@mended
def doctor(
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="The same as one JSON document.")] = False,
) -> None:
    """Look at this installation and say, in words, what is wrong and what to do about it.

    Python, open files, data folder, disk, ports, clock, keys, database and its settings, schema; Redis where one is set:
    reachable, recent enough, with the rights and the room that the bus needs, and how long a message through it takes.
    Changes nothing (what it writes to Redis, under a name of its own, expires in a second). Ends with 1 when something
    fails; a warning alone ends with 0.

    Examples:

      readback doctor

      readback doctor --database-url postgresql://readback_gateway@db.internal/readback --json

      READBACK_REDIS_URL=redis://redis.internal readback doctor --config /etc/readback.toml
    """
    from gateway.doctor import examine, failed, print_report, report_json

    settings = _settings(config, database_url=database_url, redis_url=redis_url, data=data)
    findings = examine(settings, os.environ)
    if json:
        sys.stdout.buffer.write(report_json(findings))
    else:
        print_report(findings, open_console(stderr=False))
    if failed(findings):
        raise typer.Exit(FINDINGS)


@app.command(
    rich_help_panel="Operate",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@mended
def bench(ctx: typer.Context) -> None:
    """Measure: throughput, latency, memory, resume, beside other servers. `readback bench --help` lists what."""
    try:
        from bench.cli import app as bench_app
    except ModuleNotFoundError as error:
        raise CliError(
            f"the benchmarks need more packages ({error.name} is missing): pip install 'readback[bench]'"
        ) from None
    bench_app(args=list(ctx.args), prog_name="readback bench")


@app.command(
    rich_help_panel="Operate",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@mended
def sim(ctx: typer.Context) -> None:
    """Simulate: whole clusters under faults, drawn from a seed and held to the guarantees. `readback sim --help` says how."""
    from proof.sim.cli import app as sim_app

    sim_app(args=list(ctx.args), prog_name="readback sim")


cli_access.device_app.command("app")(cli_collect.device_app)
cli_access.device_app.command("apps")(cli_collect.device_apps)
app.add_typer(cli_access.device_app, name="device", rich_help_panel="Access")
app.add_typer(cli_access.client_app, name="client", rich_help_panel="Access")
app.command("revoke", rich_help_panel="Access")(cli_access.revoke)
app.add_typer(cli_access.tenant_app, name="tenant", rich_help_panel="Access")
app.add_typer(cli_audit.app, name="audit", rich_help_panel="Operate")
app.add_typer(cli_demo.app, name="demo", rich_help_panel="Use")
app.add_typer(cli_eta.eta_app, name="eta", rich_help_panel="Operate")
app.command("rebuild", rich_help_panel="Operate")(cli_rebuild.rebuild)
app.add_typer(cli_rules.rules_app, name="rules", rich_help_panel="Operate")

app.add_typer(cli_work_tools.dlq_app, name="dlq", rich_help_panel="Operate")
app.add_typer(cli_work_tools.saga_app, name="saga", rich_help_panel="Operate")
app.add_typer(cli_work_tools.jobs_app, name="jobs", rich_help_panel="Operate")
app.command("lag", rich_help_panel="Operate")(cli_work_tools.lag)


def main() -> None:
    """The entry point of the `readback` command."""
    app()


# Shared by the commands


def _settings(file: Path | None, **arguments: object) -> Config:
    return load_config(file=file, arguments=arguments)


def parse_ttl(text: str) -> float:
    """``90s``, ``15m``, ``12h``, ``30d`` or plain seconds, as seconds. `ConfigError` for anything else."""
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    unit = units.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits[:12]) * (unit or 1) <= 10 * 366 * 86_400:
        raise ConfigError(f"The argument --ttl is {text!r}; allowed: 90s, 15m, 12h, 30d, at most ten years.")
    return float(int(digits) * (unit or 1))
