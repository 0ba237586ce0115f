"""`idle`: what an idle connection with three streams costs in memory of the server process.

Resident memory from smaps_rollup before the connections and after they have settled, divided by their number. A
hundredth as many are opened and closed first, so that what a server allocates once (code, caches) is not charged to the
connections; what those leave behind to be used again is at most that hundredth.
"""

from __future__ import annotations

import time

from bench import proc
from bench.load import Loads
from bench.model import Result, at_most
from bench.scenarios.common import Context, begin, field_of, jobs, result
from bench.servers import Server

SETTLE_S = 6.0
NOTES = (
    (
        "RSS of the server process from smaps_rollup, before and a few seconds after all connections were welcome; kernel "
        "memory of the sockets is not in it, for any server."
    ),
    "Every connection is a principal of its own with three streams; a stream is shared by about 15 connections.",
)


def run(ctx: Context, *, connections: int = 5000, each: int = 3, streams: int = 1000) -> Result:
    began = begin()
    settle = SETTLE_S
    if ctx.quick:
        connections, streams, settle = min(connections, 200), 60, 0.5
    names = [f"chat:idle-{number}" for number in range(streams)]
    with field_of(ctx, ctx.peers) as field:
        field.create_streams(names)
        for server, tally, note in field.each("idle", 0, 1):
            with field.attempt(server):
                _open(ctx, server, max(1, connections // 100), each, names, 0.5, f"{note} warming")
                time.sleep(settle / 2)
                before = proc.rss_bytes(server.pid)
                cpu_before = server.cpu_s()["server"]
                after, still_open = _open(ctx, server, connections, each, names, settle, note)
                cpu = server.cpu_s()["server"] - cpu_before
                tally.values["RSS an idle connection (KB)"].append((after - before) / 1024 / connections)
                tally.values["RSS before (MiB)"].append(before / 2**20)
                tally.values["RSS after (MiB)"].append(after / 2**20)
                tally.cpu_us["server per connection opened and held"].append(cpu * 1e6 / connections)
                tally.counts["connections open at the end"] += still_open
        made = result(
            ctx,
            "idle",
            began,
            {"connections": connections, "streams_each": each, "streams": streams, "settle_s": settle},
            field.results(ctx.peers),
            [],
            NOTES,
        )
    ours = made.peer("readback")
    if ours:
        growth = ours.values["RSS an idle connection (KB)"].median
        made.targets.append(at_most(f"RSS an idle connection with {each} streams", 4, growth, "KB"))
    return made


def _open(
    ctx: Context, server: Server, connections: int, each: int, names: list[str], settle: float, note: str
) -> tuple[int, int]:
    """Open, hold, read memory, close: resident bytes while they were open, and how many still were."""

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    with Loads.start(jobs(ctx, "idle", server, connections, streams=names, each=each), progress) as loads:
        loads.ready()
        ctx.say(f"{note}: settling for {settle:g} s")
        time.sleep(settle)
        resident = proc.rss_bytes(server.pid)
        for load in loads:
            load.go()
        return resident, sum(int(load.result()["open"]) for load in loads)
