"""The Python client and its tokens against the real node: renewed, refused, bound to keys, revoked; and quotas.

Node and client share Trio's mock clock, and the node's wall clock goes with it, so that tokens end without anybody waiting.
"""

# ruff: noqa: PT012  (what is expected to raise is the `async with` block as a whole)
from __future__ import annotations

import functools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from types import MappingProxyType

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from core.directory import Note
from core.dpop import Proof, verify_proof
from core.identity import issue
from core.keys import SigningKey
from core.tenants import Quotas, Tenant, Tenants
from gateway.gatekeeper import FULL_RETRY_S
from readback_client import Client, DeviceKey, Forbidden, Revoked, Status, Unauthorized, Waiting, connect
from tests.nodes import SECRETS, TestNode, serving_node

BEGAN = time.time()
LEEWAY_S = 30.0  # what the node forgives of clocks, so that it keeps a connection for so much longer
NOTE = Note("user:root", b"{}")
OWN = SigningKey("s1", SECRETS.signing_keys["s1"])
Provider = Callable[[], Awaitable[str]]


def wall() -> float:
    return BEGAN + trio.current_time()


def access(
    ttl_s: float = 300.0,
    *,
    principal: str = "user:amy",
    roles: Collection[str] = (),
    key: DeviceKey | None = None,
) -> str:
    return issue(
        OWN,
        tenant="demo",
        principal=principal,
        roles=roles,
        now_s=wall(),
        ttl_s=ttl_s,
        token_id=str(uuid.uuid4()),
        bound_to=key.thumbprint if key else "",
    )


def provider(*tokens: Callable[[], str]) -> tuple[list[str], Provider]:
    """Gives these, one after the other, the last one for ever; and what it gave."""
    given: list[str] = []

    async def token() -> str:
        given.append(tokens[min(len(given), len(tokens) - 1)]())
        return given[-1]

    return given, token


@asynccontextmanager
async def node_at(clock: MockClock, **quotas: float) -> AsyncIterator[TestNode]:
    """A node with an open room, on the mock clock."""
    clock.autojump_threshold = 0.0
    tenants = Tenants(MappingProxyType({"demo": Tenant("demo", quotas=Quotas(**quotas))})) if quotas else None  # type: ignore[arg-type]
    async with serving_node(tenants=tenants) as node:
        node.node.wall = wall
        await node.stream("chat:ops")
        yield node


async def wait_for(rb: Client, kind: type[Status]) -> Status:
    with rb.status as statuses:
        async for status in statuses:
            if isinstance(status, kind):
                return status
    raise AssertionError(f"ended before {kind.__name__}")


def cut(node: TestNode) -> None:
    """Every connection is gone without a word."""
    for connection in list(node.node.shard.connections.values()):
        node.node.shard.close(connection)
    node.node.shard.reap()


async def follow(rb: Client, seqs: list[int], count: int) -> None:
    """Take ``count`` events from the beginning."""
    async for event in rb.subscribe("chat:ops", after=0):
        seqs.append(event.seq)
        if event.seq == count:
            return


async def test_a_connection_outlives_three_tokens(autojump_clock: MockClock) -> None:
    """One connection, one hello, every event; the node would have ended it with the first of them."""
    given, token = provider(lambda: access(60.0))
    async with node_at(autojump_clock) as node, connect(node.url, token) as rb:
        events = rb.subscribe("chat:ops", after=0)
        for n in range(1, 37):
            await rb.send("chat:ops", {"n": n})
            assert (await events.__anext__()).seq == n
            await trio.sleep(10)
        assert trio.current_time() > 3 * (60 + LEEWAY_S)
        assert rb.stats.refreshes == len(given) - 1 >= 3
        assert (rb.stats.dials, rb.stats.welcomes, rb.stats.gaps) == (1, 1, 0)


async def test_without_a_refresh_the_node_ends_it_and_a_hello_follows(autojump_clock: MockClock) -> None:
    """Refused twice: the old way takes over, and no event is lost or seen twice."""
    given, token = provider(lambda: access(60.0), lambda: "forged", lambda: access(60.0, principal="user:eve"), access)
    async with (
        node_at(autojump_clock) as node,
        connect(node.url, access(9_000.0, principal="user:bob")) as bob,
        connect(node.url, token) as rb,
        trio.open_nursery() as nursery,
    ):
        seqs: list[int] = []
        nursery.start_soon(follow, rb, seqs, 60)
        for n in range(60):
            await bob.send("chat:ops", {"n": n})
            await trio.sleep(2)
        assert (rb.stats.refreshes, rb.stats.welcomes, len(given)) == (0, 2, 4)
        assert not rb.stats.resumes
    assert seqs == list(range(1, 61))


async def test_a_provider_whose_tokens_are_no_good_ends_the_client(autojump_clock: MockClock) -> None:
    """After the refresh, its repetition and two hellos; not in a loop."""
    given, token = provider(lambda: access(60.0), lambda: "forged")
    async with node_at(autojump_clock) as node:
        with pytest.raises(Unauthorized):
            async with connect(node.url, token) as rb:
                await rb.ready()
                await trio.sleep_forever()
    assert len(given) == 4


async def test_a_fixed_token_ends_the_client_at_the_time_it_was_told(autojump_clock: MockClock) -> None:
    """`token_ends_in_s` is what the node does."""
    async with node_at(autojump_clock) as node:
        with pytest.raises(Unauthorized, match="the access token has expired"):
            async with connect(node.url, access(60.0)) as rb:
                await rb.ready()
                left_s = rb.token_ends_in_s
                began = trio.current_time()
                await trio.sleep_forever()
    assert left_s == pytest.approx(60.0 + LEEWAY_S, abs=1.0)
    assert trio.current_time() - began == pytest.approx(left_s, abs=2.0)


async def test_roles_that_the_next_token_lacks_end_their_streams(autojump_clock: MockClock) -> None:
    """As a removal would; membership by name stays."""
    _, token = provider(lambda: access(60.0, roles=("admin",)), access)
    async with node_at(autojump_clock) as node:
        await node.stream("chat:theirs", open=False, members={"user:bob": "member"})
        async with connect(node.url, token) as rb:
            theirs, ops = rb.subscribe("chat:theirs", after=0), rb.subscribe("chat:ops", after=0)
            await rb.send("chat:theirs", {"text": "as admin"})
            assert (await theirs.__anext__()).seq == 1
            with pytest.raises(Forbidden, match="not a member of chat:theirs"):
                await theirs.__anext__()
            await rb.send("chat:ops", {"text": "still here"})
            assert (await ops.__anext__()).seq == 1
            assert rb.stats.welcomes == 1


# -- keys -----------------------------------------------------------------------------------------------------------------


async def test_a_bound_token_is_proven_in_hello_resume_and_refresh(autojump_clock: MockClock) -> None:
    """By the key that it is bound to, through a cut and past two tokens."""
    key = DeviceKey.generate(clock=wall)
    _, token = provider(lambda: access(60.0, key=key))
    async with node_at(autojump_clock) as node, connect(node.url, token, key=key) as rb:
        events = rb.subscribe("chat:ops", after=0)
        for n in range(1, 19):
            await rb.send("chat:ops", {"n": n})
            assert (await events.__anext__()).seq == n
            await trio.sleep(10)
            if n == 3:
                cut(node)
        assert (rb.stats.welcomes, rb.stats.resumes, rb.stats.resumes_rejected) == (2, 1, 0)
        assert rb.stats.refreshes >= 2


@pytest.mark.parametrize("other", [True, False])
async def test_a_bound_token_without_its_key_proves_nobody(autojump_clock: MockClock, other: bool) -> None:
    """With another key or none it is refused in words."""
    key = DeviceKey.generate(clock=wall) if other else None
    async with node_at(autojump_clock) as node:
        token = access(key=DeviceKey.generate())
        with pytest.raises(Unauthorized, match="another key than the token's" if other else "there is no proof of it"):
            async with connect(node.url, token, key=key):
                await trio.sleep_forever()


def test_a_proof_for_an_http_call_is_one_that_the_gateway_takes() -> None:
    """`core.dpop` verifies what `DeviceKey.proof` signs, for that request and token alone."""
    key, url = DeviceKey.generate(clock=lambda: BEGAN), "https://rt.example/v1/streams"
    proof = key.proof("POST", f"{url}?limit=3", "a token")
    found = verify_proof(proof, method="POST", url=url, token="a token", now_s=BEGAN)
    assert isinstance(found, Proof)
    assert found.jkt == key.thumbprint
    for method, at, token in (("GET", url, "a token"), ("POST", f"{url}/x", "a token"), ("POST", url, "another")):
        assert not isinstance(verify_proof(proof, method=method, url=at, token=token, now_s=BEGAN), Proof)


# -- refusals -------------------------------------------------------------------------------------------------------------


async def test_who_is_revoked_learns_it_and_does_not_come_back(autojump_clock: MockClock) -> None:
    """No other token is asked for."""
    given, token = provider(access)
    async with node_at(autojump_clock) as node:
        with pytest.raises(Revoked) as revoked:
            async with connect(node.url, token) as rb:
                await rb.ready()
                assert node.directory is not None
                assert node.node.revoking is not None
                made = await node.directory.revoke(
                    "demo", "principal", "user:amy", at_ms=int(wall() * 1000), until_ms=None, reason="lost", note=NOTE
                )
                node.node.revoking.made(made)
                await trio.sleep_forever()
    assert revoked.value.code == "revoked"
    assert len(given) == 1


async def test_a_connection_too_many_comes_in_when_there_is_room(autojump_clock: MockClock) -> None:
    """Told to come back, it does, and not sooner than it was told."""
    async with (
        node_at(autojump_clock, connections=1) as node,
        trio.open_nursery() as nursery,
        connect(node.url, access(9_000.0)) as first,
    ):
        await first.ready()
        nursery.start_soon(wait_in_line, node)
        await trio.sleep(60)


async def wait_in_line(node: TestNode) -> None:
    async with connect(node.url, access(9_000.0, principal="user:bob")) as second:
        waiting = await wait_for(second, Waiting)
        assert isinstance(waiting, Waiting)
        assert waiting.retry_in_s >= FULL_RETRY_S
        await second.ready()
        assert 60.0 <= trio.current_time() < 120.0
        assert 3 <= second.stats.dials <= 20


async def test_a_stream_too_many_is_followed_when_there_is_room(autojump_clock: MockClock) -> None:
    """Its reader waits, as for a lost connection; the others go on."""
    async with node_at(autojump_clock, streams=1) as node:
        await node.stream("chat:late")
        async with connect(node.url, access(9_000.0)) as rb:
            ops, late = rb.subscribe("chat:ops", last=5), rb.subscribe("chat:late", last=5)
            await rb.send("chat:ops", {"text": "hi"})
            assert (await ops.__anext__()).seq == 1
            with trio.move_on_after(20) as waited:
                await late.__anext__()
            assert waited.cancelled_caught
            node.node.gatekeeper.refit(Tenants())
            await rb.send("chat:late", {"text": "hi"})
            assert (await late.__anext__()).seq == 1


async def test_sends_past_a_quota_land_once_in_order_at_its_pace(autojump_clock: MockClock) -> None:
    """Fifty at once where two a second are let through: one connection, and few refusals for each that lands."""
    async with (
        node_at(autojump_clock, sends_per_s=2.0) as node,
        connect(node.url, access(9_000.0)) as rb,
        trio.open_nursery() as nursery,
    ):
        await rb.ready()
        for n in range(50):
            nursery.start_soon(functools.partial(rb.send, "chat:ops", {"n": n}, timeout_s=120))
            await trio.testing.wait_all_tasks_blocked()
        events = rb.subscribe("chat:ops", after=0)
        landed = [(await events.__anext__()).body for _ in range(50)]
        assert landed == [{"n": n} for n in range(50)]
        assert trio.current_time() < 40
        assert rb.stats.welcomes == 1
        assert rb.stats.retries < 4 * 50


async def test_a_burst_far_past_a_quota_costs_no_connection(autojump_clock: MockClock) -> None:
    """Six hundred at once where one in two seconds is let through: the node reads on slowly, and the client left it for deaf
    after thirty seconds, came back and sent them all again."""
    async with (
        node_at(autojump_clock, sends_per_s=0.5) as node,
        connect(node.url, access(9_000.0)) as rb,
        trio.open_nursery() as nursery,
    ):
        await rb.ready()
        for n in range(600):
            nursery.start_soon(functools.partial(rb.send, "chat:ops", {"n": n}, timeout_s=1_000))
        await trio.sleep(120)
        assert rb.stats.welcomes == 1
        assert rb.stats.retries <= 600
        page = await rb.history("chat:ops", limit=500)
        assert len(page.events) >= 40
        nursery.cancel_scope.cancel()
