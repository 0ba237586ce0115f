"""bench.gen.commands and bench.commands: a load of commands that each say something new, and figures of them by kind."""

from __future__ import annotations

import asyncio
from typing import cast

import orjson
import pytest

from bench.commands import Figures, table
from bench.gen.chat import Chatter
from bench.gen.commands import Words, scheduled
from bench.gen.dialect import Dialect
from bench.gen.link import Link
from core.flight.legs import LEGS
from core.flight.machine import Command, Recorded

STREAMS = ["flight:QX0-20261121", "flight:QX1-20261121", "flight:QX2-20261121"]


class Line:
    """A connection that keeps what it was told to send, and answers at once where it is told to."""

    def __init__(self, words: Words | None = None) -> None:
        self.dialect = Dialect()
        self.sent: list[bytes] = []
        self.words = words

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)
        if self.words is not None:
            self.words.answered(b'{"op":"ok","id":%d,"seqs":[1]}' % orjson.loads(payload)["id"])


def words(*lines: Line) -> Words:
    made = Words(130, STREAMS)
    made.conns = [cast(Chatter, line) for line in lines]
    return made


def test_every_command_says_something_new() -> None:
    """Of one flight, no command of a long run is refused as unchanged or for any other reason, and each is one event."""
    line = Line()
    made = words(line)
    made.schedule(STREAMS[0].encode())
    for _ in range(3 * 200):
        made.send_next(0)
    mine = [one for one in map(orjson.loads, line.sent) if one["stream"] == STREAMS[0]]
    assert len(mine) == 201
    assert len({one["key"] for one in mine}) == 201
    state = LEGS.initial()
    for seq, one in enumerate(mine, 1):
        decision = LEGS.decide(state, Command(one["type"], one["body"], "user:b0", "owner"), made.now_ms)
        assert isinstance(decision, list), decision
        assert len(decision) == 1
        state = LEGS.evolve(state, Recorded(seq, decision[0].type, "user:b0", made.now_ms, decision[0].body))


def test_streams_take_turns_and_keep_to_their_connection() -> None:
    """Each stream is given to by the connection that follows it, commands and plain sends alike."""
    one, two = Line(), Line()
    made = words(one, two)
    for op in ("command", "send"):
        made.op = op
        for _ in range(6):
            made.send_next(0)
    for line, streams in ((one, {STREAMS[0], STREAMS[2]}), (two, {STREAMS[1]})):
        sent = list(map(orjson.loads, line.sent))
        assert {frame["stream"] for frame in sent} == streams
        assert {frame["op"] for frame in sent} == {"command", "send"}
    assert len(made.sent) == 12


def test_every_flight_is_scheduled_first_and_a_refusal_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be scheduled measures nothing."""
    made = words()
    made.conns = [cast(Chatter, Line(made))]
    asyncio.run(scheduled(made, Link()))
    assert len(made.acks) == 3
    made.denied(b'{"op":"error","id":9,"code":"forbidden"}')
    with pytest.raises(RuntimeError, match="forbidden"):
        asyncio.run(scheduled(made, Link()))


def test_figures_are_shown_by_kind() -> None:
    """A line each, the median of the rounds, and latencies over all rounds together."""
    found = {"send": Figures([30_000.0], [10.0], [12.0], [0.4]), "command": Figures([7_000.0], [50.0], [30.0], [0.5])}
    for figures in found.values():
        figures.half.record_all([2_000_000] * 2_000)
    lines = table(found).splitlines()
    assert lines[1].split()[:5] == ["sends", "30,000", "10.0", "12.0", "0.40"]
    assert lines[2].split() == ["commands", "7,000", "50.0", "30.0", "0.50", "2.00", "2.00", "2.00"]
