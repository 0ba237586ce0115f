"""The harness's side of a load generator, and the measured window: start together, read CPU at its edges, gather.

`Load` is one generator process; `Loads` are several that share the work and act as one. `measure` is the way every
windowed figure is made: all generators get the same three moments of the shared clock, the harness sleeps until the
second and the third and reads the server's CPU at each, so that figure and traffic cover the same time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench import proc
from bench.servers import Process, Server
from bench.stats import Histogram, merged

Progress = Callable[[int, int, str], None]
LEAD_S = 0.1
"""Between the go and the traffic, so that every generator has read its go."""


STEP_NS = 500_000_000


class LoadError(Exception):
    """A generator failed; the message says what it saw."""


class Load:
    """One generator. Every wait has a deadline, after which the run fails rather than hangs."""

    def __init__(self, job: dict[str, Any], progress: Progress) -> None:
        self.progress = progress
        self.process = Process.start([sys.executable, "-m", "bench.gen"], cwd=Path(__file__).parent.parent)
        self._tell(job)

    def _tell(self, message: dict[str, Any]) -> None:
        stdin = self.process.popen.stdin
        assert stdin is not None
        stdin.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        stdin.flush()

    def _until(self, event: str, timeout_s: float) -> dict[str, Any]:
        for line in self.process.lines(timeout_s):
            said: dict[str, Any] = orjson.loads(line)
            if said["event"] == event:
                return said
            if said["event"] == "progress":
                self.progress(said["done"], said["of"], said["note"])
            elif said["event"] == "error":
                raise LoadError(said["message"])
        raise LoadError(f"the load generator ended early: {self.process.last_errors()}")

    def ready(self, timeout_s: float = 120.0) -> dict[str, Any]:
        return self._until("ready", timeout_s)

    def go(self, **fields: Any) -> None:
        self._tell(fields)

    def result(self, timeout_s: float = 120.0) -> dict[str, Any]:
        return self._until("result", timeout_s)

    def stop(self) -> None:
        self.process.stop(5.0)


@dataclass(slots=True)
class Measured:
    """One window: what the generators counted and what the server used meanwhile."""

    seconds: float
    cpu_s: dict[str, float]
    results: list[dict[str, Any]]
    load_cpu_s: float = 0.0

    def total(self, name: str) -> int:
        return sum(int(one[name]) for one in self.results)

    def histogram(self, name: str) -> Histogram:
        return merged(Histogram.from_json(one[name]) for one in self.results)

    def cpu_us(self, group: str, units: float) -> float:
        """CPU microseconds a unit; `LoadError` when nothing was counted, since a figure of nothing flatters."""
        if units <= 0:
            raise LoadError("nothing was counted in the measured window")
        return self.cpu_s.get(group, 0.0) * 1e6 / units

    def busy(self, group: str) -> float:
        """Share of one core used by a group of the server's processes."""
        return self.cpu_s.get(group, 0.0) / self.seconds


@dataclass(slots=True)
class Loads:
    """Several generators as one; the block that opens them stops them."""

    loads: list[Load] = field(default_factory=list)

    @classmethod
    def start(cls, jobs: Sequence[dict[str, Any]], progress: Progress) -> Loads:
        made = cls()
        try:
            for job in jobs:
                made.loads.append(Load(job, progress))
        except BaseException:
            made.stop()
            raise
        return made

    def __enter__(self) -> Loads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Load]:
        return iter(self.loads)

    def ready(self, timeout_s: float = 120.0) -> list[dict[str, Any]]:
        return [load.ready(timeout_s) for load in self.loads]

    def stop(self) -> None:
        for load in self.loads:
            load.stop()

    def measure(
        self,
        server: Server,
        seconds: float,
        warm_s: float,
        *,
        timeout_s: float = 120.0,
        each_step: Callable[[float], None] | None = None,
        **go: Any,
    ) -> Measured:
        """Run one window on generators that are ready. ``each_step`` is called every half second of it, and at its end."""
        start = time.monotonic_ns() + int(LEAD_S * 1e9)
        begin = start + int(warm_s * 1e9)
        end = begin + int(seconds * 1e9)
        for load in self.loads:
            load.go(start_ns=start, from_ns=begin, until_ns=end, **go)
        _sleep_until(begin)
        before, own, began = server.cpu_s(), self._cpu_s(), time.monotonic_ns()
        while each_step is not None and (left := end - time.monotonic_ns()) > 0:
            each_step((time.monotonic_ns() - began) / 1e9)
            _sleep_until(end if left < 1.5 * STEP_NS else time.monotonic_ns() + STEP_NS)
        _sleep_until(end)
        after, own_after, ended = server.cpu_s(), self._cpu_s(), time.monotonic_ns()
        if each_step is not None:
            each_step((ended - began) / 1e9)
        used = {group: after[group] - before[group] for group in after}
        results = [load.result(timeout_s) for load in self.loads]
        return Measured((ended - began) / 1e9, used, results, own_after - own)

    def _cpu_s(self) -> float:
        return sum(proc.cpu_s(load.process.pid) for load in self.loads)


def _sleep_until(at_ns: int) -> None:
    time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))


def shares(total: int, parts: int) -> list[int]:
    """``total`` split as evenly as it goes: ``shares(10, 3) == [4, 3, 3]``."""
    each, over = divmod(total, parts)
    return [each + (number < over) for number in range(parts)]
