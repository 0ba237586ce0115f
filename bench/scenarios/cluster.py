"""`cluster`: what a second node costs. Delivery across nodes beside delivery on one, and the work that a core carries.

Four nodes on one Postgres and one Redis are up throughout; an arrangement is over how many of them the clients are
spread. Arrangements are measured in turn, round after round, so that each sees the same machine.

Delivery: all sends come from members of the first node, few enough that nothing waits; latency is apart for members of
the same node and of the others. Capacity: everybody sends; see `CAPACITY_NOTE` for what is claimed and what is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bench.load import LoadError, Loads, Measured
from bench.model import PeerResult, Result, Target, at_least, at_most, exactly
from bench.node import Cluster, readback_cluster
from bench.scenarios.common import Context, Field, Tally, begin, calm, jobs, result

ARRANGEMENTS = (1, 2, 3, 4)
CARRYING = (1, 2, 4)
NEAR_FULL = 0.75
"""The set rate, as a share of what the slowest arrangement did at full tilt in the first round."""
SAME, CROSS = "publish to delivery, same node", "publish to delivery, across nodes"
CAPACITY_NOTE = (
    "Capacity is computed, not run: this machine has fewer cores than the nodes would need. In every arrangement the same "
    "number of sends a second is made into rooms of the same size (75 % of what the slowest arrangement did at full tilt, "
    "Postgres, Redis and the generator on the same cores). CPU seconds of all node processes over the deliveries in the "
    "window are the CPU a delivery; N nodes with a core each then carry N divided by that. Postgres and Redis, which all "
    "nodes share, are not in it: their CPU stands beside it."
)
NOTES = (
    (
        "Delivery: `sends_per_s` in all, each from a member on the first node; one member of every room on every node is "
        "sampled. The figure of one node is that of the arrangement `1 node`, in the same run, rounds interleaved."
    ),
    CAPACITY_NOTE,
    (
        "More nodes commit smaller batches at the same rate, and each decodes every batch of its streams: both are in the "
        "CPU a delivery. Every node holds every room here; rooms that live on fewer nodes cost less."
    ),
)


def nodes_of(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def run(
    ctx: Context,
    *,
    rooms: int = 24,
    clients: int = 8,
    rate: float = 100.0,
    outstanding: int = 400,
    payload: int = 130,
    seconds: float = 4.0,
) -> Result:
    """``clients`` are those of one room, spread over the nodes of the arrangement."""
    began = begin()
    warm = 1.0
    if ctx.quick:
        rooms, seconds, warm = min(rooms, 8), 1.0, 0.3
    tallies = {nodes_of(count): Tally(nodes_of(count), True) for count in ARRANGEMENTS}
    ctx.say("starting the nodes")
    with readback_cluster(max(ARRANGEMENTS)) as cluster:
        # Rooms of their own for each, so that none holds members of another arrangement.
        names = {n: [f"chat:of-{n}-{number}" for number in range(rooms)] for n in ARRANGEMENTS}
        field = Field([cluster], dict(tallies), [])
        field.create_streams([name for each in names.values() for name in each])
        set_rate = 0.0
        for turn in range(ctx.rounds):
            for count in ARRANGEMENTS:
                note = f"cluster {nodes_of(count)} {turn + 1}/{ctx.rounds}"
                shape = {"rooms": names[count], "payload": payload, "sample": 1, "one_sender": True}
                _delivery(
                    ctx, cluster, tallies[nodes_of(count)], note, count, shape, rooms * clients, rate, seconds, warm
                )
            shapes = {n: {"rooms": names[n], "payload": payload, "sample": 4} for n in CARRYING}
            note = f"cluster {turn + 1}/{ctx.rounds}"
            set_rate = _capacity(
                ctx, cluster, tallies, note, shapes, rooms * clients, outstanding, set_rate, seconds, warm
            )
        made = result(
            ctx,
            "cluster",
            began,
            {
                "rooms": rooms,
                "clients_a_room": clients,
                "sends_per_s": rate,
                "outstanding": outstanding,
                "set_rate_per_s": round(set_rate),
                "payload": payload,
                "seconds": seconds,
                "rounds": ctx.rounds,
            },
            [tally.result() for tally in tallies.values()],
            [],
            NOTES,
        )
    made.targets += targets(made.peers)
    return made


@contextlib.contextmanager
def _loads(
    ctx: Context, cluster: Cluster, note: str, arranged: dict[int, dict[str, Any]], connections: int
) -> Iterator[dict[int, Loads]]:
    """A generator for each arrangement, its members over the first so many nodes, all open."""

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    with contextlib.ExitStack() as stack:
        loads = {}
        for count, shape in arranged.items():
            plan = jobs(ctx, "chat", cluster, connections, most=1, **shape)
            for job in plan:
                job["ports"] = cluster.ports[:count]
            loads[count] = stack.enter_context(Loads.start(plan, progress))
        for one in loads.values():
            one.ready()
        yield loads
        for one in loads.values():
            one.loads[0].go(phase="end")


def _delivery(
    ctx: Context,
    cluster: Cluster,
    tally: Tally,
    note: str,
    count: int,
    shape: dict[str, Any],
    connections: int,
    rate: float,
    seconds: float,
    warm: float,
) -> None:
    with _loads(ctx, cluster, note, {count: shape}, connections) as loads:
        ctx.say(f"{note}: delivery at {rate:g} sends/s for {seconds:g} s")
        measured = loads[count].measure(cluster, seconds, warm, phase="rate", rate=rate)
        loads[count].ready()
    _count(tally, measured)
    tally.latency[SAME].merge(measured.histogram("deliveries"))
    tally.values[f"p50 {SAME} (ms)"].append(measured.histogram("deliveries").quantile(0.5) / 1e6)
    if count > 1:
        tally.latency[CROSS].merge(measured.histogram("far"))
        tally.values[f"p50 {CROSS} (ms)"].append(measured.histogram("far").quantile(0.5) / 1e6)
    calm(cluster)


def _capacity(
    ctx: Context,
    cluster: Cluster,
    tallies: dict[str, Tally],
    note: str,
    shapes: dict[int, dict[str, Any]],
    connections: int,
    outstanding: int,
    set_rate: float,
    seconds: float,
    warm: float,
) -> float:
    """Full tilt in every arrangement, then the set rate in every arrangement; the rate is set in the first round."""
    with _loads(ctx, cluster, note, shapes, connections) as loads:
        slowest = float("inf")
        for count, one in loads.items():
            ctx.say(f"{note}: {nodes_of(count)} at full tilt for {seconds:g} s")
            full = one.measure(cluster, seconds, warm, phase="saturate", outstanding=outstanding)
            one.ready()
            slowest = min(slowest, full.total("answered") / full.seconds)
            _work(tallies[nodes_of(count)], full, "full tilt")
        set_rate = set_rate or NEAR_FULL * slowest
        for count, one in loads.items():
            ctx.say(f"{note}: {nodes_of(count)} at {set_rate:,.0f} sends/s for {seconds:g} s")
            even = one.measure(cluster, seconds, warm, phase="rate", rate=set_rate)
            one.ready()
            tally = tallies[nodes_of(count)]
            _work(tally, even, "set rate")
            per_delivery_us = even.cpu_us("nodes", even.total("delivered"))
            tally.values["deliveries/s carried with a core a node, computed"].append(count * 1e6 / per_delivery_us)
            tally.latency["send to ack, set rate"].merge(even.histogram("acks"))
    return set_rate


def _work(tally: Tally, measured: Measured, when: str) -> None:
    _count(tally, measured)
    tally.rates[f"sends/s, {when}"].append(measured.total("answered") / measured.seconds)
    tally.rates[f"deliveries/s, {when}"].append(measured.total("delivered") / measured.seconds)
    tally.cpu(measured, f"delivery, {when}", measured.total("delivered"))
    tally.cpu_us[f"nodes per send, {when}"].append(measured.cpu_us("nodes", measured.total("answered")))
    tally.counts[f"sends that left late, {when}"] += measured.total("late")


def _count(tally: Tally, measured: Measured) -> None:
    if not measured.total("answered"):
        raise LoadError(f"no send was answered: {measured.results[0]['refused'] or 'the nodes said nothing'}")
    tally.counts["sends answered in windows"] += measured.total("answered")
    tally.counts["sends refused"] += measured.total("refusals")
    tally.counts["sends never answered"] += measured.total("unanswered")


def targets(peers: list[PeerResult]) -> list[Target]:
    """Delivery across nodes against the one node of the same run; the work of four nodes against that of two."""
    by_name = {one.peer: one for one in peers}
    alone = by_name[nodes_of(1)].latency_us[SAME].p50_us
    found = []
    for count in ARRANGEMENTS[1:]:
        added = by_name[nodes_of(count)].latency_us[CROSS].p50_us - alone
        name = f"cross-node p50 beyond one node's, clients on {nodes_of(count)}"
        found.append(at_most(name, 1.5, added / 1000, "ms"))
    two, four = (by_name[nodes_of(n)].cpu_us["nodes per delivery, set rate"].median for n in (2, 4))
    found.append(
        at_least("4 nodes carry, a core each (computed from CPU a delivery)", 1.7, 2 * two / four, "x 2 nodes")
    )
    unanswered = sum(one.counts["sends never answered"] for one in peers)
    found.append(exactly("sends never answered", 0, unanswered, ""))
    return found
