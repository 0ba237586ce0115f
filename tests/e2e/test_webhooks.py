"""Webhooks over real sockets: what a receiver gets, by plain HTTP inside and by TLS whose certificate is the name's."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from core.work_limits import WorkLimits
from gateway.work.orders import Impossible
from gateway.work.outside import Outside
from gateway.work.ports import Transient
from gateway.work.webhooks import Webhooks, shown_secret
from tests.certs import make_pair
from tests.working import is_ours

KEY = "0b5e7c1e-4f57-8d8a-9a53-3c1f0c8f2f11"
KEYS = {"w1": b"first key of the installation..."}
INSIDE = (ip_network("127.0.0.0/8"),)
NOW_S = 1_790_000_000.0


class Receiver:
    """Answers each request with the same bytes, and keeps head and body."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some() or b"\r\n\r\n"
            head, _, body = data.partition(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
            headers = {name.lower(): value for name, _, value in lines}
            while len(body) < int(headers.get("content-length", "0")):
                body += await stream.receive_some()
            self.got.append((headers, body))
            await stream.send_all(self.answer)
            await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@asynccontextmanager
async def receiving(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        receiver.port = listeners[0].socket.getsockname()[1]
        serving: list[Any] = list(listeners)
        if tls is not None:
            serving = [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]
        nursery.start_soon(trio.serve_listeners, receiver.serve, serving)
        yield receiver
        nursery.cancel_scope.cancel()


def webhooks(limits: WorkLimits | None = None, transport: httpx.AsyncBaseTransport | None = None) -> Webhooks:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    limits = limits or WorkLimits()
    return Webhooks(Outside(limits), limits, lambda: NOW_S, KEYS, private=INSIDE, resolve=resolve, transport=transport)


OK = b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_a_receiver_gets_it_signed() -> None:
    """Once, with its name as host, the body as JSON, and a signature that its secret verifies; the connection ends."""
    async with receiving(OK) as receiver:
        url = f"http://hooks.example:{receiver.port}/in"
        assert await webhooks().post("demo", url, {"says": "ü"}, KEY) == 204
    ((headers, body),) = receiver.got
    assert headers["host"] == f"hooks.example:{receiver.port}"
    assert (headers["content-type"], headers["connection"], headers["idempotency-key"]) == (
        "application/json",
        "close",
        KEY,
    )
    assert body == '{"says":"ü"}'.encode()
    assert is_ours(shown_secret(KEYS["w1"], "demo"), headers, body, NOW_S)


async def test_a_redirect_leads_nowhere() -> None:
    """The receiver that it points to hears nothing."""
    async with receiving(OK) as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{other.port}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with receiving(moved) as receiver:
            with pytest.raises(Impossible, match="redirects"):
                await webhooks().post("demo", f"http://hooks.example:{receiver.port}/", {}, KEY)
        assert other.got == []


async def test_a_receiver_without_end_is_left() -> None:
    """An answer that goes on for ever is not waited for: its status is enough."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000
    async with receiving(endless) as receiver:
        assert await webhooks().post("demo", f"http://hooks.example:{receiver.port}/", {}, KEY) == 200


async def test_a_receiver_that_says_nothing_is_left() -> None:
    """After `webhook_s` it failed."""
    limits = replace(WorkLimits(), webhook_s=0.05)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(Transient, match=r"did not answer within|cannot be reached"):
        await webhooks(limits).post("demo", f"http://hooks.example:{port}/", {}, KEY)
    await listeners[0].aclose()


async def test_nobody_listens() -> None:
    """A port that is closed is a network that fails."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(Transient, match="cannot be reached"):
        await webhooks().post("demo", f"http://hooks.example:{port}/", {}, KEY)


async def test_the_certificate_is_held_against_the_name(tmp_path: Path) -> None:
    """The connection goes to an address, and a certificate of that address alone is nobody's whom the rule named."""
    pair = make_pair(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.cert, pair.key)
    transport = httpx.AsyncHTTPTransport(verify=pair.client(), trust_env=False)
    async with receiving(OK, server) as receiver:
        hooks = webhooks(transport=transport)
        assert await hooks.post("demo", f"https://localhost:{receiver.port}/in", {}, KEY) == 204
        with pytest.raises(Transient, match=r"hooks\.example cannot be reached: ConnectError"):
            await hooks.post("demo", f"https://hooks.example:{receiver.port}/in", {}, KEY)
        assert len(receiver.got) == 1
    await transport.aclose()
