"""``readback audit``: verify the log, anchor it, prove one event, check such a proof. What each command takes and says.

For: an auditor and an operator at a terminal, and scripts (`gateway.cli_errors` has the exit codes). Promises as
`gateway.cli` does: it imports nothing heavy before a command runs. Does not: hold logic (`gateway.audit_tools`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli_errors import FINDINGS, CliError, mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.cli_show import open_console
from gateway.config import load_config

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Show that the log is what was committed: verify it, anchor its hashes elsewhere, prove a single event.",
)

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="A key that may have signed: its fingerprint, or a file with its JWK (this installation's). May be repeated.",
        show_default=False,
    ),
]
Anchors = Annotated[
    str | None,
    typer.Option("--anchors", metavar="PLACE", help="The anchors: a file or a Postgres' URL.", show_default=False),
]


@app.command()
@mended
def verify(
    anchors: Annotated[
        list[str] | None,
        typer.Option(
            "--anchors",
            metavar="PLACE",
            help="Anchors to hold it against: a file or a Postgres' URL (the setting `anchor`). May be repeated.",
            show_default=False,
        ),
    ] = None,
    key: Keys = None,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="The same as one JSON document.")] = False,
) -> None:
    """Recompute the log's chain of hashes from its rows, and hold it against every anchor.

    Names the first row of each partition that was altered, is missing, or stands elsewhere; what was rewritten to the end,
    hashes and all, or cut off, is found by the anchors. Reads everything once and changes nothing; it may run while the
    gateway does. Ends with 1 where something does not hold. Connect as the database's owner, or as a member of readback_log.

    Examples:

      readback audit verify --database-url postgresql://postgres@db.internal/readback --anchors /mnt/worm/anchors.jsonl

      readback audit verify --json
    """
    from gateway import audit_tools

    settings = load_config(file=config, arguments={"database_url": database_url, "data": data})
    report = audit_tools.verify(settings, open_console(), anchors or (), key or (), quiet=json)
    if json:
        sys.stdout.buffer.write(report.json())
    else:
        for note in report.notes:
            typer.echo(f"Mind that {note}.", err=True)
        typer.echo(report.summary(), err=bool(report.findings))
    if report.findings:
        raise typer.Exit(FINDINGS)


@app.command()
@mended
def anchor(
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="PLACE", help="A file, or a Postgres' URL (the setting `anchor`).", show_default=False
        ),
    ] = None,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Write down now, elsewhere and signed, where each partition of the log ends and with which hash.

    `readback serve` does it on a schedule where `anchor` is set. Keep the place out of reach of who can change the log; a
    URL with a password belongs into READBACK_ANCHOR.

    Examples:

      readback audit anchor --to /mnt/worm/anchors.jsonl

      READBACK_ANCHOR=postgresql://adder@elsewhere.internal/anchors readback audit anchor
    """
    from gateway import audit_tools

    settings = load_config(file=config, arguments={"database_url": database_url, "data": data})
    where, written = audit_tools.anchor(settings, to)
    events = sum(head.pos for head in written.heads)
    typer.echo(
        f"anchor {written.number} of {written.at} in {where}: {events} events in {len(written.heads)} partitions, signed by "
        f"the key {written.thumbprint}"
    )


@app.command()
@mended
def prove(
    tenant: Annotated[str, typer.Option(help="Whose stream it is.")],
    stream: Annotated[str, typer.Option(help="The stream, such as chat:ops.")],
    seq: Annotated[int, typer.Option(help="The event's number in it.", min=1)],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to (standard output).", show_default=False)
    ] = None,
    without_body: Annotated[
        bool, typer.Option("--without-body", help="Leave the body out; whoever has it can still be believed.")
    ] = False,
    anchors: Anchors = None,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Export a proof of one event, up to the next anchor, which can be checked without this log.

    Of other events, other tenants' among them, it holds nothing but digests.

    Examples:

      readback audit prove --tenant demo --stream chat:lobby --seq 12 --out proof.json
    """
    from gateway import audit_tools

    settings = load_config(file=config, arguments={"database_url": database_url, "data": data})
    document = audit_tools.prove(settings, tenant, stream, seq, anchors, with_body=not without_body)
    if out is None:
        sys.stdout.buffer.write(document)
        return
    # 0600: it holds an event's body.
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(document)
    except OSError as error:
        raise CliError(f"the proof cannot be written to {out}: {error.strerror}") from None
    typer.echo(f"proof of {stream} seq {seq} of {tenant} in {out}: {len(document)} bytes", err=True)


@app.command("check-proof")
@mended
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `audit prove` exported.")],
    anchors: Anchors = None,
    key: Keys = None,
    body: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The event's body, where the proof leaves it out.", show_default=False),
    ] = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="The same as one JSON document.")] = False,
) -> None:
    """Say what an exported proof proves, and what it does not. Needs no log and no network.

    Ends with 1 where it proves nothing, because something in it was changed.

    Examples:

      readback audit check-proof proof.json --anchors anchors.jsonl --key 1hXrY…
    """
    import orjson

    from gateway import audit_tools
    from gateway.log_lines import one_line

    settings = load_config(file=config, arguments={"data": data})
    proven, trusted = audit_tools.check_proof(settings, file, anchors, key or (), body)
    if json:
        found = {
            "event": proven.event,
            "anchor": None if proven.anchor is None else proven.anchor.number,
            "keys": trusted,
            "proven": proven.proven,
            "unproven": proven.unproven,
        }
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return
    event = proven.event
    typer.echo(one_line(f"{event['stream']} seq {event['seq']} of {event['tenant']}, {event['type']} by {event['by']}"))
    for title, lines in (("Proven:", proven.proven), ("Not proven:", proven.unproven)):
        typer.echo(title)
        for line in lines:
            typer.echo(f"  - {one_line(line)}")


@app.command()
@mended
def key(
    data: Data = None,
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="The public key as a JWK, for --key elsewhere.")] = False,
) -> None:
    """Show the key that signs anchors and proofs here: its fingerprint, which an auditor keeps.

    Examples:

      readback audit key

      readback audit key --json > gateway.jwk
    """
    from gateway import audit_tools

    signing = audit_tools.own_key(load_config(file=config, arguments={"data": data}))
    if json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(signing.jwk, option=orjson.OPT_APPEND_NEWLINE))
    else:
        typer.echo(signing.thumbprint)
