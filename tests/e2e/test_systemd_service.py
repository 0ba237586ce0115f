"""A node under a service manager, for real: inherited sockets, readiness, watchdog, reload, drain; alone and in pairs."""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from store.embedded_redis import embedded_redis
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import Serving, serving
from tests.wire_client import hello

HAND_OVER = 'exec 3<&"$0" 4<&"$1"; shift; export LISTEN_PID=$$; exec "$@"'
"""As systemd does it: the sockets on 3 and 4, and the number of the very process that is to take them."""


class Manager:
    """A service manager's end: two listening sockets, and an ear."""

    def __init__(self, folder: Path) -> None:
        self.websocket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.http = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(str(folder / "manager"))
        self.ear.setblocking(False)
        self.fds = [fcntl.fcntl(sock, fcntl.F_DUPFD, 50) for sock in (self.websocket, self.http)]
        self.heard: list[list[str]] = []

    @property
    def environ(self) -> dict[str, str]:
        return {
            "NOTIFY_SOCKET": self.ear.getsockname(),
            "WATCHDOG_USEC": "600000",
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "websocket:http",
        }

    def wrap(self, command: list[str]) -> list[str]:
        return ["bash", "-c", HAND_OVER, str(self.fds[0]), str(self.fds[1]), *command]

    async def hears(self, line: str, times: int = 1, timeout_s: float = 20.0) -> list[str]:
        """The datagram with this line, which may have come already; heard so often since the last one waited for."""
        with trio.fail_after(timeout_s):
            while True:
                found = [at for at, lines in enumerate(self.heard) if line in lines]
                if len(found) >= times:
                    datagram = self.heard[found[times - 1]]
                    del self.heard[: found[times - 1] + 1]
                    return datagram
                await trio.lowlevel.wait_readable(self.ear)
                self.heard.append(self.ear.recv(4_096).decode().split("\n"))

    def close(self) -> None:
        for sock in (self.websocket, self.http, self.ear):
            sock.close()
        for descriptor in self.fds:
            socket.close(descriptor)


@contextmanager
def managing(folder: Path) -> Iterator[Manager]:
    manager = Manager(folder)
    try:
        yield manager
    finally:
        manager.close()


async def status_of(served: Serving, path: str = "/readyz") -> int:
    async with httpx.AsyncClient(base_url=served.http) as client:
        return (await client.get(path)).status_code


async def test_the_life_of_a_service(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Ready, alive, reloaded, drained: told at each step; served on the sockets it was handed, which outlive it."""
    with managing(tmp_path) as manager:
        environ = {"READBACK_DATABASE_URL": database.url, **manager.environ}
        async with serving(tmp_path / "n", environ=environ, pass_fds=manager.fds, wrap=manager.wrap) as served:
            assert "STATUS=serving on port" in (await manager.hears("READY=1"))[1]
            assert served.port == manager.websocket.getsockname()[1]
            assert served.http_port == manager.http.getsockname()[1]
            await manager.hears("WATCHDOG=1", 3)
            assert await status_of(served) == 200
            async with hello(served.url) as client:
                assert (await client.ask("ping"))["op"] == "pong"
                served.process.send_signal(signal.SIGHUP)
                assert (await manager.hears("RELOADING=1"))[1].startswith("MONOTONIC_USEC=")
                await manager.hears("READY=1")
                served.process.send_signal(signal.SIGTERM)
                stopping = await manager.hears("STOPPING=1")
                assert "EXTEND_TIMEOUT_USEC=10000000" in stopping
                assert "STATUS=draining 1 connections" in stopping
                # Who comes now waits in the queue for the next start, and is not refused.
                with socket.create_connection(manager.websocket.getsockname(), timeout=1) as late:
                    assert "resume" in await client.next("drain")
                    await client.websocket.aclose()
                    assert await served.end() == 0
                    late.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        late.recv(1)


async def test_a_service_that_stands_still_is_silent(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """No loop, no beat: it is the loop that beats, and nothing beside it."""
    with managing(tmp_path) as manager:
        environ = {"READBACK_DATABASE_URL": database.url, **manager.environ}
        async with serving(tmp_path / "n", environ=environ, pass_fds=manager.fds, wrap=manager.wrap) as served:
            await manager.hears("WATCHDOG=1", 2)
            served.process.send_signal(signal.SIGSTOP)
            try:
                with trio.move_on_after(1.0):
                    await manager.hears("WATCHDOG=1", 3)  # one may have been on its way
                    raise AssertionError("it beats without a loop")
            finally:
                served.process.send_signal(signal.SIGCONT)
            await manager.hears("WATCHDOG=1", 2)


async def test_instances_share_sockets(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Two of readback@.service: they hear each other, one scrape tells of both, and when one drains, the other serves."""
    with managing(tmp_path) as manager, embedded_redis() as redis:
        environ = {
            "READBACK_DATABASE_URL": database.url,
            "READBACK_REDIS_URL": redis.url,
            "RUNTIME_DIRECTORY": str(tmp_path),
            **manager.environ,
        }
        options = {"pass_fds": manager.fds, "wrap": manager.wrap}
        async with (
            serving(tmp_path / "a", "--node", "gw-1", environ=environ, **options) as first,  # type: ignore[arg-type]
            serving(tmp_path / "b", "--node", "gw-2", environ=environ, **options) as second,  # type: ignore[arg-type]
        ):
            await manager.hears("READY=1", 2)
            assert first.port == second.port
            assert await first.metrics("readback_worker_up") == {"gw-1": 1.0, "gw-2": 1.0}
            first.process.send_signal(signal.SIGTERM)
            assert await first.end() == 0
            for _ in range(5):
                async with hello(second.url) as client:
                    assert (await client.ask("ping"))["op"] == "pong"
                assert await status_of(second) == 200
            assert await second.metrics("readback_worker_up") == {"gw-2": 1.0}


async def test_workers_and_inherited_sockets_do_not_go_together(
    tmp_path: Path,
    database: Database,  # noqa: F811
) -> None:
    """One sentence says which of the two ways to take."""
    with managing(tmp_path) as manager:
        environ = {
            "READBACK_DATABASE_URL": database.url,
            "READBACK_REDIS_URL": "redis://127.0.0.1:9",
            **manager.environ,
        }
        options = {"pass_fds": manager.fds, "wrap": manager.wrap, "wait": False}
        async with serving(tmp_path / "n", "--workers", "2", environ=environ, **options) as served:  # type: ignore[arg-type]
            assert await served.end() == 2
            assert "readback@.service" in served.words()


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="systemd-socket-activate is not on PATH to hand over sockets",
)
async def test_sockets_from_systemd_itself(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """systemd's own tool listens, and starts the node at the first connection, which is then served."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            ports.append(sock.getsockname()[1])
    listen = [f"--listen=127.0.0.1:{port}" for port in ports]

    def wrap(command: list[str]) -> list[str]:
        kept = [f"--setenv={name}" for name in ENVIRONMENT]
        return ["systemd-socket-activate", *listen, "--fdname=websocket:http", *kept, *command]

    environ = {"READBACK_DATABASE_URL": database.url}
    async with serving(tmp_path / "n", environ=environ, wrap=wrap, wait=False) as served:
        served.port, served.http_port = ports
        with trio.fail_after(20):
            while True:
                try:
                    assert await status_of(served) == 200
                    break
                except httpx.ConnectError:  # the tool does not listen yet
                    assert served.process.poll() is None, served.words()
                    await trio.sleep(0.05)
        async with hello(served.url) as client:
            assert (await client.ask("ping"))["op"] == "pong"
        served.process.send_signal(signal.SIGTERM)
        assert await served.end() == 0


ENVIRONMENT = (
    "PATH",
    "READBACK_DATABASE_URL",
    "READBACK_DEV_TOKENS",
    "READBACK_TOKEN_SECRETS",
    "READBACK_RESUME_KEYS",
    "READBACK_LIMIT_DRAIN_WINDOW_S",
)
