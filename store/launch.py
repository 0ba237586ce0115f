"""How a server that refuses to run as root is started by root: as ``nobody``, or in a user namespace.

Every command is started through a few lines of Python that change the user, ask the kernel for a signal when their
parent ends, and then become the command. They run before the command in its own process, so that nothing has to be done
between fork and exec in a process with threads.

In the user namespace the outer user (root, or a number without an entry in the password file, which initdb refuses too)
is mapped to ``nobody``: the server believes that it is nobody, owns its files, and reads what root can read.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NOBODY_UID = 65534  # the number that Linux means by "nobody"; the one user that every system has

_BECOME = """
import ctypes, os, signal, sys
mode, parent, uid, gid, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
if mode == "user":
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
elif mode == "namespace":
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if libc.unshare(0x10000000) != 0:
        sys.exit("no user namespace: " + os.strerror(ctypes.get_errno()))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {outer_uid} 1"), ("gid_map", f"{gid} {outer_gid} 1")):
        with open("/proc/self/" + name, "w") as f:
            f.write(text)
if parent != "0":
    if sys.platform == "linux":
        libc.prctl(1, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
os.umask(0o077)
os.execv(command[0], command)
"""


@dataclass(frozen=True, slots=True)
class Launcher:
    """``uid`` and ``gid`` own the server's files as seen from outside; ``None`` where no user has to change."""

    mode: str  # "plain", "user" or "namespace"
    uid: int | None
    gid: int

    def command(self, command: list[str], *, stops_with_us: bool = False) -> list[str]:
        """``stops_with_us``: the command gets SIGINT (to Postgres, a fast shutdown) when the starting thread ends."""
        parent = str(os.getpid()) if stops_with_us else "0"
        inner = (NOBODY_UID, nobody_gid()) if self.mode != "plain" else (0, 0)
        return [sys.executable, "-I", "-S", "-c", _BECOME, self.mode, parent, str(inner[0]), str(inner[1]), *command]


def nobody_gid() -> int:
    try:
        return pwd.getpwuid(NOBODY_UID).pw_gid
    except KeyError:
        return NOBODY_UID


def choose_launcher(data_dir: Path, bin_dir: Path) -> Launcher | str:
    """The first of plain, nobody, user namespace that works here, or a sentence that says what to do."""
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 and _has_name(uid):
        return Launcher("plain", None, gid)
    if uid == 0 and _has_name(NOBODY_UID) and _passable(data_dir) and _readable_by_others(bin_dir):
        return Launcher("user", NOBODY_UID, nobody_gid())
    namespace = Launcher("namespace", uid, gid)
    why = _try(namespace, bin_dir)
    if why is None:
        return namespace
    if uid != 0:
        return f"user number {uid} has no name here, which Postgres needs ({why}): give it one, or use --database-url"
    return (
        f"Postgres refuses to run as root, and the user nobody cannot reach {data_dir} or {bin_dir} ({why}): "
        "run Readback as another user, or set READBACK_DATA to a folder that others may pass through, as in /var/lib"
    )


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _passable(path: Path) -> bool:
    """Whether others may pass through this folder and all above it."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _readable_by_others(bin_dir: Path) -> bool:
    """The binaries and what initdb reads: a pip under a tight umask leaves files that only their owner may read."""
    share = bin_dir.parent / "share"
    sample = next(share.rglob("postgres.bki"), None)
    if sample is None or not (sample.stat().st_mode & 0o004 and _passable(sample.parent)):
        return False
    binary = bin_dir / "postgres"
    library = bin_dir.parent / "lib"
    return bool(binary.stat().st_mode & 0o001) and _passable(bin_dir) and bool(library.stat().st_mode & 0o001)


def _try(launcher: Launcher, bin_dir: Path) -> str | None:
    """Why a launcher does not work here; ``None`` where it does."""
    done = subprocess.run(
        launcher.command([str(bin_dir / "postgres"), "--version"]), capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]
