"""`chat`: many rooms, every send committed, acknowledged and delivered to everyone in its room.

In every round: the most sends a second with a fixed number outstanding; then half of that as an open loop, for the
latency that a user would see; then one send at a time on the idle server, beside the bare commit of one entry in the
same Postgres, taken by turns.
"""

from __future__ import annotations

from typing import Any

from bench.load import Load, LoadError, Loads, Measured
from bench.model import PeerResult, Result, Target, at_least, at_most, exactly
from bench.node import TENANT
from bench.scenarios.common import Context, Tally, begin, calm, field_of, jobs, result
from bench.servers import Server
from bench.stats import Histogram

DEFAULT_PEERS = ("readback", "picows", "ws")
NOTES = (
    (
        "Saturated: a fixed number of sends outstanding over all connections, the next leaves when one is answered. Every "
        "send is delivered to everyone in its room, the sender too, and all of it is read by the generator."
    ),
    (
        "At half: sends are due at fixed moments at half the saturated rate of the same round, and latency counts from the "
        "due moment, so a stall is paid for by every send it delays."
    ),
    (
        "Lone: one send at a time on an idle server. The bare commit is the store's own append of one entry "
        "in a process without a gateway, in the same Postgres, by turns with it."
    ),
    "Peers other than readback are not durable: an answer there means that a counter in memory was raised.",
    "Every answer's latency is recorded; send-to-delivery is sampled on one connection of every tenth room.",
)


def run(
    ctx: Context,
    *,
    rooms: int = 40,
    clients: int = 5,
    outstanding: int = 1_600,
    payload: int = 130,
    seconds: float = 6.0,
    lone: int = 200,
) -> Result:
    """``clients`` are those of one room; ``lone`` is the number of lone sends a round."""
    began = begin()
    warm = 1.5
    if ctx.quick:
        rooms, outstanding, seconds, warm, lone = min(rooms, 10), min(outstanding, 50), 1.0, 0.2, 40
    names = [f"chat:room-{number}" for number in range(rooms)]
    shape = {"rooms": names, "payload": payload, "sample": 10}
    with field_of(ctx, ctx.peers) as field:
        field.create_streams(names)
        for turn in range(ctx.rounds):
            for server, tally, note in field.each("chat", turn, ctx.rounds):
                with field.attempt(server):
                    _round(ctx, server, tally, note, shape, rooms * clients, outstanding, seconds, warm, lone)
        made = result(
            ctx,
            "chat",
            began,
            {
                "rooms": rooms,
                "clients_a_room": clients,
                "outstanding": outstanding,
                "payload": payload,
                "seconds": seconds,
                "rounds": ctx.rounds,
            },
            field.results(ctx.peers),
            [],
            NOTES,
        )
    ours = made.peer("readback")
    if ours:
        made.targets += _targets(ours)
    return made


def _round(
    ctx: Context,
    server: Server,
    tally: Tally,
    note: str,
    shape: dict[str, Any],
    connections: int,
    outstanding: int,
    seconds: float,
    warm: float,
    lone: int,
) -> None:
    def progress(done: int, of: int, what: str) -> None:
        ctx.progress(done, of, f"{note}: {what}")

    with Loads.start(jobs(ctx, "chat", server, connections, **shape), progress) as loads:
        loads.ready()
        ctx.say(f"{note}: saturating for {seconds:g} s")
        share = max(1, outstanding // len(loads.loads))
        full = loads.measure(server, seconds, warm, phase="saturate", outstanding=share)
        _count(tally, full, "saturated")
        rate = full.total("answered") / full.seconds
        tally.rates["sends/s, saturated"].append(rate)
        tally.rates["deliveries/s, saturated"].append(full.total("delivered") / full.seconds)
        tally.cpu(full, "send, saturated", full.total("answered"))
        loads.ready()
        ctx.say(f"{note}: open loop at {rate / 2:,.0f} sends/s")
        half = loads.measure(server, seconds, warm, phase="rate", rate=rate / 2 / len(loads.loads))
        _count(tally, half, "at half")
        tally.rates["sends/s, at half"].append(half.total("answered") / half.seconds)
        tally.cpu(half, "send, at half", half.total("answered"))
        tally.counts["sends that left late, at half"] += half.total("late")
        loads.ready()
        ctx.say(f"{note}: lone sends")
        _lone(server, tally, loads.loads[0], shape, lone)
        for load in loads.loads[1:]:
            load.go(phase="end")
        loads.loads[0].go(phase="end")
    calm(server)


def _count(tally: Tally, measured: Measured, when: str) -> None:
    refusals = measured.total("refusals")
    if refusals and not measured.total("answered"):
        raise LoadError(f"{tally.peer} refused every send: {measured.results[0]['refused']}")
    tally.latency[f"send to ack, {when}"].merge(measured.histogram("acks"))
    tally.latency[f"send to delivery, {when}"].merge(measured.histogram("deliveries"))
    tally.counts["sends answered in windows"] += measured.total("answered")
    tally.counts["sends refused"] += refusals
    tally.counts["sends never answered"] += measured.total("unanswered")


def _lone(server: Server, tally: Tally, load: Load, shape: dict[str, Any], count: int) -> None:
    """Lone sends and bare commits by turns, so that both see the same machine."""
    turns = 4
    if server.database_url is None:
        load.go(phase="lone", count=count)
        tally.latency["lone send to ack"].merge(Histogram.from_json(load.result()["acks"]))
        load.ready()
        return
    job = {
        "kind": "commit",
        "url": server.database_url,
        "tenant": TENANT,
        "stream": shape["rooms"][0],
        "payload": shape["payload"],
    }
    with Loads.start([job], lambda done, of, what: None) as commits:
        only = commits.loads[0]
        for _ in range(turns):
            load.go(phase="lone", count=count // turns)
            tally.latency["lone send to ack"].merge(Histogram.from_json(load.result()["acks"]))
            load.ready()
            only.ready()
            only.go(count=count // turns)
            tally.latency["bare commit of one"].merge(Histogram.from_json(only.result()["commit"]))
        only.ready()
        only.go(count=0)


def _targets(ours: PeerResult) -> list[Target]:
    found = [at_least("durable sends/s, saturated", 25_000, ours.rates["sends/s, saturated"].median, "sends/s")]
    p99 = ours.latency_us["send to ack, at half"].p99_us
    if p99 is not None:
        found.append(at_most("send to ack p99, open loop at half of that", 25, p99 / 1000, "ms"))
    over = ours.latency_us["lone send to ack"].p50_us - ours.latency_us["bare commit of one"].p50_us
    found.append(at_most("a lone send's p50 beyond its bare commit's", 0.5, over / 1000, "ms"))
    found.append(exactly("sends never answered", 0, ours.counts["sends never answered"], ""))
    return found
