"""`fanout`: one publisher, N subscribers of one stream; what a delivery costs beside the kernel's bare ``send``.

Two modes. ``one``: events far enough apart that each is committed and delivered by itself. ``batched``: bursts of sends
written together, so that a commit gathers many events and every subscriber gets them in one ``send``. Readback commits
every event to Postgres before anybody sees it; the peers number it in memory and broadcast.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.load import Measured
from bench.model import PeerResult, Result, Target, at_most, exactly
from bench.scenarios.common import Context, Tally, begin, field_of, one_window, result

NOTES = (
    (
        "A delivery is one event at one subscriber, counted at the subscriber. The publisher is an open loop: an event is due "
        "at a fixed moment, and its latency counts from then."
    ),
    (
        "Latencies are sampled on every 20th subscriber, all events of it, and include the generator's own time to read N "
        "sockets; the floor's latency shows that share."
    ),
    "`batched` compares with the floor's cost of one event by one `send`: fewer sends than deliveries is the point of it.",
    (
        "`deliveries not made` are those that had not come 20 s after the last send, or 3 s after anything last came: a "
        "server that cannot keep up with the offered rate has some."
    ),
    "Peers other than readback are not durable: they number an event in memory and broadcast it.",
)

APART = 1.1
"""Events a read, at most, where events are said to go out one at a time."""


def run(
    ctx: Context,
    *,
    subscribers: int = 1000,
    rate: int = 40,
    batched_rate: int = 80,
    burst: int = 40,
    payload: int = 130,
    seconds: float = 6.0,
) -> Result:
    """``rate`` and ``batched_rate`` are events a second; ``burst`` is how many of the latter leave together."""
    began = begin()
    warm = 1.0
    if ctx.quick:
        subscribers, seconds, warm = min(subscribers, 50), 1.0, 0.2
    names = ("floor", *ctx.peers)
    with field_of(ctx, names) as field:
        field.create_streams(["chat:bench"])
        for turn in range(ctx.rounds):
            for server, tally, note in field.each("fanout", turn, ctx.rounds):
                for mode, per_s, together in (("one", rate, 1), ("batched", batched_rate, burst)):
                    if server not in field.servers or (server.peer == "floor" and mode == "batched"):
                        continue  # failed in the other mode; and the floor never joins sends, so it would repeat itself
                    params: dict[str, Any] = {"rate": per_s, "burst": together, "payload": payload}
                    with field.attempt(server):
                        measured = one_window(
                            ctx, server, "fanout", subscribers, seconds, warm, f"{note} {mode}", **params
                        )
                        _count(tally, measured, mode, subscribers)
        made = result(
            ctx,
            "fanout",
            began,
            {
                "subscribers": subscribers,
                "rate": rate,
                "batched_rate": batched_rate,
                "burst": burst,
                "payload": payload,
                "seconds": seconds,
                "rounds": ctx.rounds,
            },
            field.results(names),
            [],
            NOTES,
        )
    floor, ours = made.peer("floor"), made.peer("readback")
    if floor and ours:
        made.targets += _targets(floor, ours, subscribers)
    return made


def _count(tally: Tally, measured: Measured, mode: str, subscribers: int) -> None:
    deliveries = measured.total("deliveries")
    tally.rates[f"deliveries/s, {mode}"].append(deliveries / measured.seconds)
    tally.cpu(measured, f"delivery, {mode}", deliveries)
    tally.values[f"events a read, {mode}"].append(measured.total("sampled") / max(1, measured.total("reads")))
    tally.latency[f"send to delivery, {mode}"].merge(measured.histogram("latency"))
    tally.counts["deliveries counted"] += deliveries
    tally.counts["deliveries not made"] += measured.total("sent") * subscribers - measured.total("events")
    tally.counts["subscribers lost"] += measured.total("closed")


def _targets(floor: PeerResult, ours: PeerResult, subscribers: int) -> list[Target]:
    bare = floor.cpu_us["server per delivery, one"].median
    one = ours.cpu_us["server per delivery, one"].median / bare
    batched = ours.cpu_us["server per delivery, batched"].median / bare
    apart, together = (ours.values[f"events a read, {mode}"].median for mode in ("one", "batched"))
    first = at_most(
        f"CPU a delivery, one event at a time to {subscribers} ({apart:.2f} events a read)", 1.5, one, "x floor"
    )
    return [
        # A machine too busy to keep the events apart joins them, which flatters: then the target is not met.
        dataclasses.replace(first, met=first.met and apart <= APART),
        at_most(f"CPU a delivery, batched ({together:.0f} events a read)", 0.5, batched, "x floor"),
        exactly("deliveries not made", 0, ours.counts["deliveries not made"], ""),
    ]
