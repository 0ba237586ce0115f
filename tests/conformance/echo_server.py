"""A WebSocket echo server made of `core.handshake` and `core.frames` and nothing else, for conformance suites.

It exists so that a suite exercises the same bytes-to-messages code as the gateway's shards, through a loop small
enough to read: one thread, one epoll, level-triggered. Text and binary messages are echoed, pings answered, a close
is echoed and a breach closed with its code. It promises nothing to the open network: loopback only, no time-outs.

Run: ``python -m tests.conformance.echo_server --port 0 --path /v1/ws`` prints the port it took, then serves until it is
told to stop (SIGTERM, SIGINT).
"""

from __future__ import annotations

import argparse
import contextlib
import select
import signal
import socket
from collections import deque

from core.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    ProtocolError,
    close_payload,
    frame,
    parse_close,
    text_frame,
)
from core.handshake import PATH, Handshake, Refusal

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""Autobahn's largest message is 16 MB."""

HEAD_BYTES_MAX = 16_384
_RECEIVE_BYTES = 262_144


class Connection:
    """One socket: bytes in, bytes out. ``closing`` means that what is queued is the last that will be sent."""

    def __init__(self, sock: socket.socket, path: str) -> None:
        self.sock = sock
        self.queue: deque[memoryview] = deque()
        self.closing = False
        self.shut = False
        self._handshake: Handshake | None = Handshake(HEAD_BYTES_MAX, path=path)
        self._reader = FrameReader(MESSAGE_BYTES_MAX)

    def take(self, data: bytes) -> None:
        """Act on what the peer sent. After a close, bytes are read and dropped, so that the kernel sends no reset."""
        if self.closing:
            return
        if self._handshake is not None:
            answer = self._handshake.feed(data)
            if answer is None:
                return
            self._send(answer.response)
            if isinstance(answer, Refusal):
                self.closing = True
                return
            self._handshake = None
            data = answer.rest
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT:
                self._send(text_frame(payload))
            elif opcode == PING:
                self._send(frame(PONG, payload))
            elif opcode == CLOSE:
                status = parse_close(payload)
                assert not isinstance(status, ProtocolError)
                self._send(frame(CLOSE, b"" if status[0] == 1005 else close_payload(*status)))
                self.closing = True
            elif opcode != PONG:
                self._send(frame(opcode, payload))
        error = self._reader.error
        if error is not None:
            self._send(frame(CLOSE, close_payload(error.code, error.reason)))
            self.closing = True

    def _send(self, data: bytes) -> None:
        self.queue.append(memoryview(data))

    def flush(self) -> bool:
        """Send what the kernel takes; whether all of it went."""
        while self.queue:
            try:
                sent = self.sock.send(self.queue[0])
            except BlockingIOError:
                return False
            if sent == len(self.queue[0]):
                self.queue.popleft()
            else:
                self.queue[0] = self.queue[0][sent:]
        if self.closing and not self.shut:
            self.shut = True
            self.sock.shutdown(socket.SHUT_WR)
        return True


class EchoServer:
    """Serves on a loopback port until `stop`, which may come from a signal handler or another thread."""

    def __init__(self, port: int = 0, path: str = PATH) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = socket.socketpair()
        self._connections: dict[int, Connection] = {}

    def stop(self) -> None:
        self._wake_write.send(b"x")

    def serve(self) -> None:
        with select.epoll() as epoll, self._listener, self._wake_read, self._wake_write:
            epoll.register(self._listener, select.EPOLLIN)
            epoll.register(self._wake_read, select.EPOLLIN)
            while True:
                for fd, events in epoll.poll():
                    if fd == self._wake_read.fileno():
                        for connection in self._connections.values():
                            connection.sock.close()
                        return
                    if fd == self._listener.fileno():
                        self._accept(epoll)
                    elif not self._turn(epoll, self._connections[fd], events):
                        self._connections.pop(fd).sock.close()

    def _accept(self, epoll: select.epoll) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[sock.fileno()] = Connection(sock, self._path)
            epoll.register(sock, select.EPOLLIN)

    def _turn(self, epoll: select.epoll, connection: Connection, events: int) -> bool:
        """One ready socket; whether the connection goes on."""
        try:
            if events & ~select.EPOLLOUT:
                data = connection.sock.recv(_RECEIVE_BYTES)
                if not data:
                    return False
                connection.take(data)
            # While the peer does not read, nothing is read from it: the queue is bounded by one chunk's echoes.
            wanted = select.EPOLLIN if connection.flush() else select.EPOLLOUT
            epoll.modify(connection.sock, wanted)
        except OSError:
            return False
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default=PATH)
    options = parser.parse_args()
    server = EchoServer(options.port, options.path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(server.port, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
