"""The envelope of a JWT: three parts of base64url, a header and claims, read strictly and written.

For: access tokens (`core.tokens`) and proofs (`core.dpop`). Promises: `read` never raises and does work bounded by
`TOKEN_BYTES_MAX`; what it takes has exactly one spelling. Every part is canonical base64url (RFC 4648, sections 3.5 and 5),
header and claims are JSON objects, and no object of them names a member twice: RFC 7515, section 4, and RFC 7519, section 4,
leave a choice there, and two readers that choose differently are how forgeries pass (RFC 8725, section 2.6).
Does not: look at a signature, or at what header and claims say.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

TOKEN_BYTES_MAX: Final = 8_192
"""Longer strings are refused before anything is decoded; a token with 32 roles is below 2 KB."""

_COMPACT_RE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\Z")


@dataclass(frozen=True, slots=True)
class TokenError:
    """Why a token was not taken, in words fit for the client that brought it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Jws:
    """``signed`` is what ``signature`` is of. Nothing in it is proven yet."""

    header: dict[str, object]
    claims: dict[str, object]
    signed: bytes
    signature: bytes


class _TwiceError(ValueError):
    """An object that names a member twice."""


def read(token: object) -> Jws | TokenError:
    """The parts of a compact JWS (RFC 7515, section 7.1). ``token`` is whatever the client sent, of any type."""
    if not isinstance(token, str):
        return TokenError("a token is a string")
    if len(token) > TOKEN_BYTES_MAX:
        return TokenError("the token is too long")
    match = _COMPACT_RE.match(token)
    if match is None:
        return TokenError("not a JWT")
    head, body, signature = map(unb64url, match.groups())
    if head is None or body is None or signature is None:
        return TokenError("not a JWT")
    header = _object("header", "is", head)
    if isinstance(header, TokenError):
        return header
    claims = _object("claims", "are", body)
    if isinstance(claims, TokenError):
        return claims
    return Jws(header, claims, token.rpartition(".")[0].encode(), signature)


def write(header: Mapping[str, object], claims: Mapping[str, object], sign: Callable[[bytes], bytes]) -> str:
    """A compact JWS over header and claims, signed."""
    signed = f"{b64url(orjson.dumps(header))}.{b64url(orjson.dumps(claims))}"
    return f"{signed}.{b64url(sign(signed.encode()))}"


def b64url(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes | None:
    """What base64url without padding says, ``None`` where it is not in its one canonical spelling."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return data if b64url(data) == text else None


def number(value: object) -> float | None:
    """A number that counts something; JSON's ``true`` is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object(part: str, verb: str, data: bytes) -> dict[str, object] | TokenError:
    try:
        value = orjson.loads(data)  # strict: UTF-8, no NaN, no lone surrogate, at most 1,024 deep
        if isinstance(value, dict):
            _UNIQUE.decode(data.decode())
            return value
    except _TwiceError:
        return TokenError(f"the token's {part} {verb} not understood: a name stands in there twice")
    except (ValueError, RecursionError):
        pass
    return TokenError(f"the token's {part} {verb} not understood")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _TwiceError
    return value


_UNIQUE: Final = json.JSONDecoder(object_pairs_hook=_unique)  # another 2 us a token, beside 60 for a signature
