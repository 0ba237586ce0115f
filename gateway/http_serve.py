"""The HTTP API on the network: Hypercorn's Trio worker, bounded and quiet.

For: `serve_http(app, sockets, shutdown=…)` inside the node's nursery. Promises: it listens on the sockets it was given,
cuts connections that send nothing, keeps the failure of one connection from all others, finishes running requests for a
few seconds once ``shutdown`` returns, and writes to the log only what is wrong. With ``tls`` it speaks TLS, each handshake
with the certificate of that moment; a request without it is told so in plain text. Does not: open ports by itself
(`bind_http` does, so that a port in use is an error before anything else was started), handle signals.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import cast

import trio
from fastapi import FastAPI
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, Framework
from hypercorn.utils import wrap_app

from core.handshake import tls_wanted
from gateway.tls import HANDSHAKE_RECORD, Tls

log = logging.getLogger("readback.http.server")

BACKLOG = 256  # connections the kernel holds while the node is busy with a slice of deliveries
IDLE_TIMEOUT_S = 15  # from accept to a whole request head, and between requests
READ_TIMEOUT_S = 30  # silence inside a request; the edge bounds the body as a whole
GRACE_S = 5.0  # running requests, after the shutdown began; longer than any commit takes to be given up
HANDSHAKE_TIMEOUT_S = 5  # of TLS
HEAD_BYTES_MAX = 16_384
CONNECTIONS_MAX = (
    1_000  # each costs a task; whoever comes beyond is closed at once and leaves the descriptors to others
)


class PortInUse(Exception):
    """Somebody else listens there. ``str()`` says what to do next."""


def bind_http(host: str, port: int, *, share: bool = False) -> socket.socket:
    """A listening TCP socket; with ``share``, one of several on the port. Raises `PortInUse`, or `OSError` where the
    address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # A restart must not wait for the last one's connections in TIME_WAIT; a live listener still excludes us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
    tls: Tls | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown()`` returns (it may wait for ever) or until cancelled. The sockets are ours from here on:
    they are closed at the end."""
    log.setLevel(logging.WARNING)  # Hypercorn tells at INFO what it does; `readback` says so itself, and better
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_TIMEOUT_S
    config.read_timeout = READ_TIMEOUT_S
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.h2_max_header_list_size = HEAD_BYTES_MAX
    config.ssl_handshake_timeout = HANDSHAKE_TIMEOUT_S
    config.h2_max_concurrent_streams = 32  # cleartext HTTP/2 cannot be switched off; it can be kept small
    context = WorkerContext(None)
    handler = _Handler(wrap_app(cast(Framework, app), config.wsgi_max_body_size, "asgi"), config, context, tls)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as listening:
            listening.start_soon(partial(trio.serve_listeners, handler, listeners, handler_nursery=connections))
            task_status.started()
            await shutdown()
            listening.cancel_scope.cancel()
        await context.terminated.set()  # idle connections end now, busy ones with their request
        connections.cancel_scope.deadline = trio.current_time() + GRACE_S


class _Connection(TCPServer):
    async def _read_data(self) -> None:
        """Until the peer says no more. Hypercorn's idle timer would hold a connection that has ended for its full time."""
        await super()._read_data()
        await self.idle_task.stop()


class _Handler:
    """One connection after another, each behind an exception boundary.

    Hypercorn's own loop has none: an exception in one connection's protocol code ends the server, and with it the node
    whose nursery it runs in. One byte after an upgrade request was enough (two tasks answered at once).
    """

    def __init__(self, app: AppWrapper, config: HypercornConfig, context: WorkerContext, tls: Tls | None) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._tls = tls
        self._count = 0

    async def __call__(self, stream: trio.SocketStream) -> None:
        if self._count >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self._count += 1
        try:
            secured = stream if self._tls is None else await _secured(stream, self._tls)
            if secured is not None:
                await _Connection(self._app, self._config, self._context, ConnectionState({}), secured)  # type: ignore[arg-type]
        except* Exception as errors:
            # Their messages may quote the client.
            names = sorted({type(error).__name__ for error in _leaves(errors)})
            log.warning("an HTTP connection was ended by %s", ", ".join(names))
            await trio.aclose_forcefully(stream)
        finally:
            self._count -= 1
            if self._tls is not None:
                await trio.aclose_forcefully(stream)  # Hypercorn leaves it open where a handshake fails


async def _secured(stream: trio.SocketStream, tls: Tls) -> trio.SSLStream[trio.SocketStream] | None:
    """The stream within TLS, its handshake still to come. ``None`` for a peer that speaks something else: it was told so."""
    with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
        first = await stream.socket.recv(1, socket.MSG_PEEK)
        if first == HANDSHAKE_RECORD:
            return trio.SSLStream(stream, tls.context, server_side=True, https_compatible=True)
        if first:
            await stream.send_all(tls_wanted())
            await stream.send_eof()
            while await stream.receive_some():  # or what it has sent would turn our words into a reset
                pass
    return None


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
