"""`gateway.trips_service.TripsService` over a node and its store of tracks.

A trip's state is folded from its stream at once, so that it has all that was committed when it was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

import trio

from core.geo.fences import problem
from core.geo.simplify import kept
from core.policy import StreamAction, TenantAction, may, may_in_tenant
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity
from core.tracks import Fence, Sample, Tracks
from core.trip.export import by_subject
from gateway.desk import Desk
from gateway.facts import Facts
from gateway.node import Node
from gateway.ops import unavailable
from gateway.reads_service import State
from gateway.service import WireError
from gateway.trips_service import Asked, Shown, Track

KEPT_EVENTS_MAX: Final = 10_000
"""Parsed facts of trips kept: what is asked for again and again is a few trips, of some dozens of facts each."""
AT_ONCE: Final = 500
"""Samples thinned in one turn of the node's loop (2 ms); more are in a thread, beside it."""

Value = TypeVar("Value")


class TripsDesk:
    """``tracks`` is ``None`` where this node keeps none: then all but a trip's state is unavailable."""

    def __init__(self, node: Node, desk: Desk, tracks: Tracks | None) -> None:
        self._node = node
        self._desk = desk
        self._tracks = tracks
        self._facts = Facts(node, desk, KEPT_EVENTS_MAX)

    # -- one trip -------------------------------------------------------------------------------------------------------

    async def trip(self, who: Identity, trip: str) -> State:
        return await self._facts.state(who, await self._stream(who, trip))

    async def track(self, who: Identity, trip: str, asked: Asked) -> Track:
        after = _cursor(asked.after)
        stream = await self._stream(who, trip)
        samples = await _asked(
            self._store().track(
                who.tenant,
                stream.name,
                from_ms=asked.from_ms,
                to_ms=asked.to_ms,
                subject=asked.subject,
                after=after,
                limit=asked.limit,
            )
        )
        last = samples[-1] if len(samples) == asked.limit else None
        if not asked.quarantined:
            samples = [sample for sample in samples if sample.verdict != "quarantined"]
        if asked.simplify_m > 0 and len(samples) <= AT_ONCE:
            samples = thinned(samples, asked.simplify_m)
        elif asked.simplify_m > 0:
            samples = await trio.to_thread.run_sync(thinned, samples, asked.simplify_m)
        return Track(samples, None if last is None else f"{last.at_ms}.{last.seq}.{last.subject}")

    async def live(self, who: Identity, trip: str) -> Sequence[Shown]:
        stream = await self._stream(who, trip)
        lasts = await _asked(self._store().shown(who.tenant, stream.name))
        now_ms = int(1000 * self._node.wall())
        stale_s = self._node.gatekeeper.tenants.arrivals_of(who.tenant).stale_s
        ages = [max(0, now_ms - last.at_ms) / 1000 for last in lasts]
        return [Shown(last, age_s, age_s > stale_s) for last, age_s in zip(lasts, ages, strict=True)]

    async def _stream(self, who: Identity, trip: str) -> Stream:
        """Every read counts as one of history."""
        self._node.gatekeeper.history(self._node.gatekeeper.meter(who))
        stream = await self._desk.readable(who, f"trip:{trip}")
        if not may(StreamAction.READ_TRACK, stream.role(who.principal, who.standing)):
            raise WireError("forbidden", f"{stream.name} is not for you to look at")
        return stream

    # -- fences -----------------------------------------------------------------------------------------------------------

    async def fences(self, who: Identity) -> Sequence[Fence]:
        self._check_drawer(who)
        return await _asked(self._store().fences(who.tenant))

    async def fence(self, who: Identity, fence: str) -> Fence:
        for known in await self.fences(who):
            if known.fence == fence:
                return known
        raise _no_fence(fence)

    async def put_fence(self, who: Identity, fence: Fence) -> bool:
        self._check_drawer(who)
        wrong = problem(fence)
        if wrong:
            raise WireError("bad_request", wrong)
        await self._node.noted(who.tenant, "fence.put", value=fence.fence, by=who.principal)
        return await _asked(self._store().put_fence(who.tenant, fence))

    async def drop_fence(self, who: Identity, fence: str) -> None:
        self._check_drawer(who)
        await self._node.noted(who.tenant, "fence.removed", value=fence, by=who.principal)
        if not await _asked(self._store().drop_fence(who.tenant, fence)):
            raise _no_fence(fence)

    @staticmethod
    def _check_drawer(who: Identity) -> None:
        if not may_in_tenant(TenantAction.MANAGE_FENCES, who.roles):
            raise WireError("forbidden", "fences are for tokens with role admin or service")

    def _store(self) -> Tracks:
        if self._tracks is None:
            raise WireError("unavailable", "this node keeps no positions")
        return self._tracks


def thinned(samples: Sequence[Sample], tolerance_m: float) -> list[Sample]:
    """By `core.geo.simplify`, each subject by itself; in the order that they had."""
    stay: set[int] = set()
    for track in by_subject(samples).values():
        stay.update(id(track[at]) for at in kept([(sample.lat, sample.lon) for sample in track], tolerance_m))
    return [sample for sample in samples if id(sample) in stay]


def _cursor(text: str) -> tuple[int, str, int] | None:
    """What `Track.next` was. Raises `WireError`."""
    if not text:
        return None
    at, _, rest = text.partition(".")
    seq, _, subject = rest.partition(".")
    try:
        return int(at), subject, int(seq)
    except ValueError:
        raise WireError("bad_request", "after: the `next` of a page before") from None


async def _asked(answer: Awaitable[Value]) -> Value:
    try:
        return await answer
    except Unavailable as error:
        raise unavailable(error) from None


def _no_fence(fence: str) -> WireError:
    return WireError("not_found", f"there is no fence {fence}")
