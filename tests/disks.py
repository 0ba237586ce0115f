"""A small disk of a test's own: a file system in memory that can be filled to the last byte."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_on_small_disk(size: str) -> Iterator[tuple[Path, str]]:
    """A folder that every user may pass through, and why it is no small disk: empty where it is one."""
    with tempfile.TemporaryDirectory(prefix="readback-disk-") as folder:
        os.chmod(folder, 0o755)
        if os.geteuid() != 0:
            yield Path(folder), "needs root, to mount a small file system that can be filled"
            return
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            yield Path(folder), f"may not mount a small file system here: {mounted.stderr.strip()}"
            return
        try:
            yield Path(folder), ""
        finally:
            subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


def fill(path: Path) -> None:
    """Take all the space there is, whoever else takes some at the same time."""
    with path.open("wb") as file:
        at, step = 0, 1 << 28
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), at, step)
                at += step
            except OSError:
                step //= 2
