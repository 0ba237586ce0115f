"""proof.guarantees.latest: Presence-converges, Latest-value, Snapshot-law."""

from __future__ import annotations

from typing import Any

import pytest

from proof.history import Fault, Restored, There, Unfollow, View
from tests.stories import ROOM, Story

PRESENT = {"user:amy": "online", "user:bob": "away"}


def at_the_end(present: dict[str, str], **options: Any) -> tuple[Story, int]:
    """Amy's view beside the truth, with the view's index."""
    story = Story(live=False)
    story.join("c1", **options)
    at = story.add(View(0.0, "c1", ROOM, 0, None, present))
    story.add(There(0.0, "acme", ROOM, PRESENT))
    return story, at


# Presence-converges


@pytest.mark.parametrize(
    "present",
    [
        PRESENT,
        {"user:bob": "away"},  # without its own
        {"user:amy": "away", "user:bob": "away"},  # as it was when asked
        {"user:amy": "online", "user:bob": "away", "user:cy": "offline"},
    ],
)
def test_a_view_that_is_right(present: dict[str, str]) -> None:
    """Everybody else is as they are; one's own presence is not told, and who is offline need not be left out."""
    story, _ = at_the_end(present)
    assert story.found() == []
    assert story.judged("Presence-converges") == 1


@pytest.mark.parametrize(
    "present",
    [
        {},
        {"user:bob": "online"},
        {"user:bob": "away", "user:cy": "online"},
    ],
)
def test_a_view_that_is_wrong(present: dict[str, str]) -> None:
    """Somebody is missing, otherwise than they are, or not here at all."""
    story, at = at_the_end(present)
    assert story.found() == [("Presence-converges", at)]


def test_presence_of_another_tenants_room_is_another() -> None:
    """The truth is of a tenant's stream, and what was not looked at is not judged."""
    story = Story(live=False)
    story.join("c1", tenant="other")
    story.add(View(0.0, "c1", ROOM, 0, None, {"user:dee": "online"}))
    story.join("c2")
    story.add(View(0.0, "c2", ROOM, 0))
    story.add(There(0.0, "acme", ROOM, PRESENT))
    assert story.found() == []
    assert story.judged("Presence-converges") == 0


# Latest-value: markers


def followed() -> Story:
    story = Story()
    story.join("c1")
    for seq in (1, 2, 3):
        story.event(seq, "c1")
    return story


def test_markers_that_rise() -> None:
    """Each principal's rise by themselves, up to what the connection has; what is repeated has not fallen."""
    story = followed()
    for value in ([1, 0], [1, 1], [3, 1], [3, 1], [3, 3]):
        story.told("c1", "mark", value)
    story.told("c1", "mark", [1, 0], by="user:cy")
    story.told("c1", "marks", {"seq": 3}, by=None)
    story.join("c2", 3, who="user:dee")
    story.told("c2", "mark", [2, 0])
    assert story.found() == []
    assert story.judged("Latest-value") == 8


@pytest.mark.parametrize("fallen", [[2, 1], [3, 0]])
def test_a_marker_that_falls(fallen: list[int]) -> None:
    """Neither of the two."""
    story = followed()
    story.told("c1", "mark", [3, 1])
    at = story.told("c1", "mark", fallen)
    assert story.found() == [("Latest-value", at)]


def test_markers_that_a_crash_took_along_are_told_as_they_are_stored_to_who_follows_anew() -> None:
    """In one span of following they never fall; in the next they may, after a crash, and only then."""

    def again(*, crash: bool) -> list[tuple[str, int]]:
        story = followed()
        story.told("c1", "mark", [3, 3])
        if crash:
            story.add(Fault(0.0, "crash", "n2"))
        story.add(Unfollow(0.0, "c1", ROOM))
        story.follow("c1", 3)
        at = story.told("c1", "mark", [3, 1])
        return [(name, where - at) for name, where in story.found()]

    assert again(crash=True) == []
    assert again(crash=False) == [("Latest-value", 0)]


def test_a_marker_read_beyond_delivered() -> None:
    """Reading implies delivery."""
    story = followed()
    at = story.told("c1", "mark", [1, 2])
    assert story.found() == [("Latest-value", at)]


def test_a_marker_before_its_event() -> None:
    """It never speaks of an event that the connection has not got."""
    story = followed()
    story.commit(4)
    at = story.told("c1", "mark", [4, 0])
    story.took("c1", 4)
    assert story.found() == [("Latest-value", at)]


def test_a_marker_after_a_cursor_was_moved() -> None:
    """The cursor is where the answer, or a reset, put it; where the stream is not followed there is none."""
    story = followed()
    story.reset("c1", "ahead", 1, 3)
    at = story.told("c1", "mark", [1, 1])
    story.add(Unfollow(0.0, "c1", ROOM))
    story.told("c1", "mark", [9, 9])
    assert story.found() == [("Latest-value", at)]


def test_a_marker_of_another_shape() -> None:
    """A value that is no pair of seqs is not judged as one."""
    story = followed()
    for value in (None, 7, [1], [1, 2, 3], {"delivered": 1}):
        story.told("c1", "mark", value)
    assert story.found() == []


# Latest-value: signals


def test_a_signal_before_an_event_that_its_node_had() -> None:
    """Events go first: with the head of the node at that moment, all up to it is here."""
    story = followed()
    story.told("c1", "typing", True, head=3)
    story.commit(4)
    at = story.told("c1", "typing", False, head=4)
    assert story.found() == [("Latest-value", at)]


def test_typing_that_goes_back() -> None:
    """An older state is not told after a newer one; another person's, or another stream's, is another signal."""
    story = followed()
    story.wait(5.0)
    story.told("c1", "typing", True, age_s=0.1)
    story.told("c1", "typing", True, by="user:cy", age_s=3.0)
    story.told("c1", "typing", True, stream="chat:b", age_s=3.0)
    at = story.told("c1", "typing", False, age_s=1.0)
    assert story.found() == [("Latest-value", at)]


def test_ages_are_rounded() -> None:
    """Two ages of one signal may seem to be up to 0.15 s apart."""
    story = followed()
    story.wait(5.0)
    story.told("c1", "typing", True, age_s=0.0)
    story.wait(1.0)
    story.told("c1", "typing", True, age_s=1.1)
    assert story.found() == []


def test_a_stalled_client_reads_old_signals_late() -> None:
    """After trouble only the time on the wire tells a signal's origin."""
    story = followed()
    story.add(Fault(0.0, "stall", for_s=5.0))
    story.wait(5.0)
    story.told("c1", "typing", True, age_s=0.0)
    story.told("c1", "typing", True, age_s=4.9)
    assert story.found() == []


def test_a_signal_whose_way_is_known() -> None:
    """With the time on the wire, origins are known in any weather."""
    story = followed()
    story.add(Fault(0.0, "stall", for_s=5.0))
    story.wait(5.0)
    story.told("c1", "typing", True, age_s=0.0, sent_t=1.0)
    story.told("c1", "typing", True, age_s=2.0, sent_t=3.0)
    at = story.told("c1", "typing", False, age_s=3.0, sent_t=3.5)
    assert story.found() == [("Latest-value", at)]


# Snapshot-law


def views(kept: dict[str, Any], fresh: dict[str, Any], *faults: Fault | Restored) -> tuple[Story, int]:
    """Amy's view, that of Bob who has just joined, and the index of the first."""
    story = Story(live=False)
    for fault in faults:
        story.add(fault)
    story.join("c1")
    story.join("c2", who="user:bob")
    at = story.add(View(0.0, "c1", ROOM, **{"head": 3, **kept}))
    story.add(View(0.0, "c2", ROOM, fresh=True, **{"head": 3, **fresh}))
    return story, at


@pytest.mark.parametrize(
    ("kept", "fresh"),
    [
        ({"marks": {"user:cy": [3, 2]}}, {"marks": {"user:cy": [3, 2]}}),
        ({"marks": {"user:bob": [3, 2]}}, {"marks": {"user:amy": [1, 0], "user:cy": [0, 0]}}),  # their own, and nothing
        ({"marks": {"user:cy": [3, 2]}}, {}),  # not looked at
        ({"present": {"user:cy": "away"}}, {"present": {"user:cy": "away", "user:bob": "online"}}),
        ({"present": {"user:cy": "offline", "user:bob": "online"}}, {"present": {"user:amy": "online"}}),
    ],
)
def test_views_that_are_the_same(kept: dict[str, Any], fresh: dict[str, Any]) -> None:
    """But for each one's own, which it is not told."""
    story, _ = views(kept, fresh)
    assert story.found() == []
    assert story.judged("Snapshot-law") == 1


@pytest.mark.parametrize(
    ("kept", "fresh"),
    [
        ({"head": 2}, {}),
        ({"marks": {"user:cy": [2, 2]}}, {"marks": {"user:cy": [3, 2]}}),
        ({"marks": {"user:cy": [3, 2]}}, {"marks": {}}),
        ({"present": {}}, {"present": {"user:cy": "away"}}),
        ({"present": {"user:cy": "online"}}, {"present": {"user:cy": "away"}}),
    ],
)
def test_views_that_differ(kept: dict[str, Any], fresh: dict[str, Any]) -> None:
    """Head, markers and presence."""
    story, at = views(kept, fresh)
    assert story.found() == [("Snapshot-law", at)]


def test_a_crash_forgets_half_a_second_of_markers() -> None:
    """Who was told of one may know it alone; a marker that one who was there lacks was lost on the way."""
    crash = Fault(0.0, "crash", "n1")
    story, _ = views({"marks": {"user:cy": [3, 2]}}, {"marks": {"user:cy": [2, 2]}}, crash)
    assert story.found() == []
    story, at = views({"marks": {"user:cy": [2, 2]}}, {"marks": {"user:cy": [3, 2]}}, crash)
    assert story.found() == [("Snapshot-law", at)]


def test_a_snapshot_has_what_is_stored_of_markers() -> None:
    """Or more, which is not stored yet; its own are left out, and the views of those who were there before are not asked."""

    def shown(*, stored: dict[str, list[int]] | None, fresh: dict[str, list[int]] | None) -> list[tuple[str, int]]:
        story = Story(live=False)
        story.join("c1")
        at = story.add(View(0.0, "c1", ROOM, 3, fresh, None, True))
        story.join("c2", who="user:bob")
        story.add(View(0.0, "c2", ROOM, 3))
        story.add(There(0.0, "acme", ROOM, {}, stored))
        return [(name, where - at) for name, where in story.found() if name == "Snapshot-law"]

    for stored, fresh in (
        ({"user:cy": [3, 2]}, {"user:cy": [3, 2]}),
        ({"user:cy": [3, 2]}, {"user:cy": [3, 3]}),
        ({"user:amy": [3, 2]}, {}),
        ({"user:cy": [0, 0]}, {}),
        ({"user:cy": [3, 2]}, None),
        (None, {}),
    ):
        assert shown(stored=stored, fresh=fresh) == []
    for stored, fresh in (
        ({"user:cy": [3, 2]}, {}),
        ({"user:cy": [3, 2]}, {"user:cy": [2, 2]}),
        ({"user:cy": [3, 2]}, {"user:cy": [3, 1]}),
        ({"user:cy": [3, 2], "user:dee": [1, 1]}, {"user:cy": [3, 2]}),
    ):
        assert shown(stored=stored, fresh=fresh) == [("Snapshot-law", 0)]


def test_views_are_compared_within_a_scope() -> None:
    """Another node may know of a marker that this one lost with a third's life."""
    story = Story(live=False)
    for number, (scope, mark) in enumerate((("n1", 3), ("n2", 2))):
        story.join(f"c{number}", who=f"user:{number}")
        at = story.add(View(0.0, f"c{number}", ROOM, 3, {"user:cy": [3, 0]}, scope=scope))
        story.join(f"f{number}", who="user:fresh")
        story.add(View(0.0, f"f{number}", ROOM, 3, {"user:cy": [mark, 0]}, None, True, scope))
    assert story.found() == [("Snapshot-law", at)]


def test_two_fresh_views_differ() -> None:
    """A snapshot is the same for all who take it."""
    story, _ = views({}, {"present": {"user:cy": "online"}})
    story.join("c3", who="user:dee")
    at = story.add(View(0.0, "c3", ROOM, 3, None, {}, True))
    assert story.found() == [("Snapshot-law", at)]


def test_views_without_a_fresh_one() -> None:
    """With nothing to compare, nothing is seen."""
    story = Story(live=False)
    story.join("c1")
    story.add(View(0.0, "c1", ROOM, 3))
    assert story.found() == []
    assert story.judged("Snapshot-law") == 0
