"""What /proc says of a process: CPU used, memory held; and the facts of this machine that a figure needs beside it.

CPU is utime + stime of all threads from ``/proc/<pid>/stat`` in clock ticks (10 ms on usual kernels), so a measured
window should hold a second or more of it. For a tree (Postgres) children that ended are included through their
parent's cutime/cstime, so that a backend that exits inside a window is not forgotten.

Does not: work on anything but Linux. Reads nothing of processes it was not asked about.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on (the name may hold spaces and brackets), ``None`` if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def cpu_s(pid: int) -> float:
    """CPU seconds used so far by all threads of ``pid``; 0 when the process is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * TICK_S if fields else 0.0


def children(pid: int) -> list[int]:
    """Direct children, of every thread."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def tree(pid: int) -> list[int]:
    """``pid`` and all that descend from it."""
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a whole tree, with the children that ended and were waited for."""
    total = 0.0
    for one in tree(pid):
        fields = _stat(one)
        if fields:
            total += sum(map(int, fields[11:15])) * TICK_S
    return total


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def rss_bytes(pid: int) -> int:
    """Resident memory as ``smaps_rollup`` counts it page by page (``statm`` is batched a CPU and may lag); 0 if gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts beside every figure: enough to judge it, nothing that names the machine."""

    cores: int
    memory_gib: float
    kernel: str
    python: str
    node: str | None
    load_1m: float
    """Load average of the last minute when the run began: above 0.5 something else was running too."""


def machine() -> Machine:
    node = shutil.which("node")
    version: str | None = None
    if node:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10, check=False)
        version = answer.stdout.strip().lstrip("v") or None
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=platform.release().split("-")[0],
        python=platform.python_version(),
        node=version,
        load_1m=round(os.getloadavg()[0], 2),
    )
