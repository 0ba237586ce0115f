"""The office: who may have a token of the gateway's own, and whose are taken back. `OfficeService` over a `Node`.

Services have a client id and a secret (OAuth 2 client credentials); devices a key of their own, to which everything they get
is bound, a refresh token that is new after each use, and at the very first a claim. Promises: secrets are 256 random bits, and
only their SHA-256 is kept: a slow hash is for secrets that people think of, and would only help who wants to keep us busy;
a change, its audit event and what it revokes are one commit of the directory; whoever has nothing does not learn from an
answer, nor from the work for it, what there is; what is revoked here has ended here when the call returns.

A refresh token that comes twice ends its family (RFC 9700, section 4.14.2), without a time of grace. So that a lost answer is
not taken for a theft, a request may carry an Idempotency-Key: the next token is then made of the token at hand and that key,
and who repeats the request gets what it got. Without one it is random.

Does not: verify access tokens (`gateway.proving`), decide who may do what (`core.policy`), stop a whole tenant (the operator's,
``readback tenant``).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets as randomness
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import orjson

from core.directory import Device, Directory, Note, Refresh, Refreshed, Revocation, ServiceClient
from core.dpop import Proof, Seen, verify_proof
from core.identity import issue
from core.jws import b64url
from core.keys import SigningKey
from core.model import AUDITOR, PRINCIPAL_RE
from core.policy import StreamAction, TenantAction, may, may_in_tenant, role_in
from core.ports import Unavailable
from core.tokens import Identity, TokenError
from core.wire import at_bytes
from gateway.office_service import Caller, Claim, Denied, Grant, NewClient
from gateway.proving import PROOFS_MAX, USED
from gateway.service import WireError
from store.anchor_places import AnchorPlace
from store.directory_input import is_client_id, is_device
from store.proving import make_proof, prover_of

if TYPE_CHECKING:
    from gateway.node import Node
    from gateway.revoking import Revoking

log = logging.getLogger("readback.office")

ROLES: Final = frozenset(("admin", "service", "auditor"))
"""What a service client may have; `core.policy` says what each may do."""
SCOPES: Final = ("token", "session", "principal")
SECRET_BYTES: Final = 32
SECRET_CHARS_MAX: Final = 256
"""Longer ones are none of ours, and are not hashed."""
NOBODY: Final = "nobody"
"""Looked for where a client's id cannot be one, so that the work is the same."""

_NO_HASH: Final = bytes(32)
_BAD_CLIENT: Final = "the client is unknown, or its secret is another"
_BAD_CLAIM: Final = "the claim is unknown, was used, or its time is over"
_BAD_REFRESH: Final = "the refresh token is unknown, of another key, was used, or its time is over"
_NOT_OFFERED: Final = "this gateway issues no tokens: it has no signing key, or nowhere to keep them"


class Office:
    """See the port. Only for a node with a directory and a signing key; others answer ``not_found``."""

    def __init__(self, node: Node, anchors: AnchorPlace | None = None) -> None:
        """``anchors``: where the log's hashes are written down, if they are."""
        self._node = node
        self._anchors = anchors
        self._seen = Seen(PROOFS_MAX)
        """Proofs of who has no token yet: apart from those of `Proving`, so that a flood of them bars nobody who has one."""
        self._proves = False
        """An event, for somebody. One at a time: with 250,000 digests that is 0.2 GB for a moment, and a second of Postgres'
        time."""

    # -- service clients ------------------------------------------------------------------------------------------------

    async def add_client(self, who: Identity, principal: str, roles: Collection[str]) -> NewClient:
        self._need(who, TenantAction.MANAGE_CLIENTS, "service clients are for admins")
        _, directory = self._open()
        if not principal.startswith("service:") or not PRINCIPAL_RE.match(principal) or principal == AUDITOR:
            raise WireError("bad_request", "principal: service:NAME, such as service:eta")
        if not ROLES.issuperset(roles):
            raise WireError("bad_request", f"roles: some of {', '.join(sorted(ROLES))}")
        client_id, secret = f"client-{b64url(randomness.token_bytes(12))}", _secret()
        given = tuple(sorted(set(roles)))
        client = ServiceClient(client_id, who.tenant, principal, given, _hash(secret), self._now_ms())
        note = _note(who.principal, client=client_id, principal=principal, roles=given)
        await directory.add_client(client, note)
        return NewClient(client, secret)

    async def clients(self, who: Identity) -> list[ServiceClient]:
        self._need(who, TenantAction.READ_ACCESS, "service clients are listed for admins and auditors")
        return await self._open()[1].clients(who.tenant)

    async def remove_client(self, who: Identity, client_id: str) -> None:
        self._need(who, TenantAction.MANAGE_CLIENTS, "service clients are for admins")
        _, directory = self._open()
        note = _note(who.principal, client=client_id)
        removed = await directory.remove_client(who.tenant, client_id, at_ms=self._now_ms(), note=note)
        await self._revoked(who.tenant, removed.principal)

    async def token(self, caller: Caller, client_id: str, secret: str, scope: str | None = None) -> Grant:
        signer, directory = self._heard(caller)
        known = await directory.client(client_id if is_client_id(client_id) else NOBODY)
        is_its = hmac.compare_digest(_hash(secret[:SECRET_CHARS_MAX]), _NO_HASH if known is None else known.secret_hash)
        if known is None or not is_its:
            raise self._guessed(caller, "invalid_client", _BAD_CLIENT)
        who = Identity(known.tenant, known.principal, frozenset(known.roles), 0.0, self._node.wall())
        refused = self._node.gatekeeper.refuses(who)
        if refused is not None:
            raise Denied("invalid_grant", refused)
        self._node.gatekeeper.call(who)
        roles = known.roles
        if scope is not None:
            wanted = set(scope.split())
            if not wanted.issubset(roles):
                raise Denied(
                    "invalid_scope", f"scope: some of this client's roles, {' '.join(roles) or 'of which it has none'}"
                )
            roles = tuple(sorted(wanted))
        key = "" if caller.proof is None else (await self._proven(caller, caller.proof)).jkt
        token_id = _token_id()
        self._node.note(
            known.tenant, "issued", principal=known.principal, token=token_id, roles=roles, address=caller.address
        )
        return self._granted(signer, known.tenant, known.principal, roles, key, token_id, self._now_ms())

    # -- devices ----------------------------------------------------------------------------------------------------------

    async def mint_claim(self, who: Identity, device: str, base_url: str) -> Claim:
        self._need(who, TenantAction.MANAGE_DEVICES, "claims for devices are for admins")
        signer, directory = self._open()
        if not is_device(device):
            raise WireError("bad_request", "device: device:NAME, such as device:truck-7")
        claim, now_ms = _secret(), self._now_ms()
        expires_ms = now_ms + int(1000 * self._node.limits.claim_ttl_s)
        hashed = _hash(claim)
        note = _note(who.principal, device=device, claim=_name(hashed), expires=at_bytes(expires_ms).decode())
        await directory.mint_claim(who.tenant, device, hashed, at_ms=now_ms, expires_ms=expires_ms, note=note)
        url = self._node.proving.public_url or base_url
        uri = "readback://claim?" + urlencode({"u": url, "c": claim, "k": signer.thumbprint})
        return Claim(device, expires_ms, claim, uri)

    async def redeem(self, caller: Caller, claim: str) -> Grant:
        signer, directory = self._heard(caller)
        proof = await self._proven(caller, caller.proof, claim)
        hashed, now_ms, token_id = _hash(claim), self._now_ms(), _token_id()
        refresh_token = _next(claim, proof.jkt, caller.again)
        redeemed = await directory.redeem_claim(
            hashed,
            key=proof.jkt,
            public_key=proof.public_key,
            refresh_hash=_hash(refresh_token),
            at_ms=now_ms,
            refresh_until_ms=self._refresh_until(now_ms),
            note=_note(AUDITOR, claim=_name(hashed), key=proof.jkt, token=token_id, address=caller.address),
        )
        if redeemed is None:
            raise self._guessed(caller, "invalid_grant", _BAD_CLAIM)
        self._node.ops.pings.forget(redeemed.tenant, redeemed.device)
        return self._granted(signer, redeemed.tenant, redeemed.device, (), proof.jkt, token_id, now_ms, refresh_token)

    async def refresh(self, caller: Caller, refresh_token: str) -> Grant:
        signer, directory = self._heard(caller)
        proof = await self._proven(caller, caller.proof)
        hashed, now_ms, token_id = _hash(refresh_token), self._now_ms(), _token_id()
        following = _next(refresh_token, proof.jkt, caller.again)
        done = await directory.refresh(
            hashed,
            _hash(following),
            key=proof.jkt,
            at_ms=now_ms,
            until_ms=self._refresh_until(now_ms),
            note=_note(AUDITOR, refresh=_name(hashed), key=proof.jkt, token=token_id, address=caller.address),
        )
        await self._is_good(caller, done)
        return self._granted(signer, done.tenant, done.device, (), proof.jkt, token_id, now_ms, following)

    async def rotate_key(self, caller: Caller, refresh_token: str, next_proof: str) -> Grant:
        """The old key's proof, in the header, is over the new key's, and that over the refresh token: by their ``ath``. So
        neither can be put beside another than it was made for."""
        signer, directory = self._heard(caller)
        old = await self._proven(caller, caller.proof, next_proof)
        new = await self._proven(caller, next_proof, refresh_token)
        if new.jkt == old.jkt:
            raise Denied("invalid_dpop_proof", "the next key is the present one")
        hashed, now_ms, token_id = _hash(refresh_token), self._now_ms(), _token_id()
        following = _next(refresh_token, new.jkt, caller.again)
        done = await directory.rotate_key(
            hashed,
            _hash(following),
            key=old.jkt,
            next_key=new.jkt,
            public_key=new.public_key,
            at_ms=now_ms,
            until_ms=self._refresh_until(now_ms),
            note=_note(
                AUDITOR,
                refresh=_name(hashed),
                key=old.jkt,
                next_key=new.jkt,
                token=token_id,
                address=caller.address,
            ),
        )
        await self._is_good(caller, done)
        self._node.ops.pings.forget(done.tenant, done.device)
        return self._granted(signer, done.tenant, done.device, (), new.jkt, token_id, now_ms, following)

    async def devices(self, who: Identity) -> list[Device]:
        self._need(who, TenantAction.READ_ACCESS, "devices are listed for admins and auditors")
        return await self._open()[1].devices(who.tenant)

    async def revoke_device(self, who: Identity, device: str) -> None:
        self._need(who, TenantAction.MANAGE_DEVICES, "revoking devices is for admins")
        note = _note(who.principal, device=device)
        await self._open()[1].revoke_device(who.tenant, device, at_ms=self._now_ms(), note=note)
        self._node.ops.pings.forget(who.tenant, device)
        await self._revoked(who.tenant, device)

    # -- revocations ------------------------------------------------------------------------------------------------------

    async def revoke(self, who: Identity, scope: str, value: str, reason: str) -> Revocation:
        directory, revoking = self._revocable(who, scope)
        note = _note(who.principal, scope=scope, value=value, reason=reason)
        made = await directory.revoke(
            who.tenant, scope, value, at_ms=self._now_ms(), until_ms=None, reason=reason, note=note
        )
        revoking.made(made)
        return made

    async def lift(self, who: Identity, scope: str, value: str) -> Revocation:
        directory, revoking = self._revocable(who, scope)
        note = _note(who.principal, scope=scope, value=value)
        lifted = await directory.lift(who.tenant, scope, value, at_ms=self._now_ms(), note=note)
        revoking.made(lifted)
        return lifted

    async def revocations(self, who: Identity) -> list[Revocation]:
        self._need(who, TenantAction.READ_ACCESS, "revocations are listed for admins and auditors")
        return await self._open()[1].revoked(who.tenant)

    # -- proofs of events ---------------------------------------------------------------------------------------------------

    async def prove_event(self, who: Identity, stream: str, seq: int) -> bytes:
        self._need(who, TenantAction.READ_AUDIT, "proofs are for admins and auditors")
        node, prover = self._node, prover_of(self._node.log)
        if prover is None:
            raise WireError("not_found", "this log keeps no hashes")
        node.gatekeeper.history(node.gatekeeper.meter(who))
        if self._proves:
            raise WireError("overloaded", "another proof is being made", 1.0 + node.uniform())
        self._proves = True
        try:
            return await make_proof(
                prover,
                who.tenant,
                stream,
                seq,
                place=self._anchors,
                made_ms=self._now_ms(),
                with_body=may(StreamAction.FOLLOW, role_in(stream, None, who.standing)),
                key=node.proving.signer,
            )
        except OSError as error:
            log.warning("the anchors cannot be read: %s", error)
            raise Unavailable("the anchors cannot be read now") from None
        finally:
            self._proves = False

    def jwks(self) -> Sequence[Mapping[str, str]]:
        return [key.jwk for key in self._node.proving.own.values()]

    # -- who asks -----------------------------------------------------------------------------------------------------------

    def _need(self, who: Identity, action: TenantAction, rule: str) -> None:
        if not may_in_tenant(action, who.roles):
            raise WireError("forbidden", rule)

    def _open(self) -> tuple[SigningKey, Directory]:
        signer, directory = self._node.proving.signer, self._node.directory
        if signer is None or directory is None:
            raise WireError("not_found", _NOT_OFFERED)
        return signer, directory

    def _heard(self, caller: Caller) -> tuple[SigningKey, Directory]:
        """The same for who has no token. Raises `WireError` rate_limited for an address that guesses."""
        wait_s = self._node.shard.barred_s(caller.address)
        if wait_s:
            raise WireError("rate_limited", "too many wrong tokens from this address", round(wait_s, 3))
        return self._open()

    def _guessed(self, caller: Caller, error: str, reason: str) -> Denied:
        self._node.unproven(caller.address, TokenError(reason))
        return Denied(error, reason)

    async def _proven(self, caller: Caller, proof: str | None, over: str | None = None) -> Proof:
        """The key that a request shows. ``over``: what the proof's ``ath`` is the hash of. Raises `Denied`."""
        node = self._node
        if proof is None:
            raise Denied("invalid_dpop_proof", "a proof of the device's key is needed, in the header DPoP")
        urls = node.proving.urls(caller.host, caller.path, ("http", "https"))
        now_s = node.wall()
        try:
            found = verify_proof(proof, method=caller.method, url=urls, token=over, now_s=now_s)
        except ValueError:
            found = TokenError("the Host of this request is not one")
        if isinstance(found, TokenError):
            raise self._guessed(caller, "invalid_dpop_proof", found.reason)
        if not self._seen.first(found, now_s) or not await node.proving.claim(found):
            raise self._guessed(caller, "invalid_dpop_proof", USED)
        return found

    # -- what comes of it -----------------------------------------------------------------------------------------------------

    async def _is_good(self, caller: Caller, done: Refreshed) -> None:
        if done.outcome is Refresh.REUSED:
            await self._revoked(done.tenant, done.device)
        if done.outcome is not Refresh.OK:
            raise self._guessed(caller, "invalid_grant", _BAD_REFRESH)

    async def _revoked(self, tenant: str, principal: str) -> None:
        """The directory revoked this principal beside what it was asked for."""
        assert self._node.revoking is not None
        await self._node.revoking.noticed(tenant, "principal", principal)

    def _granted(
        self,
        signer: SigningKey,
        tenant: str,
        principal: str,
        roles: Sequence[str],
        key: str,
        token_id: str,
        now_ms: int,
        refresh_token: str = "",
    ) -> Grant:
        """``now_ms``: as the directory was told, which sees to it that a revocation after it is not dated before."""
        node = self._node
        ttl_s = node.limits.token_ttl_s
        token = issue(
            signer,
            tenant=tenant,
            principal=principal,
            roles=roles,
            now_s=now_ms / 1000,
            ttl_s=ttl_s,
            token_id=token_id,
            audience=node.proving.audience,
            bound_to=key,
        )
        return Grant(tenant, principal, tuple(roles), token, int(ttl_s), bool(key), refresh_token)

    def _revocable(self, who: Identity, scope: str) -> tuple[Directory, Revoking]:
        self._need(who, TenantAction.REVOKE, "revoking is for admins")
        if scope not in SCOPES:
            raise WireError("bad_request", f"scope: one of {', '.join(SCOPES)}")
        _, directory = self._open()
        assert self._node.revoking is not None
        return directory, self._node.revoking

    def _now_ms(self) -> int:
        return int(1000 * self._node.wall())

    def _refresh_until(self, now_ms: int) -> int:
        return now_ms + int(1000 * self._node.limits.refresh_ttl_s)


def _secret() -> str:
    return b64url(randomness.token_bytes(SECRET_BYTES))


def _token_id() -> str:
    return b64url(randomness.token_bytes(16))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _name(hashed: bytes) -> str:
    """What an audit event calls a secret, so that what became of it can be followed: the beginning of its hash."""
    return hashed.hex()[:16]


def _next(secret: str, key: str, again: str | None) -> str:
    """The refresh token that follows a claim or a refresh token. Who repeats the request gets the same."""
    if again is None:
        return _secret()
    return b64url(hmac.digest(secret.encode("utf-8", "replace"), f"readback next {key} {again}".encode(), "sha256"))


def _note(by: str, **facts: object) -> Note:
    return Note(by, orjson.dumps(facts))
