"""Public keys that tokens are signed with, read from JSON Web Keys, and the gateway's own signing keys.

For: one key, one algorithm (RFC 8725, section 3.1), decided here by the key's type and by nothing a token says: OKP
Ed25519 is ``EdDSA``, EC P-256 is ``ES256``, RSA is ``RS256``. Promises: whatever document is handed in, the answer is keys
and reasons, never an exception; a key that we would have to use on trust is refused: symmetric or private ones, those not
meant for verifying, RSA below 2,048 bits, points that are not on their curve or of small order. Does not: fetch a document
(`gateway.jwks`), look at certificates (``x5c``, ``x5u``: a key's own word for itself).

RFC 7517 (JWK), 7518, sections 6.2 and 6.3 (EC, RSA), 8037 (Ed25519), 7638 (thumbprints).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from core.jws import b64url, unb64url

JWKS_BYTES_MAX: Final = 262_144
JWKS_KEYS_MAX: Final = 64
"""Of a document; an issuer in rotation has two or three."""

KID_CHARS_MAX: Final = 256
RSA_BITS: Final = (2_048, 8_192)
"""Below: too weak (RFC 7518, section 3.3). Above: one signature would keep the processor for more than a millisecond."""

RSA_EXPONENT: Final = (65_537, 2**32)
"""Likewise: a large exponent makes verifying as slow as signing."""

_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_ES256 = ECAlgorithm(ECAlgorithm.SHA256, SECP256R1)
_RS256 = RSAAlgorithm(RSAAlgorithm.SHA256)

_Key = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
_Made = tuple[str, _Key, dict[str, str]]
"""Algorithm, key, and the members that the thumbprint is of."""

_P: Final = 2**255 - 19
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})
"""The y coordinates of the eight points of small order on Curve25519's Edwards form: under such a "key" signatures hold
that nobody made (RFC 8032, section 5.1.7, checks the equation only)."""


@dataclass(frozen=True, slots=True)
class BadKey:
    """Why a key is not used. Of the document only its ``kid`` is in the reason, and only where that is printable."""

    reason: str


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies with its one ``algorithm``. ``thumbprint`` is RFC 7638's, SHA-256 in base64url."""

    kid: str
    algorithm: str
    key: _Key
    thumbprint: str

    @property
    def public_bytes(self) -> bytes:
        """Of a key on Ed25519, its 32 bytes (RFC 8032)."""
        assert isinstance(self.key, Ed25519PublicKey)
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """Whether the signature, in the form of RFC 7518 or 8037, is this key's over ``signed``."""
        key = self.key
        if isinstance(key, RSAPublicKey):
            return _RS256.verify(signed, key, signature)
        if isinstance(key, EllipticCurvePublicKey):
            return _ES256.verify(signed, key, signature)
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """An Ed25519 key of our own, from its 32-byte seed. Raises `ValueError` for a seed of another length. The seed is in no
    repr."""

    __slots__ = ("_private", "jwk", "kid", "public", "public_bytes", "thumbprint")

    def __init__(self, kid: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.kid = kid
        self.public_bytes = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        """32 bytes."""
        members = {"crv": "Ed25519", "kty": "OKP", "x": b64url(self.public_bytes)}
        self.thumbprint = _thumbprint(members)
        self.jwk: dict[str, str] = {**members, "kid": kid, "alg": "EdDSA", "use": "sig"}
        """The public half, for a JWKS."""
        self.public = PublicKey(kid, "EdDSA", self._private.public_key(), self.thumbprint)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r})"

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(data)


def parse_jwks(document: object, algorithms: Collection[str]) -> tuple[dict[str, PublicKey], list[str]]:
    """The usable keys of a JWK set by ``kid``, in its order, and why others were left out.

    ``document`` is the bytes of one or what they say. Only keys of ``algorithms`` are taken. A key without ``kid`` gets its
    thumbprint for one. A document that is too large, no set, or that gives one ``kid`` to two keys, is refused whole.
    """
    if isinstance(document, bytes):
        if len(document) > JWKS_BYTES_MAX:
            return {}, [f"the key set is larger than {JWKS_BYTES_MAX} bytes"]
        try:
            document = orjson.loads(document)
        except ValueError:
            return {}, ["the key set is not JSON"]
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return {}, ['the key set is no object with a list of "keys"']
    if len(listed) > JWKS_KEYS_MAX:
        return {}, [f"the key set holds {len(listed)} keys; at most {JWKS_KEYS_MAX} are taken"]
    keys: dict[str, PublicKey] = {}
    reasons: list[str] = []
    for at, jwk in enumerate(listed, 1):
        key = parse_jwk(jwk)
        if isinstance(key, PublicKey) and key.algorithm not in algorithms:
            key = BadKey(f"{key.algorithm} is not among this issuer's algorithms")
        if isinstance(key, BadKey):
            reasons.append(f"{_name(jwk, at)}: {key.reason}")
        elif key.kid in keys:
            # Which of the two a token meant would be a guess, and one of them may be somebody else's addition.
            return {}, [f"{_name(jwk, at)}: another key of the set has the same kid"]
        else:
            keys[key.kid] = key
    return keys, reasons


def parse_jwk(jwk: object) -> PublicKey | BadKey:
    """One public key for verifying signatures."""
    if not isinstance(jwk, dict):
        return BadKey("not a JSON object")
    kty = jwk.get("kty")
    make = _MAKERS.get(kty) if isinstance(kty, str) else None
    if make is None:
        return BadKey("a symmetric key, which must never be published" if kty == "oct" else "an unknown type of key")
    if not jwk.keys().isdisjoint(_PRIVATE):
        return BadKey("a private key, which must never be published")
    if jwk.get("use", "sig") != "sig":
        return BadKey("its use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return BadKey("its key_ops do not hold verify")
    kid = jwk.get("kid", "")
    if not isinstance(kid, str) or len(kid) > KID_CHARS_MAX or not kid.isprintable() or ("kid" in jwk and not kid):
        return BadKey(f"its kid is not a text of 1 to {KID_CHARS_MAX} printable characters")
    made = make(jwk)
    if isinstance(made, BadKey):
        return made
    algorithm, key, members = made
    # RFC 9864 names EdDSA on this curve Ed25519; in a key the two say the same.
    if jwk.get("alg", algorithm) not in (algorithm, *(("Ed25519",) if algorithm == "EdDSA" else ())):
        return BadKey(f"its alg is not {algorithm}, which its type stands for")
    thumbprint = _thumbprint(members)
    return PublicKey(kid or thumbprint, algorithm, key, thumbprint)


def _ed25519(jwk: dict[str, object]) -> _Made | BadKey:
    if jwk.get("crv") != "Ed25519":
        return BadKey("of the curves of its type only Ed25519 is taken")
    raw = _octets(jwk, "x", 32)
    if raw is None:
        return BadKey("its x is not 32 bytes in base64url")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P or y in _SMALL_ORDER:
        return BadKey("its x is a point under which signatures prove nothing")
    return "EdDSA", Ed25519PublicKey.from_public_bytes(raw), {"crv": "Ed25519", "kty": "OKP", "x": b64url(raw)}


def _p256(jwk: dict[str, object]) -> _Made | BadKey:
    if jwk.get("crv") != "P-256":
        return BadKey("of the curves of its type only P-256 is taken")
    x, y = _octets(jwk, "x", 32), _octets(jwk, "y", 32)
    if x is None or y is None:
        return BadKey("its x and y are not 32 bytes each in base64url")
    try:
        key = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()
    except ValueError:
        return BadKey("its x and y are no point of the curve")
    return "ES256", key, {"crv": "P-256", "kty": "EC", "x": b64url(x), "y": b64url(y)}


def _rsa(jwk: dict[str, object]) -> _Made | BadKey:
    n, e = _octets(jwk, "n"), _octets(jwk, "e")
    if n is None or e is None or n[0] == 0 or e[0] == 0:
        return BadKey("its n and e are not positive numbers in base64url")
    modulus, exponent = int.from_bytes(n), int.from_bytes(e)
    if not RSA_BITS[0] <= modulus.bit_length() <= RSA_BITS[1]:
        return BadKey(f"its n has {modulus.bit_length()} bits; {RSA_BITS[0]} to {RSA_BITS[1]} are taken")
    if not RSA_EXPONENT[0] <= exponent < RSA_EXPONENT[1] or exponent % 2 == 0 or modulus % 2 == 0:
        return BadKey(f"its n or e is even, or e is not from {RSA_EXPONENT[0]} to {RSA_EXPONENT[1] - 1}")
    return "RS256", RSAPublicNumbers(exponent, modulus).public_key(), {"e": b64url(e), "kty": "RSA", "n": b64url(n)}


_MAKERS: Final[Mapping[str, Callable[[dict[str, object]], _Made | BadKey]]] = {
    "OKP": _ed25519,
    "EC": _p256,
    "RSA": _rsa,
}


def _octets(jwk: dict[str, object], name: str, length: int = 0) -> bytes | None:
    text = jwk.get(name)
    octets = unb64url(text) if isinstance(text, str) else None
    return octets if octets and (not length or len(octets) == length) else None


def _thumbprint(members: Mapping[str, str]) -> str:
    # RFC 7638, section 3.2: the members that the type needs, in the order of their names, without white space.
    return b64url(hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).digest())


def _name(jwk: object, at: int) -> str:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    shown = isinstance(kid, str) and len(kid) <= KID_CHARS_MAX and kid.isprintable()
    return f"key {at} ({kid})" if shown else f"key {at}"
