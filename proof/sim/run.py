"""One seed, lived and judged."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio
from trio.testing import MockClock

from proof.history import Record
from proof.sim.meters import Meters
from proof.sim.scheduler import deterministic
from proof.sim.swarm import Size, Swarm, draw
from proof.sim.world import World, main


@dataclass(slots=True)
class Lived:
    """What became of a seed."""

    swarm: Swarm
    records: Sequence[Record]
    digest: str
    """Hash of the trace: everything that crossed an edge, with its time."""
    meters: Meters
    simulated_s: float
    took_s: float
    steps: int
    """Of the first node until the calm, in a short run: as many places to crash at."""
    failure: BaseException | None = None
    """The run itself failed: an assertion of the node's, an error nobody caught."""
    findings: list[str] = field(default_factory=list)
    guarantees: list[str] = field(default_factory=list)
    """Those that were broken."""
    judged: dict[str, int] = field(default_factory=dict)
    """Observations by guarantee."""

    @property
    def ok(self) -> bool:
        return self.failure is None and not self.findings


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, and no collection amid a run: neither may differ between two runs of a seed."""
    before, collecting = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        logging.disable(before)
        if collecting:
            gc.enable()


def live(swarm: Swarm, say: Callable[[str], object] | None = None, crash_at: int | None = None) -> Lived:
    """Live the run that was drawn; not judged yet. ``crash_at``: the step before which the first node crashes, where the
    run is a short one."""
    worlds: list[World] = []
    failure: BaseException | None = None
    began_s = time.perf_counter()
    clock = MockClock(autojump_threshold=0.0)
    with quiet(), deterministic(swarm.seed):
        try:
            trio.run(main, swarm, say, crash_at, worlds, clock=clock)
        except Exception as error:
            failure = error
    took_s = time.perf_counter() - began_s
    world = worlds[0]
    return Lived(
        swarm,
        world.recorder.records,
        world.recorder.digest(),
        world.meters,
        clock.current_time(),
        took_s,
        world.steps_before_calm,
        failure,
    )


def judge(lived: Lived) -> Lived:
    """Hold the run to the guarantees."""
    from proof.guarantees import check

    if lived.failure is not None:
        return lived  # its history ends where it broke, and says nothing of what would have come
    report = check(lived.records)
    lived.findings = [str(finding) for finding in report.findings]
    lived.judged = dict(report.judged)
    lived.guarantees = sorted({finding.guarantee for finding in report.findings})
    return lived


def run(
    seed: int, size: Size = "small", say: Callable[[str], object] | None = None, crash_at: int | None = None
) -> Lived:
    return judge(live(draw(seed, size), say, crash_at))
