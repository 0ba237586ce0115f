"""``readback device app`` and ``readback device apps``: the keys of apps that send a device's positions.

For: a tenant's admin, through the HTTP API, as the other commands for devices (`gateway.cli_access`), whose group these join.
Does not: keep a key, which is shown the one time that it is made.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from gateway.cli_access import DeviceName, Png, Svg, Tenant, TokenFile, Url, api_of, show_code
from gateway.cli_errors import USAGE, CliError, mended
from gateway.cli_options import ConfigFile, Data


class App(StrEnum):
    traccar = "traccar"
    owntracks = "owntracks"


@mended
def device_app(
    name: DeviceName,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="STREAM", help="Where its fixes count, such as trip:9.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Only count them in STREAM from now on; the key stays.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the key back.")] = False,
    app: Annotated[App, typer.Option("--app", help="Whose QR code is shown or written.")] = App.traccar,
    svg: Svg = None,
    png: Png = None,
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Make a key with which Traccar Client, OwnTracks or OsmAnd sends a device's positions, and show how to set the app up.

    It is shown once and kept nowhere. It sends positions of this device into this stream and is good for nothing else; a new
    one ends the one before. Give the gateway's public address with --url, or set it: the links lead there.

    Examples:

      readback device app truck-7 --stream trip:9

      readback device app truck-7 --stream trip:10 --keep

      readback device app truck-7 --remove
    """
    from gateway.access_tools import device_name

    if (stream is None) is not remove or (keep and remove):
        raise CliError("give --stream STREAM, with --keep or without, or --remove", USAGE)
    device = device_name(name)
    path = f"/v1/devices/{quote(device, safe=':')}/app"
    api = api_of(url, token_file, tenant, data, config)
    if remove:
        api.call("DELETE", path)
        typer.echo(f"the app of {device} sends nothing any more", err=True)
        return
    if keep:
        api.call("PUT", f"{path}/stream", body={"stream": stream})
        typer.echo(f"what the app of {device} sends counts in {stream}", err=True)
        return
    made = api.call("PUT", path, body={"stream": stream})
    show_code(made[app.value], f"for {app.value}", svg, png)
    for line in _lines(made):
        typer.echo(line)
    typer.echo("the key is kept nowhere: it is in these lines and in the codes", err=True)


@mended
def device_apps(
    url: Url = None,
    token_file: TokenFile = None,
    tenant: Tenant = "demo",
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """List the devices whose positions come from apps: name, stream, since when.

    Examples:

      readback device apps
    """
    for each in api_of(url, token_file, tenant, data, config).call("GET", "/v1/devices/apps")["apps"]:
        typer.echo(f"{each['device']}  {each['stream']}  {each['made']}")


def _lines(made: dict[str, Any]) -> list[str]:
    """What is typed where an app cannot scan, and what is scanned where it can."""
    secret, user = made["secret"], made["device"].partition(":")[2]
    server = urlsplit(made["traccar"])._replace(query="").geturl()
    return [
        f"key={secret}",
        f"traccar_url={server}",
        f"traccar_id={secret}",
        f"traccar_link={made['traccar']}",
        f"owntracks_url={server.removesuffix('osmand')}owntracks",
        f"owntracks_user={user}",
        f"owntracks_password={secret}",
        f"owntracks_link={made['owntracks']}",
        f"osmand_url={made['osmand']}",
    ]
