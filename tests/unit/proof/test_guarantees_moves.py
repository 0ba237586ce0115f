"""proof.guarantees.moves: Kept, Position-order, Quarantine, Last-place, Alert-once, Alert-comes, Trip-fold."""

from __future__ import annotations

import pytest

from proof.history import (
    Alerted,
    Declined,
    Fault,
    Heal,
    Judged,
    Newest,
    Noticed,
    Open,
    Placed,
    Read,
    Restored,
    Run,
    Sampled,
    Trailed,
    Trip,
    Welcome,
    Wished,
)
from tests.stories import Story

VAN, TRIP, T = "device:van", "trip:9", "acme"


def a_story(**run: float) -> Story:
    story = Story(run=Run(0.0, "a story", live_commits=True, **run))  # type: ignore[arg-type]
    story.join("van", who=VAN)
    story.join("amy")
    return story


def keeps(story: Story, seq: int, verdict: str = "accepted", at_t: float = 1.0) -> int:
    return story.add(Sampled(0.0, T, TRIP, VAN, seq, at_t, verdict))


def answers(story: Story, seq: int, verdict: str = "accepted") -> int:
    return story.add(Judged(0.0, "van", TRIP, VAN, seq, 1.0, verdict))


def shows(story: Story, at_t: float, conn: str = "amy", **more: float) -> int:
    return story.add(Placed(0.0, conn, TRIP, VAN, at_t, **more))  # type: ignore[arg-type]


# Kept


def test_fixes_that_are_kept_before_they_are_answered() -> None:
    """Whatever was thought of them; a duplicate of one that was not taken promises nothing."""
    story = a_story()
    for seq, verdict in enumerate(("accepted", "degraded", "quarantined"), 1):
        keeps(story, seq, verdict)
        answers(story, seq, verdict)
    answers(story, 3, "duplicate")
    answers(story, 4, "rejected")
    story.add(Declined(0.0, T, TRIP, VAN, 5, "future"))
    answers(story, 5, "duplicate")
    for seq in (1, 2, 3):
        story.add(Read(0.0, T, TRIP, VAN, seq, 1))
    assert story.found() == []
    assert story.judged("Kept") == 8


@pytest.mark.parametrize("verdict", ["accepted", "quarantined", "duplicate"])
def test_a_fix_that_is_answered_before_it_is_kept(verdict: str) -> None:
    """Its device has forgotten it by then."""
    story = a_story()
    at = answers(story, 1, verdict)
    assert story.found() == [("Kept", at)]
    keeps(story, 1)
    assert story.found() == [("Kept", at)]


def test_a_fix_that_is_read_twice_or_not_at_all() -> None:
    """Once each."""
    story = a_story()
    for seq in (1, 2):
        keeps(story, seq)
        lost = answers(story, seq)
    twice = story.add(Read(0.0, T, TRIP, VAN, 1, 2))
    assert sorted(story.found()) == [("Kept", lost), ("Kept", twice)]


def test_under_a_clock_that_was_moved_a_fix_may_be_two_samples() -> None:
    """True at two times."""
    story = a_story()
    story.add(Fault(0.0, "wall", "n1"))
    keeps(story, 1)
    story.add(Read(0.0, T, TRIP, VAN, 1, 2))
    assert story.found() == []


# Position-order


def test_places_that_follow_each_other_and_turn_stale() -> None:
    """The same once more is no way back."""
    story = a_story()
    for at_t in (1.0, 2.0, 2.0):
        shows(story, at_t)
    assert story.found() == []
    assert story.judged("Position-order") == 3


def test_a_place_that_goes_back_on_a_connection() -> None:
    """Also where the bus is in trouble."""
    story = a_story()
    story.add(Fault(0.0, "bus loses"))
    shows(story, 2.0)
    assert story.found() == []
    at = shows(story, 1.0)
    assert story.found() == [("Position-order", at)]


def comes_back(story: Story, node: str = "n2") -> None:
    story.add(Open(0.0, "amy2", "client of amy", T, "user:amy", node))
    story.add(Welcome(0.0, "amy2", "s2", True, "e1"))


def test_a_place_that_goes_back_over_connections() -> None:
    """At another node, a while after it was kept and shown."""
    story = a_story()
    keeps(story, 1, at_t=2.0)
    shows(story, 2.0)
    comes_back(story)
    story.wait(3.0)
    at = shows(story, 1.0, "amy2")
    assert story.found() == [("Position-order", at)]


@pytest.mark.parametrize("why", ["at once", "not kept", "bus"])
def test_where_another_node_may_know_less(why: str) -> None:
    """A moment later; or what was kept by nobody yet; or what the bus did not tell."""
    story = a_story()
    if why == "bus":
        story.add(Fault(0.0, "bus parted", "n2"))
    if why != "not kept":
        keeps(story, 1, at_t=2.0)
    shows(story, 2.0)
    comes_back(story)
    if why != "at once":
        story.wait(3.0)
    shows(story, 1.0, "amy2")
    assert story.found() == []


def test_an_age_that_is_not_true() -> None:
    """Neither younger nor older; under a clock that was moved nobody knows."""
    story = a_story()
    shows(story, 1.0, age_s=4.0, sent_t=5.1)
    at = shows(story, 2.0, age_s=0.0, sent_t=5.1)
    assert story.found() == [("Position-order", at)]
    moved = a_story()
    moved.add(Fault(0.0, "wall", "n1"))
    shows(moved, 2.0, age_s=0.0, sent_t=5.1)
    assert moved.found() == []


# Quarantine


def test_what_is_quarantined_is_shown_to_nobody() -> None:
    """As a place or in a trail; what was believed when it was said again is shown rightly."""
    story = a_story()
    keeps(story, 1, "quarantined", 1.0)
    keeps(story, 2, "quarantined", 2.0)
    keeps(story, 2, "accepted", 2.0)
    shows(story, 2.0)
    story.add(Trailed(0.0, "amy", TRIP, VAN, [0.5, 2.0]))
    assert story.found() == []
    assert story.judged("Quarantine") == 2
    trail = story.add(Trailed(0.0, "amy", TRIP, VAN, [1.0, 2.0]))
    story.join("bob")
    place = shows(story, 1.0, "bob")
    assert story.found() == [("Quarantine", trail), ("Quarantine", place)]


# Last-place


@pytest.mark.parametrize("fresh", [False, True])
def test_where_it_was_last(fresh: bool) -> None:
    """To who follows and who has just joined: not before that, and not nowhere."""
    story = a_story()
    story.add(Newest(0.0, "amy", TRIP, VAN, 3.0, 3.0, fresh))
    assert story.found() == []
    assert story.judged("Last-place") == 1
    behind = story.add(Newest(0.0, "amy", TRIP, VAN, 2.0, 3.0, fresh))
    nothing = story.add(Newest(0.0, "amy", TRIP, VAN, None, 3.0, fresh))
    assert story.found() == [("Last-place", behind), ("Last-place", nothing)]


# Alert-once


def alerts(story: Story, seq: int, threshold_s: int, *merged: int) -> int:
    return story.add(Alerted(0.0, T, TRIP, seq, "b", "user:amy", threshold_s, list(merged)))


def notices(story: Story, seq: int, threshold_s: int) -> int:
    return story.add(Noticed(0.0, T, "user:amy", seq, TRIP, "b", threshold_s))


def test_alerts_and_their_notices() -> None:
    """One each; one that stands for others has a notice of its own alone."""
    story = a_story(work_s=8.0)
    alerts(story, 1, 600)
    alerts(story, 2, 300, 400)
    notices(story, 1, 600)
    notices(story, 2, 300)
    assert story.found() == []
    assert story.judged("Alert-once") == 4


def test_an_alert_that_was_given_before() -> None:
    """By itself, or by one that stood for it."""
    story = a_story()
    alerts(story, 1, 300, 600)
    again = alerts(story, 2, 300)
    stood_for = alerts(story, 3, 600)
    assert story.found() == [("Alert-once", again), ("Alert-once", stood_for)]


def test_notices_that_come_twice_of_nothing_or_not_at_all() -> None:
    """What is in the stream is in the inbox, once."""
    story = a_story(work_s=8.0)
    alerts(story, 1, 600)
    none = alerts(story, 2, 300)
    notices(story, 1, 600)
    twice = notices(story, 2, 600)
    nobodys = notices(story, 3, 60)
    assert story.found() == [("Alert-once", none), ("Alert-once", twice), ("Alert-once", nobodys)]


def test_what_a_restore_undid_may_be_said_again() -> None:
    """The log knows nothing of it."""
    story = a_story()
    alerts(story, 5, 300)
    notices(story, 4, 300)
    story.add(Restored(0.0, "e2", {f"{T}/{TRIP}": 2, f"{T}/user:amy": 1}))
    alerts(story, 3, 300)
    notices(story, 2, 300)
    assert story.found() == []


# Alert-comes


def wishes(story: Story, threshold_s: int, there_t: float = 100.0) -> int:
    return story.add(Wished(100.0, T, TRIP, "b", "user:amy", threshold_s, 1.0, there_t, 3.0))


def test_who_wants_to_be_told_is_told() -> None:
    """By an alert of its own, or one that stood for it; whose threshold was passed as they asked need not be."""
    story = a_story()
    story.add(Heal(2.0))
    alerts(story, 1, 30, 60)
    assert {wishes(story, 30), wishes(story, 60), wishes(story, 97)}
    assert story.found() == []
    assert story.judged("Alert-comes") == 2


@pytest.mark.parametrize("late", [False, True])
def test_who_is_told_late_or_not_at_all(late: bool) -> None:
    """Before it is there, or it is nothing."""
    story = a_story()
    story.add(Heal(2.0))
    if late:
        story.wait(99.0)
        alerts(story, 1, 30)
    at = wishes(story, 30)
    assert story.found() == [("Alert-comes", at)]


@pytest.mark.parametrize("why", ["troubled", "clock"])
def test_where_an_alert_may_be_late(why: str) -> None:
    """It was there as the troubles ended; or no clock can be trusted."""
    story = a_story()
    story.add(Fault(0.0, "wall", "n1") if why == "clock" else Heal(98.0))
    wishes(story, 30)
    assert story.found() == []


# Trip-fold


def test_a_trip_as_it_is_told_and_ended() -> None:
    """By each node; one that was never under way has no end."""
    story = a_story()
    story.add(Trip(0.0, "n1", T, TRIP, "x", "x", 1, True))
    story.add(Trip(0.0, "n1", T, TRIP, "x", "x", 0, False))
    assert story.found() == []
    told = story.add(Trip(0.0, "n1", T, TRIP, "y", "x", 1, True))
    endless = story.add(Trip(0.0, "n1", T, TRIP, "x", "x", 0, True))
    twice = story.add(Trip(0.0, "n1", T, TRIP, "x", "x", 2, True))
    assert story.found() == [("Trip-fold", told), ("Trip-fold", endless), ("Trip-fold", twice)]


def test_under_a_clock_that_was_moved_an_end_may_be_missed() -> None:
    """But it does not come twice."""
    story = a_story()
    story.add(Fault(0.0, "wall", "n1"))
    story.add(Trip(0.0, "n1", T, TRIP, "x", "x", 0, True))
    assert story.found() == []
    twice = story.add(Trip(0.0, "n1", T, TRIP, "x", "x", 2, True))
    assert story.found() == [("Trip-fold", twice)]
