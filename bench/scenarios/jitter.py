"""`jitter`: connections are killed again and again while messages flow; is every message at every client, once, in order?

After AnyCable's scenario: 120 messages at 2 a second, every client's TCP connection killed about every 15 s, 2 s away.

Over several nodes (``--nodes``) it is Readback alone, and everybody who returns does so at another node, drawn at random.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from bench.history import keeping
from bench.load import Loads
from bench.model import PeerResult, Result, Target, below, exactly
from bench.scenarios.common import Context, Field, Tally, begin, cluster_field, field_of, jobs, result
from bench.servers import Server
from bench.stats import Histogram

FITTING = ("readback", "ws", "socketio")
NOTES = (
    (
        "Every seq at every client is counted. A connection is killed 7.5 to 22.5 s after it was opened, by turns with a TCP "
        "reset and an ordinary end; it is away for 2 s, then resumes with its cursor."
    ),
    (
        "Replay latency runs from the moment of reconnecting to holding everything up to the head that the welcome named. "
        "Delivery latency runs from the send and includes the time away."
    ),
    (
        "`Python client`: a second run with Readback's own client, the publisher's too, each behind a relay that kills its "
        "connections as often and then refuses it for as long; it dials, resumes and repeats sends by itself."
    ),
    (
        "`ws` has no resume: what was sent while a client was away is lost to it. `socketio` runs with its connection state "
        "recovery on. Neither is durable."
    ),
)

CLUSTER_NOTE = (
    "Several nodes on one Postgres and one Redis: clients start spread over them, and each return is to another one, drawn at "
    "random. The relay of a Python client draws the node anew for every connection."
)
STREAM = "chat:jitter"
CATCH_UP_LIMIT_S = 120.0
LATENCIES = (
    ("send to delivery", "deliveries"),
    ("replay", "replays"),
    ("reconnect to welcome", "reconnects"),
)
COUNTS = (
    ("expected", "expected"),
    ("delivered", "delivered"),
    ("duplicates", "duplicates"),
    ("out of order", "out_of_order"),
    ("connections killed", "cuts"),
    ("events replayed", "replayed"),
    ("resets told", "resets"),
    ("refused or ended by the server", "refusals"),
    ("clients not caught up at the end", "not_whole"),
)
STREAM_OFFICIAL = "chat:jitter-official"
OFFICIAL_COUNTS = (
    ("expected", "expected"),
    ("delivered", "delivered"),
    ("duplicates", "duplicates"),
    ("out of order", "out_of_order"),
    ("connections killed", "cuts"),
    ("resumes", "resumes"),
    ("sends acknowledged", "acknowledged"),
    ("distinct seqs of them", "distinct"),
    ("clients not caught up at the end", "not_whole"),
)


def run(
    ctx: Context,
    *,
    clients: int = 2000,
    messages: int = 120,
    rate: float = 2.0,
    cut_every_s: float = 15.0,
    away_s: float = 2.0,
    payload: int = 130,
    seed: int = 1,
    python_clients: int = 50,
    nodes: int = 1,
) -> Result:
    """``python_clients`` take part in a second run with Readback's own client, each behind a relay that breaks; 0 for none."""
    began = begin()
    if ctx.quick:
        clients, messages, rate, cut_every_s, away_s = min(clients, 100), 20, 10.0, 1.0, 0.2
        python_clients = min(python_clients, 5)
    with _field(ctx, nodes) as field:
        field.create_streams([STREAM, STREAM_OFFICIAL])
        for server, tally, note in field.each("jitter", 0, 1):
            with field.attempt(server):
                params = {
                    "stream": STREAM,
                    "messages": messages,
                    "rate": rate,
                    "cut_every_s": cut_every_s,
                    "away_s": away_s,
                    "payload": payload,
                    "seed": seed,
                }
                _measure(ctx, server, tally, note, clients, messages / rate, params)
                if server.tokens is not None and python_clients:
                    params["stream"] = STREAM_OFFICIAL
                    _official(ctx, server, tally, note, python_clients, messages / rate, params)
        made = result(
            ctx,
            "jitter" if nodes == 1 else "jitter-cluster",
            began,
            {
                **({"nodes": nodes} if nodes > 1 else {}),
                "clients": clients,
                "messages": messages,
                "rate": rate,
                "cut_every_s": cut_every_s,
                "away_s": away_s,
                "payload": payload,
                "seed": seed,
                "python_clients": python_clients,
            },
            field.results(ctx.peers),
            [],
            NOTES if nodes == 1 else (*NOTES[:3], CLUSTER_NOTE),
        )
    ours = made.peer("readback")
    if ours:
        made.targets += _targets(ours, clients)
    return made


@contextlib.contextmanager
def _field(ctx: Context, nodes: int) -> Iterator[Field]:
    if nodes > 1:
        with cluster_field(ctx, nodes) as (field, _):
            yield field
    else:
        with field_of(ctx, ctx.peers, {"READBACK_BENCH_RECOVERY": "1"}) as field:
            yield field


def _measure(
    ctx: Context, server: Server, tally: Tally, note: str, clients: int, lasts_s: float, params: dict[str, Any]
) -> None:
    """One run in one generator whatever was asked: every client takes part in one count."""

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    ours = server.tokens is not None
    with keeping(ctx.history if ours else None, f"bench {note}", server, [params["stream"]]) as kept:
        if kept is not None:
            params = {**params, "history": kept.job()}
        plan = jobs(ctx, "jitter", server, clients, most=1, resume=ours, **params)
        with Loads.start(plan, progress) as loads:
            loads.ready()
            before, start = server.cpu_s(), time.monotonic()
            only = loads.loads[0]
            only.go()
            told = only.result(lasts_s + CATCH_UP_LIMIT_S)
            after, took = server.cpu_s(), time.monotonic() - start
    for name, key in LATENCIES:
        tally.latency[name].merge(Histogram.from_json(told[key]))
    for name, key in COUNTS:
        tally.counts[name] += int(told[key])
    delivered = int(told["delivered"])
    tally.values["delivered (%)"].append(100 * delivered / int(told["expected"]))
    for group in after:
        used = after[group] - before[group]
        tally.values[f"{group} busy (share of a core)"].append(used / took)
        tally.cpu_us[f"{group} per delivery"].append(used * 1e6 / max(1, delivered))
    if told["refused"]:
        tally.note = f"refused: {told['refused']}"


def _official(
    ctx: Context, server: Server, tally: Tally, note: str, clients: int, lasts_s: float, params: dict[str, Any]
) -> None:
    """The same with the Python client, which knows nothing of being measured."""

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    with Loads.start(jobs(ctx, "official", server, clients, most=1, **params), progress) as loads:
        only = loads.loads[0]
        only.ready()
        only.go()
        told = only.result(lasts_s + 2 * CATCH_UP_LIMIT_S)
    tally.latency["send to delivery, Python client"].merge(Histogram.from_json(told["deliveries"]))
    tally.values["delivered, Python client (%)"].append(100 * int(told["delivered"]) / int(told["expected"]))
    for name, key in OFFICIAL_COUNTS:
        tally.counts[f"{name}, Python client"] += int(told[key])


def _targets(ours: PeerResult, clients: int) -> list[Target]:
    found = [
        exactly(f"delivered to {clients} clients", 100, ours.values["delivered (%)"].median, "%"),
        exactly("duplicates", 0, ours.counts["duplicates"], ""),
        exactly("out of order", 0, ours.counts["out of order"], ""),
    ]
    official = ours.values.get("delivered, Python client (%)")
    if official:
        found.append(exactly("delivered, Python client", 100, official.median, "%"))
        for name in ("duplicates", "out of order"):
            found.append(exactly(f"{name}, Python client", 0, ours.counts[f"{name}, Python client"], ""))
    replay = ours.latency_us.get("replay")
    if replay and replay.p99_us is not None:
        found.append(below("replay p99, from reconnecting to caught up", 100, replay.p99_us / 1000, "ms"))
    return found
