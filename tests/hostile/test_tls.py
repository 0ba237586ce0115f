"""TLS with every way to begin, interrupt and end it badly: the node speaks on with everybody else, encrypted or not."""

from __future__ import annotations

import shutil
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET

import pytest
import trio
from trio.testing import MockClock

from core.limits import Limits
from gateway.connection import Connection
from gateway.tls import WAITING_BYTES_MAX, Tls
from tests.certs import Pair, make_pair
from tests.hostile.bystanders import STREAM
from tests.hostile.peer import PATIENCE_S, Peer, request, text
from tests.hostile.scene import ROOM, Scene, held_bytes, resident_bytes, scene


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


class TlsScene:
    def __init__(self, stage: Scene, pair: Pair) -> None:
        self.stage = stage
        self.pair = pair

    async def raw(self) -> Peer:
        """A TCP connection; what it says, TLS or not, is the attacker's."""
        return await self.stage.connect()

    async def tls(self, context: ssl.SSLContext | None = None) -> Peer:
        """Within TLS, from here on."""
        peer = await self.raw()
        stream = trio.SSLStream(peer.stream, context or self.pair.client(), server_hostname="localhost")
        await stream.do_handshake()
        peer.stream = stream  # type: ignore[assignment]
        return peer

    def hello(self) -> bytes:
        """A good ClientHello."""
        outgoing = ssl.MemoryBIO()
        engine = self.pair.client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            engine.do_handshake()
        return outgoing.read()

    def server_side(self, principal: str) -> Connection:
        return self.stage.server_side(principal)


@asynccontextmanager
async def tls_scene(pair: Pair, limits: Limits | None = None) -> AsyncIterator[TlsScene]:
    """Bystanders without TLS who came before it was spoken here, and one within it, who hears all of what they say."""
    async with scene(limits=limits) as stage:
        stage.node.node.shard.tls = Tls(pair.cert, pair.key)
        around = TlsScene(stage, pair)
        neighbour = await around.tls()
        await neighbour.upgrade()
        welcome = await neighbour.hello("user:neighbour", {STREAM: {}})
        cursor = welcome["streams"][STREAM]["head"]
        seqs: list[int] = []
        neighbour.on_message = lambda frame: seqs.append(frame["seq"]) if frame["op"] == "event" else None

        async def listen() -> None:
            while await neighbour.pull():
                pass

        stage.nursery.start_soon(listen)
        yield around
        await stage.room.rounds(3)
        with trio.fail_after(PATIENCE_S):
            while len(seqs) < 3:  # noqa: ASYNC110  # whatever it hears, it hears in order
                await trio.sleep(0.001)
        assert seqs == list(range(cursor + 1, cursor + 1 + len(seqs)))


async def test_handshakes_that_stop_anywhere(pair: Pair, clock: MockClock) -> None:
    """Silent after so many bytes of a good ClientHello: closed when the time of the handshake is over, and not before."""
    async with tls_scene(pair) as around:
        hello = around.hello()
        peers = []
        for size in (0, 1, 4, 5, 6, 40, len(hello) - 1, len(hello)):
            peer = await around.raw()
            await peer.put(hello[:size])
            peers.append(peer)
        await around.stage.room.rounds(2)
        clock.jump(6.0)
        for peer in peers:
            await peer.ended()
        assert not [c for c in around.stage.node.node.shard.connections.values() if not c.principal]


GARBAGE: dict[str, bytes] = {
    "zeros": bytes(100),
    "0xff": b"\xff" * 100,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data first": b"\x17\x03\x03\x00\x20" + b"x" * 32,
    "a ChangeCipherSpec": b"\x14\x03\x03\x00\x01\x01",
    "a record of 65,535 bytes": b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
    "a record of none": b"\x16\x03\x01\x00\x00" * 100,
    "a hello of 16 MB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * 20_000,
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"x" * 60,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP": request(),
    "HTTP, much of it": request() + b"x" * 100_000,
    "a PROXY header": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_no_handshake(pair: Pair, name: str) -> None:
    """An alert, or for HTTP a 400 in plain text; then the end, for that connection alone."""
    async with tls_scene(pair) as around:
        peer = await around.raw()
        await peer.put(GARBAGE[name])
        if name.startswith("HTTP"):
            await peer.ended()
            assert peer.status == 400 or peer.reset  # more than is read may turn the answer into a reset
        else:
            with trio.fail_after(PATIENCE_S):
                got = await peer.stream.receive_some()
            assert got[:1] in (b"\x15", b"", b"H")  # what begins like a request is answered like one


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_garbage_where_records_should_be(pair: Pair, name: str, version: ssl.TLSVersion) -> None:
    """Of one who is in a room: out of it at once, with an alert."""
    context = pair.client()
    context.maximum_version = version
    async with tls_scene(pair) as around:
        peer = await around.tls(context)
        await peer.upgrade()
        await peer.hello(streams={ROOM: {}})
        end = around.server_side("user:mallory")
        stream: trio.SSLStream[trio.SocketStream] = peer.stream  # type: ignore[assignment]
        try:
            await stream.transport_stream.send_all(GARBAGE[name])
        except trio.BrokenResourceError:
            pass  # it was ended in the middle of it
        await around.stage.until(lambda: not end.subs)
        await around.stage.room.rounds(1)


async def test_ends_of_every_kind(pair: Pair) -> None:
    """close_notify alone, the end of TCP alone, resets: during the handshake, after it, in a room."""
    async with tls_scene(pair) as around:
        shard = around.stage.node.node.shard
        for stage in ("handshake", "open", "room"):
            for how in ("notify", "eof", "reset"):
                before = set(shard.connections)
                if stage == "handshake":
                    peer = await around.raw()
                    await peer.put(around.hello())
                    raw = peer.stream
                else:
                    peer = await around.tls()
                    raw = peer.stream.transport_stream  # type: ignore[attr-defined]
                if stage == "room":
                    await peer.upgrade()
                    await peer.hello(streams={ROOM: {}})
                if how == "notify" and stage != "handshake":
                    engine = peer.stream  # type: ignore[assignment]
                    with pytest.raises(ssl.SSLWantReadError):
                        engine._ssl_object.unwrap()  # type: ignore[attr-defined]
                    await raw.send_all(engine._outgoing.read())  # type: ignore[attr-defined]
                elif how == "reset":
                    raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    raw.socket.close()
                else:
                    await raw.send_eof()
                await around.stage.until(lambda before=before: set(shard.connections) <= before)  # type: ignore[misc]


async def test_one_that_reads_nothing(pair: Pair) -> None:
    """It asks and asks; what waits for it is bounded, in answers and in ciphertext, and then it is not read from."""
    async with tls_scene(pair) as around:
        peer = await around.tls()
        await peer.upgrade()
        await peer.hello(streams={ROOM: {}})
        end = around.server_side("user:mallory")
        assert end.tls is not None
        end.tls.raw.setsockopt(SOL_SOCKET, 7, 8_192)  # SO_SNDBUF
        peer.stream.transport_stream.setsockopt(SOL_SOCKET, SO_RCVBUF, 8_192)  # type: ignore[attr-defined]
        before = resident_bytes()
        with trio.move_on_after(2.0):
            while not end.choked:
                await peer.put(text({"op": "ping", "id": 1, "pad": "x" * 100}) * 100)
        limits = around.stage.node.node.limits
        with trio.move_on_after(0.2):
            while True:
                await peer.put(text({"op": "ping", "id": 1, "pad": "x" * 100}) * 100)
        assert end.choked
        assert held_bytes(end) < 2 * limits.reply_bytes_per_connection_max
        assert len(end.tls._waiting) < WAITING_BYTES_MAX
        assert resident_bytes() - before < 64 << 20
        await around.stage.room.rounds(3)


async def test_the_smallest_records(pair: Pair) -> None:
    """A byte in each: expensive to send, and served like any other."""
    async with tls_scene(pair) as around:
        peer = await around.tls()
        await peer.upgrade()
        await peer.hello()
        stream: trio.SSLStream[trio.SocketStream] = peer.stream  # type: ignore[assignment]
        for _ in range(20):
            for byte in text({"op": "ping", "id": 7}) * 10:
                stream._ssl_object.write(bytes((byte,)))
            await stream.transport_stream.send_all(stream._outgoing.read())
        for _ in range(200):
            assert (await peer.next(id=7))["op"] == "pong"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program, which can renegotiate")
@pytest.mark.parametrize(("version", "key"), [("-tls1_2", b"R\n"), ("-tls1_3", b"K\n"), ("-tls1_3", b"k\n")])
async def test_renegotiations_and_key_updates(pair: Pair, version: str, key: bytes) -> None:
    """The first is refused, which ends who insists; of the second any number is served; and nobody else notices."""
    async with tls_scene(pair) as around:
        node = around.stage.node
        before = set(node.node.shard.connections)
        address = ["-connect", f"127.0.0.1:{node.port}", "-CAfile", str(pair.ca)]
        process = await trio.lowlevel.open_process(
            ["openssl", "s_client", *address, version], stdin=-1, stdout=-1, stderr=-1
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said = bytearray()
        around.stage.nursery.start_soon(_heard, process.stdout, said)
        around.stage.nursery.start_soon(_heard, process.stderr, bytearray())
        await process.stdin.send_all(request())
        await around.stage.until(lambda: b"HTTP/1.1 101 Switching" in said)
        (fd,) = set(node.node.shard.connections) - before
        try:
            for _ in range(300):  # each a line of its own, which is what makes it a command
                await process.stdin.send_all(key)
                await trio.sleep(0.001)
        except trio.BrokenResourceError:
            assert version == "-tls1_2"
        await around.stage.room.rounds(5)
        assert (fd in node.node.shard.connections) is (version == "-tls1_3")
        process.kill()
        await process.wait()
        await process.stdin.aclose()


async def _heard(stream: trio.abc.ReceiveStream, said: bytearray) -> None:
    async with stream:
        async for part in stream:
            said += part


async def test_a_hundred_that_come_and_go(pair: Pair, tmp_path: Path) -> None:
    """Half of them amid their handshake, while the certificate changes; nothing is left of them."""
    async with tls_scene(pair) as around:
        node = around.stage.node.node
        for n in range(100):
            peer = await around.raw()
            await peer.put(around.hello()[: None if n % 2 else 100])
            if n % 10 == 0:
                assert node.shard.tls is not None
                assert node.shard.tls.reload()
            peer.stream.socket.close()
        await around.stage.until(lambda: not [c for c in node.shard.connections.values() if not c.principal])
