"""The HTTP API on the network: Hypercorn's Trio worker, bounded and quiet.

For: `serve_http(app, sockets, shutdown=…)` inside the node's nursery. Promises: it listens on the sockets it was given,
cuts connections that send nothing, finishes running requests for a few seconds once ``shutdown`` returns, and writes to
the log only what is wrong. Does not: open ports by itself (`bind_http` does, so that a port in use is an error before
anything else was started), speak TLS (a proxy does), handle signals.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import trio
from fastapi import FastAPI
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import Framework

BACKLOG = 256  # connections the kernel holds while the node is busy with a slice of deliveries
IDLE_TIMEOUT_S = 15  # from accept to a whole request head, and between requests
READ_TIMEOUT_S = 30  # silence inside a request; the edge bounds the body as a whole
GRACE_S = 5.0  # running requests, after the shutdown began; longer than any commit takes to be given up
HEAD_BYTES_MAX = 16_384


class PortInUse(Exception):
    """Somebody else listens there. ``str()`` says what to do next."""


def bind_http(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises `PortInUse`, or `OSError` where the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # A restart must not wait for the last one's connections in TIME_WAIT; a live listener still excludes us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} on {host} is in use by another program; stop it, or choose another port with "
                "READBACK_HTTP_PORT (0 takes any free one)."
            ) from None
        raise
    sock.setblocking(False)
    return sock


async def serve_http(
    app: FastAPI,
    sockets: Sequence[socket.socket],
    *,
    shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown()`` returns (it may wait for ever) or until cancelled. The sockets are ours from here on:
    they are closed at the end."""
    log = logging.getLogger("readback.http.server")
    log.setLevel(logging.WARNING)  # Hypercorn tells at INFO that it runs; `readback` says so itself, and better
    config = HypercornConfig()
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.graceful_timeout = GRACE_S
    config.keep_alive_timeout = IDLE_TIMEOUT_S
    config.read_timeout = READ_TIMEOUT_S
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.h2_max_header_list_size = HEAD_BYTES_MAX
    config.h2_max_concurrent_streams = 32  # cleartext HTTP/2 cannot be switched off; it can be kept small
    config.backlog = BACKLOG
    async with trio.open_nursery() as nursery:
        await nursery.start(_run, cast(Framework, app), config, shutdown)
        task_status.started()


async def _run(
    app: Framework,
    config: HypercornConfig,
    shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    await hypercorn_serve(app, config, shutdown_trigger=shutdown, task_status=task_status, mode="asgi")
