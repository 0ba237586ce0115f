"""The servers under measurement: started in a process of their own, on a free port, stopped by their own pid.

A `Server` says where to connect and which processes' CPU to read (the gateway's apart from Postgres'). A peer that is
not installed is a `Missing` with a reason in words, which the table shows; it is never an error.

Everything started here dies with the harness (PR_SET_PDEATHSIG), also when that is killed outright.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from bench import proc

PEERS_DIR = Path(__file__).parent / "peers"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PR_SET_PDEATHSIG = 1

PYTHON_PEERS = {
    "floor": ("bench.peers.floor", ()),
    "trio-websocket": ("bench.peers.trio_websocket_server", ("trio_websocket",)),
    "websockets": ("bench.peers.websockets_server", ("websockets", "uvloop")),
    "picows": ("bench.peers.picows_server", ("picows", "uvloop")),
}
NODE_PEERS = {"ws": ("ws_server.js", "ws"), "socketio": ("socketio_server.js", "socket.io")}
PEERS = ("readback", "trio-websocket", "websockets", "picows", "ws", "socketio")
"""Those that ``--peer`` takes, in the order of the tables; `floor` is measured beside them always."""


class Missing(Exception):
    """A peer cannot be measured here; the message says why and what would help."""


@dataclass(slots=True)
class Server:
    """A running server. ``dialect`` names how the load generator must speak to it (`bench.gen.dialect`)."""

    peer: str
    port: int
    pid: int
    dialect: str = "plain"
    durable: bool = False
    note: str = ""
    postgres_pid: int | None = None
    tokens: Callable[[int], list[str]] | None = None
    """Tokens of n distinct principals, where the server wants any."""
    create_streams: Callable[[Sequence[str]], None] | None = None
    """Makes these streams, open to all of the tenant; ``None`` where streams come into being by themselves."""
    transactions: Callable[[], int] | None = None
    """Transactions that its Postgres has ended so far."""
    database_url: str | None = None

    @property
    def ports(self) -> list[int]:
        """Where it can be reached: one port, but for a cluster."""
        return [self.port]

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far by group: always ``server``, and ``postgres`` where there is one."""
        used = {"server": proc.cpu_s(self.pid)}
        if self.postgres_pid is not None:
            used["postgres"] = proc.tree_cpu_s(self.postgres_pid)
        return used


def open_files_max() -> int:
    """How many files a process of this user may open; the soft limit is often far lower, and is raised in `child`."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def child() -> None:
    """In a child before exec: SIGTERM when the harness is gone, however it went; as many open files as there may be."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    most = open_files_max()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(slots=True)
class Process:
    """A child with its output read a line at a time, and its errors kept in a temporary file for the report."""

    popen: subprocess.Popen[bytes]
    errors: IO[bytes]
    _whole: deque[str] = field(default_factory=deque)
    _rest: bytes = b""

    @classmethod
    def start(cls, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """``env`` is the child's whole environment; ``None`` for ours."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=None if env is None else dict(env),
            cwd=cwd,
            preexec_fn=child,
        )
        return cls(popen, errors)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def lines(self, timeout_s: float) -> Iterator[str]:
        """Lines of standard output until it ends; `TimeoutError` when all of them took longer than ``timeout_s``.

        A line that was not taken stays for the next call.
        """
        assert self.popen.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.popen.stdout, selectors.EVENT_READ)
            while True:
                while self._whole:
                    yield self._whole.popleft()
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no answer within {timeout_s:.0f} s. {self.last_errors()}")
                data = os.read(self.popen.stdout.fileno(), 1 << 20)
                if not data:
                    return
                *whole, self._rest = (self._rest + data).split(b"\n")
                self._whole.extend(line.decode(errors="replace") for line in whole)

    def last_errors(self, limit: int = 2000) -> str:
        """The end of what the process wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read()[-limit:].decode(errors="replace").strip()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, then SIGKILL for one that does not go; never any other process than this one."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.errors.close()


def listening_on(process: Process) -> list[int]:
    """The ports from the line ``listening <port> …``; `Missing` when the server ends before it says so."""
    try:
        for line in process.lines(START_TIMEOUT_S):
            word, *ports = line.split()
            if word == "listening":
                return [int(port) for port in ports]
    except TimeoutError as error:
        raise Missing(f"did not listen: {error}") from error
    process.popen.wait(STOP_TIMEOUT_S)
    raise Missing(f"ended at its start: {process.last_errors(300)}")


def node_modules(peers_dir: Path = PEERS_DIR) -> Path:
    """Where the Node peers' packages are, installed on first use from the lockfile; `Missing` where that cannot be."""
    if shutil.which("node") is None:
        raise Missing("Node is not installed")
    modules = peers_dir / "node_modules"
    if not (modules / ".package-lock.json").exists():
        npm = shutil.which("npm")
        if npm is None:
            raise Missing("npm is not installed, and its packages are not there yet")
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=peers_dir,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise Missing(f"npm could not install its packages: {done.stderr.strip().splitlines()[-1:]}")
    return modules


def command_of(peer: str) -> list[str]:
    """How to start a peer other than Readback; `Missing` where a package of it is not installed."""
    if peer in PYTHON_PEERS:
        module, needs = PYTHON_PEERS[peer]
        absent = [one for one in needs if find_spec(one) is None]
        if absent:
            raise Missing(f"not installed: {', '.join(absent)} (pip install 'readback[bench]')")
        return [sys.executable, "-m", module]
    script, package = NODE_PEERS[peer]
    if not (node_modules() / package).is_dir():
        raise Missing(f"the npm package {package} is not installed")
    return [shutil.which("node") or "node", str(PEERS_DIR / script)]


@contextlib.contextmanager
def started(peer: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A running peer for the length of the block; `Missing` when it is not installed or does not come up."""
    if peer == "readback":
        from bench.node import readback_node

        with readback_node() as server:
            yield server
        return
    process = Process.start(command_of(peer), {**os.environ, **(env or {})}, cwd=Path(__file__).parent.parent)
    try:
        port = listening_on(process)[0]
        dialect = "socketio" if peer == "socketio" else "plain"
        yield Server(peer, port, process.pid, dialect, note="" if peer == "floor" else "not durable")
    finally:
        process.stop()
