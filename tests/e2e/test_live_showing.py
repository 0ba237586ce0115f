"""gateway.live: what is taken without a socket, what is shown beside positions, and where memory and stores end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import trio

from core.limits import Limits
from core.live import Place
from core.live_wire import Told, encode
from core.pings import Fix, read_fixes
from core.ports import Unavailable
from core.stream import Stream
from core.tracks import Last
from gateway.live.positions import Positions
from gateway.service import WireError
from store.memory_bus import MemoryBroker
from tests.moving import TRIP, A, Mover, send, tracking_cluster, tracking_node
from tests.nodes import TestNode, until
from tests.wire_client import WireClient, hello

TRUCK = "device:truck-7"


def positions_of(node: TestNode) -> Positions:
    assert node.node.positions is not None
    return node.node.positions


async def known(node: TestNode, name: str = TRIP) -> Stream:
    await node.node.loader.load([("demo", name, "user:root")])
    return node.node.hub.by_name["demo", name]


def fixes(*said: dict[str, Any]) -> list[Fix]:
    read = read_fixes(list(said))
    assert not isinstance(read, str)
    return read


async def settled(client: WireClient) -> None:
    """What was said before has come."""
    await client.ask("ping")


async def test_what_comes_without_a_socket_is_taken_as_well() -> None:
    """Judged, kept before it is answered, and shown; one that says nothing new is answered at once."""
    async with tracking_node() as (node, tracks), hello(node.url, streams={TRIP: {}}) as amy:
        positions, stream, mover = positions_of(node), await known(node), Mover()
        fix = fixes(mover.fix())
        taken = await positions.take("demo", TRUCK, stream, fix)
        assert [(each["verdict"], taken.accepted) for each in taken.verdicts] == [(A, 1)]
        assert (await amy.next("signal", kind="position"))["by"] == TRUCK
        assert len(await tracks.lasts("demo", [TRUCK])) == 1
        again = await positions.take("demo", TRUCK, stream, fix)
        assert [each["reason"] for each in again.verdicts] == ["same_time"]
        node.log.fail_next("unavailable", "keep")  # type: ignore[attr-defined]
        with pytest.raises(Unavailable):
            await positions.take("demo", TRUCK, stream, fixes(mover.fix()))


async def test_what_waits_to_be_kept_is_bounded() -> None:
    """More is refused with a time to come back, over either way in, before it is judged."""
    async with tracking_node(replace(Limits(), samples_waiting_max=2)) as (node, _):
        positions, stream, mover = positions_of(node), await known(node), Mover()
        with pytest.raises(WireError) as refused:
            await positions.take("demo", TRUCK, stream, fixes(*(mover.fix(9.0 - n) for n in range(3))))
        assert (refused.value.code, bool(refused.value.retry_after_s)) == ("overloaded", True)
        object.__setattr__(node.node.limits, "samples_waiting_max", -1)
        async with hello(node.url, TRUCK) as truck:
            assert (await send(truck, mover.fix()))["code"] == "overloaded"


async def test_one_connection_has_a_bound_of_its_own() -> None:
    """Messages unanswered count with its sends."""
    async with tracking_node() as (node, _), hello(node.url, TRUCK) as truck:
        [connection] = node.node.shard.connections.values()
        connection.inflight = node.limits.inflight_sends_per_connection_max
        assert (await send(truck, Mover().fix()))["code"] == "rate_limited"
        connection.inflight = 0


async def test_the_newest_of_any_kind_is_shown() -> None:
    """What is older than what is shown is not; what is as old takes its place."""
    async with tracking_node() as (node, _), hello(node.url, streams={TRIP: {}}) as amy:
        positions, stream, now_s = positions_of(node), await known(node), time.time()
        positions.show(stream, "eta", "service:eta", 1, now_s)
        assert (await amy.next("signal", kind="eta"))["value"] == 1
        positions.show(stream, "eta", "service:eta", 2, now_s - 1)
        await until(lambda: not positions.showing._dirty.is_set())
        await settled(amy)
        assert len([frame for frame in amy.seen if frame.get("kind") == "eta"]) == 1
        positions.show(stream, "eta", "service:eta", 3, now_s)
        assert (await amy.next("signal", kind="eta"))["value"] == 3
        gone = Stream("demo", "trip:8", 99, 0, 0, 1, open=True)
        positions.show(gone, "eta", "service:eta", 4, now_s)
        positions.showing.moved(gone, TRUCK, [Place(0, 1.0, 2.0)])
        assert not positions.showing.live.get(gone, TRUCK)


async def test_a_stream_shows_so_many() -> None:
    """The one heard of longest ago goes, and who follows is told so."""
    async with tracking_node(replace(Limits(), shown_per_stream_max=2)) as (node, _):
        async with hello(node.url, streams={TRIP: {}}) as amy:
            mover = Mover()
            for number, ago_s in enumerate((9.0, 5.0, 1.0)):
                async with hello(node.url, f"device:d{number}") as client:
                    await send(client, mover.fix(ago_s))
            gone = await amy.next("signal", kind="position", by="device:d0", value=None)
            assert gone["age"] == 0.0
        async with hello(node.url, "user:bob", {TRIP: {}}) as bob:
            await bob.next("signal", kind="position", by="device:d2")
            await settled(bob)
            assert {frame["by"] for frame in bob.seen if frame.get("kind") == "position"} == {"device:d1", "device:d2"}


async def test_of_very_many_the_newest_are_read() -> None:
    """And no trail of those who are not shown: of a stream with thousands each was read, shown, and taken back."""
    async with tracking_node(replace(Limits(), shown_per_stream_max=2)) as (node, tracks):
        mover = Mover()
        for number, ago_s in enumerate((1.0, 9.0, 2.0, 8.0)):
            async with hello(node.url, f"device:d{number}") as client:
                await send(client, mover.fix(ago_s))
        await node.restart()
        track, read = tracks.track, list[str | None]()

        async def tracked(*args: Any, **kwargs: Any) -> Any:
            read.append(kwargs["subject"])
            return await track(*args, **kwargs)

        tracks.track = tracked  # type: ignore[method-assign]
        async with hello(node.url, streams={TRIP: {}}) as amy:
            await amy.next("signal", kind="position", by="device:d0")
            await amy.next("signal", kind="position", by="device:d2")
            await settled(amy)
            assert None not in [frame["value"] for frame in amy.seen if frame.get("kind") == "position"]
        assert read == ["device:d0", "device:d2"]


async def test_what_waits_for_the_bus_is_told_when_it_is_back() -> None:
    """A node alone lost the bus while a truck came to its stop. The others had it all the time, knew of nothing missed, and
    showed where it had been before, until it moved again."""
    broker = MemoryBroker()
    async with tracking_cluster(broker=broker) as (nodes, _):
        mover, here = Mover(), positions_of(nodes[0]).showing
        cluster = nodes[0].node.cluster
        assert cluster is not None
        bus: Any = cluster.bus
        async with hello(nodes[0].url, TRUCK) as truck, hello(nodes[1].url, streams={TRIP: {}}) as amy:
            await send(truck, mover.fix(9.0))
            await amy.next("signal", kind="position")
            bus._turn = lambda: None
            bus._set_trouble("planted")
            for ago_s in (5.0, 2.0):
                await send(truck, fix := mover.fix(ago_s))
            await until(lambda: not here._dirty.is_set())
            [waiting] = here._untold.values()
            assert len(waiting) == 1
            del bus._turn
            bus._wake.set()
            assert (await amy.next("signal", kind="position"))["value"]["at"] == fix["at"]
            assert not here._untold
            bus._turn = lambda: None
            bus._set_trouble("planted")
            await send(truck, mover.fix())
            here.let_go(nodes[0].node.hub.by_name["demo", TRIP])
            assert not here._untold, "nothing of streams that are let go"
            del bus._turn


async def test_a_trail_that_is_read_while_a_subject_moves_lies_before_what_it_does() -> None:
    """Who was there is told of it once, for it came before the trail did."""
    async with tracking_node() as (node, tracks):
        mover, shown, moved = Mover(), tracks.shown, trio.Event()
        async with hello(node.url, TRUCK) as truck:
            await send(truck, *(mover.fix(30.0 - step) for step in range(5)))
        await node.restart()
        fails = [Unavailable("planted", 0.1)]

        async def later(tenant: str, stream: str) -> list[Last]:
            last = await shown(tenant, stream)
            await moved.wait()
            if fails:
                raise fails.pop()
            return last

        tracks.shown = later  # type: ignore[method-assign]
        async with hello(node.url, streams={TRIP: {}}) as amy, hello(node.url, TRUCK) as truck:
            await send(truck, mover.fix())
            await amy.next("signal", kind="position")
            moved.set()
            points = (await amy.next("signal", kind="trail"))["value"]["points"]
            assert len(points) == 6
            assert points == sorted(points)


async def test_what_the_bus_brings_is_checked() -> None:
    """What is no payload of ours counts as malformed; of streams that nobody follows here nothing is kept."""
    async with tracking_cluster() as (nodes, _):
        stream = await known(nodes[1])
        cluster, showing = nodes[1].node.cluster, positions_of(nodes[1]).showing
        assert cluster is not None
        before = cluster.malformed
        cluster._latest(b"{}")
        assert cluster.malformed == before + 1
        [payload] = encode("elsewhere", [Told(10**6, "position", TRUCK, 1, Place(1, 1.0, 2.0))])
        assert showing.hear(payload)
        [own] = encode(nodes[1].node.node_id, [Told(stream.sid, "position", TRUCK, 1, Place(1, 1.0, 2.0))])
        assert showing.hear(own)
        assert (showing.heard, len(showing.live)) == (0, 0)


async def test_who_sent_to_another_node_is_judged_by_what_that_one_knew() -> None:
    """A device that comes back is not held to what was remembered of it before it went."""
    async with tracking_cluster() as (nodes, _):
        mover = Mover()
        async with hello(nodes[0].url, TRUCK) as here, hello(nodes[1].url, TRUCK) as there:
            await known(nodes[0])
            partition = nodes[0].node.hub.by_name["demo", TRIP].partition
            await until(lambda: nodes[0].node.cluster.listens_to([f"live:{partition}"]))  # type: ignore[union-attr]
            await send(here, mover.fix(60.0))
            moved = mover.fix(40.0)
            await send(there, moved)
            await until(lambda: not len(positions_of(nodes[0]).books))
            answer = await send(here, {**moved, "seq": 99})
            assert [each.get("reason") for each in answer["verdicts"]] == ["same_time"]


async def test_a_stream_that_is_let_go_is_read_again() -> None:
    """With nobody in it for long it leaves the memory, and its last positions come back with who comes."""
    async with tracking_node(replace(Limits(), stream_idle_s=0.0, presence_grace_s=0.0)) as (node, _):
        fix = Mover().fix()
        async with hello(node.url, TRUCK) as truck:
            await send(truck, fix)
        showing = positions_of(node).showing

        def let_go() -> bool:
            node.node.hub.signals.tick(float("inf"))
            node.node.hub.evict(float("inf"))
            return not len(showing.live)

        await until(let_go)
        async with hello(node.url, streams={TRIP: {}}) as amy:
            assert (await amy.next("signal", kind="position"))["value"]["at"] == fix["at"]
