"""Who a client is: access tokens (JWT) and resume tokens (our own, HMAC-signed).

For: turning the two strings a client may present into identities, and issuing both. Promises: a client's string never
raises, whatever it holds; a failure is a `TokenError` whose reason may be shown to the client and says nothing about
keys. Does not: read a clock (``now_s`` is Unix time, handed in), remember anything (whether a resume token was used
before is the session's generation, kept elsewhere), fetch keys.

Two rules of RFC 8725 (JWT best practices) shape the verifier: the algorithm belongs to the key and is never taken from
the token (section 3.1), and every claim is checked for type and shape before use (3.8, 3.9). ``kid`` only selects among
the keys we were given; it is never a path or a query (3.10). A header that asks for more than ``alg``, ``typ`` and
``kid`` (``crit``, ``jwk``, ``x5c``, …) asks for something we do not do, so it is refused (RFC 7515, section 4.1.11).
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite

import jwt
import orjson

from core.model import PRINCIPAL_RE, TENANT_RE

TOKEN_BYTES_MAX = 8_192
"""Longer strings are refused before anything is decoded; a token with 32 roles is below 2 KB."""

SECRET_BYTES_MIN = 32
"""RFC 7518, section 3.2: an HS256 key is at least as long as its hash."""

ROLES_MAX = 32

_JWT_RE = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_KID_RE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_RESUME_KID_RE = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_ROLE_RE = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_HEADER_KNOWN = frozenset({"alg", "typ", "kid"})
_PRIVILEGED = frozenset({"admin", "service"})
_JWS = jwt.PyJWS()


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
    def privileged(self) -> bool:
        """Whether the tenant role stands in for membership of every stream of the tenant."""
        return not _PRIVILEGED.isdisjoint(self.roles)


@dataclass(frozen=True, slots=True)
class TokenError:
    """Why a token was not taken, in words fit for the client that brought it."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Key:
    secret: bytes
    algorithm: str


class TokenVerifier:
    """Verifies access tokens against a ring of secrets by ``kid``.

    A token without ``kid`` is taken only where there is exactly one secret: with several, guessing would make a
    retired key as good as a new one. ``leeway_s`` forgives that much difference between the issuer's clock and ours.
    Raises `ValueError` for a ring that could not protect anything (empty, or a secret below 32 bytes).
    """

    def __init__(self, secrets: Mapping[str, bytes], *, audience: str = "readback", leeway_s: float = 30.0) -> None:
        _check_ring("token secret", secrets, _KID_RE)
        self._keys = {kid: _Key(secret, "HS256") for kid, secret in secrets.items()}
        self._audience = audience
        self._leeway_s = leeway_s

    def verify(self, token: object, now_s: float) -> Identity | TokenError:
        """The identity a JWT proves at ``now_s``. ``token`` is whatever the client sent, of any type."""
        if not isinstance(token, str):
            return TokenError("a token is a string")
        if len(token) > TOKEN_BYTES_MAX:
            return TokenError("the token is too long")
        match = _JWT_RE.match(token)
        if match is None:
            return TokenError("not a JWT")
        header = _json_object(match[1])
        if header is None:
            return TokenError("the token's header is not understood")
        if not _HEADER_KNOWN.issuperset(header):
            return TokenError("the token's header asks for something unsupported")
        key = self._key_for(header.get("kid"))
        if key is None:
            return TokenError("signed with an unknown key")
        if header.get("alg") != key.algorithm:
            return TokenError("signed with an algorithm that is not accepted")
        try:
            payload = _JWS.decode_complete(token, key.secret, algorithms=[key.algorithm])["payload"]
        except jwt.InvalidSignatureError:
            return TokenError("bad signature")
        except jwt.PyJWTError:
            return TokenError("not a JWT")
        try:
            claims = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return TokenError("the token's claims are not understood")
        if not isinstance(claims, dict):
            return TokenError("the token's claims are not understood")
        return self._identity(claims, now_s)

    def _key_for(self, kid: object) -> _Key | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid) if isinstance(kid, str) else None

    def _identity(self, claims: dict[str, object], now_s: float) -> Identity | TokenError:
        expires_at_s = _number(claims.get("exp"))
        if expires_at_s is None:
            return TokenError("exp is missing or not a number")
        if now_s >= expires_at_s + self._leeway_s:
            return TokenError("expired")
        if "nbf" in claims:
            not_before_s = _number(claims["nbf"])
            if not_before_s is None:
                return TokenError("nbf is not a number")
            if now_s < not_before_s - self._leeway_s:
                return TokenError("not valid yet")
        audience = claims.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            return TokenError("not for this audience")
        principal = claims.get("sub")
        if not isinstance(principal, str) or not PRINCIPAL_RE.match(principal):
            return TokenError("sub is not a principal such as user:amy")
        tenant = claims.get("tenant")
        if not isinstance(tenant, str) or not TENANT_RE.match(tenant):
            return TokenError("tenant is missing or not a tenant's name")
        roles = claims.get("roles", [])
        if not isinstance(roles, list) or len(roles) > ROLES_MAX:
            return TokenError(f"roles is not a list of at most {ROLES_MAX}")
        for role in roles:
            if not isinstance(role, str) or not _ROLE_RE.match(role):
                return TokenError("roles holds something that is not a role's name")
        # With the leeway: who is let in by it must not be sent away for the same seconds at the next look.
        return Identity(tenant, principal, frozenset(roles), expires_at_s + self._leeway_s)


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
    if not TENANT_RE.match(tenant):
        raise ValueError(f"tenant {tenant!r}: lower-case letters, digits and . _ - only, at most 63, such as demo")
    if not PRINCIPAL_RE.match(principal):
        raise ValueError(f"principal {principal!r}: user:NAME, device:NAME or service:NAME, such as user:amy")
    for role in roles:
        if not _ROLE_RE.match(role):
            raise ValueError(f"role {role!r}: a lower-case word, such as admin")
    if len(roles) > ROLES_MAX:
        raise ValueError(f"a token holds at most {ROLES_MAX} roles")
    claims = {
        "sub": principal,
        "tenant": tenant,
        "roles": sorted(roles),
        "aud": audience,
        "iat": int(now_s),
        "exp": int(now_s + ttl_s),
    }
    return _JWS.encode(orjson.dumps(claims), secret, algorithm="HS256", headers={"kid": kid})


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


def _json_object(segment: str) -> dict[str, object] | None:
    try:
        value = orjson.loads(urlsafe_b64decode(segment + "=="))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isfinite(value) else None
