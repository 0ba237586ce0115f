"""`connect` and `subscribe` against a scripted server over real sockets, with Trio's clock jumping over every wait."""

from __future__ import annotations

import random

import pytest
import trio
from fake_readback import FakeServer
from trio.testing import MockClock

from readback_client import (
    Cursors,
    Forbidden,
    Limits,
    MemoryCursorStore,
    NotFound,
    Online,
    Removed,
    StreamReset,
    Subscription,
    connect,
)


async def take(events: Subscription, count: int) -> list[int]:
    seqs: list[int] = []
    async for event in events:
        seqs.append(event.seq)
        if len(seqs) == count:
            break
    return seqs


async def test_events_follow_a_cursor_in_order(autojump_clock: MockClock, server: FakeServer) -> None:
    """Replayed and live events are one iteration, and each event carries everything the wire said."""
    for n in range(3):
        await server.append("chat:ops", body={"text": f"m{n}"})
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=1)
        assert await take(events, 2) == [2, 3]
        await server.append("chat:ops", body={"text": "live"})
        event = await events.__anext__()
        assert (event.stream, event.seq, event.type, event.by, event.text) == (
            "chat:ops", 4, "message", "user:bob", "live",
        )  # fmt: skip
        assert event.at.isoformat() == "2026-11-21T09:30:00+00:00"


async def test_last_and_head_starts(autojump_clock: MockClock, server: FakeServer) -> None:
    """``last=n`` begins n before the head; neither begins at the head."""
    for _ in range(5):
        await server.append("chat:ops")
        await server.append("chat:crew")
    async with connect(server.url, "t") as rb:
        assert await take(rb.subscribe("chat:ops", last=2), 2) == [4, 5]
        crew = rb.subscribe("chat:crew")
        await server.until(lambda: any("chat:crew" in link.subs for link in server.links))
        await server.append("chat:crew")
        assert await take(crew, 1) == [6]


async def test_cuts_lose_and_repeat_nothing(autojump_clock: MockClock, server: FakeServer) -> None:
    """Twenty cuts, some in the middle of a replay: every seq once, in order, by resume."""
    rng = random.Random(7)
    seen: list[int] = []
    async with connect(server.url, "t", rng=random.Random(1)) as rb, trio.open_nursery() as nursery:

        async def disturb() -> None:
            for _ in range(20):
                for _ in range(rng.randrange(1, 9)):
                    await server.append("chat:ops")
                await trio.sleep(rng.random())
                await server.cut()
            await server.append("chat:ops", body={"text": "last"})

        nursery.start_soon(disturb)
        async for event in rb.subscribe("chat:ops", after=0):
            seen.append(event.seq)
            if event.text == "last":
                break
        assert seen == list(range(1, len(server.streams["chat:ops"]) + 1))
        assert rb.stats.resumes > 0
        assert rb.stats.duplicates == rb.stats.gaps == 0


async def test_a_rejected_resume_becomes_a_hello_with_cursors(autojump_clock: MockClock, server: FakeServer) -> None:
    """The same connection says hello from the cursors held, and nothing is lost."""
    await server.append("chat:ops")
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=0)
        assert await take(events, 1) == [1]
        server.resumes.clear()
        await server.cut()
        await server.append("chat:ops")
        assert await take(events, 1) == [2]
        assert rb.stats.resumes_rejected == 1
        assert [frame["streams"] for frame in server.received("hello")][-1] == {"chat:ops": {"after": 1}}
        assert len(server.all_links) == 2


async def test_duplicates_are_dropped_and_gaps_refetched(autojump_clock: MockClock, server: FakeServer) -> None:
    """A server that repeats or skips costs a subscription, never the order."""
    for _ in range(6):
        await server.append("chat:ops")
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=0)
        assert await take(events, 6) == [1, 2, 3, 4, 5, 6]
        (link,) = server.links
        await link.say(op="event", stream="chat:ops", **server.streams["chat:ops"][3])
        for _ in range(2):  # committed, but the server forgets to tell the first
            server.streams["chat:ops"].append(
                {**server.streams["chat:ops"][0], "seq": len(server.streams["chat:ops"]) + 1}
            )
        await link.say(op="event", stream="chat:ops", **server.streams["chat:ops"][7])
        assert await take(events, 2) == [7, 8]
        assert (rb.stats.duplicates, rb.stats.gaps) == (1, 1)
        assert server.received("sub")[-1]["after"] == 6


async def test_a_server_that_keeps_skipping_is_left(autojump_clock: MockClock, server: FakeServer) -> None:
    """Gaps without progress end the connection, not the program, and do not spin."""

    async def broken_sub(link: object, frame: dict[str, object]) -> None:
        await link.say(op="ok", id=frame["id"], stream="chat:ops", head=9, after=0)  # type: ignore[attr-defined]
        await link.say(op="event", stream="chat:ops", seq=9, type="message", by="user:bob", at="2026-11-21T09:30:00Z")  # type: ignore[attr-defined]

    async with connect(server.url, "t") as rb:
        server.takeovers["sub"] = broken_sub
        await rb.ready()
        rb.subscribe("chat:ops", after=0)
        await server.until(lambda: len(server.all_links) == 2)
        assert rb.stats.gaps == 4


async def test_a_slow_reader_parks_its_stream_and_nobody_waits(autojump_clock: MockClock, server: FakeServer) -> None:
    """A full buffer leaves the stream on the server; another stream goes on; emptied, it is taken up where it was."""
    limits = Limits(buffer_events_max=8)
    async with connect(server.url, "t", limits=limits) as rb:
        slow = rb.subscribe("chat:slow", after=0)
        brisk = rb.subscribe("chat:brisk", after=0)
        await rb.ready()
        for _ in range(50):
            await server.append("chat:slow")
        await server.until(lambda: server.received("unsub"))
        await server.append("chat:brisk")
        assert await take(brisk, 1) == [1]
        assert len(slow.reader.queue) == 8
        assert await take(slow, 50) == list(range(1, 51))
        assert rb.stats.parked >= 1
        assert len(slow.reader.queue) <= 8


async def test_trimmed_history_raises_and_a_new_start_works(autojump_clock: MockClock, server: FakeServer) -> None:
    """A reset ends the iteration with what is kept; subscribing again from there goes on."""
    for _ in range(9):
        await server.append("chat:ops")
    server.trimmed["chat:ops"] = 6
    async with connect(server.url, "t") as rb:
        with pytest.raises(StreamReset) as raised:
            await take(rb.subscribe("chat:ops", after=2), 1)
        assert (raised.value.reason, raised.value.first, raised.value.head) == ("trimmed", 6, 9)
        assert await take(rb.subscribe("chat:ops", after=5), 4) == [6, 7, 8, 9]


async def test_another_epoch_resets_every_cursor(autojump_clock: MockClock, server: FakeServer) -> None:
    """A restored log ends readers with `StreamReset` and never replays against old seqs."""
    await server.append("chat:ops")
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=0)
        assert await take(events, 1) == [1]
        server.log = "epoch-2"
        server.streams["chat:ops"].clear()
        await server.cut()
        with pytest.raises(StreamReset, match="epoch"):
            await events.__anext__()
        await server.append("chat:ops")
        assert await take(rb.subscribe("chat:ops", after=0), 1) == [1]


@pytest.mark.parametrize("early", [True, False])
async def test_a_stream_of_somebody_else_is_forbidden(
    autojump_clock: MockClock, server: FakeServer, early: bool
) -> None:
    """Refused alike in the welcome and in a later sub; other streams go on."""
    server.forbidden.add("chat:secret")
    await server.append("chat:ops")
    async with connect(server.url, "t") as rb:
        if not early:
            await rb.ready()
        secret, ops = rb.subscribe("chat:secret"), rb.subscribe("chat:ops", after=0)
        with pytest.raises(Forbidden):
            await secret.__anext__()
        assert await take(ops, 1) == [1]


async def test_removal_ends_the_stream_alone(autojump_clock: MockClock, server: FakeServer) -> None:
    """Told that it was removed, a reader raises `Removed` after the events before."""
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops", after=0)
        await server.until(lambda: any("chat:ops" in link.subs for link in server.links))
        seq = await server.append("chat:ops", type="member.left", body={"principal": "user:amy"})
        await server.links[0].say(op="unsub", stream="chat:ops", reason="removed", seq=seq)
        assert await take(events, 1) == [seq]
        with pytest.raises(Removed):
            await events.__anext__()


async def test_a_refusal_that_heals_is_asked_again(autojump_clock: MockClock, server: FakeServer) -> None:
    """``unavailable`` on a sub is obeyed and repeated; ``not_found`` is raised."""
    await server.append("chat:ops")
    async with connect(server.url, "t") as rb:
        await rb.ready()
        server.refuse("sub", "unavailable", times=2, retry_after=3.0)
        before = trio.current_time()
        assert await take(rb.subscribe("chat:ops", after=0), 1) == [1]
        assert trio.current_time() - before >= 6.0  # the mock clock: the server's own wish was obeyed
        server.refuse("sub", "not_found")
        with pytest.raises(NotFound):
            await take(rb.subscribe("chat:none"), 1)


async def test_one_iteration_a_stream(autojump_clock: MockClock, server: FakeServer) -> None:
    """A second reader of a stream is refused plainly; after a close the stream is free, and the server was told."""
    async with connect(server.url, "t") as rb:
        with rb.subscribe("chat:ops", after=0):
            with pytest.raises(ValueError, match="being read already"):
                rb.subscribe("chat:ops")
            await server.until(lambda: any("chat:ops" in link.subs for link in server.links))
        await server.until(lambda: server.received("unsub"))
        await server.append("chat:ops")
        assert await take(rb.subscribe("chat:ops", after=0), 1) == [1]
        for bad in ({"after": -1}, {"last": True}, {"after": 1, "last": 1}):
            with pytest.raises(ValueError):
                rb.subscribe("chat:other", **bad)
        with pytest.raises(ValueError, match="stream name"):
            rb.subscribe("ops")


async def test_closing_wakes_the_task_that_waits(autojump_clock: MockClock, server: FakeServer) -> None:
    """A loop in one task ends when another closes its subscription."""
    async with connect(server.url, "t") as rb:
        events = rb.subscribe("chat:ops")
        ended = trio.Event()

        async def loop() -> None:
            async for _ in events:
                raise AssertionError("there is nothing to read")
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop)
            await rb.ready()
            events.close()
        assert ended.is_set()


async def test_a_store_goes_on_where_the_loop_was_done(autojump_clock: MockClock, server: FakeServer) -> None:
    """The event in hand at the end is repeated next time, those before it are not; `settle` counts it as done."""
    store = MemoryCursorStore()
    for _ in range(5):
        await server.append("chat:ops")
    async with connect(server.url, "t", store=store) as rb:
        assert await take(rb.subscribe("chat:ops", after=0), 3) == [1, 2, 3]
    assert store.cursors == Cursors("epoch-1", {"chat:ops": 2})
    async with connect(server.url, "t", store=store) as rb:
        events = rb.subscribe("chat:ops")
        assert await take(events, 2) == [3, 4]
        events.settle()
    assert store.cursors.streams == {"chat:ops": 4}


async def test_stored_cursors_of_another_epoch_are_no_silent_jump(
    autojump_clock: MockClock, server: FakeServer
) -> None:
    """Both a reader opened before the welcome and one opened after it are told."""
    store = MemoryCursorStore(Cursors("epoch-0", {"chat:ops": 4, "chat:crew": 7}))
    await server.append("chat:ops")
    async with connect(server.url, "t", store=store) as rb:
        early = rb.subscribe("chat:ops")
        with pytest.raises(StreamReset, match="epoch"):
            await early.__anext__()
        with pytest.raises(StreamReset, match="epoch"):
            await rb.subscribe("chat:crew").__anext__()
        assert await take(rb.subscribe("chat:ops", last=1), 1) == [1]
    assert store.cursors.log == "epoch-1"


async def test_many_streams_are_followed_past_one_frame(autojump_clock: MockClock, server: FakeServer) -> None:
    """A hello that would outgrow the server's frame leaves the rest to subs; all streams go live, also by resume."""
    names = [f"chat:{'n' * 90}-{n}" for n in range(300)]
    limits = Limits(hello_bytes_max=8_000)
    async with connect(server.url, "t", limits=limits) as rb:
        readers = [rb.subscribe(name, after=0) for name in names]
        for round_ in (1, 2):
            await server.until(lambda: server.links and len(server.links[0].subs) == 300)
            for name in names:
                await server.append(name)
            for reader in readers:
                assert await take(reader, 1) == [round_]
            await server.cut()
        assert len(server.received("hello")[0]["streams"]) < 300
        await rb.ready()
        assert isinstance(rb.state, Online)


class BrokenStore(MemoryCursorStore):
    """A disk that is full from now on."""

    async def save(self, cursors: Cursors) -> None:
        self.saves += 1
        raise OSError(28, "No space left on device")


async def test_cursors_are_saved_as_they_move(autojump_clock: MockClock, server: FakeServer) -> None:
    """Within a second, not only at the end; not again while nothing moves."""
    store = MemoryCursorStore()
    await server.append("chat:ops")
    async with connect(server.url, "t", store=store) as rb:
        events = rb.subscribe("chat:ops", after=0)
        assert await take(events, 1) == [1]
        events.settle()
        await trio.sleep(10)
        assert (store.cursors.streams, store.saves) == ({"chat:ops": 1}, 1)
        assert rb.cursors == store.cursors


async def test_a_store_that_cannot_save_is_told_at_the_end(autojump_clock: MockClock, server: FakeServer) -> None:
    """Tried at each interval, raised when the block is left; never in the way of the block's own error."""
    await server.append("chat:ops")

    async def run(store: BrokenStore, error: Exception | None) -> None:
        async with connect(server.url, "t", store=store) as rb:
            await take(rb.subscribe("chat:ops", after=0), 1)
            await trio.sleep(3.5)
            if error is not None:
                raise error

    store = BrokenStore()
    with pytest.raises(OSError, match="No space left"):
        await run(store, None)
    assert store.saves == 4
    with pytest.raises(LookupError, match="mine"):
        await run(BrokenStore(), LookupError("mine"))
