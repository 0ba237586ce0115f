"""Trips under simulation: which worlds have them, what comes of one, and that the store of tracks fails as it should."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from core.ports import Unavailable
from core.tracks import Sample
from proof import history
from proof.sim import drives
from proof.sim.many import Task, live_task
from proof.sim.meters import Meters
from proof.sim.net import Host
from proof.sim.recorder import Recorder, run_t
from proof.sim.store import TruthLog, Way, Weather
from proof.sim.swarm import draw, reduced
from proof.sim.timers import Timers
from proof.sim.tracks import NodeTracks, TruthTracks

SEED = 55
"""The first that has a trip."""


def test_every_twentieth_world_has_a_trip() -> None:
    """With workers; and no log is put back there, which would leave the trip without its plan."""
    drawn = [draw(seed) for seed in range(1_000)]
    driven = [swarm for swarm in drawn if swarm.trips]
    assert 30 <= len(driven) <= 70
    assert all(swarm.workers for swarm in driven)
    assert not any("restore" in swarm.troubles for swarm in driven)
    assert not any("poison" in swarm.troubles and not swarm.flights for swarm in driven)
    assert not draw(1, "short").trips
    assert "1 trip a tenant" in str(driven[0])


def test_a_trip_in_peace() -> None:
    """Its device arrives, everybody who wanted to be told is told, and every promise has something to be judged by."""
    lived = live_task(Task(SEED, changes={"without": draw(SEED).troubles}))
    assert lived.ok, lived.findings
    records = lived.records
    wished = {(one.tenant, one.recipient, one.stop) for one in records if isinstance(one, history.Wished)}
    assert {(recipient, stop) for _, recipient, stop in wished} == {(w.recipient, w.stop) for w in drives.WISHES}
    told = {(one.tenant, one.recipient, one.stop) for one in records if isinstance(one, history.Alerted)}
    assert {each for each in wished if each[2] == "b"} <= told <= wished, "stop a comes too soon after they asked"
    assert all(one.completed == 1 for one in records if isinstance(one, history.Trip))


def test_what_is_fast_in_a_trip_is_not_so_elsewhere() -> None:
    """The waits of alerts are the product's own again afterwards, and in worlds without a trip."""
    before = [getattr(module, name) for module, name, _ in drives.FAST]
    assert before != [value for _, _, value in drives.FAST]
    live_task(Task(SEED, changes={"troubled_s": 0.5, "without": draw(SEED).troubles}))
    assert [getattr(module, name) for module, name, _ in drives.FAST] == before


@pytest.mark.parametrize(
    ("weather", "lands"),
    [
        (Weather(down="away"), False),
        (Weather(refused=1.0), False),
        (Weather(lost_before=1.0), False),
        (Weather(lost_after=1.0), True),
        (Weather(late=1.0), True),
    ],
    ids=["down", "refused", "lost before", "lost after", "late"],
)
async def test_bad_weather_on_the_way_to_the_tracks(weather: Weather, lands: bool, autojump_clock: MockClock) -> None:
    """Each is `Unavailable` to the node; whether the samples are there is what the weather says, and the history has them."""
    recorder, meters, timers = Recorder(), Meters(), Timers()
    log = TruthLog(recorder, meters, now_ms=lambda: 0, new_key=lambda: "k", partitions=1)
    tracks = TruthTracks(log, recorder, meters)
    host = Host("a1", random.Random(1))
    node = NodeTracks(tracks, Way("tracks", "samples", host, timers, meters, recorder, lambda: weather, 1.0))
    at_ms = 1_790_000_001_000
    sample = Sample("amber", "device:v", "trip:9", at_ms, 1, 1.0, 2.0, None, None, None, None, "accepted", "", at_ms)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        with pytest.raises(Unavailable):
            await node.keep([sample], [])
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    kept = [record.seq for record in recorder.records if isinstance(record, history.Sampled)]
    assert kept == ([1] if lands else [])
    assert len(await tracks.track("amber", "trip:9", from_ms=0, to_ms=2 * at_ms)) == len(kept)


def test_times_of_fixes_are_on_the_runs_clock() -> None:
    """Each run begins at the same time of the wall."""
    assert run_t(1_790_000_001_250) == 1.25


def test_a_run_without_its_trip_is_another() -> None:
    """It can be taken away as anything else that a seed drew."""
    assert reduced(draw(SEED), {"trips": 0}).trips == 0
