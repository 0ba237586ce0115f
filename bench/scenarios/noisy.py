"""`noisy-neighbour`: a quiet tenant's latency while another does fifty times its share of something, beside without that.

Two tenants on one node with its Postgres. The quiet one chats at a steady rate in small rooms; the noisy one sends at fifty
times that rate; has clients that resume without end; or has clients that read long streams from their beginning, fifty
times as many events as the quiet one is sent. The first two are measured without a quota and over one of the quiet tenant's
share. Windows without and with the noise go by turns on the same connections, and what is told is the ratio within each
pair.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import LEAD_S, Load, LoadError, Loads, Measured
from bench.model import PeerResult, Result, Target, below, exactly
from bench.node import Cluster, Streams, Tokens, readback_cluster
from bench.scenarios.common import Context, Tally, begin, calm, result

QUIET, NOISY = "quiet", "noisy"
SENDS, STORM, REPLAYS = "sends", "resume storm", "replays"
OVER = " over a quota"
VARIANTS = (SENDS, STORM, REPLAYS, SENDS + OVER, STORM + OVER)
TARGETS = (REPLAYS, SENDS + OVER, STORM + OVER)
"""Without a quota a tenant may use what is there; that it then costs others time is what quotas are for."""
RISE_MAX_PERCENT = 20.0
WARM_S = 1.0
NICE = 10
ROOM = 5
HISTORY_STREAMS = 10

NOTES = (
    (
        "`rise` is of the quiet tenant's p99 (p50) in a window with the noise over that in the window without beside it, in "
        "percent; the median of the pairs with the least and the greatest. Latency counts from when a send is due."
    ),
    (
        "The noise comes from the same machine, at a lower priority (nice 10), so that its clients take little from the "
        "server's cores; what they do take is in the ratio all the same."
    ),
    (
        "Without a quota sends and resumes have no target: a tenant may use what nobody else needs, and a busy core alone "
        "makes every commit later. Lanes and openings are shared in turns then, and the quiet tenant is refused nothing."
    ),
    (
        "The resume storm is a closed loop: as many as the server and the noise's own process manage. The quotas are the "
        "quiet tenant's sends a second, and as many resumes a second as it has connections; who is refused comes again "
        "a quarter to three quarters of a second later, whatever it was told. Replays: the streams are longer than a ring, so "
        "that half of each is read from the log."
    ),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the quiet tenant, and how much more the noisy one does."""

    rate: float
    connections: int
    times: float
    payload: int
    storm: int
    replayers: int
    events: int
    seconds: float


def run(
    ctx: Context,
    *,
    rate: float = 200.0,
    connections: int = 20,
    times: float = 50.0,
    payload: int = 130,
    storm: int = 300,
    replayers: int = 100,
    events: int = 2_000,
    seconds: float = 3.0,
    variants: tuple[str, ...] = VARIANTS,
) -> Result:
    began = begin()
    if ctx.quick:
        rate, times, storm, replayers, events, seconds = min(rate, 50.0), min(times, 10.0), 20, 5, 60, 1.0
    shape = Shape(rate, connections, times, payload, storm, replayers, events, seconds)
    tally = Tally("readback", durable=True)
    with quota_file(shape) as path:
        environments: tuple[dict[str, str], ...] = ({}, {"READBACK_TENANTS_FILE": str(path)})
        for env in environments:
            some = [name for name in variants if name.endswith(OVER) == bool(env)]
            if some:
                with readback_cluster(1, bus=False, env=env) as node:
                    for name in some:
                        _variant(ctx, node, tally, name, shape)
    made = result(
        ctx,
        "noisy-neighbour",
        began,
        {
            "quiet_sends_per_s": rate,
            "quiet_connections": connections,
            "times": times,
            "storm_clients": storm,
            "replaying_clients": replayers,
            "events_of_a_stream": events,
            "payload": payload,
            "seconds": seconds,
            "rounds": ctx.rounds,
        },
        [tally.result()],
        [],
        NOTES,
    )
    made.targets += targets(made.peers[0], variants)
    return made


@contextlib.contextmanager
def quota_file(shape: Shape) -> Iterator[Path]:
    """The noisy tenant may send as much as the quiet one does, and resume as often as that has connections."""
    with tempfile.TemporaryDirectory(prefix="readback-noisy-") as folder:
        path = Path(folder) / "tenants.toml"
        path.write_text(
            f"[tenants.{QUIET}]\n[tenants.{NOISY}.quotas]\n"
            f"sends_per_s = {shape.rate:g}\nresumes_per_s = {shape.connections:d}\n"
        )
        yield path


def _variant(ctx: Context, node: Cluster, tally: Tally, name: str, shape: Shape) -> None:
    assert node.base is not None, "a cluster has a database"
    assert node.database_url is not None, "a cluster has a database"
    tag = name.replace(" ", "-")

    def job(tenant: str, kind: str, count: int, streams: list[str], **params: Any) -> dict[str, Any]:
        assert node.base is not None, "as above"
        assert node.database_url is not None, "as above"
        Streams(node.database_url, tenant).create(streams)
        tokens = Tokens(node.base.secrets_path, tenant).many(count + 1)
        common = {"kind": kind, "dialect": "plain", "port": node.port, "connections": count, "tokens": tokens[:count]}
        return {**common, "spare_token": tokens[-1], "streams": streams, "payload": shape.payload, **params}

    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"noisy-neighbour, {name}: {what}")

    rooms = [f"chat:{tag}-{number}" for number in range(max(1, shape.connections // ROOM))]
    quiet_job = job(QUIET, "chat", shape.connections, rooms, rooms=rooms, sample=1)
    kind = name.removesuffix(OVER)
    if kind == SENDS:
        noise_job = job(NOISY, "noise", shape.connections, rooms, what="sends", nice=NICE)
    else:
        streams = [f"chat:{tag}-{number}" for number in range(HISTORY_STREAMS)]
        count, what = (shape.storm, "storm") if kind == STORM else (shape.replayers, "replays")
        each = 5 if kind == STORM else 1
        noise_job = job(NOISY, "noise", count, streams, what=what, each=each, events=shape.events, nice=NICE)
    with Loads.start([quiet_job], progress) as quiet, Loads.start([noise_job], progress) as noise:
        quiet.ready()
        noise.ready()
        for turn in range(ctx.rounds):
            pair = {}
            for loud in (False, True) if turn % 2 == 0 else (True, False):
                calm(node)
                ctx.say(f"noisy-neighbour, {name} {turn + 1}/{ctx.rounds}: {'with' if loud else 'without'}")
                pair[loud] = _window(node, tally, name, shape, quiet, noise.loads[0], loud=loud)
            _pair(tally, name, pair[False], pair[True])
        for load in (*quiet.loads, *noise.loads):
            load.go(phase="end")
    calm(node)


def _window(node: Cluster, tally: Tally, name: str, shape: Shape, quiet: Loads, noise: Load, *, loud: bool) -> Measured:
    if loud:
        start = time.monotonic_ns() + int(LEAD_S * 1e9)
        end = start + int((2 * LEAD_S + WARM_S + shape.seconds) * 1e9)
        rate = shape.rate * shape.times * (ROOM if name == REPLAYS else 1)
        noise.go(phase="rate", rate=rate, start_ns=start, from_ns=start, until_ns=end)
    measured = quiet.measure(node, shape.seconds, WARM_S, phase="rate", rate=shape.rate)
    quiet.ready()
    if loud:
        _noise(tally, name, noise.result(), shape)
        noise.ready()
    when = "with" if loud else "without"
    if not measured.total("answered"):
        raise LoadError(f"the quiet tenant's sends were not answered: {measured.results[0]['refused']}")
    tally.latency[f"send to ack, {name}, {when}"].merge(measured.histogram("acks"))
    tally.latency[f"send to delivery, {name}, {when}"].merge(measured.histogram("deliveries"))
    tally.values[f"node busy, {name}, {when} (share of a core)"].append(measured.busy("nodes"))
    tally.values[f"Postgres busy, {name}, {when} (share of a core)"].append(measured.busy("postgres"))
    tally.counts["quiet sends answered in windows"] += measured.total("answered")
    tally.counts["quiet sends refused or never answered"] += measured.total("refusals") + measured.total("unanswered")
    return measured


def _noise(tally: Tally, name: str, done: Mapping[str, Any], shape: Shape) -> None:
    """What the noise came to, by the second."""
    seconds = 2 * LEAD_S + WARM_S + shape.seconds
    if done["failed"]:
        raise LoadError(f"the noise was refused: {done['failed']}")
    what = {STORM: "resumes", REPLAYS: "events replayed"}.get(name.removesuffix(OVER), "sends answered")
    tally.rates[f"noisy {what}/s, {name}"].append(done["done"] / seconds)
    if name.endswith(OVER):
        tally.rates[f"noisy {what.split()[0]} refused/s, {name}"].append(done["refused"] / seconds)


def _pair(tally: Tally, name: str, without: Measured, loud: Measured) -> None:
    for what, which in (("ack", "acks"), ("delivery", "deliveries")):
        before, after = without.histogram(which), loud.histogram(which)
        for q in (50, 99):
            tally.values[f"rise of the p{q} of send to {what}, {name} (%)"].append(
                rise(before.quantile(q / 100), after.quantile(q / 100))
            )


def rise(before: float, after: float) -> float:
    """In percent of what it was."""
    return 100.0 * (after - before) / before if before > 0 else 0.0


def targets(ours: PeerResult, variants: tuple[str, ...]) -> list[Target]:
    found = []
    for name in TARGETS:
        for what in ("ack", "delivery"):
            figure = ours.values.get(f"rise of the p99 of send to {what}, {name} (%)")
            if name in variants and figure is not None:
                found.append(
                    below(f"rise of others' p99, send to {what}: {name}", RISE_MAX_PERCENT, figure.median, "%")
                )
    lost = ours.counts.get("quiet sends refused or never answered", 0)
    found.append(exactly("quiet sends refused or never answered", 0, lost, ""))
    return found
