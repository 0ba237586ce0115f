"""gateway.acceptor: newcomers are taken, or told when to come back; what the kernel says ends nothing."""

from __future__ import annotations

import socket

import pytest
import trio

from core.addresses import Trusted
from core.limits import Limits
from tests.nodes import TestNode, serving_node
from tests.raw_client import UPGRADE, RawClient


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


RATED = Limits(
    handshakes_per_address_per_s=1.0,
    handshakes_per_address_burst=2,
    guesses_per_address_per_s=1.0,
    guesses_per_address_burst=2,
)


def knock(node: TestNode, address: str) -> bytes:
    """What one more peer of this address is told; empty for one that was taken."""
    ours, theirs = socket.socketpair()
    with ours:
        if node.node.shard.add(theirs, address) is not None:
            return b""
        return ours.recv(4096)


async def test_an_address_that_comes_too_often_is_told_when_to_come_back() -> None:
    """429 with Retry-After before a byte of it is read; others are taken, this machine and unix sockets always."""
    async with serving_node(limits=RATED) as node:
        assert [knock(node, "192.0.2.1") for _ in range(2)] == [b"", b""]
        refusal = knock(node, "192.0.2.1")
        assert refusal.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 1\r\n" in refusal
        assert knock(node, "192.0.2.2") == b""
        assert knock(node, "::ffff:192.0.2.1").startswith(b"HTTP/1.1 429 ")
        assert [knock(node, f"2001:db8::{n}")[:12] for n in range(3)] == [b"", b"", b"HTTP/1.1 429"]
        for exempt in ("", "127.0.0.1", "::1"):
            assert [knock(node, exempt) for _ in range(5)] == [b""] * 5
        assert node.node.shard.counts.limited == node.node.shard.counts.refused == 3


async def test_an_address_that_guesses_is_not_listened_to() -> None:
    """After so many wrong tokens its newcomers wait, whatever they bring; others, and this machine, do not."""
    async with serving_node(limits=RATED) as node:
        shard = node.node.shard
        ours, theirs = socket.socketpair()
        guesser = shard.add(theirs, "192.0.2.1")
        assert guesser is not None
        assert guesser.address == "192.0.2.1"
        assert shard.guessed(guesser) == 0.0
        assert shard.barred_s("192.0.2.1") == 0.0
        assert shard.guessed(guesser) > 0.0
        assert shard.barred_s("192.0.2.1") > 0.0
        assert knock(node, "192.0.2.1").startswith(b"HTTP/1.1 429 ")
        assert knock(node, "192.0.2.2") == b""
        for exempt in ("", "127.0.0.1"):
            assert [shard.guessed_from(exempt) for _ in range(5)] == [0.0] * 5
            assert shard.barred_s(exempt) == 0.0
        ours.close()


async def test_a_trusted_proxy_is_bounded_by_those_it_speaks_for() -> None:
    """Not by itself, for it carries a crowd; and what others say of themselves changes nothing."""
    async with serving_node(limits=RATED) as node:
        node.node.shard.trusted = Trusted(["10.0.0.0/8"])
        for n in range(3):
            for peer, spoken_for in (("10.0.0.9", "192.0.2.1"), ("203.0.113.9", "203.0.113.9")):
                if peer == "203.0.113.9" and n == 2:
                    continue  # its own bucket is empty by now
                ours, theirs = socket.socketpair()
                with ours:
                    taken = node.node.shard.add(theirs, peer)
                    assert taken is not None
                    ours.sendall(UPGRADE[:-2] + b"Forwarded: for=203.0.113.7\r\nForwarded: for=192.0.2.1\r\n\r\n")
                    answer = await trio.to_thread.run_sync(ours.recv, 4096)
                    assert answer.startswith(b"HTTP/1.1 429 " if n == 2 else b"HTTP/1.1 101 ")
                    assert taken.address == spoken_for
        assert node.node.shard.counts.limited == 1


async def test_who_hides_its_client_is_taken_as_itself() -> None:
    """A trusted proxy that says `unknown`, or nothing."""
    async with serving_node(limits=RATED) as node:
        node.node.shard.trusted = Trusted(["10.0.0.0/8"])
        for line in (b"", b"Forwarded: for=unknown\r\n", b"Forwarded: for=10.0.0.9\r\n") * 3:
            ours, theirs = socket.socketpair()
            with ours:
                taken = node.node.shard.add(theirs, "10.0.0.9")
                assert taken is not None
                ours.sendall(UPGRADE[:-2] + line + b"\r\n")
                answer = await trio.to_thread.run_sync(ours.recv, 4096)
                assert answer.startswith(b"HTTP/1.1 101 ")
                assert taken.address == "10.0.0.9"
