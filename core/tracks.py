"""The port of tracks: samples of positions as they were taken, where each subject is, fences, and where pushes go.

Two adapters, `store.memory_tracks` and `store.postgres_tracks`, pass one contract suite (tests/contract/test_tracks_*.py).

A *subject* is whoever moves: the principal that sent the fix (`device:truck-7`). Its samples are of the stream that it sent
them in (`trip:9`). What is quarantined is kept too, and said to be so: nothing that was taken disappears.

Rules for every method: times are Unix milliseconds of the caller's clock. Nothing of one tenant is ever answered to a question
about another; what asks across tenants says so. `core.ports.Unavailable` may or may not have had its effect, and repeating is
right: a sample kept twice is read once, a last position never goes back. What cannot be kept is said before anything is
written: by a `ValueError` where a node made it (samples, last positions), by `core.ports.Refused` bad_request where somebody
asked for it (fences, keys, pushes). A question about what cannot be has nothing for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

Kept = Literal["accepted", "degraded", "quarantined"]

TRACK_LIMIT_MAX: Final = 10_000
"""Samples of one answer."""
KEEP_MAX: Final = 10_000
"""Samples, and last positions, of one call."""
OLDEST_DAYS: Final = 400
"""So much before it was taken may a sample be true, and a day after: which bounds the days that the store makes room for."""
REASON_CHARS_MAX: Final = 200
MEMORY_BYTES_MAX: Final = 4_096
"""Of `Last.memory`, as JSON."""
FENCES_MAX: Final = 1_000
"""Of a tenant."""
FENCE_STREAMS_MAX: Final = 1_000
DWELL_S_MAX: Final = 7 * 86_400
PUSHES_MAX: Final = 10
"""Registrations of one principal: the oldest goes when one more comes."""


class Sample(NamedTuple):
    """One fix as it was judged. ``at_ms`` is when it was true, by the device's clock as corrected; ``taken_ms`` when a node
    took it. Degrees, m, m/s, degrees from north. ``seq`` is the device's own number, 0 where its protocol has none."""

    tenant: str
    subject: str
    stream: str
    at_ms: int
    seq: int
    lat: float
    lon: float
    acc: float | None
    speed: float | None
    heading: float | None
    alt: float | None
    verdict: Kept
    reason: str
    taken_ms: int


class Last(NamedTuple):
    """Where a subject was when it was last believed, and what whoever judges its fixes wants to remember. ``stream`` is the one
    that it sent that fix in."""

    tenant: str
    subject: str
    stream: str
    at_ms: int
    lat: float
    lon: float
    acc: float | None
    speed: float | None
    heading: float | None
    alt: float | None
    verdict: Kept
    taken_ms: int
    memory: dict[str, Any]
    """JSON, at most a few hundred bytes: changed only together with ``at_ms``."""


class Fence(NamedTuple):
    """A place of a tenant's: a circle (one point and ``radius_m``) or a polygon (``radius_m`` 0, at least three points).

    ``dwell_s`` > 0: who stays so long inside is told of once more. ``streams`` are those in which it counts; empty: in all of
    the tenant's trips."""

    fence: str
    name: str
    points: tuple[tuple[float, float], ...]
    radius_m: float
    dwell_s: int
    streams: tuple[str, ...]


class Push(NamedTuple):
    """Where somebody's phone is reached. ``app`` is the bundle id or package name; ``at_ms`` when it was registered last."""

    service: Literal["fcm", "apns"]
    token: str
    app: str
    at_ms: int


class AppKey(NamedTuple):
    """Of an app that knows neither tokens nor signatures (OsmAnd, OwnTracks): whose fixes come under a secret, and in which
    stream they count. Its holder may send positions of this subject and nothing else."""

    tenant: str
    subject: str
    stream: str
    made_ms: int


class Tracks(Protocol):
    # -- samples ---------------------------------------------------------------------------------------------------------

    async def keep(self, samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
        """Keep samples and last positions, of any tenants, in one commit. Of a subject the last position with the highest
        ``at_ms`` stays, whatever comes later or from another node; of two with the same, the first. Of a stream's samples with
        the same (at_ms, subject, seq) the one that was taken first is read."""
        ...

    async def lasts(self, tenant: str, subjects: Sequence[str]) -> dict[str, Last]:
        """Of those that were ever believed."""
        ...

    async def shown(self, tenant: str, stream: str) -> list[Last]:
        """Of all subjects whose last position is of this stream, by subject."""
        ...

    async def track(
        self,
        tenant: str,
        stream: str,
        *,
        from_ms: int,
        to_ms: int,
        subject: str | None = None,
        after: tuple[int, str, int] | None = None,
        limit: int = TRACK_LIMIT_MAX,
        newest: bool = False,
    ) -> list[Sample]:
        """Samples with ``from_ms`` <= ``at_ms`` < ``to_ms`` by (at_ms, subject, seq), each once, those past ``after``; with
        ``newest`` the last ``limit`` of them (still in rising order)."""
        ...

    async def retain(self, days: Mapping[str, int], default_days: int, now_ms: int) -> int:
        """Make room for the days to come and forget samples older than their tenant keeps them, whole days at once where no
        tenant wants them; how many partitions and rows went. ``days`` by tenant, ``default_days`` for those not in it. Across
        tenants. Last positions stay."""
        ...

    # -- fences ------------------------------------------------------------------------------------------------------------

    async def put_fence(self, tenant: str, fence: Fence) -> bool:
        """New or in place of the one of its id; whether it is new. `core.ports.Refused` conflict where there are too many."""
        ...

    async def drop_fence(self, tenant: str, fence: str) -> bool: ...

    async def fences(self, tenant: str) -> list[Fence]:
        """By id."""
        ...

    # -- keys of apps ------------------------------------------------------------------------------------------------------

    async def put_app_key(self, key: AppKey, secret_hash: bytes) -> None:
        """SHA-256 of the secret. A subject has one at a time: the new one takes the old one's place. `core.ports.Refused`
        conflict where another subject has this very secret."""
        ...

    async def app_key(self, secret_hash: bytes) -> AppKey | None:
        """Across tenants: a secret says itself whose it is."""
        ...

    async def app_keys(self, tenant: str) -> list[AppKey]:
        """By subject."""
        ...

    async def bind(self, tenant: str, subject: str, stream: str) -> bool:
        """From now on the subject's app sends in this stream. False: it has no key."""
        ...

    async def drop_app_key(self, tenant: str, subject: str) -> bool: ...

    # -- pushes ------------------------------------------------------------------------------------------------------------

    async def add_push(self, tenant: str, principal: str, push: Push) -> None:
        """A token is of one principal in the cell: registering it anew takes it from whoever had it."""
        ...

    async def pushes(self, tenant: str, principal: str) -> list[Push]:
        """The newest first."""
        ...

    async def drop_push(self, service: str, token: str, before_ms: int | None = None) -> bool:
        """The service says that the token is dead (since ``before_ms``: one registered after that stays), or its owner is
        gone. Across tenants: a token says itself whose it is."""
        ...
