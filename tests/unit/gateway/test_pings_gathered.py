"""gateway.pings: how fixes gather for the directory, what is remembered of keys, and what becomes of who has gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from core.directory import Device, Ping
from core.ports import Unavailable
from gateway import pings as module
from tests.devices import http_of, onboarded, verdicts
from tests.nodes import TestNode, serving_node, until


class Slow:
    """A directory whose calls end when they are told to."""

    def __init__(self, node: TestNode) -> None:
        self.calls: list[list[Any]] = []
        self.go = trio.Semaphore(0)
        self.fail = False
        node.node.directory = self  # type: ignore[assignment]

    async def take_pings(self, pings: Sequence[Any]) -> list[Ping]:
        self.calls.append(list(pings))
        await self.go.acquire()
        if self.fail:
            raise Unavailable("gone")
        return [Ping.ACCEPTED] * len(pings)


def fixes(start: int, count: int) -> list[tuple[str, str, int]]:
    return [("demo", "device:x", start + number) for number in range(count)]


async def test_what_comes_while_a_call_is_under_way_is_the_next_call() -> None:
    """One call at a time, nothing waits for more than the one before it, and each gets its own verdicts."""
    async with serving_node() as node, trio.open_nursery() as nursery:
        slow, pings, got = Slow(node), node.node.ops.pings, []

        async def take(start: int, count: int) -> None:
            got.append((start, len(await pings._take(fixes(start, count)))))

        nursery.start_soon(take, 1, 3)
        await until(lambda: slow.calls)
        for start in (10, 20):
            nursery.start_soon(take, start, 2)
        await until(lambda: pings._gathering is not None and len(pings._gathering.pings) == 4)
        assert [len(call) for call in slow.calls] == [3]
        slow.go.release()
        await until(lambda: len(slow.calls) == 2)
        slow.go.release()
        await until(lambda: len(got) == 3)
        assert sorted(got) == [(1, 3), (10, 2), (20, 2)]
        assert [len(call) for call in slow.calls] == [3, 4]
        assert await pings._take([]) == []


async def test_many_do_not_wait_for_more_and_a_call_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full batch goes at once; what is beyond a call's bound goes with the one after it."""
    monkeypatch.setattr(module, "CALL_MAX", 1_500)
    async with serving_node() as node, trio.open_nursery() as nursery:
        slow, pings = Slow(node), node.node.ops.pings
        object.__setattr__(node.node.limits, "pings_gather_s", 1e6)
        for start in (1, 1_000, 2_000, 3_000):
            nursery.start_soon(pings._take, fixes(start, 500))
        await until(lambda: slow.calls)
        nursery.start_soon(pings._take, fixes(4_000, 500))
        slow.go.release()
        await until(lambda: len(slow.calls) == 2)
        slow.go.release()
        assert [len(call) for call in slow.calls] == [1_500, 1_000]


async def test_a_tenant_that_floods_leaves_room_for_others() -> None:
    """The last quarter of what may be under way is for tenants that have less than that.

    Forty connections of one tenant took all of it, and everybody else's positions were refused.
    """
    async with serving_node() as node:
        pings = node.node.ops.pings
        object.__setattr__(node.node.limits, "pings_waiting_max", 100)
        pings.waiting, pings._waiting = 75, {"acme": 75}
        assert not pings._has_room("acme", 1)
        assert pings._has_room("zen", 25)
        assert not pings._has_room("zen", 26)
        pings.waiting, pings._waiting = 85, {"acme": 75, "zen": 10}
        assert pings._has_room("zen", 15)
        assert not pings._has_room("third", 16), "full is full"
        pings._over("zen", 10)
        pings._over("acme", 35)
        assert (pings.waiting, pings._waiting) == (40, {"acme": 40})
        assert pings._has_room("acme", 35)


async def test_a_failure_is_told_to_all_who_waited_for_it() -> None:
    """And to nobody after them."""
    async with serving_node() as node, trio.open_nursery() as nursery:
        slow, pings, failed = Slow(node), node.node.ops.pings, []
        slow.fail = True

        async def take(start: int) -> None:
            with pytest.raises(Unavailable):
                await pings._take(fixes(start, 1))
            failed.append(start)

        for start in range(3):
            nursery.start_soon(take, start)
        slow.go.release()
        await until(lambda: len(failed) == 3)
        slow.fail = False
        slow.go.release()
        assert await pings._take(fixes(9, 1)) == [Ping.ACCEPTED]


async def test_a_key_that_changed_while_it_was_looked_up_is_not_remembered() -> None:
    """Else the old one would be taken for a moment more, at the very node that rotated it."""
    async with serving_node() as node, http_of(node) as http:
        truck = await onboarded(node, http)
        pings, directory = node.node.ops.pings, node.directory
        assert directory is not None
        look = directory.device

        async def meanwhile(tenant: str, device: str) -> Device | None:
            found = await look(tenant, device)
            await truck.rotate()
            return found

        directory.device = meanwhile  # type: ignore[method-assign]
        await pings._look("demo", truck.name)
        assert not pings._known
        directory.device = look  # type: ignore[method-assign]
        known = await pings._look("demo", truck.name)
        assert known.key is not None
        assert known.key.thumbprint == truck.key.thumbprint
        assert len(pings._known) == 1


async def test_keys_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever invents names of devices fills no memory."""
    monkeypatch.setattr(module, "KEYS_MAX", 3)
    async with serving_node() as node:
        for number in range(5):
            await node.node.ops.pings._look("demo", f"device:x{number}")
        assert [device for _, device in node.node.ops.pings._known] == ["device:x2", "device:x3", "device:x4"]


async def test_without_a_directory_nothing_is_enrolled() -> None:
    """Every fix is unsigned then."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        async with device.connected(node) as client:
            node.node.directory = None
            assert verdicts(await device.position(client, [device.fix()])) == [(1, "rejected", "unsigned")]


@pytest.mark.parametrize("fails", [False, True])
async def test_who_has_gone_is_not_answered(fails: bool) -> None:
    """Its fixes are taken all the same, and count as under way no longer."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        async with device.connected(node) as client:
            await device.position(client, [device.fix()])
            slow = Slow(node)
            slow.fail = fails
            waiting = [device.fix(), device.fix()]
            said = {"stream": "trip:9", "fixes": waiting, "sig": device.sign("trip:9", waiting)}
            await client.say("position", **said)
            await until(lambda: slow.calls)
            await trio.aclose_forcefully(client.websocket._stream)
            await until(lambda: not node.node.shard.connections)
        assert node.node.ops.pings.waiting == 2
        slow.go.release()
        await until(lambda: not node.node.ops.pings.waiting)
        assert node.node.ops.pings.accepted == (1 if fails else 3)
