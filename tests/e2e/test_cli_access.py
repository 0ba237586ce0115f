"""``readback device``, ``client`` and ``revoke`` against a real HTTP port; ``readback tenant`` against a real Postgres."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from gateway import access_tools, cli_access
from gateway.cli_errors import CANNOT, USAGE
from gateway.cli_run import new_key
from gateway.http import make_app
from gateway.http_serve import bind_http
from store.postgres import open_postgres_log
from tests.command_line import on_a_port, own_environment, run  # noqa: F401
from tests.devices import Device, audit_of, names
from tests.nodes import TestNode, serving_node, token
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.wire_client import hello, wire_client

pytestmark = pytest.mark.usefixtures("own_environment")


@asynccontextmanager
async def listening(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestNode]:
    """A node with its HTTP API on a port, which the settings name."""
    async with serving_node() as node, on_a_port(make_app(node.desk, office=node.office), monkeypatch):
        yield node


async def test_a_device_from_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Claimed, onboarded from the text of its code, listed, revoked: with nothing but this machine's keys."""
    async with listening(monkeypatch) as node:
        claimed = await run("device", "claim", "truck-7")
        assert claimed.exit_code == 0, claimed.output
        uri = claimed.stdout.strip()
        assert "good once, until 20" in claimed.stderr
        assert (await run("device", "list")).stdout == "device:truck-7  claimed  -  -\n"
        base = parse_qs(urlsplit(uri).query)["u"][0]
        async with httpx.AsyncClient(base_url=base) as http:
            device = Device(http, time.time)
            claim = parse_qs(urlsplit(uri).query)["c"][0]
            proof = device.proof(f"{base}/v1/devices/redeem", claim)
            assert (await device.redeem(claim, proof=proof)).status_code == 200
        assert re.fullmatch(
            rf"device:truck-7  enrolled  \S+Z  {device.key.thumbprint}\n", (await run("device", "list")).stdout
        )
        async with device.connected(node) as client:
            revoked = await run("device", "revoke", "device:truck-7")
            assert (revoked.exit_code, revoked.stdout) == (0, "")
            assert (await client.closed())[0] == 4502
        assert "  revoked  " in (await run("device", "list")).stdout
        assert names(await audit_of(node)) == ["device.claim", "device.enrolled", "device.revoked"]
        gone = await run("device", "revoke", "none")
        assert (gone.exit_code, gone.stderr) == (CANNOT, "readback: The gateway says no: no such device.\n")
        for kind in ("svg", "png"):
            file = tmp_path / f"claim.{kind}"
            file.write_text("an older one, which others may read")
            written = await run("device", "claim", "truck-8", f"--{kind}", str(file))
            assert (written.exit_code, written.stdout) == (0, "")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.read_bytes().startswith(b"<?xml" if kind == "svg" else b"\x89PNG")


async def test_a_service_client_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id and secret alone are on stdout, in a form that a shell reads."""
    async with listening(monkeypatch) as node:
        added = await run("client", "add", "service:eta", "--role", "service")
        made = dict(line.split("=", 1) for line in added.stdout.splitlines())
        assert made.keys() == {"client_id", "client_secret"}
        listed = (await run("client", "list")).stdout
        assert re.fullmatch(rf"{made['client_id']}  service:eta  service  \S+Z\n", listed)
        assert made["client_secret"] not in listed
        base = f"http://127.0.0.1:{os.environ['READBACK_HTTP_PORT']}"
        async with httpx.AsyncClient(base_url=base) as http:
            form = {"grant_type": "client_credentials", **made}
            access = (await http.post("/v1/oauth/token", data=form)).json()["access_token"]
        async with wire_client(node.url) as client:
            assert (await client.ask("hello", token=access))["principal"] == "service:eta"
            assert (await run("client", "remove", made["client_id"])).exit_code == 0
            assert (await client.closed())[0] == 4502
        assert (await run("client", "list")).stdout == ""
        assert [event.by for event in await audit_of(node)] == ["service:operator"] * 2
        bad = await run("client", "add", "user:amy")
        assert (bad.exit_code, "principal" in bad.stderr) == (CANNOT, True)


async def test_revoking_from_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a token from the environment or a file; lifted again; another scope than the three is an argument's mistake."""
    async with listening(monkeypatch) as node:
        monkeypatch.setenv("READBACK_TOKEN", token("user:root", roles=["admin"]))
        async with hello(node.url, "user:amy") as amy:
            done = await run("revoke", "principal", "user:amy", "--reason", "phone lost")
            assert (done.exit_code, done.stderr) == (0, "principal user:amy is revoked\n")
            assert (await amy.closed())[0] == 4502
        file = tmp_path / "token"
        file.write_text(token("user:other", roles=["admin"]) + "\n")
        lifted = await run("revoke", "principal", "user:amy", "--lift", "--token-file", str(file))
        assert lifted.exit_code == 0
        assert [event.by for event in await audit_of(node)] == ["user:root", "user:other"]
        assert (await run("revoke", "tenant", "demo")).exit_code == USAGE
        file.write_text(token("user:amy"))
        refused = await run("revoke", "token", "x", "--token-file", str(file))
        assert (refused.exit_code, "revoking is for admins" in refused.stderr) == (CANNOT, True)
        missing = await run("revoke", "token", "x", "--token-file", str(tmp_path / "none"))
        assert (missing.exit_code, "token file" in missing.stderr) == (USAGE, True)


async def test_where_no_gateway_answers() -> None:
    """One sentence each: nobody there, no address, something else that listens."""
    sock = bind_http("127.0.0.1", 0)
    port = sock.getsockname()[1]
    sock.close()
    for url, said in ((f"http://127.0.0.1:{port}", "does not answer"), ("nonsense", "does not answer")):
        result = await run("device", "list", "--url", url)
        assert (result.exit_code, said in result.stderr) == (CANNOT, True), result.stderr
        assert "Traceback" not in result.stderr

    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, other, [listener])
        result = await run("device", "list", "--url", f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        assert (result.exit_code, "no Readback" in result.stderr) == (CANNOT, True), result.stderr
        nursery.cancel_scope.cancel()


def test_a_qr_code_for_a_terminal() -> None:
    """Half a line a row, and its text beneath is what it holds (`cli_access` shows both where the output is a terminal)."""
    shown = access_tools.qr_text("readback://claim?c=x")
    assert 10 < shown.count("\n") < 40
    assert "TOKEN" not in (cli_access.device_claim.__doc__ or "").split("Examples")[0]


async def test_an_operator_stops_and_starts_a_tenant(database: Database, tmp_path: Path) -> None:  # noqa: F811
    """At the database, where nodes look; with its audit event; the list says what is so."""
    file = tmp_path / "tenants.toml"
    file.write_text("[tenants.acme]\n[tenants.other]\n")
    config = tmp_path / "readback.toml"
    config.write_text(f'database_url = "{database.admin_url}"\ntenants_file = "{file}"\n')
    at = ("--config", str(config))
    assert (await run("tenant", "list", *at)).stdout == "acme  served\nother  served\n"
    stopped = await run("tenant", "stop", "acme", "--reason", "unpaid", *at)
    assert (stopped.exit_code, stopped.stderr) == (0, "acme is stopped\n"), stopped.output
    assert (await run("tenant", "stop", "unnamed", "--reason", "x", *at)).exit_code == 0
    shown = (await run("tenant", "list", *at)).stdout
    assert shown == ("acme  stopped  service:operator  unpaid\nother  served\nunnamed  stopped  service:operator  x\n")
    assert (await run("tenant", "start", "acme", *at)).exit_code == 0
    assert (await run("tenant", "list", *at)).stdout.startswith("acme  served\n")
    again = await run("tenant", "start", "acme", *at)
    assert (again.exit_code, "the tenant acme is not stopped" in again.stderr.lower()) == (CANNOT, True)
    assert (await run("tenant", "stop", "acme", *at)).exit_code == USAGE
    async with open_postgres_log(database.url, new_key=new_key) as log:
        [facts] = await log.open_streams([("acme", "audit:log", "service:readback")])
        assert facts is not None
        events = await log.read("acme", facts.sid, 0, 10)
        assert [(event.type, event.by) for event in events] == [
            ("revoked", "service:operator"),
            ("revocation.lifted", "service:operator"),
        ]
