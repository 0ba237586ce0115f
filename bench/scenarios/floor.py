"""`floor`: what the kernel asks for a bare echo and for a bare send of one frame to as many sockets, on this machine.

These two figures stand beneath every other scenario; `echo` and `fanout` measure them again in their own runs, because
only ratios within one run are claims.
"""

from __future__ import annotations

from bench.model import Result
from bench.scenarios.common import Context, begin, field_of, one_window, result

NOTES = (
    "A plain Python process: one epoll, `recv` and a non-blocking `send`; no parsing, no framing but one frame an event.",
    "The generator's own reading is not in the CPU figures; it shares the cores and so is in the latencies.",
)


def run(
    ctx: Context,
    *,
    connections: int = 500,
    subscribers: int = 1000,
    events_per_s: int = 50,
    payload: int = 130,
    seconds: float = 4.0,
) -> Result:
    began = begin()
    warm = 0.5
    if ctx.quick:
        connections, subscribers, seconds, warm = min(connections, 50), min(subscribers, 50), 0.5, 0.1
    with field_of(ctx, ("floor",)) as field:
        tally = field.tallies["floor"]
        server = field.servers[0]
        for turn in range(ctx.rounds):
            note = f"floor {turn + 1}/{ctx.rounds}"
            echo = one_window(ctx, server, "echo", connections, seconds, warm, f"{note} echo", payload=payload)
            count = echo.total("count")
            tally.rates["echoes/s"].append(count / echo.seconds)
            tally.cpu(echo, "bare echo", count)
            tally.latency["bare echo"].merge(echo.histogram("latency"))
            tally.counts["echoes"] += count
            fan = one_window(
                ctx,
                server,
                "fanout",
                subscribers,
                seconds,
                warm,
                f"{note} send",
                rate=events_per_s,
                burst=1,
                payload=payload,
            )
            sends = fan.total("deliveries")
            tally.rates["sends/s"].append(sends / fan.seconds)
            tally.cpu(fan, "bare send", sends)
            tally.latency["bare send to delivery"].merge(fan.histogram("latency"))
            tally.counts["sends"] += sends
        parameters = {
            "connections": connections,
            "subscribers": subscribers,
            "events_per_s": events_per_s,
            "payload": payload,
            "seconds": seconds,
            "rounds": ctx.rounds,
        }
        return result(ctx, "floor", began, parameters, field.results(("floor",)), [], NOTES)
