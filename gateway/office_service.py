"""What the HTTP API asks of the office: a small port beside `gateway.service.Service`, its values, and one more error.

For: keeping routes apart from rules, as there. The values that hold secrets show them in no repr. Failures are those of
`gateway.service`; `Denied` is the one that OAuth has words for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from core.directory import Device, Revocation, ServiceClient
from core.tokens import Identity
from gateway.service import WireError

OAUTH_CODES: Mapping[str, str] = MappingProxyType(
    {
        "invalid_request": "bad_request",
        "invalid_client": "unauthorized",
        "invalid_grant": "unauthorized",
        "invalid_dpop_proof": "unauthorized",
        "invalid_scope": "forbidden",
        "unsupported_grant_type": "bad_request",
    }
)
"""The errors of RFC 6749, section 5.2, and RFC 9449, section 5, that are given here, with the wire's codes for the same."""


class Denied(WireError):
    """No token. ``error`` is OAuth's name for why; ``code`` the wire's."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(OAUTH_CODES[error], message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a token and has none yet: an HTTP request's own facts, for its proof to be compared with. ``proof`` is its
    DPoP header. ``again`` is its Idempotency-Key: who repeats a request with the same one gets the same answer."""

    method: str
    host: str
    path: str
    address: str = ""
    proof: str | None = field(default=None, repr=False)
    again: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """``bound``: the token is good with a proof of its key only (token type DPoP). ``refresh_token`` is empty for services."""

    tenant: str
    principal: str
    roles: tuple[str, ...]
    access_token: str = field(repr=False)
    expires_in_s: int
    bound: bool
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class NewClient:
    """The only time that a client's secret is told."""

    client: ServiceClient
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a device is onboarded with. ``uri`` holds the claim, for a QR code."""

    device: str
    expires_ms: int
    claim: str = field(repr=False)
    uri: str = field(repr=False)


class OfficeService(Protocol):
    """Credentials: issued, renewed, taken back. ``who`` is a verified identity; each method decides by itself whether it
    may. What concerns a tenant concerns ``who``'s own."""

    # For administrators

    async def add_client(self, who: Identity, principal: str, roles: Collection[str]) -> NewClient: ...

    async def clients(self, who: Identity) -> list[ServiceClient]: ...

    async def remove_client(self, who: Identity, client_id: str) -> None:
        """Its principal's tokens end with it, everywhere."""
        ...

    async def mint_claim(self, who: Identity, device: str, base_url: str) -> Claim:
        """``base_url``: how the caller reached the HTTP API, for where no public URL is set."""
        ...

    async def devices(self, who: Identity) -> list[Device]: ...

    async def revoke_device(self, who: Identity, device: str) -> None: ...

    async def revoke(self, who: Identity, scope: str, value: str, reason: str) -> Revocation: ...

    async def lift(self, who: Identity, scope: str, value: str) -> Revocation: ...

    async def revocations(self, who: Identity) -> list[Revocation]: ...

    async def prove_event(self, who: Identity, stream: str, seq: int) -> bytes:
        """A document of `store.proofs`."""
        ...

    # For who has no access token yet: `Denied` says nothing of why beyond what the caller knows by itself.

    async def token(self, caller: Caller, client_id: str, secret: str, scope: str | None = None) -> Grant: ...

    async def redeem(self, caller: Caller, claim: str) -> Grant: ...

    async def refresh(self, caller: Caller, refresh_token: str) -> Grant: ...

    async def rotate_key(self, caller: Caller, refresh_token: str, next_proof: str) -> Grant: ...

    def jwks(self) -> Sequence[Mapping[str, str]]:
        """The public keys of the gateway's own tokens."""
        ...
