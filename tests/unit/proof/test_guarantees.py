"""proof.guarantees: all of them together, on one history; what a report says."""

from __future__ import annotations

import dataclasses

import pytest

from proof.guarantees import GUARANTEES, Report, check
from proof.history import (
    Aboard,
    Alerted,
    Board,
    Bound,
    Drained,
    Draining,
    DrainTold,
    End,
    Ended,
    Exit,
    Heal,
    Judged,
    Leased,
    Left,
    Lent,
    Member,
    Modelled,
    Newest,
    Placed,
    Record,
    Run,
    Saga,
    Sampled,
    Stand,
    There,
    Timer,
    Took,
    Trip,
    Unfollow,
    View,
    Wished,
    Worked,
)
from tests.stories import ROOM, Story

NAMES = (
    "Ordered",
    "Unique",
    "Reliable-or-told",
    "Durable-ack",
    "Exactly-one-effect",
    "Resumable",
    "Epoch-honest",
    "Tenant-wall",
    "Auth-fresh",
    "Presence-converges",
    "Latest-value",
    "Bounded",
    "Blast-radius-one",
    "Deadlines",
    "No-poison",
    "Drain",
    "Snapshot-law",
    "Clean-exit",
    "Progress",
    "Whole-commands",
    "Timers-once",
    "Fenced",
    "Models-true",
    "Worked-off",
    "Whole-sagas",
    "Boards-converge",
    "Kept",
    "Position-order",
    "Quarantine",
    "Last-place",
    "Alert-once",
    "Alert-comes",
    "Trip-fold",
)


def a_day() -> list[Record]:
    """Something of everything, and all of it right."""
    story = Story()
    story.join("c1")
    story.join("c2", who="user:bob", node="n2")
    story.join("z1", tenant="other", who="user:zoe", node="n2")
    for seq in (1, 2):
        story.asks("c1", "send", f"acme-{seq}", within_s=5.0)
        story.commit(seq)
        story.answered("c1", seq, f"acme-{seq}")
        story.took("c1", seq, mark="acme")
        story.took("c2", seq, mark="acme")
    story.told("c1", "mark", [2, 2], by="user:bob", head=2)
    story.told("c1", "presence", "online", by="user:bob")
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 3))
    story.event(3, "c1", "c2")
    story.add(Unfollow(0.0, "c2", ROOM, "removed", 3))
    story.add(Lent(0.0, "postgres 1", "select 1", "select 1", "a read"))
    story.add(Draining(0.0, "n1", 10.0, 1))
    story.add(DrainTold(0.0, "c1", 1.0))
    story.ended("c1", "client")
    story.add(Drained(0.0, "n1"))
    story.add(Exit(0.0, "n1"))
    story.open("c3", how="resume", asked={ROOM: 3}, node="n2")
    story.welcome("c3", resumed=True)
    story.follow("c3", 3)
    story.add(Heal(0.0))
    story.wait(2.0)
    story.event(4, "c3")
    story.join("c4", 4, who="user:cy", node="n2")
    present = {"user:amy": "online", "user:cy": "online"}
    story.add(View(0.0, "c3", ROOM, 4, {"user:bob": [2, 2]}, present))
    story.add(View(0.0, "c4", ROOM, 4, {"user:bob": [2, 2]}, present, fresh=True))
    story.add(There(0.0, "acme", ROOM, present))
    story.add(Stand(0.0, "amy", "acme", ROOM, 4, 4))
    story.add(Bound(0.0, "n2", "rings", 10, 64))
    story.keeps("k", 5, 1)
    story.commands("c4", "k", 5, 1)
    story.took("c3", 5, "k")
    story.took("c4", 5, "k")
    story.add(Timer(0.0, "acme", ROOM, "t", "set", 5, due_t=0.5))
    story.add(Leased(0.0, "views", 0, "w1", 1))
    story.add(Worked(0.0, "views", 0, 1, 0, 5))
    story.add(Modelled(0.0, "board", "acme", "QX1", "a", "a"))
    story.add(Left(0.0, "jobs", 0))
    story.add(Saga(0.0, "acme", "seat_swap", "s", "done", "done"))
    story.add(Aboard(0.0, "acme", "p1", ["QX1"]))
    story.add(Board(0.0, "c4", "acme", "flight:board", "QX1", "a", "a"))
    story.add(Sampled(0.0, "acme", ROOM, "device:van", 1, 0.5, "accepted"))
    story.add(Judged(0.0, "c4", ROOM, "device:van", 1, 0.5, "accepted"))
    story.add(Placed(0.0, "c4", ROOM, "device:van", 0.5))
    story.add(Newest(0.0, "c4", ROOM, "device:van", 0.5, 0.5))
    story.add(Alerted(0.0, "acme", ROOM, 6, "b", "user:amy", 60))
    story.add(Wished(0.0, "acme", ROOM, "b", "user:amy", 60, 0.1, 100.0, 3.0))
    story.add(Trip(0.0, "n2", "acme", ROOM, "a", "a", 1, True))
    return story.end()


def test_every_guarantee_by_its_name() -> None:
    """There are thirty-three, each with a promise of its own in one sentence."""
    assert tuple(guarantee.name for guarantee in GUARANTEES) == NAMES
    promises = [guarantee.promise for guarantee in GUARANTEES]
    assert len(set(promises)) == len(NAMES)
    assert not any("." in promise or promise[0].isupper() for promise in promises)


def test_a_day_on_which_all_is_kept() -> None:
    """Each was seen, and each holds."""
    report = check(a_day())
    assert [str(finding) for finding in report.findings] == []
    assert report.holds
    assert report.warnings == []
    assert [report.state(name) for name in NAMES] == ["holds"] * len(NAMES)


@pytest.mark.parametrize("records", [[], [Run(0.0, "nothing"), End(0.0)]])
def test_nothing_seen_is_not_a_promise_kept(records: list[Record]) -> None:
    """A guarantee without any of its records says so."""
    report = check(records)
    assert report.holds
    assert [report.state(name) for name in NAMES] == ["nothing seen"] * len(NAMES)


def test_a_history_that_was_cut_short() -> None:
    """It is judged all the same, and says what that is worth."""
    report = check(a_day()[:-1])
    assert report.holds
    assert "cut short" in report.warnings[0]


def test_a_history_without_its_beginning() -> None:
    """Times are judged by the defaults then, and that is said."""
    report = check(a_day()[1:])
    assert report.holds
    assert "Run" in report.warnings[0]


@pytest.mark.parametrize("length", range(0, len(a_day()), 3))
def test_wherever_it_was_cut(length: int) -> None:
    """No prefix of a good history is a bad one, but for a drain that did not end."""
    found = {finding.guarantee for finding in check(a_day()[:length]).findings}
    assert found == set()


def test_findings_come_in_the_order_of_the_history() -> None:
    """The first may be the cause of the others; each names its record, its time, and its promise."""
    records = a_day()
    took = next(at for at, record in enumerate(records) if isinstance(record, Took) and record.seq == 2)
    ended = next(at for at, record in enumerate(records) if isinstance(record, Ended))
    records[took] = dataclasses.replace(records[took], mark="other")  # type: ignore[arg-type]
    records[ended] = Ended(records[ended].t, "c1", "server", 1011)
    report = check(records)
    assert [(finding.guarantee, finding.index) for finding in report.findings] == [
        ("Tenant-wall", took),
        ("Blast-radius-one", ended),
    ]
    finding = report.findings[0]
    assert finding.t == records[took].t
    assert finding.promise in {guarantee.promise for guarantee in GUARANTEES}
    assert str(finding).startswith(f"Tenant-wall is broken at record {took + 1} (")
    assert not report.holds
    assert report.state("Tenant-wall") == "broken"


def test_checking_changes_nothing() -> None:
    """A history may be checked again, and written afterwards."""
    records = a_day()
    check(records)
    assert records == a_day()
    assert check(records) == check(records)
    assert isinstance(check(records), Report)
