"""gateway.tls: a TLS socket keeps a plain socket's contract, whatever the kernel takes and whatever the peer sends."""

from __future__ import annotations

import random
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.frames import TEXT, masked_frame
from gateway.config import ConfigError
from gateway.connection import State
from gateway.tls import (
    BUSY_ALERT,
    PIECE_BYTES,
    SHAKES_A_TURN,
    WAITING_BYTES_MAX,
    Tls,
    TlsSocket,
    Unwelcome,
    make_context,
)
from tests.certs import Pair, make_pair
from tests.nodes import TestNode, serving_node, ticks
from tests.raw_client import MASK, UPGRADE, RawClient


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


def tls_client(
    node: TestNode, pair: Pair, context: ssl.SSLContext | None = None, buffer_bytes: int | None = None
) -> RawClient:
    """One whose handshake has not begun."""
    client = RawClient(node.node, buffer_bytes)
    SOCKETS.append(client.stream.socket)
    client.stream = trio.SSLStream(client.stream, context or pair.client(), server_hostname="localhost")  # type: ignore[assignment]
    return client


SOCKETS: list[trio.socket.SocketType] = []


@asynccontextmanager
async def tls_node(pair: Pair) -> AsyncIterator[TestNode]:
    """One that speaks TLS; what a case leaves open is closed."""
    async with serving_node() as node:
        node.node.shard.tls = Tls(pair.cert, pair.key)
        try:
            yield node
        finally:
            while SOCKETS:
                SOCKETS.pop().close()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.005)


# Over a node


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_is_served_over_tls(pair: Pair, version: ssl.TLSVersion) -> None:
    """Both versions; HTTP/1.1 is agreed on, and nothing is compressed."""
    context = pair.client()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with tls_node(pair) as node:
        client = tls_client(node, pair, context)
        assert (await client.hello())["op"] == "welcome"
        await client.say("ping", id=1)
        assert (await client.message())["op"] == "pong"
        stream: trio.SSLStream[trio.SocketStream] = client.stream  # type: ignore[assignment]
        assert stream.selected_alpn_protocol() == "http/1.1"
        assert stream.compression() is None
        assert "GCM" in stream.cipher()[0] or "CHACHA20" in stream.cipher()[0]
        await client.stream.aclose()
        await settled()
        assert client.connection.state is State.CLOSED
        assert not node.node.shard.connections


async def test_older_versions_are_refused(pair: Pair) -> None:
    """TLS 1.1 has had its time."""
    context = pair.client()
    with warnings.catch_warnings(action="ignore"):  # that Python thinks so too
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with tls_node(pair) as node:
        client = tls_client(node, pair, context)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.write(UPGRADE)
        assert "alert" in str(caught.value.__cause__).lower()
        assert node.node.shard.counts.handshakes_refused == 1


async def test_everything_that_came_at_once_is_served_at_once(pair: Pair) -> None:
    """Many records in one piece of the kernel's: epoll tells of none but the first."""
    async with tls_node(pair) as node:
        client = tls_client(node, pair)
        await client.hello()
        engine: trio.SSLStream[trio.SocketStream] = client.stream  # type: ignore[assignment]
        for id in range(300):  # a record each, gathered where OpenSSL puts them
            engine._ssl_object.write(masked_frame(TEXT, b'{"op":"ping","id":%d}' % id, MASK))
        await engine.transport_stream.send_all(engine._outgoing.read())
        for id in range(300):
            assert (await client.message())["id"] == id
        await client.stream.aclose()


async def test_a_slow_reader_gets_every_byte_in_order(pair: Pair) -> None:
    """Far more than the kernel holds, in frames larger and smaller than a record."""
    async with tls_node(pair) as node:
        client = tls_client(node, pair, buffer_bytes=8_192)
        await client.hello()
        sent = [bytes((n % 251,)) * (n * 331 % 40_000) for n in range(60)]
        for payload in sent:
            node.node.hub.reply(client.connection, b"\x82\x7f" + len(payload).to_bytes(8, "big") + payload)
            node.node.hub.flush()
        assert client.connection.blocked
        assert client.connection.tls is not None
        assert len(client.connection.tls._waiting) <= PIECE_BYTES + 100
        for payload in sent:
            assert await client.frame() == (2, payload)
        await client.say("ping", id=1)
        assert (await client.message())["op"] == "pong"
        assert not client.connection.blocked
        await client.stream.aclose()


async def test_ciphertext_that_waits_is_brought_out_without_more_to_send(pair: Pair) -> None:
    """The hub gave all it had and was told that it was taken; the kernel takes the rest when it can."""
    async with tls_node(pair) as node:
        client = tls_client(node, pair, buffer_bytes=4_096)
        await client.hello()
        connection = client.connection
        for _ in range(50):
            if connection.blocked or connection.tls._waiting:  # type: ignore[union-attr]
                break
            node.node.hub.reply(connection, b"\x82\x7e\x0f\xa0" + b"x" * 4_000)
            node.node.hub.flush()
        assert not connection.blocked
        assert connection.mask & 4
        for _ in range(50):
            if not connection.mask & 4:
                break
            await client.frame()
            await settled()
        assert not connection.mask & 4
        await client.stream.aclose()


async def test_the_servers_end_is_said_in_tls(pair: Pair) -> None:
    """A close_notify: the client knows that nothing was cut off."""
    async with tls_node(pair) as node:
        client = tls_client(node, pair)
        await client.hello()
        await client.write(masked_frame(TEXT, b"[]", MASK))
        assert await client.close_code() == 4500
        assert await client.frame() is None  # a clean end; cut off, this would raise
        await client.stream.aclose()


async def test_a_client_that_says_its_end_is_answered_before_it(pair: Pair) -> None:
    """A request with a close_notify right behind it, in one piece."""
    async with tls_node(pair) as node:
        client = tls_client(node, pair)
        await client.hello()
        engine: trio.SSLStream[trio.SocketStream] = client.stream  # type: ignore[assignment]
        engine._ssl_object.write(masked_frame(TEXT, b'{"op":"ping","id":9}', MASK))
        with pytest.raises(ssl.SSLWantReadError):
            engine._ssl_object.unwrap()
        await engine.transport_stream.send_all(engine._outgoing.read())
        await settled()
        assert client.connection.state is State.CLOSED
        assert len(await engine.transport_stream.receive_some()) > 20  # a record, and the end
        await engine.transport_stream.aclose()


async def test_a_request_without_tls_is_told_in_plain_text(pair: Pair) -> None:
    """400, as is customary; and the end."""
    async with tls_node(pair) as node:
        client = RawClient(node.node)
        await client.write(UPGRADE)
        said = await client.ended()
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"wss://" in said
        await client.stream.aclose()
        assert node.node.shard.counts.handshakes_refused == 1


@pytest.mark.parametrize("rubbish", [b"\x00" * 40, b"\r\n\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"])
async def test_rubbish_gets_an_alert(pair: Pair, rubbish: bytes) -> None:
    """Which is how TLS says that it does not understand."""
    async with tls_node(pair) as node:
        client = RawClient(node.node)
        await client.write(rubbish)
        assert (await client.ended())[:1] == b"\x15"
        await client.stream.aclose()


async def test_tls_where_none_is_spoken_is_told_so() -> None:
    """In plain text, which a TLS library shows as a wrong version; its user's log has the words."""
    async with serving_node() as node:
        client = RawClient(node.node)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            engine.do_handshake()
        await client.write(outgoing.read())
        said = await client.ended()
        assert b"without TLS" in said
        incoming.write(said)
        with pytest.raises(ssl.SSLError):
            engine.do_handshake()
        await client.stream.aclose()


async def test_garbage_within_tls_ends_its_connection_alone(pair: Pair) -> None:
    """A record that does not decrypt: an alert, everybody out of the room in good order."""
    async with tls_node(pair) as node:
        await node.stream("chat:ops")
        bad, good = tls_client(node, pair), tls_client(node, pair)
        await good.hello("user:bob")
        await bad.hello("user:amy", streams={"chat:ops": {}})
        await bad.stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # type: ignore[attr-defined]
        with pytest.raises(trio.BrokenResourceError):
            await bad.frame()
        assert bad.connection.state is State.CLOSING
        assert not bad.connection.subs
        assert node.node.shard.counts.protocol_errors == 1
        await good.say("ping", id=1)
        assert (await good.message())["op"] == "pong"
        ticks(node, 3)
        assert bad.connection.state is State.CLOSED
        await good.stream.aclose()


async def test_half_a_handshake_is_not_waited_for(pair: Pair) -> None:
    """TLS counts against the same five seconds."""
    async with tls_node(pair) as node:
        client = RawClient(node.node)
        await client.write(b"\x16\x03\x01\x02\x00\x01")
        await settled()
        ticks(node, 6)
        assert await client.ended() == b""
        assert not node.node.shard.connections
        await client.stream.aclose()


async def test_a_leaving_node_refuses_within_tls_and_a_busy_one_spares_itself(pair: Pair) -> None:
    """503 with a time where somebody reads it; under load only an alert, without a handshake."""
    async with tls_node(pair) as node:
        tls = node.node.shard.tls
        assert tls is not None
        node.node.shard.refusing_retry_after_s = 3.0
        for shedding in (False, True):
            if shedding:
                node.node.shard.refusing_retry_after_s, node.node.shard.shedding_retry_after_s = None, 1.0
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            assert node.node.shard.add(theirs) is None
            raw = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            client = trio.SSLStream(raw, pair.client(), server_hostname="localhost")
            if shedding:
                assert await raw.receive_some() == BUSY_ALERT
                assert await raw.receive_some() == b""
            else:
                await client.do_handshake()
                said = b""
                async for part in client:
                    said += part
                assert said.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After: 3" in said
            await trio.aclose_forcefully(raw)
        assert tls.shakes_left <= SHAKES_A_TURN


async def test_who_has_no_room_at_all_gets_an_alert(pair: Pair) -> None:
    """With as many connections as may be, there is no waiting for a handshake."""
    async with tls_node(pair) as node:
        object.__setattr__(node.node.shard.limits, "connections_max", 0)
        ours, theirs = socket.socketpair()
        with ours:
            assert node.node.shard.add(theirs) is None
            assert ours.recv(100) == BUSY_ALERT
            assert ours.recv(100) == b""


async def test_a_crowd_of_handshakes_is_spread_over_turns(pair: Pair) -> None:
    """So many steps a turn, each of which costs; the rest is ready in the next, and all get through."""
    async with tls_node(pair) as node:
        clients = [tls_client(node, pair) for _ in range(3 * SHAKES_A_TURN)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.upgrade)
        for client in clients:
            await client.stream.aclose()
        tls = node.node.shard.tls
        assert tls is not None
        tls.shakes_left = 0
        late = TlsSocket(socket.socket(), tls)
        with pytest.raises(BlockingIOError):
            late.recv(100)
        late.close()


# The certificate


async def test_a_reload_is_for_those_who_come_after_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who is connected stays with the old one; a pair that cannot be used is said and changes nothing."""
    old = make_pair(tmp_path)
    trusts_old = old.client()
    async with tls_node(old) as node:
        early = tls_client(node, old)
        await early.hello()
        tls = node.node.shard.tls
        assert tls is not None
        for spoil in (
            lambda: old.key.write_text("rubbish"),
            lambda: make_pair(tmp_path / "b").key.rename(old.key),
            old.cert.unlink,
        ):
            spoil()
            before = tls.context
            assert not tls.reload()
            assert tls.context is before
        assert len(caplog.records) == 3
        new = make_pair(tmp_path)
        assert tls.reload()
        late = tls_client(node, new)
        await late.hello("user:bob")
        other = tls_client(node, new, trusts_old)
        with pytest.raises(trio.BrokenResourceError):
            await other.write(UPGRADE)
        await early.say("ping", id=1)
        assert (await early.message())["op"] == "pong"
        await early.stream.aclose()
        await late.stream.aclose()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair, folder: pair.key.unlink(), "cannot be read: No such file"),
        (lambda pair, folder: pair.cert.write_text("rubbish"), "not a certificate and its key in PEM"),
        (lambda pair, folder: pair.key.write_text("rubbish"), "not a certificate and its key in PEM"),
        (lambda pair, folder: make_pair(folder / "o").key.rename(pair.key), "does not belong to"),
        (lambda pair, folder: make_pair(folder, password=b"x" * 8), "is encrypted"),
    ],
    ids=["missing", "certificate", "key", "of two", "encrypted"],
)  # fmt: skip
def test_a_pair_that_cannot_be_used_is_named(tmp_path: Path, spoil: Callable[[Pair, Path], object], words: str) -> None:
    """In one sentence, with the file; and nobody is asked for a password at a terminal."""
    pair = make_pair(tmp_path)
    spoil(pair, tmp_path)
    with pytest.raises(ConfigError, match=words):
        make_context(pair.cert, pair.key)


# The contract of a socket, over a kernel that takes what it likes


class Kernel:
    """A raw socket that takes a part of what it is given, or nothing; the other side is read from ``taken``."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.taken = bytearray()
        self.given = bytearray()
        self.shut = False
        self.full = False

    def send(self, data: bytes) -> int:
        if self.full or self.rng.random() < 0.3:
            raise BlockingIOError
        size = self.rng.randint(1, len(data)) if self.rng.random() < 0.5 else len(data)
        self.taken += data[:size]
        return size

    def recv(self, size: int) -> bytes:
        if not self.given:
            raise BlockingIOError
        size = self.rng.randint(1, size)
        data = bytes(self.given[:size])
        del self.given[:size]
        return data

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        assert not self.shut
        self.shut = True

    def close(self) -> None:
        pass


class Client:
    """The other side of a `Kernel`, in memory."""

    def __init__(self, pair: Pair, kernel: Kernel) -> None:
        self.kernel = kernel
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.engine = pair.client().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.received = bytearray()
        self.ended = False

    def turn(self, *sent: bytes) -> None:
        self.incoming.write(bytes(self.kernel.taken))
        self.kernel.taken.clear()
        try:
            self.engine.do_handshake()
            for data in sent:
                self.engine.write(data)
            while part := self.engine.read(65_536):
                self.received += part
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        self.kernel.given += self.outgoing.read()


def opened(pair: Pair, kernel: Kernel) -> tuple[TlsSocket, Client]:
    tls = Tls(pair.cert, pair.key)
    sock, client = TlsSocket(kernel, tls), Client(pair, kernel)  # type: ignore[arg-type]
    while not sock._shaken or client.engine.version() is None or kernel.given:
        client.turn()
        tls.shakes_left = SHAKES_A_TURN
        with pytest.raises(BlockingIOError):
            sock.recv(16_384)
        _brought_out(sock)
    client.turn()
    return sock, client


def _brought_out(sock: TlsSocket) -> None:
    while not sock.flush():
        pass


@pytest.mark.parametrize("seed", range(8))
def test_bytes_arrive_in_order_whatever_the_kernel_takes(pair: Pair, seed: int) -> None:
    """What send says that it took arrives, once and in order, and so does what the peer sent; nothing piles up."""
    rng = random.Random(seed)
    kernel = Kernel(rng)
    sock, client = opened(pair, kernel)
    sent, received, said = bytearray(), bytearray(), bytearray()
    for _ in range(300):
        data = rng.randbytes(rng.choice([1, 100, 5_000, 70_000]))
        try:
            size = sock.send(data)
        except BlockingIOError:
            assert sock.wants_out(True)
        else:
            assert 0 < size <= len(data)
            sent += data[:size]
        assert len(sock._waiting) <= PIECE_BYTES + 100
        words = rng.randbytes(rng.choice([1, 200, 20_000]))
        client.turn(words)
        said += words
        try:
            received += sock.recv(16_384)
        except BlockingIOError:
            pass
    while kernel.given:
        try:
            received += sock.recv(16_384)
        except BlockingIOError:
            pass
    kernel.full = True
    sock.shutdown(socket.SHUT_WR)
    assert kernel.shut is not bool(sock._waiting)
    kernel.full = False
    _brought_out(sock)
    client.turn()
    assert (client.received, received) == (sent, said)
    assert client.ended
    assert kernel.shut
    assert sock.send(b"more") == 4
    sock.shutdown(socket.SHUT_WR)
    sock.close()


def test_nothing_is_taken_before_the_handshake_is_done(pair: Pair) -> None:
    """And epoll is not asked for what would be ready at once, for ever."""
    sock = TlsSocket(Kernel(random.Random(0)), Tls(pair.cert, pair.key))  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError):
        sock.send(b"early")
    assert not sock.wants_out(True)


def test_what_openssl_answers_by_itself_is_bounded(pair: Pair) -> None:
    """A peer that reads nothing and makes it answer (key updates) is ended before that piles up."""
    kernel = Kernel(random.Random(1))
    sock, client = opened(pair, kernel)
    kernel.full = True
    sock._outgoing.write(b"x" * WAITING_BYTES_MAX)
    client.turn(b"hello")
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock._outgoing.write(b"x")
    with pytest.raises(Unwelcome):
        sock.recv(16_384)
    sock.close()
