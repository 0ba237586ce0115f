"""The echo server of the suites: an independent client gets back what it sent, so a suite tests the codec alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

from core.frames import TEXT, masked_frame
from core.handshake import PATH
from tests.conformance.echo_server import MESSAGE_BYTES_MAX, EchoServer
from tests.conformance.streams import MASK

DEADLINE_S = 20


@pytest.fixture
def port() -> Iterator[int]:
    server = EchoServer()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.port
    server.stop()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def client(port: int, path: str = PATH) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{port}{path}",
        compression=None,
        max_size=MESSAGE_BYTES_MAX,
        proxy=None,
        open_timeout=DEADLINE_S,
    )


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 3_000_000])
def test_messages_come_back(port: int, size: int) -> None:
    """Text and binary of any size, beyond what a socket's buffer holds, come back as they were."""
    with client(port) as connection:
        for message in ("ä" * size, bytes(size)):
            connection.send(message)
            assert connection.recv(DEADLINE_S) == message


def test_fragments_come_back_as_one_message(port: int) -> None:
    """What was sent in fragments, cut inside code points, is one message."""
    pieces = ["grü", "ße ", "🛬"]
    with client(port) as connection:
        connection.send(iter(pieces))
        assert connection.recv(DEADLINE_S) == "".join(pieces)


def test_ping_is_answered(port: int) -> None:
    """A ping gets its pong."""
    with client(port) as connection:
        assert connection.ping(b"there?").wait(DEADLINE_S)


def test_close_is_echoed(port: int) -> None:
    """A close comes back with the code and the reason it brought."""
    with client(port) as connection:
        connection.close(4001, "bye")
        assert connection.protocol.close_rcvd == Close(4001, "bye")


def test_breach_is_closed_with_its_code_after_the_answers(port: int) -> None:
    """Messages before a breach are echoed; then the close frame says what was wrong."""
    with client(port) as connection:
        connection.socket.sendall(masked_frame(TEXT, b"fine", MASK) + b"\xf1")
        assert connection.recv(DEADLINE_S) == "fine"
        with pytest.raises(ConnectionClosed):
            connection.recv(DEADLINE_S)
        assert connection.protocol.close_rcvd is not None
        assert connection.protocol.close_rcvd.code == 1002
        assert "reserved bits" in connection.protocol.close_rcvd.reason


def test_frames_in_the_chunk_of_the_request_are_served(port: int) -> None:
    """A client that pipelines its first frame behind the upgrade request is answered it."""
    request = (
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
        sock.sendall(request + masked_frame(TEXT, b"early", MASK))
        got = b""
        while not got.endswith(b"\x81\x05early"):
            chunk = sock.recv(4096)
            assert chunk
            got += chunk
    assert got.startswith(b"HTTP/1.1 101 ")


def test_other_paths_are_refused(port: int) -> None:
    """What is no upgrade of the path gets its refusal, and the connection closes."""
    with pytest.raises(InvalidStatus, match="404"):
        client(port, "/elsewhere")


def test_one_broken_client_leaves_the_others_alone(port: int) -> None:
    """Noise, a reset and a breach on other connections change nothing for one that behaves."""
    with client(port) as good:
        for noise in (b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
                sock.sendall(noise)
                assert b"HTTP/1.1 4" in sock.recv(4096)
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        good.send("still here")
        assert good.recv(DEADLINE_S) == "still here"
