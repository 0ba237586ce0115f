"""gateway.drain: everybody has a slot, who stays is sent away, what was taken is answered, all inside the window."""

from __future__ import annotations

import logging
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from core.limits import Limits
from gateway.drain import Drain, Drained, _close_listeners, slots
from tests.nodes import TestNode, memory_log, serving_node, token
from tests.raw_client import UPGRADE, RawClient

KEY = "0b5e7c1e-4f57-4d8a-9a53-{:012x}"


def test_slots_are_even_and_take_no_longer_than_needed() -> None:
    """Few clients go at the least rate; many take four fifths of the window; none is no division by nothing."""
    assert slots(0, 10.0, 20.0) == []
    assert slots(1, 10.0, 20.0) == [0.0]
    assert slots(5, 10.0, 20.0) == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert slots(160, 10.0, 20.0)[-1] == pytest.approx(8.0 - 0.05)
    many = slots(5_000, 10.0, 20.0)
    steps = {round(b - a, 9) for a, b in pairwise(many)}
    assert steps == {0.0016}
    assert many[-1] < 8.0


@asynccontextmanager
async def clients_of(node: TestNode, count: int, silent: int = 0) -> AsyncIterator[list[RawClient]]:
    """So many members of a room, and some connections that have said nothing yet."""
    await node.stream("chat:ops")
    clients = [RawClient(node.node) for _ in range(count + silent)]
    try:
        for n, client in enumerate(clients[:count]):
            await client.hello(f"user:u{n}", streams={"chat:ops": {}})
        yield clients
    finally:
        await close(*clients)


async def message(client: RawClient, op: str) -> dict[str, Any]:
    while True:
        got = await client.message()
        if got["op"] == op:
            return got


async def close(*clients: RawClient) -> None:
    for client in clients:
        await client.stream.aclose()


async def test_everybody_has_a_slot_of_its_own(autojump_clock: MockClock) -> None:
    """Evenly spread, in no order of connecting, each with a fresh token of its own session."""
    async with serving_node() as node, clients_of(node, 40) as clients, trio.open_nursery() as nursery:
        nursery.start_soon(Drain(node.node, 10.0, close_listener=False, rng=random.Random(7)).run)
        told = [await message(client, "drain") for client in clients]
        given = [frame["after_ms"] for frame in told]
        assert sorted(given) == [50 * n for n in range(40)]
        assert given != sorted(given)
        assert len({frame["resume"] for frame in told}) == 40
        for client, frame in zip(clients, told, strict=True):
            assert not isinstance(node.node.check_resume(frame["resume"]), Exception)
            await close(client)


async def test_who_obeys_ends_the_drain_early(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Everybody left at its slot: the node is done when the last one has, and says what happened."""
    caplog.set_level(logging.INFO, "readback.drain")
    async with serving_node() as node, clients_of(node, 20) as clients:
        drained: list[Drained] = []

        async def obey(client: RawClient) -> None:
            await trio.sleep((await message(client, "drain"))["after_ms"] / 1000)
            await close(client)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, drained, node)
            for client in clients:
                nursery.start_soon(obey, client)
        (counts,) = drained
        assert (counts.told, counts.left, counts.ended, counts.unanswered) == (20, 20, 0, 0)
        assert 0.95 <= counts.seconds <= 1.1  # by the mock clock: 20 clients at 20 a second
        assert "drained: 20 clients told, 20 left by themselves, 0 sent away" in caplog.text
        assert b"readback_drain_left 20" in node.desk.metrics_text()


async def _keep(drained: list[Drained], node: TestNode, **options: Any) -> None:
    drained.append(await node.node.drain(**options))


async def test_who_stays_is_sent_away_after_its_slot(autojump_clock: MockClock) -> None:
    """One after the other, a second after its slot, with a time to come back that differs."""
    async with serving_node() as node, clients_of(node, 40) as clients:
        began_s = trio.current_time()
        drained: list[Drained] = []
        stayed: list[float] = []
        retries: list[float] = []

        async def stay(client: RawClient) -> None:
            after_s = (await message(client, "drain"))["after_ms"] / 1000
            bye = await message(client, "bye")
            stayed.append(trio.current_time() - began_s - after_s)
            assert bye["code"] == "draining"
            retries.append(bye["retry_after"])
            assert await client.close_code() == 4001
            await close(client)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, drained, node)
            for client in clients:
                nursery.start_soon(stay, client)
        assert (drained[0].told, drained[0].left, drained[0].ended) == (40, 0, 40)
        assert 1.0 <= min(stayed) <= max(stayed) <= 1.1  # by the mock clock
        assert len(set(retries)) > 20
        assert all(0 <= retry <= 1 for retry in retries)


async def test_it_ends_inside_the_window(autojump_clock: MockClock) -> None:
    """Enough clients for the whole window, none of which obeys or even reads."""
    limits = replace(Limits(), drain_per_second_min=1.0)
    async with serving_node(limits=limits) as node, clients_of(node, 30):
        counts = await node.node.drain(10.0)
        assert (counts.told, counts.ended) == (30, 30)
        assert 8.0 <= counts.seconds <= 10.0  # by the mock clock


async def test_sends_in_flight_are_answered_before_the_bye(autojump_clock: MockClock) -> None:
    """The commit takes longer than the slot and its grace: the answer first, then the last words."""
    async with serving_node() as node, clients_of(node, 1) as (client,):
        committed = trio.Event()
        node.log._pause = committed.wait  # type: ignore[attr-defined]
        drained: list[Drained] = []
        async with trio.open_nursery() as nursery:
            await client.say("send", id=9, stream="chat:ops", key=KEY.format(1), type="message", body=1)
            await wait_all_tasks_blocked(0.01)
            nursery.start_soon(_keep, drained, node)
            await trio.sleep(4)
            assert not node.node.shard.connections[client.connection.fd].closed
            committed.set()
            seen = [await client.message() for _ in range(4)]
            assert [frame["op"] for frame in seen] == ["drain", "event", "ok", "bye"]
        assert (drained[0].sends, drained[0].unanswered) == (1, 0)


async def test_sends_go_on_until_the_slot(autojump_clock: MockClock) -> None:
    """A client that was told to leave later still works until then."""
    async with serving_node() as node, clients_of(node, 20) as clients:
        drained: list[Drained] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, drained, node)
            for n, client in enumerate(clients):
                await message(client, "drain")
                await client.say("send", id=9, stream="chat:ops", key=KEY.format(n), type="message", body=n)
                assert (await message(client, "ok"))["seq"] == n + 1
            await close(*clients)
        assert (drained[0].sends, drained[0].left) == (20, 20)


async def test_a_log_that_is_away_does_not_hold_it(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The window ends it; what nobody can answer is counted, and so are the markers that stay unstored."""
    async with serving_node() as node, clients_of(node, 1) as (client,):
        await client.say("mark", id=8, stream="chat:ops", delivered=0)
        node.log._pause = trio.sleep_forever  # type: ignore[attr-defined]
        await client.say("send", id=9, stream="chat:ops", key=KEY.format(1), type="message", body=1)
        await wait_all_tasks_blocked(0.01)
        counts = await node.node.drain(10.0)
        assert counts.seconds <= 10.1  # by the mock clock
        assert counts.unanswered == 1
        assert "1 sends without an answer" in caplog.text


async def test_markers_are_stored_first(autojump_clock: MockClock) -> None:
    """What was raised a moment ago is in the log when the node has gone; what cannot be is said."""
    async with serving_node(limits=replace(Limits(), marker_flush_s=60.0)) as node, clients_of(node, 2) as clients:
        await clients[0].say("send", id=9, stream="chat:ops", key=KEY.format(1), type="message", body=1)
        await message(clients[0], "ok")
        for client in clients:
            await client.say("mark", id=8, stream="chat:ops", delivered=1)
            await message(client, "ok")
        counts = await node.node.drain(1.0)
        assert (counts.markers, len(node.node.hub.signals.unsaved)) == (2, 0)


async def test_markers_that_cannot_be_stored_are_said(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log answers sends but not this: a line in the log, and the end all the same."""
    log = memory_log()
    async with serving_node(log, replace(Limits(), marker_flush_s=60.0)) as node, clients_of(node, 1) as (client,):
        await client.say("send", id=9, stream="chat:ops", key=KEY.format(1), type="message", body=1)
        await message(client, "ok")
        await client.say("mark", id=8, stream="chat:ops", delivered=1)
        await message(client, "ok")
        log.fail_next("unavailable", "save_marks")
        counts = await node.node.drain(1.0)
        assert counts.markers == 0
        assert "1 markers could not be stored" in caplog.text


async def test_newcomers_are_refused_with_times_that_differ(autojump_clock: MockClock) -> None:
    """503 before the upgrade, read to its end although their request came unread; Retry-After is not the same for all."""
    async with serving_node() as node, clients_of(node, 40) as clients:
        drained: list[Drained] = []
        waits = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, drained, node)
            await message(clients[0], "drain")
            for _ in range(30):
                ours, theirs = socket.socketpair()
                with ours:
                    ours.sendall(UPGRADE)
                    assert node.node.shard.add(theirs) is None
                    answer = b""
                    while chunk := ours.recv(4_096):
                        answer += chunk
                assert answer.startswith(b"HTTP/1.1 503")
                found = re.search(rb"Retry-After: (\d+)", answer)
                assert found is not None
                waits.add(int(found[1]))
            await close(*clients)
        assert waits == {2, 3}
        assert drained[0].refused == 30


async def test_a_hello_to_a_leaving_node_is_refused(autojump_clock: MockClock) -> None:
    """Shaken hands before the drain, said hello after: sent away with a time, as is who stood in line at the door."""
    limits = replace(Limits(), opening_work_max=1)
    async with serving_node(limits=limits) as node, clients_of(node, 5, silent=3) as clients:
        *members, late, held, waits = clients
        await node.stream("chat:cold")
        node.log._pause = (asked := trio.Event()).wait  # type: ignore[attr-defined]
        for client in (late, held, waits):
            await client.upgrade()
        for client in (held, waits):
            await client.say("hello", id=1, token=token(), streams={"chat:cold": {}})
            await wait_all_tasks_blocked(0.01)
        assert node.node.door._admission.waiting == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.node.drain)
            await message(members[0], "drain")
            await late.say("hello", id=1, token=token())
            for client in (waits, late):
                bye = await message(client, "bye")
                assert bye["code"] == "draining"
                assert bye["retry_after"] > 0
            asked.set()
            assert (await message(held, "bye"))["code"] == "draining"  # no welcome to a node that is going away
            await close(*clients)


async def test_a_shared_port_is_left_to_the_others() -> None:
    """Who waits in the accept queue is refused with a time; after that nobody is let into it any more."""
    async with serving_node() as node:
        waiting = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(3)]
        drain = Drain(node.node, 1.0, close_listener=True)
        node.node.shard.refusing_retry_after_s = 1.0
        _close_listeners(node.node.shard)  # before the shard has had a turn to accept them
        for sock in waiting:
            with sock:
                sock.settimeout(5)
                assert sock.recv(4_096).startswith(b"HTTP/1.1 503")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", node.port), timeout=5).close()
        assert node.node.shard.counts.refused == 3
        assert (await drain.run()).told == 0
