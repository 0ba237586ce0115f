"""bench.gen.raw and bench.peers.floor: client frames are masked as RFC 6455 says, server frames are taken apart.

The raw client is driven over a socket pair, without a network and without waiting.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.gen import raw
from bench.gen.dialect import Dialect
from bench.gen.raw import OPEN, UPGRADING, Raw, Swarm, masked
from bench.peers.floor import frame_size, framed, unmasked

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
WELCOME = b'{"op":"welcome","id":1,"streams":{}}'


@given(st.binary(max_size=70_000))
def test_a_masked_frame_unmasks_to_what_was_sent(payload: bytes) -> None:
    """Mask bit set, the shortest length form, and the payload back again."""
    frame = masked(payload)
    assert frame[0] == 0x81
    assert frame[1] & 0x80
    if len(payload) < 65_536:
        assert frame_size(frame) == len(frame)
        assert unmasked(frame) == payload


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_frames_are_found_one_after_another(payloads: list[bytes]) -> None:
    """The floor's server cuts what one read brought into its frames."""
    data = b"".join(map(masked, payloads))
    found = []
    while (size := frame_size(data)) and len(data) >= size:
        found.append(unmasked(data[:size]))
        data = data[size:]
    assert found == payloads
    assert data == b""


class Listening(Raw):
    """Keeps what it is told."""

    def __init__(self, swarm: Swarm) -> None:
        super().__init__(swarm, Dialect(), b"hello")
        self.heard: list[tuple[str, Any]] = []

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.heard.append(("welcome", welcome["op"]))

    def on_event(self, payload: bytes) -> None:
        self.heard.append(("event", payload))

    def on_answer(self, payload: bytes) -> None:
        self.heard.append(("answer", payload))

    def on_gone(self, reason: str) -> None:
        self.heard.append(("gone", reason))


def fed(*reads: bytes, state: int = UPGRADING) -> tuple[list[tuple[str, Any]], bytes, Raw]:
    """A client that was sent these reads, one turn each: what it heard, what it sent, and itself."""

    async def play() -> tuple[list[tuple[str, Any]], bytes, Raw]:
        swarm = Swarm(0)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        client = Listening(swarm)
        client.sock, client.state = ours, state
        for read in reads:
            theirs.send(read)
            client.on_io(0)
        try:
            sent = theirs.recv(65_536)
        except BlockingIOError:
            sent = b""
        client.cut(reset=False)
        theirs.close()
        swarm.close()
        return client.heard, sent, client

    return asyncio.run(play())


def test_the_upgrade_is_followed_by_the_hello() -> None:
    """The hello goes out when the 101 is whole, also when it comes in two reads."""
    heard, sent, _ = fed(UPGRADED[:20], UPGRADED[20:])
    assert unmasked(sent) == b"hello"
    assert heard == []


def test_a_welcome_and_its_replay_may_come_in_one_read_with_the_upgrade() -> None:
    """Nothing that follows the 101 in the same bytes is lost."""
    event = b'{"op":"event","seq":1,"x":1}'
    heard, _, _ = fed(UPGRADED + framed(WELCOME) + framed(event))
    assert heard == [("welcome", "welcome"), ("event", event)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_of_any_length_may_come_in_pieces(size: int) -> None:
    """All three length forms, cut at every place near the header."""
    payload = b'{"op":"event","x":"' + b"x" * size
    length = len(payload)
    head = (
        bytes((0x81, length))
        if length < 126
        else b"\x81\x7e" + length.to_bytes(2, "big")
        if length < 65_536
        else b"\x81\x7f" + length.to_bytes(8, "big")
    )
    frame = head + payload
    for cut in (1, 2, 3, 5, 9, 11):
        heard, _, _ = fed(frame[:cut], frame[cut:], state=OPEN)
        assert heard == [("event", payload)]


def test_a_ping_is_answered_and_a_close_ends_it() -> None:
    """A server's keep-alive gets its payload back; its close is told with the reason."""
    _, sent, _ = fed(b"\x89\x02hi", state=OPEN)
    assert sent[0] == 0x80 | raw.PONG
    assert unmasked(sent) == b"hi"
    heard, _, client = fed(b"\x88\x06\x0f\xa2away", state=OPEN)
    assert heard == [("gone", "closed by the server: away")]
    assert client.sock is None


def test_a_refused_upgrade_is_told_with_its_status() -> None:
    """The status line is the reason."""
    heard, _, _ = fed(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert heard == [("gone", "HTTP/1.1 503 Service Unavailable")]


def test_a_refused_hello_is_told_with_its_code() -> None:
    """The server's own words reach the report."""
    heard, _, _ = fed(UPGRADED + framed(b'{"op":"error","id":1,"code":"resume_rejected"}'))
    assert heard[0][0] == "gone"
    assert "resume_rejected" in heard[0][1]


def test_answers_and_events_are_told_apart() -> None:
    """An answer after the welcome is not an event, and the other way round."""
    heard, _, _ = fed(framed(b'{"op":"ok","id":1}') + framed(b'{"op":"event","seq":2}'), state=OPEN)
    assert [kind for kind, _ in heard] == ["answer", "event"]


def test_a_frame_that_no_server_sends_ends_the_client() -> None:
    """A fragment or a binary frame is a bug of a server and is not counted as anything else."""
    heard, _, _ = fed(b"\x82\x01x", state=OPEN)
    assert heard == [("gone", "a frame that no server here sends: 0x82")]
