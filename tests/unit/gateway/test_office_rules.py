"""gateway.office by itself: what its methods refuse before HTTP's models would, and what they draw from."""

from __future__ import annotations

import time
from types import MappingProxyType

import pytest
import trio

from core.dpop import make_proof
from core.jws import unb64url
from core.ports import Unavailable
from core.tenants import Quotas, Tenant, Tenants
from core.tokens import Identity
from gateway.office import _hash, _next, _secret
from gateway.office_service import OAUTH_CODES, Caller, Denied
from gateway.service import HTTP_STATUS, WireError
from tests.devices import BASE, new_key
from tests.nodes import serving_node

ROOT = Identity("demo", "user:root", frozenset({"admin"}), 2e9)


async def test_what_is_no_client_no_device_and_no_scope() -> None:
    """Each in words that name the field."""
    async with serving_node() as node:
        office = node.office
        for principal in ("user:amy", "service:", "service:readback", "service:a b"):
            with pytest.raises(WireError, match=r"bad_request: principal"):
                await office.add_client(ROOT, principal, [])
        with pytest.raises(WireError, match=r"bad_request: roles: some of admin, auditor, service"):
            await office.add_client(ROOT, "service:x", ["root"])
        for device in ("truck", "user:amy", "device:"):
            with pytest.raises(WireError, match=r"bad_request: device"):
                await office.mint_claim(ROOT, device, BASE)
        for scope in ("tenant", "", "x"):
            with pytest.raises(WireError, match=r"bad_request: scope"):
                await office.revoke(ROOT, scope, "x", "")
            with pytest.raises(WireError, match=r"bad_request: scope"):
                await office.lift(ROOT, scope, "x")


async def test_a_request_whose_host_is_none_proves_nothing() -> None:
    """It is the client's text like any other."""
    async with serving_node() as node:
        proof = make_proof(new_key(), method="POST", url=f"{BASE}/x", token="c", now_s=time.time(), jti="j")
        with pytest.raises(Denied, match="Host"):
            await node.office.redeem(Caller("POST", "a b", "/x", "", proof), "c")


async def test_proofs_are_made_one_at_a_time_and_within_the_quota_of_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes meanwhile is told to come back; one that failed is over too.

    As many as there were requests were made at once, of up to 0.2 GB each: any tenant's admin could end the node.
    """
    begun, go_on, lost = trio.Event(), trio.Event(), trio.Event()

    async def slow(*args: object, **options: object) -> bytes:
        begun.set()
        await go_on.wait()
        if lost.is_set():
            raise OSError("a file of anchors that is gone")
        return b"proof"

    monkeypatch.setattr("gateway.office.prover_of", lambda log: log)
    monkeypatch.setattr("gateway.office.make_proof", slow)

    async def prove() -> None:
        assert await node.office.prove_event(ROOT, "chat:ops", 1) == b"proof"

    quotas = Quotas(history_per_s=0.001, burst_s=4_000.0)
    tenants = Tenants(MappingProxyType({"demo": Tenant("demo", quotas=quotas)}))
    async with serving_node(tenants=tenants) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prove)
            await begun.wait()
            with pytest.raises(WireError, match="overloaded: another proof"):
                await node.office.prove_event(ROOT, "chat:ops", 2)
            go_on.set()
        lost.set()
        for _ in range(2):
            with pytest.raises(Unavailable, match="anchors"):
                await node.office.prove_event(ROOT, "chat:ops", 3)
        with pytest.raises(WireError, match="rate_limited"):
            await node.office.prove_event(ROOT, "chat:ops", 4)


def test_secrets_are_256_random_bits() -> None:
    """Never the same twice, and kept as their hash alone."""
    secrets = {_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(unb64url(secret) or b"") for secret in secrets} == {32}
    assert len(_hash("\udcff")) == 32


def test_the_next_refresh_token_is_random_or_follows_from_all_of_the_request() -> None:
    """Same token, key and Idempotency-Key: the same; one of them another: another. Without the last: new each time."""
    token, again = _secret(), "5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55"
    assert _next(token, "k1", again) == _next(token, "k1", again)
    others = {_next(token, "k2", again), _next(_secret(), "k1", again), _next(token, "k1", again[:-1] + "6")}
    others |= {_next(token, "k1", None), _next(token, "k1", None), _next(token, "k1", again), token}
    assert len(others) == 7


def test_every_error_of_oauth_has_a_code_of_the_wire() -> None:
    """And that a status."""
    assert set(OAUTH_CODES.values()) <= set(HTTP_STATUS)
