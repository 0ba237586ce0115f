"""bench.proc: CPU, memory and children are read from /proc for the processes asked about."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench import proc

GONE = 2**22 + 1
"""Above the greatest pid that Linux gives out."""


def test_cpu_used_by_a_process_is_counted() -> None:
    """Work done between two readings is in the second one."""
    before = proc.cpu_s(os.getpid())
    until = time.process_time() + 3 * proc.TICK_S
    while time.process_time() < until:
        pass
    assert proc.cpu_s(os.getpid()) > before


def test_a_process_that_is_gone_has_used_nothing() -> None:
    """A server that ended inside a window is a figure of zero, which the caller refuses; not a crash."""
    assert proc.cpu_s(GONE) == 0.0
    assert proc.tree_cpu_s(GONE) == 0.0
    assert proc.rss_bytes(GONE) == 0
    assert proc.children(GONE) == []


def test_children_belong_to_the_tree() -> None:
    """A child is found below its parent and nowhere else."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in proc.children(os.getpid())
        assert child.pid in proc.tree(os.getpid())
        assert proc.tree(child.pid) == [child.pid]
        assert proc.rss_bytes(child.pid) > 0
    finally:
        child.communicate()
    assert child.pid not in proc.tree(os.getpid())


def test_cpu_of_a_child_that_ended_stays_in_the_tree() -> None:
    """A Postgres backend that exits inside a window is not forgotten."""
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    before = proc.tree_cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert proc.tree_cpu_s(os.getpid()) - before >= 0.1 - 2 * proc.TICK_S


def test_memory_that_is_touched_is_resident() -> None:
    """Resident memory follows what the process really holds."""
    before = proc.rss_bytes(os.getpid())
    held = bytearray(32 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    assert proc.rss_bytes(os.getpid()) - before > 16 * 2**20


def test_the_machine_is_described_without_naming_it() -> None:
    """Cores, memory and versions; no host name and no path."""
    made = proc.machine()
    assert made.cores >= 1
    assert made.memory_gib > 0
    assert made.python.count(".") == 2
    said = repr(made)
    assert os.uname().nodename not in said
    assert "/" not in said
