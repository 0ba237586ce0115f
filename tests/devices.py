"""A device as its maker would write it: a key of its own, a claim from a QR code, proofs, tokens, signed positions.

It knows what docs/devices.md says and nothing of the gateway's inside; `http_of(node)` is the real HTTP API of a test's node.
"""

from __future__ import annotations

import calendar
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson

from core.dpop import make_proof
from core.jws import b64url
from core.keys import SigningKey
from gateway.http import make_app
from tests.nodes import TestNode, token
from tests.wire_client import WireClient, wire_client

BASE = "http://readback.test"
AT = "2026-11-21T09:30:00.123Z"
_numbers = itertools.count(1)


def new_key() -> SigningKey:
    """One that nobody had before."""
    return SigningKey("device", b"seed of a device" + next(_numbers).to_bytes(16))


@asynccontextmanager
async def http_of(node: TestNode, address: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(node.desk, office=node.office)
    transport = httpx.ASGITransport(app, client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


def admin(*roles: str, principal: str = "user:root", tenant: str = "demo") -> dict[str, str]:
    return {"authorization": f"Bearer {token(principal, tenant=tenant, roles=roles or ('admin',))}"}


class Device:
    def __init__(self, http: httpx.AsyncClient, now: Any, name: str = "device:truck-7") -> None:
        self.http = http
        self.now = now
        self.name = name
        self.key = new_key()
        self.tenant = self.principal = self.access = self.refresh_token = ""
        self.seq = 0
        self.secrets: set[str] = set()
        """Everything it ever held that nobody else may see."""

    def proof(self, url: str, over: str | None = None, *, method: str = "POST", key: SigningKey | None = None) -> str:
        now_s = self.now()
        jti = f"proof-{next(_numbers)}"
        return make_proof(key or self.key, method=method, url=url, token=over, now_s=now_s, jti=jti)

    async def scan(self, uri: str) -> httpx.Response:
        """What it does with the text of a QR code."""
        parts = urlsplit(uri)
        assert (parts.scheme, parts.netloc) == ("readback", "claim")
        facts = {name: value for name, [value] in parse_qs(parts.query).items()}
        assert facts["u"] == BASE
        answer = await self.redeem(facts["c"])
        if answer.status_code == 200:
            jwks = (await self.http.get("/v1/jwks.json")).json()["keys"]
            assert facts["k"] in [thumbprint(jwk) for jwk in jwks]
        return answer

    async def redeem(self, claim: str, *, proof: str | None = None, again: str | None = None) -> httpx.Response:
        self.secrets.add(claim)
        headers = {"dpop": proof or self.proof(f"{BASE}/v1/devices/redeem", claim)}
        if again:
            headers["idempotency-key"] = again
        return self._keep(await self.http.post("/v1/devices/redeem", json={"claim": claim}, headers=headers))

    async def refresh(
        self, refresh_token: str | None = None, *, proof: str | None = None, again: str | None = None
    ) -> httpx.Response:
        headers = {"dpop": proof or self.proof(f"{BASE}/v1/oauth/token")}
        if again:
            headers["idempotency-key"] = again
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token or self.refresh_token}
        return self._keep(await self.http.post("/v1/oauth/token", data=form, headers=headers))

    async def rotate(self, *, next_proof: str | None = None) -> httpx.Response:
        """To a new key. The old one is kept where that is refused."""
        url, new = f"{BASE}/v1/devices/rotate", new_key()
        following = next_proof or self.proof(url, self.refresh_token, key=new)
        body = {"refresh_token": self.refresh_token, "next_proof": following}
        answer = await self.http.post("/v1/devices/rotate", json=body, headers={"dpop": self.proof(url, following)})
        if answer.status_code == 200:
            self.key = new
        return self._keep(answer)

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 200:
            got = answer.json()
            assert got["token_type"] == "DPoP"
            self.tenant, self.principal = got["tenant"], got["principal"]
            self.access, self.refresh_token = got["access_token"], got["refresh_token"]
            self.secrets |= {self.access, self.refresh_token}
        return answer

    async def get(self, path: str) -> httpx.Response:
        proof = self.proof(f"{BASE}{path}", self.access, method="GET")
        return await self.http.get(path, headers={"authorization": f"DPoP {self.access}", "dpop": proof})

    # On the socket

    def over(self, node: TestNode, what: str) -> str:
        """The proof beside a token of a hello, a refresh or a resume."""
        return self.proof(node.url.replace("ws://", "http://"), what, method="GET")

    @asynccontextmanager
    async def connected(self, node: TestNode, streams: dict[str, Any] | None = None) -> AsyncIterator[WireClient]:
        async with wire_client(node.url) as client:
            await client.say("hello", token=self.access, dpop=self.over(node, self.access), streams=streams or {})
            await client.next("welcome")
            yield client

    def fix(self, **fields: Any) -> dict[str, Any]:
        self.seq += 1
        return {"seq": self.seq, "at": AT, "lat": -33.9, "lon": 151.2, "acc": 5, "speed": 14.2, "heading": 87, **fields}

    def sign(self, stream: str, fixes: Sequence[dict[str, Any]], key: SigningKey | None = None) -> str:
        lines = [line_of(fix) for fix in fixes]
        signed = "\n".join(["readback.position.v1", self.tenant, self.principal, stream, *lines]) + "\n"
        return b64url((key or self.key).sign(signed.encode()))

    async def position(
        self, client: WireClient, fixes: Sequence[dict[str, Any]], stream: str = "trip:9", **fields: Any
    ) -> dict[str, Any]:
        if "sig" not in fields:
            fields["sig"] = self.sign(stream, fixes)
        return await client.ask("position", stream=stream, fixes=list(fixes), **fields)


def line_of(fix: dict[str, Any]) -> str:
    """As docs/protocol.md says it, in a maker's own words: decimals are texts that are cut, not numbers that are computed."""

    def units(name: str, places: int) -> str:
        if fix.get(name) is None:
            return ""
        sign = "-" if fix[name] < 0 else ""
        whole, _, rest = f"{abs(fix[name]):.{places}f}".partition(".")
        return sign + (f"{whole}{rest}".lstrip("0") or "0")

    whole_s, _, ms = fix["at"].removesuffix("Z").partition(".")
    at_ms = 1000 * calendar.timegm(time.strptime(whole_s, "%Y-%m-%dT%H:%M:%S")) + int(ms.ljust(3, "0"))
    hundredths = [units(name, 2) for name in ("acc", "speed", "heading", "alt")]
    mock = "1" if fix.get("mock") else "0"
    return ",".join([str(fix["seq"]), str(at_ms), units("lat", 7), units("lon", 7), *hundredths, mock])


def thumbprint(jwk: dict[str, str]) -> str:
    """RFC 7638, as a device computes it."""
    members = {name: jwk[name] for name in sorted(("crv", "kty", "x"))}
    return b64url(hashlib.sha256(orjson.dumps(members)).digest())


async def claim_for(
    http: httpx.AsyncClient, device: str = "device:truck-7", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    answer = await http.post("/v1/devices/claims", json={"device": device}, headers=headers or admin())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def onboarded(node: TestNode, http: httpx.AsyncClient, name: str = "device:truck-7") -> Device:
    device = Device(http, lambda: node.node.wall(), name)
    answer = await device.scan((await claim_for(http, name))["uri"])
    assert answer.status_code == 200, answer.text
    return device


def verdicts(answer: dict[str, Any]) -> list[tuple[int, str, str]]:
    assert answer["op"] == "ok", answer
    return [(each["seq"], each["verdict"], each.get("reason", "")) for each in answer["verdicts"]]


def names(events: Collection[Any]) -> list[str]:
    return [event.type for event in events]


async def audit_of(node: TestNode, tenant: str = "demo") -> list[Any]:
    """The tenant's audit stream, as the log has it."""
    [facts] = await node.log.open_streams([(tenant, "audit:log", "service:readback")])
    return [] if facts is None else await node.log.read(tenant, facts.sid, 0, 1_000)
