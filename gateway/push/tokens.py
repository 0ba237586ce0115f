"""What we authenticate with: Google's OAuth access token and Apple's provider token, one each for everybody who sends.

Promises: a token is made once and shared (who asks while one is fetched waits for that one), renewed before it ends, and never
sooner than its service allows. A refusal is remembered for a while, so that a key that was withdrawn is not asked with for
each push. Keys and tokens are in no message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode, urlsplit

import trio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from core import jws
from core.push import apns, fcm
from core.push.rules import PushLimits, Verdict, later, refused
from gateway.push.line import Line

FORM: Final = {"content-type": "application/x-www-form-urlencoded"}


class GoogleTokens:
    """Raises `ValueError` for a private key that cannot be used."""

    def __init__(self, account: fcm.Account, line: Line, wall: Callable[[], float], limits: PushLimits) -> None:
        key = _private_key(account.private_key)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("its private_key is no RSA key in PEM")
        self._key = key
        self._account = account
        self._line = line
        self._wall = wall
        self._limits = limits
        self._asking = trio.Lock()
        self._access: fcm.Access | None = None
        self._refusal: Verdict | None = None
        self._ask_again_s = 0.0

    async def get(self) -> str | Verdict:
        """Raises `gateway.work.ports.Transient`."""
        async with self._asking:
            if self._access is None or self._access.until_s <= self._wall():
                if self._refusal is not None and self._wall() < self._ask_again_s:
                    return self._refusal
                found = await self._fetch()
                if isinstance(found, Verdict):
                    self._refusal, self._ask_again_s = found, self._wall() + self._limits.access_token_rest_s
                    return found
                self._access, self._refusal = found, None
            return self._access.token

    def forget(self, token: str) -> None:
        """It was refused; who has another one by now keeps that."""
        if self._access is not None and self._access.token == token:
            self._access = None

    async def _fetch(self) -> fcm.Access | Verdict:
        now_s = self._wall()
        signed = jws.write(*fcm.assertion(self._account, int(now_s)), self._sign)
        form = urlencode({"grant_type": fcm.GRANT, "assertion": signed}).encode()
        answered = await self._line.post(urlsplit(self._account.token_uri).path, FORM, form)
        if answered.status == 200:
            access = fcm.read_access(answered.body, now_s, self._limits)
            return refused(access) if isinstance(access, str) else access
        if answered.status == 429 or answered.status >= 500:
            return later(f"{self._line.host} answers {answered.status}", answered.retry_after_s)
        return refused(f"no access token: {self._line.host} answers {answered.status}")

    def _sign(self, data: bytes) -> bytes:
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())


class AppleTokens:
    """Raises `ValueError` for a key that cannot be used. Making a token waits for nothing, so that nobody can ask meanwhile."""

    def __init__(self, team: apns.Team, wall: Callable[[], float], limits: PushLimits) -> None:
        key = _private_key(team.key)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("it is no P-256 key in PEM, as Apple's .p8 files are")
        self._key = key
        self._team = team
        self._wall = wall
        self._limits = limits
        self._issued = 0
        self._token = ""

    def get(self) -> str:
        issued = apns.issued_s(self._wall(), self._limits)
        if issued > self._issued and apns.renew_in_s(self._issued, self._wall(), self._limits) == 0.0:
            self._make(issued)
        return self._token

    def renew(self, token: str) -> float:
        """Apple says that it expired: 0 where there is another one by now, else after how many seconds there may be."""
        if token != self._token:
            return 0.0
        wait_s = apns.renew_in_s(self._issued, self._wall(), self._limits)
        if wait_s == 0.0:
            self._make(int(self._wall()))
        return wait_s

    def _make(self, issued: int) -> None:
        self._issued, self._token = issued, jws.write(*apns.provider_token(self._team, issued), self._sign)

    def _sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(32) + s.to_bytes(32)


def _private_key(pem: str) -> object:
    try:
        return serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        return None
