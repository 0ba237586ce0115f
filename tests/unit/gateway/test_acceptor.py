"""gateway.acceptor: newcomers are taken, or told when to come back; what the kernel says ends nothing."""

from __future__ import annotations

import socket

import pytest

from tests.nodes import serving_node
from tests.raw_client import RawClient


async def test_a_node_that_drains_refuses_newcomers_with_a_time() -> None:
    """503 with Retry-After, without a handshake."""
    async with serving_node() as node:
        node.node.shard.refusing_retry_after_s = 3.0
        ours, theirs = socket.socketpair()
        with ours:
            assert node.node.shard.add(theirs) is None
            answer = ours.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 3" in answer.lower()
        ours, theirs = socket.socketpair()
        ours.close()
        assert node.node.shard.add(theirs) is None  # gone before it was told
        assert node.node.shard.counts.refused == 2


async def test_accepting_survives_what_the_kernel_says(caplog: pytest.LogCaptureFixture) -> None:
    """Out of descriptors: said, and the shard goes on."""

    class Listener:
        family = socket.AF_INET

        def accept(self) -> object:
            raise OSError(24, "Too many open files")

    async with serving_node() as node:
        node.node.shard._accept(Listener())  # type: ignore[arg-type]
        assert "Too many open files" in caplog.text
        client = RawClient(node.node)
        assert (await client.hello())["op"] == "welcome"
        await client.stream.aclose()
