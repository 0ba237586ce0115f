"""From a `Config` to a serving node with its ports: what `readback serve` and `readback dev` run.

Ports are bound before anything else is started, so that one in use is an error at once. The HTTP API ends after the
node has drained: probes and operators can look until the last moment.
"""

from __future__ import annotations

import secrets as randomness
import socket
from urllib.parse import urlsplit

import trio

from gateway.config import Config, Ready, Secrets
from gateway.desk import Desk
from gateway.http import make_app
from gateway.http_serve import bind_http, serve_http
from gateway.memory import freeze
from gateway.node import Node, running
from store.links import StoreLimits
from store.postgres import open_postgres_log

BACKLOG = 4_096
"""Connections the kernel holds for one turn of the loop: a whole room that comes back at once."""


def bind_websocket(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def new_id() -> str:
    """A session's name: 96 random bits."""
    return randomness.token_urlsafe(12)


async def serve(config: Config, secrets: Secrets, *, on_ready: object) -> None:
    """Serve until drained (`Ready.drain`) or cancelled. ``on_ready(Ready)`` is called once both ports answer.

    Raises `OSError` for a port that cannot be bound, `core.ports.StoreError` where the log cannot be used.
    """
    assert config.database_url is not None
    assert callable(on_ready)
    sock = bind_websocket(config.host, config.port)
    http_sock = bind_http(config.http_host, config.http_port)
    port, http_port = sock.getsockname()[1], http_sock.getsockname()[1]
    async with (
        open_postgres_log(
            config.database_url, limits=StoreLimits(query_timeout_s=config.limits.commit_timeout_s)
        ) as log,
        running(
            log,
            secrets,
            limits=config.limits,
            audience=config.audience,
            origins=config.origins,
            new_id=new_id,
        ) as node,
        trio.open_nursery() as nursery,
    ):
        drained = trio.Event()
        asked = trio.Event()
        app = make_app(Desk(node), limits=config.limits, origins=config.origins)
        nursery.start_soon(_serve_http, app, http_sock, drained)
        nursery.start_soon(_drain_when_asked, node, asked, drained)
        node.shard.listen(sock)
        freeze()
        on_ready(Ready(port, http_port, _without_password(config.database_url), asked.set))


async def _serve_http(app: object, sock: socket.socket, drained: trio.Event) -> None:
    from fastapi import FastAPI

    assert isinstance(app, FastAPI)
    await serve_http(app, [sock], shutdown=drained.wait)


async def _drain_when_asked(node: Node, asked: trio.Event, drained: trio.Event) -> None:
    await asked.wait()
    await node.drain()
    drained.set()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
