"""The harness's side of a history (`proof.history`): what it did to the servers, what the log holds, and all parts as one.

A generator writes what its clients see into a part of its own (`bench.gen.recorded`); this process writes another with
the faults that it makes. At the end the log is read once for `Committed` and for the heads that the clients' `Stand`
must name, and the parts are merged by time, line by line: nothing is held in memory but one line a part.

All times are of one clock (CLOCK_MONOTONIC), so the merge keeps the order of every connection.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import trio

from bench.node import TENANT, Cluster
from bench.servers import Server
from core.limits import Limits
from proof.committed import read_log
from proof.history import (
    Drained,
    Draining,
    End,
    Exit,
    Fault,
    Heal,
    Record,
    Run,
    encode,
)

OPEN_LINE, STAND_LINE = b'{"k":"open"', b'{"k":"stand"'


class Kept:
    """The history of one round, from its first connection to its end."""

    def __init__(self, path: Path, what: str, server: Server, streams: Sequence[str], limits: Limits) -> None:
        self.path = path
        self.server = server
        self.streams = list(streams)
        self.began_ns = time.monotonic_ns()
        self.folder = Path(tempfile.mkdtemp(prefix="readback-history-"))
        self.parts = [self.folder / "harness"]
        self._own = self.parts[0].open("wb")
        self._starts: list[tuple[float, str, str]] = []
        """When a node began to serve at a port, and its name."""
        self._starting = 0.0
        self._limits = limits
        self.note(
            Run(
                0.0,
                what,
                lease_s=limits.lease_s,
                grace_s=limits.presence_grace_s,
                heartbeat_s=limits.heartbeat_s,
                bus=not isinstance(server, Cluster) or server.redis is not None,
            )
        )
        if isinstance(server, Cluster):
            for at in range(len(server.places)):
                self._begins(0.0, at)
            server.happened = self.happened

    def now(self) -> float:
        return round((time.monotonic_ns() - self.began_ns) / 1e9, 6)

    def note(self, record: Record) -> None:
        self._own.write(encode(record) + b"\n")

    def job(self) -> dict[str, Any]:
        """What a generator's job says of it."""
        self.parts.append(self.folder / f"part-{len(self.parts)}")
        return {"path": str(self.parts[-1]), "began_ns": self.began_ns}

    def healed(self) -> None:
        """All trouble that this process makes is over."""
        self.note(Heal(self.now()))

    def happened(self, what: str, at: int | None, status: int) -> None:
        """Something that the harness does to the cluster; ``at`` says to which node."""
        now = self.now()
        node = "" if at is None else self._name(at)
        if what == "starting":
            self._starting = now
        elif what == "start":
            assert at is not None
            self._begins(self._starting, at)  # somebody may have come before we knew that it serves
        elif what == "drain":
            self.note(Draining(now, node, self._limits.drain_window_s))
        elif what == "drained":
            # The node warns of sends whose fate it could not tell, and of nothing else here.
            self.note(Drained(now, node, unanswered=status))
            self.note(Exit(now, node))
        elif what == "killed":
            self.note(Exit(now, node, wanted=False, status=status))
        else:
            self.note(Fault(now, what, node))

    def _name(self, at: int) -> str:
        assert isinstance(self.server, Cluster)
        place = self.server.places[at]
        return f"node-{at + 1}.{place.process.pid}"

    def _begins(self, now: float, at: int) -> None:
        assert isinstance(self.server, Cluster)
        self._starts.append((now, str(self.server.places[at].port), self._name(at)))

    def _node(self, t: float, port: str) -> str:
        """Which start of a node a connection to the port reached then."""
        names = [name for since, at, name in self._starts if at == port and since <= t]
        return names[-1] if names else f"node-{port}"

    # -- the end --------------------------------------------------------------------------------------------------------

    def finish(self) -> int:
        """Read the log, merge, write the file; how many records."""
        if isinstance(self.server, Cluster):
            self.server.happened = lambda what, at, status: None
        self._own.close()
        log = self.folder / "log"
        with log.open("wb") as file:
            heads = trio.run(self._read_log, lambda record: file.write(encode(record) + b"\n"))
            file.write(encode(End(self.now())) + b"\n")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        unfinished = self.path.with_name(f".{self.path.name}.part")
        with unfinished.open("wb") as out:
            for _, line in heapq.merge(*(timed(part) for part in [*self.parts, log]), key=lambda pair: pair[0]):
                if line.startswith((OPEN_LINE, STAND_LINE)):
                    line = self._completed(line, heads)
                out.write(line)
                count += 1
        os.replace(unfinished, self.path)
        self.remove()
        return count

    def remove(self) -> None:
        self._own.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _completed(self, line: bytes, heads: dict[tuple[str, str], int]) -> bytes:
        """With what only the harness knows: the node behind a port, the head of a stream."""
        record = orjson.loads(line)
        if record["k"] == "open":
            record["node"] = self._node(record["t"], record["node"])
        elif record["head"] < 0:
            record["head"] = heads[record["tenant"], record["stream"]]
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)

    async def _read_log(self, emit: Callable[[Record], object]) -> dict[tuple[str, str], int]:
        from store.postgres import open_postgres_log

        assert self.server.database_url is not None
        async with open_postgres_log(self.server.database_url) as log:
            return await read_log(log, [(TENANT, stream) for stream in self.streams], self.now(), emit)


def timed(part: Path) -> Iterator[tuple[float, bytes]]:
    """Lines with their times. A generator that was killed may have left half a line at the end."""
    if not part.exists():
        return
    with part.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield float(orjson.loads(line)["t"]), line


@contextlib.contextmanager
def keeping(
    path: Path | None, what: str, server: Server, streams: Sequence[str], limits: Limits | None = None
) -> Iterator[Kept | None]:
    """A history of what happens in the block, written at its end; ``None`` where none was asked for."""
    if path is None:
        yield None
        return
    kept = Kept(path, what, server, streams, limits or Limits())
    try:
        yield kept
        kept.finish()
    finally:
        kept.remove()
