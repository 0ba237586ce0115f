"""Several node processes on one port, and the one that looks after them: `readback serve --workers N`.

For: using more than one core of a machine. The parent reserves both ports and serves nothing itself; each worker is a
whole node that listens on the same numbers (SO_REUSEPORT: the kernel spreads newcomers) and hears its siblings over Redis
like any other node. Parent and workers speak as systemd and a service do (`gateway.systemd`): a worker says when it is
ready and shows signs of life, the parent ends one that hangs.

    SIGTERM, SIGINT   drain all, each in its window; once more hurries
    SIGHUP            every worker takes its keys and the log level anew
    SIGUSR2           replace the workers one by one, each drained once its successor serves: a new version, no gap

Promises: the end of one worker touches no other's clients; it is started again, after a pause that grows to
`PAUSE_MAX_S` while it ends soon; if the parent dies, its workers drain (PR_SET_PDEATHSIG). Does not: share anything
between workers but the ports and a folder in which they answer each other (`gateway.gather`).
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import count
from pathlib import Path

import trio

from gateway.cli_errors import CANNOT, USAGE, CliError
from gateway.config import LIMIT_PREFIX, SETTINGS, Config, Ready, load_config, without_password
from gateway.gather import gather_in
from gateway.systemd import Notifier

log = logging.getLogger("readback.workers")

START_TIMEOUT_S = 60.0
WATCHDOG_S = 15.0
"""A loop that has not turned for so long is held by something that will not let go of it."""
PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 10.0
STABLE_S = 30.0
"""One that served so long is started again at once, however often it ended before."""
SLACK_S = 15.0
"""Beyond the drain window, until a worker that was asked to end is killed: the HTTP API's last answers, and closing."""
HURRY_S = 5.0

Say = Callable[[str], None]


def environment_of(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables by which `load_config` gives a worker this very configuration.

    Settings go this way and not as arguments, which every user of the machine can read. The log level stays with the
    file, where there is one, so that a reload finds it there.
    """
    ours = {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}
    result = {name: value for name, value in environ.items() if name not in ours and not name.startswith(LIMIT_PREFIX)}
    for setting in SETTINGS:
        if setting.name == "log_level" and "READBACK_CONFIG" in environ:
            continue
        value = _as_text(getattr(config, setting.name))
        if setting.name == "origins" and config.origins is None:
            value = "*"
        if value:
            result[setting.variable] = value
        else:
            result.pop(setting.variable, None)
    result["READBACK_WORKERS"] = "1"
    result["READBACK_SECRETS_FILE"] = str(config.secrets_path)
    # Likewise the limits that stand there: who has them from the file looks there again.
    there = load_config(environ=environ).limits if "READBACK_CONFIG" in environ else None
    for limit in fields(config.limits):
        value, variable = getattr(config.limits, limit.name), LIMIT_PREFIX + limit.name.upper()
        if there is None or variable in environ or value != getattr(there, limit.name):
            result[variable] = str(value)
    # Found wherever this very code was found, and never in the folder somebody happens to stand in.
    result["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_home()), environ.get("PYTHONPATH"))))
    return result


def _as_text(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return ",".join(sorted(value))
    return "" if value is None else str(value)


def _home() -> Path:
    return Path(__file__).parents[1]


def die_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends, and see that it has not ended already."""
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise CliError("the process that started this worker is gone")


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that holds the number for workers to listen on, and takes no connection itself."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def run_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    """A folder for the workers' sockets that only we may enter, gone at the end. Short: a socket's path has 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="readback-", dir=gather_in(environ)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def how_it_ended(status: int) -> str:
    """A process' return code, in words."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


class Worker:
    """One process. Started from the main thread, since the kernel's promise of `die_with` is about the thread."""

    def __init__(self, number: int, address: Path, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.number = number
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.asked = False
        """Its end is what we want."""
        self.began_s = self._heard_s = trio.current_time()
        self._address = address
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setblocking(False)
        self._notify.bind(str(address))
        told = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        # A group of its own: a Ctrl-C in the terminal is for the parent, which then asks each once.
        self.process = subprocess.Popen(
            command, env={**environ, **told}, stdin=subprocess.DEVNULL, process_group=0, close_fds=True
        )

    def send(self, number: signal.Signals) -> None:
        """Nothing happens to one that has ended."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals) -> None:
        self.asked = True
        self.send(number)

    async def watch(self) -> None:
        """Until it has ended."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear)
                nursery.start_soon(self._see_that_it_lives)
                descriptor = os.pidfd_open(self.process.pid)
                try:
                    await trio.lowlevel.wait_readable(descriptor)
                finally:
                    os.close(descriptor)
                self.process.wait()
                nursery.cancel_scope.cancel()
            self.ended.set()
        finally:
            self._notify.close()
            self._address.unlink(missing_ok=True)

    async def _hear(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._notify)
            try:
                lines = self._notify.recv(4_096).decode("utf-8", "replace").split("\n")
            except BlockingIOError:
                continue
            self._heard_s = trio.current_time()
            if "READY=1" in lines:
                self.ready.set()

    async def _see_that_it_lives(self) -> None:
        await self.ready.wait()
        while True:
            due_s = trio.current_time() + WATCHDOG_S / 5
            await trio.sleep_until(due_s)
            now_s = trio.current_time()
            if now_s - due_s > 1.0:
                continue  # it was us who slept; what it said meanwhile is read first
            if now_s - self._heard_s > WATCHDOG_S and not self.asked:
                log.error("worker %d hangs: its loop did not turn for %.0f s; ending it", self.number, WATCHDOG_S)
                self.send(signal.SIGABRT)  # its fault handler then writes where it stood
                await trio.sleep(HURRY_S)
                self.send(signal.SIGKILL)


class Supervisor:
    """Keeps ``config.workers`` of them. ``command`` and ``environ`` are a worker's, but for what is its own."""

    def __init__(
        self, config: Config, folder: Path, *, command: Sequence[str], environ: Mapping[str, str], notifier: Notifier
    ) -> None:
        self.workers: dict[int, Worker] = {}
        """Who serves under each number."""
        self._config = config
        self._folder = folder
        self._command = tuple(command)
        self._environ = environ
        self._notifier = notifier
        self._alive: set[Worker] = set()
        """Everybody, those too who are being replaced."""
        self._serials = count(1)
        self._watchers: trio.Nursery
        self._replacing = {number: trio.Lock() for number in range(1, config.workers + 1)}
        self._asked = trio.Event()
        self._roll = trio.Event()

    # What signals do

    def drain(self) -> None:
        self._asked.set()

    def reload(self) -> None:
        for worker in self._alive:
            worker.send(signal.SIGHUP)

    def roll(self) -> None:
        self._roll.set()

    # The life of all

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Until drained, or cancelled. Raises `CliError` where one cannot even start the first time."""
        async with trio.open_nursery() as self._watchers:
            try:
                async with trio.open_nursery() as tending:
                    tending.start_soon(self._notifier.feed_watchdog)
                    first = [self._launch(number) for number in self._replacing]
                    for worker in first:
                        if not await self._starts(worker):
                            raise _cannot_start(worker)
                    self._notifier.ready(self._status())
                    on_ready()
                    for number in self._replacing:
                        tending.start_soon(self._keep, number)
                    tending.start_soon(self._roll_when_asked)
                    await self._asked.wait()
                    tending.cancel_scope.cancel()
                await self._drain_all()
            finally:
                with trio.CancelScope(shield=True):
                    await self._end_all()
            self._watchers.cancel_scope.cancel()

    def _status(self) -> str:
        serving = sum(worker.ready.is_set() and not worker.ended.is_set() for worker in self.workers.values())
        return f"{serving} of {len(self._replacing)} workers serve"

    def _launch(self, number: int) -> Worker:
        """A process under this number; whoever served under it so far stays in place until `_starts` says yes."""
        address = self._folder / f"{number}.{next(self._serials)}.notify"
        command = (*self._command, "--number", str(number), "--folder", str(self._folder), "--parent", str(os.getpid()))
        worker = Worker(number, address, command, self._environ)
        self._alive.add(worker)
        self._watchers.start_soon(self._watch, worker)
        return worker

    async def _watch(self, worker: Worker) -> None:
        await worker.watch()
        self._alive.discard(worker)

    async def _starts(self, worker: Worker) -> bool:
        """Wait until it is ready, and put it in place; False for one that ended first, or never was ready."""
        with trio.move_on_after(START_TIMEOUT_S):
            async with trio.open_nursery() as nursery:

                async def give_up_at_its_end() -> None:
                    await worker.ended.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(give_up_at_its_end)
                await worker.ready.wait()
                nursery.cancel_scope.cancel()
        if not worker.ready.is_set():
            worker.end(signal.SIGKILL)
            return False
        self.workers[worker.number] = worker
        self._notifier.status(self._status())
        return True

    async def _keep(self, number: int) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            worker = self.workers[number]
            await worker.ended.wait()
            async with self._replacing[number]:
                if self.workers[number] is not worker:
                    continue  # it was replaced, and asked to go
                self._notifier.status(self._status())
                if trio.current_time() - worker.began_s > STABLE_S:
                    pause_s = PAUSE_MIN_S
                how = how_it_ended(worker.process.returncode)
                log.error("worker %d ended %s; starting it again in %.1f s", number, how, pause_s)
                while True:
                    await trio.sleep(pause_s)
                    pause_s = min(pause_s * 2, PAUSE_MAX_S)
                    if await self._starts(worker := self._launch(number)):
                        break
                    log.error("worker %d does not start; trying again in %.1f s", number, pause_s)
            log.warning("worker %d serves again", number)

    async def _roll_when_asked(self) -> None:
        while True:
            await self._roll.wait()
            await self._roll_all()
            self._roll = trio.Event()

    async def _roll_all(self) -> None:
        """A successor first, then the drain: at no time fewer serve than should. One that fails leaves all as it is."""
        for number, lock in self._replacing.items():
            async with lock:
                old = self.workers[number]
                if not await self._starts(self._launch(number)):
                    log.error("the successor of worker %d does not start: the others stay as they are", number)
                    return
            old.end(signal.SIGUSR1)
            with trio.move_on_after(self._config.limits.drain_window_s + SLACK_S):
                await old.ended.wait()
            if not old.ended.is_set():
                log.error("worker %d does not end; killing it", number)
                old.send(signal.SIGKILL)
        log.warning("all workers were replaced")

    # The end of all

    async def _drain_all(self) -> None:
        self._notifier.stopping(f"draining {len(self._alive)} workers")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._notifier.extend_while_stopping)
            for worker in list(self._alive):
                if not worker.asked:
                    worker.end(signal.SIGTERM)
            with trio.move_on_after(self._config.limits.drain_window_s + SLACK_S):
                for worker in list(self._alive):
                    await worker.ended.wait()
            nursery.cancel_scope.cancel()

    async def _end_all(self) -> None:
        """Whoever is left, at once: after a drain nobody is. Looks for itself, since the watchers may be cancelled."""
        for number, patience_s in ((signal.SIGINT, HURRY_S), (signal.SIGKILL, HURRY_S)):
            left = [worker for worker in self._alive if worker.process.poll() is None]
            for worker in left:
                # A worker that was asked already hurries at the second signal; to another it is the first, and the last.
                if number is signal.SIGINT and not worker.asked:
                    worker.end(signal.SIGTERM)
                    await trio.sleep(0.05)  # or two signals might be met as one
                worker.end(number)
            with trio.move_on_after(patience_s):
                while any(worker.process.poll() is None for worker in left):  # noqa: ASYNC110  # nobody watches any more
                    await trio.sleep(0.02)


def _cannot_start(worker: Worker) -> CliError:
    status = worker.process.poll()
    how = "was not ready in time" if status is None else f"ended {how_it_ended(status)}"
    code = status if status in (USAGE, CANNOT) else CANNOT
    return CliError(f"worker {worker.number} could not start: it {how}; what it said stands above", code or CANNOT)


WORKER_COMMAND = (sys.executable, "-P", "-m", "gateway", "worker")


async def run_workers(
    config: Config, *, on_ready: Callable[[Ready], None], notifier: Notifier, reloads: bool = True
) -> None:
    """Serve with ``config.workers`` processes until drained or cancelled."""
    assert config.database_url is not None
    database = without_password(config.database_url)
    with (
        run_folder(os.environ) as folder,
        reserve_port(config.host, config.port) as sock,
        reserve_port(config.http_host, config.http_port) as http_sock,
    ):
        port, http_port = sock.getsockname()[1], http_sock.getsockname()[1]
        environ = environment_of(config, os.environ)
        environ["READBACK_PORT"], environ["READBACK_HTTP_PORT"] = str(port), str(http_port)
        supervisor = Supervisor(config, folder, command=WORKER_COMMAND, environ=environ, notifier=notifier)

        def ready() -> None:
            reload = supervisor.reload if reloads else None
            on_ready(Ready(port, http_port, database, supervisor.drain, reload=reload, roll=supervisor.roll))

        await supervisor.run(ready)
