"""proof.guarantees.returns: Resumable, Epoch-honest."""

from __future__ import annotations

from typing import Any

import pytest

from proof.history import Fault, Restored
from tests.stories import ROOM, Story


def log_of(count: int) -> Story:
    story = Story()
    for seq in range(1, count + 1):
        story.commit(seq)
    return story


def resume(story: Story, conn: str = "c2", cursor: int = 1, **options: Any) -> int:
    return story.open(conn, how="resume", asked={ROOM: cursor}, credential="token", **options)


# Resumable


def test_a_resume_that_goes_on() -> None:
    """Welcomed as resumed, from the cursor on."""
    story = log_of(3)
    resume(story)
    story.welcome("c2", resumed=True)
    story.follow("c2", 1, head=3)
    story.took("c2", 2)
    assert story.found() == []
    assert story.judged("Resumable") == 1


def test_a_good_token_rejected() -> None:
    """Whatever the code."""
    story = log_of(1)
    resume(story)
    at = story.rejected("c2")
    assert story.found() == [("Resumable", at)]


def test_a_resume_taken_for_a_hello() -> None:
    """A resume is welcomed as one."""
    story = log_of(1)
    resume(story)
    at = story.welcome("c2")
    story.follow("c2", 1, head=1)
    assert story.found() == [("Resumable", at)]


@pytest.mark.parametrize(("after", "first"), [(2, 3), (0, 1)])
def test_a_cursor_that_was_moved(after: int, first: int) -> None:
    """Neither forward nor back, without a reset."""
    story = log_of(3)
    resume(story)
    story.welcome("c2", resumed=True)
    story.follow("c2", after, head=3)
    at = story.took("c2", first)
    assert story.found() == [("Resumable", at)]


def test_a_cursor_that_was_moved_and_told() -> None:
    """The reset that says so comes before any event."""
    story = log_of(5)
    resume(story, cursor=9)
    story.welcome("c2", resumed=True)
    story.follow("c2", 0, head=5)
    story.reset("c2", "ahead", 1, 5)
    story.took("c2", 1)
    assert story.found() == []


def test_a_stream_without_an_answer() -> None:
    """Each stream of a resume is gone on with or refused."""
    story = log_of(1)
    story.open("c2", how="resume", asked={ROOM: 1, "chat:b": 2, "chat:c": 3})
    at = story.welcome("c2", resumed=True, refused={"chat:b": "forbidden"})
    story.follow("c2", 1, head=1)
    assert story.found() == [("Resumable", at)]


def test_a_resume_without_an_answer() -> None:
    """It may take its turn, but not for ever."""
    story = log_of(1)
    at = resume(story)
    story.wait(31.0)
    assert story.found() == [("Resumable", at)]


def test_a_resume_that_met_trouble() -> None:
    """A connection that ends is an answer, and at the history's end a resume may still be on its way."""
    story = log_of(1)
    resume(story)
    story.ended("c2", "server", 4006, "the log cannot be reached now", "unavailable")
    resume(story, "c3")
    assert story.found() == []


@pytest.mark.parametrize("standing", ["used", "spent", "expired", "forged", "foreign", "revoked"])
def test_only_a_good_token_must_be_honoured(standing: str) -> None:
    """All others may be rejected; then the same connection says hello."""
    story = log_of(1)
    resume(story, standing=standing)
    story.rejected("c2")
    story.open("c2", asked={ROOM: 1})
    story.welcome("c2")
    story.follow("c2", 1, head=1)
    assert story.found() == []


def test_a_token_whose_identity_is_over() -> None:
    """Resuming does not prolong an access token."""
    story = log_of(1)
    story.wait(10.0)
    resume(story, expires_t=10.5)
    story.rejected("c2")
    assert story.found() == []


def test_two_with_one_token() -> None:
    """One of them wins, whichever it is; where both were rejected, nobody has won."""
    story = log_of(1)
    resume(story, "c2")
    resume(story, "c3", standing="spent")
    story.welcome("c3", resumed=True)
    story.follow("c3", 1, head=1)
    story.rejected("c2", "resume_rejected")
    assert story.found() == []
    lost = log_of(1)
    resume(lost, "c2")
    resume(lost, "c3", standing="spent")
    lost.rejected("c3")
    at = lost.rejected("c2")
    assert lost.found() == [("Resumable", at)]


def test_a_second_opening_is_an_error() -> None:
    """A connection that is open already cannot be opened again, with whatever token."""
    story = log_of(1)
    story.join("c2", 1)
    resume(story)
    story.rejected("c2", "bad_request")
    assert story.found() == []


# Epoch-honest


def test_a_cursor_of_another_epoch() -> None:
    """It gets a reset, before any event, even where it looks good."""
    story = log_of(3)
    resume(story, epoch="e0")
    story.welcome("c2", resumed=True)
    story.follow("c2", 0, head=3)
    story.reset("c2", "epoch", 1, 3)
    for seq in (1, 2, 3):
        story.took("c2", seq)
    assert story.found() == []
    assert story.judged("Epoch-honest") == 1


@pytest.mark.parametrize("how", ["hello", "resume"])
@pytest.mark.parametrize("after", [1, 0])
def test_a_cursor_of_another_epoch_that_is_believed(how: str, after: int) -> None:
    """Going on from it is a guess, and so is going on from elsewhere, without a word."""
    story = log_of(3)
    story.open("c2", how=how, asked={ROOM: 1}, epoch="e0")
    story.welcome("c2", resumed=how == "resume")
    story.follow("c2", after, head=3)
    at = story.took("c2", after + 1)
    assert story.found() == [("Epoch-honest", at)]


def test_a_cursor_past_the_head_that_is_believed() -> None:
    """It would miss what comes between the head and itself."""
    story = log_of(3)
    resume(story, cursor=5)
    story.welcome("c2", resumed=True)
    at = story.follow("c2", 5, head=3)
    story.wait(6.0)
    for seq in (4, 5, 6):
        story.commit(seq)
    assert story.found() == [("Epoch-honest", at)]


def test_a_cursor_that_the_node_has_not_heard_of_yet() -> None:
    """Past the node's head but not past the log's, it is good."""
    story = log_of(5)
    resume(story, cursor=5)
    story.welcome("c2", resumed=True)
    story.follow("c2", 5, head=3)
    story.event(6, "c2")
    assert story.found() == []


def test_a_good_cursor_that_is_called_bad() -> None:
    """A reset throws away what a client holds: it is for cursors that are no good."""
    story = log_of(5)
    resume(story, cursor=5)
    story.welcome("c2", resumed=True)
    ahead = story.follow("c2", 0, head=3)
    story.reset("c2", "ahead", 1, 3)
    resume(story, "c3", cursor=5, epoch="e1")
    story.welcome("c3", resumed=True)
    epoch = story.follow("c3", 0, head=5)
    story.reset("c3", "epoch", 1, 5)
    assert story.found() == [("Epoch-honest", ahead), ("Epoch-honest", epoch)]


def test_what_a_restore_undid_is_not_shown() -> None:
    """A welcome of the new epoch is followed by events of the new log alone."""
    story = log_of(3)
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    story.join("c2", 1, epoch="e2")
    at = story.took("c2", 2)
    assert story.found() == [("Epoch-honest", at)]


def test_a_stream_younger_than_the_backup_begins_again() -> None:
    """A stream that the restored heads do not name has nothing any more."""
    story = log_of(3)
    story.add(Restored(0.0, "e2", {}))
    story.join("c2", 0, epoch="e2")
    story.commit(1, "new", epoch="e2")
    story.took("c2", 1, "new")
    assert story.found() == []


def test_a_reset_that_a_cut_took_along() -> None:
    """Between a welcome and its resets only the network can come."""
    story = log_of(3)
    resume(story, epoch="e0")
    story.welcome("c2", resumed=True)
    story.follow("c2", 0, head=3)
    story.add(Fault(0.0, "cut"))
    story.ended("c2")
    assert story.found() == []


def test_a_span_that_ends_without_the_reset_it_owed() -> None:
    """An answer to a later `unsub` or `sub` comes after the reset on the wire."""
    story = log_of(3)
    resume(story, epoch="e0")
    story.welcome("c2", resumed=True)
    story.follow("c2", 0, head=3)
    at = story.follow("c2", 3, head=3)
    assert story.found() == [("Epoch-honest", at)]
