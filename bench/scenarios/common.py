"""What every scenario needs: servers that are up, jobs for the generators, repeats in turn, and the result put together.

Repeats go A B A B: a machine that slows down for a while then slows every server, and the spread shows it. Everything is
bounded: a scenario states its seconds, and every wait behind it has a deadline.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.load import LoadError, Loads, Measured, Progress, shares
from bench.model import Parameter, PeerResult, Result, Target
from bench.node import Cluster, readback_cluster
from bench.proc import Machine, machine
from bench.servers import Missing, Server, open_files_max, started
from bench.stats import Histogram, Spread, spread

SPARE_FILES = 200
"""Open files of a server beside its clients' sockets."""
CALM_STEP_S = 0.3
CALM_SHARE = 0.1
"""Of a core, over a step: below it a server is idle but for its own housekeeping."""
CALM_STEPS_MAX = 50


def _silent(done: int, of: int, note: str) -> None:
    """Progress for those who show none."""


@dataclass(slots=True)
class Context:
    """What the command line decided for a run, and where progress goes."""

    quick: bool = False
    peers: tuple[str, ...] = ("readback",)
    rounds: int = 3
    generators: int = 1
    progress: Progress = _silent
    history: Path | None = None
    """Where the run is written down (`proof.history`), if anywhere."""

    def history_of(self, turn: int) -> Path | None:
        """A round is a history of its own: with several, each file's name ends with its number."""
        if self.history is None or self.rounds == 1:
            return self.history
        return self.history.with_name(f"{self.history.stem}-{turn + 1}{self.history.suffix}")

    def say(self, note: str) -> None:
        """A step without a measure of its own."""
        self.progress(0, 0, note)


@dataclass(slots=True)
class Tally:
    """Figures of one server while its rounds go on; `result` turns them into spreads and merged summaries."""

    peer: str
    durable: bool = False
    note: str = ""
    cpu_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    latency: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def cpu(self, measured: Measured, unit: str, units: float) -> None:
        """CPU a unit, of each group of the server's processes."""
        for group in measured.cpu_s:
            self.cpu_us[f"{group} per {unit}"].append(measured.cpu_us(group, units))
            self.values[f"{group} busy, {unit} (share of a core)"].append(measured.busy(group))
        self.values[f"generators busy, {unit} (share of a core)"].append(measured.load_cpu_s / measured.seconds)

    def result(self) -> PeerResult:
        return PeerResult(
            peer=self.peer,
            durable=self.durable,
            note=self.note,
            cpu_us=_spreads(self.cpu_us),
            rates=_spreads(self.rates),
            values=_spreads(self.values),
            latency_us={name: made for name, one in self.latency.items() if (made := one.summary()) is not None},
            counts=dict(self.counts),
            series=self.series,
        )


def _spreads(figures: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    return {name: spread(values) for name, values in figures.items() if values}


@dataclass(slots=True)
class Field:
    """The servers of a run that are up, the tally of each, and those that are missing with the reason."""

    servers: list[Server]
    tallies: dict[str, Tally]
    missing: list[PeerResult]

    def each(self, scenario: str, turn: int, rounds: int) -> Iterator[tuple[Server, Tally, str]]:
        """Those still up, their tallies, and how to call this step of the run; one may fail on the way."""
        for server in list(self.servers):
            yield server, self.tallies[server.peer], f"{scenario} {server.peer} {turn + 1}/{rounds}"

    def create_streams(self, names: Sequence[str]) -> None:
        """On the servers where a stream must be made before it is used."""
        for server in self.servers:
            if server.create_streams:
                server.create_streams(names)

    @contextlib.contextmanager
    def attempt(self, server: Server) -> Iterator[None]:
        """One server's failure is its own row: the reason stands there, and the others go on."""
        try:
            yield
        except (LoadError, TimeoutError) as error:
            self.servers.remove(server)
            del self.tallies[server.peer]
            self.missing.append(PeerResult(server.peer, missing=f"failed: {error}"))

    def results(self, order: Sequence[str]) -> list[PeerResult]:
        have = {tally.peer: tally.result() for tally in self.tallies.values()} | {one.peer: one for one in self.missing}
        return [have[name] for name in order]


@contextlib.contextmanager
def field_of(ctx: Context, names: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Field]:
    """Start these servers side by side; an idle one uses next to nothing while another is measured."""
    with contextlib.ExitStack() as stack:
        up: list[Server] = []
        missing: list[PeerResult] = []
        for name in names:
            ctx.say(f"starting {name}")
            try:
                up.append(stack.enter_context(started(name, env)))
            except Missing as reason:
                missing.append(PeerResult(name, missing=str(reason)))
        tallies = {one.peer: Tally(one.peer, one.durable, one.note) for one in up}
        yield Field(up, tallies, missing)


@contextlib.contextmanager
def cluster_field(ctx: Context, nodes: int, env: Mapping[str, str] | None = None) -> Iterator[tuple[Field, Cluster]]:
    """A cluster as the only server of a run; `Missing` goes through, since there is nothing else to measure."""
    ctx.say(f"starting {nodes} nodes")
    with readback_cluster(nodes, env=env) as cluster:
        yield Field([cluster], {cluster.peer: Tally(cluster.peer, cluster.durable)}, []), cluster


def jobs(
    ctx: Context, kind: str, server: Server, connections: int, *, most: int = 8, **params: Any
) -> list[dict[str, Any]]:
    """One job a generator (``most`` of them), connections and principals shared out; the first is told that it is."""
    if connections + SPARE_FILES > open_files_max():
        raise LoadError(
            f"{connections} connections need more open files than the {open_files_max()} that a process may have here "
            "(ulimit -Hn)"
        )
    parts = shares(connections, min(ctx.generators, most, connections))
    tokens = server.tokens(connections + 1) if server.tokens else []
    made: list[dict[str, Any]] = []
    taken = 0
    for number, part in enumerate(parts):
        made.append(
            {
                "kind": kind,
                "dialect": server.dialect,
                "port": server.port,
                "ports": server.ports,
                "connections": part,
                "tokens": tokens[taken : taken + part],
                "spare_token": tokens[-1] if tokens else "",
                "first": number == 0,
                **params,
            }
        )
        taken += part
    return made


def one_window(
    ctx: Context,
    server: Server,
    kind: str,
    connections: int,
    seconds: float,
    warm_s: float,
    note: str,
    *,
    each_step: Callable[[float], None] | None = None,
    **params: Any,
) -> Measured:
    """Open the connections, run one window, close them. ``params`` go to the generators with the job."""

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    with Loads.start(jobs(ctx, kind, server, connections, **params), progress) as loads:
        loads.ready()
        ctx.say(f"{note}: measuring for {seconds:g} s")
        measured = loads.measure(server, seconds, warm_s, each_step=each_step)
    calm(server)
    return measured


def calm(server: Server) -> None:
    """Wait until a server is done with what a run left it, so that it takes nothing from the next one's cores."""
    for _ in range(CALM_STEPS_MAX):
        before = sum(server.cpu_s().values())
        time.sleep(CALM_STEP_S)
        if sum(server.cpu_s().values()) - before <= CALM_SHARE * CALM_STEP_S:
            return


@dataclass(frozen=True, slots=True)
class Began:
    """When a scenario began, and how the machine was then: its load average later holds our own load."""

    monotonic_s: float
    at: datetime
    machine: Machine


def begin() -> Began:
    return Began(time.monotonic(), datetime.now(UTC), machine())


def result(
    ctx: Context,
    scenario: str,
    began: Began,
    parameters: Mapping[str, Parameter],
    peers: list[PeerResult],
    targets: list[Target],
    notes: Sequence[str],
) -> Result:
    return Result(
        scenario=scenario,
        at=began.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        quick=ctx.quick,
        machine=began.machine,
        parameters=dict(parameters),
        peers=peers,
        targets=targets,
        notes=list(notes),
        took_s=round(time.monotonic() - began.monotonic_s, 1),
    )
