"""`node-loss`: one of several nodes is killed under chat. Is every acknowledged send delivered, who is back when, who is there?

Clients of the killed node return to the others after a pause drawn at random, except for some that stay away: the others must
see them gone one lease later, and everybody else there. At the end those come back too, and must get all that they missed.
"""

from __future__ import annotations

import time

from bench.model import Result, at_most, exactly
from bench.node import Cluster
from bench.scenarios.common import Context, Tally
from bench.scenarios.crowd import AUDIT_NOTE, CLIENTS_NOTE, RETURN_NOTE, Led, crowd, phase, promises, rounds, series
from bench.stats import Histogram
from core.limits import Limits

CALM_S = 4.0
STAY_AWAY = 10
"""Every tenth client of the killed node stays away."""
LOOK_S = 0.5
NEVER_S = 999.0
"""Stands for what did not happen: a figure that no target is met by."""
OVER_LEASE_S = 8.0
"""Past the lease, how long presence may take before it is called wrong for good."""
NOTES = (
    (
        "`kill to whole` runs from the SIGKILL to holding every event up to the heads in the new welcome, for each client of "
        "the killed node that returns; the pause before it tries is its own, drawn evenly from 0 to `return_within_s`."
    ),
    (
        "Presence: one member of every room on every other node asks who is there, twice a second. `right` is the first moment "
        "after which no answer was wrong: those who stay away are gone from the lists, everybody else is on them."
    ),
    RETURN_NOTE,
    AUDIT_NOTE,
    CLIENTS_NOTE,
)


def run(
    ctx: Context,
    *,
    nodes: int = 3,
    clients: int = 2000,
    rooms: int = 200,
    rate: float = 500.0,
    payload: int = 130,
    return_s: float = 2.0,
) -> Result:
    """``return_s``: within which clients of a lost node try elsewhere, each at a moment of its own."""
    if ctx.quick:
        clients, rooms, rate = min(clients, 150), min(rooms, 20), min(rate, 100.0)
    # Presence is asked for by name, so rooms must stay below the size from which only counts are told.
    rooms = max(rooms, clients // 100)
    names = [f"chat:node-loss-{number}" for number in range(rooms)]
    lease_s = Limits().lease_s

    def one(cluster: Cluster, tally: Tally, note: str, turn: int) -> None:
        _round(ctx, cluster, tally, note, turn, turn % nodes, clients, names, rate, payload, return_s, lease_s)

    params = {
        "clients": clients,
        "rooms": rooms,
        "sends_per_s": rate,
        "payload": payload,
        "return_within_s": return_s,
        "lease_s": lease_s,
    }
    made = rounds(ctx, "node-loss", nodes, names, one, params, NOTES)
    ours = made.peer("readback")
    if ours:
        whole, right = ours.values["kill to all whole (s)"].high, ours.values["kill to presence right (s)"].high
        made.targets.append(at_most("kill to all clients whole again", 5, whole, "s"))
        made.targets.append(at_most("kill to presence right everywhere", lease_s, right, "s"))
        made.targets.append(
            exactly("presence answers wrong at the end", 0, ours.counts["presence wrong at the end"], "")
        )
    made.targets += promises(made)
    return made


def _round(
    ctx: Context,
    cluster: Cluster,
    tally: Tally,
    note: str,
    turn: int,
    victim: int,
    clients: int,
    names: list[str],
    rate: float,
    payload: int,
    return_s: float,
    lease_s: float,
) -> None:
    with crowd(ctx, cluster, note, clients, names, each=1, payload=payload, return_s=return_s, turn=turn) as led:
        led.chat(rate)
        time.sleep(1.0)  # warm
        since_ns = time.monotonic_ns()
        led.word("phase", name="calm")
        ctx.say(f"{note}: chat, {CALM_S:g} s")
        time.sleep(CALM_S)
        there = led.word("away", port=cluster.ports[victim], every=STAY_AWAY)
        led.word("phase", name="node killed")
        killed_ns = time.monotonic_ns()
        cluster.kill(victim)
        right_s, wrong, unanswered = _until_right(ctx, led, note, killed_ns, lease_s)
        led.word("phase", name="away return")
        led.word("back")
        ctx.say(f"{note}: those who stayed away return")
        time.sleep(return_s)
        led.healed()
        told = led.stop(tally)
    cluster.replace(victim)
    wholes = Histogram()
    returned = [whole_ns - killed_ns for _, gone_ns, whole_ns in told["returns"] if gone_ns < killed_ns + 1e9]
    wholes.record_all(returned)
    missing = there["clients"] - there["away"] - len(returned)
    tally.counts["clients of killed nodes"] += there["clients"]
    tally.counts["of them told to stay away"] += there["away"]
    tally.counts["of the others, never back"] += missing
    tally.values["kill to all whole (s)"].append(wholes.greatest / 1e9 if not missing else NEVER_S)
    tally.values["kill to presence right (s)"].append(right_s)
    tally.counts["presence wrong at the end"] += wrong
    tally.counts["presence questions unanswered"] += unanswered
    for name in ("calm", "node killed"):
        phase(tally, told, name)
    tally.latency["kill to whole"].merge(wholes)
    series(tally, told, since_ns)


def _until_right(ctx: Context, led: Led, note: str, killed_ns: int, lease_s: float) -> tuple[float, int, int]:
    """Look until presence is right and the lease is over: the first moment of the last right stretch, in s."""
    right_s = NEVER_S
    while (at_s := (time.monotonic_ns() - killed_ns) / 1e9) < lease_s + OVER_LEASE_S:
        ctx.progress(int(at_s), int(lease_s), f"{note}: a node was killed; who is there?")
        began = time.monotonic()
        told = led.word("presence")
        wrong = int(told["wrong"]) + int(told["unanswered"])
        if wrong:
            right_s = NEVER_S
        elif right_s == NEVER_S:
            right_s = at_s
        if right_s < NEVER_S and at_s > lease_s:
            break
        time.sleep(max(0.0, LOOK_S - (time.monotonic() - began)))
    return right_s, int(told["wrong"]), int(told["unanswered"])
