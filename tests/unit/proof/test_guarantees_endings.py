"""proof.guarantees.endings: Bounded, Drain, Clean-exit, Progress."""

from __future__ import annotations

import pytest

from proof.history import Bound, Drained, Draining, DrainTold, Exit, Fault, Heal, Run, Stand
from tests.stories import Story

# Bounded


@pytest.mark.parametrize(("value", "found"), [(63, False), (64, False), (65, True)])
def test_a_buffer_and_its_limit(value: int, found: bool) -> None:
    """Up to its limit, and not past it."""
    story = Story()
    at = story.add(Bound(0.0, "n1", "parked batches", value, 64))
    assert story.found() == ([("Bounded", at)] if found else [])
    assert story.judged("Bounded") == 1


# Clean-exit


@pytest.mark.parametrize(
    ("wanted", "status", "left", "found"),
    [
        (True, 0, [], 0),
        (False, -9, [], 0),
        (True, 1, [], 1),
        (True, 0, ["a socket"], 1),
        (False, -9, ["a lease"], 1),
        (True, 3, ["a socket"], 2),
    ],
)
def test_an_exit(wanted: bool, status: int, left: list[str], found: int) -> None:
    """Nothing is left behind, and a wanted exit has status 0; a kill has none of its own."""
    story = Story()
    at = story.add(Exit(0.0, "n1", wanted, status, left))
    assert story.found() == [("Clean-exit", at)] * found


# Progress


def stand(story: Story, cursor: int, *, head: int = 5, connected: bool = True) -> int:
    return story.add(Stand(0.0, "amy", "acme", "chat:a", cursor, head, connected))


def test_all_stand_at_head() -> None:
    """With or without trouble before."""
    story = Story()
    story.add(Heal(0.0))
    story.wait(2.0)
    stand(story, 5)
    assert story.found() == []
    assert story.judged("Progress") == 1


@pytest.mark.parametrize("healed", [True, False])
@pytest.mark.parametrize(("cursor", "connected"), [(4, True), (6, True), (5, False)])
def test_who_does_not_stand_at_head(cursor: int, connected: bool, healed: bool) -> None:
    """Behind it, past it, or nowhere."""
    story = Story()
    if healed:
        story.add(Heal(0.0))
        story.wait(2.0)
    at = stand(story, cursor, connected=connected)
    assert story.found() == [("Progress", at)]


def test_amid_trouble_nobody_need_stand_anywhere() -> None:
    """Before the last healing, and until the settling time after it is over."""
    story = Story(run=Run(0.0, "a story", settle_s=2.0))
    story.add(Heal(0.0))
    story.add(Fault(0.0, "cut"))
    story.wait(3.0)
    stand(story, 2)
    story.add(Heal(0.0))
    story.wait(1.9)
    stand(story, 3)
    story.wait(0.2)
    at = stand(story, 4)
    assert story.found() == [("Progress", at)]
    assert story.judged("Progress") == 1


# Drain


def draining() -> Story:
    """Amy is on a node that begins to drain; Bob is on another."""
    story = Story()
    story.join("c1", node="n1")
    story.join("c2", node="n2", who="user:bob")
    story.add(Draining(0.0, "n1", 10.0, 1))
    return story


def test_a_drain_as_it_should_be() -> None:
    """Everybody there is told, everything asked is answered, who stays is sent away, and it ends in its window."""
    story = draining()
    story.add(DrainTold(0.0, "c1", 8.0))
    story.wait(3.0)
    story.asks("c1", "send", "k")
    story.commit(1, "k")
    story.answered("c1", 1, "k")
    story.asks("c1", "send", "j")
    story.ended("c1", "server", 4001, "this node is going away", "draining")
    story.wait(6.5)
    story.add(Drained(0.0, "n1"))
    assert story.found() == []
    assert story.judged("Drain") == 1


@pytest.mark.parametrize("whole", [True, False])
def test_a_drain_that_takes_too_long(whole: bool) -> None:
    """Also where the history ends before it does."""
    story = draining()
    began = len(story.records) - 1
    story.add(DrainTold(0.0, "c1", 8.0))
    story.wait(10.7)
    at = story.add(Drained(0.0, "n1")) if whole else began
    if not whole:
        story.add(Bound(0.0, "n2", "rings", 1, 2))
    assert story.found(whole=whole) == [("Drain", at)]


def test_a_drain_that_was_paused_or_died_or_is_under_way() -> None:
    """A pause lengthens it, a crash ends it, and a history cut short may end amid it."""
    story = draining()
    story.add(DrainTold(0.0, "c1", 8.0))
    story.add(Fault(0.0, "pause", "n1", 5.0))
    story.ended("c1", "client")
    story.wait(14.0)
    story.add(Drained(0.0, "n1"))
    story.add(Draining(0.0, "n2", 10.0, 1))
    story.add(Fault(0.0, "crash", "n2"))
    story.ended("c2")
    story.wait(60.0)
    story.add(Fault(0.0, "kill", "n3"))
    story.add(Draining(0.0, "n3", 10.0))
    assert story.found() == []
    cut = draining()
    cut.wait(5.0)
    cut.add(DrainTold(0.0, "c1", 8.0))
    assert cut.found(whole=False) == []


def test_a_drain_without_an_end() -> None:
    """A whole history has the end of every drain that began."""
    story = draining()
    at = len(story.records) - 1
    story.add(DrainTold(0.0, "c1", 8.0))
    assert story.found() == [("Drain", at)]


def test_a_slot_past_the_window() -> None:
    """Nobody is told to stay longer than the node does."""
    story = draining()
    at = story.add(DrainTold(0.0, "c1", 10.5))
    story.ended("c1", "client")
    story.add(Drained(0.0, "n1"))
    assert story.found() == [("Drain", at)]


def test_who_was_not_told() -> None:
    """Sent away without a time to come back first, or left standing."""
    story = draining()
    sent_away = story.ended("c1", "server", 4001, "this node is going away", "draining")
    story.add(Drained(0.0, "n1"))
    assert story.found() == [("Drain", sent_away)]
    story = draining()
    at = story.add(Drained(0.0, "n1"))
    story.wait(1.0)
    assert story.found() == [("Drain", at)]


def test_who_came_too_late_to_be_told() -> None:
    """A newcomer is sent away with a bye; who has left by itself needs to be told nothing."""
    story = draining()
    story.ended("c1", "client")
    story.open("c3", node="n1", who="user:cy")
    story.ended("c3", "server", 4001, "this node is going away", "draining")
    story.add(Drained(0.0, "n1"))
    assert story.found() == []


def test_who_was_ended_for_something_else() -> None:
    """That may have been before the drain, and is only read in it."""
    story = draining()
    story.ended("c1", "server", 4504, "a newer connection speaks for this session", "superseded")
    story.add(Drained(0.0, "n1"))
    assert story.found() == []


def test_a_send_that_a_drain_forgets() -> None:
    """What was taken is answered, or its sender told of the end: not cut off, not left without a word."""
    story = draining()
    story.add(DrainTold(0.0, "c1", 8.0))
    story.asks("c1", "send", "k", within_s=5.0)
    cut = story.ended("c1", "network")
    story.add(Drained(0.0, "n1"))
    assert story.found() == [("Drain", cut)]
    story = draining()
    story.add(DrainTold(0.0, "c1", 8.0))
    at = story.asks("c1", "send", "k", within_s=5.0)
    story.add(Drained(0.0, "n1"))
    story.wait(1.0)
    assert story.found() == [("Drain", at)]


def test_a_send_that_the_network_took() -> None:
    """With trouble on the links, an end by the network is not the node's."""
    story = draining()
    story.add(DrainTold(0.0, "c1", 8.0))
    story.asks("c1", "send", "k", within_s=5.0)
    story.add(Fault(0.0, "cut"))
    story.ended("c1", "network")
    story.add(Drained(0.0, "n1"))
    assert story.found() == []


def test_a_client_that_reads_nothing_while_its_node_drains() -> None:
    """What it was told lies in its pipe, and then there is an end: of its sends nobody can tell it anything."""
    story = draining()
    story.asks("c1", "send", "k")
    story.add(Drained(0.0, "n1"))
    story.wait(1.0)
    story.ended("c1", "server", reason="no close frame")
    assert story.found() == []
