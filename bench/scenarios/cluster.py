"""`cluster`: what a second node costs. Delivery across nodes beside delivery on one, and the work that a core carries.

Four nodes on one Postgres and one Redis are up throughout; an arrangement is over how many of them the clients are
spread. Arrangements are measured in turn, round after round, and compared within a round, so that each sees the same
machine.

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
SAME, CROSS = "publish to delivery, same node", "publish to delivery, across nodes"
ADDED = "p50 across nodes beyond one node's, same round (ms)"
BESIDE = "p50 across nodes beyond the same node's, same window (ms)"
CARRIED = "deliveries/s carried with a core a node, computed"
DOUBLED = "carried, computed (x half as many nodes, same round)"
CAPACITY_NOTE = (
    "Capacity is computed, not run: this machine has fewer cores than the nodes would need, and Postgres, Redis and the "
    "generator share them. Every node is kept full: as many sends as `outstanding_a_node` for each node are unanswered at any "
    "time, over rooms of the same size in every arrangement. CPU seconds of all node processes over the deliveries in the "
    "window are the CPU a delivery (the share of the sends in it); N nodes with a core each then carry N divided by that. "
    "Postgres and Redis, which all nodes share, are not in it: their CPU stands beside it, and bounds a real cluster first."
)
NOTES = (
    (
        "Delivery: `sends_per_s` in all, each from a member on the first node; one member of every room on every node is "
        "sampled. The target compares an arrangement's p50 across nodes with that of `1 node` in the same round, and takes the "
        "median of the rounds."
    ),
    CAPACITY_NOTE,
    (
        "Why full, and not at a set rate: what a delivery costs falls with the size of batches, and a node that is not full "
        "makes small ones. At a set rate the figure says how busy the machine was, more than what a second node costs."
    ),
    "Every node holds every room here, so each decodes all that the others commit; rooms that live on fewer nodes cost less.",
)


def nodes_of(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def run(
    ctx: Context,
    *,
    rooms: int = 24,
    clients: int = 8,
    rate: float = 100.0,
    outstanding: int = 200,
    payload: int = 130,
    seconds: float = 3.0,
) -> Result:
    """``clients`` are those of one room, spread over the nodes of the arrangement; ``outstanding`` is a node's."""
    began = begin()
    warm = 1.0
    if ctx.quick:
        rooms, seconds, warm = min(rooms, 8), 1.0, 0.3
    tallies = {count: Tally(nodes_of(count), True) for count in ARRANGEMENTS}
    ctx.say(f"starting {max(ARRANGEMENTS)} nodes")
    with readback_cluster(max(ARRANGEMENTS)) as cluster:
        # Rooms of their own for each, so that none holds members of another arrangement.
        names = {n: [f"chat:of-{n}-{number}" for number in range(rooms)] for n in ARRANGEMENTS}
        Field([cluster], {}, []).create_streams([name for each in names.values() for name in each])
        for turn in range(ctx.rounds):
            note = f"cluster {turn + 1}/{ctx.rounds}"
            alone = 0.0
            for count in ARRANGEMENTS:
                shape = {"rooms": names[count], "payload": payload, "sample": 1, "one_sender": True}
                p50_ms = _delivery(
                    ctx, cluster, tallies[count], note, count, shape, rooms * clients, rate, seconds, warm
                )
                if count == 1:
                    alone = p50_ms
                else:
                    tallies[count].values[ADDED].append(p50_ms - alone)
            shapes = {n: {"rooms": names[n], "payload": payload, "sample": 4} for n in CARRYING}
            _capacity(ctx, cluster, tallies, note, shapes, rooms * clients, outstanding, seconds, warm)
        made = result(
            ctx,
            "cluster",
            began,
            {
                "rooms": rooms,
                "clients_a_room": clients,
                "sends_per_s": rate,
                "outstanding_a_node": outstanding,
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
) -> float:
    """The p50 in ms: across nodes where there are several, on the one else."""
    with _loads(ctx, cluster, note, {count: shape}, connections) as loads:
        ctx.say(f"{note}: {nodes_of(count)}, delivery at {rate:g} sends/s for {seconds:g} s")
        measured = loads[count].measure(cluster, seconds, warm, phase="rate", rate=rate)
        loads[count].ready()
    calm(cluster)
    _count(tally, measured)
    tally.counts["sends that left late, delivery"] += measured.total("late")
    same, cross = measured.histogram("deliveries"), measured.histogram("far")
    tally.latency[SAME].merge(same)
    same_ms, cross_ms = same.quantile(0.5) / 1e6, cross.quantile(0.5) / 1e6
    tally.values[f"p50 {SAME} (ms)"].append(same_ms)
    if count == 1:
        return same_ms
    tally.latency[CROSS].merge(cross)
    tally.values[f"p50 {CROSS} (ms)"].append(cross_ms)
    tally.values[BESIDE].append(cross_ms - same_ms)
    return cross_ms


def _capacity(
    ctx: Context,
    cluster: Cluster,
    tallies: dict[int, Tally],
    note: str,
    shapes: dict[int, dict[str, Any]],
    connections: int,
    outstanding: int,
    seconds: float,
    warm: float,
) -> None:
    """Every arrangement full, one after another."""
    carried: dict[int, float] = {}
    with _loads(ctx, cluster, note, shapes, connections) as loads:
        for count, one in loads.items():
            ctx.say(f"{note}: {nodes_of(count)}, full for {seconds:g} s")
            full = one.measure(cluster, seconds, warm, phase="saturate", outstanding=outstanding * count)
            one.ready()
            tally = tallies[count]
            _count(tally, full)
            tally.rates["sends/s, full"].append(full.total("answered") / full.seconds)
            tally.rates["deliveries/s, full"].append(full.total("delivered") / full.seconds)
            tally.cpu(full, "delivery, full", full.total("delivered"))
            tally.cpu_us["nodes per send, full"].append(full.cpu_us("nodes", full.total("answered")))
            carried[count] = carries(count, full.cpu_us("nodes", full.total("delivered")))
            tally.values[CARRIED].append(carried[count])
            if count // 2 in carried:
                tally.values[DOUBLED].append(carried[count] / carried[count // 2])
    calm(cluster)


def carries(nodes: int, cpu_us_per_delivery: float) -> float:
    """Deliveries a second that so many nodes make with a core each, from what one costs them together."""
    return nodes * 1e6 / cpu_us_per_delivery


def _count(tally: Tally, measured: Measured) -> None:
    if not measured.total("answered"):
        raise LoadError(f"no send was answered: {measured.results[0]['refused'] or 'the nodes said nothing'}")
    tally.counts["sends answered in windows"] += measured.total("answered")
    tally.counts["sends refused"] += measured.total("refusals")
    tally.counts["sends never answered"] += measured.total("unanswered")


def targets(peers: list[PeerResult]) -> list[Target]:
    """Delivery across nodes against the one node of the same round; the work of four nodes against that of two."""
    by_name = {one.peer: one for one in peers}
    found = []
    for count in ARRANGEMENTS[1:]:
        name = f"cross-node p50 beyond one node's, clients on {nodes_of(count)}"
        found.append(at_most(name, 1.5, by_name[nodes_of(count)].values[ADDED].median, "ms"))
    doubled = by_name[nodes_of(4)].values[DOUBLED].median
    found.append(at_least("4 nodes carry, a core each (computed from CPU a delivery)", 1.7, doubled, "x 2 nodes"))
    unanswered = sum(one.counts["sends never answered"] for one in peers)
    found.append(exactly("sends never answered", 0, unanswered, ""))
    return found
