"""One short run of random faults (`tests.faults.chaos`; `make test-faults` has the long ones), and a judge that is judged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from proof import history as proof
from proof.guarantees import check
from proof.history import Answered, Committed, Exit, Follow, Record, Stand, Took, View, Welcome
from tests.faults import chaos

pytestmark = pytest.mark.slow

SEED, LENGTH_S = 4, 8.0
R = TypeVar("R")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[chaos.Report, list[Record]]:
    """With its history as it was written down."""
    report = chaos.run(SEED, LENGTH_S, keep=tmp_path_factory.mktemp("history"))
    return report, list(proof.read(Path(report.history)))


def test_a_short_run_keeps_every_promise(short_run: tuple[chaos.Report, list[Record]]) -> None:
    """Some trouble of each sort, and much was at stake: what the judge found nothing wrong with was not nothing."""
    report, records = short_run
    assert report.findings == [], [*report.findings[:8], chaos.repeat(SEED, LENGTH_S), report.history]
    assert report.lost == 0
    assert sum(report.faults.values()) >= 4
    assert report.acknowledged > 50
    assert report.deliveries > 10 * report.acknowledged
    for name in ("Ordered", "Durable-ack", "Exactly-one-effect", "Tenant-wall", "Presence-converges", "Snapshot-law"):
        assert report.judged[name] > 50, name
    assert isinstance(records[-1], proof.End)


def nth(records: Sequence[Record], kind: type[R], number: int) -> tuple[int, R]:
    """The record of a kind that so many of its kind come before, with its place; a copy, to be bent."""
    places = [place for place, record in enumerate(records) if isinstance(record, kind)]
    record = records[places[number]] = copy.copy(records[places[number]])  # type: ignore[index]
    assert isinstance(record, kind)
    return places[number], record


DAMAGES = {
    "an event dropped": "Reliable-or-told",
    "an event twice": "Unique",
    "two events swapped": "Ordered",
    "an event changed": "Ordered",
    "an acknowledged row gone": "Durable-ack",
    "an acknowledgement of another place": "Durable-ack",
    "a key in two places": "Exactly-one-effect",
    "an event of the other tenant": "Tenant-wall",
    "a follower behind": "Progress",
    "a welcome that forgets the cursor": "Resumable",
    "nobody seen in the end": "Presence-converges",
    "a node that ended badly": "Clean-exit",
}


def damage(records: list[Record], name: str) -> None:
    middle = sum(isinstance(record, Took) for record in records) // 2
    at, took = nth(records, Took, middle)
    match name:
        case "an event dropped":
            del records[at]
        case "an event twice":
            records.insert(at + 1, took)
        case "two events swapped":
            other = next(
                place
                for place, record in enumerate(records[at + 1 :], at + 1)
                if isinstance(record, Took) and (record.conn, record.stream) == (took.conn, took.stream)
            )
            records[at], records[other] = records[other], took
        case "an event changed":
            took.what += "!"
        case "an acknowledged row gone":
            key = next(r.key for r in records if isinstance(r, Answered) and r.ok and r.seq)
            records[:] = [r for r in records if not (isinstance(r, Committed) and r.key == key)]
        case "an acknowledgement of another place":
            place = next(p for p, r in enumerate(records) if isinstance(r, Answered) and r.seq > 5)
            answer = records[place] = copy.copy(records[place])
            assert isinstance(answer, Answered)
            answer.seq -= 1
        case "a key in two places":
            place, row = nth(records, Committed, -1)
            again = copy.copy(row)
            again.seq += 1
            records.insert(place + 1, again)
        case "an event of the other tenant":
            # Not any: a membership's event bears no mark, and one of its own tenant would be none of another's.
            place = next(p for p in range(at, len(records)) if getattr(records[p], "mark", ""))
            marked = records[place] = copy.copy(records[place])
            assert isinstance(marked, Took)
            marked.mark = "rival" if marked.mark == "demo" else "demo"
        case "a follower behind":
            nth(records, Stand, -1)[1].cursor -= 1
        case "a welcome that forgets the cursor":
            place = next(p for p, r in enumerate(records) if isinstance(r, Welcome) and r.resumed)
            place = next(p for p in range(place, len(records)) if isinstance(records[p], Follow))
            follow = records[place] = copy.copy(records[place])
            assert isinstance(follow, Follow)
            follow.after += 1
        case "nobody seen in the end":
            nth(records, View, -1)[1].present = {}
        case "a node that ended badly":
            nth(records, Exit, -1)[1].status = 1


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_to_a_real_history_is_named(name: str, short_run: tuple[chaos.Report, list[Record]]) -> None:
    """One record of thousands is wrong: the guarantee that it breaks says so."""
    records = list(short_run[1])
    assert check(records).holds
    damage(records, name)
    assert DAMAGES[name] in {finding.guarantee for finding in check(records).findings}


def test_seeds_are_read_as_they_are_written() -> None:
    """Ranges and lists."""
    assert chaos.seeds_of("1-3,7") == [1, 2, 3, 7]
    assert chaos.seeds_of("5") == [5]
