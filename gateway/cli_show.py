"""What a person sees of `readback dev` and `readback serve`: said lines, logs, and what a newcomer needs next.

For: `gateway.cli`. Promises: what a person asked for goes to stdout, what happens meanwhile to stderr; tokens and commands
stand whole on one line, so that they can be copied; an address shown is one that can be connected to. Does not: import
rich before something is to be shown.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import typer

from gateway.cli_errors import HURRIED
from gateway.config import Config, load_config
from gateway.log_lines import LineFormatter

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.cli_run import Demo, Say
    from gateway.config import Ready

FINDINGS_SHOWN = 100  # of what a check finds; a broken chain makes a finding a batch, and the first ones tell where


def open_console(*, stderr: bool = True) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def start_console(config: Config, worker: str = "") -> Console:
    """Logging and the console of a command that runs until stopped; each line of a worker says whose it is."""
    console = open_console()
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(worker))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    for name in ("asyncio", "trio-asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return console


def saying(console: Console) -> Say:
    def say(text: str) -> None:
        try:
            console.print(f"· {text}", style="dim", markup=False, highlight=False, soft_wrap=True)
        except OSError:
            pass  # the terminal was closed, which is no reason to end otherwise than in good order

    return say


def say_end(console: Console, hurried: bool) -> None:
    saying(console)("stopped" + (" in a hurry; what was acknowledged is kept" if hurried else ""))
    if hurried:
        raise typer.Exit(HURRIED)


def connectable(host: str) -> str:
    """An address to connect to, for one to listen on."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def print_ready(console: Console, config: Config, ready: Ready, demo: Demo) -> None:
    """What a newcomer needs next. Tokens and commands are never wrapped, so that they can be copied."""
    from gateway.cli_run import DEMO_STREAM, DEMO_TENANT, program_name

    def line(text: str = "", style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    ws = f"{config.ws_scheme}://{connectable(config.host)}:{ready.port}/v1/ws"
    http = f"{config.http_scheme}://{connectable(config.http_host)}:{ready.http_port}"
    me = program_name()
    # A pasted line must find this very gateway: say what differs from what it would look for by itself.
    plain = load_config(environ={})
    data = "" if config.data == plain.data else f"READBACK_DATA={config.data} "
    url = "" if ready.port == plain.port and config.host == plain.host else f" --url {ws}"
    line()
    console.print("[bold green]Readback is ready.[/bold green] Ctrl-C stops it.")
    line()
    line(f"  WebSocket  {ws}")
    line(f"  HTTP API   {http}/v1 (described by {http}/openapi.json; also /readyz, /metrics)")
    line(f"  Database   {demo.database}")
    if demo.bus:
        line(f"  Workers    {demo.bus}")
    line(f"  Data       {config.data}")
    line()
    line(f"Two tokens of the tenant {DEMO_TENANT}, good for 30 days; {DEMO_STREAM} is open to both:")
    for principal, made in demo.tokens.items():
        line()
        line(f"  {principal}", "bold")
        line(made, "cyan")
    line()
    line("Try it, in two more terminals:")
    line()
    for principal in demo.tokens:
        line(f"{data}{me} chat --as {principal} {DEMO_STREAM}{url}", "cyan")
    line()
    line("or with curl:")
    line()
    first = next(iter(demo.tokens))
    line(
        f'curl -s -H "Authorization: Bearer $({data}{me} token --principal {first})" -H "Idempotency-Key: $(cat '
        f'/proc/sys/kernel/random/uuid)" --json \'{{"body":{{"text":"hello"}}}}\' '
        f"{http}/v1/streams/{DEMO_STREAM}/events",
        "cyan",
    )
    line()
