"""History of one's own: trips that a tenant completed, out of their streams and the positions that were kept, as lines of a
file of trips (docs/eta.md).

Left out, each with its reason: trips that are not completed or whose last stop nobody reached; whose plan had no way, or got
another one while they were under way (fixes would be compared with a way they were not on); whose way is from a provider that
lets nothing be kept (`core.geo.routing`); who left no positions, or whose stream or positions were forgotten by then.

For: `readback eta export`. Promises: times are the trip's own, none of a provider's goes into the file; one trip is held at
a time. Does not: change anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Collection
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from core.commands import FOLDED_AT_ONCE, recorded
from core.geo.polyline import decode
from core.ports import Log
from core.tracks import TRACK_LIMIT_MAX, Sample, Tracks
from core.trip.plan import POLYLINE_PRECISION
from core.trip.state import Trip, evolve

FIXES_MAX: Final = 100_000
"""Of one trip: a day and more at one a second; the line stays within what is read."""
FIXES_MIN: Final = 3
NOT_KEPT: Final = "google"
"""Ways whose source begins so must not be kept: the provider's terms (`core.geo.routing`)."""


class Wanted(NamedTuple):
    """Trips that began from ``from_ms`` on and before ``to_ms``, of these modes. ``zone`` says what time of the week it was."""

    from_ms: int
    to_ms: int
    zone: str
    modes: Collection[str]


class Folded(NamedTuple):
    """``turned``: it was planned another way while it was under way."""

    trip: Trip
    turned: bool


async def fold(log: Log, tenant: str, sid: int) -> Folded:
    trip, turned, seq = Trip(), False, 0
    while True:
        events = await log.ruled(tenant, sid, seq, FOLDED_AT_ONCE)
        for event in events:
            before, trip, seq = trip, evolve(trip, recorded(event)), event.seq
            if before.status == "underway" and before.plan is not None and trip.plan is not None:
                turned = turned or before.plan.route != trip.plan.route or before.plan.subject != trip.plan.subject
        if len(events) < FOLDED_AT_ONCE:
            return Folded(trip, turned)


async def history(
    log: Log,
    tracks: Tracks,
    tenant: str,
    streams: AsyncIterable[tuple[int, str]],
    wanted: Wanted,
    left_out: Counter[str],
) -> AsyncIterator[dict[str, Any] | None]:
    """A line for each stream, ``None`` for one that is left out, whose reason is counted."""
    async for sid, stream in streams:
        folded = await fold(log, tenant, sid)
        why = _unfit(folded, wanted)
        line = why or await _line(tracks, tenant, stream, folded.trip, wanted.zone)
        if isinstance(line, str):
            left_out[line] += 1
            yield None
        else:
            yield line


def _unfit(folded: Folded, wanted: Wanted) -> str:
    trip, turned = folded
    plan, started_ms = trip.plan, trip.started_ms
    if plan is None or started_ms is None or trip.status != "completed":
        return "not completed"
    if not wanted.from_ms <= started_ms < wanted.to_ms:
        return "of another time"
    if plan.mode not in wanted.modes:
        return "of another mode"
    arrived_ms = trip.stops[plan.stops[-1].stop].arrived_ms
    if arrived_ms is None or arrived_ms <= started_ms:
        return "its last stop was not reached"
    if plan.route is None:
        return "planned without a way"
    if turned:
        return "planned anew on the way"
    if plan.route.source.strip().lower().startswith(NOT_KEPT):
        return "its way is Google's, which must not be kept"
    return ""


async def _line(tracks: Tracks, tenant: str, stream: str, trip: Trip, zone: str) -> dict[str, Any] | str:
    plan, started_ms = trip.plan, trip.started_ms
    assert plan is not None
    assert plan.route is not None
    assert started_ms is not None
    arrived_ms = trip.stops[plan.stops[-1].stop].arrived_ms
    assert arrived_ms is not None
    points = decode(plan.route.polyline, POLYLINE_PRECISION)
    if isinstance(points, str) or len(points) < 2:
        return "planned without a way"
    samples = await _samples(tracks, tenant, stream, plan.subject, started_ms, arrived_ms + 1)
    if len(samples) < FIXES_MIN:
        return "without positions"
    if len(samples) > FIXES_MAX:
        return f"of more than {FIXES_MAX} positions"
    began = datetime.fromtimestamp(started_ms / 1000, ZoneInfo(zone))
    return {
        "trip": stream.removeprefix("trip:"),
        "vehicle": plan.subject,
        "mode": plan.mode,
        "source": plan.route.source,
        "start": began.isoformat(timespec="seconds"),
        "route": [[round(lat, 6), round(lon, 6)] for lat, lon in points],
        "fixes": [[(one.at_ms - started_ms) / 1000, round(one.lat, 6), round(one.lon, 6)] for one in samples],
        "arrive_s": (arrived_ms - started_ms) / 1000,
    }


async def _samples(tracks: Tracks, tenant: str, stream: str, subject: str, from_ms: int, to_ms: int) -> list[Sample]:
    """Those that were believed, in their order."""
    found: list[Sample] = []
    after: tuple[int, str, int] | None = None
    while len(found) <= FIXES_MAX:
        page = await tracks.track(tenant, stream, from_ms=from_ms, to_ms=to_ms, subject=subject, after=after)
        found += [sample for sample in page if sample.verdict != "quarantined"]
        if len(page) < TRACK_LIMIT_MAX:
            break
        after = page[-1].at_ms, page[-1].subject, page[-1].seq
    return found
