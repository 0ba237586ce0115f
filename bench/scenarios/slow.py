"""`slow`: do the others notice when 5 % of the subscribers stop reading, and does the server's memory grow?

Runs with and without the stalled ones in turn (A B A B), the same traffic for the same number of readers. The stalled
ones have small receive buffers and join before the traffic starts; after the window they read again and must get
everything, in order. Memory is the server process's resident set, sampled through the window.
"""

from __future__ import annotations

from bench import proc
from bench.load import Measured
from bench.model import PeerResult, Result, Target, at_most, below, exactly
from bench.scenarios.common import Context, Tally, begin, field_of, one_window, result
from bench.servers import Server

FLAT_BYTES = 4 * 1024 * 1024
"""Growth below this within a stalled window counts as flat: rings and allocator arenas fill on first use."""

DEFAULT_PEERS = ("readback", "picows", "ws")
FILL_S = 4.0
"""Before the window: with 80 events of 12 KB a second the kernel's buffers of a stalled one (tcp_wmem: 4 MB here) are full."""

NOTES = (
    (
        "`with` and `without` say whether the stalled subscribers were there; the readers are as many in both. The target "
        "compares the median run's p99 of each."
    ),
    (
        "Memory is RSS from smaps_rollup at the start of a window and at its end; what the kernel holds in socket buffers is "
        "not in it."
    ),
    (
        "Traffic runs for 4 s before a window, so that the kernel's own buffers of the stalled connections (up to 4 MB "
        "each) are full, or nearly, when it opens: from then on it is the server that has to deal with them."
    ),
    "After a window the stalled ones read again: what they then did not get, or got out of order, is counted.",
)


def run(
    ctx: Context,
    *,
    subscribers: int = 200,
    stalled_percent: float = 5.0,
    rate: int = 80,
    payload: int = 12_000,
    seconds: float = 8.0,
) -> Result:
    began = begin()
    warm = FILL_S
    if ctx.quick:
        subscribers, seconds, warm = min(subscribers, 60), 1.0, 0.2
    stalled = max(1, round(subscribers * stalled_percent / 100))
    readers = subscribers - stalled
    with field_of(ctx, ctx.peers) as field:
        field.create_streams(["chat:bench"])
        for turn in range(ctx.rounds):
            for server, tally, note in field.each("slow", turn, ctx.rounds):
                for name, many in (("without", 0), ("with", stalled)):
                    if server not in field.servers:
                        continue  # failed without
                    with field.attempt(server):
                        memory = Memory(server)
                        measured = one_window(
                            ctx,
                            server,
                            "fanout",
                            readers,
                            seconds,
                            warm,
                            f"{note} {name}",
                            each_step=memory.sample,
                            rate=rate,
                            burst=1,
                            payload=payload,
                            stalled=many,
                        )
                        _count(tally, measured, name, readers, memory)
                        if many:
                            tally.series[f"RSS (MiB), run {turn + 1}"] = memory.samples
                            tally.counts["stalled subscribers"] += many
        made = result(
            ctx,
            "slow",
            began,
            {
                "readers": readers,
                "stalled": stalled,
                "rate": rate,
                "payload": payload,
                "seconds": seconds,
                "rounds": ctx.rounds,
            },
            field.results(ctx.peers),
            [],
            NOTES,
        )
    ours = made.peer("readback")
    if ours:
        made.targets += _targets(ours)
    return made


class Memory:
    """Resident memory of the server process over a window, in MiB."""

    def __init__(self, server: Server) -> None:
        self.pid = server.pid
        self.samples: list[tuple[float, float]] = []

    def sample(self, at_s: float) -> None:
        self.samples.append((round(at_s, 2), round(proc.rss_bytes(self.pid) / 2**20, 3)))

    def growth(self) -> float:
        return self.samples[-1][1] - self.samples[0][1] if self.samples else 0.0


def _count(tally: Tally, measured: Measured, name: str, readers: int, memory: Memory) -> None:
    latency = measured.histogram("latency")
    tally.cpu(measured, f"delivery, {name}", measured.total("deliveries"))
    tally.latency[f"send to delivery, {name}"].merge(latency)
    tally.values[f"p99 {name} (ms)"].append(latency.quantile(0.99) / 1e6)
    tally.values[f"RSS growth in a window, {name} (MiB)"].append(memory.growth())
    tally.counts["deliveries missing at readers"] += measured.total("sent") * readers - measured.total("events")
    tally.counts["stalled ones ended by the server"] += measured.total("stalled_ended")
    tally.counts["events that stalled ones missed"] += measured.total("stalled_missing")
    tally.counts["events they got out of order"] += measured.total("stalled_gaps")


def _targets(ours: PeerResult) -> list[Target]:
    without, with_stalled = (ours.values[f"p99 {name} (ms)"].median for name in ("without", "with"))
    rise = 100 * (with_stalled / without - 1)
    found = [below("the others' p99 with stalled readers, against without", 10, rise, "% higher")]
    grown = ours.values["RSS growth in a window, with (MiB)"].high
    found.append(at_most("server memory growth in a window with stalled readers", FLAT_BYTES / 2**20, grown, "MiB"))
    found.append(exactly("events that stalled readers missed", 0, ours.counts["events that stalled ones missed"], ""))
    return found
