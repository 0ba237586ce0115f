"""A directory and the log it is beside, in memory or in Postgres, and what its contract tests say to it.

The fixtures ``world`` and ``directory`` are there for all of tests/contract (conftest.py).
"""

from __future__ import annotations

import hashlib
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from core.directory import Directory, Note, Ping, Redeemed, Refresh, Refreshed, Revocation, ServiceClient
from core.model import AUDIT_STREAM, Event
from core.ports import Log, Refused
from store.memory import MemoryLog
from store.memory_directory import MemoryDirectory
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS

KINDS = ["memory", "postgres"]
TRUCK, VAN = "device:truck-7", "device:van-1"
ADMIN = "user:root"
NOTE = Note(ADMIN, b'{"why":"test"}')
NOW = 1_700_000_000_000
LATER = NOW + 600_000
UNKNOWN = Refreshed(Refresh.UNKNOWN, "", "")
OK = Refreshed(Refresh.OK, "demo", TRUCK)
REUSED = Refreshed(Refresh.REUSED, "demo", TRUCK)
A, D, T = Ping.ACCEPTED, Ping.DUPLICATE, Ping.TOO_OLD
_ms = count(NOW)
_unique = count(1)


def secret(name: str) -> bytes:
    """The hash of a secret that is called so."""
    return hashlib.sha256(name.encode()).digest()


def thumb(name: str) -> str:
    """The thumbprint of a key that is called so."""
    return urlsafe_b64encode(secret(f"key {name}")).rstrip(b"=").decode()


def public(name: str) -> bytes:
    return secret(f"public {name}")


@dataclass
class World:
    """A log and its directory, as two nodes see them (in memory there is one)."""

    log: Log
    one: Directory
    two: Directory

    async def events(self, tenant: str = "demo") -> list[Event]:
        [facts] = await self.log.open_streams([(tenant, AUDIT_STREAM, ADMIN)])
        return [] if facts is None else await self.log.read(tenant, facts.sid, 0, 1_000)

    async def audit(self, tenant: str = "demo") -> list[str]:
        """The types of what was written."""
        return [event.type for event in await self.events(tenant)]


@asynccontextmanager
async def open_world(kind: str, url: str) -> AsyncIterator[World]:
    if kind == "memory":
        log = MemoryLog(now_ms=lambda: next(_ms), new_key=lambda: str(uuid.uuid4()), partitions=TEST_PARTITIONS)
        directory = MemoryDirectory(log)
        yield World(log, directory, directory)
    else:
        async with open_postgres_log(url) as one, open_postgres_log(url) as two:
            yield World(one, one.directory, two.directory)


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    url = request.getfixturevalue("database").url if request.param == "postgres" else ""
    async with open_world(request.param, url) as opened:
        yield opened


@pytest.fixture
def directory(world: World) -> Directory:
    return world.one


async def revoke(
    directory: Directory, value: str, scope: str = "token", *, tenant: str = "demo", at_ms: int = NOW, **kwargs: object
) -> Revocation:
    fields: dict[str, object] = {"until_ms": LATER, "reason": "lost", "note": NOTE} | kwargs
    return await directory.revoke(tenant, scope, value, at_ms=at_ms, **fields)  # type: ignore[arg-type]


async def mint(directory: Directory, claim: str = "claim", device: str = TRUCK, *, tenant: str = "demo") -> None:
    await directory.mint_claim(tenant, device, secret(claim), at_ms=NOW, expires_ms=LATER, note=NOTE)


async def redeem(
    directory: Directory, claim: str = "claim", key: str = "k1", refresh: str = "r1", *, at_ms: int = NOW
) -> Redeemed | None:
    return await directory.redeem_claim(
        secret(claim),
        key=thumb(key),
        public_key=public(key),
        refresh_hash=secret(refresh),
        at_ms=at_ms,
        refresh_until_ms=LATER,
        note=Note(TRUCK, b"{}"),
    )


async def enrol(directory: Directory, device: str = TRUCK, *, tenant: str = "demo", key: str = "k1") -> None:
    """A device with a key and a refresh token, of names nobody else uses."""
    claim, token = f"claim {next(_unique)}", f"token {next(_unique)}"
    await mint(directory, claim, device, tenant=tenant)
    assert await redeem(directory, claim, key, token) == (tenant, device)


async def enrolled(directory: Directory) -> None:
    """The truck with key k1 and refresh token r1."""
    await mint(directory)
    assert await redeem(directory) == Redeemed("demo", TRUCK)


async def refresh(
    directory: Directory, token: str, next_token: str, *, key: str = "k1", at_ms: int = NOW + 1, until_ms: int = LATER
) -> Refreshed:
    return await directory.refresh(
        secret(token), secret(next_token), key=thumb(key), at_ms=at_ms, until_ms=until_ms, note=Note(TRUCK, b"{}")
    )


async def rotate(
    directory: Directory, token: str, next_token: str, *, key: str = "k1", next_key: str = "k2", at_ms: int = NOW + 1
) -> Refreshed:
    return await directory.rotate_key(
        secret(token),
        secret(next_token),
        key=thumb(key),
        next_key=thumb(next_key),
        public_key=public(next_key),
        at_ms=at_ms,
        until_ms=LATER,
        note=Note(TRUCK, b"{}"),
    )


def client(name: str = "billing", tenant: str = "demo") -> ServiceClient:
    return ServiceClient(name, tenant, f"service:{name}", ("service", "auditor"), secret(name), NOW)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value.code
