"""`readback serve` and `readback dev` as processes of a test's own, with the keys of `tests.nodes`.

`serving(...)` waits until it is ready and sees that it, and whatever it started, has ended at the end of the block.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from tests.nodes import SECRETS, until

HOME = Path(__file__).parents[1]
KEYS = {
    name: ",".join(f"{kid}={urlsafe_b64encode(key).decode()}" for kid, key in ring.items())
    for name, ring in (("READBACK_TOKEN_SECRETS", SECRETS.token_secrets), ("READBACK_RESUME_KEYS", SECRETS.resume_keys))
} | {"READBACK_DEV_TOKENS": "true"}


class Serving:
    """One of them. ``pid`` is the process that was started, ``words`` what it and its children said so far."""

    def __init__(self, process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> None:
        self.process = process
        self.port = self.http_port = 0
        self._ready_file = ready_file
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def words(self) -> str:
        return self._log.read_text("utf-8", "replace")

    async def ready(self, timeout_s: float = 60.0) -> None:
        def is_there() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.words()[-3000:]}")
            return self._ready_file.exists()

        await until(is_there, timeout_s)
        facts = json.loads(self._ready_file.read_text())
        assert facts["pid"] == self.pid
        self.port, self.http_port = facts["port"], facts["http_port"]

    async def end(self, timeout_s: float = 30.0) -> int:
        """Wait for its end; its status."""
        await until(lambda: self.process.poll() is not None, timeout_s)
        return self.process.returncode

    def children(self) -> list[int]:
        return children_of(self.pid)

    async def metrics(self, name: str) -> dict[str, float]:
        """A series of one label or none: by the label's value."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.http}/metrics")).text
        found = re.findall(rf'^{name}(?:{{\w+="([^"]*)"}})? ([\d.e+-]+)$', text, re.MULTILINE)
        return {label: float(value) for label, value in found}


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _start(
    folder: Path,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    pass_fds: Sequence[int],
    wrap: Callable[[list[str]], list[str]],
) -> Serving:
    folder.mkdir(exist_ok=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("READBACK_")}
    settings = {
        "READBACK_DATA": str(folder / "data"),
        "READBACK_PORT": "0",
        "READBACK_HTTP_PORT": "0",
        "READBACK_LIMIT_DRAIN_WINDOW_S": "2",
        **KEYS,
        **environ,
    }
    command, *rest = arguments
    ready_file, log = folder / "ready", folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            wrap([sys.executable, "-m", "gateway", command, "--ready-file", str(ready_file), *rest]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=HOME,
            env={**clean, **settings},
            pass_fds=pass_fds,
            start_new_session=True,
        )
    return Serving(process, ready_file, log)


@asynccontextmanager
async def serving(
    folder: Path,
    *arguments: str,
    command: str = "serve",
    environ: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    wrap: Callable[[list[str]], list[str]] = lambda command: command,
    wait: bool = True,
) -> AsyncIterator[Serving]:
    """``wrap`` may put something in front of the command line that execs the rest."""
    served = _start(folder, (command, *arguments), environ or {}, pass_fds, wrap)
    process = served.process
    family: list[int] = []
    try:
        if wait:
            await served.ready()
        yield served
    finally:
        family = served.children()
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGINT)
                with trio.move_on_after(15):
                    while process.poll() is None:  # noqa: ASYNC110  # another process
                        await trio.sleep(0.02)
            if process.poll() is None:
                process.kill()
                process.wait()
    left = [pid for pid in family if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"it left processes behind: {served.words()[-2000:]}"
