"""The directory in Postgres: `core.directory.Directory` over the functions of store/sql/0006_directory.sql and
0008_granted.sql.

Promises what the port does. Shares the links of the log that it is beside (`store.postgres`), and their deadlines. No change
is repeated by itself after a loss; its caller may repeat it, as store/sql says where that would make a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import asyncpg
import trio

from core.directory import Device, Note, Ping, Redeemed, Refresh, Refreshed, Revocation, ServiceClient
from core.model import TENANT_RE
from core.ports import Refused
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
    is_client_id,
    is_device,
)
from store.links import Links
from store.pgwire import clamp

_FORGOTTEN_PER_COMMIT = 1_000  # the counter's lock is held for about that many deletions
_REVOCATION = "tenant, scope, value, number, at_ms, until_ms, reason, by, lifted"
_CLIENT = "client_id, tenant, principal, roles, secret_hash, made_ms"
_PINGS = (Ping.ACCEPTED, Ping.DUPLICATE, Ping.TOO_OLD)


def _revocation(row: asyncpg.Record) -> Revocation:
    tenant, scope, value, number, at_ms, until_ms, reason, by, lifted = row
    return Revocation(number, tenant, scope, value, at_ms, until_ms, reason, by, lifted)


def _client(row: asyncpg.Record) -> ServiceClient:
    client_id, tenant, principal, roles, secret_hash, made_ms = row
    return ServiceClient(client_id, tenant, principal, tuple(roles), secret_hash, made_ms)


_KNOWN = """
select asked.ord, d.* from unnest($1::text[], $2::text[]) with ordinality asked(tenant, device, ord)
cross join lateral readback.device(asked.tenant, asked.device) d
"""


class PostgresDirectory:
    """See the port. ``new_key`` gives canonical UUIDs, for audit events."""

    def __init__(self, links: Links, new_key: Callable[[], str]) -> None:
        self._links = links
        self._new_key = new_key

    async def _change(self, function: str, *args: object, note: Note, columns: str = "*") -> list[asyncpg.Record]:
        """Call a function whose last three arguments are its audit event's key, by and body."""
        check_note(note)
        places = ", ".join(f"${n}" for n in range(1, len(args) + 4))
        sql = f"select {columns} from readback.{function}({places})"
        return await self._links.fetch(sql, *args, self._new_key(), note.by, note.body.decode(), retry=False)

    # Revocations

    async def revoke(
        self, tenant: str, scope: str, value: str, *, at_ms: int, until_ms: int | None, reason: str, note: Note
    ) -> Revocation:
        check_subject(tenant, scope, value)
        check_times(at_ms, until_ms)
        check_reason(reason)
        args = (tenant, scope, value, at_ms, until_ms, reason)
        rows = await self._change("revoke_subject", *args, note=note, columns=_REVOCATION)
        return _revocation(rows[0])

    async def lift(self, tenant: str, scope: str, value: str, *, at_ms: int, note: Note) -> Revocation:
        check_subject(tenant, scope, value)
        check_times(at_ms)
        args = (tenant, scope, value, at_ms)
        rows = await self._change("lift_revocation", *args, note=note, columns=_REVOCATION)
        if not rows:
            raise Refused("not_found", "nothing of it is revoked")
        return _revocation(rows[0])

    async def revocations(self, after: int, limit: int) -> list[Revocation]:
        rows = await self._links.fetch(
            f"select {_REVOCATION} from readback.revocations_after($1, $2)", clamp(after), max(0, min(limit, 2**31 - 1))
        )
        return [_revocation(row) for row in rows]

    async def revoked(self, tenant: str) -> list[Revocation]:
        if not TENANT_RE.match(tenant):
            return []
        rows = await self._links.fetch(f"select {_REVOCATION} from readback.revoked($1, $2)", tenant, REVOKED_MAX)
        return [_revocation(row) for row in rows]

    async def forget_revocations(self, before_ms: int) -> int:
        forgotten = 0
        while True:
            rows = await self._links.fetch(
                "select readback.forget_revocations($1, $2)", clamp(before_ms), _FORGOTTEN_PER_COMMIT, retry=False
            )
            gone = int(rows[0][0])
            forgotten += gone
            if gone < _FORGOTTEN_PER_COMMIT:
                return forgotten

    # Service clients

    async def add_client(self, client: ServiceClient, note: Note) -> None:
        check_client(client)
        rows = await self._change(
            "add_client",
            client.client_id,
            client.tenant,
            client.principal,
            list(client.roles),
            client.secret_hash,
            client.made_ms,
            note=note,
        )
        if not rows[0][0]:
            raise Refused("conflict", "the client exists already")

    async def remove_client(self, tenant: str, client_id: str, *, at_ms: int, note: Note) -> ServiceClient:
        check_tenant(tenant)
        check_times(at_ms)
        check_note(note)
        rows = []
        if is_client_id(client_id):
            rows = await self._change("remove_client", tenant, client_id, at_ms, note=note, columns=_CLIENT)
        if not rows:
            raise Refused("not_found", "no such client")
        return _client(rows[0])

    async def client(self, client_id: str) -> ServiceClient | None:
        if not is_client_id(client_id):
            return None
        rows = await self._links.fetch(f"select {_CLIENT} from readback.find_client($1)", client_id)
        return _client(rows[0]) if rows else None

    async def clients(self, tenant: str) -> list[ServiceClient]:
        """By id, ascending, at most 10,000."""
        if not TENANT_RE.match(tenant):
            return []
        rows = await self._links.fetch(f"select {_CLIENT} from readback.clients($1, $2)", tenant, CLIENTS_MAX)
        return [_client(row) for row in rows]

    # Devices

    async def mint_claim(
        self, tenant: str, device: str, claim_hash: bytes, *, at_ms: int, expires_ms: int, note: Note
    ) -> None:
        check_device(tenant, device)
        check_hashes(claim_hash)
        check_times(at_ms, expires_ms)
        rows = await self._change("mint_claim", tenant, device, claim_hash, expires_ms, note=note)
        if rows[0][0] == "conflict":
            raise Refused("conflict", "the claim was used before")

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
        rows = await self._change(
            "redeem_claim", claim_hash, key, public_key, refresh_hash, at_ms, refresh_until_ms, note=note
        )
        outcome, tenant, device = rows[0]
        if outcome == "conflict":
            raise Refused("conflict", "the refresh token was used before")
        return Redeemed(tenant, device) if outcome == "ok" else None

    async def refresh(
        self, refresh_hash: bytes, next_hash: bytes, *, key: str, at_ms: int, until_ms: int, note: Note
    ) -> Refreshed:
        return await self._rotate(refresh_hash, next_hash, key, None, None, at_ms, until_ms, note)

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
        check_key(next_key, public_key)
        return await self._rotate(refresh_hash, next_hash, key, next_key, public_key, at_ms, until_ms, note)

    async def _rotate(
        self,
        refresh_hash: bytes,
        next_hash: bytes,
        key: str,
        next_key: str | None,
        public_key: bytes | None,
        at_ms: int,
        until_ms: int,
        note: Note,
    ) -> Refreshed:
        check_hashes(refresh_hash, next_hash)
        check_key(key)
        check_times(at_ms, until_ms)
        args = (refresh_hash, next_hash, key, next_key, public_key, at_ms, until_ms)
        outcome, tenant, device = (await self._change("rotate_token", *args, note=note))[0]
        if outcome == "conflict":
            raise Refused("conflict", "the refresh token was used before")
        found = Refresh(outcome)
        return Refreshed(found, "", "") if found is Refresh.UNKNOWN else Refreshed(found, tenant, device)

    async def revoke_device(self, tenant: str, device: str, *, at_ms: int, note: Note) -> None:
        check_device(tenant, device)
        check_times(at_ms)
        rows = await self._change("revoke_device", tenant, device, at_ms, note=note)
        if not rows[0][0]:
            raise Refused("not_found", "no such device")

    async def device(self, tenant: str, device: str) -> Device | None:
        if not TENANT_RE.match(tenant) or not is_device(device):
            return None
        rows = await self._links.fetch("select * from readback.device($1, $2)", tenant, device)
        return Device(*rows[0]) if rows else None

    async def known(self, asked: Sequence[tuple[str, str]]) -> list[Device | None]:
        places = [
            place for place, (tenant, device) in enumerate(asked) if TENANT_RE.match(tenant) and is_device(device)
        ]
        found: list[Device | None] = [None] * len(asked)
        if places:
            tenants, devices = zip(*(asked[place] for place in places), strict=True)
            for nth, *facts in await self._links.fetch(_KNOWN, list(tenants), list(devices)):
                found[places[nth - 1]] = Device(*facts)
        return found

    async def devices(self, tenant: str) -> list[Device]:
        if not TENANT_RE.match(tenant):
            return []
        rows = await self._links.fetch("select * from readback.devices($1, $2)", tenant, DEVICES_MAX)
        return [Device(*row) for row in rows]

    async def take_pings(self, pings: Sequence[tuple[str, str, int]]) -> list[Ping]:
        """Of a device that is revoked or was never enrolled: too old, as of one that is unknown."""
        check_pings(pings)
        verdicts = [Ping.TOO_OLD] * len(pings)
        places = [
            place
            for place, (tenant, device, seq) in enumerate(pings)
            if 1 <= seq <= SEQ_MAX and TENANT_RE.match(tenant) and is_device(device)
        ]
        if places:
            tenants, devices, seqs = zip(*(pings[place] for place in places), strict=True)
            rows = await self._links.fetch(
                "select readback.take_pings($1, $2, $3)", list(tenants), list(devices), list(seqs), retry=False
            )
            for place, verdict in zip(places, rows[0][0], strict=True):
                verdicts[place] = _PINGS[verdict]
        return verdicts

    async def aclose(self) -> None:
        """The links are the log's to close."""
        await trio.lowlevel.checkpoint()
