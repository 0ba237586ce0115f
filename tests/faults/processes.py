"""Real nodes for the cases here: ``python -m gateway serve``, each a process that can be killed, stopped or drained.

A node's own words (its log) go into a file beside its ready file; `NodeProcess.words` has them. All nodes of a
`Fleet` have the keys of `tests.nodes`, so that `tests.nodes.token` is good for them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import trio

from store.launch import Launcher
from tests.faults.crowd import PATIENCE_S, eventually
from tests.nodes import SECRETS

HOME = Path(__file__).parents[2]

LIMITS = {
    "lease_s": "2",  # so that a case about a lease takes seconds
    "node_beat_s": "0.4",
    "presence_grace_s": "0.5",
    "drain_window_s": "2",
}


def write_secrets(folder: Path) -> Path:
    """The keys of `tests.nodes`, as a node reads them."""
    path = folder / "secrets.json"
    document = {
        name: {kid: urlsafe_b64encode(key).decode().rstrip("=") for kid, key in ring.items()}
        for name, ring in (("token_secrets", SECRETS.token_secrets), ("resume_keys", SECRETS.resume_keys))
    }
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
    return path


class NodeProcess:
    def __init__(self, name: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.port = 0
        self.http_port = 0
        self.starts = 0
        self._ready = folder / f"{name}.ready"
        self._log = folder / f"{name}.log"
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def words(self) -> str:
        return self._log.read_text("utf-8", "replace")

    # -- its life -----------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        assert not self.running, f"{self.name} runs already"
        self._ready.unlink(missing_ok=True)
        self.starts += 1
        clean = {key: value for key, value in os.environ.items() if not key.startswith("READBACK_")}
        command = [sys.executable, "-m", "gateway", "serve", "--ready-file", str(self._ready)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                Launcher("plain", None, os.getegid()).command(command, stops_with_us=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=HOME,
                env={**clean, **self._environ, "READBACK_PORT": str(self.port)},  # the same again, once it has one
                start_new_session=True,
            )

    async def ready(self, *, patience_s: float = PATIENCE_S) -> None:
        """Until it serves; on whichever ports it got."""

        async def up() -> bool:
            if not self.running:
                raise AssertionError(f"{self.name} ended with {self.status}: {self.words()[-2000:]}")
            return self._ready.exists()

        await eventually(up, patience_s=patience_s)
        facts = json.loads(self._ready.read_text())
        self.port, self.http_port = facts["port"], facts["http_port"]

    @property
    def status(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; at once, and it has said nothing to anybody."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def drain(self) -> None:
        self._signal(signal.SIGTERM)

    async def ended(self, *, patience_s: float = PATIENCE_S) -> int:
        """Its exit status, once it has one."""
        await eventually(lambda: _answer(self.status is not None), patience_s=patience_s)
        assert self.status is not None
        return self.status

    def end(self) -> None:
        """However it is, it is gone afterwards."""
        if self.running:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGINT)
            self._signal(signal.SIGINT)
            assert self._process is not None
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    # -- what it says -------------------------------------------------------------------------------------------------

    async def _get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http_port}", timeout=PATIENCE_S) as client:
            return await client.get(path)

    async def health(self) -> dict[str, Any]:
        """``/readyz``, with its status under ``code``."""
        response = await self._get("/readyz")
        return {"code": response.status_code, **response.json()}

    async def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        text = (await self._get("/metrics")).text
        values = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", text, re.MULTILINE)
        assert values, f"{name} is no metric of {self.name}"
        return sum(map(float, values))

    async def rises(self, name: str, above: float) -> None:
        """Until the metric is above that."""

        async def risen() -> bool:
            return await self.metric(name) > above

        await eventually(risen)

    async def bus_is(self, up: bool) -> None:
        """Until readiness says so of the bus, and the metric too."""

        async def said() -> bool:
            health = await self.health()
            assert health["code"] == 200, health  # Redis is only speed
            return (health["facts"]["bus"] == "ok") is up and await self.metric("readback_bus_up") == float(up)

        await eventually(said)


async def _answer(value: bool) -> bool:
    return value


class Fleet:
    """Nodes of one cell."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        redis_url: Mapping[str, str] | str | None,
        names: str = "abc",
        limits: Mapping[str, str] = LIMITS,
    ) -> None:
        """``redis_url``: one for all, or by the node's name."""
        environ = {
            "READBACK_DATA": str(folder),
            "READBACK_SECRETS_FILE": str(write_secrets(folder)),
            "READBACK_DEV_TOKENS": "true",
            "READBACK_DATABASE_URL": database_url,
            "READBACK_HTTP_PORT": "0",
            **{f"READBACK_LIMIT_{name.upper()}": value for name, value in limits.items()},
        }
        if redis_url is None:
            redis_url = {}
        elif isinstance(redis_url, str):
            redis_url = dict.fromkeys(names, redis_url)
        bus = {name: {"READBACK_REDIS_URL": url} for name, url in redis_url.items()}
        self.nodes = [
            NodeProcess(name, folder, {**environ, **bus.get(name, {}), "READBACK_NODE": name}) for name in names
        ]
        self.urls: dict[str, str] = {}

    async def up(self, *, patience_s: float = PATIENCE_S) -> None:
        """Every node serves and hears all the others; those that do not run are started."""
        for node in self.nodes:
            if not node.running:
                node.launch()
        for node in self.nodes:
            await node.ready(patience_s=patience_s)
            self.urls[node.name] = node.url
        await self.whole(patience_s=patience_s)

    async def whole(self, *, patience_s: float = PATIENCE_S) -> None:
        """Until every node hears every other by the bus."""
        for node in self.nodes:

            async def all_heard(node: NodeProcess = node) -> bool:
                facts = (await node.health())["facts"]
                return bool(facts["bus"] == "ok" and facts["nodes"] == len(self.nodes))

            await eventually(all_heard, patience_s=patience_s)

    def end(self) -> None:
        for node in self.nodes:
            if node.running:
                node.go_on()
        for node in self.nodes:
            node.end()


async def on_all(nodes: list[NodeProcess], do: Callable[[NodeProcess], Any]) -> None:
    """The same of each, at once."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(do, node)
