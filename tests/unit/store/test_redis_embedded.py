"""The embedded Redis: up on a free port, gone with its owner, and faults at a word."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from store import embedded_redis as module
from store import keep_up
from store.embedded_redis import EmbeddedRedis, EmbeddedRedisError, embedded_redis, find_redis_server, running_redis

START_AND_WAIT = """
import time
from store.embedded_redis import EmbeddedRedis
server = EmbeddedRedis()
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def ask(server: EmbeddedRedis, *lines: str) -> str:
    """The last line of what it says to inline commands, after logging in."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as link, link.makefile("rwb") as file:
        answer = ""
        for line in (*([f"AUTH {server.password}"] if server.password else []), *lines):
            file.write(line.encode() + b"\r\n")
            file.flush()
            answer = file.readline().decode().strip()
        return answer


def is_gone(pid: int) -> bool:
    """Whether a process that is not our child has ended; a zombie has, since its new parent may be slow."""
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_it_answers_inside_the_block_and_is_gone_after() -> None:
    """Port, pid and version are there at once; afterwards neither process nor folder is."""
    with embedded_redis() as server:
        pid, folder = server.pid, server._folder
        assert ask(server, "PING") == "+PONG"
        assert server.version >= (6, 2)
        assert folder is not None
        assert (folder / "redis.conf").stat().st_mode & 0o077 == 0
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


def test_it_asks_for_the_password_in_its_url() -> None:
    """Another user of the machine gets no further than a refusal."""
    with embedded_redis() as server:
        assert f":{server.password}@127.0.0.1:{server.port}" in server.url
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            link.sendall(b"CONFIG GET dir\r\n")
            assert link.recv(64).startswith(b"-NOAUTH")


def test_options_of_the_command_line_and_a_folder_of_the_callers(tmp_path: Path) -> None:
    """A given folder is used and left; options go to the server; no password where none is wanted."""
    folder = tmp_path / "redis"
    with embedded_redis(folder, args=("--databases", "3"), password="") as server:
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert ask(server, "SELECT 2") == "+OK"
        assert ask(server, "SELECT 3").startswith("-ERR")
    assert (folder / "redis.log").exists()


def test_killed_it_comes_back_on_its_port() -> None:
    """What clients hold is still the right address."""
    with embedded_redis() as server:
        port = server.port
        server.kill()
        assert server.pid is None
        server.start()
        assert server.port == port
        assert ask(server, "PING") == "+PONG"


def test_a_frozen_one_says_nothing_until_it_is_thawed_and_can_still_be_stopped() -> None:
    """Links stay open and silent."""
    with embedded_redis(password="") as server, socket.create_connection(("127.0.0.1", server.port)) as link:
        server.freeze()
        link.sendall(b"PING\r\n")
        link.settimeout(0.05)
        with pytest.raises(TimeoutError):
            link.recv(16)
        server.thaw()
        link.settimeout(5.0)
        assert link.recv(16) == b"+PONG\r\n"
        server.freeze()


def test_an_option_that_it_does_not_know_is_an_error_with_its_words() -> None:
    """And nothing is left behind."""
    server = EmbeddedRedis(args=("--port", "700000"))
    with pytest.raises(EmbeddedRedisError, match="redis-server"):
        server.start()
    assert server.pid is None


async def test_one_that_ends_by_itself_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would; one that was killed by its owner stays down."""
    monkeypatch.setattr(keep_up, "WATCH_S", 0.01)
    async with running_redis() as server:
        first = server.pid
        assert first is not None
        os.kill(first, 9)
        with trio.fail_after(10):
            while server.pid in (first, None):  # noqa: ASYNC110  a process's end makes no event
                await trio.sleep(0.01)
            await trio.to_thread.run_sync(server.wait_ready)
        assert ask(server, "PING") == "+PONG"
        server.kill()
        await trio.sleep(0.05)
        assert server.pid is None


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """A gateway that was killed leaves no Redis behind, only its folder."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", START_AND_WAIT], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[0])
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10.0
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(pid)


def test_what_to_install_is_said_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, with what was found."""
    with pytest.raises(EmbeddedRedisError, match=r"no redis-server 99\.0 or newer here \(there is only .*install"):
        find_redis_server((99, 0))
    monkeypatch.setattr(module, "_candidates", lambda: iter([Path("/nonexistent/redis-server")]))
    with pytest.raises(EmbeddedRedisError, match=r"no redis-server 6\.2 or newer here: install"):
        find_redis_server()
