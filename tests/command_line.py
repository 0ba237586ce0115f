"""The command line against a gateway of the test's own: its environment, a way to run it, and an HTTP port that it finds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from fastapi import FastAPI
from typer.testing import CliRunner

from gateway import cli
from gateway.http_serve import bind_http, serve_http
from gateway.keyring import _encode
from tests.nodes import SECRETS


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The keys of the tests' nodes in a data folder of the test's own, and nothing of the developer's."""
    for name in list(os.environ):
        if name.startswith("READBACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("READBACK_DATA", str(tmp_path))
    rings = ("token_secrets", "resume_keys", "signing_keys")
    document = {name: {kid: _encode(key) for kid, key in getattr(SECRETS, name).items()} for name in rings}
    (tmp_path / "secrets.json").write_bytes(orjson.dumps(document))


async def run(*arguments: str) -> Any:
    return await trio.to_thread.run_sync(partial(CliRunner().invoke, cli.app, list(arguments)))


@asynccontextmanager
async def on_a_port(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """This HTTP API, on a port that the settings name."""
    async with trio.open_nursery() as nursery:
        sock = bind_http("127.0.0.1", 0)
        monkeypatch.setenv("READBACK_HTTP_PORT", str(sock.getsockname()[1]))
        await nursery.start(partial(serve_http, app, [sock], shutdown=trio.sleep_forever))
        yield
        nursery.cancel_scope.cancel()
