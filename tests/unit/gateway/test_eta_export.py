"""History of one's own: trips out of streams and positions, in memory; who is left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.flight.times import write
from gateway.cli_errors import CliError
from gateway.config import load_config
from gateway.eta import export, exporting
from gateway.eta.export import Wanted, history
from gateway.eta.trips import read_trips
from store.memory_tracks import MemoryTracks
from tests import eta_world
from tests.nodes import memory_log
from tests.own_trips import TENANT, Driven, drive, plan_of

EVER = Wanted(0, 2**53, "UTC", ("car",))
MADE = eta_world.make_trip(0, 1)
START_MS = int(1000 * datetime.fromisoformat(MADE["start"]).timestamp())
END_MS = START_MS + 1000 * MADE["arrive_s"]


class Fleet:
    """Trips in memory."""

    def __init__(self) -> None:
        self.log = memory_log()
        self.tracks = MemoryTracks(self.log)
        self.all: list[Driven] = []

    def new(self, name: str) -> Driven:
        self.all.append(Driven(self.log, self.tracks, name))
        return self.all[-1]

    async def told(self, wanted: Wanted = EVER) -> tuple[list[dict[str, Any]], dict[str, int]]:
        async def streams() -> AsyncIterator[tuple[int, str]]:
            for driven in self.all:
                yield driven.sid, driven.stream

        left_out: Counter[str] = Counter()
        found = [line async for line in history(self.log, self.tracks, TENANT, streams(), wanted, left_out)]
        assert len(found) == len(self.all)
        return [line for line in found if line is not None], dict(left_out)


async def test_a_trip_that_was_driven_is_a_line_of_history(tmp_path: Path) -> None:
    """Way, positions, arrival as they were; the hour of the week is told where the tenant is; `train` can read it."""
    fleet = Fleet()
    await drive(fleet.new("one"), MADE)
    [line], left_out = await fleet.told(EVER._replace(zone="Asia/Kolkata"))
    assert left_out == {}
    assert (line["trip"], line["vehicle"], line["mode"], line["source"]) == ("one", "device:van-00", "car", "osrm")
    assert datetime.fromisoformat(line["start"]).timestamp() == START_MS / 1000
    assert line["start"].endswith("+05:30")
    assert line["route"] == MADE["route"]
    assert line["fixes"] == [[float(at_s), lat, lon] for at_s, lat, lon in MADE["fixes"]]
    assert line["arrive_s"] == MADE["arrive_s"]
    path = tmp_path / "trips.jsonl"
    path.write_bytes(orjson.dumps(line))
    assert read_trips(path)[0].arrive_s == MADE["arrive_s"]


async def test_positions_that_were_not_believed_and_of_others_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As well as those of before it began and after it arrived; of many pages all are read."""
    monkeypatch.setattr(export, "TRACK_LIMIT_MAX", 4)
    whole = MemoryTracks.track

    async def paged(self: MemoryTracks, *args: Any, **how: Any) -> Any:
        return await whole(self, *args, **{**how, "limit": 4})

    monkeypatch.setattr(MemoryTracks, "track", paged)
    fleet = Fleet()
    driven = fleet.new("one")
    await drive(driven, MADE)
    subject = "device:van-00"
    await driven.samples(subject, [(START_MS + 1, 10.0, 20.0)], "quarantined")
    await driven.samples(subject, [(START_MS + 2, 10.0, 20.0)], "degraded")
    await driven.samples(subject, [(START_MS - 1, 10.0, 20.0), (END_MS + 1, 10.0, 20.0)])
    await driven.samples("device:other", [(START_MS + 3, 10.0, 20.0)])
    [line], _ = await fleet.told()
    times = [at_s for at_s, _, _ in line["fixes"]]
    assert len(times) == len(MADE["fixes"]) + 1
    assert 0.002 in times
    assert times == sorted(times)


async def test_what_cannot_teach_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counted once."""
    fleet = Fleet()
    await fleet.new("empty").open()
    await drive(fleet.new("google"), MADE, source="Google Routes")
    planned = plan_of(MADE)
    bare = {name: value for name, value in planned.items() if name != "route"}
    for name, plan, again in (
        ("wayless", bare, None),
        ("turned", planned, planned | {"route": {**planned["route"], "source": "other"}}),
        ("afoot", planned | {"mode": "foot"}, None),
        ("silent", planned, None),
    ):
        driven = fleet.new(name)
        await driven.open()
        await driven.command("plan", START_MS, **plan)
        await driven.command("start", START_MS, at=write(START_MS))
        if again is not None:
            await driven.command("plan", START_MS, **again)
        await driven.command("arrive", END_MS, stop="goal", at=write(END_MS))
        await driven.command("complete", END_MS, at=write(END_MS))
    missed = fleet.new("missed")
    await missed.open()
    await missed.command("plan", START_MS, **planned)
    await missed.command("start", START_MS, at=write(START_MS))
    await missed.command("complete", END_MS, at=write(END_MS))
    found, left_out = await fleet.told()
    assert found == []
    assert left_out == {
        "not completed": 1,
        "its way is Google's, which must not be kept": 1,
        "planned without a way": 1,
        "planned anew on the way": 1,
        "of another mode": 1,
        "without positions": 1,
        "its last stop was not reached": 1,
    }
    assert (await fleet.told(EVER._replace(to_ms=START_MS)))[1]["of another time"] == 6
    fleet.all = [fleet.new("long")]
    await drive(fleet.all[0], MADE)
    monkeypatch.setattr(export, "FIXES_MAX", 5)
    assert (await fleet.told())[1] == {"of more than 5 positions": 1}


async def test_a_stream_of_many_events_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a way of an older version that cannot be read is none."""
    monkeypatch.setattr(export, "FOLDED_AT_ONCE", 1)
    fleet = Fleet()
    await drive(fleet.new("one"), MADE)
    assert len((await fleet.told())[0]) == 1
    monkeypatch.setattr(export, "decode", lambda *_: "not a polyline")
    assert (await fleet.told())[1] == {"planned without a way": 1}


def test_times_and_zones_that_are_none_are_sentences(tmp_path: Path) -> None:
    """A day is one of the zone's; a time with an offset says its own."""
    config = load_config(arguments={"data": tmp_path}, environ={})
    found = exporting.wanted(config, TENANT, "2026-11-01", "2026-11-02T00:00:00Z", "Europe/Berlin", ("car",))
    assert found.from_ms == int(1000 * datetime.fromisoformat("2026-10-31T23:00:00+00:00").timestamp())
    assert found.to_ms == int(1000 * datetime.fromisoformat("2026-11-02T00:00:00+00:00").timestamp())
    assert exporting.wanted(config, TENANT, None, None, None, ())[:3] == (0, exporting.LATEST_MS, "UTC")
    with pytest.raises(CliError, match="--to: 'soon' is neither"):
        exporting.wanted(config, TENANT, None, "soon", None, ())
    with pytest.raises(CliError, match="no time zone 'Mars'"):
        exporting.wanted(config, TENANT, None, None, "Mars", ())
