"""The Python client against the real node: what a program that uses both may count on, over cuts and restarts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from core.tokens import Identity
from readback_client import (
    Conflict,
    Cursors,
    Forbidden,
    Limits,
    Mark,
    MemoryCursorStore,
    NotFound,
    Presence,
    Removed,
    StreamReset,
    Subscription,
    Typing,
    connect,
)
from store.postgres import open_postgres_log
from tests.nodes import TestNode, serving_node, token
from tests.servers import Database, database, postgres_server

__all__ = ["database", "postgres_server"]  # fixtures

FAST = Limits(backoff_base_s=0.05, backoff_cap_s=0.2)
"""Real sockets and a real node have no clock to move, so waits are short ones."""


async def take(events: Subscription, count: int) -> list[int]:
    with trio.fail_after(20):  # a real socket has no mock clock: a hang must fail, not hang the suite
        return [(await events.__anext__()).seq for _ in range(count)]


async def texts(events: Subscription, count: int) -> list[str]:
    with trio.fail_after(20):
        return [(await events.__anext__()).text for _ in range(count)]


async def test_two_clients_chat() -> None:
    """Each sees both sides' messages in one order, and who types, is here, and has read."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with connect(node.url, token("user:amy")) as amy, connect(node.url, token("user:bob")) as bob:
            seen_by_amy, seen_by_bob = amy.subscribe("chat:ops", last=20), bob.subscribe("chat:ops", last=20)
            signals = amy.signals("chat:ops")
            for n in range(5):
                assert (await amy.send("chat:ops", {"text": f"amy {n}"})).seq == 2 * n + 1
                assert (await bob.send("chat:ops", {"text": f"bob {n}"})).seq == 2 * n + 2
            assert await texts(seen_by_amy, 10) == await texts(seen_by_bob, 10)
            bob.typing("chat:ops")
            bob.mark("chat:ops", delivered=10, read=9)
            found: set[type] = set()
            async for signal in signals:
                if signal.by == "user:bob":
                    found.add(type(signal))
                    if isinstance(signal, Mark):
                        assert (signal.delivered, signal.read) == (10, 9)
                if {Typing, Mark, Presence} <= found:
                    break
            roster = await amy.presence("chat:ops")
            assert {here.by for here in roster.online} == {"user:amy", "user:bob"}
            page = await bob.history("chat:ops", before=5, limit=2)
            assert [event.seq for event in page.events] == [3, 4]


async def test_errors_of_the_real_node_are_the_clients_classes() -> None:
    """Not a member, no such stream, a head that moved on."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        await node.stream("chat:closed", open=False)
        async with connect(node.url, token()) as rb:
            with pytest.raises(Forbidden):
                await rb.send("chat:closed", {"text": "let me in"})
            with pytest.raises(Forbidden):
                await take(rb.subscribe("chat:closed", after=0), 1)
            with pytest.raises(NotFound):
                await take(rb.subscribe("chat:none", after=0), 1)
            await rb.send("chat:ops", {"text": "one"}, expect=0)
            with pytest.raises(Conflict) as conflict:
                await rb.send("chat:ops", {"text": "two"}, expect=0)
            assert conflict.value.head == 1


async def restarts(node: TestNode, times: int, rng: random.Random) -> None:
    for _ in range(times):
        await trio.sleep(rng.uniform(0.05, 0.3))
        await node.restart()


async def exchange(node: TestNode, sends: int, disturb: Callable[[], object]) -> None:
    """Two clients send at once while ``disturb`` goes on; every send lands once and both see one order."""
    seqs: list[int] = []
    orders: dict[str, list[tuple[int, str]]] = {"user:amy": [], "user:bob": []}
    async with (
        connect(node.url, token("user:amy"), limits=FAST, rng=random.Random(1)) as amy,
        connect(node.url, token("user:bob"), limits=FAST, rng=random.Random(2)) as bob,
        trio.open_nursery() as nursery,
    ):

        async def send(who: str, n: int) -> None:
            await trio.sleep(n / sends)
            sent = await (amy if who == "user:amy" else bob).send("chat:ops", {"text": f"{who} {n}"})
            seqs.append(sent.seq)

        async def follow(who: str) -> None:
            async for event in (amy if who == "user:amy" else bob).subscribe("chat:ops", after=0):
                orders[who].append((event.seq, event.text))
                if event.seq == 2 * sends:
                    return

        nursery.start_soon(disturb)
        for who in orders:
            nursery.start_soon(follow, who)
            for n in range(sends):
                nursery.start_soon(send, who, n)
    assert sorted(seqs) == list(range(1, 2 * sends + 1))
    assert orders["user:amy"] == orders["user:bob"]
    assert [seq for seq, _ in orders["user:amy"]] == list(range(1, 2 * sends + 1))
    assert len({text for _, text in orders["user:amy"]}) == 2 * sends


async def test_sends_and_readers_survive_restarts_of_the_node() -> None:
    """Six abrupt restarts under 200 sends in flight: each lands once, both readers see all, in one order."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        await exchange(node, 100, lambda: restarts(node, 6, random.Random(4)))


@asynccontextmanager
async def postgres_node(database: Database) -> AsyncIterator[TestNode]:
    async with open_postgres_log(database.url) as log, serving_node(log) as node:
        yield node


@pytest.mark.slow
async def test_the_same_holds_on_postgres(database: Database) -> None:
    """The whole path: client, node, Postgres; three restarts of the node."""
    async with postgres_node(database) as node:
        await node.stream("chat:ops")
        await exchange(node, 60, lambda: restarts(node, 3, random.Random(5)))


async def test_a_resume_over_a_restart_needs_no_new_hello() -> None:
    """A node that never saw the session takes its token: cursors come from the client."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with connect(node.url, token(), limits=FAST) as rb:
            events = rb.subscribe("chat:ops", after=0)
            await rb.send("chat:ops", {"text": "before"})
            assert await texts(events, 1) == ["before"]
            await node.restart()
            await rb.send("chat:ops", {"text": "after"})
            assert await texts(events, 1) == ["after"]
            assert (rb.stats.resumes, rb.stats.resumes_rejected) == (1, 0)


async def test_a_stored_cursor_continues_in_another_run() -> None:
    """What the first run was done with is not repeated; what happened between is not missed."""
    store = MemoryCursorStore()
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with connect(node.url, token(), store=store) as rb:
            for n in range(4):
                await rb.send("chat:ops", {"text": str(n)})
            events = rb.subscribe("chat:ops", after=0)
            assert await take(events, 2) == [1, 2]
            events.settle()
        async with connect(node.url, token(), store=store) as rb:
            assert await take(rb.subscribe("chat:ops"), 2) == [3, 4]
        store.cursors = Cursors("another-epoch", {"chat:ops": 2})
        async with connect(node.url, token(), store=store) as rb:
            with pytest.raises(StreamReset, match="epoch"):
                await take(rb.subscribe("chat:ops"), 1)


async def test_a_cursor_ahead_of_the_log_is_reset() -> None:
    """Past head is never guessed at."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with connect(node.url, token()) as rb:
            await rb.send("chat:ops", {"text": "one"})
            with pytest.raises(StreamReset) as reset:
                await take(rb.subscribe("chat:ops", after=99), 1)
            assert (reset.value.first, reset.value.head) == (1, 1)


async def test_a_slow_reader_loses_nothing_on_a_real_node() -> None:
    """A buffer of eight and a room that runs ahead by hundreds: parked, taken up again, whole."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with connect(node.url, token(), limits=Limits(buffer_events_max=8)) as rb:
            events = rb.subscribe("chat:ops", after=0)
            async with trio.open_nursery() as nursery:
                for n in range(300):
                    nursery.start_soon(rb.send, "chat:ops", {"n": n})
            assert await take(events, 300) == list(range(1, 301))
            assert rb.stats.parked > 0
            assert rb.stats.gaps == 0


async def test_a_removed_member_is_told_and_the_rest_goes_on() -> None:
    """The reader ends with `Removed` after the removal's own event, or at once; nothing later is shown."""
    async with serving_node() as node:
        await node.stream("chat:closed", open=False, members={"user:amy": "member", "user:bob": "owner"})
        await node.stream("chat:ops")
        admin = Identity("demo", "service:test", frozenset({"admin"}), 2e9)
        async with connect(node.url, token("user:amy")) as amy, connect(node.url, token("user:bob")) as bob:
            closed, ops = amy.subscribe("chat:closed", after=0), amy.subscribe("chat:ops", after=0)
            await bob.send("chat:closed", {"text": "last words"})
            assert await texts(closed, 1) == ["last words"]
            removal = await node.desk.remove_member(admin, "chat:closed", "user:amy")
            await bob.send("chat:closed", {"text": "she is gone"})
            later: list[int] = []

            async def read_on() -> None:
                async for event in closed:
                    later.append(event.seq)

            with pytest.raises(Removed), trio.fail_after(20):
                await read_on()
            assert all(seq <= removal.seq for seq in later)
            await bob.send("chat:ops", {"text": "still here"})
            assert await texts(ops, 1) == ["still here"]
