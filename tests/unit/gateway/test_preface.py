"""gateway.preface: a trusted proxy's header first, and of what follows not a byte is touched."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from core.addresses import Trusted
from core.limits import Limits
from core.proxy import SIGNATURE
from gateway.connection import State
from tests.nodes import TestNode, serving_node, ticks
from tests.raw_client import UPGRADE

PROXY = "10.0.0.9"


def header(address: str, command: int = 0x21) -> bytes:
    block = socket.inet_aton(address) + bytes((10, 0, 0, 1)) + b"\x12\x67\x20\xd0"
    return SIGNATURE + bytes((command, 0x11)) + len(block).to_bytes(2, "big") + block


@asynccontextmanager
async def proxied_node(limits: Limits | None = None) -> AsyncIterator[TestNode]:
    async with serving_node(limits=limits) as node:
        node.node.shard.trusted, node.node.shard.proxy_protocol = Trusted(["10.0.0.0/8"]), True
        yield node


class Peer:
    """One end of a connection that the node took from ``address``."""

    def __init__(self, node: TestNode, address: str) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(5)
        taken = node.node.shard.add(theirs, address)
        assert taken is not None
        self.taken = taken

    async def told(self, data: bytes) -> bytes:
        self.sock.sendall(data)
        return await trio.to_thread.run_sync(self.sock.recv, 4096)


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_proxy_speaks_for_its_client() -> None:
    """All at once, or byte by byte; the handshake behind the header is served, whole."""
    async with proxied_node() as node:
        at_once, dribbled = Peer(node, PROXY), Peer(node, PROXY)
        with at_once.sock, dribbled.sock:
            assert (await at_once.told(header("192.0.2.1") + UPGRADE)).startswith(b"HTTP/1.1 101 ")
            assert at_once.taken.address == "192.0.2.1"
            assert at_once.taken.recv == at_once.taken.sock.recv
            for byte in header("192.0.2.2"):
                dribbled.sock.sendall(bytes((byte,)))
                await settled()
            assert dribbled.taken.address == "192.0.2.2"
            assert (await dribbled.told(UPGRADE)).startswith(b"HTTP/1.1 101 ")


async def test_a_proxys_own_health_check_is_its_own() -> None:
    """LOCAL: nobody is spoken for."""
    async with proxied_node() as node:
        peer = Peer(node, PROXY)
        with peer.sock:
            assert (await peer.told(header("192.0.2.1", 0x20) + UPGRADE)).startswith(b"HTTP/1.1 101 ")
            assert peer.taken.address == PROXY


@pytest.mark.parametrize("data", [UPGRADE, b"\x16\x03\x01\x02\x00", header("192.0.2.1", 0x22) + UPGRADE])
async def test_a_trusted_proxy_without_its_header_is_refused(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is set up wrongly, which its operator and ours must learn: in the answer, and once a minute in the log."""
    async with proxied_node() as node:
        for _ in range(3):
            peer = Peer(node, PROXY)
            with peer.sock:
                said = await peer.told(data)
                assert said.startswith(b"HTTP/1.1 400 ")
                assert b"PROXY protocol v2" in said
        assert [record.args[0] for record in caplog.records] == [PROXY]  # type: ignore[index]
        node.node.shard.tick += 60
        peer = Peer(node, PROXY)
        with peer.sock:
            await peer.told(data)
        assert len(caplog.records) == 2
        assert node.node.shard.counts.handshakes_refused == 4


async def test_anybody_elses_header_is_no_header() -> None:
    """Bytes are taken as they are: for a WebSocket's handshake, these are none."""
    async with proxied_node() as node:
        stranger, plain = Peer(node, "203.0.113.5"), Peer(node, "203.0.113.5")
        with stranger.sock, plain.sock:
            assert (await stranger.told(header("192.0.2.1") + UPGRADE)).startswith(b"HTTP/1.1 400 ")
            assert stranger.taken.address == "203.0.113.5"
            assert (await plain.told(UPGRADE)).startswith(b"HTTP/1.1 101 ")


async def test_a_proxy_behind_a_proxy_may_forward() -> None:
    """Where the header names one that is trusted itself, what that one forwards is believed too."""
    async with proxied_node() as node:
        for source, address in (("10.0.0.20", "198.51.100.1"), ("192.0.2.1", "192.0.2.1")):
            peer = Peer(node, PROXY)
            with peer.sock:
                upgrade = UPGRADE[:-2] + b"Forwarded: for=198.51.100.1\r\n\r\n"
                assert (await peer.told(header(source) + upgrade)).startswith(b"HTTP/1.1 101 ")
                assert peer.taken.address == address


async def test_rates_are_of_those_spoken_for() -> None:
    """The header's address is counted as if it had come itself."""
    async with proxied_node(Limits(handshakes_per_address_burst=2, handshakes_per_address_per_s=1.0)) as node:
        answers = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"):
            peer = Peer(node, PROXY)
            with peer.sock:
                answers.append((await peer.told(header(address) + UPGRADE))[9:12])
        assert answers == [b"101", b"101", b"429", b"101"]
        assert node.node.shard.counts.refused == 1


async def test_half_a_header_is_not_waited_for() -> None:
    """It counts against the time of the handshake; an end in the middle is an end."""
    async with proxied_node() as node:
        stalled, gone = Peer(node, PROXY), Peer(node, PROXY)
        with stalled.sock:
            stalled.sock.sendall(header("192.0.2.1")[:20])
            gone.sock.sendall(header("192.0.2.1")[:9])
            gone.sock.close()
            await settled()
            assert gone.taken.state is State.CLOSED
            ticks(node, 6)
            assert stalled.taken.state is State.CLOSED
            assert stalled.taken.recv == stalled.taken.sock.recv
