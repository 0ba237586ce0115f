"""How soon trips' arrival times and alerts are there: ``python -m bench.trips [--trips N] [--seconds S] [--rounds R]``.

A node on a Postgres of its own, with a worker in it. Trips are under way, each with a device that has a key; followers see
arrival times, and somebody of each trip wants to be told ten minutes before. Devices send what they saw until four minutes ago,
at one go: each trip is as far as its plan says, and ten minutes away in a good while yet. Then comes a position of now, after
four minutes for which the plan had eight: by that one, and by nothing else, ten minutes before has passed. Measured is what
comes of it, from its leaving: the arrival time at a follower, the word in the inbox, its answer.

Then the node is killed, and trips are followed on a new one whose positions are in the store: the CPU that they take beyond
that of trips without a past is what the past costs to read and to take. Nobody else is there then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

import trio

from bench.gen.devices import STEP_M, Device, devices, opened
from bench.gen.raw import Swarm
from bench.gen.riders import Dispatch, Figures, Follower, Rider, Run, Vehicle
from bench.load import LoadError
from bench.moving import Numbers, prepare
from bench.node import TENANT, TOKEN_TTL_S, Cluster, Tokens, readback_cluster
from bench.positions import quantiles
from bench.scenarios.common import calm
from bench.stats import Histogram
from core.flight.times import write
from core.geo.polyline import encode
from core.tokens import mint
from core.tracks import Sample
from store.postgres import open_postgres_log

Say = Callable[[str], None]
OWNER: Final = "service:bench"
"""Whose role is admin, and who so gives every command."""
THRESHOLD_S: Final = 600
LEFT_S: Final = 500
"""From the last position to the end."""
LEG_S: Final = 60
PACED: Final = 5
"""Positions of the late message, a leg apart."""
FREE_LEGS, FREE_LEG_S = 4, 120
"""Of the plan between those and the one of now: each takes a minute, and was to take longer."""
LATE_WAVE_S: Final = 2.0
"""In which all devices send what is late."""
AHEAD_S: Final = 60
"""Between a trip's start and its first position."""
FOLLOWED: Final = 10
"""Trips of one follower."""
LATE_S: Final = 10.0
UNANSWERED: Final = 200
"""Commands at once, before anything is measured."""
SETTLE_S: Final = 0.7
"""For what is done at a tick of the node's."""
SECOND_S: Final = 0.3
"""For a second word to somebody, if there is one."""
PAST_TRIPS: Final = 5
PAST_EVERY_MS: Final = 2_000
KEPT_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Shape:
    trips: int = 350
    seconds: float = 10.0
    """In which they all have their position of now."""
    past: int = 2_000
    """Samples in the store of a trip that is taken up anew."""


def _owner(tokens: Tokens) -> str:
    return mint(
        tokens.secret,
        kid=tokens.kid,
        tenant=TENANT,
        principal=OWNER,
        roles=("admin",),
        now_s=time.time(),
        ttl_s=TOKEN_TTL_S,
    )


# -- a round ------------------------------------------------------------------------------------------------------------------


def planned(device: Device, first_ms: int, paced: int) -> dict[str, Any]:
    """The body of `plan`: the device's own road from its first position on, a point a minute, at the device's own pace for so
    many legs, more slowly for `FREE_LEGS`, and at its pace to the end."""
    legs = [LEG_S] * paced + [FREE_LEG_S] * FREE_LEGS + [LEG_S] * (LEFT_S // LEG_S) + [LEFT_S % LEG_S]
    times = [first_ms + 1000 * LEG_S * nth for nth in range(len(legs))]
    points = [device.place(at_ms) for at_ms in (*times, times[-1] + 1000 * legs[-1])]
    lat, lon = points[-1]
    return {
        "mode": "car",
        "subject": device.name,
        "stops": [{"stop": "end", "lat": lat, "lon": lon}],
        "route": {"polyline": encode(points, 6), "legs_s": legs, "source": "bench"},
    }


async def _until(done: Callable[[], bool], what: str, limit_s: float = LATE_S) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise LoadError(what)
        await asyncio.sleep(0.01)


async def _set_out(dispatch: Dispatch, runs: Sequence[Run], paced: int) -> int:
    """Each is planned and has begun, its rider's wish is known; when their first positions are of."""
    first_ms = time.time_ns() // 1_000_000 - 1000 * LEG_S * (paced + FREE_LEGS)
    for run in runs:
        stream = run.device.trip
        dispatch.command(stream, "plan", **planned(run.device, first_ms, paced))
        dispatch.command(stream, "start", at=write(first_ms - 1000 * AHEAD_S))
        if run.rider:
            dispatch.command(stream, "notify", recipient=run.rider, stop="end", thresholds_s=[THRESHOLD_S])
        if len(dispatch.waiting) > UNANSWERED or run is runs[-1]:
            await _until(lambda: not dispatch.waiting, "trips could not be planned in time")
    if dispatch.refused:
        raise LoadError(f"trips could not be planned: {dict(dispatch.refused)}")
    return first_ms


async def _wave(says: Sequence[Callable[[], None]], seconds: float) -> None:
    """Evenly, whatever is answered."""
    began = time.monotonic()
    for nth, say in enumerate(says):
        await asyncio.sleep(max(0.0, began + seconds * nth / len(says) - time.monotonic()))
        say()


async def _shown(runs: Sequence[Run], figures: Figures) -> None:
    try:
        await _until(lambda: all(run.shown for run in runs), "")
    except LoadError:
        missing = [run.device.trip for run in runs if not run.shown]
        said = f"{len(missing)} of {len(runs)} trips have no arrival time after what was late, {missing[0]} one of them"
        raise LoadError(f"{said}; not accepted: {dict(figures.refused)}") from None


async def _round(
    cluster: Cluster, swarm: Swarm, fleet: Sequence[Device], tokens: Tokens, shape: Shape, figures: Figures
) -> None:
    runs = [Run(device, f"user:r{device.number}") for device in fleet]
    dispatch = Dispatch(swarm, _owner(tokens))
    vehicles = [Vehicle(swarm, tokens.mint(run.device.name), run, figures) for run in runs]
    followers = [
        Follower(swarm, tokens.mint(f"user:f{at}"), runs[at : at + FOLLOWED], figures)
        for at in range(0, len(runs), FOLLOWED)
    ]
    riders = [Rider(swarm, tokens.mint(run.rider), run, figures) for run in runs]
    await opened([dispatch, *vehicles, *followers, *riders])
    first_ms = await _set_out(dispatch, runs, PACED)
    late_ms = [first_ms + 1000 * LEG_S * nth for nth in range(PACED)]
    await _wave([partial(vehicle.say_late, late_ms) for vehicle in vehicles], LATE_WAVE_S)
    await _shown(runs, figures)
    await asyncio.to_thread(calm, cluster)  # 350 trips that begin in two seconds leave more behind than trips do
    used, began = cluster.cpu_s()["nodes"], time.monotonic()
    await _wave([vehicle.say for vehicle in vehicles], shape.seconds)
    figures.busy.append((cluster.cpu_s()["nodes"] - used) / (time.monotonic() - began))
    with contextlib.suppress(LoadError):  # those who are not told, or shown nothing, are counted
        await _until(lambda: all(run.told and run.sent_ns is None for run in runs), "some were not told")
    await asyncio.sleep(SECOND_S)
    figures.missing += sum(not run.told for run in runs)
    figures.unshown += sum(run.sent_ns is not None for run in runs)
    figures.refused.update(dispatch.refused)


# -- trips with a past --------------------------------------------------------------------------------------------------------


def samples(device: Device, count: int, until_ms: int) -> list[Sample]:
    made = []
    for nth in range(count):
        at_ms = until_ms - PAST_EVERY_MS * (count - nth)
        lat, lon = device.place(at_ms)
        made.append(
            Sample(
                TENANT,
                device.name,
                device.trip,
                at_ms,
                nth + 1,
                lat,
                lon,
                5.0,
                STEP_M,
                90.0,
                None,
                "accepted",
                "",
                at_ms,
            )
        )
    return made


async def _keep_past(url: str, fleet: Sequence[Device], count: int) -> None:
    async with open_postgres_log(url) as log:
        for device in fleet:
            made = samples(device, count, time.time_ns() // 1_000_000)
            for at in range(0, count, KEPT_AT_ONCE):
                await log.tracks.keep(made[at : at + KEPT_AT_ONCE], [])
            device.seq = count


async def _plan(swarm: Swarm, runs: Sequence[Run], tokens: Tokens, past: int) -> None:
    dispatch = Dispatch(swarm, _owner(tokens))
    await opened([dispatch])
    await _set_out(dispatch, runs, past * PAST_EVERY_MS // (1000 * LEG_S) + 1)  # plans begin before pasts do


async def _taken_up(
    cluster: Cluster, swarm: Swarm, bare: Sequence[Run], past: Sequence[Run], tokens: Tokens, own: Figures
) -> float:
    """Trips are followed, each by a connection of its own, on a node that knows none: those without a past, then those with
    one. Seconds of the node's CPU that a past took, each."""

    def timed(count: int) -> bool:
        return len(own.eta) == count

    used = [cluster.cpu_s()["nodes"]]
    for runs in (bare, past):
        for run in runs:
            follower = Follower(swarm, tokens.mint("user:f"), [run], own)
            await opened([follower])
            if runs is past:
                await _until(
                    partial(getattr, run, "shown"),
                    f"{run.device.trip}, whose past is in the store, has no arrival time",
                )
                own.taken_up.append(time.monotonic_ns() - follower.began_ns)
            else:
                await asyncio.sleep(SETTLE_S)
        await asyncio.sleep(SETTLE_S)
        used.append(cluster.cpu_s()["nodes"])
    vehicles = [Vehicle(swarm, tokens.mint(run.device.name), run, own) for run in bare]
    await opened(vehicles)
    for nth, vehicle in enumerate(vehicles, 1):
        vehicle.say()
        await _until(partial(timed, nth), f"{vehicle.run.device.trip} has no arrival time")
    return (used[2] - used[1] - (used[1] - used[0])) / len(past)


# -- all of it ----------------------------------------------------------------------------------------------------------------


async def _connected(cluster: Cluster, work: Callable[[Swarm], Awaitable[None]]) -> None:
    """However it ends, no connection is left."""
    with contextlib.closing(Swarm(cluster.port)) as swarm:
        await work(swarm)


def one_round(cluster: Cluster, numbers: Numbers, shape: Shape, figures: Figures, say: Say) -> None:
    """On a node that has a worker. `LoadError` where nothing could be measured."""
    assert cluster.base is not None
    assert cluster.database_url is not None
    tokens = Tokens(cluster.base.secrets_path)
    first = numbers.take(shape.trips + 2 * PAST_TRIPS)
    made = devices(first, shape.trips + 2 * PAST_TRIPS)
    fleet, bare, past = made[: shape.trips], made[shape.trips : -PAST_TRIPS], made[-PAST_TRIPS:]
    prepare(cluster, first, len(made))
    say(f"{shape.trips} trips")
    asyncio.run(_connected(cluster, lambda swarm: _round(cluster, swarm, fleet, tokens, shape, figures)))
    say(f"trips with {shape.past:,} samples in the store, on a new node")
    new, old = [Run(device) for device in bare], [Run(device) for device in past]
    asyncio.run(_connected(cluster, lambda swarm: _plan(swarm, [*new, *old], tokens, shape.past)))
    trio.run(_keep_past, cluster.database_url, past, shape.past)
    cluster.kill(0)
    cluster.replace(0)
    calm(cluster)
    own, found = Figures(), list[float]()

    async def measured(swarm: Swarm) -> None:
        found.append(await _taken_up(cluster, swarm, new, old, tokens, own))

    asyncio.run(_connected(cluster, measured))
    figures.first += own.eta
    figures.taken_up += own.taken_up
    figures.past_ms.append(1000 * found[0] / (shape.past / 1000))
    figures.refused.update(own.refused)


ENV: Final = {"READBACK_WORK": "true"}


def main() -> None:
    usual = Shape()
    parser = argparse.ArgumentParser(prog="python -m bench.trips", description=__doc__)
    parser.add_argument("--trips", type=int, default=usual.trips)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="in which all have a position of now")
    parser.add_argument("--past", type=int, default=usual.past, help="samples of a trip that is taken up anew")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    shape, figures, numbers = Shape(chosen.trips, chosen.seconds, chosen.past), Figures(), Numbers()
    with readback_cluster(1, bus=False, env=ENV) as cluster:
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        for _ in range(chosen.rounds):
            one_round(cluster, numbers, shape, figures, lambda what: print(what, flush=True))
    for what, took in (
        ("position of now to the arrival time it made", figures.eta),
        ("position of now to the word in an inbox", figures.alert),
        ("position of now to its answer", figures.answer),
        ("a trip's first position to its arrival time, alone", figures.first),
        (f"following a trip of {shape.past:,} samples on a new node", figures.taken_up),
    ):
        histogram = Histogram()
        histogram.record_all(took)
        print(f"{what:50} {len(took):6}   {quantiles(histogram)}")
    print(f"a trip taken up anew: {median(figures.past_ms):.1f} ms of the node's CPU per 1,000 samples of its past")
    print(f"node {median(figures.busy):.0%} of a core; {figures.unshown} positions showed nothing")
    print(
        f"told early {figures.early}, never {figures.missing}, twice {figures.doubled}; refused {dict(figures.refused)}"
    )


if __name__ == "__main__":
    main()
