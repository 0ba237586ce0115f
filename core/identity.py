"""What an access token says of its bearer: claims checked one by one, and written for tokens of our own.

For: `core.tokens`, which has verified the signature before. Promises: every claim is checked for type and shape before it
is used (RFC 8725, sections 3.8 and 3.9), and what is not checked is not used; no claims raise. Does not: read a clock, know
keys or issuers; what an issuer may say differently is handed in as `Rules`.

The claims of RFC 7519 and 9068: ``exp`` and ``aud`` must be there, ``sub`` too; ``nbf``, ``iat``, ``jti`` and ``cnf`` are
checked where they are. Ours: ``tenant`` and ``roles``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import floor, isfinite
from types import MappingProxyType
from typing import Final

from core.jws import TokenError, number, write
from core.keys import SigningKey
from core.model import AUDITOR, PRINCIPAL_RE, TENANT_RE
from core.policy import OWNS, standing

ROLES_MAX: Final = 32
TOKEN_ID_CHARS_MAX: Final = 128
OWN_ISSUER: Final = "readback"
"""The ``iss`` of the gateway's own tokens, for services and devices."""

ROLE_RE = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_THUMBPRINT_RE = re.compile(r"[A-Za-z0-9_-]{43}\Z")


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified principal of a tenant. ``expires_at_s`` is Unix time, the leeway for clocks in it; the connection ends
    then, not only the token."""

    tenant: str
    principal: str
    roles: frozenset[str]
    expires_at_s: float
    issued_at_s: float = 0.0
    """``iat``; 0 where the token does not say, which counts as older than any revocation."""
    token_id: str = ""
    """``jti``, by which one token can be revoked; empty where it has none."""
    bound_to: str = ""
    """``cnf.jkt`` (RFC 9449): the thumbprint of the key that must prove itself beside the token; empty: a bearer token."""

    @property
    def standing(self) -> int:
        """In its tenant, by its roles (`core.policy`)."""
        return standing(self.roles)

    @property
    def privileged(self) -> bool:
        """Whether the tenant role stands in for membership of every stream of the tenant."""
        return self.standing & OWNS != 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a kind of token is held to. ``tenant`` is the one that its issuer speaks for; empty: the token says which."""

    audience: str
    leeway_s: float
    tenant: str = ""
    subject_prefix: str = ""
    roles_claim: str = "roles"


def identity_of(claims: dict[str, object], rules: Rules, now_s: float) -> Identity | TokenError:
    """Who the bearer of verified claims is at ``now_s``, Unix time."""
    times = _times(claims, rules.leeway_s, now_s)
    if isinstance(times, TokenError):
        return times
    expires_at_s, issued_at_s = times
    audience = claims.get("aud")
    if audience != rules.audience and not (isinstance(audience, list) and rules.audience in audience):
        return TokenError("not for this audience")
    principal = claims.get("sub")
    if isinstance(principal, str) and rules.subject_prefix and not PRINCIPAL_RE.match(principal):
        principal = rules.subject_prefix + principal
    if not isinstance(principal, str) or not PRINCIPAL_RE.match(principal):
        return TokenError("sub is not a principal such as user:amy")
    if principal == AUDITOR:
        return TokenError("sub is the gateway itself")
    tenant = claims.get("tenant", rules.tenant)
    if not isinstance(tenant, str) or not TENANT_RE.match(tenant):
        return TokenError("tenant is missing or not a tenant's name")
    if rules.tenant and tenant != rules.tenant:
        return TokenError("its issuer does not speak for this tenant")
    roles = _roles(claims, rules.roles_claim)
    if isinstance(roles, TokenError):
        return roles
    token_id = claims.get("jti", "")
    if "jti" in claims and not _is_token_id(token_id):
        return TokenError(f"jti is not a text of 1 to {TOKEN_ID_CHARS_MAX} printable characters")
    bound_to = ""
    if "cnf" in claims:
        cnf = claims["cnf"]
        jkt = cnf.get("jkt") if isinstance(cnf, dict) and len(cnf) == 1 else None
        if not isinstance(jkt, str) or not _THUMBPRINT_RE.match(jkt):
            # Another confirmation (x5t#S256, jwk, …) would be a lock that nobody here turns the key of (RFC 7800).
            return TokenError("cnf is not the thumbprint of a key (jkt) alone")
        bound_to = jkt
    # With the leeway: who is let in by it must not be sent away for the same seconds at the next look.
    return Identity(tenant, principal, roles, expires_at_s + rules.leeway_s, issued_at_s, str(token_id), bound_to)


def issue(
    key: SigningKey,
    *,
    tenant: str,
    principal: str,
    roles: Collection[str],
    now_s: float,
    ttl_s: float,
    token_id: str,
    audience: str = "readback",
    bound_to: str = "",
    extra: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """An access token of the gateway's own (RFC 9068), signed with EdDSA, for services and devices.

    ``bound_to`` is the thumbprint of the key that must prove itself beside it (RFC 9449, section 6.1). ``extra`` are further
    claims, which nobody here looks at. Raises `ValueError` for anything that `core.tokens.TokenVerifier` would refuse, so
    that a bad token is never handed out.
    """
    check_bearer(tenant, principal, roles)
    if not _is_token_id(token_id):
        raise ValueError(f"token id: a text of 1 to {TOKEN_ID_CHARS_MAX} printable characters")
    if bound_to and not _THUMBPRINT_RE.match(bound_to):
        raise ValueError(f"bound to {bound_to!r}: the thumbprint of a key, 43 letters of base64url")
    claims: dict[str, object] = {
        "iss": OWN_ISSUER,
        "sub": principal,
        "tenant": tenant,
        "roles": sorted(roles),
        "aud": audience,
        # To the millisecond, never later than it is: a token made in the second after a revocation is not caught by it.
        "iat": floor(now_s * 1_000) / 1_000,
        "nbf": floor(now_s * 1_000) / 1_000,
        "exp": floor((now_s + ttl_s) * 1_000) / 1_000,
        "jti": token_id,
    }
    if bound_to:
        claims["cnf"] = {"jkt": bound_to}
    if not claims.keys().isdisjoint(extra) or "cnf" in extra:
        raise ValueError("further claims must not be among those that are checked")
    return write({"alg": "EdDSA", "typ": "at+jwt", "kid": key.kid}, {**claims, **extra}, key.sign)


def check_bearer(tenant: str, principal: str, roles: Collection[str]) -> None:
    """Raises `ValueError`, in words for who asks for a token, unless these may be in one."""
    if not TENANT_RE.match(tenant):
        raise ValueError(f"tenant {tenant!r}: lower-case letters, digits and . _ - only, at most 63, such as demo")
    if not PRINCIPAL_RE.match(principal):
        raise ValueError(f"principal {principal!r}: user:NAME, device:NAME or service:NAME, such as user:amy")
    if principal == AUDITOR:
        raise ValueError(f"principal {principal!r}: that is the gateway itself")
    for role in roles:
        if not ROLE_RE.match(role):
            raise ValueError(f"role {role!r}: a lower-case word, such as admin")
    if len(roles) > ROLES_MAX:
        raise ValueError(f"a token holds at most {ROLES_MAX} roles")


def _times(claims: dict[str, object], leeway_s: float, now_s: float) -> tuple[float, float] | TokenError:
    """``exp`` and ``iat``, 0 where it is missing."""
    expires_at_s = _time(claims.get("exp"))
    if expires_at_s is None:
        return TokenError("exp is missing or not a number")
    if now_s >= expires_at_s + leeway_s:
        return TokenError("expired")
    if "nbf" in claims:
        not_before_s = _time(claims["nbf"])
        if not_before_s is None:
            return TokenError("nbf is not a number")
        if now_s < not_before_s - leeway_s:
            return TokenError("not valid yet")
    issued_at_s = _time(claims.get("iat", 0.0))
    if issued_at_s is None:
        return TokenError("iat is not a number")
    if now_s < issued_at_s - leeway_s:
        return TokenError("issued in the future")
    return expires_at_s, float(issued_at_s)


def _roles(claims: dict[str, object], name: str) -> frozenset[str] | TokenError:
    """By the claim's name or, where there is none of that name, by a path such as ``realm_access.roles``."""
    found: object = claims
    for part in (name,) if name in claims else name.split("."):
        if not isinstance(found, dict):
            return TokenError("roles is not where it should be")
        if part not in found:
            return frozenset()
        found = found[part]
    if not isinstance(found, list) or len(found) > ROLES_MAX:
        return TokenError(f"roles is not a list of at most {ROLES_MAX}")
    for role in found:
        if not isinstance(role, str) or not ROLE_RE.match(role):
            return TokenError("roles holds something that is not a role's name")
    return frozenset(found)


def _is_token_id(value: object) -> bool:
    # Printable, because it is written down: in the audit stream, in the table of what was revoked.
    return isinstance(value, str) and 0 < len(value) <= TOKEN_ID_CHARS_MAX and value.isprintable()


def _time(value: object) -> float | None:
    seconds = number(value)
    return seconds if seconds is not None and isfinite(seconds) else None
