"""Quotas: what a tenant may not use is refused with when to come back, and nobody else notices."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from types import MappingProxyType

import orjson
import pytest
import trio

from core.tenants import Quotas, Tenant, Tenants
from core.tokens import Identity
from gateway.service import WireError
from gateway.throttle import PATIENCE, PAUSE_S
from tests.nodes import serving_cluster, serving_node, token, until
from tests.wire_client import WireClient, hello, wire_client


def of(**quotas: float) -> Tenants:
    """The tenant demo has these quotas, others have none."""
    return Tenants(MappingProxyType({"demo": Tenant("demo", quotas=Quotas(**quotas))}))  # type: ignore[arg-type]


async def flood(client: WireClient, count: int, stream: str = "chat:ops") -> list[str]:
    """So many sends at once; what each was answered."""
    first = client._id + 1
    for _ in range(count):
        await client.say("send", stream=stream, key=str(uuid.uuid4()), type="message", body=0)
    answers = []
    for id in range(first, first + count):
        answer = await client.next(id=id)
        answers.append(answer.get("code", answer["op"]))
    return answers


async def test_sends_past_the_quota_are_refused_with_when_to_come_back() -> None:
    """What is let through is committed; the rest is told, and another tenant sends on."""
    async with serving_node(tenants=of(sends_per_s=0.01, burst_s=300.0)) as node:
        await node.stream("chat:ops")
        await node.stream("chat:ops", tenant="other")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:zoe", {"chat:ops": {}}, tenant="other") as zoe,
        ):
            assert await flood(amy, 10) == ["ok"] * 3 + ["rate_limited"] * 7
            refused = await amy.send("chat:ops", "one more")
            assert 0 < refused["retry_after"] <= 60
            assert await flood(zoe, 10) == ["ok"] * 10
            assert (await node.log.open_streams([("demo", "chat:ops", "user:amy")]))[0].head == 3  # type: ignore[union-attr]


async def test_a_principal_that_floods_leaves_its_tenants_others_alone() -> None:
    """Its own bucket is empty, not theirs."""
    async with serving_node(tenants=of(principal_sends_per_s=0.01, burst_s=200.0)) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy, hello(node.url, "user:bob") as bob:
            assert (await flood(amy, 8)).count("ok") == 2
            assert (await flood(bob, 2)).count("ok") == 2


async def test_messages_of_any_kind_are_bounded() -> None:
    """In number for each principal, in bytes for the tenant."""
    async with serving_node(tenants=of(principal_ops_per_s=0.01, burst_s=300.0)) as node, hello(node.url) as amy:
        answers = [(await amy.ask("ping")).get("code", "pong") for _ in range(5)]
        assert answers == ["pong"] * 3 + ["rate_limited"] * 2
    async with serving_node(tenants=of(bytes_per_s=0.001)) as node:
        frame = node.node.limits.frame_bytes_max
        async with hello(node.url) as amy:
            assert (await amy.ask("ping", x="x" * (frame - 100)))["op"] == "pong"
            assert (await amy.ask("ping", x="x" * 200))["code"] == "rate_limited"


async def test_connections_are_bounded_and_a_resume_takes_its_own_place() -> None:
    """One too many is told to come back; who comes back before its old connection was missed is let in."""
    async with serving_node(tenants=of(connections=2)) as node:
        async with hello(node.url, "user:amy") as amy, hello(node.url, "user:bob") as bob:
            async with wire_client(node.url) as cy:
                await cy.say("hello", token=token("user:cy"))
                assert (await cy.closed())[0] == 4004
                assert (await cy.next("bye"))["retry_after"] > 0
            async with hello(node.url, "user:zoe", tenant="other"), wire_client(node.url) as again:
                assert (await again.ask("resume", resume=amy.seen[0]["resume"], streams={}))["op"] == "welcome"
            assert (await bob.ask("ping"))["op"] == "pong"
        account = node.node.gatekeeper.accounts.account("demo", trio.current_time())
        await until(lambda: account.connections == 0)


async def test_whoever_says_hello_twice_is_counted_once() -> None:
    """A refused resume, then a hello on the same connection."""
    async with serving_node(tenants=of(connections=5)) as node, wire_client(node.url) as amy:
        async with hello(node.url, "user:amy") as first:
            used = first.seen[0]["resume"]
            async with wire_client(node.url) as second:
                await second.ask("resume", resume=used, streams={})
        assert (await amy.ask("resume", resume=used, streams={}))["code"] == "resume_rejected"
        assert (await amy.ask("hello", token=token()))["op"] == "welcome"
        account = node.node.gatekeeper.accounts.account("demo", trio.current_time())
        await until(lambda: account.connections == 1)


async def test_a_refused_resume_keeps_its_place_for_the_hello_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is counted already: a tenant at its bound does not lose its last place to itself.

    A resume that another node had used meanwhile was counted, refused, and then stood in its own way.
    """
    async with serving_cluster(1, tenants=of(connections=1)) as [node]:
        async with hello(node.url, "user:amy") as first:
            resume = first.seen[0]["resume"]
        await until(lambda: not node.node.shard.connections)

        async def used(session: str, generation: int) -> bool:
            return False

        monkeypatch.setattr(node.node.claims, "claim", used)
        async with wire_client(node.url) as amy:
            assert (await amy.ask("resume", resume=resume, streams={}))["code"] == "resume_rejected"
            assert (await amy.ask("hello", token=token()))["op"] == "welcome"
            async with wire_client(node.url) as bob:
                await bob.say("hello", token=token("user:bob"))
                assert (await bob.closed())[0] == 4004


async def test_openings_are_bounded() -> None:
    """Hellos and resumes share one bucket."""
    async with (
        serving_node(tenants=of(resumes_per_s=0.01, burst_s=200.0)) as node,
        hello(node.url, "user:amy"),
        hello(node.url, "user:bob"),
        wire_client(node.url) as cy,
    ):
        await cy.say("hello", token=token("user:cy"))
        assert (await cy.closed())[0] == 4004


async def test_streams_are_bounded_by_name() -> None:
    """The first are opened, the others refused by name; what is held already is open to all."""
    async with serving_node(tenants=of(streams=2)) as node:
        for n in range(4):
            await node.stream(f"chat:r{n}")
        async with hello(node.url, "user:amy", {f"chat:r{n}": {} for n in range(3)}) as amy:
            welcome = amy.seen[0]
            assert [("error" in welcome["streams"][f"chat:r{n}"]) for n in range(3)] == [False, False, True]
            assert welcome["streams"]["chat:r2"] == {"error": "rate_limited"}
            refused = await amy.ask("sub", stream="chat:r3")
            assert (refused["code"], refused["retry_after"] > 0) == ("rate_limited", True)
            assert (await amy.send("chat:r3", "neither"))["code"] == "rate_limited"
            async with hello(node.url, "user:bob", {"chat:r0": {}}) as bob:
                assert "head" in bob.seen[0]["streams"]["chat:r0"]


async def test_streams_are_bounded_for_many_who_ask_at_once() -> None:
    """What is on its way from the log is counted; those who ask for the same stream need room for one.

    Each of a crowd saw the same free places, and all of them were let in.
    """
    async with serving_node(tenants=of(streams=5)) as node:
        for n in range(20):
            await node.stream(f"chat:r{n}")
        account = node.node.gatekeeper.accounts.account("demo", trio.current_time())
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(hello(node.url, f"user:u{n}")) for n in range(24)]
            answers = {}

            async def follow(client: WireClient, n: int) -> None:
                answers[n] = await client.ask("sub", stream=f"chat:r{n % 12}")

            async with trio.open_nursery() as nursery:
                for n, client in enumerate(clients):
                    nursery.start_soon(follow, client, n)
            assert account.streams == 5
            followed = {answer["stream"] for answer in answers.values() if answer["op"] == "ok"}
            assert len(followed) == 5
            assert {answer["code"] for answer in answers.values() if answer["op"] == "error"} == {"rate_limited"}
    async with serving_node(tenants=of(streams=5)) as node, AsyncExitStack() as stack:
        for n in range(20):
            await node.stream(f"chat:r{n}")
        account = node.node.gatekeeper.accounts.account("demo", trio.current_time())
        comers = [await stack.enter_async_context(wire_client(node.url)) for _ in range(10)]
        welcomes = []

        async def come(client: WireClient, n: int) -> None:
            wanted: dict[str, object] = {f"chat:r{2 * n + k}": {} for k in range(2)}
            welcomes.append(await client.ask("hello", token=token(f"user:u{n}"), streams=wanted))

        async with trio.open_nursery() as nursery:
            for n, client in enumerate(comers):
                nursery.start_soon(come, client, n)
        assert account.streams == 5
        told = [told for welcome in welcomes for told in welcome["streams"].values()]
        assert sum("head" in each for each in told) == 5
        assert sum(each == {"error": "rate_limited"} for each in told) == 15
        assert not node.node.loader.coming("demo")


async def test_history_is_bounded_over_sockets_and_http_together() -> None:
    """One bucket for both."""
    async with serving_node(tenants=of(history_per_s=0.01, burst_s=200.0)) as node:
        await node.stream("chat:ops")
        who = Identity("demo", "user:amy", frozenset(), 1e12)
        async with hello(node.url, "user:amy") as amy:
            assert (await amy.ask("history", stream="chat:ops"))["op"] == "ok"
            await node.desk.read(who, "chat:ops", after=0, limit=10)
            assert (await amy.ask("history", stream="chat:ops"))["code"] == "rate_limited"
            with pytest.raises(WireError) as refused:
                await node.desk.read(who, "chat:ops", after=0, limit=10)
            assert refused.value.code == "rate_limited"


async def test_http_sends_use_the_same_quota() -> None:
    """A flood that changes its way in is still one."""
    async with serving_node(tenants=of(sends_per_s=0.01, burst_s=200.0)) as node:
        await node.stream("chat:ops")
        who = Identity("demo", "user:amy", frozenset(), 1e12)
        async with hello(node.url, "user:amy") as amy:
            assert (await amy.send("chat:ops", "one"))["op"] == "ok"
        await node.desk.send(who, "chat:ops", key=str(uuid.uuid4()), type="message", body=1, expect=None)
        with pytest.raises(WireError) as refused:
            await node.desk.send(who, "chat:ops", key=str(uuid.uuid4()), type="message", body=1, expect=None)
        assert refused.value.retry_after_s is not None


async def test_who_takes_no_notice_is_left_unread_for_a_while() -> None:
    """After so many refusals in a row its socket waits; when it is read again nothing was lost or put out of order."""
    async with serving_node(tenants=of(sends_per_s=0.001, burst_s=1_000.0)) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy, hello(node.url, "user:bob") as bob:
            many = 3 * PATIENCE
            frames = [
                {
                    "op": "send",
                    "id": 100 + n,
                    "stream": "chat:ops",
                    "key": str(uuid.uuid4()),
                    "type": "message",
                    "body": n,
                }
                for n in range(many)
            ]
            for frame in frames:
                await amy.raw(orjson.dumps(frame).decode())
            await until(lambda: node.node.throttle.pauses == 1)
            assert len(node.node.throttle) == 1
            assert (await bob.ask("ping"))["op"] == "pong"
            answers = [await amy.next(id=100 + n) for n in range(many)]
            assert [answer.get("code", "ok") for answer in answers] == ["ok"] + ["rate_limited"] * (many - 1)
            assert PAUSE_S <= 1.0, "this test waits for two pauses"


@pytest.mark.parametrize("quota", ["history_per_s", "principal_ops_per_s"])
async def test_who_comes_back_when_told_is_never_paused(quota: str) -> None:
    """Refusals count while they follow each other, whatever they refuse.

    Only a send that was taken ended the row: a reader of histories that obeyed was paused at every 16th refusal.
    """
    async with serving_node(tenants=of(**{quota: 1_000.0, "burst_s": 0.001})) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            [connection] = node.node.shard.connections.values()
            assert connection.meter is not None
            bucket = connection.meter.ops or connection.meter.account.history
            assert bucket is not None
            for _ in range(PATIENCE + 2):
                bucket.level = 1.0
                assert (await amy.ask("history", stream="chat:ops"))["op"] == "ok"
                bucket.level = bucket.rate = 1e-9
                assert (await amy.ask("history", stream="chat:ops"))["code"] == "rate_limited"
            assert node.node.throttle.pauses == 0


async def test_a_paused_client_that_goes_away_is_forgotten() -> None:
    """Nothing is left of it but its place in the line."""
    async with serving_node(tenants=of(principal_ops_per_s=0.001, burst_s=1_000.0)) as node:
        async with hello(node.url, "user:amy") as amy:
            for _ in range(PATIENCE + 2):
                await amy.say("ping")
            await until(lambda: len(node.node.throttle) == 1)
        await until(lambda: not node.node.shard.connections)
        await until(lambda: len(node.node.throttle) == 0)
        async with hello(node.url, "user:bob") as bob:
            assert (await bob.ask("ping"))["op"] == "pong"


async def test_quotas_change_for_who_is_here_already() -> None:
    """Without a restart, without a reconnect."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            assert (await flood(amy, 5)).count("ok") == 5
            assert node.node.gatekeeper.refit(of(sends_per_s=0.01, burst_s=100.0)) == ["demo"]
            assert await flood(amy, 3) == ["ok", "rate_limited", "rate_limited"]
            node.node.gatekeeper.refit(Tenants())
            assert (await flood(amy, 5)).count("ok") == 5


async def test_of_two_nodes_each_gives_half() -> None:
    """The quota is the tenant's in the whole cell."""
    async with serving_cluster(2, tenants=of(connections=4, sends_per_s=10.0)) as nodes:
        for node in nodes:
            node.node.gatekeeper.tidy()
            account = node.node.gatekeeper.accounts.account("demo", trio.current_time())
            assert account.connections_max == 2
            assert account.sends is not None
            assert account.sends.rate == 5.0


async def test_only_named_tenants_are_served_where_it_says_so() -> None:
    """Also those who came with a good token before the file changed."""
    async with serving_node() as node:
        async with hello(node.url, "user:amy") as amy:
            welcome = amy.seen[0]
        node.node.gatekeeper.refit(Tenants(only_named=True))
        async with wire_client(node.url) as again:
            await again.say("resume", resume=welcome["resume"], streams={})
            assert (await again.closed())[0] == 4502


async def test_each_tenants_share_is_told_and_many_are_told_together() -> None:
    """By name for those with most connections; a scrape does not grow with the number of tenants."""
    async with serving_node() as node, hello(node.url, "user:amy"), hello(node.url, "user:zoe", tenant="zen"):
        text = node.node.measures.registry.text().decode()
        assert 'readback_tenant_connections{tenant="demo"} 1' in text
        assert 'readback_tenant_connections{tenant="zen"} 1' in text
        for n in range(300):
            node.node.gatekeeper.accounts.account(f"t{n}", trio.current_time())
        lines = [
            line for line in node.node.measures.registry.text().decode().splitlines() if "_tenant_connections{" in line
        ]
        assert len(lines) == 101
        assert any("(others)" in line for line in lines)
