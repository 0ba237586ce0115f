"""proof.guarantees.work: Whole-commands, Timers-once, Fenced, Models-true, Worked-off, Whole-sagas, Boards-converge."""

from __future__ import annotations

import pytest

from proof.history import Aboard, Board, Heal, Leased, Left, Modelled, Restored, Run, Saga, Timer, Worked
from tests.stories import ROOM, Story


def a_story() -> Story:
    story = Story()
    story.join("c1")
    return story


# Whole-commands


def test_commands_that_are_kept_and_answered() -> None:
    """Obeyed, refused, not kept at all, and each of them asked again."""
    story = a_story()
    story.commands("c1", "m", code="bad_request")
    story.keeps("k", 1, 3)
    story.keeps("r", reason="wrong_state")
    for _ in range(2):
        story.commands("c1", "k", 1, 3)
        story.commands("c1", "r", reason="wrong_state")
        story.commands("c1", "u", code="unavailable")
    story.keeps("m", 4, 1)
    story.commands("c1", "m", 4, 1)
    assert story.found() == []
    assert story.judged("Whole-commands") == 11


def test_a_command_that_lost_a_fact() -> None:
    """All of its events, or none."""
    story = a_story()
    at = story.keeps("k", 1, 2, facts=3)
    assert story.found() == [("Whole-commands", at)]


def test_a_refusal_that_became_an_event() -> None:
    """What is refused changes nothing."""
    story = a_story()
    at = story.keeps("k", 1, 1, reason="wrong_state")
    assert story.found() == [("Whole-commands", at)]


def test_events_of_a_command_that_stand_apart() -> None:
    """Nobody else's commit lies between them."""
    story = a_story()
    story.commit(1, "k")
    story.commit(2, stream="chat:b")
    at = story.keeps("k", 1, 2)
    del story.records[at - 2]  # its first event is the one that was committed before
    assert story.found() == [("Whole-commands", at - 1)]


def test_events_of_a_command_that_are_not_there() -> None:
    """Where it says that they are."""
    story = a_story()
    at = story.keeps("k", 1, 2)
    del story.records[at - 1]
    assert story.found() == [("Whole-commands", at - 1)]


def test_a_command_that_is_kept_twice() -> None:
    """Its key takes effect once, as events or as a refusal."""
    story = a_story()
    story.keeps("k", reason="wrong_state")
    at = story.keeps("k", 1, 1)
    assert story.found() == [("Whole-commands", at)]


@pytest.mark.parametrize(
    "answer",
    [
        {"seq": 2, "events": 2},
        {"seq": 1, "events": 1},
        {"reason": "wrong_state"},
        {"code": "bad_request"},
        {"code": "conflict"},
    ],
    ids=["other seq", "fewer events", "refused", "malformed", "another head"],
)
def test_another_answer_than_what_was_kept(answer: dict[str, object]) -> None:
    """Whoever asks is told what the log keeps, whenever it was kept."""
    story = a_story()
    story.keeps("k", 1, 2)
    at = story.commands("c1", "k", **answer)  # type: ignore[arg-type]  # each is right by itself
    assert story.found() == [("Whole-commands", at)]


def test_an_answer_before_anything_was_kept() -> None:
    """The verdict is in the log first."""
    for answer in ({"seq": 1, "events": 1}, {"reason": "wrong_state"}):
        story = a_story()
        at = story.commands("c1", "k", **answer)
        assert story.found() == [("Whole-commands", at)]


def test_another_refusal_than_the_one_that_was_kept() -> None:
    """Its reason stays, whatever the state has become; an obeyed one is not answered as refused, nor the other way."""
    for answer in ({"reason": "unchanged"}, {"seq": 1, "events": 1}):
        story = a_story()
        story.keeps("k", reason="wrong_state")
        at = story.commands("c1", "k", **answer)
        assert story.found() == [("Whole-commands", at)]


def test_a_restore_undoes_what_commands_did() -> None:
    """They may be given again, and become something else; what the restore kept stays."""
    story = Story()
    story.keeps("early", 1, 1)
    story.keeps("k", 2, 1)
    story.keeps("r", reason="wrong_state")
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    story.join("c1", 1, epoch="e2")
    story.keeps("k", 2, 2, epoch="e2")
    story.commands("c1", "k", 2, 2)
    story.keeps("r", 4, 1, epoch="e2")
    story.commands("c1", "r", 4, 1)
    story.commands("c1", "early", 1, 1)
    assert story.found() == []
    at = story.keeps("early", 5, 1, epoch="e2")
    assert ("Whole-commands", at) in story.found()


# Timers-once


def a_timer(story: Story, what: str, seq: int, *, due_t: float = 0.0, fence: int = 0) -> int:
    return story.add(Timer(0.0, "acme", ROOM, "t", what, seq, due_t, fence))


def timed() -> Story:
    return Story(run=Run(0.0, "a story", work_s=5.0))


def test_timers_that_do_what_they_should() -> None:
    """Moved, cancelled, fired when due, set anew, and one that waits still."""
    story = timed()
    a_timer(story, "set", 1, due_t=0.001)
    a_timer(story, "set", 2, due_t=0.002)
    a_timer(story, "fired", 3, fence=2)
    a_timer(story, "set", 4, due_t=0.001)
    a_timer(story, "cancelled", 5)
    a_timer(story, "set", 6, due_t=100.0)
    story.wait(50.0)
    assert story.found() == []
    assert story.judged("Timers-once") == 6


@pytest.mark.parametrize(("fence", "due_t"), [(1, 0.0), (2, 5.0)], ids=["as it was before", "early"])
def test_a_timer_that_fires_wrongly(fence: int, due_t: float) -> None:
    """As it was set last, and when it is due."""
    story = timed()
    a_timer(story, "set", 1)
    a_timer(story, "set", 2, due_t=due_t)
    at = a_timer(story, "fired", 3, fence=fence)
    assert story.found() == [("Timers-once", at)]


def test_a_timer_that_fires_twice() -> None:
    """Once it has fired there is none."""
    story = timed()
    a_timer(story, "set", 1)
    a_timer(story, "fired", 2, fence=1)
    at = a_timer(story, "fired", 3, fence=1)
    assert story.found() == [("Timers-once", at)]


def test_a_timer_that_never_fires() -> None:
    """Within the time that workers have after the troubles; sooner nobody can say."""
    story = timed()
    at = a_timer(story, "set", 1, due_t=1.0)
    story.wait(10.0)
    story.add(Heal(0.0))
    assert story.found() == []
    del story.records[-1]
    story.wait(5.1)
    assert story.found() == [("Timers-once", at)]


def test_a_restore_undoes_timers() -> None:
    """One that was set after the backup is no more, one that fired after it waits again."""
    story = timed()
    a_timer(story, "set", 1)
    a_timer(story, "fired", 2, fence=1)
    a_timer(story, "set", 3)
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 1}))
    a_timer(story, "fired", 2, fence=1)
    story.wait(50.0)
    assert story.found() == []


# Fenced


def test_a_partition_that_changes_hands() -> None:
    """Given up, or left to run out; the cursor goes on from where it is, whoever moves it."""
    story = Story()
    story.add(Leased(0.0, "views", 0, "w1", 1))
    story.add(Worked(0.0, "views", 0, 1, 0, 5))
    story.add(Worked(0.0, "views", 0, 1, 5, 5))
    story.wait(2.0)
    story.add(Leased(0.0, "views", 0, "w2", 2, "w1", 1.5))
    story.add(Worked(0.0, "views", 0, 2, 5, 9))
    story.add(Worked(0.0, "views", 1, 1, 0, 2))
    story.add(Leased(0.0, "views", 0, "w1", 3))
    assert story.found() == []


def test_a_lease_that_is_taken_before_it_ran_out() -> None:
    """Its holder may rely on it."""
    story = Story()
    story.add(Leased(0.0, "views", 0, "w1", 1))
    at = story.add(Leased(0.0, "views", 0, "w2", 2, "w1", 60.0))
    assert story.found() == [("Fenced", at)]


def test_a_lease_under_an_old_fence() -> None:
    """Each time it changes hands the fence rises."""
    story = Story()
    story.add(Leased(0.0, "views", 0, "w1", 2))
    at = story.add(Leased(0.0, "views", 0, "w2", 2))
    assert story.found() == [("Fenced", at)]


@pytest.mark.parametrize(
    ("fence", "before", "to"),
    [(1, 5, 9), (2, 4, 9), (2, 5, 4)],
    ids=["under an old fence", "from elsewhere", "backwards"],
)
def test_effects_that_nobody_should_have_taken(fence: int, before: int, to: int) -> None:
    """Of a lease that was lost nothing is committed, and nothing twice."""
    story = Story()
    story.add(Worked(0.0, "views", 0, 1, 0, 5))
    story.add(Leased(0.0, "views", 0, "w2", 2))
    at = story.add(Worked(0.0, "views", 0, fence, before, to))
    assert story.found() == [("Fenced", at)]


def test_a_restore_puts_leases_and_cursors_back() -> None:
    """Each life of the log is judged by itself."""
    story = Story()
    story.add(Leased(0.0, "views", 0, "w1", 7))
    story.add(Worked(0.0, "views", 0, 7, 0, 5))
    story.add(Restored(0.0, "e2"))
    story.add(Leased(0.0, "views", 0, "w2", 3))
    story.add(Worked(0.0, "views", 0, 3, 2, 4))
    assert story.found() == []


# Models-true, Worked-off


@pytest.mark.parametrize(("held", "truth"), [("a", "b"), ("", "b"), ("a", "")], ids=["other", "missing", "too many"])
def test_a_row_that_is_not_what_the_log_says(held: str, truth: str) -> None:
    """Nor one too many, nor one too few."""
    story = Story()
    story.add(Modelled(0.0, "board", "acme", "QX1", "a", "a"))
    at = story.add(Modelled(0.0, "board", "acme", "QX2", held, truth))
    assert story.found() == [("Models-true", at)]


def test_work_that_is_left() -> None:
    """Named, with what it is."""
    story = Story()
    story.add(Left(0.0, "jobs", 0))
    at = story.add(Left(0.0, "parked streams", 1, "views flight:QX1: KeyError"))
    assert story.found() == [("Worked-off", at)]


# Whole-sagas, Boards-converge


def test_sagas_that_ended_or_wait_for_an_operator_with_a_reason() -> None:
    """All done, all undone, or parked; and everybody on one manifest."""
    story = Story()
    story.add(Saga(0.0, "acme", "seat_swap", "a", "done", "done"))
    story.add(Saga(0.0, "acme", "seat_swap", "b", "done", "undone", "undone: aborted by an operator"))
    story.add(Saga(0.0, "acme", "seat_swap", "c", "parked", "", "step 'a out': no_such_seat"))
    story.add(Aboard(0.0, "acme", "p1", ["QX1"]))
    assert story.found() == []
    assert story.judged("Whole-sagas") == 4


@pytest.mark.parametrize(
    "saga",
    [
        Saga(0.0, "acme", "seat_swap", "a", "done", "undone", "", ["step 'b in' was done, and not taken back"]),
        Saga(0.0, "acme", "seat_swap", "a", "parked"),
        Saga(0.0, "acme", "seat_swap", "a", "dropped"),
        Saga(0.0, "acme", "seat_swap", "a", "waiting", "", "away"),
    ],
    ids=["half", "no reason", "dropped", "never ended"],
)
def test_a_saga_that_is_neither_done_nor_undone(saga: Saga) -> None:
    """Nor is one that nobody has in hand an end."""
    story = Story()
    at = story.add(saga)
    assert story.found() == [("Whole-sagas", at)]


@pytest.mark.parametrize("flights", [[], ["QX1", "QX2"]], ids=["lost", "twice"])
def test_a_passenger_of_sagas_who_is_not_on_one_manifest(flights: list[str]) -> None:
    """Nobody is lost between two flights, nor on both."""
    story = Story()
    at = story.add(Aboard(0.0, "acme", "p1", flights))
    assert story.found() == [("Whole-sagas", at)]


@pytest.mark.parametrize(("held", "truth"), [("a", "b"), ("", "b"), ("a", "")], ids=["other", "missing", "too many"])
def test_a_follower_of_the_board_who_has_not_what_the_log_says(held: str, truth: str) -> None:
    """As of rows of read models."""
    story = Story()
    story.add(Board(0.0, "c1", "acme", "flight:board", "QX1", "a", "a"))
    at = story.add(Board(0.0, "c1", "acme", "flight:board", "QX2", held, truth))
    assert story.found() == [("Boards-converge", at)]
