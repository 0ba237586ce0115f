"""Who a client is: access tokens (JWT) and resume tokens (our own, HMAC-signed).

For: turning the two strings a client may present into identities, and issuing both. Promises: a client's string never
raises, whatever it holds; a failure is a `TokenError` whose reason may be shown to the client and says nothing about
keys; of a string at most one signature is checked, and none before its size and shape were. Does not: read a clock
(``now_s`` is Unix time, handed in), remember anything (whether a resume token was used before is the session's generation,
kept elsewhere), fetch keys (`NeedKeys` says which are missing).

Who may have signed a token follows from its ``iss``, and from nothing else in it: a tenant's issuer, with that issuer's
keys and algorithms; the gateway (``readback``), with its own keys; else the shared secrets (HS256), where there are any. No
key of one kind is ever tried for another. Of a token that is not verified yet only ``iss`` and ``tenant`` are looked at, to
find whose keys it is held to.

Two rules of RFC 8725 (JWT best practices) shape the verifier: the algorithm belongs to the key and is never taken from
the token (section 3.1), and every claim is checked for type and shape before use (3.8, 3.9: `core.identity`). ``kid`` only
selects among the keys we were given; it is never a path or a query (3.10). A header that asks for more than ``alg``,
``typ`` and ``kid`` (``crit``, ``jwk``, ``x5c``, …) asks for something we do not do, so it is refused (RFC 7515, section
4.1.11); ``x5t``, another name for the key, which some providers put beside ``kid``, is not looked at. ``typ`` must be that
of an access token (RFC 8725, 3.11): a proof (`core.dpop`) is none.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import orjson

from core.identity import OWN_ISSUER, ROLES_MAX, Identity, Rules, check_bearer, identity_of, issue
from core.jws import TOKEN_BYTES_MAX, Jws, TokenError, read, write
from core.keys import KID_CHARS_MAX, PublicKey
from core.tenants import Issuer, Tenants

__all__ = [
    "OWN_ISSUER",
    "ROLES_MAX",
    "SECRET_BYTES_MIN",
    "TOKEN_BYTES_MAX",
    "Identity",
    "NeedKeys",
    "ResumeClaims",
    "ResumeKeys",
    "TokenError",
    "TokenVerifier",
    "issue",
    "mint",
]

SECRET_BYTES_MIN = 32
"""RFC 7518, section 3.2: an HS256 key is at least as long as its hash."""

_KID_RE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_RESUME_KID_RE = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_HEADER_KNOWN = frozenset({"alg", "typ", "kid", "x5t", "x5t#S256"})
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_NOTHING: Mapping[str, PublicKey] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NeedKeys(TokenError):
    """The token is of an issuer that is known, and of a key that is not among those at hand. Who can fetch them may do so
    and verify the token again, once; for everyone else it is a token that was not taken.

    ``kid`` may be empty. ``absent``: there is no key of this issuer at all, so it is not the client's fault.
    """

    issuer: Issuer
    kid: str
    absent: bool


@dataclass(frozen=True, slots=True)
class _Secret:
    """A shared secret, in the shape of a `PublicKey`."""

    secret: bytes = field(repr=False)
    algorithm: str = "HS256"

    def verify(self, signed: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(self.secret, signed, "sha256"), signature)


_AnyKey = TypeVar("_AnyKey", PublicKey, _Secret)


class TokenVerifier:
    """Verifies access tokens of all kinds.

    ``secrets`` are for HS256, by ``kid``; ``own`` the public halves of the gateway's signing keys; ``keys`` gives what is at
    hand of an issuer of ``tenants``, ``None`` where there is nothing, and must not wait. Made anew when any of them changes.

    A token without ``kid`` is taken only where there is exactly one key for it: with several, guessing would make a
    retired key as good as a new one. ``leeway_s`` forgives that much difference between the issuer's clock and ours.
    Raises `ValueError` for a ring that could not protect anything (nothing to verify with, or a secret below 32 bytes), and
    for an issuer that calls itself ours.
    """

    def __init__(
        self,
        secrets: Mapping[str, bytes],
        *,
        audience: str = "readback",
        leeway_s: float = 30.0,
        tenants: Tenants | None = None,
        own: Mapping[str, PublicKey] = _NOTHING,
        keys: Callable[[Issuer], Mapping[str, PublicKey] | None] = lambda _: None,
    ) -> None:
        tenants = tenants or Tenants()
        self._issuers: dict[str, dict[str, Issuer]] = {}
        for tenant in tenants.named.values():
            for issuer in tenant.issuers:
                self._issuers.setdefault(issuer.issuer, {})[tenant.name] = issuer
        if OWN_ISSUER in self._issuers:
            raise ValueError(f"issuer {OWN_ISSUER!r}: that is the gateway itself")
        if secrets or not (own or self._issuers):
            _check_ring("token secret", secrets, _KID_RE)
        self._secrets = {kid: _Secret(secret) for kid, secret in secrets.items()}
        self._tenants = tenants
        self._own = own
        self._keys = keys
        self._rules = Rules(audience, leeway_s)

    def verify(self, token: object, now_s: float) -> Identity | TokenError:
        """The identity a JWT proves at ``now_s``. ``token`` is whatever the client sent, of any type."""
        jws = read(token)
        if isinstance(jws, TokenError):
            return jws
        if not _HEADER_KNOWN.issuperset(jws.header):
            return TokenError("the token's header asks for something unsupported")
        kind = jws.header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            return TokenError("not an access token by its typ")
        found = self._key_for(jws)
        if isinstance(found, TokenError):
            return found
        key, rules = found
        if not key.verify(jws.signed, jws.signature):
            return TokenError("bad signature")
        identity = identity_of(jws.claims, rules, now_s)
        if isinstance(identity, TokenError):
            return identity
        if self._tenants.only_named and identity.tenant not in self._tenants.named:
            return TokenError("this tenant is not served here")
        return identity

    def _key_for(self, jws: Jws) -> tuple[PublicKey | _Secret, Rules] | TokenError:
        """The one key that may have signed it, and what its claims are held to."""
        name = jws.claims.get("iss", "")
        if not isinstance(name, str):
            return TokenError("iss is not a text")
        if name in self._issuers:
            return self._key_of_issuer(jws, self._issuers[name])
        key: PublicKey | _Secret | None
        if name == OWN_ISSUER:
            key = _selected(self._own, jws.header.get("kid"))
        elif self._secrets:
            key = _selected(self._secrets, jws.header.get("kid"))
        else:
            return TokenError("not from an issuer that is known here")
        if key is None:
            return TokenError("signed with an unknown key")
        if jws.header.get("alg") != key.algorithm:
            return TokenError("signed with an algorithm that is not accepted")
        return key, self._rules

    def _key_of_issuer(self, jws: Jws, by_tenant: Mapping[str, Issuer]) -> tuple[PublicKey, Rules] | TokenError:
        tenant = jws.claims.get("tenant", next(iter(by_tenant)))
        if "tenant" not in jws.claims and len(by_tenant) > 1:
            return TokenError("its issuer speaks for several tenants; the token must say for which")
        if not isinstance(tenant, str) or tenant not in by_tenant:
            return TokenError("its issuer does not speak for this tenant")
        issuer = by_tenant[tenant]
        algorithm, kid = jws.header.get("alg"), jws.header.get("kid")
        if algorithm not in issuer.algorithms:
            return TokenError("signed with an algorithm that is not accepted")
        if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= KID_CHARS_MAX):
            return TokenError("signed with an unknown key")
        keys = self._keys(issuer)
        if keys is None:
            return NeedKeys("the keys of the token's issuer cannot be had at present", issuer, kid or "", True)
        if kid is None:
            key = _selected({k: v for k, v in keys.items() if v.algorithm in issuer.algorithms}, None)
        else:
            key = keys.get(kid)
        if key is None:
            unknown = "signed with an unknown key"
            return TokenError(unknown) if kid is None else NeedKeys(unknown, issuer, kid, False)
        if algorithm != key.algorithm:
            return TokenError("signed with an algorithm that is not accepted")
        rules = Rules(
            issuer.audience or self._rules.audience,
            self._rules.leeway_s,
            tenant,
            issuer.subject_prefix,
            issuer.roles_claim,
        )
        return key, rules


def mint(
    secret: bytes,
    *,
    kid: str,
    tenant: str,
    principal: str,
    roles: Collection[str],
    now_s: float,
    ttl_s: float,
    audience: str = "readback",
) -> str:
    """An HS256 access token, for development, ``readback token`` and tests.

    Raises `ValueError` for anything that `TokenVerifier` would refuse, so that a bad token is never handed out.
    """
    _check_ring("token secret", {kid: secret}, _KID_RE)
    check_bearer(tenant, principal, roles)
    claims = {
        "sub": principal,
        "tenant": tenant,
        "roles": sorted(roles),
        "aud": audience,
        "iat": int(now_s),
        "exp": int(now_s + ttl_s),
    }
    return write({"alg": "HS256", "typ": "JWT", "kid": kid}, claims, lambda data: hmac.digest(secret, data, "sha256"))


@dataclass(frozen=True, slots=True)
class ResumeClaims:
    """What a resume token carries. ``generation`` counts the tokens of a session: only the newest is good, which the
    session checks. ``auth_expires_at_s`` is the access token's end, so that resuming never prolongs an identity;
    ``expires_at_s`` is this token's own end. Both are Unix time. The last three are the access token's (`Identity`), so that
    a revocation reaches who resumes, and a token that is bound to a key stays so.
    """

    tenant: str
    principal: str
    session: str
    generation: int
    roles: frozenset[str]
    auth_expires_at_s: float
    expires_at_s: float
    issued_at_s: float = 0.0
    token_id: str = ""
    bound_to: str = ""


class ResumeKeys:
    """Issues and verifies resume tokens with a ring of HMAC-SHA256 keys: the first signs, all verify.

    To rotate, put a new key first and drop the last once ``resume_ttl_s`` has passed. The form is
    ``r1.<kid>.<claims>.<mac>``, claims a JSON array in base64url. It is no JWT on purpose: it must never pass where an
    access token is asked for, and issue and verify together take 8 us here against 50 us for a JWT.
    Raises `ValueError` for an empty ring or a key below 32 bytes.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        _check_ring("resume key", keys, _RESUME_KID_RE)
        self._keys = dict(keys)
        kid = next(iter(self._keys))
        self._prefix = b"r1." + kid.encode() + b"."
        self._signing_key = self._keys[kid]

    def issue(self, claims: ResumeClaims) -> str:
        packed = orjson.dumps(
            (
                claims.tenant,
                claims.principal,
                claims.session,
                claims.generation,
                sorted(claims.roles),
                claims.auth_expires_at_s,
                claims.expires_at_s,
                claims.issued_at_s,
                claims.token_id,
                claims.bound_to,
            )
        )
        signed = self._prefix + urlsafe_b64encode(packed).rstrip(b"=")
        return (signed + b"." + _mac(self._signing_key, signed)).decode()

    def verify(self, token: object, now_s: float) -> ResumeClaims | TokenError:
        """The claims of a token that we signed and whose time is not over. ``token`` may be of any type."""
        if not isinstance(token, str) or len(token) > TOKEN_BYTES_MAX or not token.isascii():
            return TokenError("not a resume token")
        raw = token.encode()
        signed, _, mac = raw.rpartition(b".")
        parts = signed.split(b".")
        if len(parts) != 3 or parts[0] != b"r1":
            return TokenError("not a resume token")
        key = self._keys.get(parts[1].decode())
        if key is None:
            return TokenError("signed with a key that is no longer known")
        # The text of the MAC is compared, not its decoded bytes: one token has exactly one spelling.
        if not hmac.compare_digest(mac, _mac(key, signed)):
            return TokenError("bad signature")
        try:
            tenant, principal, session, generation, roles, *rest = orjson.loads(urlsafe_b64decode(parts[2] + b"=="))
            claims = ResumeClaims(tenant, principal, session, generation, frozenset(roles), *rest)
            expired = now_s >= claims.expires_at_s or now_s >= claims.auth_expires_at_s
        except (ValueError, TypeError):
            return TokenError("a resume token of another version")
        return TokenError("expired") if expired else claims


def _mac(key: bytes, signed: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")


def _check_ring(what: str, ring: Mapping[str, bytes], kid_re: re.Pattern[str]) -> None:
    if not ring:
        raise ValueError(f"at least one {what} is needed")
    for kid, secret in ring.items():
        if not kid_re.match(kid):
            raise ValueError(f"{what} id {kid!r}: letters, digits, - and _ only")
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(f"{what} {kid!r} has {len(secret)} bytes; at least {SECRET_BYTES_MIN} are needed")


def _selected(keys: Mapping[str, _AnyKey], kid: object) -> _AnyKey | None:
    if kid is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(kid) if isinstance(kid, str) else None
