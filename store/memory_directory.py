"""The directory in memory: `core.directory.Directory` over dicts, beside a `MemoryLog` that takes its audit events.

The reference that `store.postgres_directory` is held to (tests/contract), and the simulator's. The log's switches are its
own too: what `MemoryLog.fail_next`, ``down`` and ``pause`` say of a method's name holds here. The same calls give the same
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import trio

from core.directory import (
    WINDOW,
    Device,
    Note,
    Ping,
    Redeemed,
    Refresh,
    Refreshed,
    Revocation,
    ServiceClient,
)
from core.ports import Refused
from core.window import Window
from store.directory_input import (
    CLIENTS_MAX,
    DEVICES_MAX,
    REVOKED_MAX,
    SEQ_MAX,
    check_client,
    check_device,
    check_hashes,
    check_key,
    check_note,
    check_pings,
    check_reason,
    check_subject,
    check_tenant,
    check_times,
)
from store.memory import MemoryLog

_Owner = tuple[str, str]
_UNKNOWN = Refreshed(Refresh.UNKNOWN, "", "")


class _Claim:
    __slots__ = ("expires_ms", "hash", "spent")

    def __init__(self, hash: bytes, expires_ms: int) -> None:
        self.hash = hash
        self.expires_ms = expires_ms
        self.spent = False


class _Token:
    __slots__ = ("key", "owner", "rotated", "until_ms")

    def __init__(self, owner: _Owner, key: str, until_ms: int) -> None:
        self.owner = owner
        self.key = key
        self.until_ms = until_ms
        self.rotated = False


class _Kept:
    """A device, its claim, the hashes of its one family of refresh tokens, and its window."""

    __slots__ = ("claim", "facts", "granted_ms", "tokens", "window")

    def __init__(self, device: str) -> None:
        self.facts = Device(device, "", b"", 0, False)
        self.granted_ms = 0
        """Of the latest token that it was given."""
        self.claim: _Claim | None = None
        self.tokens: list[bytes] = []
        self.window = Window(remembered=WINDOW)


class MemoryDirectory:
    """See the port."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._number = 0
        self._revocations: dict[tuple[str, str, str], Revocation] = {}
        """In the order of their numbers: what changes moves to the end."""
        self._clients: dict[str, ServiceClient] = {}
        self._devices: dict[_Owner, _Kept] = {}
        self._claims: dict[bytes, _Owner] = {}
        self._tokens: dict[bytes, _Token] = {}

    # Revocations

    async def revoke(
        self, tenant: str, scope: str, value: str, *, at_ms: int, until_ms: int | None, reason: str, note: Note
    ) -> Revocation:
        check_subject(tenant, scope, value)
        check_times(at_ms, until_ms)
        check_reason(reason)
        check_note(note)
        async with self._log.call("revoke"):
            made = self._revoke(tenant, scope, value, at_ms, until_ms, reason, note.by)
            self._log.write_audit(tenant, "revoked", note.by, note.body)
            return made

    def _revoke(
        self, tenant: str, scope: str, value: str, at_ms: int, until_ms: int | None, reason: str, by: str
    ) -> Revocation:
        before = self._revocations.get((tenant, scope, value))
        if before is not None and not before.lifted:
            at_ms = max(at_ms, before.at_ms)
            if until_ms is not None:
                until_ms = None if before.until_ms is None else max(until_ms, before.until_ms)
        return self._renew(Revocation(0, tenant, scope, value, at_ms, until_ms, reason, by))

    def _renew(self, revocation: Revocation) -> Revocation:
        self._number += 1
        numbered = replace(revocation, number=self._number)
        subject = (numbered.tenant, numbered.scope, numbered.value)
        self._revocations.pop(subject, None)
        self._revocations[subject] = numbered
        return numbered

    def _revoke_principal(self, tenant: str, principal: str, at_ms: int, reason: str, by: str) -> None:
        """For good: how long its tokens last, a store does not know."""
        self._revoke(tenant, "principal", principal, at_ms, None, reason, by)

    async def lift(self, tenant: str, scope: str, value: str, *, at_ms: int, note: Note) -> Revocation:
        check_subject(tenant, scope, value)
        check_times(at_ms)
        check_note(note)
        async with self._log.call("lift"):
            before = self._revocations.get((tenant, scope, value))
            if before is None or before.lifted:
                raise Refused("not_found", "nothing of it is revoked")
            lifted = self._renew(replace(before, at_ms=at_ms, by=note.by, lifted=True))
            self._log.write_audit(tenant, "revocation.lifted", note.by, note.body)
            return lifted

    async def revocations(self, after: int, limit: int) -> list[Revocation]:
        async with self._log.call("revocations"):
            newer = []
            for revocation in reversed(self._revocations.values()):
                if revocation.number <= after:
                    break
                newer.append(revocation)
            newer.reverse()
            return newer[: max(limit, 0)]

    async def revoked(self, tenant: str) -> list[Revocation]:
        async with self._log.call("revoked"):
            newest = reversed(self._revocations.values())
            return list(islice((each for each in newest if each.tenant == tenant and not each.lifted), REVOKED_MAX))

    async def forget_revocations(self, before_ms: int) -> int:
        async with self._log.call("forget_revocations"):
            over = [
                subject
                for subject, each in self._revocations.items()
                if (each.until_ms is not None and each.until_ms < before_ms) or (each.lifted and each.at_ms < before_ms)
            ]
            for subject in over:
                del self._revocations[subject]
            return len(over)

    # Service clients

    async def add_client(self, client: ServiceClient, note: Note) -> None:
        check_client(client)
        check_note(note)
        async with self._log.call("add_client"):
            if client.client_id in self._clients:
                raise Refused("conflict", "the client exists already")
            self._clients[client.client_id] = client
            self._log.write_audit(client.tenant, "client.added", note.by, note.body)

    async def remove_client(self, tenant: str, client_id: str, *, at_ms: int, note: Note) -> ServiceClient:
        check_tenant(tenant)
        check_times(at_ms)
        check_note(note)
        async with self._log.call("remove_client"):
            client = self._clients.get(client_id)
            if client is None or client.tenant != tenant:
                raise Refused("not_found", "no such client")
            del self._clients[client_id]
            self._revoke_principal(tenant, client.principal, at_ms, "client removed", note.by)
            self._log.write_audit(tenant, "client.removed", note.by, note.body)
            return client

    async def client(self, client_id: str) -> ServiceClient | None:
        async with self._log.call("client"):
            return self._clients.get(client_id)

    async def clients(self, tenant: str) -> list[ServiceClient]:
        """By id, ascending, at most 10,000."""
        async with self._log.call("clients"):
            mine = (client for _, client in sorted(self._clients.items()) if client.tenant == tenant)
            return list(islice(mine, CLIENTS_MAX))

    # Devices

    async def mint_claim(
        self, tenant: str, device: str, claim_hash: bytes, *, at_ms: int, expires_ms: int, note: Note
    ) -> None:
        check_device(tenant, device)
        check_hashes(claim_hash)
        check_times(at_ms, expires_ms)
        check_note(note)
        async with self._log.call("mint_claim"):
            owner = (tenant, device)
            kept = self._devices.get(owner) or _Kept(device)
            claim = kept.claim
            if claim is not None and claim.hash == claim_hash and not claim.spent:
                if claim.expires_ms == expires_ms:
                    return
            elif claim_hash in self._claims:
                raise Refused("conflict", "the claim was used before")
            self._devices[owner] = kept
            self._end_claim(kept)
            kept.claim = _Claim(claim_hash, expires_ms)
            self._claims[claim_hash] = owner
            self._log.write_audit(tenant, "device.claim", note.by, note.body)

    def _end_claim(self, kept: _Kept) -> None:
        if kept.claim is not None:
            del self._claims[kept.claim.hash]
            kept.claim = None

    def _end_family(self, kept: _Kept) -> None:
        for token in kept.tokens:
            del self._tokens[token]
        kept.tokens.clear()

    def _add_token(self, owner: _Owner, kept: _Kept, token: bytes, key: str, until_ms: int) -> None:
        if token in self._tokens:
            raise Refused("conflict", "the refresh token was used before")
        self._tokens[token] = _Token(owner, key, until_ms)
        kept.tokens.append(token)

    def _is_newest(self, owner: _Owner, token: bytes, key: str) -> bool:
        """Whether the call that made this token is being repeated: nobody else knows its hash yet."""
        found = self._tokens.get(token)
        return found is not None and found.owner == owner and found.key == key and not found.rotated

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
        check_hashes(claim_hash, refresh_hash)
        check_key(key, public_key)
        check_times(at_ms, refresh_until_ms)
        check_note(note)
        async with self._log.call("redeem_claim"):
            owner = self._claims.get(claim_hash)
            if owner is None:
                return None
            kept = self._devices[owner]
            claim = kept.claim
            assert claim is not None
            if claim.spent:
                if not self._is_newest(owner, refresh_hash, key):
                    return None
                kept.granted_ms = max(kept.granted_ms, at_ms)
                return Redeemed(*owner)
            if at_ms >= claim.expires_ms:
                return None
            if refresh_hash in self._tokens:
                raise Refused("conflict", "the refresh token was used before")
            claim.spent = True
            self._end_family(kept)
            self._add_token(owner, kept, refresh_hash, key, refresh_until_ms)
            kept.facts = replace(kept.facts, key=key, public_key=public_key, enrolled_ms=at_ms, revoked=False)
            kept.granted_ms = max(kept.granted_ms, at_ms)
            kept.window = Window(remembered=WINDOW)
            self._log.write_audit(owner[0], "device.enrolled", note.by, note.body)
            return Redeemed(*owner)

    async def refresh(
        self, refresh_hash: bytes, next_hash: bytes, *, key: str, at_ms: int, until_ms: int, note: Note
    ) -> Refreshed:
        check_hashes(refresh_hash, next_hash)
        check_key(key)
        check_times(at_ms, until_ms)
        check_note(note)
        async with self._log.call("refresh"):
            return self._rotate(refresh_hash, next_hash, key, None, at_ms, until_ms, note)

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
        check_hashes(refresh_hash, next_hash)
        check_key(key)
        check_key(next_key, public_key)
        check_times(at_ms, until_ms)
        check_note(note)
        async with self._log.call("rotate_key"):
            return self._rotate(refresh_hash, next_hash, key, (next_key, public_key), at_ms, until_ms, note)

    def _rotate(
        self,
        refresh_hash: bytes,
        next_hash: bytes,
        key: str,
        keys: tuple[str, bytes] | None,
        at_ms: int,
        until_ms: int,
        note: Note,
    ) -> Refreshed:
        token = self._tokens.get(refresh_hash)
        if token is None or token.key != key or at_ms >= token.until_ms:
            return _UNKNOWN
        owner = tenant, device = token.owner
        kept = self._devices[owner]
        next_key = key if keys is None else keys[0]
        if token.rotated:
            if self._is_newest(owner, next_hash, next_key):
                kept.granted_ms = max(kept.granted_ms, at_ms)
                return Refreshed(Refresh.OK, *owner)
            self._end_family(kept)
            at_ms = max(at_ms, kept.granted_ms)
            self._revoke_principal(tenant, device, at_ms, "a refresh token was used twice", note.by)
            self._log.write_audit(tenant, "device.reused", note.by, note.body)
            return Refreshed(Refresh.REUSED, *owner)
        self._add_token(owner, kept, next_hash, next_key, until_ms)
        token.rotated = True
        kept.granted_ms = max(kept.granted_ms, at_ms)
        self._forget_expired(kept, at_ms)
        if keys is not None:
            kept.facts = replace(kept.facts, key=keys[0], public_key=keys[1])
        self._log.write_audit(tenant, "device.refreshed" if keys is None else "device.rotated", note.by, note.body)
        return Refreshed(Refresh.OK, *owner)

    def _forget_expired(self, kept: _Kept, at_ms: int) -> None:
        """Of the rotated: the newest stays, whatever its time."""
        expired = [each for each in kept.tokens if self._tokens[each].rotated and at_ms >= self._tokens[each].until_ms]
        for token in expired:
            del self._tokens[token]
        kept.tokens = [each for each in kept.tokens if each in self._tokens]

    async def revoke_device(self, tenant: str, device: str, *, at_ms: int, note: Note) -> None:
        check_device(tenant, device)
        check_times(at_ms)
        check_note(note)
        async with self._log.call("revoke_device"):
            kept = self._devices.get((tenant, device))
            if kept is None:
                raise Refused("not_found", "no such device")
            self._end_claim(kept)
            self._end_family(kept)
            kept.facts = replace(kept.facts, revoked=True)
            self._revoke_principal(tenant, device, max(at_ms, kept.granted_ms), "device revoked", note.by)
            self._log.write_audit(tenant, "device.revoked", note.by, note.body)

    async def device(self, tenant: str, device: str) -> Device | None:
        async with self._log.call("device"):
            kept = self._devices.get((tenant, device))
            return None if kept is None else kept.facts

    async def known(self, asked: Sequence[tuple[str, str]]) -> list[Device | None]:
        async with self._log.call("known"):
            found = [self._devices.get(each) for each in asked]
            return [None if kept is None else kept.facts for kept in found]

    async def devices(self, tenant: str) -> list[Device]:
        async with self._log.call("devices"):
            mine = (kept.facts for (owner, _), kept in sorted(self._devices.items()) if owner == tenant)
            return list(islice(mine, DEVICES_MAX))

    async def take_pings(self, pings: Sequence[tuple[str, str, int]]) -> list[Ping]:
        """Of a device that is revoked or was never enrolled: too old, as of one that is unknown."""
        check_pings(pings)
        async with self._log.call("take_pings"):
            return [self._take(tenant, device, seq) for tenant, device, seq in pings]

    def _take(self, tenant: str, device: str, seq: int) -> Ping:
        kept = self._devices.get((tenant, device))
        if kept is None or kept.facts.revoked or not kept.facts.key or not 1 <= seq <= SEQ_MAX:
            return Ping.TOO_OLD
        return kept.window.take(seq)

    async def aclose(self) -> None:
        """The log's to close: nothing is held here."""
        await trio.lowlevel.checkpoint()
