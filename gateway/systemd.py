"""What a service manager and a service say to each other: readiness, reloads, ends, a watchdog, and inherited sockets.

For: `gateway.serve` under systemd, and `gateway.workers`, which speaks to its workers the same way. Promises: nothing
here waits or fails for a manager that is not there or does not read; inherited sockets are checked before anything is
started, and what is wrong with them is one `ConfigError`. Does not: depend on a library of systemd's; both interfaces are
a datagram of lines (sd_notify(3)) and descriptors from 3 on (sd_listen_fds(3)).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from math import inf

import trio

from gateway.config import ConfigError

FIRST_FD = 3
WEBSOCKET = "websocket"
HTTP = "http"
STOP_EXTENSION_S = 10.0
"""How much longer the manager is asked to wait, again and again while a drain goes on."""
STOP_EXTEND_EVERY_S = 2.0


class Notifier:
    """Sends to ``NOTIFY_SOCKET``; without one, every call does nothing.

    ``watchdog_s``: how often the manager wants to hear from us, ``inf`` where it does not.
    """

    def __init__(self, environ: Mapping[str, str], *, pid: int | None = None) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address: str | None = None
        if address[:1] in ("/", "@"):
            self._address = "\0" + address[1:] if address[0] == "@" else address  # "@": the abstract namespace
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if self._address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self.watchdog_s = inf
        meant = environ.get("WATCHDOG_PID", "")
        wanted = environ.get("WATCHDOG_USEC", "")
        if (
            self._address
            and wanted.isdigit()
            and int(wanted)
            and meant in ("", str(os.getpid() if pid is None else pid))
        ):
            self.watchdog_s = int(wanted) / 1e6

    @property
    def listened_to(self) -> bool:
        return self._socket is not None

    def say(self, *lines: str) -> None:
        """One datagram. A manager that is gone, or too busy to take it, is no reason to stop serving."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address or "")
        except OSError:
            pass

    def ready(self, status: str) -> None:
        self.say("READY=1", _status(status))

    def status(self, status: str) -> None:
        self.say(_status(status))

    def beat(self) -> None:
        self.say("WATCHDOG=1")

    def reloading(self) -> None:
        self.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self.say("STOPPING=1", _status(status), _extension())

    async def extend_while_stopping(self) -> None:
        """Until cancelled: what takes longer than ``TimeoutStopSec`` still ends by itself as long as the loop turns."""
        while self.listened_to:
            self.say(_extension())
            await trio.sleep(STOP_EXTEND_EVERY_S)

    async def feed_watchdog(self) -> None:
        """Until cancelled, for a loop without a pulse of its own."""
        while self.watchdog_s < inf:
            self.beat()
            await trio.sleep(self.watchdog_s / 2)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Watchdog:
    """The node's sign of life, given by its own loop: to be called after every beat of its pulse.

    The manager hears from us twice as often as it asked for, while ``alive()``. A loop that hangs does not call, and one
    that turns without serving is not alive: both are silent, and the manager ends the process.
    """

    def __init__(self, notifier: Notifier, alive: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._notifier = notifier
        self._alive = alive
        self._clock = clock
        self._due_s = clock()

    def __call__(self) -> None:
        now_s = self._clock()
        if now_s >= self._due_s and self._alive():
            self._due_s = now_s + self._notifier.watchdog_s / 2
            self._notifier.beat()


def _status(text: str) -> str:
    return "STATUS=" + text.replace("\n", " ")


def _extension() -> str:
    return f"EXTEND_TIMEOUT_USEC={int(STOP_EXTENSION_S * 1e6)}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """Listening sockets that the service manager opened and shares with others, perhaps: never shut down, only closed."""

    websocket: socket.socket
    http: socket.socket


def take_sockets(environ: MutableMapping[str, str], *, pid: int | None = None) -> Inherited | None:
    """The sockets handed over by systemd, or ``None``. The variables are taken away, so that no child takes them too.

    Named ``websocket`` and ``http`` (``FileDescriptorName=``); without names, the WebSocket's is the first. Raises
    `ConfigError` in one sentence for anything but two listening TCP sockets.
    """
    count, names = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_FDNAMES", "")
    meant_for = environ.pop("LISTEN_PID", "")
    if not count or meant_for != str(os.getpid() if pid is None else pid):
        return None
    if count != "2":
        raise ConfigError(
            f"systemd handed over {count} sockets (LISTEN_FDS), and Readback takes two: one named {WEBSOCKET}, one named "
            f"{HTTP}; systemd/readback.socket and systemd/readback-http.socket show them."
        )
    given = names.split(":") if names else []
    if len(set(given)) != 2 or set(given) != {WEBSOCKET, HTTP}:
        if set(given) - {"unknown", ""}:
            raise ConfigError(
                f"systemd named its sockets {names!r}, and they must be {WEBSOCKET} and {HTTP}: set "
                "FileDescriptorName= in each .socket unit, with one ListenStream= a unit."
            )
        given = [WEBSOCKET, HTTP]
    by_name = {name: _listening(FIRST_FD + at, name) for at, name in enumerate(given)}
    return Inherited(by_name[WEBSOCKET], by_name[HTTP])


def _listening(descriptor: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(
            f"The descriptor {descriptor} that systemd handed over for {name} is no socket: {error.strerror}."
        ) from None
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM or not listens:
        sock.detach()
        raise ConfigError(
            f"The socket that systemd handed over for {name} is no listening TCP socket: use ListenStream= with a port, "
            "and Accept=no."
        )
    os.set_inheritable(descriptor, False)
    sock.setblocking(False)
    return sock
