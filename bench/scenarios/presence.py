"""`presence-storm`: thousands join and leave rooms every second, over several nodes. Does everybody end up with the truth?

Half of the joins and leaves are in one large room (above 200, where counts are told), half in many small ones (where
names are). One observer on each node follows all of them.
"""

from __future__ import annotations

from bench import scrape
from bench.load import LoadError, Loads
from bench.model import Result, Target, at_least, at_most, exactly
from bench.node import Cluster
from bench.scenarios.common import Context, Tally, begin, calm, cluster_field, jobs, result
from bench.stats import Histogram

GRACE_S = 0.25
"""Shorter than an actor's stay and absence, so that every join and every leave is one that others see."""
SQUARE = "chat:presence-square"
DELAY = "readback_loop_delay_seconds"
NEARLY = 0.95
TRUE_WITHIN_S = 3.0
"""Counts of large rooms go out once a second; the rest is grace, flush and a second look."""
COUNTS = (
    ("joins and leaves never answered", "unanswered"),
    ("that left late", "late"),
    ("told wrongly in the end", "wrong_told"),
    ("answered wrongly in the end", "wrong_asked"),
)
NOTES = (
    (
        "Actors keep their connections; joining is `sub`, leaving `unsub`, at a fixed rate whatever the nodes do. The grace "
        "for reconnects is 0.25 s here (5 s by default), so that none of them hides: with the default most would never be told."
    ),
    (
        "`told`: what signals had said to the observer on each node, names in small rooms, the count in the large one. "
        "`asked`: what `presence` answers there, for every room. Both are compared with who had joined and left by the answers."
    ),
    (
        "Loop delay is the nodes' own histogram over the storm and the calm after it; its percentiles are bucket bounds. "
        "A node that is overloaded withholds who comes and goes, and tells it when that is over."
    ),
)


def run(
    ctx: Context,
    *,
    nodes: int = 3,
    clients: int = 2400,
    rooms: int = 200,
    rate: float = 5000.0,
    seconds: float = 8.0,
) -> Result:
    began = begin()
    warm = 2.0
    if ctx.quick:
        clients, rooms, rate, seconds, warm = min(clients, 600), min(rooms, 50), min(rate, 500.0), 2.0, 0.5
    names = [f"chat:presence-{number}" for number in range(rooms)]
    with cluster_field(ctx, nodes, {"READBACK_LIMIT_PRESENCE_GRACE_S": str(GRACE_S)}) as (field, cluster):
        tally = field.tallies[cluster.peer]
        field.create_streams([SQUARE, *names])
        with field.attempt(cluster):
            _storms(ctx, cluster, tally, clients, names, rate, seconds, warm)
        made = result(
            ctx,
            "presence-storm",
            began,
            {
                "nodes": nodes,
                "clients": clients,
                "small_rooms": rooms,
                "joins_and_leaves_per_s": rate,
                "grace_s": GRACE_S,
                "seconds": seconds,
                "rounds": ctx.rounds,
            },
            field.results([cluster.peer]),
            [],
            NOTES,
        )
    made.targets += targets(made, rate)
    return made


def _storms(
    ctx: Context,
    cluster: Cluster,
    tally: Tally,
    clients: int,
    names: list[str],
    rate: float,
    seconds: float,
    warm: float,
) -> None:
    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"presence-storm: {what}")

    many = len(cluster.places)
    plan = jobs(ctx, "presence", cluster, clients + many, most=1, square=SQUARE, rooms=names, rate=rate, seed=1)
    with Loads.start(plan, progress) as loads:
        for turn in range(ctx.rounds):
            loads.ready()
            calm(cluster)
            ctx.say(f"presence-storm {turn + 1}/{ctx.rounds}: {rate:,.0f} joins and leaves/s for {seconds:g} s")
            before = [cluster.metrics(at) for at in range(many)]
            measured = loads.measure(cluster, seconds, warm)
            after = [cluster.metrics(at) for at in range(many)]
            told = measured.results[0]
            if not told["answered"]:
                raise LoadError(f"no join and no leave was answered: {told['refused'] or told['ended']}")
            tally.rates["joins and leaves/s"].append(told["answered"] / told["seconds"])
            tally.rates["signals to observers/s"].append(told["observed"] / told["seconds"])
            tally.rates["signals to actors/s"].append(told["signals"] / told["seconds"])
            tally.cpu(measured, "join or leave", told["answered"] / told["seconds"] * measured.seconds)
            tally.latency["join or leave to answer"].merge(Histogram.from_json(told["latency"]))
            tally.values["told the truth after (s)"].append(told["told_s"])
            tally.values["asked, the truth after (s)"].append(told["asked_s"])
            tally.values["in the large room at the end"].append(told["square"])
            for name, key in COUNTS:
                tally.counts[name] += int(told[key])
            for reasons in (told["refused"], told["ended"]):
                for reason, times in reasons.items():
                    tally.counts[f"told: {reason}"[:80]] = times
            _loop(tally, before, after)
        loads.ready()
        loads.loads[0].go(end=True)


def _loop(tally: Tally, before: list[str], after: list[str]) -> None:
    """How late the nodes' loops were, and what was shed: the worst of all nodes."""
    pairs = list(zip(before, after, strict=True))
    seen = [scrape.since(scrape.buckets(one, DELAY), scrape.buckets(two, DELAY)) for one, two in pairs]
    for q in (0.5, 0.99, 0.999):
        bounds = [bound for counts in seen if (bound := scrape.quantile(counts, q)) is not None]
        if bounds and max(bounds) < float("inf"):
            tally.values[f"loop delay p{100 * q:g}, worst node (ms)"].append(1000 * max(bounds))
    name = "readback_shed_total"
    tally.counts["shed by overload"] += round(
        sum((scrape.total(b, name) or 0) - (scrape.total(a, name) or 0) for a, b in pairs)
    )


def targets(made: Result, rate: float) -> list[Target]:
    ours = made.peer("readback")
    if ours is None:
        return []
    wrong = ours.counts["told wrongly in the end"] + ours.counts["answered wrongly in the end"]
    return [
        at_least("joins and leaves a second", NEARLY * rate, ours.rates["joins and leaves/s"].median, "/s"),
        at_most(
            "observers told the truth after the storm", TRUE_WITHIN_S, ours.values["told the truth after (s)"].high, "s"
        ),
        at_most("answers true after the storm", TRUE_WITHIN_S, ours.values["asked, the truth after (s)"].high, "s"),
        exactly("told or answered wrongly in the end", 0, wrong, ""),
        exactly("joins and leaves never answered", 0, ours.counts["joins and leaves never answered"], ""),
    ]
