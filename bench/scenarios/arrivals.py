"""`arrivals`: what positions, arrival times and alerts cost, and how soon they are there.

The parts: fixes as fast as a node takes them, and movement that is watched beside a chat (`bench.moving`); how soon arrival
times and alerts come, and what a trip costs that is taken up anew (`bench.trips`); keeping and reading tracks (`bench.kept`);
the arithmetic of an arrival time (`bench.eta_cpu`). They go by turns, round after round, on servers that stay up, so that each
sees the same machine, and their figures become one result.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from bench import eta_cpu, kept, moving, trips
from bench.apart import apart
from bench.gen.riders import Figures
from bench.load import Progress
from bench.model import PeerResult, Result, Target, at_least, at_most, below, exactly
from bench.moving import Numbers, Turn, Watched
from bench.node import Cluster, readback_cluster
from bench.scenarios.common import Context, Tally, begin, calm, result
from bench.scenarios.noisy import rise
from bench.stats import Histogram
from core.geo.model import Model
from gateway.eta.trips import Trip

PER_CORE_MIN = {10: 25_000.0, 1: 8_000.0}
MADE = eta_cpu.MADE
"""Trips of a made-up city, which the tests use too."""
RISE_MAX_PERCENT = 10.0
ETA_MAX_US = 50.0

KINDS = {10: "fixes, ten a message", 1: "fixes, one a message"}
PER_CORE = {fixes: f"{kind}, accepted a second of the node's CPU" for fixes, kind in KINDS.items()}
RESTING, MOVING = "without movement", "with movement"
SHARED, APART = "shared cores", "cores apart"
TO_WATCHER, TO_ANSWER = "a position, to a watcher", "a position, to its answer"
TO_ETA, TO_FIRST_ETA = "a position, to the arrival time it made", "a trip's first position, to its arrival time, alone"
TO_TAKEN_UP = "following a trip on a new node, to its arrival time"
TO_INBOX = "a position, to the alert in an inbox"
ETA_CPU = "fix, its arrival time (trained model)"
TAKEN_UP = "a trip taken up anew: ms of the node's CPU per 1,000 samples of its past"
TRACK_READ = "a track read whole"
NOT_ACCEPTED = "fixes not accepted, of all parts"
ALERTS_WRONG = "alerts that never came, too early, or twice"
LOST_SENDS = "chat's sends refused or never answered"
LOADED = "load average of one minute, when a round ended"

NOTES = (
    (
        "There are no peers here: none of them judges positions, keeps them or works out when something arrives. Ratios are "
        "of one run: fixes by the CPU that the node used for them, and chat's latency with movement over that without, on the "
        "same connections, one window after the other."
    ),
    (
        "Fixes: devices with keys, a closed loop of several messages under way each, signed before the clock starts. Every "
        "answer comes after the commit of its samples. *Accepted a second of the node's CPU* is what a node takes that has a "
        "core alone; Postgres' CPU is told beside it, which here shares the other core with the generator."
    ),
    (
        f"Movement: each subject in a trip of its own says where it is every {moving.EVERY_S:g} s; each watcher follows "
        f"{moving.TRIPS_EACH} trips. One watcher in {moving.TIMED} reads how late positions are, in a generator that runs when "
        "nobody else would, for it stands for clients elsewhere. On shared cores a chat's p99 grows with whatever runs: a "
        "kernel that preempts at its ticks alone lets a woken backend of Postgres wait up to 4 ms for its core. So the same is "
        "measured with cores apart, too (`bench/apart.py`): that is what movement costs a chat where node, database and "
        "clients have machines of their own."
    ),
    (
        "Alerts: each trip's position of now says that it is minutes ahead of its plan, so that somebody's ten minutes before "
        "have passed by that position and nothing else. From its leaving: judged, kept, taken by the trip, the alert decided "
        "and committed in the trip's stream, read by the worker in the node, committed in the inbox, delivered. Positions are "
        "evenly spread over the window, whatever was answered."
    ),
    (
        "Taken up anew: the node is killed, and trips are followed on a new one, which looks twice a second at what it does "
        "not know yet. What those with a past in the store take of its CPU beyond those without: reading, matching, folding. "
        "Arrival times are signals, which are gathered for a tenth of a second."
    ),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """``samples`` are kept in each way, ``track`` of the one that is read."""

    seconds: float
    connections: int
    trips: trips.Shape
    samples: int
    track: int


def run(
    ctx: Context,
    *,
    connections: int = 100,
    subjects: int = 1_000,
    watchers: int = 1_000,
    rate: float = 200.0,
    riding: int = 350,
    riding_s: float = 10.0,
    past: int = 2_000,
    samples: int = 50_000,
    track: int = 10_000,
    file: Path = MADE,
    seconds: float = 4.0,
) -> Result:
    began = begin()
    if ctx.quick:
        connections, subjects, watchers, seconds = min(connections, 10), min(subjects, 20), min(watchers, 20), 1.0
        riding, riding_s, past, samples, track = (
            min(riding, 10),
            1.0,
            min(past, 100),
            min(samples, 2_000),
            min(track, 500),
        )
    shape = Shape(seconds, connections, trips.Shape(riding, riding_s, past), samples, track)
    tally = Tally("readback", durable=True)
    for name in (TO_ANSWER, TO_WATCHER, TO_ETA, TO_INBOX):
        tally.latency[name] = Histogram()  # these first: the picture is of them
    ctx.say("arrivals: a model of arrival times")
    model, served = eta_cpu.learned(file)
    ctx.say("arrivals: starting nodes")
    with readback_cluster(1, bus=False) as node, readback_cluster(1, bus=False, env=trips.ENV) as worker:
        numbers = Numbers()

        def progress(done: int, of: int, what: str) -> None:
            ctx.progress(done, of, f"arrivals: {what}")

        def say(note: str, what: str) -> None:
            ctx.say(f"{note}: {what}")

        for turn in range(ctx.rounds):
            note = f"arrivals {turn + 1}/{ctx.rounds}"
            for fixes in (10, 1) if turn % 2 == 0 else (1, 10):
                ctx.say(f"{note}: {KINDS[fixes]}")
                _fixes(tally, node, numbers, shape, fixes, progress)
                calm(node)
            ctx.say(f"{note}: arrival times and alerts")
            _trips(tally, worker, numbers, shape, partial(say, note))
            ctx.say(f"{note}: tracks")
            _kept(tally, node, shape, turn)
            _arithmetic(tally, model, served)
            tally.values[LOADED].append(os.getloadavg()[0])
        ctx.say("arrivals: subjects and who watches them")
        notes: dict[str, str] = {}
        with moving.watching(node, numbers, subjects, watchers, rate, progress) as watched:
            for turn in range(ctx.rounds):
                ctx.say(
                    f"arrivals {turn + 1}/{ctx.rounds}: chat beside {subjects:,} subjects with {watchers:,} watchers"
                )
                _beside(tally, watched, shape, SHARED, first_moving=turn % 2 == 1)
                with apart(node) as how:
                    _beside(tally, watched, shape, APART, first_moving=turn % 2 == 1)
                notes[APART] = f"Cores apart: {how}."
    made = result(
        ctx,
        "arrivals",
        began,
        {
            "connections_of_devices": connections,
            "subjects_watched": subjects,
            "watchers": watchers,
            "chat_sends_per_s": rate,
            "trips": riding,
            "seconds_of_trips": riding_s,
            "past_samples": past,
            "samples_kept": samples,
            "track": track,
            "trips_of_the_model": file.name,
            "seconds": seconds,
            "rounds": ctx.rounds,
        },
        [tally.result()],
        [],
        [*NOTES, *notes.values()],
    )
    made.targets += targets(made.peers[0])
    return made


def _fixes(tally: Tally, node: Cluster, numbers: Numbers, shape: Shape, fixes: int, progress: Progress) -> None:
    found = moving.taken(node, numbers, fixes, shape.connections, shape.seconds, progress)
    kind, accepted, judged = KINDS[fixes], found.total("accepted"), found.total("fixes")
    tally.rates[PER_CORE[fixes]].append(accepted / max(found.cpu_s["nodes"], 1e-9))
    tally.rates[f"{kind}, accepted a second"].append(accepted / found.seconds)
    tally.cpu_us[f"node per fix of {kind}"].append(found.cpu_us("nodes", judged))
    tally.cpu_us[f"postgres per fix of {kind}"].append(found.cpu_us("postgres", judged))
    tally.values[f"node busy, {kind} (share of a core)"].append(found.busy("nodes"))
    tally.latency[f"message to answer, {kind}, saturated"].merge(found.histogram("took"))
    tally.counts["fixes accepted"] += accepted
    _refused(tally, found.results[0]["refused"])


def _refused(tally: Tally, refused: Mapping[str, int]) -> None:
    tally.counts[NOT_ACCEPTED] += sum(refused.values())
    for what, count in Counter(refused).most_common(3):
        tally.counts[f"not accepted: {what}"] += count


def _trips(tally: Tally, worker: Cluster, numbers: Numbers, shape: Shape, say: trips.Say) -> None:
    figures = Figures()
    trips.one_round(worker, numbers, shape.trips, figures, say)
    for name, took in (
        (TO_ETA, figures.eta),
        (TO_INBOX, figures.alert),
        (TO_FIRST_ETA, figures.first),
        (TO_TAKEN_UP, figures.taken_up),
    ):
        tally.latency[name].record_all(took)
    tally.latency[TO_ANSWER].record_all(figures.answer)
    tally.values[TAKEN_UP] += figures.past_ms
    tally.values["node busy with trips, its worker included (share of a core)"] += figures.busy
    tally.counts["positions of trips"] += figures.fixes
    tally.counts["alerts timed"] += len(figures.alert)
    tally.counts["arrival times that never came"] += figures.unshown
    tally.counts[ALERTS_WRONG] += figures.missing + figures.doubled + figures.early
    _refused(tally, figures.refused)


def _kept(tally: Tally, node: Cluster, shape: Shape, turn: int) -> None:
    assert node.database_url is not None
    found = trio.run(kept.measure_at, node.database_url, shape.samples, shape.track, turn)
    for lanes, per_s in found.per_s.items():
        tally.rates[f"samples kept a second, {lanes} batch{'es' if lanes > 1 else ''} at once"].append(per_s)
    tally.cpu_us["process that keeps, per sample"].append(found.cpu_us[kept.LANES[0]])
    tally.latency[f"{TRACK_READ}, {shape.track:,} samples"].record_all(round(1e6 * took) for took in found.reads_ms)


def _arithmetic(tally: Tally, model: Model, served: Sequence[Trip]) -> None:
    fixes = sum(len(trip.fixes) for trip in served)
    first_s, rest_s = eta_cpu.least(served, model)
    tally.cpu_us[ETA_CPU].append(1e6 * (first_s + rest_s) / fixes)
    tally.cpu_us["a trip's first fix, its route laid"].append(1e6 * first_s / len(served))


def _beside(tally: Tally, watched: Watched, shape: Shape, where: str, *, first_moving: bool) -> None:
    pair: dict[bool, Turn] = {}
    for is_moving in (True, False) if first_moving else (False, True):
        calm(watched.cluster)
        turn = pair[is_moving] = watched.turn(shape.seconds, moving=is_moving)
        when = f"{MOVING if is_moving else RESTING}, {where}"
        tally.latency[f"chat, send to ack, {when}"].merge(turn.chat.histogram("acks"))
        tally.latency[f"chat, send to delivery, {when}"].merge(turn.chat.histogram("deliveries"))
        tally.values[f"node busy, chat {when} (share of a core)"].append(turn.chat.busy("nodes"))
        tally.counts[LOST_SENDS] += turn.chat.total("refusals") + turn.chat.total("unanswered")
        if turn.moving is not None:
            tally.latency[TO_WATCHER].merge(turn.shown())
            tally.counts["positions shown to watchers"] += turn.moving["told"]
            tally.counts["positions sent beside the chat"] += turn.moving["sent"]
            _refused(tally, turn.moving["refused"])
    for what, which in (("ack", "acks"), ("delivery", "deliveries")):
        before, after = pair[False].chat.histogram(which), pair[True].chat.histogram(which)
        for q in (50, 99):
            tally.values[_rise(q, what, where)].append(rise(before.quantile(q / 100), after.quantile(q / 100)))


def _rise(q: int, what: str, where: str) -> str:
    return f"rise of the p{q} of chat's send to {what}, with movement, {where} (%)"


def targets(ours: PeerResult) -> list[Target]:
    return [
        *(
            at_least(f"{kind}, accepted a core", PER_CORE_MIN[fixes], ours.rates[PER_CORE[fixes]].median, "fixes/s")
            for fixes, kind in KINDS.items()
        ),
        *(
            below(
                f"rise of chat's p99, send to {what}, with movement, {where}",
                RISE_MAX_PERCENT,
                ours.values[_rise(99, what, where)].median,
                "%",
            )
            for where in (SHARED, APART)
            for what in ("ack", "delivery")
        ),
        at_most("CPU of an arrival time, a fix", ETA_MAX_US, ours.cpu_us[ETA_CPU].median, "us"),
        exactly(ALERTS_WRONG, 0, ours.counts[ALERTS_WRONG], ""),
        exactly(NOT_ACCEPTED, 0, ours.counts[NOT_ACCEPTED], ""),
        exactly(LOST_SENDS, 0, ours.counts[LOST_SENDS], ""),
    ]
