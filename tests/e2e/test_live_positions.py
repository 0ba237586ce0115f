"""Positions through a node: what is believed is kept and shown to who follows, here, on other nodes, and after a restart."""

from __future__ import annotations

import time
from typing import Any

import trio

from core.tenants import Arrivals
from store.memory_bus import MemoryBroker
from tests.devices import admin, http_of, onboarded, verdicts
from tests.moving import LAT, TRIP, A, Mover, at, send, tracking_cluster, tracking_node
from tests.nodes import TestNode, bus_away, bus_back, until
from tests.wire_client import WireClient, hello

TRUCK = "device:truck-7"


async def seen(client: WireClient, kind: str = "position") -> dict[str, Any]:
    return await client.next("signal", kind=kind)


def positions_of(node: TestNode) -> Any:
    assert node.node.positions is not None
    return node.node.positions


async def test_who_follows_sees_where_it_is() -> None:
    """All that the fix said, with its true age; nothing to the device itself."""
    async with tracking_node() as (node, tracks):
        async with hello(node.url, TRUCK, {TRIP: {}}) as truck, hello(node.url, streams={TRIP: {}}) as amy:
            answer = await send(truck, Mover().fix(3.0, alt=12.5))
            assert verdicts(answer) == [(1, A, "")]
            signal = await seen(amy)
            assert (signal["stream"], signal["by"]) == (TRIP, TRUCK)
            assert signal["value"].keys() == {"lat", "lon", "speed", "heading", "acc", "alt", "at"}
            assert (signal["value"]["lat"], signal["value"]["alt"]) == (LAT, 12.5)
            assert 3.0 <= signal["age"] < 8.0
            await truck.ask("ping")
            assert not [frame for frame in truck.seen if frame.get("kind") == "position"]
        [last] = (await tracks.lasts("demo", [TRUCK])).values()
        assert last.at_ms == (await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50))[0].at_ms


async def test_somebody_s_other_device_sees_it_too() -> None:
    """Amy's desk shows where her phone is."""
    async with (
        tracking_node() as (node, _),
        hello(node.url, streams={TRIP: {}}) as phone,
        hello(node.url, streams={TRIP: {}}) as desk,
    ):
        await send(phone, Mover().fix())
        assert (await seen(desk))["by"] == "user:amy"


async def test_what_is_not_plainly_accepted_is_told_why() -> None:
    """The same time, late, a jump: each with its reason; only what is believed is shown, and only the newest moves."""
    async with tracking_node() as (node, tracks):
        mover = Mover()
        async with hello(node.url, TRUCK) as truck, hello(node.url, streams={TRIP: {}}) as amy:
            first = [mover.fix(20.0 - step) for step in range(10)]
            await send(truck, *first)
            assert (await seen(amy))["value"]["at"] == first[-1]["at"]
            again = {**first[3], "seq": 100}
            late = mover.fix(15.5)
            jump = mover.fix(5.0, lat=LAT + 5.0)
            answer = await send(truck, again, late, jump, {**first[0]})
            assert [(verdict, reason) for _, verdict, reason in verdicts(answer)] == [
                ("duplicate", "same_time"),
                (A, "late"),
                ("quarantined", "jump"),
                ("duplicate", "replayed"),
            ]
            await until(lambda: not positions_of(node).showing._dirty.is_set())
            await amy.ask("ping")
            assert len([frame for frame in amy.seen if frame.get("kind") == "position"]) == 1
            [last] = (await tracks.lasts("demo", [TRUCK])).values()
            assert last.lat == LAT
            newest = mover.fix()
            await send(truck, newest)
            assert (await seen(amy))["value"]["at"] == newest["at"], "neither the late one nor the jump was shown"
        kept = await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50)
        assert [sample.verdict for sample in kept].count("quarantined") == 1
        assert len(kept) == 13
        text = node.node.measures.registry.text().decode()
        assert 'readback_fixes_total{verdict="accepted"} 12' in text
        assert 'readback_fixes_reasons_total{reason="jump"} 1' in text


async def test_who_comes_late_gets_the_latest_and_a_trail() -> None:
    """At once, and who was there already is not told of trails."""
    async with tracking_node() as (node, _):
        mover = Mover()
        async with hello(node.url, TRUCK) as truck, hello(node.url, streams={TRIP: {}}) as amy:
            fixes = [mover.fix(30.0 - step) for step in range(30)]
            await send(truck, *fixes)
            await seen(amy)
            async with hello(node.url, "user:bob", {TRIP: {}}) as bob:
                assert (await seen(bob))["value"]["at"] == fixes[-1]["at"]
                points = (await seen(bob, "trail"))["value"]["points"]
            assert len(points) == 20
            assert points == sorted(points)
            assert [points[-1][1:], points[0][1:]] == [[LAT, fixes[-1]["lon"]], [LAT, fixes[10]["lon"]]]
            await amy.ask("ping")
            assert not [frame for frame in amy.seen if frame.get("kind") == "trail"]


async def test_other_nodes_show_it_too() -> None:
    """Over the bus; an older one that comes later moves nothing."""
    async with tracking_cluster() as (nodes, _):
        mover = Mover()
        old = mover.fix(10.0)
        async with hello(nodes[0].url, TRUCK) as truck, hello(nodes[1].url, streams={TRIP: {}}) as amy:
            await until(lambda: nodes[1].node.cluster.listens_to([f"live:{partition_of(nodes[1])}"]))  # type: ignore[union-attr]
            new = mover.fix()
            await send(truck, new)
            signal = await seen(amy)
            assert signal["value"]["at"] == new["at"]
            async with hello(nodes[1].url, "device:van-1") as van:
                await send(van, old)
                assert (await seen(amy))["by"] == "device:van-1"
            positions_of(nodes[0]).show(stream_of(nodes[0]), "eta", "service:eta", {"stop": "x"}, time.time() - 5)
            eta = await seen(amy, "eta")
            assert (eta["value"], eta["by"]) == ({"stop": "x"}, "service:eta")
            assert 5.0 <= eta["age"] < 10.0
            assert positions_of(nodes[1]).showing.heard == 2


def stream_of(node: TestNode) -> Any:
    return node.node.hub.by_name["demo", TRIP]


def partition_of(node: TestNode) -> int:
    return int(stream_of(node).partition)


async def test_after_a_restart_the_last_known_is_shown_with_its_age() -> None:
    """And its trail; who resumes is not told that it is news."""
    async with tracking_node() as (node, _):
        mover = Mover()
        async with hello(node.url, TRUCK) as truck:
            fixes = [mover.fix(40.0 - step) for step in range(10)]
            await send(truck, *fixes)
        await node.restart()
        async with hello(node.url, streams={TRIP: {}}) as amy:
            signal = await seen(amy)
            assert signal["value"]["at"] == fixes[-1]["at"]
            assert 31.0 <= signal["age"] < 40.0
            assert len((await seen(amy, "trail"))["value"]["points"]) == 10


async def test_a_judge_goes_on_where_another_node_s_left_off() -> None:
    """A jump is one at the node that has never seen the device, too, and what was taken is a duplicate there."""
    async with tracking_cluster() as (nodes, _):
        mover = Mover()
        fixes = [mover.fix(20.0 - step) for step in range(10)]
        async with hello(nodes[0].url, TRUCK) as truck:
            await send(truck, *fixes)
        async with hello(nodes[1].url, TRUCK) as truck:
            answer = await send(truck, mover.fix(5.0, lat=LAT + 5.0), fixes[2], mover.fix(2.0))
            assert [(verdict, reason) for _, verdict, reason in verdicts(answer)] == [
                ("quarantined", "jump"),
                ("duplicate", "replayed"),
                (A, ""),
            ]


async def test_silence_turns_stale_once_and_the_next_fix_is_fresh() -> None:
    """On every node by itself; who comes then is told so at once."""
    async with tracking_node(arrivals=Arrivals(stale_s=60.0)) as (node, _):
        mover = Mover()
        async with hello(node.url, TRUCK) as truck, hello(node.url, streams={TRIP: {}}) as amy:
            await send(truck, mover.fix())
            assert "stale" not in (await seen(amy))["value"]
            real = node.node.wall
            node.node.wall = lambda: real() + 65.0
            stale = await seen(amy)
            assert stale["value"]["stale"] is True
            async with hello(node.url, "user:bob", {TRIP: {}}) as bob:
                assert (await seen(bob))["value"]["stale"] is True
            node.node.wall = real
            await send(truck, mover.fix())
            fresh = await seen(amy)
            assert "stale" not in fresh["value"]
            assert fresh["age"] < 10.0
        assert positions_of(node).showing.turned_stale == 1


async def test_while_samples_cannot_be_kept_nobody_is_told_that_they_are() -> None:
    """Unavailable; what was judged is kept when the store is back, once, and a duplicate when it is said again."""
    async with tracking_node() as (node, tracks):
        mover, log = Mover(), node.log
        async with hello(node.url, TRUCK) as truck:
            await send(truck, mover.fix(9.0))
            log.fail_next("unavailable", "keep")  # type: ignore[attr-defined]
            fix = mover.fix(5.0)
            answer = await send(truck, fix)
            assert answer["code"] == "unavailable"
            again = mover.fix(4.0)
            assert (await send(truck, again))["code"] == "unavailable", "nothing is judged meanwhile"
            await until(lambda: positions_of(node).keeper.trouble is None)
            assert verdicts(await send(truck, fix, again)) == [(2, "duplicate", "replayed"), (3, A, "")]
        assert len(await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50)) == 3


async def test_what_is_remembered_is_read_before_a_number_is_taken() -> None:
    """Where that fails nothing of it was taken, and when it is said again it is accepted.

    The number of a signed fix was taken first. The store failed when the judge's memory was read: unavailable, and when it was
    repeated a duplicate, which the device forgot; the fix was nowhere.
    """
    async with tracking_node() as (node, tracks), http_of(node) as http:
        device, mover = await onboarded(node, http), Mover()
        async with device.connected(node) as client:
            fix = mover.fix()
            node.log.fail_next("unavailable", "lasts")  # type: ignore[attr-defined]
            assert (await device.position(client, [fix]))["code"] == "unavailable"
            assert verdicts(await device.position(client, [fix])) == [(1, A, "")]
        assert len(await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50)) == 1


async def test_a_number_is_taken_when_its_sample_is_kept() -> None:
    """The store fails, the node dies, and another one takes what is said again: nothing says that it was there before.

    The number of a signed fix was taken before its sample was kept. What died between the two was a duplicate at every other
    node, and the device forgot what nobody had.
    """
    async with tracking_cluster(2) as (nodes, tracks), http_of(nodes[1]) as http:
        one, two = nodes
        device, mover = await onboarded(two, http), Mover()
        fix = mover.fix()
        async with device.connected(one) as client:
            for _ in range(100):  # however often the node tries
                one.log.fail_next("unavailable", "keep")  # type: ignore[attr-defined]
            assert (await device.position(client, [fix]))["code"] == "unavailable"
        await one.stop()
        one.log._failures.clear()  # type: ignore[attr-defined]
        async with device.connected(two) as client:
            assert verdicts(await device.position(client, [fix])) == [(1, A, "")]
            assert verdicts(await device.position(client, [fix])) == [(1, "duplicate", "replayed")]
        assert len(await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50)) == 1


async def test_a_node_that_drains_keeps_what_it_took() -> None:
    """An answer that was on its way comes, and what waits for the store is kept before the node leaves."""
    async with tracking_node() as (node, tracks):
        mover, log = Mover(), node.log
        async with hello(node.url, TRUCK) as truck:
            log.fail_next("unavailable", "keep")  # type: ignore[attr-defined]
            assert (await send(truck, mover.fix()))["code"] == "unavailable"
            await node.node.drain(3.0)
        assert len(await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50)) == 1


async def test_with_the_bus_gone_the_store_tells_what_was_missed() -> None:
    """When it is back, where a subject was seen last elsewhere is shown, though it says nothing any more."""
    broker = MemoryBroker()
    async with tracking_cluster(broker=broker) as (nodes, _):
        mover = Mover()
        async with hello(nodes[0].url, TRUCK) as truck, hello(nodes[1].url, streams={TRIP: {}}) as amy:
            await until(lambda: not positions_of(nodes[1]).showing._to_load)
            await bus_away(broker, nodes)
            fix = mover.fix()
            await send(truck, fix)
            await bus_back(broker, nodes)
            assert (await seen(amy))["value"]["at"] == fix["at"]


async def test_who_has_a_key_signs_and_who_never_had_one_need_not() -> None:
    """A device whose key was taken away is refused, however it comes; numbers of those without count as others do."""
    async with tracking_node() as (node, _), http_of(node) as http:
        device, mover = await onboarded(node, http), Mover()
        fix = mover.fix(8.0)
        async with device.connected(node) as client:
            unsigned = [(1, "rejected", "unsigned")]
            assert verdicts(await send(client, fix)) == unsigned
            assert verdicts(await device.position(client, [fix])) == [(1, A, "")]
        for number, who in enumerate(("user:amy", "service:eta", "device:never-enrolled")):
            async with hello(node.url, who) as client:
                own = Mover()
                fixes = [own.fix(9.0), own.fix(7.0)]
                assert verdicts(await send(client, *fixes)) == [(1, A, ""), (2, A, "")], number
                assert verdicts(await send(client, fixes[0])) == [(1, "duplicate", "replayed")]
                signed = await client.ask("position", stream=TRIP, fixes=[own.fix()], sig="A" * 86)
                assert verdicts(signed) == [(3, "rejected", "bad_signature")]
                assert signed["next_in"] == 30.0, "nobody waits for what is refused"
        async with hello(node.url, "device:gone") as client:
            gone = await onboarded(node, http, "device:gone")
            await http.delete(f"/v1/devices/{gone.name}", headers=admin())
        async with hello(node.url, "user:amy"):
            pings = node.node.ops.pings
            refused = await pings.of("demo", gone.name, stream_of(node), _fixes(mover.fix()), None)
            assert [each["reason"] for each in refused.verdicts] == ["unsigned"]


def _fixes(*fixes: dict[str, Any]) -> Any:
    from core.pings import read_fixes

    return read_fixes(list(fixes))


async def test_who_has_no_key_may_begin_to_count_anew() -> None:
    """Where its fixes are newer than all before; what is old under an old number stays too old.

    An app that was installed anew counted from 1 again, and everything that it sent was too old, for good.
    """
    async with tracking_node() as (node, tracks), hello(node.url) as amy:
        mover = Mover()
        mover.seq = 700
        old = mover.fix(20.0)
        assert verdicts(await send(amy, mover.fix(9.0))) == [(702, A, "")]
        assert verdicts(await send(amy, {**old, "seq": 1})) == [(1, "rejected", "too_old")]
        mover.seq = 0
        again = mover.fix(5.0)
        assert verdicts(await send(amy, again, mover.fix(3.0))) == [(1, A, ""), (2, A, "")]
        assert verdicts(await send(amy, again)) == [(1, "duplicate", "replayed")]
        assert verdicts(await send(amy, old)) == [(701, A, "late")], "from before, and late"
        assert verdicts(await send(amy, mover.fix(1.0))) == [(3, A, "")]
        assert len(await tracks.track("demo", TRIP, from_ms=0, to_ms=2**50)) == 5


async def test_a_tenant_may_want_signatures_of_everybody() -> None:
    """Then who has no key sends nothing."""
    async with tracking_node(arrivals=Arrivals(signed_only=True)) as (node, _):
        for who in ("user:amy", "device:never-enrolled"):
            async with hello(node.url, who) as client:
                for sig in (None, "A" * 86):
                    answer = await client.ask("position", stream=TRIP, fixes=[Mover().fix()], sig=sig)
                    assert verdicts(answer) == [(1, "rejected", "unsigned")]


async def test_the_next_fix_is_worth_more_where_somebody_watches() -> None:
    """Here or at another node, or where what hangs on positions wants it; else it is left to rest."""
    async with tracking_cluster() as (nodes, _):
        mover = Mover()
        async with hello(nodes[0].url, TRUCK, {TRIP: {}}) as truck:
            assert (await send(truck, mover.fix(60.0)))["next_in"] >= 30.0, "its own eyes do not count"
            positions_of(nodes[0]).wants = lambda stream, subject: 7.0
            assert (await send(truck, mover.fix(50.0)))["next_in"] == 7.0
            positions_of(nodes[0]).wants = lambda stream, subject: None
            async with hello(nodes[1].url, streams={TRIP: {}}):
                await until(lambda: "user:amy" in stream_of(nodes[0]).present)
                assert (await send(truck, mover.fix(40.0)))["next_in"] == 2.0


async def test_what_hangs_on_positions_hears_of_each_in_order() -> None:
    """By the time of the fixes, believed ones only, and late ones with that word."""
    async with tracking_node() as (node, _):
        heard: list[tuple[str, int, str]] = []
        positions_of(node).on_sample.append(
            lambda stream, sample: heard.append((stream.name, sample.seq, sample.reason))
        )
        mover = Mover()
        async with hello(node.url, TRUCK) as truck:
            fixes = [mover.fix(ago_s) for ago_s in (10.0, 20.0, 15.0)]
            answer = await send(truck, *fixes)
            assert verdicts(answer) == [(1, A, ""), (2, A, ""), (3, A, "")]
            await send(truck, mover.fix(12.0), mover.fix(5.0, lat=LAT + 5.0))
        assert heard == [(TRIP, 2, ""), (TRIP, 3, ""), (TRIP, 1, ""), (TRIP, 4, "late")]


async def test_a_fix_that_cannot_be_judged_ends_its_own_connection_only() -> None:
    """A fault in a mode's table or in what hangs on positions is one sender's."""
    async with tracking_node() as (node, _):

        def broken(stream: Any, subject: str) -> str:
            if subject == TRUCK:
                raise RuntimeError("planted")
            return "car"

        positions_of(node).mode_of = broken
        async with hello(node.url, TRUCK) as truck, hello(node.url, "device:van-1") as van:
            with trio.move_on_after(5):
                await truck.say("position", stream=TRIP, fixes=[Mover().fix()])
                assert verdicts(await send(van, Mover().fix())) == [(1, A, "")]
                assert (await truck.closed())[0] == 4000


async def test_what_cannot_be_true_is_malformed() -> None:
    """And the rest is taken."""
    async with tracking_node() as (node, _):
        mover = Mover()
        async with hello(node.url, TRUCK) as truck:
            answer = await send(truck, mover.fix(5.0), mover.fix(4.0, lat=95), {**mover.fix(), "at": at(-86_400)})
            assert [(verdict, reason) for _, verdict, reason in verdicts(answer)] == [
                (A, ""),
                ("rejected", "malformed"),
                ("rejected", "future"),
            ]


async def test_a_tenant_may_believe_positions_that_were_made_up() -> None:
    """For its tests, say: degraded, and shown; where it does not say so they are quarantined."""
    for allowed, verdict in ((True, "degraded"), (False, "quarantined")):
        async with tracking_node(arrivals=Arrivals(mock_allowed=allowed)) as (node, _), hello(node.url, TRUCK) as truck:
            assert verdicts(await send(truck, Mover().fix(mock=True))) == [(1, verdict, "mock")]
