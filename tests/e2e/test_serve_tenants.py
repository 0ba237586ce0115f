"""`readback serve` as it runs in earnest: no shared secrets, tenants from a file, quotas changed and a tenant stopped
meanwhile, the log anchored elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trio

from core.identity import issue
from core.keys import SigningKey
from tests.nodes import token
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import HOME, Serving, serving
from tests.wire_client import WireClient, wire_client

SEED = b"0123456789abcdefghijklmnopqrstuv"
SIGNER = SigningKey("s1", SEED)
QUIET = "only_named = true\n[tenants.acme]\n[tenants.zen]\n"
BOUND = QUIET + "[tenants.acme.quotas]\nsends_per_s = 0.01\nburst_s = 100.0\n"


def mine(principal: str = "user:amy", *, tenant: str = "acme", roles: list[str] | None = None) -> str:
    now_s = time.time()
    return issue(
        SIGNER, tenant=tenant, principal=principal, roles=roles or [], now_s=now_s, ttl_s=600.0, token_id=f"t{now_s}"
    )


@pytest.fixture
def environ(database: Database, tmp_path: Path) -> dict[str, str]:  # noqa: F811
    (tmp_path / "tenants.toml").write_text(QUIET)
    (tmp_path / "readback.toml").write_text(
        f'tenants_file = "{tmp_path / "tenants.toml"}"\n[limits]\nhistory_limit_max = 9\n'
    )
    return {
        "READBACK_CONFIG": str(tmp_path / "readback.toml"),
        "READBACK_DATABASE_URL": database.url,
        "READBACK_DEV_TOKENS": "false",
        "READBACK_SIGNING_KEYS": f"s1={urlsafe_b64encode(SEED).decode()}",
        "READBACK_ANCHOR": str(tmp_path / "anchors.jsonl"),
        "READBACK_LIMIT_ANCHOR_INTERVAL_S": "0.2",
    }


async def run(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gateway", *arguments]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ}
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=HOME, env=env)


async def welcomed(client: WireClient, access: str, **streams: object) -> dict[str, object]:
    return await client.ask("hello", token=access, streams=streams)


async def said(served: Serving, words: str, times: int = 1) -> None:
    with trio.fail_after(20):
        while served.words().count(words) < times:  # noqa: ASYNC110  # another process
            await trio.sleep(0.02)


async def test_a_node_in_earnest(environ: dict[str, str], tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Whose tokens it takes, what a reload changes, how a tenant is stopped and started, and what its anchors prove."""
    async with serving(tmp_path, environ=environ) as served, httpx.AsyncClient(base_url=served.http) as http:
        admin = {"authorization": f"Bearer {mine('user:boss', roles=['admin'])}"}
        made = await http.post("/v1/streams", json={"stream": "chat:ops", "open": True}, headers=admin)
        assert made.status_code == 201, made.text
        for refused in (token(tenant="acme"), mine(tenant="stranger")):
            async with wire_client(served.url) as client:
                await client.say("hello", token=refused)
                assert (await client.closed())[0] == 4501
        async with wire_client(served.url) as amy, wire_client(served.url) as zoe:
            assert (await welcomed(amy, mine(), **{"chat:ops": {}}))["op"] == "welcome"
            assert (await welcomed(zoe, mine(tenant="zen")))["op"] == "welcome"
            assert (await amy.send("chat:ops", "one"))["seq"] == 1
            # A reload: quotas for who is here, limits that are looked up.
            (tmp_path / "tenants.toml").write_text(BOUND)
            toml = (tmp_path / "readback.toml").read_text()
            (tmp_path / "readback.toml").write_text(toml.replace("= 9", "= 3") + "sessions_max = 50000\n")
            served.process.send_signal(signal.SIGHUP)
            await said(served, "next start only: sessions_max")
            assert [(await amy.send("chat:ops", "two")).get("code", "ok") for _ in range(3)] == ["ok"] + [
                "rate_limited"
            ] * 2
            assert (await amy.ask("history", stream="chat:ops", limit=9))["code"] == "bad_request"
            # A file that does not load changes nothing.
            (tmp_path / "tenants.toml").write_text(BOUND + "[tenants.acme.quotas]\n")
            served.process.send_signal(signal.SIGHUP)
            await said(served, "nothing was reloaded")
            assert (await amy.send("chat:ops", "three"))["code"] == "rate_limited"
            # The kill switch, from another process, found by asking the database.
            stale = mine()
            stopped = await run(environ, "tenant", "stop", "acme", "--reason", "unpaid")
            assert stopped.returncode == 0, stopped.stderr
            assert (await amy.closed())[0] == 4502
            async with wire_client(served.url) as again:
                await again.say("hello", token=stale)
                assert (await again.closed())[0] == 4502
            assert (await zoe.ask("ping"))["op"] == "pong"
            started = await run(environ, "tenant", "start", "acme", "--reason", "paid")
            assert started.returncode == 0, started.stderr
            with trio.fail_after(10):
                while True:
                    async with wire_client(served.url) as again:
                        await again.say("hello", token=mine())
                        frame = await again.next()
                        if frame["op"] == "welcome":
                            break
                    await trio.sleep(0.1)
        with trio.fail_after(20):
            while not (tmp_path / "anchors.jsonl").exists() or not (tmp_path / "anchors.jsonl").read_text():  # noqa: ASYNC110
                await trio.sleep(0.05)
        words = served.words()
    assert "Traceback" not in words
    root = {**environ, "READBACK_DATABASE_URL": database.admin_url}
    verified = await run(root, "audit", "verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["findings"] == []
    database.sql("update readback.events set body = '{\"text\":\"uno\"}' where body like '%one%'")
    tampered = await run(root, "audit", "verify", "--json")
    assert tampered.returncode == 1


async def test_serve_says_what_is_missing(environ: dict[str, str], tmp_path: Path) -> None:
    """Nothing to verify with, anchors without a key: one sentence each, with what to do, and status 2."""
    for changed, words in (
        ({"READBACK_SIGNING_KEYS": "", "READBACK_ANCHOR": ""}, b"No access token could be verified"),
        ({"READBACK_SIGNING_KEYS": "", "READBACK_DEV_TOKENS": "true"}, b"Anchors are signed"),
    ):
        keys = {"READBACK_TOKEN_SECRETS": "k=" + "a2V5" * 11, "READBACK_RESUME_KEYS": "r=" + "cmVz" * 11}
        ended = await run({**environ, **keys, **changed, "READBACK_PORT": "0", "READBACK_HTTP_PORT": "0"}, "serve")
        assert ended.returncode == 2, ended.stderr
        assert words in ended.stderr
