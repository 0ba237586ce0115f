"""``readback device``, ``client``, ``revoke`` and ``tenant``: who may come in, and who may not any more.

For: a tenant's admin, through the HTTP API; and, for ``tenant``, whoever runs the installation, at the database. Promises as
`gateway.cli` does: it imports nothing heavy before a command runs; no secret is taken as an argument. Does not: hold logic
(`gateway.access_tools`).
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli_errors import mended
from gateway.cli_options import ConfigFile, Data, DatabaseUrl
from gateway.cli_show import connectable
from gateway.config import ConfigError, load_config

if TYPE_CHECKING:
    from gateway.access_tools import Api

_HELP: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": "rich",
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
_AS_WHOM = (
    "\n\nAs an admin of the tenant: with the token in READBACK_TOKEN or --token-file, else with one that is made from this "
    "installation's keys."
)
device_app = typer.Typer(**_HELP, help=f"Devices: onboard one by a QR code, list them, revoke a lost one.{_AS_WHOM}")
client_app = typer.Typer(**_HELP, help=f"Services that get tokens by OAuth 2 client credentials.{_AS_WHOM}")
tenant_app = typer.Typer(
    **_HELP,
    help="Stop a tenant and start it again, by whoever reaches the database.\n\n"
    "Takes hold on every node within a second. Tenants themselves are named in the tenants file.",
)

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The gateway's HTTP API (this machine's).", show_default=False),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file with an admin's token (else READBACK_TOKEN).", show_default=False),
]
Tenant = Annotated[str, typer.Option(help="The tenant, where the token is made here.")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the QR code there instead.")]
Png = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Likewise, as a PNG.")]
DeviceName = Annotated[str, typer.Argument(metavar="NAME", help="Such as truck-7.", show_default=False)]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="For those who ask later; it is in the audit stream.")]


class Scope(StrEnum):
    token = "token"
    session = "session"
    principal = "principal"


# -- devices ----------------------------------------------------------------------------------------------------------------


@device_app.command("claim")
@mended
def device_claim(
    name: DeviceName,
    svg: Svg = None,
    png: Png = None,
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Show a QR code by which one device is onboarded, once, within ten minutes.

    Whoever reads the code first is the device: show it to nobody else. A new claim ends the one before. Where the output is no
    terminal, only the code's text comes out.

    Examples:

      readback device claim truck-7

      READBACK_TOKEN=… readback device claim truck-7 --svg claim.svg --url https://gateway.example
    """
    from gateway.access_tools import device_name

    body = {"device": device_name(name)}
    claim = api_of(url, token_file, tenant, data, config).call("POST", "/v1/devices/claims", body=body)
    if not show_code(claim["uri"], f"of {claim['device']}", svg, png):
        typer.echo(claim["uri"])
    typer.echo(f"good once, until {claim['expires']}", err=True)


@device_app.command("list")
@mended
def device_list(
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """List the tenant's devices: name, state, since when, and the thumbprint of the key.

    Examples:

      readback device list
    """
    for each in api_of(url, token_file, tenant, data, config).call("GET", "/v1/devices")["devices"]:
        state = "revoked" if each["revoked"] else "enrolled" if each["key"] else "claimed"
        typer.echo(f"{each['device']}  {state}  {each['enrolled'] or '-'}  {each['key'] or '-'}")


@device_app.command("revoke")
@mended
def device_revoke(
    name: DeviceName,
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """End a device that is lost: its connections at once, on every node, and everything that it holds for good.

    Examples:

      readback device revoke truck-7
    """
    from gateway.access_tools import device_name

    device = device_name(name)
    api_of(url, token_file, tenant, data, config).call("DELETE", f"/v1/devices/{quote(device, safe=':')}")
    typer.echo(f"{device} is out", err=True)


# -- service clients --------------------------------------------------------------------------------------------------------


@client_app.command("add")
@mended
def client_add(
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Whom its tokens are of: service:NAME.")],
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="What they may do: admin, service, auditor. May be repeated."),
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Let a service have tokens; prints its id and its secret, which is told only now.

    Examples:

      readback client add service:eta --role service
    """
    body = {"principal": principal, "roles": role or []}
    made = api_of(url, token_file, tenant, data, config).call("POST", "/v1/clients", body=body)
    typer.echo(f"client_id={made['client_id']}\nclient_secret={made['client_secret']}")
    typer.echo("the secret is kept nowhere: put it where the service finds it", err=True)


@client_app.command("list")
@mended
def client_list(
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """List the services that may have tokens: id, principal, roles, since when.

    Examples:

      readback client list
    """
    for each in api_of(url, token_file, tenant, data, config).call("GET", "/v1/clients")["clients"]:
        typer.echo(f"{each['client_id']}  {each['principal']}  {','.join(each['roles']) or '-'}  {each['made']}")


@client_app.command("remove")
@mended
def client_remove(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """No more tokens for a service; those that it has end at once, on every node, and so do its connections.

    Examples:

      readback client remove client-3q2-7wAAAAAAAAAA
    """
    api_of(url, token_file, tenant, data, config).call("DELETE", f"/v1/clients/{quote(client_id, safe='')}")
    typer.echo(f"{client_id} is out", err=True)


# -- revocations ------------------------------------------------------------------------------------------------------------


@mended
def revoke(
    scope: Annotated[Scope, typer.Argument(help="What VALUE is.", show_default=False)],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="A token's jti, a session's id, a principal.", show_default=False)
    ],
    reason: Reason = "",
    lift: Annotated[bool, typer.Option("--lift", help="Take the revocation back.")] = False,
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Let a token, a session, or all that a principal was given until now, not in any more: on every node, at once.

    With a new token a principal is welcome again. A device or a service would get itself one: see `readback device revoke` and
    `readback client remove`. As an admin of the tenant: with the token in READBACK_TOKEN or --token-file, else with one that is
    made from this installation's keys.

    Examples:

      readback revoke principal user:amy --reason "phone lost"

      readback revoke principal user:amy --lift
    """
    api = api_of(url, token_file, tenant, data, config)
    if lift:
        api.call("DELETE", "/v1/revocations", params={"scope": scope.value, "value": value})
        typer.echo(f"the revocation of {scope.value} {value} is lifted", err=True)
    else:
        api.call("POST", "/v1/revocations", body={"scope": scope.value, "value": value, "reason": reason})
        typer.echo(f"{scope.value} {value} is revoked", err=True)


# -- tenants ----------------------------------------------------------------------------------------------------------------


@tenant_app.command("stop")
@mended
def tenant_stop(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    reason: Reason,
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """End all connections of a tenant and let nobody of it in, on every node within a second. Its data stays.

    Examples:

      readback tenant stop acme --reason "a leaked key"
    """
    from gateway.access_tools import stop_tenant

    stop_tenant(load_config(file=config, arguments={"database_url": database_url, "data": data}), name, reason)
    typer.echo(f"{name} is stopped", err=True)


@tenant_app.command("start")
@mended
def tenant_start(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    reason: Reason = "",
    database_url: DatabaseUrl = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Let a tenant in again that was stopped.

    Examples:

      readback tenant start acme
    """
    from gateway.access_tools import start_tenant

    start_tenant(load_config(file=config, arguments={"database_url": database_url, "data": data}), name, reason)
    typer.echo(f"{name} is let in again", err=True)


@tenant_app.command("list")
@mended
def tenant_list(database_url: DatabaseUrl = None, data: Data = None, config: ConfigFile = None) -> None:
    """List the tenants that the tenants file names and those that are stopped, with the reason.

    Examples:

      readback tenant list --config /etc/readback.toml
    """
    from gateway.access_tools import tenants

    for name, stopped in tenants(load_config(file=config, arguments={"database_url": database_url, "data": data})):
        typer.echo(f"{name}  {'served' if stopped is None else f'stopped  {stopped.by}  {stopped.reason}'}")


# -- shared -----------------------------------------------------------------------------------------------------------------


def given_token(file: Path | None) -> str | None:
    """From a file or the environment; never an argument, which every user of the machine could read."""
    if file is not None:
        try:
            return file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The token file {file} cannot be read: {error}.") from None
    return os.environ.get("READBACK_TOKEN", "").strip() or None


def show_code(text: str, whose: str, svg: Path | None, png: Path | None) -> bool:
    """A QR code in the files that are named, else on a terminal; whether there are files."""
    from gateway.access_tools import qr_text, write_qr

    for file, kind in ((svg, "svg"), (png, "png")):
        if file is not None:
            write_qr(text, file, kind)
            typer.echo(f"the QR code {whose} is in {file}", err=True)
    in_files = svg is not None or png is not None
    if not in_files and sys.stdout.isatty():
        typer.echo(qr_text(text))
    return in_files


def api_of(url: str | None, token_file: Path | None, tenant: str, data: Path | None, config: Path | None) -> Api:
    from gateway.access_tools import OPERATOR, Api

    settings = load_config(file=config, arguments={"data": data})
    token = given_token(token_file)
    if token is None:
        from gateway.cli_run import demo_token
        from gateway.keyring import load_secrets

        token = demo_token(load_secrets(settings), tenant, OPERATOR, ("admin",), 300.0, audience=settings.audience)
    return Api(url or f"{settings.http_scheme}://{connectable(settings.http_host)}:{settings.http_port}", token)
