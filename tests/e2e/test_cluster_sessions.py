"""Sessions among nodes: resumed anywhere, spoken for by one connection, whether the bus is there or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from core.limits import Limits
from store.memory_bus import MemoryBroker
from tests.nodes import bus_away, serving_cluster, token, until
from tests.wire_client import Frame, WireClient, hello, wire_client


async def resume(client: WireClient, welcome: Frame, **fields: Any) -> Frame:
    return await client.ask("resume", **{"resume": welcome["resume"], "log": welcome["log"], "streams": {}, **fields})


async def test_a_session_is_resumed_on_another_node_and_on_the_first_again() -> None:
    """The client goes where it likes: each time it is the same session, with all events from its cursor on."""
    async with serving_cluster(2) as (a, b):
        await a.stream("chat:ops")
        async with hello(a.url, "user:amy", {"chat:ops": {}}) as amy:
            first = amy.seen[0]
            await amy.send("chat:ops", "one")
        async with wire_client(b.url) as amy:
            second = await resume(amy, first, streams={"chat:ops": 0})
            assert (second["resumed"], second["session"]) == (True, first["session"])
            assert (await amy.next("event"))["seq"] == 1
            await amy.send("chat:ops", "two")
        async with wire_client(a.url) as amy:
            third = await resume(amy, second, streams={"chat:ops": 1})
            assert (third["resumed"], third["session"]) == (True, first["session"])
            assert (await amy.next("event"))["seq"] == 2


async def test_the_newer_connection_wins_at_once_on_any_node() -> None:
    """The older connection, on the other node, is told that it is superseded and need not come back."""
    async with serving_cluster(3) as (a, b, c):
        async with hello(a.url) as old, wire_client(b.url) as newer, wire_client(c.url) as newest:
            second = await resume(newer, old.seen[0])
            assert (await old.closed())[0] == 4504
            assert (await old.next("bye"))["code"] == "superseded"
            await resume(newest, second)
            assert (await newer.closed())[0] == 4504
            assert (await newest.ask("ping"))["op"] == "pong"
        assert (a.node.claims.elsewhere, b.node.claims.elsewhere, c.node.claims.elsewhere) == (1, 1, 0)  # type: ignore[union-attr]


async def test_a_used_token_is_dead_on_every_node() -> None:
    """Also on one that has never seen the session; the refused client may say hello on the same connection."""
    async with serving_cluster(3) as (a, b, c):
        async with hello(a.url) as amy:
            first = amy.seen[0]
        async with wire_client(b.url) as amy:
            await resume(amy, first)
            async with wire_client(c.url) as thief:
                refused = await resume(thief, first)
                assert (refused["code"], refused["message"]) == ("resume_rejected", "used before")
                assert (await thief.ask("hello", token=token()))["op"] == "welcome"
            assert (await amy.ask("ping"))["op"] == "pong"


async def test_two_nodes_and_one_token_have_one_winner() -> None:
    """Both ask at the same moment, many times over: one is welcomed, the other refused."""
    async with serving_cluster(2) as (a, b):
        await a.stream("chat:ops")
        for _ in range(10):
            async with hello(a.url) as amy:
                welcome = amy.seen[0]
            async with wire_client(a.url) as one, wire_client(b.url) as two:
                answers: list[str] = []

                async def race(client: WireClient, welcome: Frame = welcome, answers: list[str] = answers) -> None:
                    answers.append((await resume(client, welcome, streams={"chat:ops": 0}))["op"])

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(race, one)
                    nursery.start_soon(race, two)
                assert sorted(answers) == ["error", "welcome"]


async def test_a_token_is_not_used_up_where_the_log_is_away() -> None:
    """The node could not say where the streams stand, so it did not resume: the same token is good elsewhere."""
    async with serving_cluster(2) as (a, b):
        await a.stream("chat:ops")
        async with hello(a.url) as amy:
            first = amy.seen[0]
        a.log.fail_next("unavailable", "open_streams")  # type: ignore[attr-defined]
        async with wire_client(b.url) as amy:
            await amy.say("resume", resume=first["resume"], log=first["log"], streams={"chat:ops": 0})
            assert (await amy.closed())[0] == 4006
        async with wire_client(b.url) as amy:
            assert (await resume(amy, first, streams={"chat:ops": 0}))["op"] == "welcome"


async def test_without_the_bus_resumes_go_on_and_later_agree() -> None:
    """Both nodes took the same token meanwhile. Back again, the one with the higher id keeps the session, and only it."""
    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as (a, b):
        async with hello(a.url) as amy:
            first = amy.seen[0]
        await bus_away(broker, (a, b))
        async with wire_client(a.url) as one, wire_client(b.url) as two:
            assert (await resume(one, first))["op"] == "welcome"
            assert (await resume(two, first))["op"] == "welcome"
            assert (await one.ask("ping"))["op"] == "pong"
            broker.down = False
            assert (await one.closed())[0] == 4504  # of the nodes "a.1" and "b.1" the second is the higher
            await until(lambda: not a.node.claims._kept and not b.node.claims._kept)  # type: ignore[union-attr]
            assert (await two.ask("ping"))["op"] == "pong"
            async with wire_client(a.url) as thief:
                assert (await resume(thief, first))["code"] == "resume_rejected"


async def test_more_resumes_win_over_fewer_when_the_bus_is_back() -> None:
    """Twice resumed on one node, once on the other: the newest token's connection stays, whatever its node."""
    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as (a, b):
        async with hello(a.url) as amy:
            first = amy.seen[0]
        await bus_away(broker, (a, b))
        async with wire_client(a.url) as one, wire_client(b.url) as two:
            second = await resume(one, first)
            await resume(two, first)
            async with wire_client(a.url) as again:
                assert (await resume(again, second))["op"] == "welcome"
                broker.down = False
                assert (await two.closed())[0] == 4504
                assert (await again.ask("ping"))["op"] == "pong"


async def test_a_takeover_that_was_not_heard_is_found_when_hearing_again() -> None:
    """The message was lost with the bus; coming back, a node asks for its sessions and lets go of what was taken over."""
    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as (a, b), hello(a.url) as old, wire_client(b.url) as newer:
        broker.lose = lambda channel, payload: channel == "sessions"
        second = await resume(newer, old.seen[0])
        assert second["op"] == "welcome"
        await wait_all_tasks_blocked(0.01)
        assert (await old.ask("ping"))["op"] == "pong"
        broker.down = True
        await until(lambda: not a.hears)
        broker.down = False
        assert (await old.closed())[0] == 4504
        assert (await newer.ask("ping"))["op"] == "pong"


async def test_a_bus_that_came_back_empty_is_told_what_was_used() -> None:
    """A Redis that lost its memory must not make old tokens good again."""
    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as (a, b):
        async with hello(a.url) as amy:
            first = amy.seen[0]
        async with wire_client(a.url) as amy:
            await resume(amy, first)
            broker.down = True
            await until(lambda: not a.hears)
            broker._numbers.clear()
            broker.down = False
            await until(lambda: bool(broker._numbers))
            async with wire_client(b.url) as thief:
                assert (await resume(thief, first))["code"] == "resume_rejected"


async def test_a_bus_that_does_not_answer_delays_a_resume_once(autojump_clock: MockClock) -> None:
    """It hangs without a word: the first waits its bounded time, those after it not at all; its claim is made later."""
    async with serving_cluster(1) as (a,):
        claims, bus = a.node.claims, a.bus
        assert claims is not None
        assert bus is not None
        answered = bus.raise_number

        async def hang(key: str, number: int, ttl_s: float) -> int:
            await trio.sleep_forever()
            raise AssertionError

        bus.raise_number = hang  # type: ignore[method-assign]
        began_s = trio.current_time()
        assert await claims.claim("s1", 2)
        assert trio.current_time() - began_s == 0.3  # by the mock clock
        assert await claims.claim("s2", 5)
        assert trio.current_time() - began_s == 0.3
        assert claims.unheard == 2
        bus.raise_number = answered  # type: ignore[method-assign]
        await trio.sleep(3)
        assert not claims._kept
        assert not await claims.claim("s1", 2)
        assert not await claims.claim("s2", 5)
        assert await claims.claim("s2", 6)


async def test_what_is_kept_for_the_bus_is_bounded() -> None:
    """Past the bound the oldest claim goes."""
    broker = MemoryBroker()
    async with serving_cluster(1, broker=broker, limits=replace(Limits(), claims_kept_max=2)) as (a,):
        claims = a.node.claims
        assert claims is not None
        broker.down = True
        await until(lambda: not a.hears)
        for n in range(3):
            assert await claims.claim(f"s{n}", 2)
        assert list(claims._kept) == ["s1", "s2"]
        assert b"readback_claims_kept 2" in a.desk.metrics_text()


async def test_a_node_without_a_bus_claims_nothing() -> None:
    """One node by itself resumes as before: no task, no wait."""
    async with serving_cluster(1) as (a,):
        a.node.claims = None
        async with hello(a.url) as amy:
            welcome = amy.seen[0]
        async with wire_client(a.url) as again:
            assert (await resume(again, welcome))["resumed"] is True
