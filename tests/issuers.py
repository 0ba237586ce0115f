"""Issuers of tokens for tests: keys of every kind, made once, and tokens of any content signed with them."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from core.jws import b64url
from core.keys import SigningKey

NOW = 1_800_000_000.0
IDP = "https://id.acme.example"


def octets(value: int, length: int = 0) -> str:
    """A number as a JWK has it: big-endian, in base64url, as short as it can be or of a given length."""
    return b64url(value.to_bytes(length or (value.bit_length() + 7) // 8))


@dataclass(frozen=True)
class Signer:
    """A key pair of one algorithm."""

    kid: str
    algorithm: str
    private: Any

    @property
    def public(self) -> Any:
        return self.private.public_key()

    def sign(self, data: bytes) -> bytes:
        if self.algorithm == "RS256":
            return bytes(self.private.sign(data, padding.PKCS1v15(), hashes.SHA256()))
        if self.algorithm == "ES256":
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        return bytes(self.private.sign(data))

    @property
    def jwk(self) -> dict[str, Any]:
        numbers = None if self.algorithm == "EdDSA" else self.public.public_numbers()
        members: dict[str, Any]
        if self.algorithm == "RS256":
            members = {"kty": "RSA", "n": octets(numbers.n), "e": octets(numbers.e)}
        elif self.algorithm == "ES256":
            members = {"kty": "EC", "crv": "P-256", "x": octets(numbers.x, 32), "y": octets(numbers.y, 32)}
        else:
            members = {"kty": "OKP", "crv": "Ed25519", "x": b64url(self.public.public_bytes_raw())}
        return {**members, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def token(self, header: object = ..., /, **changed: object) -> str:
        """A token of this issuer; ``...`` takes a claim away."""
        head = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid} if header is ... else header
        return compact(head, claims(**changed), self.sign)


def claims(**changed: object) -> dict[str, Any]:
    whole = {"iss": IDP, "sub": "user:amy", "aud": "readback", "exp": NOW + 60, **changed}
    return {name: value for name, value in whole.items() if value is not ...}


def compact(header: object, body: object, sign: Any) -> str:
    """A JWS of any header and claims; bytes are taken as they are."""
    parts = [part if isinstance(part, bytes) else orjson.dumps(part) for part in (header, body)]
    signed = ".".join(map(b64url, parts))
    return f"{signed}.{b64url(sign(signed.encode()))}"


def hmac_with(secret: bytes) -> Any:
    return lambda data: hmac.digest(secret, data, sha256)


@cache
def signer(algorithm: str, kid: str = "") -> Signer:
    """One key pair for each algorithm and ``kid`` in a run: an RSA key takes a tenth of a second to make."""
    if algorithm == "RS256":
        private: Any = rsa.generate_private_key(65_537, 2_048)
    elif algorithm == "ES256":
        private = ec.derive_private_key(int.from_bytes(sha256(kid.encode()).digest()), ec.SECP256R1())
    else:
        private = own(kid or "ed")._private
    return Signer(kid or algorithm.lower(), algorithm, private)


def own(kid: str = "s1") -> SigningKey:
    """A signing key of the gateway or of a device, always the same for the same ``kid``."""
    return SigningKey(kid, seed_of(kid))


def seed_of(kid: str) -> bytes:
    return sha256(kid.encode()).digest()
