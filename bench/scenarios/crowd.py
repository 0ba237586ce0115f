"""A crowd of clients over several nodes, as the scenarios that break things lead it: one word at a time, chat going on.

What is common to `drain`, `redis-loss` and `node-loss`: the cluster, the crowd's process, its account as figures, and the
promises that hold whatever breaks (nothing lost, nothing doubled, no gaps).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench import proc
from bench.history import Kept, keeping
from bench.load import Load, Loads
from bench.model import Result, Target, exactly
from bench.node import Cluster
from bench.scenarios.common import Context, Tally, begin, cluster_field, jobs, result
from bench.stats import Histogram
from core.limits import Limits

WORD_LIMIT_S = 30.0
STOP_LIMIT_S = 60.0
LINGER_S = 1.0

COUNTS = (
    ("sends acknowledged", "answered"),
    ("deliveries", "delivered"),
    ("lost", "lost"),
    ("duplicates", "duplicates"),
    ("gaps", "gaps"),
    ("sends doubled or mixed up", "conflicts"),
    ("sends never answered", "unanswered"),
    ("sends repeated with their key", "repeats"),
    ("resumed", "resumes"),
    ("resumes rejected", "rejected"),
    ("resets told", "resets"),
    ("clients not whole at the end", "not_whole"),
    ("sends that left late", "late"),
)
AUDIT_NOTE = (
    "`lost`: an acknowledged event that a follower of its room never got, or that it was led past. `gaps`: seqs led past, of "
    "these. `doubled or mixed up`: two keys at one seq, or one key at two. Every event at every client is audited."
)
RETURN_NOTE = (
    "What a client gets while it catches up after a return, its time away included, is `ack to delivery on a return`; the "
    "other deliveries are of clients that are connected and whole."
)
CLIENTS_NOTE = (
    "Clients are plain sockets in one process: they resume with cursors at another node drawn at random, obey `drain` and "
    "`retry_after`, and repeat unanswered sends under the same key."
)


@dataclass(slots=True)
class Led:
    """The crowd's process, ready for its next word."""

    load: Load
    cluster: Cluster
    began_s: float
    before: dict[str, float]
    kept: Kept | None = None

    def word(self, do: str, limit_s: float = WORD_LIMIT_S, **fields: Any) -> dict[str, Any]:
        self.load.ready(limit_s)
        self.load.go(do=do, **fields)
        return self.load.result(limit_s)

    def chat(self, rate: float) -> None:
        """Begin the chat, and the reading of CPU."""
        self.word("chat", rate=rate)
        self.before, self.began_s = self._cpu_s(), time.monotonic()

    def healed(self) -> None:
        """No trouble is made any more, and none that was made is left; for the history."""
        if self.kept is not None:
            self.kept.healed()

    def _cpu_s(self) -> dict[str, float]:
        return {**self.cluster.cpu_s(), "generator": proc.cpu_s(self.load.process.pid)}

    def stop(self, tally: Tally, linger_s: float = LINGER_S) -> dict[str, Any]:
        """End the chat; counts and CPU go into the tally, the account comes back."""
        after, took = self._cpu_s(), time.monotonic() - self.began_s
        told = self.word("stop", STOP_LIMIT_S, linger_s=linger_s)
        for name, key in COUNTS:
            tally.counts[name] += int(told[key])
        for group in after:
            used = after[group] - self.before[group]
            tally.values[f"{group} busy (share of a core)"].append(used / took)
        for reasons in (told["refused"], told["ended"]):
            for reason, many in reasons.items():
                tally.counts[f"told: {reason}"[:80]] += many
        self.load.ready(WORD_LIMIT_S)
        self.load.go(do="end")
        return told


@contextlib.contextmanager
def crowd(
    ctx: Context,
    cluster: Cluster,
    note: str,
    clients: int,
    rooms: list[str],
    *,
    each: int,
    payload: int,
    return_s: float,
    turn: int,
    limits: Limits | None = None,
) -> Iterator[Led]:
    """All clients open, nothing said yet. ``turn`` and ``limits`` are for the history, where one is asked for."""

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    shape: dict[str, Any] = {"rooms": rooms, "each": each, "payload": payload, "return_s": return_s, "seed": 1}
    with keeping(ctx.history_of(turn), f"bench {note}", cluster, rooms, limits) as kept:
        if kept is not None:
            shape["history"] = kept.job()
        with Loads.start(jobs(ctx, "crowd", cluster, clients, most=1, **shape), progress) as loads:
            yield Led(loads.loads[0], cluster, 0.0, {}, kept)


def rounds(
    ctx: Context,
    scenario: str,
    nodes: int,
    rooms: list[str],
    one: Callable[[Cluster, Tally, str, int], None],
    params: dict[str, Any],
    notes: tuple[str, ...],
    env: Mapping[str, str] | None = None,
) -> Result:
    """All rounds of a scenario on one cluster. ``one`` is a round: the cluster, its tally, what to call it, its number."""
    began = begin()
    with cluster_field(ctx, nodes, env) as (field, cluster):
        tally = field.tallies[cluster.peer]
        field.create_streams(rooms)
        for turn in range(ctx.rounds):
            with field.attempt(cluster):
                one(cluster, tally, f"{scenario} {turn + 1}/{ctx.rounds}", turn)
            if not field.servers:
                break
        shape = {"nodes": nodes, **params, "rounds": ctx.rounds}
        return result(ctx, scenario, began, shape, field.results([cluster.peer]), [], notes)


def phase(tally: Tally, told: dict[str, Any], name: str) -> Histogram:
    """One stretch of the run: its latencies into the tally; the worst of each client comes back."""
    found = told["phases"][name]
    tally.latency[f"ack to delivery, {name}"].merge(Histogram.from_json(found["since_ack"]))
    tally.latency[f"send to delivery, {name}"].merge(Histogram.from_json(found["since_send"]))
    worst = Histogram.from_json(found["worst"])
    tally.latency[f"worst ack to delivery of a client, {name}"].merge(worst)
    replayed = Histogram.from_json(found["replayed"])
    if replayed.count:
        tally.latency[f"ack to delivery on a return, {name}"].merge(replayed)
    return worst


def series(tally: Tally, told: dict[str, Any], since_ns: int) -> None:
    """A line a run: the worst gap of each tenth of a second, in ms, from a moment on."""
    shift = (told["began_ns"] - since_ns) / 1e9
    tally.series[f"worst ack to delivery in each 0.1 s (ms), run {len(tally.series) + 1}"] = [
        (round(step / 10 + shift, 1), round(worst / 1e6, 3))
        for step, worst in told["series"]
        if step / 10 + shift >= 0.0
    ]


def promises(result: Result) -> list[Target]:
    """What holds whatever breaks."""
    ours = result.peer("readback")
    if ours is None:
        return []
    return [
        exactly("acknowledged events lost", 0, ours.counts["lost"], ""),
        exactly("events duplicated", 0, ours.counts["duplicates"], ""),
        exactly("gaps", 0, ours.counts["gaps"], ""),
        exactly("sends doubled or mixed up", 0, ours.counts["sends doubled or mixed up"], ""),
        exactly("clients not whole at the end", 0, ours.counts["clients not whole at the end"], ""),
    ]
