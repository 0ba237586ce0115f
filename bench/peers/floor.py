"""The floor: what this machine's kernel asks for the same work when the server does nothing else.

Plain Python sockets and one epoll. A connection that names no stream in its hello is echoed to: one ``recv``, one
non-blocking ``send`` of a pong that was framed beforehand. A connection that names streams is a subscriber: for every
frame that arrives on a connection with ``"publish":true``, one event is framed and the same bytes are sent to all
subscribers, one non-blocking ``send`` each. No parsing, no log, no room lookup: a server measured beside it pays for
all it does beyond that. The WebSocket upgrade is real, so the same load generator reads it.

Does not: survive anything unexpected. A connection that breaks, or whose buffer is full, ends.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import struct

from bench.peers.common import Clock, listening

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WELCOME = b'{"op":"welcome","id":1,"streams":{}}'
EVENT = (
    b'{"op":"event","stream":"chat:bench","seq":%d,"type":"message","key":"00000000-0000-4000-8000-%012x",'
    b'"by":"user:bench","at":"%s","body":%s}'
)


def framed(payload: bytes) -> bytes:
    """An unmasked text frame, as servers send them."""
    size = len(payload)
    if size < 126:
        return b"\x81" + bytes((size,)) + payload
    return b"\x81\x7e" + struct.pack("!H", size) + payload


def unmasked(frame: bytes) -> bytes:
    """The payload of one whole masked frame of less than 64 KiB."""
    at = 4 if frame[1] & 0x7F == 126 else 2
    mask, body = frame[at : at + 4], frame[at + 4 :]
    key = (mask * (len(body) // 4 + 1))[: len(body)]
    return (int.from_bytes(body, "big") ^ int.from_bytes(key, "big")).to_bytes(len(body), "big")


def frame_size(data: bytes) -> int:
    """Bytes of the first masked frame in ``data``; 0 while its header is incomplete."""
    if len(data) < 2:
        return 0
    short: int = data[1] & 0x7F
    if short < 126:
        return short + 6
    return int.from_bytes(data[2:4], "big") + 8 if len(data) >= 4 else 0


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    listening(listener.getsockname()[1])
    pong = framed(b'{"op":"pong","id":1,"time":"2026-01-01T00:00:00.000Z"}')
    clock = Clock()
    connections: dict[int, socket.socket] = {}
    mode: dict[int, str] = {}
    subscribers: dict[int, socket.socket] = {}
    rest: dict[int, bytes] = {}
    seq = 0

    def end(fd: int) -> None:
        connections.pop(fd).close()  # closing also takes it out of the epoll set
        mode.pop(fd, None)
        rest.pop(fd, None)
        subscribers.pop(fd, None)

    def greet(fd: int, data: bytes) -> None:
        """The upgrade, then the hello that says what this connection is for."""
        if data.startswith(b"GET "):
            key = next(
                line.split(b":")[1].strip()
                for line in data.split(b"\r\n")
                if line.lower().startswith(b"sec-websocket-key")
            )
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            connections[fd].send(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            return
        hello = unmasked(data)
        if b'"publish":true' in hello:
            mode[fd] = "publish"
        elif b'"streams":{}' in hello:
            mode[fd] = "echo"
        else:
            mode[fd] = "subscribe"
            subscribers[fd] = connections[fd]
        connections[fd].send(framed(WELCOME))

    def publish(fd: int, data: bytes) -> None:
        """Every whole frame becomes one event and one send to each subscriber."""
        nonlocal seq
        data = rest.get(fd, b"") + data
        while (size := frame_size(data)) and len(data) >= size:
            sent, data = unmasked(data[:size]), data[size:]
            seq += 1
            body = sent[sent.index(b'"body":') + 7 : -1]
            event = framed(EVENT % (seq, seq, clock.text().encode(), body))
            broken = []
            for other_fd, other in subscribers.items():
                try:
                    other.send(event)
                except OSError:  # a full buffer ends it too: a floor that queues would not be one
                    broken.append(other_fd)
            for other_fd in broken:
                end(other_fd)
            ident = sent[sent.index(b'"id":') + 5 :].split(b",", 1)[0]
            connections[fd].send(framed(b'{"op":"ok","id":%s,"seq":%d}' % (ident, seq)))
        rest[fd] = data

    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                for _ in range(256):
                    try:
                        accepted, _ = listener.accept()
                    except BlockingIOError:
                        break
                    accepted.setblocking(False)
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connections[accepted.fileno()] = accepted
                    epoll.register(accepted, select.EPOLLIN)
                continue
            if fd not in connections:
                continue  # ended earlier in this turn
            try:
                data = connections[fd].recv(65536)
                if not data:
                    end(fd)
                elif (kind := mode.get(fd)) == "echo":
                    connections[fd].send(pong)
                elif kind == "publish":
                    publish(fd, data)
                elif kind is None:
                    greet(fd, data)
            except OSError:
                if fd in connections:
                    end(fd)


if __name__ == "__main__":
    main()
