"""What a cell keeps beside its log: who was revoked, service clients, devices with their claims, tokens and pings.

Data and one port. Two adapters, `store.memory_directory` and `store.postgres_directory`, pass one contract suite
(tests/contract/test_directory.py).

Rules that hold for every method:

* A change and its event in the tenant's audit stream (`core.model.AUDIT_STREAM`) are one commit: neither is there without
  the other. What changed nothing leaves no event. The event's type is the store's to choose (named with each method), by
  is ``note.by``, and its body is ``note.body``.
* Secrets come in as their SHA-256 only; a store never holds what would let its reader in.
* Times are the caller's, in Unix milliseconds: nodes agree on them to within the leeway of tokens. What a device was given is
  dated by the ``at_ms`` of the call that gave it, and what ends a device's tokens ends all that were given in commits before,
  however they are dated.
* Nothing returned belongs to another tenant than the one asked about, except `revocations` and `known`, which are the nodes'
  own reading, and `client` and the three that begin with a secret, which say whose it is.
* Bad input is a result or `core.ports.Refused`, never another exception; `core.ports.Unavailable` as for the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

SCOPES = ("token", "session", "principal", "tenant")
"""What can be revoked: one token by its ``jti``, one session by its id, all that a principal was given until then, and a
whole tenant (the kill switch), whose value is empty."""

WINDOW = 4_096
"""Pings behind the newest of a device that are still told apart: an hour offline at one a second. A multiple of 64."""


@dataclass(frozen=True, slots=True)
class Note:
    """Of a change's audit event: by whom, and a body of compact JSON, an object."""

    by: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Revocation:
    """``number`` counts all changes of revocations in the cell, dense and in commit order; lifting one gives it a new number.

    A principal's ends what was issued until ``at_ms``; a token's, session's or tenant's ends it whenever issued. After
    ``until_ms`` it may be forgotten, since every token it could concern has expired by then; ``None``: until lifted.
    """

    number: int
    tenant: str
    scope: str
    value: str
    at_ms: int
    until_ms: int | None
    reason: str
    by: str
    lifted: bool = False


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """Who may ask for tokens with a secret (OAuth2 client credentials). ``client_id`` is unique in the cell."""

    client_id: str
    tenant: str
    principal: str
    roles: tuple[str, ...]
    secret_hash: bytes
    made_ms: int


@dataclass(frozen=True, slots=True)
class Device:
    """``key`` is the thumbprint (RFC 7638) of its present public key, ``public_key`` that key: 32 bytes of Ed25519. Both are
    empty until its claim was redeemed. ``revoked`` until it is claimed anew."""

    device: str
    key: str
    public_key: bytes
    enrolled_ms: int
    revoked: bool


class Redeemed(NamedTuple):
    tenant: str
    device: str


class Refresh(Enum):
    """What became of a refresh token."""

    OK = "ok"
    UNKNOWN = "unknown"
    """No such token, of another key, expired, or of a device that was revoked."""
    REUSED = "reused"
    """It had been rotated already: its whole family is dead now, and the device's tokens until now are revoked."""


class Refreshed(NamedTuple):
    outcome: Refresh
    tenant: str
    device: str


class Ping(Enum):
    """What a device's sliding window says of a number: taken once, ever."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    TOO_OLD = "too_old"


class Directory(Protocol):
    # -- revocations ---------------------------------------------------------------------------------------------------

    async def revoke(
        self, tenant: str, scope: str, value: str, *, at_ms: int, until_ms: int | None, reason: str, note: Note
    ) -> Revocation:
        """``revoked``. Revoking again renews it: a new number, the later of both times."""
        ...

    async def lift(self, tenant: str, scope: str, value: str, *, at_ms: int, note: Note) -> Revocation:
        """``revocation.lifted``. `Refused` not_found where nothing of it is in force."""
        ...

    async def revocations(self, after: int, limit: int) -> list[Revocation]:
        """Of all tenants, the present state of each (tenant, scope, value) with number > ``after``, ascending."""
        ...

    async def revoked(self, tenant: str) -> list[Revocation]:
        """Those of one tenant in force, newest first, at most 1,000."""
        ...

    async def forget_revocations(self, before_ms: int) -> int:
        """Drop those with ``until_ms`` < ``before_ms`` and lifted ones of before then; how many. Numbers are never reused."""
        ...

    # -- service clients -------------------------------------------------------------------------------------------------

    async def add_client(self, client: ServiceClient, note: Note) -> None:
        """``client.added``. `Refused` conflict where the id exists."""
        ...

    async def remove_client(self, tenant: str, client_id: str, *, at_ms: int, note: Note) -> ServiceClient:
        """``client.removed``; its principal's tokens until now are revoked in the same commit. `Refused` not_found."""
        ...

    async def client(self, client_id: str) -> ServiceClient | None: ...

    async def clients(self, tenant: str) -> list[ServiceClient]: ...

    # -- devices ---------------------------------------------------------------------------------------------------------

    async def mint_claim(
        self, tenant: str, device: str, claim_hash: bytes, *, at_ms: int, expires_ms: int, note: Note
    ) -> None:
        """``device.claim``. A device has one claim at a time: a new one ends the old."""
        ...

    async def redeem_claim(
        self,
        claim_hash: bytes,
        *,
        key: str,
        public_key: bytes,
        refresh_hash: bytes,
        at_ms: int,
        refresh_until_ms: int,
        note: Note,
    ) -> Redeemed | None:
        """``device.enrolled``. The device has this key and the first refresh token of a new family from now on; what it had
        before is dead. ``None``: no such claim, redeemed before, or expired; two at once: one wins."""
        ...

    async def refresh(
        self, refresh_hash: bytes, next_hash: bytes, *, key: str, at_ms: int, until_ms: int, note: Note
    ) -> Refreshed:
        """``device.refreshed``, or ``device.reused`` for one that had been rotated. ``key`` proved itself.
        Rotated tokens are remembered until they would have expired."""
        ...

    async def rotate_key(
        self,
        refresh_hash: bytes,
        next_hash: bytes,
        *,
        key: str,
        next_key: str,
        public_key: bytes,
        at_ms: int,
        until_ms: int,
        note: Note,
    ) -> Refreshed:
        """``device.rotated``: as `refresh`, and the device has the next key from now on."""
        ...

    async def revoke_device(self, tenant: str, device: str, *, at_ms: int, note: Note) -> None:
        """``device.revoked``: its claim and its refresh tokens are dead, and its tokens until now revoked in the same commit.
        `Refused` not_found."""
        ...

    async def device(self, tenant: str, device: str) -> Device | None: ...

    async def known(self, asked: Sequence[tuple[str, str]]) -> list[Device | None]:
        """Of each (tenant, device) what `device` says of it, in their order: in one call, for the keys of many."""
        ...

    async def devices(self, tenant: str) -> list[Device]:
        """By name, ascending, at most 10,000."""
        ...

    async def take_pings(self, pings: Sequence[tuple[str, str, int]]) -> list[Ping]:
        """(tenant, device, seq from 1) of any devices, in one commit; a verdict each, in order. Kept for each device: the
        highest seq and which of the `WINDOW` below it were taken. Numbers from before a device was enrolled anew are gone:
        its window begins empty. Unknown devices: `Ping.TOO_OLD`. No audit events."""
        ...

    async def aclose(self) -> None: ...
