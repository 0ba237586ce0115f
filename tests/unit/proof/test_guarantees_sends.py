"""proof.guarantees.sends: Durable-ack, Exactly-one-effect, Deadlines, No-poison."""

from __future__ import annotations

import pytest

from proof.guarantees import check
from proof.history import Answered, Asked, Fault, Lent, Restored, Trimmed
from tests.stories import ROOM, Story


def test_answers_that_hold() -> None:
    """A send that is committed, then acknowledged, then repeated and acknowledged alike."""
    story = Story()
    story.join("c1")
    story.commit(1, "k")
    story.sends("c1", "k", 1)
    story.sends("c1", "K", 1, dup=True)
    story.asks("c1", "history")
    story.answered("c1")
    story.asks("c1", "send", "refused")
    story.answered("c1", code="overloaded")
    assert story.found() == []
    assert story.judged("Durable-ack") == 2
    assert story.judged("Exactly-one-effect") == 3


# Durable-ack


def test_an_ack_of_nothing() -> None:
    """What is acknowledged is in the log, also where the log holds nothing at all of that stream."""
    story = Story()
    story.commit(1, stream="chat:b")
    story.join("c1")
    at = story.sends("c1", "k", 1)
    assert story.found() == [("Durable-ack", at)]


def test_an_ack_that_names_another_event() -> None:
    """The place that is named holds that key."""
    story = Story()
    story.commit(1, "k")
    story.commit(2, "j")
    story.join("c1")
    at = story.sends("c1", "k", 2)
    assert story.found() == [("Durable-ack", at)]


def test_an_ack_before_its_commit() -> None:
    """Where commits are seen as they take place, the commit stands first."""
    story = Story()
    story.join("c1")
    at = story.sends("c1", "k", 1)
    story.commit(1, "k")
    assert story.found() == [("Durable-ack", at)]


def test_an_event_shown_before_its_commit() -> None:
    """Nobody sees what is not in the log yet."""
    story = Story()
    story.join("c1")
    at = story.took("c1", 1)
    story.commit(1)
    assert story.found() == [("Durable-ack", at)]


def test_a_log_read_afterwards_comes_after_all_answers() -> None:
    """Then order says nothing, and the log's end is still the log's truth."""
    story = Story(live=False)
    story.join("c1")
    story.sends("c1", "k", 1)
    story.took("c1", 1, "k")
    lost = story.sends("c1", "j", 2)
    story.commit(1, "k")
    assert story.found() == [("Durable-ack", lost)]


def test_acks_that_a_restore_or_a_trim_has_undone() -> None:
    """What was acknowledged may be undone by a restore, and a log read afterwards no longer holds what was trimmed."""
    story = Story(live=False)
    story.join("c1")
    for seq, key in ((1, "i"), (2, "j"), (3, "k")):
        story.sends("c1", key, seq)
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 2}))
    story.join("c2", 2, epoch="e2")
    story.sends("c2", "k", 3)
    story.add(Trimmed(0.0, "acme", ROOM, 2))
    story.commit(2, "j")
    story.commit(3, "k", epoch="e2")
    assert story.found() == []


def test_a_trim_excuses_no_commit_that_was_never_seen() -> None:
    """Where commits are seen as they take place, what is trimmed later was there before."""
    story = Story()
    story.join("c1")
    at = story.sends("c1", "k", 1)
    story.commit(2)
    story.add(Trimmed(0.0, "acme", ROOM, 2))
    assert story.found() == [("Durable-ack", at)]


def test_after_a_restore_an_ack_is_of_the_new_log() -> None:
    """An ack under the new epoch of what only the old one held is of nothing."""
    story = Story()
    for seq, key in ((1, "j"), (2, "k")):
        story.commit(seq, key)
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    story.join("c1", 1, epoch="e2")
    story.sends("c1", "j", 1, dup=True)
    at = story.sends("c1", "k", 2, dup=True)
    assert story.found() == [("Durable-ack", at)]


# Exactly-one-effect


def test_two_acks_that_disagree() -> None:
    """All oks for a key name one place; without the log that is all that can be said."""
    story = Story(live=False)
    story.join("c1")
    story.join("c2", who="user:bob")
    story.sends("c1", "k", 1)
    at = story.sends("c2", "k", 2, dup=True)
    assert story.found() == [("Exactly-one-effect", at)]


def test_a_key_that_is_new_twice() -> None:
    """Of all answers to a key at most one says that it was new."""
    story = Story()
    story.join("c1")
    story.commit(1, "k")
    story.sends("c1", "k", 1)
    at = story.sends("c1", "k", 1)
    assert story.found() == [("Exactly-one-effect", at)]


def test_a_first_answer_may_be_dup() -> None:
    """The answer to an earlier attempt may have been lost, and the answers may come in any order."""
    story = Story()
    story.join("c1")
    story.asks("c1", "send", "k")
    story.commit(1, "k")
    story.ended("c1")
    story.join("c2", 1)
    story.sends("c2", "k", 1, dup=True)
    story.sends("c2", "k", 1)
    assert story.found() == []


def test_a_key_sent_anew_after_a_restore() -> None:
    """What was undone is new again, at whatever place; what was kept is not."""
    story = Story()
    story.join("c1")
    for seq, key in ((1, "j"), (2, "k")):
        story.commit(seq, key)
        story.sends("c1", key, seq)
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    story.ended("c1")
    story.join("c2", 1, epoch="e2")
    story.commit(2, "i", epoch="e2")
    story.commit(3, "k", epoch="e2")
    story.sends("c2", "k", 3)
    at = story.sends("c2", "j", 1)
    assert story.found() == [("Exactly-one-effect", at)]


# Deadlines


def test_an_answer_in_time() -> None:
    """An answer, or the connection's end, whichever comes first; and what was asked at the very end has time yet."""
    story = Story()
    story.join("c1")
    story.asks("c1", "history", within_s=1.0)
    story.wait(0.9)
    story.answered("c1")
    story.asks("c1", "sub", within_s=1.0)
    story.wait(0.9)
    story.ended("c1")
    story.join("c2")
    story.asks("c2", "mark", within_s=1.0)
    story.wait(0.9)
    assert story.found() == []
    assert story.judged("Deadlines") == 3


def test_an_answer_out_of_time() -> None:
    """Late is found at the answer, never at the question."""
    story = Story()
    story.join("c1")
    story.asks("c1", "history", within_s=1.0)
    story.wait(1.1)
    late = story.answered("c1")
    story.join("c2")
    never = story.asks("c2", "history", within_s=1.0)
    story.join("c3")
    story.asks("c3", "history", within_s=1.0)
    story.wait(1.1)
    ended = story.ended("c3")
    assert story.found() == [("Deadlines", at) for at in (late, never, ended)]


def test_answers_to_one_id_belong_to_its_questions_in_order() -> None:
    """An id may be used again; the first answer is the first question's."""
    story = Story()
    story.join("c1")
    story.add(Asked(0.0, "c1", 7, "history", 1.0))
    story.wait(0.8)
    story.add(Asked(0.0, "c1", 7, "history", 1.0))
    story.add(Answered(0.0, "c1", 7, True))
    story.wait(0.8)
    story.add(Answered(0.0, "c1", 7, True))
    assert story.found() == []


def test_a_node_that_stood_still_has_so_much_longer() -> None:
    """As long as the pause lies in the wait, on the connection's own node, and no longer."""
    story = Story()
    story.join("c1", node="n1")
    story.join("c2", node="n2", who="user:bob")
    story.add(Fault(0.0, "pause", "n1", 2.0))
    story.wait(1.0)
    story.asks("c1", "history", within_s=1.0)
    story.wait(1.9)
    story.answered("c1")
    story.asks("c2", "history", within_s=1.0)
    story.add(Fault(0.0, "pause", "n1", 2.0))
    story.wait(2.0)
    at = story.answered("c2")
    assert story.found() == [("Deadlines", at)]


# No-poison


@pytest.mark.parametrize(("answered", "found"), [("select 2", True), ("select 1", False)])
def test_a_link_with_the_answer_of_another(answered: str, found: bool) -> None:
    """Whoever borrows a link gets its own answer."""
    story = Story()
    at = story.add(Lent(0.0, "postgres 1", "select 1", answered, "a read, half-way"))
    assert story.found() == ([("No-poison", at)] if found else [])
    assert story.judged("No-poison") == 1


def test_the_sentence_of_a_finding() -> None:
    """It says what, where, at which record, and what was promised."""
    story = Story()
    story.add(Lent(0.0, "postgres 1", "select 1", "select 2"))
    (finding,) = check(story.end()).findings
    assert str(finding) == (
        "No-poison is broken at record 2 (0.001 s), postgres 1: asked select 1, got the answer to select 2. Promised: a link "
        "to a store that was given up half-way is never lent again with another's answer in it"
    )
