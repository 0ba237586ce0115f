"""``readback demo``: something to look at in a gateway that was just started. What each command takes and says.

Promises as `gateway.cli` does: it imports nothing heavy before a command runs. Does not: hold logic (`gateway.demo`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from gateway.cli_errors import mended
from gateway.cli_options import ConfigFile, Data
from gateway.cli_show import connectable, open_console
from gateway.config import ConfigError, load_config

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Play something into a running gateway, and watch it.",
)

Url = Annotated[str | None, typer.Option(envvar="READBACK_URL", help="The gateway's WebSocket (this machine's).")]
HttpUrl = Annotated[str | None, typer.Option(envvar="READBACK_HTTP_URL", help="Its HTTP API (this machine's).")]
Tenant = Annotated[str, typer.Option(help="The tenant to be in.")]
TTL_S: Final = 2 * 86_400.0
"""Of the tokens: longer than anybody watches."""


class _Gateway(NamedTuple):
    """Where it is, and by what one is let in."""

    url: str
    http_url: str
    admin: str
    token: Callable[[str], str]


def _gateway(url: str | None, http_url: str | None, tenant: str, data: Path | None, config: Path | None) -> _Gateway:
    from gateway.cli_run import demo_token
    from gateway.keyring import load_secrets

    settings = load_config(file=config, arguments={"data": data})
    make = partial(demo_token, load_secrets(settings), tenant, audience=settings.audience)
    return _Gateway(
        url or f"{settings.ws_scheme}://{connectable(settings.host)}:{settings.port}/v1/ws",
        http_url or f"{settings.http_scheme}://{connectable(settings.http_host)}:{settings.http_port}",
        make("service:demo", ("admin",), TTL_S),
        lambda who: make(who, (), TTL_S),
    )


@app.command()
@mended
def flights(
    speed: Annotated[float, typer.Option(metavar="N", help="How many times as fast as the day was.")] = 60.0,
    loop: Annotated[bool, typer.Option("--loop/--once", help="Begin anew at the day's end.")] = False,
    url: Url = None,
    http_url: HttpUrl = None,
    tenant: Tenant = "demo",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Another day: what goes wrong is drawn from it.", show_default=False)
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave a picture of the board, of about noon.", show_default=False),
    ] = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Play an airline's day into a running gateway: 200 flights, 41 aircraft, 120 crew, in half an hour.

    Start [bold]readback dev[/bold] in another terminal first. The board in this one shows the flights as their events say they
    stand: late, early, diverted, cancelled, returned; below it is what just happened and what was refused, and why. Every
    command goes over a socket, as the systems and people of an airline would give it, and is in the log when it is answered.

    The day is the last one that is over by the time it is played, since a gateway takes no landing that is yet to come. Play
    it as often as you like: each time its streams have names of their own. Ctrl-C ends it; what was given stays.

    While it runs, look closer: `readback chat --as user:ops flight:QX100-DATE` joins a flight (its name is said at the start),
    and GET /v1/streams/flight:QX100-DATE/events has all that happened to it. docs/demo.md tells what there is to find.

    Examples:

      readback demo flights

      readback demo flights --speed 600 --loop

      READBACK_SECRETS_FILE=keys.json readback demo flights --url wss://rt.example/v1/ws --http-url https://rt.example
    """
    if not 1.0 <= speed <= 1_000_000.0:
        raise ConfigError(f"The argument --speed is {speed:g}; allowed: 1 (as it was) to 1000000 (as fast as it goes).")

    from gateway.demo.show import SEED, Wanted, run_demo

    wanted = Wanted(
        **_gateway(url, http_url, tenant, data, config)._asdict(),
        now_s=time.time,
        speed=speed,
        loop=loop,
        seed=SEED if seed is None else seed,
        svg=svg,
    )

    import trio

    trio.run(run_demo, wanted, open_console(stderr=False))


@app.command()
@mended
def trips(
    trips: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trips as `readback eta` reads them (a made-up town's).", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many are under way at a time.")] = 12,
    speed: Annotated[float, typer.Option(metavar="N", help="How many times as fast as they were.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop/--once", help="Begin anew when all were driven.")] = False,
    url: Url = None,
    http_url: HttpUrl = None,
    tenant: Tenant = "demo",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Other trips, or in another order.", show_default=False)
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave a picture of it, after some minutes.", show_default=False),
    ] = None,
    data: Data = None,
    config: ConfigFile = None,
) -> None:
    """Drive vehicles into a running gateway, and watch when they will arrive.

    Start [bold]readback dev[/bold] in another terminal first. Each vehicle has a connection, as a phone would, and is joined
    somewhere on its way: what it saw until then is sent at once, the rest as it happens. In the terminal: when the gateway
    says that each arrives, between which times, and by what; who was told ten and five minutes before, and how well that was
    when the vehicle is there.

    A gateway believes only so much: faster than twice or three times as they were, positions of cars are no longer taken.

    Examples:

      readback demo trips

      readback demo trips --trips taxi.jsonl --count 50

    A model of arrival times makes them better: `readback eta train`, and the setting `eta_model` (docs/eta.md).
    """
    if not 1 <= count <= 2_000:
        raise ConfigError(f"The argument --count is {count}; allowed: 1 to 2000.")
    if not 0.1 <= speed <= 10.0:
        raise ConfigError(f"The argument --speed is {speed:g}; allowed: 0.1 to 10.")

    from gateway.demo.trips import SEED, Wanted, run_trips

    wanted = Wanted(
        **_gateway(url, http_url, tenant, data, config)._asdict(),
        wall=time.time,
        trips=trips,
        count=count,
        speed=speed,
        loop=loop,
        seed=SEED if seed is None else seed,
        svg=svg,
    )

    import trio

    trio.run(run_trips, wanted, open_console(stderr=False))
