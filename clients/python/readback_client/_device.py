"""A key of this device's own, and the proofs that it makes (DPoP, RFC 9449).

An access token that is bound to a key is of no use to whoever has only the token. Given to `connect`, a key proves itself
with each hello, resume and refresh; for HTTP calls beside it `DeviceKey.proof` signs one proof for one request.

Promises: the private half is in no repr, message or exception, and cannot be pickled. Needs the package ``cryptography``,
which ``pip install readback-client[device]`` brings. Does not: keep the key. Where `DeviceKey.pem` is written is the
program's choice, and whether others can read it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

import orjson

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class DeviceKey:
    """An Ed25519 key. ``pem`` is what `DeviceKey.pem` gave, or ``openssl genpkey -algorithm ed25519``; PKCS 8, unencrypted.

    ``clock`` gives Unix time, by which servers judge a proof's age: a minute behind theirs or 5 s ahead is too much. Raises
    `ValueError` for what is no such key and `ImportError`, saying what to install, without ``cryptography``.

        key = DeviceKey(Path("device.pem").read_bytes())
        async with connect("wss://rt.example", fetch_token, key=key) as rb:
            ...
    """

    __slots__ = ("_clock", "_private", "jwk", "thumbprint")

    def __init__(self, pem: bytes, *, clock: Callable[[], float] = time.time) -> None:
        _check_installed()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None  # and not chained: what the parser met may quote what it was given
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("not an unencrypted Ed25519 private key in PEM")
        self._take(private, clock)

    def _take(self, private: Ed25519PrivateKey, clock: Callable[[], float]) -> None:
        self._private = private
        self._clock = clock
        self.jwk = {"crv": "Ed25519", "kty": "OKP", "x": _b64url(private.public_key().public_bytes_raw())}
        """The public half, to be enrolled with."""
        self.thumbprint = _b64url(hashlib.sha256(orjson.dumps(self.jwk)).digest())
        """What a token that is bound to this key names in ``cnf.jkt`` (RFC 7638)."""

    @classmethod
    def generate(cls, *, clock: Callable[[], float] = time.time) -> DeviceKey:
        """A new one. Keep its ``pem()`` where only this device can read it."""
        _check_installed()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = cls.__new__(cls)
        key._take(Ed25519PrivateKey.generate(), clock)
        return key

    def pem(self) -> bytes:
        """The private key itself. Whoever has it is this device."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """A proof for one request (section 4.2), good once and for a minute: the value of its ``DPoP`` header.

        ``url`` as it is called; query and fragment do not count. ``token`` is the access token that goes with it, which then
        is sent as ``Authorization: DPoP <token>``; ``None`` where one is asked for.

            headers = {"Authorization": f"DPoP {token}", "DPoP": key.proof("POST", url, token)}
        """
        claims: dict[str, object] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": int(self._clock()),
        }
        if token is not None:
            claims["ath"] = _b64url(hashlib.sha256(token.encode()).digest())
        header = {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": self.jwk}
        signed = f"{_b64url(orjson.dumps(header))}.{_b64url(orjson.dumps(claims))}"
        return f"{signed}.{_b64url(self._private.sign(signed.encode()))}"

    def __repr__(self) -> str:
        return f"DeviceKey({self.thumbprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DeviceKey is not pickled; keep its pem() where only this device can read it")


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _check_installed() -> None:
    # Only whoever uses keys needs it, so it is not imported with the package.
    if find_spec("cryptography") is None:
        raise ImportError("a DeviceKey needs the package cryptography: pip install 'readback-client[device]'")
