"""One connection to a Redis: opened, logged in, bytes to replies and back. `store.redis_link` keeps it busy.

Parsing and packing are hiredis's; the socket is a plain non-blocking one, since a publish must be able to write at once
from code that cannot wait. TLS goes through memory for the same reason. RESP2: a RESP3 push carries nothing that we need.

It tries each address of a name once, keeps every step within its time, and never says a password.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import hiredis
import trio

from store.bus_limits import BusCounters, BusLimits

ReplyError = hiredis.ReplyError
Command = tuple[str | int | bytes, ...]
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows tuples of one
_NOTHING_YET = object()
"""hiredis's own word for it is False, which equals the reply 0."""
_IN_A_SCRIPT = re.compile(r"@user_script: \d+: -?([A-Z]+) ")


class LinkLost(Exception):
    """A link ended, or never came about; the words name the server and are fit for an operator.

    ``refused``: somebody has to change something; else repeating may help.
    """

    def __init__(self, words: str, *, refused: bool = False) -> None:
        super().__init__(words)
        self.refused = refused


class Server(NamedTuple):
    """A port of a host, or a socket in the file system."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    client_name: str = "readback"


RIGHTS = (
    "resetchannels ~readback:* &readback:* "
    "+hello +client|setname +select +ping +publish +subscribe +unsubscribe +eval +evalsha +get +set"
)
CLUSTER_RIGHTS = "+cluster|slots +spublish +ssubscribe +sunsubscribe"
"""What a user of the bus has to be granted, in the words of ACL SETUSER; ``+info`` lets the check at start see more. The
sharded commands exist since 7.0."""

ADVICE = {
    "NOAUTH": "asks for a password: put it into the URL, as in redis://:password@host",
    "WRONGPASS": "refuses the user name or password of the URL",
    "NOPERM": f"does not let this user do what the bus needs: grant it {RIGHTS} (in a cluster also {CLUSTER_RIGHTS})",
    "OOM": "is full: raise its maxmemory, or give the bus a Redis of its own",
    "READONLY": "is a replica: the URL must name the primary",
    "MISCONF": "refuses writes because it cannot save its data: see its log, or give the bus a Redis without snapshots",
    "LOADING": "is still loading its data",
    "BUSY": "is busy with a script that does not end",
    "MASTERDOWN": "is a replica that has lost its primary",
    "MOVED": "no longer serves this part of the cluster",
    "ASK": "is giving away this part of the cluster",
    "TRYAGAIN": "is giving away this part of the cluster",
    "CLUSTERDOWN": "is part of a cluster that is down",
    "NOREPLICAS": "has too few replicas to take writes",
}
"""What an error reply means here, by its first word."""
PASSING = {"LOADING", "BUSY", "MASTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}
"""After these, repeating may help."""


def code_of(error: ReplyError) -> str:
    """Before 7.0 Redis wraps what a command of a script was refused with into an ``ERR`` of its own."""
    wrapped = _IN_A_SCRIPT.search(str(error))
    return str(error).partition(" ")[0] if wrapped is None else wrapped[1]


def refusal(server: Server, error: ReplyError) -> LinkLost:
    return LinkLost(explain(server, error), refused=code_of(error) not in PASSING)


def explain(server: Server, error: ReplyError) -> str:
    known = ADVICE.get(code_of(error))
    return f"Redis {server} {known}" if known is not None else f"Redis {server} answered with an error: {error}"


class Wire:
    """A connected socket, its TLS and its parser."""

    def __init__(self, sock: socket.socket, server: Server, counters: BusCounters, tls: Tls | None) -> None:
        self.sock = sock
        self.server = server
        self.tls = tls
        self.version: tuple[int, ...] = ()
        """Empty where the server does not tell."""
        self.is_replica = False
        self.mode = ""
        """standalone, cluster or sentinel, where it tells"""
        self._counters = counters
        self._reader = hiredis.Reader(notEnoughData=_NOTHING_YET)

    def read(self, size: int) -> list[object]:
        """The replies completed by one ``recv``; raises `BlockingIOError` where nothing came, `LinkLost` at the end."""
        try:
            data = self.sock.recv(size)
            self._counters.bytes_in += len(data)
            if data and self.tls is not None:
                data = self.tls.open(data)
            elif not data:
                raise LinkLost(f"Redis {self.server} closed the link")
            self._reader.feed(data)
            return list(iter(self._reader.gets, _NOTHING_YET))
        except BlockingIOError:
            raise
        except hiredis.ProtocolError:
            raise LinkLost(f"{self.server} does not speak Redis's protocol", refused=True) from None
        except OSError as error:
            raise LinkLost(f"the link to Redis {self.server} broke: {_words(error)}") from None

    async def exchange(self, *commands: Command) -> list[object]:
        """The replies to these commands, errors among them, before the wire becomes a link."""
        data = b"".join(map(pack, commands))
        await self._send_all(data if self.tls is None else self.tls.seal(data))
        replies: list[object] = []
        while len(replies) < len(commands):
            await trio.lowlevel.wait_readable(self.sock)
            try:
                replies += self.read(65_536)
            except BlockingIOError:
                continue
        return replies

    async def shake_hands(self) -> None:
        assert self.tls is not None
        while not self.tls.shake():
            await self._send_all(self.tls.pending())
            await trio.lowlevel.wait_readable(self.sock)
            self.tls.feed(self.sock.recv(65_536))
        await self._send_all(self.tls.pending())

    async def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                sent = self.sock.send(view)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)
                continue
            except OSError as error:
                raise LinkLost(f"the link to Redis {self.server} broke: {_words(error)}") from None
            self._counters.bytes_out += sent
            view = view[sent:]

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()


class Tls:
    """TLS over memory: neither side of it waits."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=host or None)

    def shake(self) -> bool:
        """Whether hands are shaken; what is `pending` has to be sent either way."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        self._in.write(data) if data else self._in.write_eof()

    def pending(self) -> bytes:
        return self._out.read()

    def seal(self, data: bytes) -> bytes:
        written = self._object.write(data)
        assert written == len(data), "memory takes everything"
        return self._out.read()

    def open(self, data: bytes) -> bytes:
        self._in.write(data)
        opened = bytearray()
        try:
            while more := self._object.read(65_536):
                opened += more
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # after the other's goodbye the socket says so too
        return bytes(opened)


async def connect(server: Server, login: Login, limits: BusLimits, counters: BusCounters) -> Wire:
    """A wire that is logged in, its ``version``, ``mode`` and ``is_replica`` as the server tells them. Raises `LinkLost`."""
    try:
        with trio.fail_after(limits.connect_timeout_s):
            sock = await _open_socket(server)
    except trio.TooSlowError:
        raise LinkLost(
            f"Redis {server} is not reachable: no connection within {limits.connect_timeout_s:g} s"
        ) from None
    except OSError as error:
        raise LinkLost(f"Redis {server} is not reachable: {_words(error)}") from None
    wire = Wire(sock, server, counters, None if login.tls is None else Tls(login.tls, server.host))
    try:
        with trio.fail_after(limits.connect_timeout_s):
            if wire.tls is not None:
                await wire.shake_hands()
            await _log_in(wire, login)
    except trio.TooSlowError:
        wire.close()
        hint = "" if login.tls is None else ", or speaks no TLS there: then the URL must begin with redis"
        raise LinkLost(f"Redis {server} does not answer{hint}") from None
    except OSError as error:
        wire.close()
        raise LinkLost(f"no TLS with Redis {server}: {_words(error)}", refused=True) from None
    except BaseException:
        wire.close()
        raise
    return wire


async def _log_in(wire: Wire, login: Login) -> None:
    commands: list[Command] = []
    if login.password:
        commands.append(("AUTH", login.username, login.password) if login.username else ("AUTH", login.password))
    if login.db:
        commands.append(("SELECT", login.db))
    needed = len(commands)
    # What follows may be refused to a user of few rights, and is only good to know.
    commands += [("HELLO", 2), ("CLIENT", "SETNAME", login.client_name)]
    replies = await wire.exchange(*commands)
    for command, reply in zip(commands[:needed], replies, strict=False):
        if isinstance(reply, ReplyError):
            if command[0] == "AUTH" and code_of(reply) == "ERR":  # its words repeat what was sent
                words = f"Redis {wire.server} knows no such login: leave out the user or the password of the URL"
                raise LinkLost(words, refused=True)
            raise refusal(wire.server, reply)
    hello = replies[needed]
    if isinstance(hello, ReplyError) and "max number of clients" in str(hello):
        raise LinkLost(f"Redis {wire.server} has as many clients as it may have: raise its maxclients")
    if isinstance(hello, ReplyError) and code_of(hello) in ("NOAUTH", "LOADING"):
        raise refusal(wire.server, hello)
    if isinstance(hello, list):
        facts = dict(zip(hello[::2], hello[1::2], strict=False))
        wire.version = read_version(facts.get(b"version", b""))
        wire.is_replica = facts.get(b"role") in (b"replica", b"slave")
        mode = facts.get(b"mode")
        wire.mode = mode.decode("ascii", "replace") if isinstance(mode, bytes) else ""


def read_version(text: object) -> tuple[int, ...]:
    words = text.decode("ascii", "replace").split(".") if isinstance(text, bytes) else []
    return tuple(int(word) for word in words[:3] if word.isdigit())


async def _open_socket(server: Server) -> socket.socket:
    if server.path:
        return await _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), server.path)
    refused: OSError | None = None
    for family, kind, protocol, _, address in await trio.socket.getaddrinfo(
        server.host, server.port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            return await _connected(sock, address)
        except OSError as error:
            refused = error
    raise refused or OSError("the name has no address")


async def _connected(sock: socket.socket, address: object) -> socket.socket:
    try:
        sock.setblocking(False)
        failed = sock.connect_ex(address)  # type: ignore[arg-type]
        if failed and failed not in (
            errno.EINPROGRESS,
            errno.EAGAIN,
        ):  # the latter of a Unix socket whose backlog is full
            raise OSError(failed, os.strerror(failed))
        await trio.lowlevel.wait_writable(sock)
        if failed := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(failed, os.strerror(failed))
        sock.getpeername()
    except BaseException:
        sock.close()
        raise
    return sock


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not pass ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the handshake failed").lower().replace("_", " ")
    return error.strerror or str(error)
