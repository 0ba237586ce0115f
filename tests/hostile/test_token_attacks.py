"""Tokens that were forged (`tests.hostile.forgeries`): refused by the verifier and by a node with twenty people on it, and
guessing costs whoever answers next to nothing."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from core.dpop import make_proof, verify_proof
from core.keys import PublicKey
from core.limits import Limits
from core.tenants import Issuer, Tenant, Tenants
from core.tokens import Identity, NeedKeys, TokenError, TokenVerifier, _Secret, issue
from gateway.http import make_app
from gateway.jwks import AGAIN_S, KeySource
from tests.hostile.forgeries import (
    ACME,
    EDDSA,
    ES256,
    JWKS,
    KEYS,
    P256_N,
    RIVAL,
    RS256,
    SECRET,
    TENANTS,
    attacks,
    signature_of,
    signed_with,
)
from tests.hostile.peer import text
from tests.hostile.scene import ROOM, Scene, scene
from tests.issuers import IDP, NOW, claims, compact, own, seed_of, signer
from tests.nodes import SECRETS


def verifier(keys: Callable[[Issuer], Any] = lambda issuer: KEYS[issuer.jwks_url]) -> TokenVerifier:
    return TokenVerifier({"k1": SECRET}, tenants=TENANTS, own={"s1": own().public}, keys=keys)


NAMES = list(attacks(NOW))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each signature that is checked: its length."""
    checks: list[int] = []
    for kind in (PublicKey, _Secret):
        real = kind.verify

        def verify(self: Any, signed: bytes, signature: bytes, real: Any = real) -> bool:
            checks.append(len(signature))
            return bool(real(self, signed, signature))

        monkeypatch.setattr(kind, "verify", verify)
    return checks


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_refused(name: str, counted: list[int]) -> None:
    """A reason, for at most one signature checked, and nothing of the token in it."""
    token, said = attacks(NOW)[name]
    result = verifier().verify(token, NOW)
    assert isinstance(result, TokenError), result
    assert said in result.reason, result.reason
    assert len(counted) <= 1
    assert not isinstance(token, str) or len(token) < 40 or token[:20] not in result.reason


def test_attacks_would_be_tokens_but_for_what_they_are() -> None:
    """The honest ones beside them get in, so that nothing above is refused for a mistake of its own."""
    for one in (EDDSA, ES256, RS256):
        assert isinstance(verifier().verify(one.token(), NOW), Identity)
        assert isinstance(
            verifier().verify(one.token(aud=["x", "readback"], tenant="acme", jti="x", iat=NOW), NOW), Identity
        )
    rival = signer("EdDSA", "rival").token(iss=RIVAL.issuer)
    who = verifier().verify(rival, NOW)
    assert isinstance(who, Identity)
    assert who.tenant == "rival"


def test_a_signature_of_ecdsa_has_a_twin_and_nothing_hangs_on_it() -> None:
    """(r, n - s) holds as well, by the mathematics, and issuers make either. It is the same identity with the same token id,
    so revoking one revokes both, and a proof is for one spelling."""
    token = ES256.token(jti="t-1")
    signature = signature_of(token)
    s = int.from_bytes(signature[32:])
    twin = signed_with(token, signature[:32] + (P256_N - s).to_bytes(32))
    assert verifier().verify(twin, NOW) == verifier().verify(token, NOW)
    device = own("truck-7")
    proof = make_proof(device, method="GET", url="https://gateway.example/", token=token, now_s=NOW, jti="p")
    result = verify_proof(proof, method="GET", url="https://gateway.example/", token=twin, now_s=NOW)
    assert isinstance(result, TokenError)


def test_a_token_is_no_proof() -> None:
    """Of any kind, by its typ; with a proof's typ, by its header."""
    for token in (
        EDDSA.token(),
        EDDSA.token({"typ": "dpop+jwt", "alg": "EdDSA", "kid": "eddsa"}),
        issue(own(), tenant="acme", principal="user:amy", roles=(), now_s=NOW, ttl_s=60, token_id="t"),
    ):
        result = verify_proof(token, method="GET", url="https://gateway.example/", token=None, now_s=NOW)
        assert isinstance(result, TokenError)


def test_every_attack_on_proofs_too(counted: list[int]) -> None:
    """Whatever is sent for a token may be sent for a proof."""
    for name, (token, _) in attacks(NOW).items():
        if name == "a proof for a token":
            continue
        result = verify_proof(token, method="GET", url="https://gateway.example/", token=None, now_s=NOW)
        assert isinstance(result, TokenError), name
    assert counted == []


# Guesses


def guesses(count: int) -> Iterator[str]:
    """Tokens with good claims and made-up keys: of names that do not exist, or of those that do with made-up signatures."""
    rng = random.Random(5)
    kinds = [
        *((one.algorithm, one.kid, IDP) for one in (EDDSA, ES256, RS256)),
        ("EdDSA", "s1", "readback"),
        ("HS256", "k1", ...),
    ]
    bodies = {iss: claims(iss=iss, tenant="acme") for _, _, iss in kinds}
    for n in range(count):
        algorithm, kid, iss = kinds[n % len(kinds)]
        if n % 2 and iss == IDP:
            kid = rng.randbytes(16).hex()
        signature = rng.randbytes(256 if algorithm == "RS256" else 64)
        yield compact({"alg": algorithm, "kid": kid}, bodies[iss], lambda _, signature=signature: signature)


async def test_ten_thousand_guesses_are_answered_in_constant_work(mock_clock: MockClock, counted: list[int]) -> None:
    """For each at most one signature is checked, though it is looked at twice where its key is not known; for all of them
    keys are fetched once; and nothing is kept of any."""
    fetched: list[str] = []

    async def provider(request: httpx.Request) -> httpx.Response:
        fetched.append(str(request.url))
        return httpx.Response(200, stream=httpx.ByteStream(orjson.dumps(JWKS[str(request.url)])))

    source = KeySource(TENANTS, rng=random.Random(1), transport=httpx.MockTransport(provider))  # type: ignore[arg-type]
    unknown = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run)
        await wait_all_tasks_blocked()
        mock_clock.jump(AGAIN_S)
        check = verifier(source.keys)
        fetched.clear()

        async def guess(token: str) -> None:
            nonlocal unknown
            counted.clear()
            result = check.verify(token, NOW)
            if isinstance(result, NeedKeys):
                unknown += 1
                await source.want(result.issuer, result.kid)
                result = check.verify(token, NOW)
            assert isinstance(result, TokenError)
            assert result.reason in ("bad signature", "signed with an unknown key")
            assert len(counted) <= 1

        tokens = list(guesses(10_000))
        for token in tokens[:1_000]:
            await guess(token)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for token in tokens[1_000:2_000]:
            await guess(token)
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for token in tokens[2_000:]:
            await guess(token)
        assert isinstance(check.verify(EDDSA.token(), NOW), Identity)
        nursery.cancel_scope.cancel()
    assert fetched == [ACME.jwks_url]
    assert unknown == source.wanted == 3_000
    assert after - before < 50_000
    assert peak - before < 200_000


# Over a node


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """The tenants, with their issuers' keys in files."""
    folder: Path = tmp_path_factory.mktemp("keys")
    named = {}
    for name, tenant in TENANTS.named.items():
        (issuer,) = tenant.issuers
        path = folder / f"{name}.json"
        path.write_bytes(orjson.dumps(JWKS[issuer.jwks_url]))
        named[name] = Tenant(name, (replace(issuer, jwks_url="", jwks_file=str(path)),))
    return Tenants(named)


UNBOUNDED = Limits(
    guesses_per_address_per_s=0,
    guesses_per_address_burst=0,
    handshakes_per_address_per_s=0,
    handshakes_per_address_burst=0,
)
"""All of them come from one address, which would not be listened to for long."""


async def _with_issuers(stage: Scene, tenants: Tenants) -> None:
    node = stage.node.node
    node.use_keys(replace(SECRETS, signing_keys={"s1": seed_of("s1")}), tenants)
    issuers = [issuer for tenant in tenants.named.values() for issuer in tenant.issuers]
    await stage.until(lambda: all(node.proving.issuers.keys(issuer) for issuer in issuers))


@pytest.mark.parametrize("share", range(4))
async def test_attacks_open_nothing_on_a_socket(share: int, key_files: Tenants) -> None:
    """``bye/unauthorized`` with the reason, while twenty people go on talking."""
    async with scene(limits=UNBOUNDED) as stage:
        await _with_issuers(stage, key_files)
        made = attacks(time.time())
        for name in list(made)[share::4]:
            token, said = made[name]
            message = orjson.dumps({"op": "hello", "id": 1, "token": token, "streams": {ROOM: {}}})
            if token is None or len(message) > 60_000:
                continue  # no token at all, and what is no message: others' cases
            peer = await stage.upgraded()
            await peer.put(text(message))
            code, bye = await peer.bye()
            assert (code, bye["code"]) == (4501, "unauthorized"), name
            assert said in bye["reason"], name
            peer.stream.socket.close()
        peer = await stage.upgraded()
        good = EDDSA.token(exp=time.time() + 60)
        await stage.node.stream(ROOM, tenant="acme")
        assert (await peer.ask("hello", token=good, streams={ROOM: {}}))["principal"] == "user:amy"


async def test_attacks_open_nothing_over_http(key_files: Tenants) -> None:
    """401, a problem document and what kind of token would do."""
    async with scene(limits=UNBOUNDED) as stage:
        await _with_issuers(stage, key_files)
        transport = httpx.ASGITransport(make_app(stage.node.desk))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            for name, (token, _) in attacks(time.time()).items():
                if not isinstance(token, str) or not token.isascii() or not token.isprintable() or token.endswith(" "):
                    continue  # what no header can hold; a space at its end is none of it (RFC 9110, section 5.5)
                answer = await client.get("/v1/me/streams", headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 401, name
                assert answer.json()["code"] == "unauthorized", name
                assert "www-authenticate" in answer.headers, name
            good = RS256.token(exp=time.time() + 60)
            answer = await client.get("/v1/me/streams", headers={"Authorization": f"Bearer {good}"})
            assert answer.status_code == 200
