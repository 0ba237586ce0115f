"""Several files as one history: the nodes of a cluster, a file each, or the parts of one.

They are merged by time, one line a file in memory; within a file the order stays. So their times must be of one clock: the
Unix time of machines that agree on it (a capture's), or one monotonic clock (a benchmark's).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from proof.history import End, Record, Run, read

SUFFIX: Final = ".jsonl"


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, and of a folder all that are histories by their name."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    return found


def read_all(paths: Iterable[Path]) -> Iterator[Record]:
    """All records of these files and folders as one history. Raises as `proof.history.read`, and `FileNotFoundError` where
    there is none."""
    files = files_of(paths)
    if not files:
        raise FileNotFoundError("no history there: a folder must hold files named *.jsonl")
    yield from merged([read(file) for file in files])


def merged(histories: Sequence[Iterable[Record]]) -> Iterator[Record]:
    """By time, with one `Run` first and one `End` last: that only where every history has its own, for else something was
    cut short. One alone stays as it is."""
    if len(histories) == 1:
        yield from histories[0]
        return
    run: Run | None = None
    ends = 0
    last_t = 0.0
    for record in heapq.merge(*histories, key=lambda record: record.t):
        if isinstance(record, End):
            ends += 1
            last_t = record.t
        elif not isinstance(record, Run):
            last_t = record.t
            yield record
        elif run is None:
            run = replace(record, what=f"{record.what}, and {len(histories) - 1} files more")
            yield run
    if ends == len(histories):
        yield End(last_t)
