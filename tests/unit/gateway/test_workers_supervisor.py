"""gateway.workers: who is started again, when, and how all end; with workers of a few lines in place of nodes."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from core.limits import Limits
from gateway import workers
from gateway.cli_errors import CANNOT, USAGE, CliError
from gateway.config import Config, load_config
from gateway.systemd import Notifier
from gateway.workers import Supervisor, environment_of, how_it_ended, reserve_port, run_folder
from tests.nodes import until
from tests.serving import is_running

WORKER = """
import os, signal, socket, sys, time
number = sys.argv[sys.argv.index("--number") + 1]
folder = sys.argv[sys.argv.index("--folder") + 1]
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say = lambda text: manager.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def note(name):
    with open(os.path.join(folder, f"{number}.{name}"), "a") as file:
        file.write(f"{os.getpid()}\\n")
def leave(*_):
    note("left")
    say("STOPPING=1")
    sys.exit(0)
BODY
"""

SERVES = """
for name in (signal.SIGTERM, signal.SIGUSR1): signal.signal(name, leave)
signal.signal(signal.SIGHUP, lambda *_: note("reloaded"))
note("started")
say("READY=1")
while True: time.sleep(60)
"""
ENDS_SOON = "note('started'); say('READY=1'); sys.exit(5)"
ENDS_UNREADY = "note('started'); sys.exit(2)"
STUBBORN = """
for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1): signal.signal(name, lambda *_: note("asked"))
note("started")
say("READY=1")
while True: time.sleep(60)
"""
ONCE_THEN_NOT = (
    """
if os.path.exists(os.path.join(folder, f"{number}.started")): note("again"); sys.exit(9)
"""
    + SERVES
)


class Stage:
    def __init__(self, folder: Path, supervisor: Supervisor) -> None:
        self.folder = folder
        self.supervisor = supervisor
        self.ready = trio.Event()
        self.done = trio.Event()
        self.error: BaseException | None = None

    def noted(self, number: int, what: str) -> list[int]:
        """Process numbers of those that noted it."""
        try:
            return [int(line) for line in (self.folder / f"{number}.{what}").read_text().split()]
        except FileNotFoundError:
            return []

    def pid(self, number: int) -> int:
        return self.supervisor.workers[number].process.pid

    async def run(self) -> None:
        try:
            await self.supervisor.run(self.ready.set)
        except* CliError as group:
            self.error = group
        finally:
            self.done.set()

    def sentence(self) -> CliError:
        """The one that it ended with, from however deep a nursery."""
        error: BaseException | None = self.error
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, CliError)
        return error


@asynccontextmanager
async def stage(folder: Path, body: str = SERVES, count: int = 2, window_s: float = 1.0) -> AsyncIterator[Stage]:
    config = Config(workers=count, limits=replace(Limits(), drain_window_s=window_s))
    command = (sys.executable, "-S", "-c", WORKER.replace("BODY", body))
    made = Stage(folder, Supervisor(config, folder, command=command, environ={}, notifier=Notifier({})))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about what happens, not about how long people wait for it."""
    monkeypatch.setattr(workers, "PAUSE_MIN_S", 0.01)
    monkeypatch.setattr(workers, "SLACK_S", 0.5)
    monkeypatch.setattr(workers, "HURRY_S", 0.5)


async def test_all_start_and_all_drain(tmp_path: Path) -> None:
    """Ready when each is; SIGTERM to all; gone when each has left."""
    async with stage(tmp_path) as made:
        await made.ready.wait()
        pids = [made.pid(1), made.pid(2)]
        made.supervisor.drain()
        await made.done.wait()
        assert made.error is None
        assert [made.noted(number, "left") for number in (1, 2)] == [[pid] for pid in pids]
        assert not any(map(is_running, pids))


async def test_one_that_ends_is_started_again_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other is not touched, and how it ended is said."""
    async with stage(tmp_path) as made:
        await made.ready.wait()
        first, second = made.pid(1), made.pid(2)
        os.kill(first, signal.SIGKILL)
        await until(lambda: made.pid(1) != first)
        assert made.pid(2) == second
        assert "worker 1 ended by SIGKILL; starting it again" in caplog.text
        assert made.noted(2, "started") == [second]


async def test_one_that_keeps_ending_is_not_started_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pause doubles each time, up to a bound."""
    monkeypatch.setattr(workers, "PAUSE_MIN_S", 0.1)
    monkeypatch.setattr(workers, "PAUSE_MAX_S", 0.2)
    async with stage(tmp_path, ENDS_SOON, count=1):
        await until(lambda: caplog.text.count("starting it again") >= 4, 20)
    assert re.findall(r"with status 5; starting it again in ([\d.]+) s", caplog.text)[:4] == [
        "0.1",
        "0.2",
        "0.2",
        "0.2",
    ]


async def test_a_first_start_that_fails_ends_all(tmp_path: Path) -> None:
    """Its status is ours where it says whose fault it was, and nobody is left running."""
    body = f"if number == '1':\n    {ENDS_UNREADY}\n" + SERVES
    async with stage(tmp_path, body) as made:
        await made.done.wait()
        assert made.sentence().code == USAGE
        assert "worker 1 could not start: it ended with status 2" in str(made.sentence())
        assert not any(map(is_running, made.noted(2, "started")))


async def test_a_fault_at_the_first_start_is_told_as_such(tmp_path: Path) -> None:
    """A status that means nothing to a script becomes "cannot"."""
    async with stage(tmp_path, "sys.exit(70)", count=1) as made:
        await made.done.wait()
        assert made.sentence().code == CANNOT


async def test_reload_reaches_each(tmp_path: Path) -> None:
    """SIGHUP is passed on."""
    async with stage(tmp_path) as made:
        await made.ready.wait()
        made.supervisor.reload()
        await until(lambda: bool(made.noted(1, "reloaded")) and bool(made.noted(2, "reloaded")))


async def test_replaced_one_after_the_other(tmp_path: Path) -> None:
    """Each successor was ready before the old one was asked to leave; the second waits for the first."""
    async with stage(tmp_path) as made:
        await made.ready.wait()
        old = [made.pid(1), made.pid(2)]
        made.supervisor.roll()
        await until(lambda: bool(made.noted(2, "left")))
        assert [made.noted(1, "left"), made.noted(2, "left")] == [[old[0]], [old[1]]]
        await until(lambda: made.pid(2) != old[1])
        assert all(map(is_running, (made.pid(1), made.pid(2))))
        starts = [made.noted(number, "started") for number in (1, 2)]
        assert [len(found) for found in starts] == [2, 2]


async def test_a_successor_that_fails_leaves_all_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A version that does not start replaces nobody."""
    async with stage(tmp_path, ONCE_THEN_NOT) as made:
        await made.ready.wait()
        old = [made.pid(1), made.pid(2)]
        made.supervisor.roll()
        await until(lambda: "the others stay as they are" in caplog.text)
        assert [made.pid(1), made.pid(2)] == old
        assert all(map(is_running, old))


async def test_one_that_does_not_leave_is_killed(tmp_path: Path) -> None:
    """After its window and some slack."""
    async with stage(tmp_path, STUBBORN, count=1, window_s=0.1) as made:
        await made.ready.wait()
        pid = made.pid(1)
        made.supervisor.drain()
        await made.done.wait()
        assert made.noted(1, "asked")
        assert not is_running(pid)


async def test_hurried(tmp_path: Path) -> None:
    """Cancelled, as by a second Ctrl-C: each is told, and whoever stays is killed soon."""
    async with stage(tmp_path, STUBBORN, count=2) as made:
        await made.ready.wait()
        pids = [made.pid(1), made.pid(2)]
    assert not any(map(is_running, pids))


async def test_one_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It said that it was ready, and nothing more: SIGABRT, and another takes its place."""
    monkeypatch.setattr(workers, "WATCHDOG_S", 0.1)
    async with stage(tmp_path, "note('started')\nsay('READY=1')\nwhile True: time.sleep(60)", count=1) as made:
        await made.ready.wait()
        await until(lambda: "worker 1 ended by SIGABRT" in caplog.text)
        assert "hangs: its loop did not turn" in caplog.text


# What a worker is told


def test_a_worker_has_the_very_configuration() -> None:
    """Whatever the sources were, variables alone give it back."""
    arguments = {
        "port": "0",
        "http_port": "0",
        "workers": "3",
        "host": "::1",
        "origins": "https://a.example,https://b.example",
    }
    environ = {
        "READBACK_DATABASE_URL": "postgresql://u:p@db/x",
        "READBACK_REDIS_URL": "redis://:p@r/0",
        "READBACK_LIMIT_CONNECTIONS_MAX": "77",
        "READBACK_LOG_LEVEL": "error",
        "LISTEN_FDS": "2",
        "NOTIFY_SOCKET": "/run/x",
        "PATH": "/bin",
    }
    config = load_config(environ=environ, arguments=arguments)
    told = environment_of(config, environ)
    same = load_config(environ=told)
    assert replace(same, secrets_file=None, workers=3) == config
    assert (same.workers, same.secrets_path) == (1, config.secrets_path)
    assert told["PATH"] == "/bin"
    assert not {"LISTEN_FDS", "NOTIFY_SOCKET"} & set(told)


def test_any_origin_stays_any_origin() -> None:
    """The one value of a setting that is nothing in Python."""
    config = load_config(environ={"READBACK_ORIGINS": "*"})
    assert load_config(environ=environment_of(config, {})).origins is None


def test_the_log_level_stays_with_the_file(tmp_path: Path) -> None:
    """So that a reload finds another there."""
    file = tmp_path / "r.toml"
    file.write_text('log_level = "error"\n')
    environ = {"READBACK_CONFIG": str(file)}
    told = environment_of(load_config(environ=environ), environ)
    assert load_config(environ=told).log_level == "error"
    file.write_text('log_level = "debug"\n')
    assert load_config(environ=told).log_level == "debug"


def test_a_reserved_port_takes_nothing() -> None:
    """Who asks for the number without sharing is refused, who shares may listen, and nobody gets through to us."""
    with reserve_port("127.0.0.1", 0) as reserved:
        address = reserved.getsockname()
        with socket.socket() as sock, pytest.raises(OSError):
            sock.bind(address)
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(address)
        with reserve_port(*address) as second:
            second.listen()
            with socket.create_connection(address):
                pass


def test_the_folder_is_ours_alone_and_goes(tmp_path: Path) -> None:
    """Inside the unit's runtime folder, where systemd made one."""
    with run_folder({"RUNTIME_DIRECTORY": str(tmp_path)}) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "x").touch()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("status", "words"), [(0, "with status 0"), (3, "with status 3"), (-9, "by SIGKILL"), (-99, "by signal 99")]
)
def test_ends_in_words(status: int, words: str) -> None:
    """As an operator says it."""
    assert how_it_ended(status) == words
