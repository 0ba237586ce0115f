"""A tenant's audit stream: followed like any other, by those who may; what happened is in it, and nothing secret."""

from __future__ import annotations

import time

import orjson
import pytest
import trio

from core.directory import Note
from core.limits import Limits
from core.model import AUDIT_STREAM
from core.ports import Unavailable
from core.tenants import Quotas, Tenants
from core.tokens import Identity
from tests.nodes import TestNode, memory_log, serving_node, token, until
from tests.wire_client import Frame, WireClient, hello, wire_client

BOSS = Identity("demo", "user:boss", frozenset({"admin"}), 1e12)


async def told(auditor: WireClient, type: str, **facts: object) -> Frame:
    """The next entry of this type with these facts, whether it stands alone or among many."""
    with trio.fail_after(10):
        while True:
            event = await auditor.next("event", stream=AUDIT_STREAM, type=type)
            for entry in event["body"].get("many", [event["body"]]):
                if facts.items() <= entry.items():
                    return entry  # type: ignore[no-any-return]


async def made(node: TestNode) -> None:
    await node.desk.create_stream(BOSS, "chat:ops", open=False, members=[])


async def test_an_auditor_sees_who_comes_who_goes_and_who_is_refused() -> None:
    """Admission with what it was, the way out, a forbidden op, a revoked one that tries again."""
    async with serving_node(audit=True) as node:
        await made(node)
        stale = token("user:amy")
        async with hello(node.url, "user:eve", {AUDIT_STREAM: {"after": 0}}, roles=["auditor"]) as eve:
            await told(eve, "stream.created", stream="chat:ops", by="user:boss")
            async with hello(node.url, "user:amy") as amy:
                admitted = await told(eve, "admitted", principal="user:amy")
                assert (admitted["resumed"], admitted["session"]) == (False, amy.seen[0]["session"])
                assert admitted["address"] == "127.0.0.1"
                await amy.ask("sub", stream="chat:ops")
                denied = await told(eve, "denied", principal="user:amy")
                assert "chat:ops" in denied["what"]
            await told(eve, "left", principal="user:amy")
            assert node.directory is not None
            note = Note("user:boss", b"{}")
            at_ms = int(time.time() * 1000)
            await node.directory.revoke(
                "demo", "principal", "user:amy", at_ms=at_ms, until_ms=None, reason="", note=note
            )
            await until(lambda: len(node.node.gatekeeper.revocations) == 1)
            async with wire_client(node.url) as again:
                await again.say("hello", token=stale)
                assert (await again.closed())[0] == 4502
            assert (await told(eve, "refused", principal="user:amy"))["code"] == "revoked"


async def test_what_is_administered_is_written_down_first() -> None:
    """And where it cannot be written down it is not done."""
    log = memory_log()
    async with serving_node(log, audit=True) as node:
        await made(node)
        await node.desk.put_member(BOSS, "chat:ops", "user:amy", "member")
        await node.desk.remove_member(BOSS, "chat:ops", "user:amy")
        await node.desk.put_member(BOSS, "chat:ops", "user:bob", "member")
        log.fail_next("unavailable", "append")
        with pytest.raises(Unavailable):
            await node.desk.remove_member(BOSS, "chat:ops", "user:bob")
        assert [member.principal for member in await node.desk.members(BOSS, "chat:ops")] == ["user:bob"]
        facts = (await log.open_streams([("demo", AUDIT_STREAM, "user:boss")]))[0]
        assert facts is not None
        events = await log.read("demo", facts.sid, 0, 100)
        assert [event.type for event in events] == [
            "stream.created",
            "membership.put",
            "membership.removed",
            "membership.put",
        ]
        assert all(event.by == "service:readback" for event in events)


@pytest.mark.parametrize("roles", [[], ["service"]])
async def test_nobody_else_reads_it(roles: list[str]) -> None:
    """Neither members nor services; over sockets or HTTP."""
    async with serving_node(audit=True) as node:
        await made(node)
        async with hello(node.url, "user:amy", {AUDIT_STREAM: {}}, roles=roles) as amy:
            assert amy.seen[0]["streams"][AUDIT_STREAM] == {"error": "forbidden"}
            for op in ("sub", "history", "presence"):
                assert (await amy.ask(op, stream=AUDIT_STREAM))["code"] == "forbidden"


@pytest.mark.parametrize("roles", [["admin"], ["auditor"], ["service"], ["admin", "service"]])
async def test_nobody_writes_it(roles: list[str]) -> None:
    """No send, no mark that would be told, no members, no trimming, no second stream of its kind."""
    who = Identity("demo", "user:boss", frozenset(roles), 1e12)
    async with serving_node(audit=True) as node:
        await made(node)
        async with hello(node.url, "user:boss", roles=roles) as boss:
            assert (await boss.send(AUDIT_STREAM, "I was never here"))["code"] == "forbidden"
            assert (await boss.ask("signal", stream=AUDIT_STREAM, kind="typing", value=True))["code"] == "forbidden"
        desk = node.desk
        for attempt in (
            lambda: desk.put_member(who, AUDIT_STREAM, "user:boss", "owner"),
            lambda: desk.trim(who, AUDIT_STREAM, 100),
            lambda: desk.create_stream(who, "audit:mine", open=True, members=[]),
            lambda: desk.send(
                who, AUDIT_STREAM, key="5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e55", type="x", body=1, expect=None
            ),
        ):
            with pytest.raises(Exception, match="forbidden"):
                await attempt()


async def test_a_drain_leaves_nothing_unwritten() -> None:
    """Who was let in a moment ago is in the stream when the node is gone."""
    log = memory_log()
    async with serving_node(log, Limits(audit_gather_s=3_600.0), audit=True) as node:
        async with hello(node.url, "user:amy"):
            await node.node.drain(0.2)
        facts = (await log.open_streams([("demo", AUDIT_STREAM, "user:boss")]))[0]
        assert facts is not None
        types = [event.type for event in await log.read("demo", facts.sid, 0, 100)]
        assert sorted(types) == ["admitted", "left"]


async def test_no_token_is_in_it() -> None:
    """Neither an access token nor a resume token, whole or in part."""
    log = memory_log()
    async with serving_node(
        log, audit=True, tenants=Tenants(quotas=Quotas(resumes_per_s=0.001, burst_s=3_000.0))
    ) as node:
        access = token("user:amy")
        async with wire_client(node.url) as amy:
            welcome = await amy.ask("hello", token=access)
            await amy.ask("sub", stream="chat:" + access.split(".")[1][:60])
        async with wire_client(node.url) as again:
            assert (await again.ask("resume", resume=welcome["resume"], streams={}))["op"] == "welcome"
        async with hello(node.url, "user:bob"), wire_client(node.url) as cy:
            await cy.say("hello", token=token("user:cy"))
            await cy.closed()
        assert node.node.audit is not None
        await node.node.audit.flush(trio.current_time() + 5.0)
        facts = (await log.open_streams([("demo", AUDIT_STREAM, "user:boss")]))[0]
        assert facts is not None
        events = await log.read("demo", facts.sid, 0, 100)
        text = orjson.dumps([event.body.decode() for event in events if event.body is not None]).decode()
        assert "rate_limited" in text
        for secret in (access, welcome["resume"]):
            assert not any(secret[at : at + 24] in text for at in range(len(secret) - 24))
