"""`flights`: what commands, read models, the live board, the past and timers of flights cost, each on servers of its own.

The parts are those that can be run alone: `bench.board` (once with the worker in the node, once with the worker a process of
its own), `bench.commands`, `bench.projection`, `bench.as_of` and the claims of `store.measure_work`. Here they go by turns,
round after round, so that each sees the same machine, and their figures become one result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import trio

from bench import as_of, board, commands, projection
from bench.model import PeerResult, Result, Target, at_least, at_most, below, exactly
from bench.scenarios.common import Context, Tally, begin, result
from bench.table import number
from store.measure_work import CLAIMED, FEW, claims_beside, new_work

CLAIM_RATIO_MAX = 1.5
CLAIM_ROUNDS = 20
ASKED = 5
"""Times that each node is asked everything about the past; of the first the first questions are told apart."""
PAST_NODES = 2

IN_NODE, APART = "the worker in the node", "the worker apart, over Redis"
TO_ROW, TO_ACK = "command to row at a subscriber", "command to ack beside it"
AT_HALF = "at half of saturation"
COMMANDS, SENDS = "commands/s, saturated", "plain sends/s into the same streams, saturated"
PROJECTED, REBUILT = "events/s into all five read models", "events/s, all five rebuilt"
REBUILT_BOARD = "events/s, flight_board rebuilt"
RATIO = "a claim beside most waiting timers, over one beside few"
LOADED = "load average of five minutes, when a round ended"
LOST = "commands and sends refused or never answered"
HTTP = {True: f"as-of question {as_of.HTTP_FIRST}", False: f"as-of question {as_of.HTTP_AGAIN}"}

NOTES = (
    (
        "There are no peers here: none of them decides commands, keeps read models or has timers. To stand beside this, each "
        "would need an event store that decides on a stream's state and refuses what was decided on an older one; projections "
        "whose checkpoint is in the transaction of their rows, and that push rows to sockets; and timers in a database. What "
        "would be measured then is what we had written around it."
    ),
    (
        "The board: from when a command was due to when the row that only it explains is at a client that follows "
        f"`{board.BOARD}`, over {board.FLIGHTS} flights, an open loop."
    ),
    (
        "Commands: saturated is a fixed number unanswered over all flights; the latency is of an open loop at half of the rate "
        "found in the same round, from when each was due to its answer, which comes after the commit. Each becomes one event, "
        "delivered to one follower. Plain sends go by turns with them, into the same streams."
    ),
    (
        "Read models: facts of legs, cabins and crew, interleaved as in a day, are in the log before one worker with the "
        "consumer of read models alone begins; its rate counts until its cursors stand at the heads, commits included. A "
        "rebuild is counted until the new rows have taken the place of the old ones."
    ),
    (
        f"The past: {as_of.FLIGHTS} flights with so many facts each, and as many in the stream of its seats; flight, manifest "
        "and seat map as of a recorded and as of a valid moment, one question at a time. *first* is a node's first question "
        "about a stream, *again* any after it; *direct* is without HTTP. The target is for the slower of the two over HTTP."
    ),
    (
        f"Claims: {CLAIMED} due timers at a time, beside others in the same table that are due later. The issue asks that a "
        f"million do not slow a claim; the bound of {CLAIM_RATIO_MAX:g} is ours, for medians of {CLAIM_ROUNDS} claims."
    ),
    (
        "Rounds are minutes long, so the load average is told of each. It has this run's own load in it, at most about as much "
        "as there are cores; more than that is of others, and then the latencies are theirs too."
    ),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """``events`` are those of read models, ``facts`` those of a stream asked about, ``rate`` the board's commands a second."""

    commands: commands.Shape
    events: int
    rate: float
    board_s: float
    facts: int
    waiting: int


def run(
    ctx: Context,
    *,
    flights: int = 400,
    connections: int = 20,
    outstanding: int = 800,
    events: int = 100_000,
    rate: float = 100.0,
    facts: int = 1_000,
    waiting: int = 1_000_000,
    seconds: float = 6.0,
) -> Result:
    began = begin()
    if ctx.quick:
        flights, outstanding, seconds = min(flights, 40), min(outstanding, 80), 1.0
        events, facts, waiting = min(events, 3_000), min(facts, 100), min(waiting, 5_000)
    shape = Shape(
        commands.Shape(seconds, 1, flights, min(connections, flights), outstanding),
        events,
        rate,
        seconds,
        facts,
        waiting,
    )
    tally = Tally("readback", durable=True)
    for turn in range(ctx.rounds):
        note = f"flights {turn + 1}/{ctx.rounds}"
        for apart in (False, True) if turn % 2 == 0 else (True, False):
            _board(ctx, tally, note, shape, apart=apart)
        _commands(ctx, tally, note, shape)
        _read_models(ctx, tally, note, shape)
        _past(ctx, tally, note, shape)
        _claims(ctx, tally, note, shape)
        tally.values[LOADED].append(os.getloadavg()[1])
    made = result(
        ctx,
        "flights",
        began,
        {
            "flights": flights,
            "connections": shape.commands.connections,
            "outstanding": outstanding,
            "events_into_read_models": events,
            "board_commands_per_s": rate,
            "facts_a_stream_asked": facts,
            "timers_waiting": waiting,
            "seconds": seconds,
            "rounds": ctx.rounds,
        },
        [tally.result()],
        [],
        NOTES,
    )
    made.targets += targets(made.peers[0])
    return made


def _commands(ctx: Context, tally: Tally, note: str, shape: Shape) -> None:
    for op, figures in commands.measure(shape.commands, lambda what: ctx.say(f"{note}: {what}")).items():
        tally.rates[COMMANDS if op == "command" else SENDS] += figures.rates
        tally.cpu_us[f"server per {op}"] += figures.node_us
        tally.cpu_us[f"postgres per {op}"] += figures.postgres_us
        tally.values[f"{op}s/s offered, half of that"] += figures.half_rates
        tally.values[f"server busy, {op}s saturated (share of a core)"] += figures.busy
        tally.latency[f"{op} to ack, {AT_HALF}"].merge(figures.half)
        tally.counts[LOST] += figures.refused + figures.unanswered


def _read_models(ctx: Context, tally: Tally, note: str, shape: Shape) -> None:
    ctx.say(f"{note}: events into read models, and rebuilds")
    found = trio.run(projection.measure, shape.events)
    tally.rates[PROJECTED].append(found["projected_per_s"])
    tally.rates[REBUILT].append(found["rebuilt_per_s"])
    tally.rates[REBUILT_BOARD].append(found["rebuilt_board_per_s"])
    for what, called in (("projected", "event into five read models"), ("rebuilt", "event, five rebuilt")):
        tally.cpu_us[f"worker per {called}"].append(found[f"{what}_us"])
        tally.cpu_us[f"postgres per {called}"].append(found[f"{what}_postgres_us"])
    tally.values["workers held still for a rebuild (ms)"].append(found["held_ms"])
    tally.counts["events into read models"] += round(found["events"])
    tally.counts["rows of them"] += round(found["rows"])


def _board(ctx: Context, tally: Tally, note: str, shape: Shape, *, apart: bool) -> None:
    where = APART if apart else IN_NODE
    ctx.say(f"{note}: commands to rows, {where}")
    shown = board.measure(shape.rate, shape.board_s, apart=apart)
    _milliseconds(tally, f"{TO_ROW}, {where}", shown.rows_ms)
    _milliseconds(tally, f"{TO_ACK}, {where}", shown.answers_ms)
    tally.counts[f"rows overtaken or not come, {where}"] += shown.unseen


def _past(ctx: Context, tally: Tally, note: str, shape: Shape) -> None:
    ctx.say(f"{note}: the past, {shape.facts:,} facts a stream")
    for how, values in as_of.measure(shape.facts, ASKED, PAST_NODES).items():
        _milliseconds(tally, f"as-of question {how}", values)


def _claims(ctx: Context, tally: Tally, note: str, shape: Shape) -> None:
    ctx.say(f"{note}: claims beside {shape.waiting:,} timers")
    medians = trio.run(_claimed, tally, shape.waiting)
    tally.values[RATIO].append(medians[1] / medians[0])


async def _claimed(tally: Tally, waiting: int) -> list[float]:
    """Medians, beside few and beside all."""
    medians = []
    async with new_work() as work:
        for loaded, beside in ((0, FEW), (FEW, waiting)):
            found = await claims_beside(work, loaded, beside, CLAIM_ROUNDS, CLAIMED)
            _milliseconds(tally, f"claim of {CLAIMED}, {number(beside)} timers waiting", found.claims_ms)
            medians.append(median(found.claims_ms))
    return medians


def _milliseconds(tally: Tally, name: str, values: Sequence[float]) -> None:
    tally.latency[name].record_all(round(1e6 * value) for value in values)


def targets(ours: PeerResult) -> list[Target]:
    """Where a percentile has too few samples (a quick run), the greatest of them must do."""
    half = ours.latency_us[f"command to ack, {AT_HALF}"]
    past = max(one.p95_us or one.max_us for name, one in ours.latency_us.items() if name in HTTP.values())
    return [
        at_least("commands/s, one event each, saturated", commands.RATE_MIN, ours.rates[COMMANDS].median, "commands/s"),
        below(
            "command to ack p99, open loop at half of that",
            commands.P99_MAX_MS,
            (half.p99_us or half.max_us) / 1000,
            "ms",
        ),
        exactly(LOST, 0, ours.counts.get(LOST, 0), ""),
        at_least(PROJECTED, projection.PROJECTED_MIN, ours.rates[PROJECTED].median, "events/s"),
        at_least(REBUILT, projection.REBUILT_MIN, ours.rates[REBUILT].median, "events/s"),
        at_least(REBUILT_BOARD, projection.REBUILT_MIN, ours.rates[REBUILT_BOARD].median, "events/s"),
        *(
            below(
                f"{TO_ROW} p50, {where}",
                board.P50_MAX_MS,
                ours.latency_us[f"{TO_ROW}, {where}"].p50_us / 1000,
                "ms",
            )
            for where in (IN_NODE, APART)
        ),
        below("as-of question over HTTP p95", as_of.P95_MAX_MS, past / 1000, "ms"),
        at_most(RATIO, CLAIM_RATIO_MAX, ours.values[RATIO].median, "x"),
    ]
