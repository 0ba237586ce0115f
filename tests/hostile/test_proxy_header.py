"""Who pretends to be a proxy, and proxies gone wrong: nobody else's address is believed, nobody else is locked out."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from core.addresses import Trusted
from core.limits import Limits
from core.proxy import HEADER_BYTES_MAX, SIGNATURE
from tests.hostile.peer import Peer, request, text
from tests.hostile.scene import Scene, scene

RATED = Limits(
    handshakes_per_address_per_s=0.5,
    handshakes_per_address_burst=3,
    guesses_per_address_per_s=0.5,
    guesses_per_address_burst=3,
)


def header(address: str = "192.0.2.1", *, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    block = socket.inet_aton(address) + bytes((10, 0, 0, 1)) + b"\x12\x67\x20\xd0"
    length = len(block) if size is None else size
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2, "big") + block


@asynccontextmanager
async def proxied(
    networks: str = "127.0.0.0/8", limits: Limits | None = None, *, protocol: bool = True
) -> AsyncIterator[Scene]:
    """Bystanders who are connected already, and from now on this machine is (or is not) a trusted proxy."""
    async with scene(limits=limits) as stage:
        shard = stage.node.node.shard
        shard.trusted, shard.proxy_protocol = Trusted([networks]), protocol
        yield stage
        await stage.room.rounds(2)


async def served(stage: Scene, before: bytes, **fields: str) -> Peer:
    peer = await stage.connect()
    await peer.put(before + request(**fields))
    await peer.until(lambda: bool(peer.head))
    return peer


BROKEN: dict[str, bytes] = {
    "nothing of it": request(),
    "the text form": b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 8400\r\n" + request(),
    "another version": header(command=0x11) + request(),
    "another command": header(command=0x2F) + request(),
    "another family": header(family=0xF1) + request(),
    "of datagrams": header(family=0x12) + request(),
    "addresses of another family": header(family=0x21) + request(),
    "longer than any": header(size=0xFFFF) + b"\0" * HEADER_BYTES_MAX + request(),
    "its end cut off": header(size=3) + request(),
    "extras that go on": header(size=12 + 3) + b"\x04\xff\xff" + request(),
    "a wrong checksum": header(size=12 + 7) + b"\x03\x00\x04abcd" + request(),
    "noise": b"\xff" * 300,
    "zeros": bytes(300),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_trusted_proxy_that_sends_something_else(name: str) -> None:
    """A 400 in words and the end, for this connection alone; nothing behind it is taken for a request."""
    async with proxied() as stage:
        peer = await stage.connect()
        await peer.put(BROKEN[name])
        await peer.ended()
        assert peer.status == 400 or peer.reset
        assert bytes(peer.raw).count(b"HTTP/1.1") <= 1
        stage.lines.clear()  # the warning that names the proxy, at most one


async def test_headers_that_stop_anywhere(clock: MockClock) -> None:
    """It is closed when the time of the handshake is over; the time is not prolonged by dribbling."""
    async with proxied(limits=Limits(handshake_timeout_s=3.0)) as stage:
        peers = []
        for size in (0, 1, 11, 12, 15, 16, 27, 28):
            peer = await stage.connect()
            await peer.put(header()[:size])
            peers.append(peer)
        dribbler = await stage.connect()
        for byte in header()[:6]:
            await dribbler.put(bytes((byte,)))
            clock.jump(1.0)
            await stage.room.rounds(1)
        for peer in (*peers, dribbler):
            await peer.ended()
            assert peer.status == 0


async def test_a_second_header_is_no_request() -> None:
    """One is read, once; the next is bytes like any others."""
    async with proxied() as stage:
        peer = await served(stage, header("192.0.2.1") + header("192.0.2.2"))
        assert peer.status == 400
        await peer.ended()


@pytest.mark.parametrize("protocol", [True, False])
async def test_who_is_not_trusted_is_not_believed(protocol: bool) -> None:
    """Neither its header, which is no HTTP, nor what it forwards: it is who it is."""
    async with proxied("10.0.0.0/8", protocol=protocol) as stage:
        pretender = await served(stage, header("192.0.2.1"))
        assert pretender.status == 400
        for said in ("for=192.0.2.1", 'for="[2001:db8::1]", for=10.0.0.1', "for=10.0.0.1", 'for="'):
            peer = await served(stage, b"", Forwarded=said)
            assert peer.status == 101
            await peer.hello()
            assert stage.server_side("user:mallory").address == "127.0.0.1"
            peer.stream.socket.close()
            await stage.until(
                lambda: not [c for c in stage.node.node.shard.connections.values() if "mallory" in c.principal]
            )


@pytest.mark.parametrize(
    "own",
    [
        "for=10.9.9.9",
        'for="',
        "for=127.0.0.1",
        "for=198.51.100.77, for=127.0.0.1",
        'x="\\',
        "for=unknown",
        ",,,",
        "a" * 4_000,
    ],
)
async def test_a_client_behind_a_proxy_cannot_choose_its_address(own: str) -> None:
    """Whatever it put into the header itself, the proxy's addition to the right of it stands: three times, not a fourth."""
    async with proxied(limits=RATED, protocol=False) as stage:
        for n in range(4):
            peer = await served(stage, b"", Forwarded=f"{own}, for=192.0.2.66")
            assert peer.status == (429 if n == 3 else 101)
        other = await served(stage, b"", Forwarded=f"{own}, for=192.0.2.67")
        assert other.status == 101


async def test_one_client_does_not_use_up_its_proxy() -> None:
    """It comes as often as it likes, and guesses: its own address waits, everybody else behind that proxy is served."""
    async with proxied(limits=RATED) as stage:
        shard = stage.node.node.shard
        statuses = [(await served(stage, header("192.0.2.66"))).status for _ in range(20)]
        assert statuses == [101] * 3 + [429] * 17
        for _ in range(20):
            shard.guessed_from("192.0.2.99")
        assert (await served(stage, header("192.0.2.99"))).status == 429
        for n in range(30):
            peer = await served(stage, header(f"198.51.100.{n}"))
            assert peer.status == 101
        await peer.hello("user:honest")
        assert shard.barred_s("127.0.0.1") == 0.0


async def test_a_crowd_of_addresses_locks_nobody_out() -> None:
    """The table of addresses is full of those who owe much; a stranger is served all the same."""
    limits = Limits(
        handshakes_per_address_per_s=0.01,
        handshakes_per_address_burst=3,
        guesses_per_address_per_s=0.01,
        guesses_per_address_burst=3,
        addresses_kept_max=20,
    )
    async with proxied(limits=limits) as stage:
        shard = stage.node.node.shard
        for n in range(40):
            for _ in range(3):
                await served(stage, header(f"192.0.2.{n}"))
                shard.guessed_from(f"192.0.2.{n}")
        assert shard.addresses.handshakes is not None
        assert len(shard.addresses.handshakes) == 20
        assert (await served(stage, header("192.0.2.3"))).status == 429  # and who owes still does
        for n in range(20):
            peer = await served(stage, header(f"198.51.100.{n}"))
            assert peer.status == 101


async def test_bytes_behind_the_header_are_not_lost() -> None:
    """Header, request and first message in one piece."""
    async with proxied() as stage:
        peer = await served(stage, header("192.0.2.5"))
        await peer.hello("user:eager")
        assert stage.server_side("user:eager").address == "192.0.2.5"
        piped = await stage.connect()
        await piped.put(header() + request() + text({"op": "ping", "id": 5}))
        with trio.fail_after(5):
            assert (await piped.next(id=5))["op"] in ("pong", "error")
