"""Tokens that end under a running program: providers that are slow, away, or broken, and connections that go on."""

# ruff: noqa: PT012  (what is expected to raise is the `async with` block as a whole)
from __future__ import annotations

import itertools

import pytest
import trio
from fake_readback import FakeServer
from trio.testing import MockClock

from readback_client import Forbidden, Unavailable, connect


def counted() -> tuple[list[str], object]:
    asked: list[str] = []

    async def token() -> str:
        asked.append(f"t{len(asked) + 1}")
        return asked[-1]

    return asked, token


async def test_a_connection_outlives_its_tokens(autojump_clock: MockClock, server: FakeServer) -> None:
    """Twenty minutes on tokens of five: one connection, one hello, no event missed."""
    server.life_s = 300.0
    asked, token = counted()
    async with connect(server.url, token) as rb:  # type: ignore[arg-type]
        events = rb.subscribe("chat:ops", after=0)
        await rb.ready()
        assert rb.token_ends_in_s == pytest.approx(300.0, abs=1.0)
        for n in range(1, 21):
            await trio.sleep(60)
            await server.append("chat:ops")
            assert (await events.__anext__()).seq == n
        assert rb.stats.refreshes == len(asked) - 1
        assert 4 <= rb.stats.refreshes <= 7
    assert server.tokens == asked
    assert len(server.all_links) == 1


async def test_a_fixed_token_and_an_older_server_are_left_alone(autojump_clock: MockClock, server: FakeServer) -> None:
    """Nothing is refreshed; of the first the end is known, and None once nobody is connected."""
    server.life_s = 100.0
    async with connect(server.url, "fixed") as rb:
        assert rb.token_ends_in_s is None
        await rb.ready()
        await trio.sleep(90)
        assert rb.token_ends_in_s == pytest.approx(10.0, abs=1.0)
    assert rb.token_ends_in_s is None
    server.life_s = None
    _, token = counted()
    async with connect(server.url, token) as rb:  # type: ignore[arg-type]
        await rb.ready()
        assert rb.token_ends_in_s is None
        await trio.sleep(400)
    assert not server.received("refresh")


async def test_reading_and_sending_go_on_while_a_token_is_fetched(
    autojump_clock: MockClock, server: FakeServer
) -> None:
    """A provider that hangs holds nobody up, and is let go when the token has ended."""
    server.life_s = 100.0
    calls = itertools.count()
    let_go = trio.Event()

    async def token() -> str:
        if next(calls):
            try:
                await trio.sleep_forever()
            finally:
                let_go.set()
        return "t"

    async with connect(server.url, token) as rb:
        events = rb.subscribe("chat:ops", after=0)
        await rb.ready()
        await trio.sleep(95)
        assert next(calls) == 2
        assert (await rb.send("chat:ops", {"text": "hi"})).seq == 1
        assert (await events.__anext__()).seq == 1
        assert not let_go.is_set()
        await trio.sleep(10)
        assert let_go.is_set()
        await trio.sleep(100)
        assert next(calls) == 3
    assert not server.received("refresh")


async def test_a_fetch_ends_with_its_connection(autojump_clock: MockClock, server: FakeServer) -> None:
    """The next connection resumes without it, and asks anew when it is due."""
    server.life_s = 100.0
    calls = itertools.count()
    begun, over = trio.Event(), trio.Event()

    async def token() -> str:
        if next(calls) == 1:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                over.set()
        return "t"

    async with connect(server.url, token) as rb:
        await rb.ready()
        await begun.wait()
        await server.cut()
        await over.wait()
        await server.until(lambda: server.received("resume"))
        await rb.ready()
        await server.until(lambda: server.received("refresh"))
        await trio.sleep(1)
        assert rb.stats.refreshes == 1
    assert len(server.received("hello")) == 1


async def test_a_provider_that_is_away_is_waited_for_and_a_broken_one_leaves_the_block(
    autojump_clock: MockClock, server: FakeServer
) -> None:
    """As at a hello."""
    server.life_s = 300.0
    calls = itertools.count()

    async def token() -> str:
        match next(calls):
            case 1 | 2:
                raise Unavailable(retry_after_s=10.0)
            case 4:
                raise KeyError("no such user")
        return "t"

    with pytest.raises(KeyError, match="no such user"):
        async with connect(server.url, token) as rb:
            await rb.ready()
            await server.until(lambda: server.received("refresh"))
            await trio.sleep(1)
            assert rb.stats.refreshes == 1
            await trio.sleep_forever()
    assert len(server.all_links) == 1


async def test_streams_that_end_with_the_new_token_are_told(autojump_clock: MockClock, server: FakeServer) -> None:
    """The iteration raises after what was still its; the others go on."""
    server.life_s = 300.0
    _, token = counted()
    async with connect(server.url, token) as rb:  # type: ignore[arg-type]
        theirs, mine = rb.subscribe("chat:theirs", after=0), rb.subscribe("chat:mine", after=0)
        await server.until(lambda: server.links and len(server.links[0].subs) == 2)
        await server.append("chat:theirs")
        server.forbidden.add("chat:theirs")
        await server.until(lambda: server.received("refresh"))
        assert (await theirs.__anext__()).seq == 1
        with pytest.raises(Forbidden):
            await theirs.__anext__()
        await server.append("chat:mine")
        assert (await mine.__anext__()).seq == 1
