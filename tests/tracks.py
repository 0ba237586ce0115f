"""A store of tracks, in memory or in Postgres, and what its tests say to it.

The fixtures ``couple`` and ``tracks`` are there for all of tests/contract (conftest.py).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from core.tracks import AppKey, Fence, Last, Push, Sample, Tracks
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS, Database

KINDS = ["memory", "postgres"]
DAY = 86_400_000
NOW = 1_700_006_400_000
"""The first moment of a day."""
TRUCK, VAN = "device:truck-7", "device:van-1"
TRIP = "trip:9"


class Couple(NamedTuple):
    """The store as two nodes see it (in memory there is one)."""

    one: Tracks
    two: Tracks
    log: MemoryLog | None
    """Its switches, in memory."""
    database: Database | None


@asynccontextmanager
async def open_couple(kind: str, database: Callable[[], Database]) -> AsyncIterator[Couple]:
    if kind == "memory":
        log = MemoryLog(now_ms=lambda: NOW, new_key=lambda: str(uuid.uuid4()), partitions=TEST_PARTITIONS)
        store = MemoryTracks(log)
        yield Couple(store, store, log, None)
    else:
        base = database()
        async with open_postgres_log(base.url) as one, open_postgres_log(base.url) as two:
            yield Couple(one.tracks, two.tracks, None, base)


@pytest.fixture(params=KINDS)
async def couple(request: pytest.FixtureRequest) -> AsyncIterator[Couple]:
    async with open_couple(request.param, lambda: request.getfixturevalue("database")) as opened:
        yield opened


@pytest.fixture
def tracks(couple: Couple) -> Tracks:
    return couple.one


# Words that tests use


def sample(at_ms: int = NOW, seq: int = 1, **fields: Any) -> Sample:
    given: dict[str, Any] = {
        "tenant": "demo",
        "subject": TRUCK,
        "stream": TRIP,
        "lat": -33.9,
        "lon": 151.2,
        "acc": 5.0,
        "speed": 14.2,
        "heading": 87.5,
        "alt": None,
        "verdict": "accepted",
        "reason": "",
        "taken_ms": at_ms + 250,
    }
    return Sample(at_ms=at_ms, seq=seq, **given | fields)


def last(at_ms: int = NOW, **fields: Any) -> Last:
    given: dict[str, Any] = {
        "tenant": "demo",
        "subject": TRUCK,
        "stream": TRIP,
        "lat": -33.9,
        "lon": 151.2,
        "acc": None,
        "speed": 14.2,
        "heading": None,
        "alt": 31.0,
        "verdict": "degraded",
        "taken_ms": at_ms + 250,
        "memory": {"skew_s": 0.25, "behind": [1, None, "ž"]},
    }
    return Last(at_ms=at_ms, **given | fields)


def fence(id: str = "depot", **fields: Any) -> Fence:
    given: dict[str, Any] = {
        "name": f"the {id}",
        "points": ((-33.9, 151.2),),
        "radius_m": 150.0,
        "dwell_s": 0,
        "streams": (),
    }
    return Fence(id, **given | fields)


def secret(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def key(subject: str = TRUCK, *, tenant: str = "demo", stream: str = TRIP, made_ms: int = NOW) -> AppKey:
    return AppKey(tenant, subject, stream, made_ms)


def push(token: str = "t1", at_ms: int = NOW, **fields: Any) -> Push:
    given: dict[str, Any] = {"service": "fcm", "app": "com.example.app"}
    return Push(token=token, at_ms=at_ms, **given | fields)


async def whole(tracks: Tracks, tenant: str = "demo", stream: str = TRIP, **kwargs: Any) -> list[Sample]:
    """All that was kept of a stream."""
    return await tracks.track(tenant, stream, **{"from_ms": 0, "to_ms": 2**60} | kwargs)


def places(found: Sequence[Sample]) -> list[tuple[int, str, int]]:
    return [(each.at_ms, each.subject, each.seq) for each in found]
