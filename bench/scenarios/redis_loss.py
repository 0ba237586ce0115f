"""`redis-loss`: Redis is killed under chat over several nodes, comes back, is frozen, and thaws. How late is an event?

One run goes through five stretches of equal length: calm, Redis killed, Redis back on its port, Redis frozen (its links
stay open and nothing answers), thawed. An event's gap is the time from the sender's answer to its delivery, at each receiver.
"""

from __future__ import annotations

import time

from bench.model import Result, at_most
from bench.node import Cluster
from bench.scenarios.common import Context, Tally
from bench.scenarios.crowd import AUDIT_NOTE, CLIENTS_NOTE, crowd, phase, promises, rounds, series

CALM, KILLED, BACK, FROZEN, THAWED = PHASES = (
    "calm",
    "Redis killed",
    "Redis back",
    "Redis frozen",
    "Redis thawed",
)
NOTES = (
    (
        "The gap is from the sender's answer to the delivery at a receiver, on one clock, for every delivery; 0 where the "
        "event was there first. `worst of a client` is one sample a client: its worst event of that stretch. A stretch holds "
        "what was delivered in it; it begins as the signal is sent to Redis."
    ),
    (
        "Killed: SIGKILL, which every node sees at once as a closed link. Frozen: SIGSTOP, which only silence tells (the "
        "canary). The target is for the kill; what a freeze costs is beside it."
    ),
    AUDIT_NOTE,
    CLIENTS_NOTE,
)


def run(
    ctx: Context,
    *,
    nodes: int = 3,
    clients: int = 300,
    rooms: int = 60,
    rate: float = 200.0,
    payload: int = 130,
    stretch_s: float = 5.0,
) -> Result:
    if ctx.quick:
        clients, rooms, rate, stretch_s = min(clients, 60), min(rooms, 12), min(rate, 100.0), min(stretch_s, 2.0)
    names = [f"chat:redis-loss-{number}" for number in range(rooms)]

    def one(cluster: Cluster, tally: Tally, note: str, turn: int) -> None:
        _round(ctx, cluster, tally, note, turn, clients, names, rate, payload, stretch_s)

    params = {"clients": clients, "rooms": rooms, "sends_per_s": rate, "payload": payload, "stretch_s": stretch_s}
    made = rounds(ctx, "redis-loss", nodes, names, one, params, NOTES)
    ours = made.peer("readback")
    if ours:
        worst = ours.values[f"worst gap, {KILLED} (ms)"].high
        made.targets.append(at_most("Redis killed: worst gap from ack to delivery", 300, worst, "ms"))
        worst = ours.values[f"worst gap, {BACK} (ms)"].high
        made.targets.append(at_most("Redis back: worst gap from ack to delivery", 300, worst, "ms"))
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
    stretch_s: float,
) -> None:
    breaks = {
        CALM: lambda: None,
        KILLED: cluster.kill_redis,
        BACK: cluster.start_redis,
        FROZEN: cluster.freeze_redis,
        THAWED: cluster.thaw_redis,
    }
    with crowd(ctx, cluster, note, clients, names, each=1, payload=payload, return_s=1.0, turn=turn) as led:
        led.chat(rate)
        time.sleep(1.0)  # warm
        since_ns = time.monotonic_ns()
        for at, name in enumerate(PHASES):
            ctx.progress(at, len(PHASES), f"{note}: {name}, {stretch_s:g} s")
            led.word("phase", name=name)
            breaks[name]()
            if name == THAWED:
                led.healed()
            time.sleep(stretch_s)
        told = led.stop(tally)
    for name in PHASES:
        tally.values[f"worst gap, {name} (ms)"].append(phase(tally, told, name).greatest / 1e6)
    series(tally, told, since_ns)
