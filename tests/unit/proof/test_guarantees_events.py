"""proof.guarantees.events: Ordered, Unique, Reliable-or-told."""

from __future__ import annotations

import pytest

from proof.guarantees import check
from proof.history import Committed, Restored, Trimmed, Unfollow
from tests.stories import ROOM, Story


def test_events_in_their_places_hold() -> None:
    """Two who see all of a stream, one from the beginning and one from its cursor on, break nothing."""
    story = Story()
    story.join("c1")
    for seq in (1, 2):
        story.event(seq, "c1")
    story.join("c2", 2, who="user:bob")
    for seq in (3, 4):
        story.event(seq, "c1", "c2")
    assert story.found() == []
    for name in ("Ordered", "Unique", "Reliable-or-told"):
        assert story.judged(name) >= 6


# Ordered


def test_a_late_event_is_out_of_order() -> None:
    """What was left out and comes later is out of order; that it was left out is another finding."""
    story = Story()
    story.join("c1")
    for seq in (1, 2, 3):
        story.commit(seq)
    story.took("c1", 1)
    gap = story.took("c1", 3)
    late = story.took("c1", 2)
    assert story.found() == [("Reliable-or-told", gap), ("Ordered", late)]


@pytest.mark.parametrize(("key", "by"), [("other", ""), ("", "user:eve")])
def test_an_event_that_the_log_holds_otherwise(key: str, by: str) -> None:
    """Key, author and contents are those that were committed there."""
    story = Story()
    story.join("c1")
    story.commit(1)
    at = story.took("c1", 1, key, by=by)
    assert story.found() == [("Ordered", at)]


def test_an_event_that_the_log_does_not_hold() -> None:
    """Nothing is shown that is not in the log, past its head or in a stream without any event."""
    story = Story()
    story.join("c1")
    story.event(1, "c1")
    past = story.took("c1", 2)
    story.follow("c1", stream="chat:empty")
    none = story.took("c1", 1, "k", stream="chat:empty")
    assert story.found() == [("Ordered", past), ("Ordered", none)]


def test_two_who_see_different_events() -> None:
    """Without the log, the one who sees something else than the first is found."""
    story = Story(live=False)
    story.join("c1")
    story.join("c2", who="user:bob")
    story.took("c1", 1, "k1")
    at = story.took("c2", 1, "k2")
    assert story.found() == [("Ordered", at)]


def test_of_two_who_differ_the_log_knows_who_is_wrong() -> None:
    """The first may be the wrong one."""
    story = Story()
    story.commit(1)
    story.join("c1")
    story.join("c2", who="user:bob")
    at = story.took("c1", 1, "invented")
    story.took("c2", 1)
    assert story.found() == [("Ordered", at)]


def test_a_log_with_two_events_at_a_place() -> None:
    """A place in the log has one event."""
    story = Story()
    story.commit(1, "k1")
    at = story.commit(1, "k2")
    assert story.found() == [("Ordered", at)]


def test_a_commit_that_is_told_twice_is_one() -> None:
    """Live, and again when the log is read afterwards."""
    story = Story()
    story.commit(1)
    story.commit(1)
    assert story.found() == []


def test_what_a_producer_leaves_out_contradicts_nothing() -> None:
    """Without the contents, key and author are compared."""
    story = Story()
    story.join("c1")
    story.add(Committed(0.0, "acme", ROOM, 1, "acme-1", "user:acme"))
    story.took("c1", 1)
    assert story.found() == []


def test_a_log_cut_short_proves_no_absence() -> None:
    """Where the log is read afterwards and the history ends amid it, what it does not say is not missing."""
    story = Story(live=False)
    story.join("c1")
    for seq in (1, 2, 3):
        story.took("c1", seq)
    story.commit(1)
    assert story.found(whole=False) == []


def test_a_connection_of_nobody_knows_whom_is_not_held_against_the_log() -> None:
    """A capture may not know the tenant."""
    story = Story()
    story.commit(1)
    story.join("c1", tenant="", who="")
    story.took("c1", 1, "whatever")
    assert story.found() == []


def test_what_nobody_knows_whose_it_is_is_compared_with_nothing() -> None:
    """Two streams of one name, of tenants that a capture does not know, are two streams."""
    story = Story(live=False)
    for conn, key in (("c1", "k1"), ("c2", "k2")):
        story.join(conn, tenant="", who="")
        story.took(conn, 1, key)
        story.took(conn, 2, "k")
        story.took(conn, 3, "k1" if key == "k2" else "k2")
    assert story.found() == []


# Unique


@pytest.mark.parametrize("again", [1, 2])
def test_an_event_given_twice(again: int) -> None:
    """Neither the last event nor an earlier one comes again."""
    story = Story()
    story.join("c1")
    story.event(1, "c1")
    story.event(2, "c1")
    at = story.took("c1", again)
    story.event(3, "c1")
    assert story.found() == [("Unique", at)]


def test_an_event_that_was_had_before() -> None:
    """What lies before the cursor was had on another connection: it is not given again."""
    story = Story()
    for seq in (1, 2, 3):
        story.commit(seq)
    story.join("c1", 2, head=3)
    at = story.took("c1", 2)
    story.took("c1", 3)
    assert story.found() == [("Unique", at)]


def test_a_key_at_two_places_of_the_log() -> None:
    """It has two effects then, too."""
    story = Story()
    story.commit(1, "k")
    at = story.commit(2, "k")
    assert sorted(story.found()) == [("Exactly-one-effect", at), ("Unique", at)]


def test_a_key_seen_at_two_places() -> None:
    """Where nobody knows the log, what was seen of it will do."""
    story = Story(live=False)
    story.join("c1")
    story.took("c1", 1, "k")
    at = story.took("c1", 2, "k")
    assert story.found() == [("Unique", at)]


def test_following_again_begins_anew() -> None:
    """A second `sub` moves the cursor back, and what follows it comes again."""
    story = Story()
    story.join("c1")
    for seq in (1, 2, 3):
        story.event(seq, "c1")
    story.follow("c1", 1, head=3)
    story.took("c1", 2)
    story.took("c1", 3)
    assert story.found() == []


def test_a_key_in_two_streams_or_tenants_is_two() -> None:
    """Keys are of a stream of a tenant."""
    story = Story()
    story.commit(1, "k")
    story.commit(1, "k", stream="chat:b")
    story.commit(2, "k", tenant="other")
    story.commit(1, "j", tenant="other")
    assert story.found() == []


# Reliable-or-told


def test_a_gap() -> None:
    """An event left out is found once, not again with each that follows."""
    story = Story()
    story.join("c1")
    story.event(1, "c1")
    story.event(2)
    at = story.event(3, "c1")
    story.event(4, "c1")
    assert story.found() == [("Reliable-or-told", at)]
    assert "2 was left out" in check(story.records).findings[0].detail


def test_a_first_event_that_is_not_the_next() -> None:
    """The first event is the one after the cursor of the answer."""
    story = Story()
    for seq in (1, 2, 3):
        story.commit(seq)
    story.join("c1", 1, head=3)
    at = story.took("c1", 3)
    assert story.found() == [("Reliable-or-told", at)]


def test_a_gap_that_a_reset_announces() -> None:
    """What was trimmed is told, on the way in and later on."""
    story = Story()
    for seq in range(1, 10):
        story.commit(seq)
    story.add(Trimmed(0.0, "acme", ROOM, 4))
    story.open("c1", asked={ROOM: 0})
    story.welcome("c1")
    story.follow("c1", 3, head=9)
    story.reset("c1", "trimmed", 4, 9)
    story.took("c1", 4)
    story.took("c1", 5)
    story.add(Trimmed(0.0, "acme", ROOM, 8))
    story.reset("c1", "trimmed", 8, 9)
    story.took("c1", 8)
    story.took("c1", 9)
    assert story.found() == []


def test_a_gap_after_a_reset() -> None:
    """After a reset the next event is its ``first``."""
    story = Story()
    for seq in range(1, 7):
        story.commit(seq)
    story.add(Trimmed(0.0, "acme", ROOM, 4))
    story.join("c1", 3, head=6)
    story.reset("c1", "trimmed", 4, 6)
    at = story.took("c1", 5)
    assert story.found() == [("Reliable-or-told", at)]


def test_trimmed_without_a_word() -> None:
    """That it is gone does not excuse a gap."""
    story = Story()
    for seq in range(1, 6):
        story.commit(seq)
    story.join("c1", head=5)
    story.took("c1", 1)
    story.add(Trimmed(0.0, "acme", ROOM, 5))
    at = story.took("c1", 5)
    assert story.found() == [("Reliable-or-told", at)]


def test_told_of_a_loss_that_is_none() -> None:
    """`trimmed` is said of what the log does not keep, and of nothing else; nor does it go back."""
    story = Story()
    for seq in range(1, 6):
        story.commit(seq)
    story.join("c1", head=5)
    kept = story.reset("c1", "trimmed", 3, 5)
    story.took("c1", 3)
    back = story.reset("c1", "trimmed", 2, 5)
    assert story.found() == [("Reliable-or-told", kept), ("Reliable-or-told", back)]


def test_a_hello_that_begins_elsewhere() -> None:
    """Where a hello asked to go on is where it goes on, or a reset says why not."""
    story = Story()
    story.commit(1)
    story.commit(2)
    story.open("c1", asked={ROOM: 0})
    story.welcome("c1")
    story.follow("c1", 1, head=2)
    at = story.took("c1", 2)
    assert story.found() == [("Reliable-or-told", at)]


def test_events_of_what_is_not_followed() -> None:
    """Before it is followed, after it is not any more, after the end, and on a connection of nobody."""
    story = Story()
    story.commit(1)
    story.commit(2)
    story.open("c1")
    story.welcome("c1")
    before = story.took("c1", 1)
    story.follow("c1", 0, head=2)
    story.took("c1", 1)
    story.add(Unfollow(0.0, "c1", ROOM))
    after = story.took("c1", 2)
    story.follow("c1", 1, head=2)
    story.ended("c1")
    ended = story.took("c1", 2)
    nobody = story.took("c9", 2)
    assert story.found() == [("Reliable-or-told", at) for at in (before, after, ended, nobody)]


def test_a_cut_connection_just_stops() -> None:
    """What a connection that is cut had not got yet is no gap; its next one goes on from there."""
    story = Story()
    story.join("c1")
    story.event(1, "c1")
    story.event(2)
    story.ended("c1")
    story.open("c2", how="resume", asked={ROOM: 1})
    story.welcome("c2", resumed=True)
    story.follow("c2", 1, head=2)
    story.took("c2", 2)
    assert story.found() == []


def test_the_removed_get_all_up_to_their_removal() -> None:
    """Being let go of earlier leaves something out; unless that was trimmed meanwhile."""
    story = Story()
    for seq in (1, 2, 3):
        story.commit(seq)
    story.join("c1", head=3)
    story.took("c1", 1)
    at = story.add(Unfollow(0.0, "c1", ROOM, "removed", 3))
    assert story.found() == [("Reliable-or-told", at)]
    trimmed = Story()
    trimmed.records += story.records[1:-1]
    trimmed.t = story.t
    trimmed.add(Trimmed(0.0, "acme", ROOM, 4))
    assert trimmed.found() == []


def test_a_hole_in_the_log() -> None:
    """The log has an event at every place from its first to its last."""
    story = Story()
    story.commit(1)
    at = story.commit(3)
    assert story.found() == [("Reliable-or-told", at)]


def test_a_restored_log_is_held_against_each_of_its_lives() -> None:
    """Under a new epoch the places past the restored head are taken anew, by other events or by the same keys."""
    story = Story()
    story.join("c1")
    for seq in (1, 2, 3):
        story.event(seq, "c1")
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    story.ended("c1", "server", 4000, "the log was restored", "internal")
    story.join("c2", 1, epoch="e2")
    for seq, key in ((2, "acme-3"), (3, "new")):
        story.commit(seq, key, epoch="e2")
        story.took("c2", seq, key)
    assert story.found() == []


def test_a_restored_log_that_is_read_afterwards() -> None:
    """It holds no more what was undone: that was seen rightly in its time, and cannot be looked up."""
    story = Story(live=False)
    story.join("c1")
    for seq in (1, 2, 3):
        story.took("c1", seq)
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    story.ended("c1")
    story.join("c2", 1, epoch="e2")
    story.took("c2", 2, "new")
    story.commit(1, epoch="e2")
    story.commit(2, "new", epoch="e2")
    assert story.found() == []
