"""What commands cost beside plain sends: ``python -m bench.commands [--seconds S] [--flights N] [--connections N]``.

One node on a Postgres of its own. First as many commands a second as it takes, with a fixed number outstanding over all
flights and connections; then half of that as an open loop, for the latency, counted from the moment each was due. Each is
decided on its flight's state and committed before it is answered, and its event delivered to one follower. The same is done
with plain sends into the same streams, by turns in every round, so that the ratio is of one machine at one time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trio

from bench.load import LoadError, Loads, Measured
from bench.node import TENANT, readback_node
from bench.servers import Server
from bench.stats import Histogram

RATE_MIN: Final = 5_000.0
P99_MAX_MS: Final = 20.0
WARM_S: Final = 1.5
PAYLOAD: Final = 130
"""Bytes of a plain send's body; a command's is about as large."""
OPS: Final = ("send", "command")


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a run: ``seconds`` are a window's, ``outstanding`` what is unanswered at any moment when saturated."""

    seconds: float = 10.0
    rounds: int = 1
    flights: int = 400
    connections: int = 20
    outstanding: int = 800


@dataclass(slots=True)
class Figures:
    """Of one kind of frame, over the rounds."""

    rates: list[float] = field(default_factory=list)
    node_us: list[float] = field(default_factory=list)
    postgres_us: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """Of one core, by the node, saturated."""
    half: Histogram = field(default_factory=Histogram)
    half_rates: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0

    def told(self) -> dict[str, Any]:
        summary = self.half.summary()
        assert summary is not None, "a round was measured"
        return {
            "per_s": self.rates,
            "node_us": self.node_us,
            "postgres_us": self.postgres_us,
            "node_busy": self.busy,
            "half_per_s": self.half_rates,
            "half_p50_ms": summary.p50_us / 1000,
            "half_p99_ms": (summary.p99_us or summary.max_us) / 1000,
            "half_p99_ms_by_round": self.p99_ms,
            "half_max_ms": summary.max_us / 1000,
            "refused": self.refused,
            "unanswered": self.unanswered,
        }


def make_flights(server: Server, flights: int) -> list[str]:
    """Streams open to the tenant, owned by the first principal. Past the gateway, as all benchmarks make them."""
    assert server.database_url is not None
    names = [f"flight:QX{number}-20261121" for number in range(flights)]
    trio.run(_make, server.database_url, names)
    return names


async def _make(url: str, names: Sequence[str]) -> None:
    from core.model import Member
    from store.postgres import open_postgres_log

    async with open_postgres_log(url) as log:
        for name in names:
            owner = [Member("user:b0", "owner")]
            await log.create_stream(TENANT, name, open=True, members=owner, by="service:bench")


def _tokens(server: Server, count: int) -> list[str]:
    assert server.tokens is not None
    return server.tokens(count)


def measure(shape: Shape, say: Callable[[str], None]) -> dict[str, Figures]:
    """``say`` hears of each step. `LoadError` where nothing could be measured."""
    found = {op: Figures() for op in OPS}
    with readback_node() as server:
        streams = make_flights(server, shape.flights)
        job = {
            "kind": "commands",
            "port": server.port,
            "connections": shape.connections,
            "tokens": _tokens(server, shape.connections),
            "streams": streams,
            "payload": PAYLOAD,
        }
        with Loads.start([job], lambda done, of, what: None) as loads:
            say(f"node {server.pid}, Postgres {server.postgres_pid}")
            for _ in range(shape.rounds):
                for op in OPS:
                    _round(server, loads, op, found[op], shape, say)
            loads.ready()
            loads.loads[0].go(phase="end")
    return found


def _round(server: Server, loads: Loads, op: str, figures: Figures, shape: Shape, say: Callable[[str], None]) -> None:
    loads.ready()
    full = loads.measure(server, shape.seconds, WARM_S, phase="saturate", op=op, outstanding=shape.outstanding)
    answered = _counted(full, figures)
    rate = answered / full.seconds
    figures.rates.append(rate)
    figures.node_us.append(full.cpu_us("server", answered))
    figures.postgres_us.append(full.cpu_us("postgres", answered))
    figures.busy.append(full.busy("server"))
    say(f"{op}: {rate:,.0f} a second")
    loads.ready()
    half = loads.measure(server, shape.seconds, WARM_S, phase="rate", op=op, rate=rate / 2)
    _counted(half, figures)
    latencies = half.histogram("acks")
    figures.half.merge(latencies)
    figures.half_rates.append(half.total("answered") / half.seconds)
    summary = latencies.summary()
    assert summary is not None, "something was answered"
    figures.p99_ms.append((summary.p99_us or summary.max_us) / 1000)


def _counted(measured: Measured, figures: Figures) -> int:
    answered = measured.total("answered")
    figures.refused += measured.total("refusals")
    figures.unanswered += measured.total("unanswered")
    if not answered:
        raise LoadError(f"nothing was answered: {measured.results[0]['refused']}")
    return answered


def table(found: dict[str, Figures]) -> str:
    head = f"{'':10} {'a second':>10} {'node us':>8} {'pg us':>8} {'of a core':>9} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8}"
    lines = [head + "   (at half of that load)"]
    for op, figures in found.items():
        told = figures.told()
        medians = [statistics.median(told[name]) for name in ("per_s", "node_us", "postgres_us", "node_busy")]
        lines.append(
            f"{op + 's':10} {medians[0]:10,.0f} {medians[1]:8.1f} {medians[2]:8.1f} {medians[3]:9.2f} "
            f"{told['half_p50_ms']:8.2f} {told['half_p99_ms']:8.2f} {told['half_max_ms']:8.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.commands", description=__doc__)
    usual = Shape()
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each measured window")
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--flights", type=int, default=usual.flights)
    parser.add_argument("--connections", type=int, default=usual.connections)
    parser.add_argument("--outstanding", type=int, default=usual.outstanding, help="unanswered at once, saturated")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    shape = Shape(options.seconds, options.rounds, options.flights, options.connections, options.outstanding)
    found = measure(shape, lambda what: print(what, file=sys.stderr, flush=True))
    print(table(found))
    rate = statistics.median(found["command"].rates)
    p99_ms = found["command"].told()["half_p99_ms"]
    ratio = rate / statistics.median(found["send"].rates)
    lost = sum(figures.refused + figures.unanswered for figures in found.values())
    met = rate >= RATE_MIN and p99_ms < P99_MAX_MS and not lost
    print(f"a command a plain send: {ratio:.2f}; refused or unanswered: {lost}")
    print(f"{RATE_MIN:,.0f} commands a second, p99 below {P99_MAX_MS:g} ms at half: {'met' if met else 'not met'}")
    if options.json is not None:
        document = {
            "command": "python -m bench.commands",
            "at": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            **asdict(shape),
            "figures": {op: figures.told() for op, figures in found.items()},
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
