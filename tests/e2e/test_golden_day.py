"""A recorded day of 200 flights: what becomes of it is what became of it, in the machines alone and through a node."""

from __future__ import annotations

from collections import Counter
from datetime import date
from random import Random

from core.commands import recorded as as_seen
from core.model import Member
from core.tokens import Identity
from gateway.demo.day import make_day
from gateway.demo.script import MEMBERS
from gateway.desk import Desk
from gateway.edges import Edges
from gateway.node import running
from gateway.service import WireError
from store.memory import MemoryLog
from tests.measure import golden
from tests.nodes import SECRETS


def test_the_machines_make_of_the_day_what_they_made() -> None:
    """Heads, events by type, refusals by reason, the last state of every stream, and the board. Where a difference is meant,
    `python -m tests.measure.golden --write` keeps it and says what it is."""
    assert list(golden.differences(golden.golden(), golden.replay(golden.recorded()))) == []


def test_the_recorded_day_is_as_large_as_said() -> None:
    """200 flights, cabins and crew, thousands of commands, and each kind of trouble that the day is to have."""
    found = golden.golden()
    assert len(found["board"]) == 200
    assert found["commands"] > 4_000
    assert {"seat_taken", "duplicate_passenger", "in_future", "out_of_order", "over_duty", "too_little_rest"} <= set(
        found["refused"]
    )
    troubles = ("cancelled", "reinstated", "diverted", "continued", "returned", "equipped", "corrected", "withdrawn")
    assert all(found["events"][f"flight.{trouble}"] for trouble in troubles)
    assert found["statuses"]["cancelled"] == 2
    assert found["statuses"]["departed"] == 1  # its landing is never reported


def test_a_seed_makes_a_day() -> None:
    """The same seed, date and run make the same commands; another seed makes others, another run other names."""
    day = make_day(Random(7), date(2026, 11, 21))
    assert day == make_day(Random(7), date(2026, 11, 21))
    assert day.given != make_day(Random(8), date(2026, 11, 21)).given
    again = make_day(Random(7), date(2026, 11, 21), run=2)
    assert not set(day.streams) & set(again.streams)
    assert [one.type for one in again.given] == [one.type for one in day.given]
    assert [one.at_ms for one in day.given] == sorted(one.at_ms for one in day.given)


async def test_a_node_makes_of_the_day_what_the_machines_make() -> None:
    """Every command through a node whose clock stands at the command's time, kept by the log: the same golden outcome."""
    wall = [0.0]
    log = MemoryLog(now_ms=lambda: round(1000 * wall[0]), new_key=lambda: "")
    people = [Member(who, role) for who, role in MEMBERS.items()]
    given = list(golden.recorded())
    wall[0] = given[0].at_ms / 1000
    sids = {
        stream: (await log.create_stream("demo", stream, open=False, members=people, by="service:test")).sid
        for stream in dict.fromkeys(one.stream for one in given)
    }
    identities = {who: Identity("demo", who, frozenset(), 4e9) for who in MEMBERS}
    refusals: Counter[str] = Counter()
    edges = Edges(wall=lambda: wall[0], rng=Random(1))
    async with running(log, SECRETS, edges=edges, new_id=lambda: "n1") as node:
        desk = Desk(node)
        for one in given:
            wall[0] = one.at_ms / 1000
            who = identities[one.by]
            try:
                answer = await desk.command(who, one.stream, key=one.key, type=one.type, body=one.body, expect=None)
                assert not answer.dup
                refusals[answer.refusal.reason if answer.refusal else ""] += 1
            except WireError as error:
                refusals[error.code] += 1
    events = {}
    for stream, sid in sids.items():
        ruled = await log.ruled("demo", sid, 0, 1_000)
        if ruled:
            events[stream] = [as_seen(event) for event in ruled]
    assert list(golden.differences(golden.golden(), golden.outcome(events, refusals))) == []
