"""Readback itself as the harness starts it: `readback serve` with its ports said on one line for a program to read.

The same `run_serve`, configuration and keys as the command; only the greeting differs:
``listening <WebSocket port> <HTTP port>``.
"""

from __future__ import annotations

import os
import sys

import trio

from gateway.cli_run import run_serve
from gateway.config import Ready, load_config


def ready(facts: Ready) -> None:
    sys.stdout.write(f"listening {facts.port} {facts.http_port}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


async def main() -> None:
    await run_serve(load_config(environ=os.environ), say=say, on_ready=ready)


if __name__ == "__main__":
    trio.run(main)
