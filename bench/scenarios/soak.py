"""`soak`: half an hour of chat in which clients keep coming and going; does the node's memory stay where it is?

Resident memory is read every second. The first third of the run is for rings, sessions and allocator arenas to fill;
flat means that the mean of the last third is within 2 %, or 4 MiB, of the mean of the middle third. The loop's delay and
the collector's pauses are the node's own histograms (`readback_loop_delay_seconds`, `readback_gc_pause_seconds`), read
before and after: a figure out of them is the bound of a bucket that is not exceeded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bench import proc, scrape
from bench.load import Loads, Measured
from bench.model import Result, Target, at_most, exactly
from bench.node import Cluster, readback_cluster
from bench.scenarios.common import Context, Tally, begin, result
from bench.stats import Histogram

FLAT_SHARE = 0.02
FLAT_MIB = 4.0
TOKENS_A_PLACE = 4
SERIES_MAX = 600
"""Points of the plot at most; all samples are in the figures."""
DELAY_MS = 50.0
"""The first step of the shedding ladder: a node that is not overloaded stays below it."""
WARM_S = 2.0
RESULT_S = 60.0
DELAY, PAUSE = "readback_loop_delay_seconds", "readback_gc_pause_seconds"
GENERATIONS = ("young", "middle", "full")

NOTES = (
    (
        "Memory is RSS from smaps_rollup, once a second. Slope by least squares over the last two thirds; the target "
        "compares the means of the last and the middle third."
    ),
    (
        "Loop delay: how late the node's own task woke, ten samples a second, its scrapes included. Figures are bounds of "
        "buckets: at most so much."
    ),
    (
        "Half of those who come back resume with cursors, half are new sessions of another principal. Every seq at every "
        "client is checked."
    ),
    "Server, Postgres and the load generator share this machine's cores.",
)

Samples = Sequence[tuple[float, float]]


def run(
    ctx: Context,
    *,
    minutes: float = 30.0,
    clients: int = 400,
    rooms: int = 20,
    each: int = 2,
    rate: int = 200,
    churn: float = 10.0,
    payload: int = 130,
) -> Result:
    """``rate`` sends and ``churn`` cuts a second over all clients, ``each`` rooms a client."""
    began = begin()
    seconds, warm = minutes * 60.0, WARM_S
    if ctx.quick:
        seconds, warm, clients, rate = min(seconds, 20.0), 0.5, min(clients, 60), min(rate, 60)
    names = [f"chat:soak-{number}" for number in range(rooms)]
    ctx.say("starting readback")
    with readback_cluster(1, bus=False) as server:
        assert server.create_streams is not None
        assert server.tokens is not None
        server.create_streams(names)
        tally = Tally(server.peer, server.durable)
        job = {
            "kind": "soak",
            "dialect": server.dialect,
            "port": server.port,
            "connections": clients,
            "tokens": server.tokens(clients * TOKENS_A_PLACE),
            "rooms": names,
            "each": each,
            "rate": rate,
            "churn": churn,
            "payload": payload,
            "seed": 1,
        }
        _soak(ctx, server, tally, job, seconds, warm)
        made = result(
            ctx,
            "soak",
            began,
            {
                "minutes": round(seconds / 60.0, 2),
                "clients": clients,
                "rooms": rooms,
                "rooms_a_client": each,
                "sends_a_second": rate,
                "cuts_a_second": churn,
                "payload": payload,
            },
            [tally.result()],
            [],
            NOTES,
        )
    made.targets += _targets(made)
    return made


def _soak(ctx: Context, server: Cluster, tally: Tally, job: dict[str, Any], seconds: float, warm: float) -> None:
    memory: list[tuple[float, float]] = []

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"soak: {what}")

    def step(at_s: float) -> None:
        if not memory or at_s - memory[-1][0] >= 0.9:
            memory.append((round(at_s, 2), proc.rss_bytes(server.places[0].process.pid) / 2**20))
            ctx.progress(int(at_s), int(seconds), f"soak: {memory[-1][1]:.1f} MiB")

    with Loads.start([job], progress) as loads:
        loads.ready()
        time.sleep(0.2)  # the last welcomes
        before = server.metrics(0)
        measured = loads.measure(server, seconds, warm, timeout_s=RESULT_S, each_step=step)
        after = server.metrics(0)
    _memory(tally, memory)
    _loop(tally, before, after)
    _counts(tally, measured)


def _memory(tally: Tally, memory: Samples) -> None:
    third = memory[-1][0] / 3.0
    values = tally.values
    values["RSS, least (MiB)"].append(min(mib for _, mib in memory))
    values["RSS, greatest (MiB)"].append(max(mib for _, mib in memory))
    values["RSS, mean of the middle third (MiB)"].append(mean([m for at, m in memory if third <= at < 2 * third]))
    values["RSS, mean of the last third (MiB)"].append(mean([m for at, m in memory if at >= 2 * third]))
    values["RSS slope, last two thirds (MiB/h)"].append(3600 * slope([one for one in memory if one[0] >= third]))
    every = -(-len(memory) // SERIES_MAX)
    tally.series["RSS (MiB)"] = [(at, round(mib, 2)) for at, mib in memory[::every]]


def _loop(tally: Tally, before: str, after: str) -> None:
    delays = scrape.since(scrape.buckets(before, DELAY), scrape.buckets(after, DELAY))
    for name, q in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("greatest", 1.0)):
        bound = scrape.quantile(delays, q)
        if bound is not None:
            tally.values[f"loop delay, {name} (ms, at most)"].append(bound * 1000)
    tally.counts["loop delay samples"] = int(max(delays.values(), default=0))
    for number, name in enumerate(GENERATIONS):
        pauses = scrape.since(*(scrape.buckets(_of_generation(text, number), PAUSE) for text in (before, after)))
        tally.counts[f"collections, {name}"] = int(max(pauses.values(), default=0))
        longest = scrape.quantile(pauses, 1.0)
        if longest is not None:
            tally.values[f"collector pause, {name}, longest (ms, at most)"].append(longest * 1000)
    shed = scrape.total(after, "readback_shed_total")
    tally.counts["things shed"] = int(shed or 0)


def _of_generation(text: str, number: int) -> str:
    return "\n".join(line for line in text.splitlines() if f'generation="{number}"' in line)


def _counts(tally: Tally, measured: Measured) -> None:
    told = measured.results[0]
    for called, name in (
        ("sends answered", "answered"),
        ("sends never answered", "unanswered"),
        ("sends whose connection was cut", "cut_off"),
        ("requests refused", "refused_sends"),
        ("sends that left late", "late"),
        ("deliveries", "delivered"),
        ("seqs that were not the next", "gaps"),
        ("connections cut", "cuts"),
        ("sessions entered", "entered"),
        ("sessions resumed", "resumed"),
        ("connections refused or ended by the node", "ended"),
    ):
        tally.counts[called] = int(told[name])
    for reason, many in told["reasons"].items():
        tally.counts[f"told: {reason}"] = many
    tally.latency["send to ack"].merge(Histogram.from_json(told["acks"]))
    tally.latency["send to delivery"].merge(Histogram.from_json(told["deliveries"]))
    for group in measured.cpu_s:
        tally.values[f"{group} busy (share of a core)"].append(measured.busy(group))
    tally.values["generator busy (share of a core)"].append(measured.load_cpu_s / measured.seconds)


def mean(values: Sequence[float]) -> float:
    """0 for none, as a run of under three samples has in one of its thirds."""
    return sum(values) / len(values) if values else 0.0


def slope(samples: Samples) -> float:
    """Least squares: the change of the value a second. 0 where there are fewer than two moments."""
    if len({at for at, _ in samples}) < 2:
        return 0.0
    at_mean, value_mean = mean([at for at, _ in samples]), mean([value for _, value in samples])
    over = sum((at - at_mean) * (value - value_mean) for at, value in samples)
    return over / sum((at - at_mean) ** 2 for at, _ in samples)


def _targets(made: Result) -> list[Target]:
    ours = made.peer("readback")
    if ours is None:
        return []
    middle = ours.values["RSS, mean of the middle third (MiB)"].median
    last = ours.values["RSS, mean of the last third (MiB)"].median
    flat = round(max(FLAT_MIB, FLAT_SHARE * middle), 1)
    found = [
        at_most("RSS, last third's mean beside the middle third's", flat, abs(last - middle), "MiB"),
        exactly("seqs that were not the next", 0, ours.counts["seqs that were not the next"], ""),
        exactly("sends never answered", 0, ours.counts["sends never answered"], ""),
    ]
    delay = ours.values.get("loop delay, p99.9 (ms, at most)")
    if delay is not None:
        found.append(at_most("loop delay p99.9", DELAY_MS, delay.median, "ms"))
    return found
