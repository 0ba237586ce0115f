"""`echo`: a ping answered by a pong, one outstanding on each of N connections, as fast as the server goes.

Throughput and CPU are of the server process; every peer parses the JSON of the ping and builds the JSON of the pong with
the time in it. The floor does neither: one ``recv``, one ``send``.
"""

from __future__ import annotations

from bench.model import Result, at_least
from bench.scenarios.common import Context, begin, field_of, one_window, result

NOTES = (
    "Every connection keeps one ping outstanding; every latency is recorded, so at saturation latency is queueing.",
    (
        "The load generator (uvloop, picows client) does not parse JSON. Where it was the busier process, the throughput is "
        "the generator's limit, and the CPU an echo is the figure to read. "
        "An echo a second of the server's CPU is what one core would do that did nothing else."
    ),
)


def run(ctx: Context, *, connections: int = 500, payload: int = 130, seconds: float = 4.0) -> Result:
    began = begin()
    warm = 0.5
    if ctx.quick:
        connections, seconds, warm = min(connections, 50), 0.5, 0.1
    names = ("floor", *ctx.peers)
    with field_of(ctx, names) as field:
        for turn in range(ctx.rounds):
            for server, tally, note in field.each("echo", turn, ctx.rounds):
                with field.attempt(server):
                    measured = one_window(ctx, server, "echo", connections, seconds, warm, note, payload=payload)
                    count = measured.total("count")
                    tally.rates["echoes/s"].append(count / measured.seconds)
                    tally.cpu(measured, "echo", count)
                    tally.values["echoes a second of the server's CPU"].append(count / measured.cpu_s["server"])
                    tally.latency["ping to pong"].merge(measured.histogram("latency"))
                    tally.counts["echoes"] += count
                    tally.counts["connections lost"] += measured.total("closed")
        made = result(
            ctx,
            "echo",
            began,
            {"connections": connections, "payload": payload, "seconds": seconds, "rounds": ctx.rounds},
            field.results(names),
            [],
            NOTES,
        )
    ours = made.peer("readback")
    for peer, bound in (("picows", 0.6), ("ws", 1.5)):
        other = made.peer(peer)
        if ours and other:
            ratio = ours.rates["echoes/s"].median / other.rates["echoes/s"].median
            made.targets.append(at_least(f"echoes/s at {connections} connections", bound, ratio, f"x {peer}"))
    return made
