"""Who an access token proves, on a socket and over HTTP alike: its signature, and the key beside it where it is bound to one.

A token of an issuer whose keys have to be fetched first, and a proof that no other node must have met (RFC 9449, section
11.1: with a bus its use is claimed there, as a resume's is), take a moment; everything else is decided at once.

Promises: for a token at most one signature is checked, once more after its issuer's keys were fetched, and for a proof at
most one, whatever they hold; a token that is bound to a key proves nobody without it, and a proof is used once. Does not:
know revocations (`gateway.gatekeeper`), or issue anything.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from core.dpop import PROOF_WINDOW_S, Proof, Seen, verify_proof
from core.handshake import PATH
from core.keys import SigningKey
from core.ports import Unavailable
from core.tenants import Tenants
from core.tokens import Identity, NeedKeys, TokenError, TokenVerifier
from gateway.config import Secrets
from gateway.connection import Connection
from gateway.jwks import KeySource

if TYPE_CHECKING:
    from gateway.node import Node
    from gateway.ops import Ops

Found = Identity | TokenError
Later = Callable[[], Awaitable[Found]]

PROOFS_MAX: Final = 100_000
"""Proofs remembered: 65 s of 1,500 a second, 10 MB."""
CLAIM_WAIT_S: Final = 0.3
CLAIM_TTL_S: Final = 2 * sum(PROOF_WINDOW_S)
USED: Final = "the proof was used before"
UNPROVEN: Final = "the token is bound to a key, and there is no proof of it (dpop)"


class Proving:
    """``hs256``: whether tokens signed with the shared secrets are taken. ``public_url`` is where clients reach the HTTP API,
    and (with its scheme or ``ws``'s) the WebSocket; empty: whatever they say in ``Host``."""

    def __init__(
        self, node: Node, secrets: Secrets, tenants: Tenants, *, audience: str, hs256: bool, public_url: str
    ) -> None:
        self._node = node
        self.audience = audience
        self.hs256 = hs256
        self.public_url = public_url
        self.issuers = KeySource(tenants, rng=node.rng)
        self.seen = Seen(PROOFS_MAX)
        self.signer: SigningKey | None = None
        """What the gateway's own tokens are signed with."""
        self.own: dict[str, SigningKey] = {}
        self._secrets = secrets
        self.use(secrets, tenants)

    def use(self, secrets: Secrets | None = None, tenants: Tenants | None = None) -> None:
        """Other keys or issuers, from now on; who is connected stays so. Raises `ValueError` where nothing could be
        verified."""
        secrets = secrets or self._secrets
        own = {kid: SigningKey(kid, seed) for kid, seed in secrets.signing_keys.items()}
        tenants = tenants or self._node.gatekeeper.tenants
        self._verifier = TokenVerifier(
            secrets.token_secrets if self.hs256 else {},
            audience=self.audience,
            tenants=tenants,
            own={kid: key.public for kid, key in own.items()},
            keys=self.issuers.keys,
        )
        self.issuers.replace(tenants)
        self._secrets, self.own = secrets, own
        self.signer = next(iter(own.values()), None)

    # -- tokens ---------------------------------------------------------------------------------------------------------

    def verify(self, token: object) -> Found:
        """By its signature alone, with the keys at hand: a `NeedKeys` may be asked for again with `fetched`."""
        return self._verifier.verify(token, self._node.wall())

    async def fetched(self, token: object, need: NeedKeys) -> Found:
        """The same once its issuer's keys were asked for."""
        await self.issuers.want(need.issuer, need.kid)
        return self.verify(token)

    # -- proofs ---------------------------------------------------------------------------------------------------------

    def urls(self, host: str, path: str, schemes: tuple[str, ...]) -> tuple[str, ...]:
        """What a proof for this request may name."""
        if not self.public_url:
            return tuple(f"{scheme}://{host}{path}" for scheme in schemes)
        scheme, _, origin = self.public_url.partition("://")
        also = {"https": "wss", "http": "ws"}[scheme]
        return tuple(f"{one}://{origin}{path}" for one in (scheme, also) if one in schemes)

    def check(
        self, proof: object, *, method: str, urls: tuple[str, ...], token: str | None, key: str, tenant: str
    ) -> Proof | TokenError:
        """A proof for this request, of this key, used here for the first time; `claim` asks the other nodes."""
        now_s = self._node.wall()
        try:
            found = verify_proof(proof, method=method, url=urls, token=token, now_s=now_s)
        except ValueError:
            return TokenError("the Host of this request is not one")
        if isinstance(found, TokenError):
            return found
        # First the key: whoever stole a token must not fill the memory of proofs with those of a key of its own.
        if found.jkt != key:
            return TokenError("the proof is of another key than the token's")
        return found if self.seen.first(found, now_s, tenant) else TokenError(USED)

    async def claim(self, proof: Proof) -> bool:
        """Whether no other node has met this proof; without the bus's answer, yes."""
        bus = self._node.bus
        if bus is None or bus.trouble is not None:
            return True
        name = hashlib.sha256(f"{proof.jkt} {proof.jti}".encode()).hexdigest()[:32]
        with trio.move_on_after(CLAIM_WAIT_S):
            try:
                before = await bus.raise_number(f"p:{name}", 1, CLAIM_TTL_S)
            except Unavailable:
                return True
            return not before
        return True

    def bound(self, who: Identity, proof: object, method: str, urls: tuple[str, ...], token: str) -> Proof | TokenError:
        """The proof of the key that the token is bound to."""
        if proof is None:
            return TokenError(UNPROVEN)
        return self.check(proof, method=method, urls=urls, token=token, key=who.bound_to, tenant=who.tenant)

    async def http(self, token: str, scheme: str, proof: str | None, method: str, host: str, path: str) -> Found:
        """Who an HTTP call is from. ``scheme``: of its Authorization header, ``bearer`` or ``dpop``."""
        who = self.verify(token)
        if isinstance(who, NeedKeys):
            who = await self.fetched(token, who)
        if isinstance(who, TokenError):
            return who
        if not who.bound_to:
            return who if scheme == "bearer" else TokenError("the token is bound to no key: send it as Bearer")
        if scheme != "dpop":
            return TokenError("the token is bound to a key: send it as DPoP, with a proof")
        found = self.bound(who, proof, method, self.urls(host, path, ("http", "https")), token)
        if isinstance(found, Proof) and not await self.claim(found):
            found = TokenError(USED)
        return found if isinstance(found, TokenError) else who


SOCKET_SCHEMES: Final = ("https", "http", "wss", "ws")


def authenticate(ops: Ops, connection: Connection, token: object, proof: object) -> Found | Later:
    """Who the connection may speak for."""
    proving = ops.node.proving
    who = proving.verify(token)
    if isinstance(who, NeedKeys):
        return functools.partial(_fetched, proving, connection, token, proof, who)
    if isinstance(who, TokenError) or not who.bound_to:
        return who
    assert isinstance(token, str)
    return prove(ops.node, connection, who, proof, token)


def prove(node: Node, connection: Connection, who: Identity, proof: object, token: str) -> Found | Later:
    """The same of an identity that is bound to a key. ``token``: what it comes from, an access or a resume token."""
    proving = node.proving
    urls = proving.urls(connection.host, PATH, SOCKET_SCHEMES)
    found = proving.bound(who, proof, "GET", urls, token)
    if isinstance(found, TokenError):
        return found
    return who if node.bus is None else functools.partial(_claimed, proving, who, found)


async def _fetched(proving: Proving, connection: Connection, token: object, proof: object, need: NeedKeys) -> Found:
    who = await proving.fetched(token, need)
    if isinstance(who, TokenError) or not who.bound_to:
        return who
    assert isinstance(token, str)
    found = proving.bound(who, proof, "GET", proving.urls(connection.host, PATH, SOCKET_SCHEMES), token)
    return found if isinstance(found, TokenError) else await _claimed(proving, who, found)


async def _claimed(proving: Proving, who: Identity, proof: Proof) -> Found:
    return who if await proving.claim(proof) else TokenError(USED)
