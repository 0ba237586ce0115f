"""Trips that were driven, for tests of history: kept in a log and its tracks as the gateway keeps them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from core.flight.times import write
from core.geo.polyline import encode
from core.ports import Log
from core.tracks import Kept, Sample, Tracks
from tests.flight_facts import Facts

TENANT: Final = "acme"


class Driven:
    """One trip stream; made when it is opened or first told of."""

    def __init__(self, log: Log, tracks: Tracks, name: str) -> None:
        self.tracks, self.stream = tracks, f"trip:{name}"
        self.sid = 0
        self._facts = Facts(log, TENANT)

    async def open(self) -> None:
        self.sid = await self._facts.sid(self.stream)

    async def command(self, verb: str, at_ms: int, **body: Any) -> None:
        """Obeyed, or the test is wrong."""
        await self._facts.give(self.stream, verb, at_ms, **body)

    async def samples(self, subject: str, fixes: list[tuple[int, float, float]], verdict: Kept = "accepted") -> None:
        """(Unix milliseconds, latitude, longitude)."""
        kept = [
            Sample(TENANT, subject, self.stream, at_ms, 0, lat, lon, None, None, None, None, verdict, "", at_ms + 500)
            for at_ms, lat, lon in fixes
        ]
        await self.tracks.keep(kept, [])


def plan_of(made: dict[str, Any], source: str = "osrm") -> dict[str, Any]:
    lat, lon = made["route"][-1]
    return {
        "mode": "car",
        "subject": f"device:{made['vehicle']}",
        "stops": [{"stop": "goal", "lat": lat, "lon": lon}],
        "route": {"polyline": encode(made["route"], 6), "source": source},
    }


async def drive(driven: Driven, made: dict[str, Any], source: str = "osrm") -> None:
    """A trip of a file (`tests.eta_world`), from its plan to its end."""
    await driven.open()
    start_ms = int(1000 * datetime.fromisoformat(made["start"]).timestamp())
    end_ms = start_ms + 1000 * made["arrive_s"]
    await driven.command("plan", start_ms, **plan_of(made, source))
    await driven.command("start", start_ms, at=write(start_ms))
    fixes = [(start_ms + 1000 * at_s, lat, lon) for at_s, lat, lon in made["fixes"]]
    await driven.samples(f"device:{made['vehicle']}", fixes)
    await driven.command("arrive", end_ms, stop="goal", at=write(end_ms))
    await driven.command("complete", end_ms, at=write(end_ms))
