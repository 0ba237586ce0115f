"""bench.gen.chat and bench.gen.link: who sends next, what an answer is worth, and from when a late send counts."""

from __future__ import annotations

import asyncio
import io
import sys
from typing import cast

import orjson
import pytest

from bench.gen import chat, link
from bench.gen.chat import Chatter, Talk
from bench.gen.dialect import Dialect
from bench.gen.link import TIMER_GRAIN_NS, Link, Window


class Room:
    """A connection that keeps what it was told to send."""

    def __init__(self, room: str) -> None:
        self.dialect = Dialect()
        self.room = room.encode()
        self.sent: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)


def talk(*rooms: Room) -> Talk:
    made = Talk(payload=60)
    made.conns = [cast(Chatter, room) for room in rooms]
    return made


def answer(ident: int) -> bytes:
    return b'{"op":"ok","id":%d,"stream":"chat:a","seq":1,"at":"x","dup":false}' % ident


def test_sends_go_round_the_connections() -> None:
    """Rooms share the load evenly, and every send has an id and a key of its own."""
    one, other = Room("chat:a"), Room("chat:b")
    made = talk(one, other)
    for moment in range(4):
        made.send_next(moment)
    sent = [orjson.loads(frame) for frame in one.sent + other.sent]
    assert [frame["stream"] for frame in sent] == ["chat:a", "chat:a", "chat:b", "chat:b"]
    assert [frame["id"] for frame in sent] == [1, 3, 2, 4]
    assert len({frame["key"] for frame in sent}) == 4
    assert made.sent == {1: 0, 2: 1, 3: 2, 4: 3}


def test_an_answer_is_counted_from_its_own_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers may come in any order; each latency belongs to its send."""
    made = talk(Room("chat:a"))
    made.send_next(1_000)
    made.send_next(5_000)
    monkeypatch.setattr(chat, "monotonic_ns", lambda: 9_000)
    made.answered(answer(2))
    made.answered(answer(1))
    assert made.acks == [4_000, 8_000]
    assert made.sent == {}


def test_in_a_closed_loop_an_answer_lets_the_next_send_go() -> None:
    """What is outstanding stays the same; without the loop it runs dry."""
    room = Room("chat:a")
    made = talk(room)
    made.loop_closed = True
    made.send_next(0)
    made.answered(answer(1))
    assert len(room.sent) == 2
    assert list(made.sent) == [2]
    made.loop_closed = False
    made.answered(answer(2))
    assert len(room.sent) == 2
    assert made.sent == {}


@pytest.mark.parametrize("tail", [b',"code":"overloaded"}', b"}"])
def test_a_refused_send_is_no_longer_outstanding(tail: bytes) -> None:
    """It is counted as refused with the server's words, and not as never answered."""
    made = talk(Room("chat:a"))
    made.send_next(0)
    made.denied(b'{"op":"error","id":1' + tail)
    assert (made.refusals, made.sent) == (1, {})
    assert made.refused.startswith(b'{"op":"error"')


def test_a_send_that_the_server_delayed_counts_from_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinated omission: a stall is paid for by every send it delayed. The timer's own grain is not the server's."""
    monkeypatch.setattr(link, "monotonic_ns", lambda: 10_000_000)
    assert link.counted_from(10_000_000 - TIMER_GRAIN_NS + 1) == 10_000_000
    assert link.counted_from(10_000_000 - TIMER_GRAIN_NS) == 10_000_000 - TIMER_GRAIN_NS
    assert link.counted_from(0) == 0


def test_waiting_for_a_moment_never_ends_before_it() -> None:
    """A timer that fires early is waited for again, so that no latency comes out below zero."""
    now = iter([0, 600_000, 999_999, 1_000_000])
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link, "monotonic_ns", lambda: next(now))
        patch.setattr(asyncio, "sleep", sleep)
        asyncio.run(link.until(1_000_000))
    assert slept == [0.001, 0.0004, 1e-9]


def test_the_conversation_is_a_line_of_json_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ready is answered by a go; the end of input ends the process, since the harness is gone."""

    class Pipe(io.TextIOWrapper):
        """Standard input or output over bytes in memory."""

    said, told = io.BytesIO(), io.BytesIO(b'{"start_ns":1,"from_ns":2,"until_ns":3}\n')
    monkeypatch.setattr(sys, "stdout", Pipe(said))
    monkeypatch.setattr(sys, "stdin", Pipe(told))
    ours = Link()
    assert Window.of(ours.ready_blocking(note="x")) == Window(1, 2, 3)
    ours.result(count=7)
    assert [orjson.loads(line) for line in said.getvalue().splitlines()] == [
        {"event": "ready", "note": "x"},
        {"event": "result", "count": 7},
    ]
    with pytest.raises(SystemExit):
        ours.ready_blocking()


def test_progress_is_told_rarely_and_at_its_end(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A thousand connections do not make a thousand lines, and the last one is never left out."""
    ours = Link()
    for done in range(1, 1001):
        ours.progress(done, 1000, "connecting")
    lines = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert len(lines) < 100
    assert lines[-1]["done"] == 1000
