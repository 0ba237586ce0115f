"""gateway.pings: how fixes gather for the directory, what is remembered of keys, and what becomes of who has gone."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from core.directory import Device, Ping
from core.pings import Fix
from core.ports import Unavailable
from core.stream import Stream
from gateway import device_keys
from gateway import pings as module
from gateway.pings import Answered, Asked, Pings
from tests.devices import http_of, onboarded, verdicts
from tests.moving import tracking_node
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


async def trip(node: TestNode) -> Stream:
    """A stream that the node knows."""
    await node.stream("trip:9")
    await node.node.loader.load([("demo", "trip:9", "device:x")])
    return node.node.hub.by_name["demo", "trip:9"]


def asked(stream: Stream, start: int, count: int, answered: Answered) -> Asked:
    fixes = [Fix(start + number, number, b"", True, 0.0, 0.0) for number in range(count)]
    return Asked("demo", "device:x", stream, fixes, "signed", answered)


def unproved(pings: Pings) -> None:
    """Signatures are taken for good."""

    async def refuse(said: object) -> tuple[bool, str]:
        await trio.lowlevel.checkpoint()
        return False, ""

    async def look_up(senders: object) -> None:
        await trio.lowlevel.checkpoint()

    pings.keys.refuse, pings.keys.look_up = refuse, look_up  # type: ignore[method-assign]


async def test_what_comes_while_a_call_is_under_way_is_the_next_call() -> None:
    """One call at a time, nothing waits for more than the one before it, and each gets its own verdicts."""
    async with serving_node() as node:
        slow, pings, got, stream = Slow(node), node.node.ops.pings, [], await trip(node)
        unproved(pings)

        def ask(start: int, count: int) -> None:
            pings.ask(asked(stream, start, count, lambda taken: got.append((start, len(taken.verdicts)))))  # type: ignore[union-attr]

        ask(1, 3)
        await until(lambda: slow.calls)
        for start in (10, 20):
            ask(start, 2)
        slow.go.release()
        await until(lambda: len(slow.calls) == 2)
        assert got == [(1, 3)]
        slow.go.release()
        await until(lambda: len(got) == 3)
        assert got == [(1, 3), (10, 2), (20, 2)]
        assert [len(call) for call in slow.calls] == [3, 4]
        await pings.drained()


async def test_many_do_not_wait_for_more_and_a_call_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full batch goes at once; what is beyond a call's bound goes with the one after it, in its order."""
    monkeypatch.setattr(module, "CALL_MAX", 1_500)
    async with serving_node() as node:
        slow, pings, stream = Slow(node), node.node.ops.pings, await trip(node)
        unproved(pings)
        got: list[int] = []
        object.__setattr__(node.node.limits, "pings_gather_s", 1e6)
        for start in (1, 1_000, 2_000, 3_000, 4_000):
            pings.ask(asked(stream, start, 500, lambda taken, start=start: got.append(start)))  # type: ignore[misc]
        pings.ask(asked(stream, 5_000, 2_000, lambda taken: got.append(5_000)))
        for _ in range(3):
            slow.go.release()
        await until(lambda: len(got) == 6)
        assert [len(call) for call in slow.calls] == [1_500, 1_000, 2_000]
        assert got == [1, 1_000, 2_000, 3_000, 4_000, 5_000]


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
        slow, pings, failed, stream = Slow(node), node.node.ops.pings, [], await trip(node)
        unproved(pings)
        slow.fail = True
        fix = Fix(1, 0, b"", True, 0.0, 0.0)

        async def take(start: int) -> None:
            with pytest.raises(Unavailable):
                await pings.of("demo", "device:x", stream, [fix], "signed")
            failed.append(start)

        for start in range(3):
            nursery.start_soon(take, start)
        slow.go.release()
        await until(lambda: len(failed) == 3)
        slow.fail = False
        slow.go.release()
        assert (await pings.of("demo", "device:x", stream, [fix], "signed")).accepted == 1


async def test_a_fault_ends_the_connections_it_was_met_by(caplog: pytest.LogCaptureFixture) -> None:
    """Said once in the log; whoever comes after is served."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        directory = node.directory
        assert directory is not None
        take = directory.take_pings

        async def broken(pings: object) -> list[Ping]:
            raise RuntimeError("planted")

        directory.take_pings = broken  # type: ignore[method-assign]
        async with device.connected(node) as client:
            await client.say("position", stream="trip:9", fixes=[device.fix()], sig=None)
            await client.next("ok")
            await client.say("position", stream="trip:9", fixes=[f := device.fix()], sig=device.sign("trip:9", [f]))
            assert (await client.closed())[0] == 4000
        assert "planted" in caplog.text
        directory.take_pings = take  # type: ignore[method-assign]
        async with device.connected(node) as client:
            assert (await device.position(client, [device.fix()]))["accepted"] == 1


async def test_a_key_that_changed_while_it_was_looked_up_is_not_remembered() -> None:
    """Else the old one would be taken for a moment more, at the very node that rotated it."""
    async with serving_node() as node, http_of(node) as http:
        truck = await onboarded(node, http)
        pings, directory = node.node.ops.pings, node.directory
        assert directory is not None
        look = directory.known

        async def meanwhile(asked: Sequence[tuple[str, str]]) -> list[Device | None]:
            found = await look(asked)
            await truck.rotate()
            return found

        directory.known = meanwhile  # type: ignore[method-assign]
        await pings.keys.look("demo", truck.name)
        assert not pings.keys._known
        directory.known = look  # type: ignore[method-assign]
        known = await pings.keys.look("demo", truck.name)
        assert known.key is not None
        assert known.key.thumbprint == truck.key.thumbprint
        assert len(pings.keys._known) == 1


async def test_keys_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever invents names of devices fills no memory."""
    monkeypatch.setattr(device_keys, "KEYS_MAX", 3)
    async with serving_node() as node:
        for number in range(5):
            await node.node.ops.pings.keys.look("demo", f"device:x{number}")
        assert [device for _, device in node.node.ops.pings.keys._known] == ["device:x2", "device:x3", "device:x4"]


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


async def test_backlogs_of_many_fixes_are_judged_with_turns_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message at a time, where each is long.

    Ten devices came out of a tunnel with 500 fixes each: messages were counted, not fixes, and whatever else the node had to do
    waited 40 ms for all of them.
    """
    async with tracking_node() as (node, _):
        await node.node.loader.load([("demo", "trip:9", "device:x")])
        pings, stream = node.node.ops.pings, node.node.hub.by_name["demo", "trip:9"]
        positions, done = node.node.positions, list[str | int]()
        assert positions is not None
        judge = positions.judge

        def judging(*args: Any, **kwargs: Any) -> Any:
            judged = judge(*args, **kwargs)
            done.append(len(judged.taken.verdicts))
            return judged

        async def checkpoint() -> None:
            done.append("others")

        batch = [asked(stream, 1, count, lambda taken: None) for count in (100, 100, 40, 30, 30, 1)]
        books = await pings._books(batch)
        pings.waiting, pings._waiting = 301, {"demo": 301}
        with monkeypatch.context() as patch:
            patch.setattr(positions, "judge", judging)
            patch.setattr(module, "JUDGED", 64)
            patch.setattr(module, "trio", SimpleNamespace(lowlevel=SimpleNamespace(checkpoint=checkpoint)))
            await pings._judged(batch, books)
        assert done == [100, "others", 100, "others", 40, 30, "others", 30, 1]
        await until(lambda: not pings.waiting)
