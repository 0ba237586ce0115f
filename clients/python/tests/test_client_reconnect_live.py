"""Losing and finding servers: backoff, drains, byes, refused upgrades, silence, tokens, and leaving cleanly."""

# ruff: noqa: PT012  (what is expected to raise is the `async with` block as a whole)
from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fake_readback import FakeServer, Frame, Link, fake_server
from trio.testing import MockClock
from trio_websocket import serve_websocket

from readback_client import (
    BadFrame,
    Client,
    Connecting,
    Ended,
    Forbidden,
    Limits,
    Online,
    ReadbackError,
    Refused,
    Revoked,
    Status,
    Superseded,
    TooLarge,
    Unauthorized,
    Unavailable,
    Waiting,
    connect,
)


async def wait_for(rb: Client, kind: type[Status]) -> Status:
    with rb.status as statuses:
        async for status in statuses:
            if isinstance(status, kind):
                return status
    raise AssertionError(f"ended before {kind.__name__}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_status_tells_the_story(autojump_clock: MockClock, server: FakeServer) -> None:
    """Connecting, online, waiting with its reason, resumed with what was missed, ended."""
    story: list[Status] = []
    async with connect(server.url, "t") as rb, trio.open_nursery() as nursery:

        async def follow() -> None:
            async for status in rb.status:
                story.append(status)

        nursery.start_soon(follow)
        rb.subscribe("chat:ops", after=0)
        await server.until(lambda: server.links and "chat:ops" in server.links[0].subs)
        await server.cut()
        await wait_for(rb, Waiting)
        for _ in range(4):
            await server.append("chat:ops")
        online = await wait_for(rb, Online)
        assert isinstance(online, Online)
        assert (online.resumed, online.missed) == (True, 4)
        nursery.cancel_scope.cancel()
    kinds = [type(status) for status in story]
    assert kinds == [Connecting, Online, Waiting, Connecting, Online]
    assert isinstance(story[2], Waiting)
    assert story[2].reason == "the connection was cut"
    assert isinstance(rb.state, Ended)


async def test_a_server_that_comes_later_is_found(autojump_clock: MockClock) -> None:
    """Nobody listens yet: the client waits, with growing room, and says why."""
    port = free_port()
    async with connect(f"ws://127.0.0.1:{port}", "t") as rb:
        waiting = await wait_for(rb, Waiting)
        assert isinstance(waiting, Waiting)
        assert "refused" in waiting.reason.lower()
        await trio.sleep(200)
        # Full jitter with a cap of 30 s: some 13 dials in 200 s, and never a storm.
        assert 5 <= rb.stats.dials <= 60


@pytest.mark.parametrize("retry_after", [None, 5.0])
@pytest.mark.parametrize(("code", "name"), [(4000, "internal"), (4002, "overloaded"), (4006, "unavailable")])
async def test_codes_below_4500_come_back(
    autojump_clock: MockClock, server: FakeServer, code: int, name: str, retry_after: float | None
) -> None:
    """With the floor that the server asked for, and its words in the status."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        await server.bye(code, name, "busy just now", retry_after)
        waiting = await wait_for(rb, Waiting)
        assert isinstance(waiting, Waiting)
        assert waiting.reason == "busy just now"
        assert waiting.retry_in_s >= (retry_after or 0.0)
        await wait_for(rb, Online)


@pytest.mark.parametrize(
    ("code", "name", "error"),
    [
        (4500, "bad_frame", BadFrame),
        (4501, "unauthorized", Unauthorized),
        (4502, "revoked", Revoked),
        (4503, "forbidden", Forbidden),
        (4504, "superseded", Superseded),
        (4505, "too_large", TooLarge),
    ],
)
async def test_codes_from_4500_end_the_client(
    autojump_clock: MockClock, server: FakeServer, code: int, name: str, error: type[ReadbackError]
) -> None:
    """Raised as itself out of the block, not in a group, though the block was waiting for something else."""
    with pytest.raises(error, match="so it is") as raised:
        async with connect(server.url, "t") as rb:
            await rb.ready()
            await server.bye(code, name, "so it is")
            await trio.sleep_forever()
    assert raised.type is error
    assert rb.state == Ended(raised.value)


async def test_whoever_waits_is_told_the_end(autojump_clock: MockClock, server: FakeServer) -> None:
    """A reader raises what ended the client; the same exception leaves the block once."""
    with pytest.raises(Superseded) as raised:
        async with connect(server.url, "t") as rb:
            events = rb.subscribe("chat:ops")
            await rb.ready()
            await server.bye(4504, "superseded", "another tab")
            await events.__anext__()
    assert raised.value.code == "superseded"


async def test_a_close_without_a_bye_means_the_same(autojump_clock: MockClock, server: FakeServer) -> None:
    """The close code alone decides, for a bye may be lost; 1012 (restart) comes back."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        await server.links[0].ws.aclose(1012, "restart")
        assert "restart" in str(await wait_for(rb, Waiting))
        await rb.ready()
    with pytest.raises(Revoked):
        async with connect(server.url, "t") as rb:
            await rb.ready()
            await server.links[0].ws.aclose(4502, "left the company")
            await trio.sleep_forever()


async def test_a_drain_is_obeyed_at_its_slot(autojump_clock: MockClock, server: FakeServer) -> None:
    """Until the slot the connection still delivers; then the client moves at once, with the drain's own token."""
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=0)
        await rb.ready()
        server.resumes.add("for-the-move")
        await server.links[0].say(op="drain", after_ms=1800, resume="for-the-move")
        began = trio.current_time()
        await server.append("chat:ops")
        assert (await events.__anext__()).seq == 1
        await server.until(lambda: len(server.all_links) == 2)
        assert trio.current_time() - began >= 1.8
        await server.until(lambda: server.received("resume"))
        assert server.received("resume")[0]["resume"] == "for-the-move"
        await server.append("chat:ops")
        assert (await events.__anext__()).seq == 2


class PingsAtAClose(trio.abc.Stream):
    """A server's side of a connection on which a ping crosses the client's close."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._inner.receive_some(max_bytes)
        if data[:1] == b"\x88":
            await self._inner.send_all(b"\x89\x00")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_a_ping_may_cross_the_close(autojump_clock: MockClock, server: FakeServer) -> None:
    """A heartbeat that was on its way when the client moved at its slot: trio-websocket would answer it on a connection
    that is being closed, which wsproto forbids, and the program was ended by that. It moves like any other."""
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=0)
        await rb.ready()
        (link,) = server.links
        link.ws._stream = PingsAtAClose(link.ws._stream)  # type: ignore[assignment]
        await rb.send("chat:ops", {"text": "so that the server reads on"})
        began = trio.current_time()
        await link.say(op="drain", after_ms=1800, resume="for-the-move")
        server.resumes.add("for-the-move")
        await server.until(lambda: server.received("resume"))
        assert trio.current_time() - began < 2.5
        await server.append("chat:ops")
        assert [(await events.__anext__()).seq for _ in range(2)] == [1, 2]
        await server.until(lambda: len(server.links) == 1)
        server.links[0].ws._stream = PingsAtAClose(server.links[0].ws._stream)  # type: ignore[assignment]
        await rb.send("chat:ops", {"text": "once more"})
    await link.gone.wait()


async def test_a_drain_cut_short_keeps_its_slot(autojump_clock: MockClock, server: FakeServer) -> None:
    """A node that closes before the slot does not make its clients come back earlier."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        await server.links[0].say(op="drain", after_ms=4000, resume="r")
        began = trio.current_time()
        await trio.sleep(1)
        await server.bye(4001, "draining")
        await server.until(lambda: len(server.all_links) == 2)
        assert trio.current_time() - began >= 4.0


async def test_another_node_is_tried(autojump_clock: MockClock, server: FakeServer) -> None:
    """With several urls, a dead one costs one dial."""
    async with fake_server() as other:
        async with connect([server.url, other.url, f"ws://127.0.0.1:{free_port()}"], "t") as rb:
            for _ in range(6):
                await rb.ready()
                await server.cut()
                await other.cut()
                await wait_for(rb, Waiting)
            await rb.ready()
        assert server.all_links
        assert other.all_links


async def test_silence_of_two_heartbeats_is_a_loss(autojump_clock: MockClock, server: FakeServer) -> None:
    """A peer that answers nothing, not even the client's ping, is left; one that pings is kept."""

    async def dead(link: Link, frame: Frame) -> None: ...

    server.heartbeat = 10
    server.takeovers["ping"] = dead
    async with connect(server.url, "t") as rb:
        await rb.ready()
        for _ in range(10):
            await trio.sleep(9)
            with trio.move_on_after(0.5):
                await server.links[0].ws.ping()
        assert len(server.all_links) == 1
        assert not server.received("ping")
        await server.until(lambda: len(server.all_links) == 2)
        assert len(server.received("ping")) == 1
        del server.takeovers["ping"]
        await trio.sleep(100)
        assert len(server.all_links) == 2


async def test_no_welcome_in_time_is_a_loss(autojump_clock: MockClock, server: FakeServer) -> None:
    """A server that accepts and says nothing does not hold the client for ever."""

    async def silent(link: Link, frame: Frame) -> None: ...

    server.takeovers["hello"] = silent
    async with connect(server.url, "t") as rb:
        assert "no welcome" in str(await wait_for(rb, Waiting))
        del server.takeovers["hello"]
        await rb.ready()


@pytest.mark.parametrize("junk", ["not json", "[1]", '{"op":"event","stream":"chat:ops"}', '{"no":"op"}'])
async def test_nonsense_costs_a_connection_only(autojump_clock: MockClock, server: FakeServer, junk: str) -> None:
    """What cannot be read ends that connection; the next one goes on."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        await server.links[0].ws.send_message(junk)
        await wait_for(rb, Waiting)
        await rb.ready()
        await server.links[0].ws.send_message(b"binary")
        await wait_for(rb, Waiting)
        await rb.ready()
        await server.links[0].say(op="novelty", of="a newer server")
        assert (await rb.send("chat:ops", {})).seq == 1
        assert len(server.all_links) == 3


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (403, Forbidden), (404, Refused), (301, Refused)])
async def test_an_upgrade_refused_for_good(
    autojump_clock: MockClock, server: FakeServer, status: int, error: type[ReadbackError]
) -> None:
    """A first dial that is refused is a mistake of the caller's, said with the server's words."""
    server.http_refusals.append((status, [], b"not here"))
    with pytest.raises(error, match=rf"HTTP {status}: not here"):
        async with connect(server.url, "t"):
            await trio.sleep_forever()


async def test_an_upgrade_refused_for_now(autojump_clock: MockClock, server: FakeServer) -> None:
    """503 with Retry-After is obeyed; a 404 once we were welcome is a proxy between two deploys."""
    server.http_refusals.append((503, [(b"Retry-After", b"7")], b""))
    began = trio.current_time()
    async with connect(server.url, "t") as rb:
        await rb.ready()
        assert trio.current_time() - began >= 7.0
        server.http_refusals.append((404, [], b""))
        reasons: list[str] = []
        with rb.status as statuses:
            await server.cut()
            async for status in statuses:
                if isinstance(status, Waiting):
                    reasons.append(status.reason)
                if isinstance(status, Online) and len(reasons) == 2:
                    break
        assert "404" in reasons[1]


async def test_a_peer_that_hangs_up_during_the_upgrade_fails_at_once(autojump_clock: MockClock) -> None:
    """A port that accepts and closes is told apart from one that is slow, and does not cost the dial's whole time."""

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, hang_up, [listener])
        port = listener.socket.getsockname()[1]
        autojump_clock.autojump_threshold = 0.01
        async with connect(f"ws://127.0.0.1:{port}/v1/ws", "t") as rb:
            assert "hung up during the upgrade" in str(await wait_for(rb, Waiting))
        nursery.cancel_scope.cancel()


def fresh(*answers: str | Exception) -> tuple[list[int], Callable[[], Awaitable[str]]]:
    """A token callable that gives these, one after the other, and how often it was asked."""
    asked: list[int] = []

    async def token() -> str:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(len(asked))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return asked, token


async def test_an_expired_token_is_fetched_anew_once(autojump_clock: MockClock, server: FakeServer) -> None:
    """4501 with a callable asks for one more; a second 4501 in a row is the end."""
    server.bad_tokens.add("old")
    _asked, token = fresh("old", "new")
    async with connect(server.url, token) as rb:
        await rb.ready()
    assert server.tokens == ["old", "new"]
    _asked, token = fresh("old")
    with pytest.raises(Unauthorized):
        async with connect(server.url, token):
            await trio.sleep_forever()
    with pytest.raises(Unauthorized, match="expired"):
        async with connect(server.url, "old"):
            await trio.sleep_forever()


async def test_a_token_is_only_asked_for_a_hello(autojump_clock: MockClock, server: FakeServer) -> None:
    """Resumes need none; a rejected resume fetches one on the same connection."""
    asked, token = fresh("t")
    async with connect(server.url, token) as rb:
        await rb.ready()
        await server.cut()
        await wait_for(rb, Waiting)
        await rb.ready()
        assert len(asked) == 1
        server.resumes.clear()
        await server.cut()
        await wait_for(rb, Waiting)
        await rb.ready()
        assert (len(asked), len(server.all_links)) == (2, 3)


async def test_a_token_service_may_be_away(autojump_clock: MockClock, server: FakeServer) -> None:
    """`Unavailable` from the callable is waited out; any other exception is the caller's, and leaves the block."""
    _asked, token = fresh(Unavailable(message="login is down", retry_after_s=4.0), "t")
    async with connect(server.url, token) as rb:
        assert "login is down" in str(await wait_for(rb, Waiting))
        await rb.ready()
    _asked, token = fresh(KeyError("no such user"))
    with pytest.raises(KeyError, match="no such user"):
        async with connect(server.url, token):
            await trio.sleep_forever()


async def test_the_blocks_own_exception_comes_out_as_itself(autojump_clock: MockClock, server: FakeServer) -> None:
    """Whether connected or not, an ordinary error of the block is no group, and the connection is closed."""
    for url in (server.url, f"ws://127.0.0.1:{free_port()}"):
        with pytest.raises(LookupError, match="mine"):
            async with connect(url, "t") as rb:
                with trio.move_on_after(1):
                    await rb.ready()
                raise LookupError("mine")
    await server.until(lambda: not server.links)


async def test_cancellation_is_clean(autojump_clock: MockClock, server: FakeServer) -> None:
    """A cancelled block ends at once, online or waiting; the caller's scope sees its own cancellation."""
    for url in (server.url, f"ws://127.0.0.1:{free_port()}"):
        with trio.move_on_after(5) as scope:
            async with connect(url, "t"):
                await trio.sleep_forever()
        assert scope.cancelled_caught
    await server.until(lambda: not server.links)


async def test_leaving_closes_politely(autojump_clock: MockClock, server: FakeServer) -> None:
    """The server sees a close of 1000, not a cut."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        (link,) = server.links
    await link.gone.wait()
    assert link.ws.closed is not None
    assert link.ws.closed.code == 1000


async def test_a_bad_url_is_refused_at_the_door(autojump_clock: MockClock) -> None:
    """Before any task starts."""
    for url in ("http://x", "ws://", "ws://h:99999", "ws://user@h", "ws://h/?token=t"):
        with pytest.raises(ValueError, match="url"):
            async with connect(url, "t"):
                raise AssertionError("not reached")
    with pytest.raises(ValueError, match="at least one url"):
        async with connect([], "t"):
            raise AssertionError("not reached")
    with pytest.raises(TypeError, match="token"):
        async with connect("ws://h", 7):  # type: ignore[arg-type]
            raise AssertionError("not reached")


async def test_a_write_that_nobody_takes_is_a_loss(autojump_clock: MockClock, server: FakeServer) -> None:
    """A peer that stops reading does not hold the client past two heartbeats."""

    async def stuck(link: Link, frame: Frame) -> None:
        await trio.sleep_forever()

    server.takeovers["send"] = stuck
    server.heartbeat = 5
    limits = Limits(calls_in_flight_max=10_000)
    async with connect(server.url, "t", limits=limits) as rb, trio.open_nursery() as nursery:
        await rb.ready()
        for _ in range(400):  # 400 x 60 KB: more than the socket buffers of both sides
            nursery.start_soon(rb.send, "chat:ops", {"text": "x" * 60_000})
        await wait_for(rb, Waiting)
        nursery.cancel_scope.cancel()


async def test_a_deaf_server_is_left(autojump_clock: MockClock, server: FakeServer) -> None:
    """One that pings and yet never answers a request costs a reconnect, not the request."""
    deaf = True

    async def forgetful(link: Link, frame: Frame) -> None:
        if not deaf:
            await server.op_send(link, frame)

    server.takeovers["send"] = forgetful
    async with connect(server.url, "t") as rb, trio.open_nursery() as nursery:
        await rb.ready()
        nursery.start_soon(lambda: rb.send("chat:ops", {"text": "hello?"}, timeout_s=200))
        assert "no answer in 30 s" in str(await wait_for(rb, Waiting))
        deaf = False
    assert len(server.streams["chat:ops"]) == 1


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for localhost, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM), pem


async def test_tls_is_checked(autojump_clock: MockClock, server: FakeServer, tmp_path: Path) -> None:
    """A certificate nobody vouches for ends the client with its reason; with the right context all is as without TLS."""
    cert, key = certificate()
    paths = (tmp_path / "cert.pem", tmp_path / "key.pem")
    for path, data in zip(paths, (cert, key), strict=True):
        path.write_bytes(data)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*paths)
    autojump_clock.autojump_threshold = 0.1  # handshakes compute between their packets
    async with trio.open_nursery() as nursery:
        listening = await nursery.start(serve_websocket, server.handle, "127.0.0.1", 0, serving)
        url = f"wss://127.0.0.1:{listening.port}"
        with pytest.raises(Refused, match="CERTIFICATE_VERIFY_FAILED"):
            async with connect(url, "t"):
                await trio.sleep_forever()
        trusting = ssl.create_default_context(cadata=cert.decode())
        async with connect(url, "t", ssl_context=trusting) as rb:
            assert (await rb.send("chat:ops", {"text": "hi"})).seq == 1
        nursery.cancel_scope.cancel()
