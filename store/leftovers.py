"""What the last server on a folder left behind: which processes still work there, and what its pid file says.

A process is known by its working directory, which is the data folder for every process of a Postgres server; a number in
a file is not proof, because numbers are given out again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from core.ports import StoreError


class LeftoverError(StoreError):
    """Processes of an earlier server that do not end."""


def stop_leftovers(pgdata: Path) -> None:
    """Stop every server process that works in ``pgdata``; drop its pid file where that names somebody else's process.

    The caller holds the folder's lock, so that a live server here is an orphan by definition. A pid file whose process
    is gone is left to Postgres, which also knows how to tell whether shared memory is still in use.
    """
    facts = read_postmaster(pgdata)
    pids = processes_in(pgdata)
    for sig, patience_s in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if not pids:
            break
        for pid in pids if facts is None or facts.pid not in pids else [facts.pid]:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience_s
        while (pids := processes_in(pgdata)) and time.monotonic() < deadline:
            time.sleep(0.02)
    if pids:
        raise LeftoverError(f"Postgres processes {pids} are still working in {pgdata} and cannot be stopped")
    facts = read_postmaster(pgdata)
    if facts is not None and _is_alive(facts.pid):
        (pgdata / "postmaster.pid").unlink()  # the number was given to another process since


class Postmaster:
    """The lines of postmaster.pid that matter here."""

    def __init__(self, lines: list[str]) -> None:
        self.pid = int(lines[0])
        self.socket_dir = lines[4].strip() if len(lines) > 4 else ""
        self.status = lines[7].strip() if len(lines) > 7 else ""


def read_postmaster(pgdata: Path) -> Postmaster | None:
    try:
        return Postmaster((pgdata / "postmaster.pid").read_text().splitlines())
    except (OSError, ValueError, IndexError):
        return None  # absent, or being written


def processes_in(pgdata: Path) -> list[int]:
    """Live ``postgres`` processes whose working directory is this folder, as every server process's is."""
    try:
        wanted = pgdata.stat()
    except OSError:
        return []
    if not os.path.isdir("/proc/self"):
        return _processes_by_command(pgdata)
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            here = os.stat(f"/proc/{name}/cwd")
            if (here.st_dev, here.st_ino) != (wanted.st_dev, wanted.st_ino):
                continue
            if Path(f"/proc/{name}/comm").read_text().strip() == "postgres":
                found.append(int(name))
        except OSError:
            continue  # gone, or not ours to see
    return found


def _processes_by_command(pgdata: Path) -> list[int]:
    """Where there is no /proc: the postmaster, by its command line."""
    facts = read_postmaster(pgdata)
    if facts is None:
        return []
    done = subprocess.run(["ps", "-o", "command=", "-p", str(facts.pid)], capture_output=True, text=True, check=False)
    return [facts.pid] if "postgres" in done.stdout and str(pgdata) in done.stdout else []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
