"""What the HTTP API asks about trips, tracks and fences: a small port beside `gateway.service.Service`, and its values.

Every method authorises by itself, as there: a trip is read by who may follow its stream, fences are for tokens with role
`admin` or `service`. Failures are those of `gateway.service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from core.tokens import Identity
from core.tracks import Fence, Last, Sample
from gateway.reads_service import State


@dataclass(frozen=True, slots=True)
class Asked:
    """Samples with ``from_ms`` <= time < ``to_ms``, at most ``limit`` past ``after``; thinned where ``simplify_m`` is above
    0."""

    from_ms: int
    to_ms: int
    subject: str | None = None
    after: str = ""
    limit: int = 1_000
    quarantined: bool = False
    simplify_m: float = 0.0


class Track(NamedTuple):
    """By time. ``next`` goes on where this page ends; ``None``: that was the last."""

    samples: Sequence[Sample]
    next: str | None


class Shown(NamedTuple):
    """Where a subject was last, ``age_s`` ago; ``stale``: it has been silent for longer than the tenant allows."""

    last: Last
    age_s: float
    stale: bool


class TripsService(Protocol):
    """Names in arguments were checked for shape, not for rights."""

    async def trip(self, who: Identity, trip: str) -> State: ...

    async def track(self, who: Identity, trip: str, asked: Asked) -> Track: ...

    async def live(self, who: Identity, trip: str) -> Sequence[Shown]:
        """By subject."""
        ...

    async def fences(self, who: Identity) -> Sequence[Fence]:
        """By id."""
        ...

    async def fence(self, who: Identity, fence: str) -> Fence: ...

    async def put_fence(self, who: Identity, fence: Fence) -> bool:
        """Whether it is new."""
        ...

    async def drop_fence(self, who: Identity, fence: str) -> None: ...
