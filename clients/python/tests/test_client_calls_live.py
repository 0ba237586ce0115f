"""Sends, reads and things said in passing, over real sockets against a scripted server that cuts and refuses."""

from __future__ import annotations

import math
import random

import pytest
import trio
import trio.testing
from fake_readback import FakeServer, Frame, Link
from trio.testing import MockClock

from readback_client import (
    BadRequest,
    Closed,
    Conflict,
    Forbidden,
    Limits,
    Mark,
    Presence,
    Rejected,
    Signal,
    Signals,
    TimedOut,
    TooLarge,
    Typing,
    Unavailable,
    WireError,
    connect,
)

KEY = "0b9d6b2e-3c1f-4a7e-9f64-1f2a3b4c5d6e"


async def test_a_send_answers_its_seq(autojump_clock: MockClock, server: FakeServer) -> None:
    """Committed, numbered, and the same key a second time is the same event."""
    async with connect(server.url, "t") as rb:
        sent = await rb.send("chat:ops", {"text": "hi"}, key=KEY.upper())
        assert (sent.seq, sent.dup, sent.at.year) == (1, False, 2026)
        again = await rb.send("chat:ops", {"text": "hi"}, key=KEY)
        assert (again.seq, again.dup) == (1, True)
        assert rb.principal == "user:amy"


async def test_a_command_answers_the_seqs_of_what_it_became(autojump_clock: MockClock, server: FakeServer) -> None:
    """Several events of one command, and the same answer when it is repeated, over a connection that was cut amid it."""
    cut = True

    async def unreliable(link: Link, frame: Frame) -> None:
        nonlocal cut
        if cut:
            cut = False
            await link.ws._stream.aclose()
        else:
            await server.op_command(link, frame)

    server.takeovers["command"] = unreliable
    async with connect(server.url, "t") as rb:
        done = await rb.command("flight:QX1", "both", {"at": "…"}, key=KEY)
        assert (done.seqs, done.dup, done.at.year) == ((1, 2), False, 2026)
        again = await rb.command("flight:QX1", "both", key=KEY, expect=0)
        assert (again.seqs, again.dup) == ((1, 2), True)


async def test_a_refused_command_says_why(autojump_clock: MockClock, server: FakeServer) -> None:
    """`Rejected`, with the machine's reason and the paragraph, and whether it had been refused before."""
    async with connect(server.url, "t") as rb:
        for dup in (False, True):
            with pytest.raises(Rejected) as refused:
                await rb.command("flight:QX1", "refuse", key=KEY)
            assert (refused.value.reason, refused.value.cite, refused.value.dup) == ("over_duty", "CAO 48.1", dup)


async def test_rows_are_signals_of_their_own_key(autojump_clock: MockClock, server: FakeServer) -> None:
    """A board's row is of a flight and of nobody; the latest of each is what a slow reader gets."""
    async with connect(server.url, "t") as rb:
        signals = rb.signals("flight:board")
        await rb.ready()
        [link] = server.links
        for flight, value in (("QX1", {"n": 1}), ("QX2", {"n": 1}), ("QX1", {"n": 2}), ("QX2", None)):
            await link.say(op="signal", stream="flight:board", kind="row", key=flight, value=value, age=0.0)
        await rb.presence("flight:board")
        got = [await signals.__anext__() for _ in range(2)]
        rows = [(row.key, row.by, row.value) for row in got if isinstance(row, Signal)]
        assert rows == [("QX1", "", {"n": 2}), ("QX2", "", None)]


async def test_sends_in_flight_land_once_over_cuts(autojump_clock: MockClock, server: FakeServer) -> None:
    """Two hundred sends from two hundred tasks while the connection keeps dying: each lands exactly once."""
    seqs: list[int] = []
    rng = random.Random(3)

    async def unreliable(link: Link, frame: Frame) -> None:
        if rng.random() < 0.05:  # committed, but the answer is lost with the connection
            if frame["key"] not in server.keys:
                server.keys[frame["key"]] = await server.append(frame["stream"], body=frame["body"])
            await link.ws._stream.aclose()
        elif rng.random() < 0.05:  # the connection dies before the commit
            await link.ws._stream.aclose()
        else:
            await server.op_send(link, frame)

    server.takeovers["send"] = unreliable
    async with connect(server.url, "t", rng=random.Random(5)) as rb, trio.open_nursery() as nursery:

        async def send(n: int) -> None:
            seqs.append((await rb.send("chat:ops", {"n": n}, timeout_s=600)).seq)

        for n in range(200):
            nursery.start_soon(send, n)
    assert sorted(seqs) == list(range(1, 201))
    assert sorted(event["body"]["n"] for event in server.streams["chat:ops"]) == list(range(200))
    assert len(server.all_links) > 3


async def test_pipelined_sends_keep_their_order(autojump_clock: MockClock, server: FakeServer) -> None:
    """Calls are written in the order in which they were made, window or not, and again after a cut."""
    async with connect(server.url, "t", limits=Limits(calls_in_flight_max=4)) as rb, trio.open_nursery() as nursery:
        await rb.ready()
        await server.cut()
        for n in range(20):
            nursery.start_soon(rb.send, "chat:ops", {"n": n})
            await trio.testing.wait_all_tasks_blocked()
    assert [event["body"]["n"] for event in server.streams["chat:ops"]] == list(range(20))


@pytest.mark.parametrize("code", ["unavailable", "overloaded", "rate_limited", "internal"])
async def test_what_heals_is_retried_with_the_same_key(
    autojump_clock: MockClock, server: FakeServer, code: str
) -> None:
    """``retry_after`` is a floor, and the key never changes."""
    server.refuse("send", code, times=2, retry_after=2.0)
    async with connect(server.url, "t") as rb:
        await rb.ready()
        began = trio.current_time()
        assert (await rb.send("chat:ops", {"text": "hi"})).seq == 1
        assert trio.current_time() - began >= 4.0
        assert rb.stats.retries == 2
    assert len({frame["key"] for frame in server.received("send")}) == 1


async def test_what_does_not_heal_is_raised_at_once(autojump_clock: MockClock, server: FakeServer) -> None:
    """One exception class a code; a conflict says the head; a code unknown to this version is still clear."""
    async with connect(server.url, "t") as rb:
        server.refuse("send", "forbidden")
        with pytest.raises(Forbidden, match="send refused"):
            await rb.send("chat:ops", {})
        server.refuse("send", "conflict", head=41)
        with pytest.raises(Conflict) as conflict:
            await rb.send("chat:ops", {}, expect=7)
        assert conflict.value.head == 41
        assert server.received("send")[-1]["expect"] == 7
        server.refuse("send", "bad_request")
        with pytest.raises(BadRequest):
            await rb.send("chat:ops", {})
        server.refuse("send", "from_the_future")
        with pytest.raises(WireError, match="from_the_future"):
            await rb.send("chat:ops", {})


async def test_too_large_never_leaves_the_client(autojump_clock: MockClock, server: FakeServer) -> None:
    """A frame past the server's limit would cost the whole connection, so it is refused here."""
    async with connect(server.url, "t") as rb:
        with pytest.raises(TooLarge, match="65536"):
            await rb.send("chat:ops", {"text": "x" * 70_000})
        assert (await rb.send("chat:ops", {"text": "ok"})).seq == 1
    assert len(server.received("send")) == 1


async def test_bad_input_is_refused_in_words(autojump_clock: MockClock, server: FakeServer) -> None:
    """Names, keys and bodies that the wire cannot say raise before anything is sent."""
    async with connect(server.url, "t") as rb:
        with pytest.raises(ValueError, match="no such number"):
            await rb.send("chat:ops", {"deep": [{"x": math.nan}]})
        with pytest.raises(TypeError, match="mapping"):
            await rb.send("chat:ops", ["a"])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="written as JSON"):
            await rb.send("chat:ops", {"x": object()})
        with pytest.raises(ValueError, match="UUID"):
            await rb.send("chat:ops", {}, key="mine")
        with pytest.raises(ValueError, match="stream name"):
            await rb.send("chat:", {})
        with pytest.raises(ValueError, match="presence is one of"):
            rb.set_presence("chat:ops", "asleep")
    assert server.received("send") == []


async def test_the_deadline_says_what_is_known(autojump_clock: MockClock, server: FakeServer) -> None:
    """`TimedOut` carries the key to repeat with and the server's last word; the call is forgotten."""

    async def silent(link: Link, frame: Frame) -> None: ...

    async with connect(server.url, "t") as rb:
        server.takeovers["send"] = silent
        with pytest.raises(TimedOut, match="send on chat:ops") as timed_out:
            await rb.send("chat:ops", {}, key=KEY, timeout_s=3)
        assert (timed_out.value.key, timed_out.value.last) == (KEY, None)
        del server.takeovers["send"]
        server.refuse("send", "unavailable", times=99)
        with pytest.raises(TimedOut, match="send refused") as timed_out:
            await rb.send("chat:ops", {}, timeout_s=3)
        assert isinstance(timed_out.value.last, Unavailable)
        server.refusals["send"].clear()
        assert (await rb.send("chat:ops", {}, key=KEY)).seq == 1


async def test_history_and_presence(autojump_clock: MockClock, server: FakeServer) -> None:
    """Pages are events in order; a read is retried over a cut like a send."""
    for _ in range(9):
        await server.append("chat:ops")
    async with connect(server.url, "t") as rb:
        page = await rb.history("chat:ops", before=8, limit=3)
        assert ([event.seq for event in page.events], page.first) == ([5, 6, 7], 1)
        assert [event.seq for event in (await rb.history("chat:ops", limit=2)).events] == [8, 9]
        await server.cut()
        roster = await rb.presence("chat:ops")
        assert (roster.count, roster.online[0].by, roster.online[0].devices) == (1, "user:amy", 2)

        async def nonsense(link: Link, frame: Frame) -> None:
            await link.say(op="ok", id=frame["id"], events="none")

        server.takeovers["history"] = nonsense
        with pytest.raises(WireError, match="cannot be read"):
            await rb.history("chat:ops")


async def test_marks_are_gathered_and_survive_a_cut(autojump_clock: MockClock, server: FakeServer) -> None:
    """A thousand marks are few frames, the highest wins, and what was unanswered is said again."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        for seq in range(1, 1001):
            rb.mark("chat:ops", delivered=seq, read=max(seq - 1, 0))
        await server.until(lambda: server.received("mark"))
        (mark,) = server.received("mark")
        assert (mark["delivered"], mark["read"]) == (1000, 999)
        await server.cut()
        rb.mark("chat:ops", read=5)
        rb.mark("chat:ops", read=1000)
    assert server.received("mark")[-1]["read"] == 1000


async def test_the_last_mark_leaves_before_the_block_does(autojump_clock: MockClock, server: FakeServer) -> None:
    """Leaving the block flushes marks that were still being gathered."""
    async with connect(server.url, "t") as rb:
        await rb.ready()
        rb.mark("chat:ops", read=3)
    assert [mark["read"] for mark in server.received("mark")] == [3]


async def test_typing_is_paced_and_never_stale(autojump_clock: MockClock, server: FakeServer) -> None:
    """Many keystrokes are one frame in three seconds; off is said once; offline it is not kept for later."""
    async with connect(server.url, "t") as rb:
        rb.typing("chat:ops")
        await rb.ready()
        for _ in range(50):
            rb.typing("chat:ops")
            await trio.sleep(0.1)
        rb.typing("chat:ops", False)
        rb.typing("chat:ops", False)
        await server.until(lambda: len(server.received("signal")) == 3)
    assert [frame["value"] for frame in server.received("signal")] == [True, True, False]


async def test_away_is_said_again_to_every_node(autojump_clock: MockClock, server: FakeServer) -> None:
    """A new connection counts as online, so a client that is away repeats it."""
    async with connect(server.url, "t") as rb:
        rb.set_presence("chat:ops", "away")
        await server.until(lambda: len(server.received("signal")) == 1)
        await server.cut()
        await server.until(lambda: len(server.received("signal")) == 2)
        rb.set_presence("chat:ops", "online")
        await server.until(lambda: len(server.received("signal")) == 3)
        await server.cut()
        await rb.ready()
        await rb.presence("chat:ops")
    assert [frame["value"] for frame in server.received("signal")] == ["away", "away", "online"]


async def _next(signals: Signals, count: int) -> list[object]:
    return [await signals.__anext__() for _ in range(count)]


async def test_signals_are_typed_and_conflated(autojump_clock: MockClock, server: FakeServer) -> None:
    """A slow reader gets the newest under each key; typing goes off by itself; a stream need not be read for it."""
    async with connect(server.url, "t") as rb:
        with rb.signals("chat:ops") as signals:
            await server.until(lambda: server.links and "chat:ops" in server.links[0].subs)
            (link,) = server.links
            said = {"op": "signal", "stream": "chat:ops", "by": "user:bob", "age": 0.5}
            await link.say(**said, kind="presence", value="online")
            await link.say(**said, kind="presence", value="away")
            for read in (3, 5):
                await link.say(op="mark", stream="chat:ops", by="user:bob", delivered=7, read=read)
            await link.say(**said, kind="eta", value={"stop": "A4"})
            await link.say(**said, kind="typing", value=True)
            await server.append("chat:ops")  # no reader: dropped without harm
            await rb.presence("chat:ops")  # an answer behind them all: they have arrived
            assert await _next(signals, 4) == [
                Presence("chat:ops", "user:bob", "away", 0.5),
                Mark("chat:ops", "user:bob", 7, 5),
                Signal("chat:ops", "eta", "user:bob", {"stop": "A4"}, 0.5),
                Typing("chat:ops", "user:bob", True, 0.5),
            ]
            assert await _next(signals, 1) == [Typing("chat:ops", "user:bob", False, 0.0)]
        with pytest.raises(StopAsyncIteration):
            await signals.__anext__()
        await server.until(lambda: server.received("unsub"))


async def test_after_the_block_everything_says_closed(autojump_clock: MockClock, server: FakeServer) -> None:
    """A client kept past its block refuses plainly, and a task that still waited is told."""
    outcomes: list[Exception] = []

    async def late() -> None:
        try:
            await rb.send("chat:ops", {})
        except Closed as error:
            outcomes.append(error)

    async def silent(link: Link, frame: Frame) -> None: ...

    server.takeovers["send"] = silent
    async with trio.open_nursery() as nursery, connect(server.url, "t") as rb:
        nursery.start_soon(late)
        await server.until(lambda: server.received("send"))
    assert len(outcomes) == 1
    for attempt in (
        lambda: rb.subscribe("chat:ops"),
        lambda: rb.signals("chat:ops"),
        lambda: rb.mark("chat:ops", read=1),
    ):
        with pytest.raises(Closed):
            attempt()
    with pytest.raises(Closed):
        await rb.send("chat:ops", {})
