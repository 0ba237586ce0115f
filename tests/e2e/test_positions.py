"""``position``: each fix of a device taken once, ever, under its present key; whatever else comes is told why it was not."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from core.tokens import mint
from tests.devices import Device, admin, audit_of, http_of, names, new_key, onboarded, verdicts
from tests.nodes import SECRETS, TestNode, serving_cluster, serving_node, until
from tests.wire_client import hello, wire_client

A = "accepted"


def directory_calls(node: TestNode) -> list[int]:
    """How many pings each call of the directory from now on brings."""
    directory, sizes = node.directory, []
    assert directory is not None
    take = directory.take_pings

    async def counted(pings: Any) -> Any:
        sizes.append(len(pings))
        return await take(pings)

    directory.take_pings = counted  # type: ignore[method-assign]
    return sizes


async def test_fixes_are_accepted_once_and_only_once() -> None:
    """Late ones too, in any order; said again in the same message, in another, over another connection: duplicates."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        fixes = [device.fix() for _ in range(6)]
        async with device.connected(node) as client:
            answer = await device.position(client, fixes[3:])
            assert answer["accepted"] == 3
            assert answer["next_in"] == 2.0
            assert verdicts(answer) == [(4, A, ""), (5, A, ""), (6, A, "")]
            late = await device.position(client, [fixes[1], fixes[0], fixes[0], fixes[4]])
            dup = ("duplicate", "replayed")
            assert verdicts(late) == [(2, A, ""), (1, A, ""), (1, *dup), (5, *dup)]
        async with device.connected(node) as again:
            assert (await device.position(again, fixes))["accepted"] == 1
            assert (await device.position(again, fixes))["accepted"] == 0


async def test_a_replay_is_known_at_another_node_and_after_a_restart() -> None:
    """The very bytes that were good once."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as http:
        await nodes[0].stream("trip:9")
        device = await onboarded(nodes[0], http)
        fixes = [device.fix(), device.fix()]
        async with device.connected(nodes[0]) as client:
            assert (await device.position(client, fixes))["accepted"] == 2
        await nodes[1].restart()
        for node in nodes:
            async with device.connected(node) as client:
                answer = await device.position(client, fixes)
                assert [verdict for _, verdict, _ in verdicts(answer)] == ["duplicate", "duplicate"]


async def test_what_is_far_behind_is_too_old() -> None:
    """An hour and more behind the newest, nobody can tell any more whether it was taken."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        async with device.connected(node) as client:
            await device.position(client, [device.fix(seq=10_000)])
            answer = await device.position(client, [device.fix(seq=5_000), device.fix(seq=6_000)])
            assert verdicts(answer) == [(5_000, "rejected", "too_old"), (6_000, A, "")]


TAMPERED: dict[str, Any] = {
    "a value": lambda fixes: [{**fixes[0], "lat": -33.8}, fixes[1]],
    "a number": lambda fixes: [{**fixes[0], "seq": 99}, fixes[1]],
    "one left out": lambda fixes: fixes[:1],
    "one put in": lambda fixes: [*fixes, {**fixes[0], "seq": 3}],
    "reordered": lambda fixes: fixes[::-1],
    "mocked": lambda fixes: [{**fixes[0], "mock": True}, fixes[1]],
    "the time": lambda fixes: [{**fixes[0], "at": "2026-11-21T09:30:00.124Z"}, fixes[1]],
    "an altitude put in": lambda fixes: [{**fixes[0], "alt": 0}, fixes[1]],
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_what_was_changed_on_the_way_is_refused_whole(what: str) -> None:
    """And uses up no number: the true ones are accepted afterwards."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        fixes = [device.fix(), device.fix()]
        signature = device.sign("trip:9", fixes)
        async with device.connected(node) as client:
            answer = await device.position(client, TAMPERED[what](fixes), sig=signature)
            assert {(verdict, reason) for _, verdict, reason in verdicts(answer)} == {("rejected", "bad_signature")}
            assert (await device.position(client, fixes))["accepted"] == 2


async def test_a_proxy_may_write_the_json_anew() -> None:
    """Other spellings of the same values, other fields beside them: the signature holds."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        signature = device.sign("trip:9", [device.fix()])
        respelt = (
            '{"sig":"%s","id":9,"op":"position","stream":"trip:9","fixes":[{"x":[1],"heading":87.00,"speed":1.42e1,"acc":5.0,'
            '"lon":151.20000,"lat":-3.39e1,"at":"2026-11-21T09:30:00.123Z","alt":null,"mock":false,"seq":1}]}'
        )
        async with device.connected(node) as client:
            await client.raw(respelt % signature)
            assert (await client.next(id=9))["accepted"] == 1


async def test_a_signature_is_for_one_stream_and_one_device() -> None:
    """Nor does one of another tenant's device of that name count."""
    async with serving_node() as node, http_of(node) as http:
        for name in ("trip:9", "trip:10"):
            await node.stream(name)
        truck, van = await onboarded(node, http), await onboarded(node, http, "device:van-1")
        fixes = [truck.fix()]
        async with truck.connected(node) as client, van.connected(node) as other:
            elsewhere = await truck.position(client, fixes, "trip:10", sig=truck.sign("trip:9", fixes))
            assert verdicts(elsewhere) == [(1, "rejected", "bad_signature")]
            as_van = await van.position(other, fixes, sig=truck.sign("trip:9", fixes))
            assert verdicts(as_van) == [(1, "rejected", "bad_signature")]
            truck.tenant = "other"
            assert verdicts(await truck.position(client, fixes)) == [(1, "rejected", "bad_signature")]
            truck.tenant = "demo"
            assert verdicts(await truck.position(client, fixes)) == [(1, A, "")]


async def test_after_a_rotation_the_old_key_signs_nothing_more() -> None:
    """At the node of the rotation at once, at others within a second; the new key everywhere, and no number twice."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as http:
        await nodes[0].stream("trip:9")
        device = await onboarded(nodes[0], http)
        old_key, first = device.key, [device.fix()]
        async with device.connected(nodes[0]) as here, device.connected(nodes[1]) as there:
            assert (await device.position(here, first))["accepted"] == 1
            assert verdicts(await device.position(there, first)) == [(1, "duplicate", "replayed")]
            assert (await device.rotate()).status_code == 200
            with_old = [device.fix()]
            signature = device.sign("trip:9", with_old, old_key)
            answer = await device.position(here, with_old, sig=signature)
            assert verdicts(answer) == [(2, "rejected", "bad_signature")]
            for known in nodes[1].node.ops.pings.keys._known.values():
                known.at_s -= 1.001
            answer = await device.position(there, with_old, sig=signature)
            assert verdicts(answer) == [(2, "rejected", "bad_signature")]
            assert (await device.position(there, with_old))["accepted"] == 1
            assert verdicts(await device.position(here, first)) == [(1, "duplicate", "replayed")]


async def test_a_key_that_was_rotated_elsewhere_a_moment_ago_is_looked_for() -> None:
    """The new key's first message is not refused for what this node still remembers."""
    async with serving_cluster(2) as nodes, http_of(nodes[0]) as http:
        await nodes[0].stream("trip:9")
        device = await onboarded(nodes[0], http)
        async with device.connected(nodes[1]) as there:
            await device.position(there, [device.fix()])
            await device.rotate()
            for known in nodes[1].node.ops.pings.keys._known.values():
                known.at_s -= 0.3
            assert (await device.position(there, [device.fix()]))["accepted"] == 1


async def test_who_has_no_key_is_told_so() -> None:
    """A plain token of a device or of anybody, no signature, a device that was revoked: rejected, unsigned."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        fixes = [device.fix()]
        unsigned = [(1, "rejected", "unsigned")]
        async with device.connected(node) as client:
            assert verdicts(await client.ask("position", stream="trip:9", fixes=fixes)) == unsigned
            assert verdicts(await client.ask("position", stream="trip:9", fixes=fixes, sig=None)) == unsigned
            for sig in ("", "x", "x" * 86, "=" * 86):
                answer = await client.ask("position", stream="trip:9", fixes=fixes, sig=sig)
                assert verdicts(answer) == [(1, "rejected", "bad_signature")]
        for principal in ("user:amy", "service:eta", "device:never-enrolled"):
            async with hello(node.url, principal) as client:
                answer = await client.ask("position", stream="trip:9", fixes=fixes, sig="A" * 86)
                assert verdicts(answer) == unsigned
        await http.delete("/v1/devices/device:truck-7", headers=admin())
        async with wire_client(node.url) as client:  # a token of the tenant's own issuer, issued since
            await until(lambda: node.node.gatekeeper.revocations.known("demo", "principal", device.name))
            node.node.wall = lambda: time.time() + 2.0
            await client.say("hello", token=token_of_later(), streams={})
            await client.next("welcome")
            answer = await client.ask("position", stream="trip:9", fixes=fixes, sig=device.sign("trip:9", fixes))
            assert verdicts(answer) == unsigned


def token_of_later() -> str:
    """The truck's, from an issuer whose clock is past the revocation."""
    key, now_s = SECRETS.token_secrets["k1"], time.time() + 1.0
    return mint(key, kid="k1", tenant="demo", principal="device:truck-7", roles=(), now_s=now_s, ttl_s=60.0)


async def test_what_cannot_be_true_is_malformed_and_the_rest_is_taken() -> None:
    """A verdict each; the number of the bad one is not used up."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        async with device.connected(node) as client:
            answer = await device.position(client, [device.fix(), device.fix(lat=95.0), device.fix()])
            assert verdicts(answer) == [(1, A, ""), (2, "rejected", "malformed"), (3, A, "")]
            assert (await device.position(client, [device.fix(seq=2)]))["accepted"] == 1
            assert (await device.position(client, [device.fix(lat=95.0)]))["accepted"] == 0


async def test_who_may_send_positions() -> None:
    """Members of the stream; not readers, not strangers; of no stream that is not there."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9", open=False, members={"device:truck-7": "reader"})
        await node.stream("trip:10", open=False)
        device = await onboarded(node, http)
        async with device.connected(node) as client:
            for stream, code, why in (
                ("trip:9", "forbidden", "only a reader of trip:9"),
                ("trip:10", "forbidden", "not a member of trip:10"),
                ("trip:11", "not_found", "no stream trip:11"),
            ):
                answer = await device.position(client, [device.fix()], stream)
                assert (answer["code"], answer["message"]) == (code, why)
            typing = await client.ask("signal", stream="trip:10", kind="typing", value=True)
            assert typing["message"] == "not a member of trip:10"
            wrong: list[dict[str, Any]] = [{"stream": "x"}, {"fixes": []}, {"fixes": [{}]}, {"sig": 7}]
            for fields in wrong:
                said = {"stream": "trip:9", "fixes": [device.fix()], **fields}
                assert (await client.ask("position", **said))["code"] == "bad_request"
            await client.raw('{"op":"position","stream":"trip:9","fixes":[]}')
            assert (await client.next("error"))["code"] == "bad_request"


async def test_fixes_of_many_devices_go_to_the_directory_together() -> None:
    """In few calls, one at a time, and each device gets its own verdicts."""
    async with serving_node() as node, http_of(node) as http, trio.open_nursery() as nursery:
        await node.stream("trip:9")
        sizes = directory_calls(node)
        done: list[int] = []

        async def drive(device: Device) -> None:
            async with device.connected(node) as client:
                ready.set()
                await go.wait()
                answer = await device.position(client, [device.fix() for _ in range(3)])
                done.append(answer["accepted"])

        go = trio.Event()
        for number in range(20):
            ready = trio.Event()
            nursery.start_soon(drive, await onboarded(node, http, f"device:truck-{number}"))
            await ready.wait()
        go.set()
        await until(lambda: len(done) == 20)
        assert done == [3] * 20
        assert sum(sizes) == 60
        assert len(sizes) < 20
        assert node.node.ops.pings.waiting == 0


async def test_a_directory_that_is_away_refuses_and_recovers() -> None:
    """Unavailable, for the look-up of the key and for the windows; said again it is taken once."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        log: Any = node.log
        fixes = [device.fix()]
        async with device.connected(node) as client:
            for call in ("known", "take_pings"):
                log.fail_next("unavailable", call)
                assert (await device.position(client, fixes))["code"] == "unavailable"
            assert verdicts(await device.position(client, fixes)) == [(1, A, "")]


async def test_what_is_under_way_is_bounded() -> None:
    """Beyond the bound a message is refused with a time to come back, and what was under way is taken."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device, other = await onboarded(node, http), await onboarded(node, http, "device:van-1")
        node.node.ops.pings.waiting = node.limits.pings_waiting_max - 3
        async with device.connected(node) as client, other.connected(node) as late:
            fixes = [device.fix() for _ in range(4)]
            answer = await device.position(client, fixes)
            assert (answer["code"], answer["retry_after"] > 0) == ("overloaded", True)
            assert (await other.position(late, [other.fix()]))["accepted"] == 1


async def test_positions_leave_no_audit_events() -> None:
    """They are data, not changes."""
    async with serving_node() as node, http_of(node) as http:
        await node.stream("trip:9")
        device = await onboarded(node, http)
        before = names(await audit_of(node))
        async with device.connected(node) as client:
            await device.position(client, [device.fix()])
            await device.position(client, [device.fix()], sig=device.sign("trip:9", [], new_key()))
        assert names(await audit_of(node)) == before
