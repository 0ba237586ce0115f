"""`readback serve` with TLS on both ports: other people's clients, our client, and a reload that nobody notices."""

from __future__ import annotations

import shutil
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from cryptography import x509
from trio_websocket import open_websocket_url

from readback_client import connect
from tests.certs import Pair, make_pair
from tests.nodes import token, until
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import Serving, serving
from tests.wire_client import WireClient


def replace(used: Pair, new: Pair) -> None:
    """As a renewal does it: one file, then the other."""
    shutil.copy(new.cert, used.cert)
    shutil.copy(new.key, used.key)


@asynccontextmanager
async def over_tls(served: Serving, trusted: ssl.SSLContext) -> AsyncIterator[WireClient]:
    """trio-websocket, which has a TLS of its own: Trio's."""
    url = f"wss://localhost:{served.port}/v1/ws"
    async with open_websocket_url(url, ssl_context=trusted, subprotocols=["readback.v1"]) as websocket:
        yield WireClient(websocket)


async def certificate(port: int, trusted: ssl.SSLContext) -> int:
    """The serial of what is shown now on a port."""
    stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=trusted, https_compatible=True)
    try:
        await stream.do_handshake()
        shown = stream.getpeercert(binary_form=True)
    finally:
        await trio.aclose_forcefully(stream)
    return x509.load_der_x509_certificate(shown).serial_number


@asynccontextmanager
async def serving_tls(folder: Path, database: Database, pair: Pair, *arguments: str) -> AsyncIterator[Serving]:  # noqa: F811
    environ = {
        "READBACK_DATABASE_URL": database.url,
        "READBACK_TLS_CERT": str(pair.cert),
        "READBACK_TLS_KEY": str(pair.key),
    }
    async with serving(folder, *arguments, environ=environ) as served:
        yield served


async def test_both_ports_speak_tls_and_take_a_new_certificate(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Sends, events and HTTP over TLS; after SIGHUP newcomers see the new certificate on both ports, and who was there
    talks on. A pair that does not match is said, and changes nothing."""
    used, old, new = (make_pair(tmp_path / name) for name in ("used", "old", "new"))
    replace(used, old)
    async with serving_tls(tmp_path / "n", database, used) as served:
        assert f"wss://127.0.0.1:{served.port}/v1/ws, https://127.0.0.1:{served.http_port}" in served.words()
        async with httpx.AsyncClient(verify=old.client(), base_url=f"https://localhost:{served.http_port}") as http:
            made = await http.post(
                "/v1/streams",
                json={"stream": "chat:ops", "open": True},
                headers={"authorization": f"Bearer {token('service:ops', roles=['admin'])}"},
            )
            assert made.status_code == 201
            assert "max-age" in made.headers["strict-transport-security"]
        async with over_tls(served, old.client()) as client:
            await client.say("hello", token=token(), streams={"chat:ops": {}})
            await client.next("welcome")
            assert (await client.send("chat:ops", "x" * 40_000))["seq"] == 1
            assert len((await client.next("event", seq=1))["body"]["text"]) == 40_000

            replace(used, new)
            served.process.send_signal(signal.SIGHUP)
            await until(lambda: "reloaded: the certificate" in served.words())
            for port in (served.port, served.http_port):
                assert await certificate(port, new.client()) == new.serial
                with pytest.raises(trio.BrokenResourceError):
                    await certificate(port, old.client())

            shutil.copy(old.key, used.key)
            served.process.send_signal(signal.SIGHUP)
            await until(lambda: "the certificate was not reloaded" in served.words())
            assert await certificate(served.port, new.client()) == new.serial
            assert (await client.send("chat:ops", "still here"))["seq"] == 2

            served.process.send_signal(signal.SIGTERM)
            assert "resume" in await client.next("drain")
            await client.websocket.aclose()
        assert await served.end() == 0


async def test_our_client_over_tls(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """It is given the authority, and needs to know no more; workers have the certificate too."""
    pair = make_pair(tmp_path)
    async with serving_tls(tmp_path / "n", database, pair) as served:
        headers = {"authorization": f"Bearer {token('service:ops', roles=['admin'])}"}
        async with httpx.AsyncClient(verify=pair.client(), base_url=f"https://localhost:{served.http_port}") as http:
            await http.post("/v1/streams", json={"stream": "chat:ops", "open": True}, headers=headers)
        url = f"wss://localhost:{served.port}/v1/ws"
        async with connect(url, token=token(), ssl_context=pair.client()) as client:
            sent = await client.send("chat:ops", {"text": "hi"})
            assert sent.seq == 1


async def test_a_pair_that_cannot_be_used_ends_the_start(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """In one sentence, before anything else is begun."""
    pair, other = make_pair(tmp_path / "a"), make_pair(tmp_path / "b")
    environ = {
        "READBACK_DATABASE_URL": database.url,
        "READBACK_TLS_CERT": str(pair.cert),
        "READBACK_TLS_KEY": str(other.key),
    }
    async with serving(tmp_path / "n", environ=environ, wait=False) as served:
        assert await served.end() == 2
        assert "does not belong to the certificate" in served.words()
        assert "Traceback" not in served.words()
