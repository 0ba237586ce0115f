"""Thousands of WebSocket clients in one process, cheap to open and cheap to kill: plain sockets in one epoll set.

For the scenarios that cut connections or hold very many. The epoll set's own descriptor is watched by the event loop, so
timers and the picows clients of the same process go on beside it. Server frames are taken apart in Python; fragmented
messages are not expected from any server here and end the client with a reason.

Subclass `Raw`; override `on_welcome`, `on_event`, `on_answer`, `on_gone`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import struct
from typing import Any

from bench.gen.dialect import Dialect, OpeningError
from bench.gen.link import monotonic_ns

READ_BYTES = 262_144
TURN_EVENTS = 512
REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = os.urandom(4)  # one a process: masking guards proxies against browsers, and there is neither here
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
CONNECTING, UPGRADING, OPENING, OPEN, GONE = range(5)


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    key = (MASK * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + MASK + body


class Swarm:
    """The epoll set and the clients in it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.epoll = select.epoll()
        self.clients: dict[int, Raw] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.epoll.fileno(), self._turn)

    def _turn(self) -> None:
        for fd, events in self.epoll.poll(0, TURN_EVENTS):
            client = self.clients.get(fd)
            if client is not None:
                client.on_io(events)

    def close(self) -> None:
        """Cut all that is left and leave the event loop."""
        for client in list(self.clients.values()):
            client.cut(reset=True)
        self._loop.remove_reader(self.epoll.fileno())
        self.epoll.close()


class Raw:
    """One client, which may connect again and again; what it knows (cursors, tokens) outlives its connections."""

    def __init__(self, swarm: Swarm, dialect: Dialect, opening: bytes, *, receive_buffer: int = 0) -> None:
        self.swarm = swarm
        self.dialect = dialect
        self.first_frame = opening
        """The hello or resume that the next connection opens with."""
        self.receive_buffer = receive_buffer
        self.sock: socket.socket | None = None
        self.state = GONE
        self.port = swarm.port
        """Where the next connection goes; a scenario with several nodes changes it."""
        self.began_ns = 0
        """When the present connection was begun."""
        self._rest = b""

    # What a scenario overrides

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        """The server took the hello or the resume."""

    def on_event(self, payload: bytes) -> None:
        """An event of a stream."""

    def on_answer(self, payload: bytes) -> None:
        """Any other frame after the welcome: answers, errors, signals."""

    def on_gone(self, reason: str) -> None:
        """The connection ended though this client did not cut it, or it was refused."""

    # The connection

    def connect(self) -> None:
        assert self.state == GONE, "a client has one connection at a time"
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.began_ns = monotonic_ns()
        self.sock, self.state, self._rest = sock, CONNECTING, b""
        self.swarm.clients[sock.fileno()] = self
        code = sock.connect_ex(("127.0.0.1", self.port))
        if code not in (0, errno.EINPROGRESS):
            self._gone(os.strerror(code))
            return
        self.swarm.epoll.register(sock, select.EPOLLOUT)

    def cut(self, *, reset: bool) -> None:
        """End the connection at once, with a TCP reset or an ordinary end; never a WebSocket close."""
        if self.sock is None:
            return
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._drop()

    def _drop(self) -> None:
        if self.sock is not None:
            self.swarm.clients.pop(self.sock.fileno(), None)
            self.sock.close()  # closing also takes it out of the epoll set
            self.sock = None
        self.state = GONE

    def _gone(self, reason: str) -> None:
        self._drop()
        self.on_gone(reason)

    def stall(self) -> None:
        """Stop reading: what the server sends from now on stays in the kernel's buffers, then nowhere."""
        assert self.sock is not None, "only a connected client can stall"
        self.swarm.epoll.modify(self.sock, 0)

    def unstall(self) -> None:
        if self.sock is not None:
            self.swarm.epoll.modify(self.sock, select.EPOLLIN)

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """A frame of a few hundred bytes on a connection that is not stalled goes out whole; anything else ends it."""
        if self.sock is None:
            return
        frame = masked(payload, opcode)
        try:
            whole = self.sock.send(frame) == len(frame)
        except OSError as error:
            self._gone(str(error))
            return
        if not whole:
            self._gone("the server does not read")

    def on_io(self, events: int) -> None:
        assert self.sock is not None
        try:
            if self.state == CONNECTING:
                code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    self._gone(os.strerror(code))
                    return
                self.sock.send(REQUEST % self.dialect.path.encode())
                self.state = UPGRADING
                self.swarm.epoll.modify(self.sock, select.EPOLLIN)
                return
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(str(error))
            return
        if not data:
            self._gone("closed by the server")
        elif self.state == UPGRADING:
            self._upgraded(self._rest + data)
        else:
            self._take(self._rest + data if self._rest else data)

    def _upgraded(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return
        if not data.startswith(b"HTTP/1.1 101"):
            status, _, headers = data[:end].decode(errors="replace").partition("\r\n")
            wait = [line.strip() for line in headers.split("\r\n") if line.lower().startswith("retry-after:")]
            self._gone(", ".join([status, *wait]))
            return
        self.state, self._rest = OPENING, b""
        first = self.dialect.first(self.first_frame)
        if first is not None:
            self.send(first)
        if len(data) > end + 4 and self.sock is not None:
            self._take(data[end + 4 :])

    def _take(self, data: bytes) -> None:
        """All whole frames of what was read. This is the hot path of the jitter and resume scenarios."""
        at, size = 0, len(data)
        while size - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length == 126:
                start = at + 4
                if size < start:
                    break
                length = (data[at + 2] << 8) | data[at + 3]
            elif length == 127:
                start = at + 10
                if size < start:
                    break
                length = int.from_bytes(data[at + 2 : at + 10], "big")
            end = start + length
            if end > size:
                break
            self._frame(data[at], data[start:end])
            if self.sock is None:
                return
            at = end
        self._rest = data[at:]

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x81:
            if payload.startswith(self.dialect.event_prefix):
                self.on_event(payload)
            elif self.state == OPEN:
                reply = self.dialect.control(payload)
                if reply is not None:
                    self.send(reply)
                else:
                    self.on_answer(payload)
            else:
                self._opening(payload)
        elif first == 0x80 | PING:
            self.send(payload, PONG)
        elif first == 0x80 | CLOSE:
            self._gone(f"closed by the server: {payload[2:].decode(errors='replace')}")
        elif first != 0x80 | PONG:
            self._gone(f"a frame that no server here sends: {first:#x}")

    def _opening(self, payload: bytes) -> None:
        try:
            reply, welcome = self.dialect.opening(payload, self.first_frame)
        except (OpeningError, ValueError, KeyError) as error:
            self._gone(str(error))
            return
        if reply is not None:
            self.send(reply)
        if welcome is not None:
            self.state = OPEN
            self.on_welcome(welcome)
