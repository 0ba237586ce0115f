"""`drain`: every node of a cluster is told to end and replaced, one after another, under chat. Does any client notice?

A rolling restart as a deploy makes it: SIGTERM, wait until the node is gone, start its successor on the same port, the
next. Clients come back at the moment that they were given, to another node drawn at random.
"""

from __future__ import annotations

import time
from dataclasses import replace

from bench.model import Result, at_most
from bench.node import Cluster
from bench.scenarios.common import Context, Tally
from bench.scenarios.crowd import AUDIT_NOTE, CLIENTS_NOTE, RETURN_NOTE, crowd, phase, promises, rounds, series
from bench.slots import drained
from bench.stats import Histogram
from core.limits import Limits

BETWEEN_S = 1.0
"""From a successor's start to the next drain."""
OVER_WINDOW_S = 10.0
NOTES = (
    (
        "Planned: the clients of a node over the time from their first slot to their last, as its `drain` messages gave them. "
        "Peak: connections that its clients began in the fullest second, those refused and begun again included. The target "
        "is for the worst of all drains."
    ),
    "`away` runs from a client's end of its old connection to holding every event up to the heads in the new welcome.",
    RETURN_NOTE,
    AUDIT_NOTE,
    CLIENTS_NOTE,
)


def run(
    ctx: Context,
    *,
    nodes: int = 3,
    clients: int = 5000,
    rooms: int = 500,
    rate: float = 150.0,
    payload: int = 130,
) -> Result:
    window_s = Limits().drain_window_s
    if ctx.quick:
        clients, rooms, rate, window_s = min(clients, 150), min(rooms, 15), min(rate, 60.0), 3.0
    names = [f"chat:drain-{number}" for number in range(rooms)]

    def one(cluster: Cluster, tally: Tally, note: str, turn: int) -> None:
        _round(ctx, cluster, tally, note, turn, clients, names, rate, payload, window_s)

    params = {"clients": clients, "rooms": rooms, "sends_per_s": rate, "payload": payload, "drain_window_s": window_s}
    made = rounds(ctx, "drain", nodes, names, one, params, NOTES, {"READBACK_LIMIT_DRAIN_WINDOW_S": str(window_s)})
    ours = made.peer("readback")
    if ours:
        over = ours.values["peak reconnects in a second (x planned)"].high
        made.targets.append(at_most("peak reconnects in a second", 1.2, over, "x planned"))
        made.targets.append(at_most("SIGTERM to gone", window_s, ours.values["SIGTERM to gone (s)"].high, "s"))
    made.targets += promises(made)
    return made


def _round(
    ctx: Context,
    cluster: Cluster,
    tally: Tally,
    note: str,
    turn: int,
    clients: int,
    names: list[str],
    rate: float,
    payload: int,
    window_s: float,
) -> None:
    limits = replace(Limits(), drain_window_s=window_s)
    with crowd(
        ctx, cluster, note, clients, names, each=1, payload=payload, return_s=1.0, turn=turn, limits=limits
    ) as led:
        led.chat(rate)
        time.sleep(1.0)  # warm
        since_ns = time.monotonic_ns()
        led.word("phase", name="rolling restart")
        ports = cluster.ports
        for at in range(len(cluster.places)):
            ctx.progress(at, len(ports), f"{note}: node {at + 1} of {len(ports)} drains")
            tally.values["SIGTERM to gone (s)"].append(cluster.drain(at, window_s + OVER_WINDOW_S))
            ctx.progress(at, len(ports), f"{note}: the successor of node {at + 1} starts")
            cluster.replace(at)
            time.sleep(BETWEEN_S)
        led.healed()
        told = led.stop(tally)
    for port in map(str, ports):
        seen = drained(told["slots"].get(port, []), told["begun"].get(port, []))
        tally.counts["clients told to leave"] += seen.clients
        tally.values["slots spread over (s)"].append(seen.spread_s)
        tally.values["reconnects a second, planned"].append(seen.planned_per_s)
        tally.values["reconnects a second, peak"].append(seen.peak_per_s)
        tally.values["peak reconnects in a second (x planned)"].append(seen.over)
    away = Histogram()
    away.record_all(whole_ns - gone_ns for _, gone_ns, whole_ns in told["returns"])
    tally.latency["away"].merge(away)
    phase(tally, told, "rolling restart")
    series(tally, told, since_ns)
