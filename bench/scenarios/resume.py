"""`resume-storm`: everybody drops and everybody comes back at the same moment, with several streams each.

CPU a resume is all that the server process used from the first connect until the last client was whole, divided by the
number of clients: accept, upgrade, resume, welcome and replay are in it.
"""

from __future__ import annotations

import time
from typing import Any

from bench.load import Loads
from bench.model import Result, at_most, exactly
from bench.scenarios.common import Context, Tally, begin, field_of, jobs, result
from bench.servers import Server
from bench.stats import Histogram

FITTING = ("readback",)
STATISTICS_S = 1.5
"""Postgres' own counters reach its shared statistics within a second."""
NOTES = (
    (
        "A storm: all connections are reset, a second later the missed events are committed, another second later all connect "
        "at once and resume. A client is whole when it holds every event up to the heads in its welcome."
    ),
    (
        "CPU a resume is the server process's from the first connect to the last client whole: accept, upgrade, resume and "
        "replay. All clients are in one generator process on the other core; the time to all whole is bounded by it too."
    ),
    (
        "Postgres transactions are counted from just before a storm until 1.5 s after it, whoever made them (the node "
        "compares the log's heads every second); one query a resume would be as many as there are clients."
    ),
    "Nothing but Readback is measured: no peer here resumes a client that was away with its cursors in several streams.",
)


def run(
    ctx: Context,
    *,
    clients: int = 2000,
    each: int = 5,
    streams: int = 500,
    missed: int = 1,
    payload: int = 130,
) -> Result:
    """``missed`` events in every stream while all are away: a client replays ``each`` x ``missed``."""
    began = begin()
    if ctx.quick:
        clients, streams = min(clients, 100), 50
    names = [f"chat:storm-{number}" for number in range(streams)]
    with field_of(ctx, ctx.peers) as field:
        field.create_streams(names)
        for server, tally, note in field.each("resume-storm", 0, 1):
            with field.attempt(server):
                params = {"streams": names, "each": each, "missed": missed, "payload": payload}
                _measure(ctx, server, tally, note, clients, params)
        made = result(
            ctx,
            "resume-storm",
            began,
            {
                "clients": clients,
                "streams_each": each,
                "streams": streams,
                "missed": missed,
                "payload": payload,
                "rounds": ctx.rounds,
            },
            field.results(ctx.peers),
            [],
            NOTES,
        )
    ours = made.peer("readback")
    if ours:
        cpu = ours.cpu_us["server per resume"].median
        made.targets.append(at_most(f"CPU a resume of {each} streams", 150, cpu, "us"))
        made.targets.append(
            exactly("events out of order, lost or doubled", 0, ours.counts["events out of order, lost or doubled"], "")
        )
    return made


def _measure(ctx: Context, server: Server, tally: Tally, note: str, clients: int, params: dict[str, Any]) -> None:
    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    plan = jobs(ctx, "resume", server, clients, most=1, cycles=ctx.rounds, **params)
    told: dict[str, Any] = {}
    with Loads.start(plan, progress) as loads:
        only = loads.loads[0]
        for turn in range(ctx.rounds):
            only.ready()
            ctx.say(f"{note}: storm {turn + 1} of {ctx.rounds}")
            transactions = server.transactions() if server.transactions else 0
            before = server.cpu_s()
            only.go()
            told = only.result()
            after = server.cpu_s()
            for group in after:
                tally.cpu_us[f"{group} per resume"].append((after[group] - before[group]) * 1e6 / clients)
            if server.transactions:
                time.sleep(STATISTICS_S)
                tally.values["Postgres transactions around a storm"].append(server.transactions() - transactions)
            tally.values["time to all whole (s)"].append(int(told["took_ns"]) / 1e9)
            tally.latency["connect to welcome"].merge(Histogram.from_json(told["welcome"]))
            tally.latency["connect to whole"].merge(Histogram.from_json(told["whole"]))
    tally.counts["resumes"] = clients * ctx.rounds
    tally.counts["events out of order, lost or doubled"] = int(told["errors"])
    tally.counts["resumes rejected"] = int(told["rejected"])
    tally.counts["connections refused or ended"] = int(told["retries"])
