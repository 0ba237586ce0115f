"""Revocations: one token, one session, one principal, one tenant; on every node, at once, and for good."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import trio

from core.directory import Note
from core.revocations import Revocations
from gateway.loader import Asked
from gateway.revoking import decode, encode
from store.memory import MemoryLog
from store.memory_bus import MemoryBroker
from store.memory_directory import MemoryDirectory
from tests.nodes import TestNode, bus_away, serving_cluster, serving_node, token, until
from tests.wire_client import Frame, WireClient, hello, wire_client

NOTE = Note("user:root", b"{}")


async def revoke(node: TestNode, scope: str, value: str, tenant: str = "demo") -> None:
    assert node.directory is not None
    assert node.node.revoking is not None
    revocation = await node.directory.revoke(
        tenant, scope, value, at_ms=int(time.time() * 1000), until_ms=None, reason="lost", note=NOTE
    )
    node.node.revoking.made(revocation)


async def ended(client: WireClient) -> Frame:
    assert (await client.closed())[0] == 4502
    return await client.next("bye")


@pytest.mark.parametrize(("scope", "value"), [("session", ""), ("principal", "user:amy"), ("tenant", "")])
async def test_who_is_revoked_is_ended_at_once_and_does_not_come_back(scope: str, value: str) -> None:
    """Neither by the resume token nor, but for a session, by the access token."""
    async with serving_node() as node:
        access = token()
        async with wire_client(node.url) as amy, hello(node.url, "user:bob", tenant="other") as other:
            welcome = await amy.ask("hello", token=access)
            await revoke(node, scope, value or (welcome["session"] if scope == "session" else ""))
            assert (await ended(amy))["code"] == "revoked"
            async with wire_client(node.url) as again:
                await again.say("resume", resume=welcome["resume"], streams={})
                assert (await ended(again))["retry_after"] is None
            async with wire_client(node.url) as anew:
                await anew.say("hello", token=access)
                if scope == "session":
                    assert (await anew.next("welcome"))["session"] != welcome["session"]
                else:
                    await ended(anew)
            assert (await other.ask("ping"))["op"] == "pong"


async def test_a_principal_comes_back_with_what_was_issued_later() -> None:
    """Revoking ends what was given until then; who gets a new token is welcome."""
    async with serving_node() as node:
        async with hello(node.url, "user:amy") as amy:
            await revoke(node, "principal", "user:amy")
            await ended(amy)
        known = node.node.gatekeeper.revocations
        assert known.refuses("demo", "user:amy", issued_at_s=time.time() + 2.0) is None


@pytest.mark.parametrize("with_bus", [True, False])
async def test_a_revocation_holds_on_every_node(with_bus: bool) -> None:
    """With a bus it is told; without one it is asked for."""
    broker = MemoryBroker()
    async with serving_cluster(3, broker=broker) as nodes:
        if not with_bus:
            await bus_away(broker, nodes)
        async with hello(nodes[1].url, "user:amy") as amy, hello(nodes[2].url, "user:bob") as bob:
            await revoke(nodes[0], "principal", "user:amy")
            await ended(amy)
            assert (await bob.ask("ping"))["op"] == "pong"
            told = [node.node.revoking.told for node in nodes[1:] if node.node.revoking is not None]
            assert told == ([1, 1] if with_bus else [0, 0])


async def test_a_node_that_starts_later_knows_them_all() -> None:
    """Before it serves anybody."""
    async with serving_node() as node:
        await revoke(node, "tenant", "")
        await node.restart()
        async with wire_client(node.url) as amy:
            await amy.say("hello", token=token())
            await ended(amy)


async def test_a_tenant_that_is_let_go_on_comes_back() -> None:
    """The kill switch has two positions."""
    async with serving_node() as node:
        await revoke(node, "tenant", "")
        assert node.directory is not None
        await node.directory.lift("demo", "tenant", "", at_ms=int(time.time() * 1000), note=NOTE)
        known = node.node.gatekeeper.revocations
        await until(lambda: known.refuses("demo", "user:amy", issued_at_s=0.0) is None)
        async with hello(node.url, "user:amy") as amy:
            assert (await amy.ask("ping"))["op"] == "pong"


async def test_a_refresh_with_a_revoked_token_ends_the_connection() -> None:
    """It is no way around."""
    async with serving_node() as node:
        stale = token("user:amy")
        async with hello(node.url, "user:amy") as amy:
            known = node.node.gatekeeper.revocations
            assert isinstance(known, Revocations)
            await revoke(node, "principal", "user:amy")
            await ended(amy)
        async with wire_client(node.url) as again:
            await again.say("hello", token=stale)
            await ended(again)


async def test_a_session_revoked_while_its_resume_waits_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume that was found good and now waits, for the door, the log or the bus, is ended like one that is open.

    The session was looked for on connections that had been welcomed only: whoever was on the way in stayed in.
    """
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            welcome = amy.seen[0]
        reading, read_on = trio.Event(), trio.Event()
        load = node.node.loader.load

        async def slow(asked: Sequence[Asked]) -> None:
            reading.set()
            await read_on.wait()
            await load(asked)

        monkeypatch.setattr(node.node.loader, "load", slow)
        async with wire_client(node.url) as again:
            await again.say("resume", resume=welcome["resume"], streams={"chat:ops": 0})
            await reading.wait()
            await revoke(node, "session", welcome["session"])
            read_on.set()
            await ended(again)


async def test_after_a_restore_revocations_are_learnt_anew() -> None:
    """Numbers begin again below those that a node has heard of; what was lost with them is not obeyed any more.

    A node asked for what is past its old number, and learnt of none until the new ones had caught up.
    """
    async with serving_node() as node:
        for jti in ("t1", "t2", "t3"):
            await revoke(node, "token", jti)
        await revoke(node, "principal", "user:zoe")
        revoking = node.node.revoking
        assert isinstance(node.log, MemoryLog)
        assert revoking is not None
        restored = MemoryDirectory(node.log)
        await restored.revoke("demo", "principal", "user:amy", at_ms=1, until_ms=None, reason="", note=NOTE)
        async with hello(node.url, "user:bob") as bob:
            node.node.follower.restored += 1
            revoking._directory = restored
            at_ms = int(time.time() * 1000)
            await restored.revoke("demo", "principal", "user:bob", at_ms=at_ms, until_ms=None, reason="", note=NOTE)
            await ended(bob)
        known = node.node.gatekeeper.revocations
        assert (revoking.number, len(known)) == (2, 2)
        assert known.known("demo", "principal", "user:zoe") is None


def test_what_nodes_tell_each_other_is_read_or_refused() -> None:
    """A round trip keeps everything; anything else is no revocation."""
    from core.directory import Revocation

    revocation = Revocation(7, "demo", "token", "t1", 5, None, "lost", "user:root", True)
    assert decode(encode(revocation)) == revocation
    for bad in (b"", b"{}", b"[1]", b"null", encode(revocation).replace(b"token", b"world"), b'["1"]'):
        assert decode(bad) is None
