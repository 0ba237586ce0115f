"""When a push is tried again, and what a task remembers of its devices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.push.rules import (
    SENT,
    Progress,
    PushLimits,
    Verdict,
    later,
    ref_of,
    refused,
    wait_s,
)

LIMITS = PushLimits()
NOW_S = 1_790_000_000.0
NOW_MS = 1_790_000_000_000


@given(st.floats(0, 3_600), st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_what_was_asked_for_is_never_cut_short(after_s: float, tries: int, uniform: float) -> None:
    """Jitter only adds, a tenth at most."""
    assert after_s <= wait_s(after_s, tries, uniform, LIMITS) <= 1.1 * after_s


def test_backoff_doubles_up_to_a_bound() -> None:
    """1, 2, 4, … 60 s in the middle, half as much either way."""
    waits = [wait_s(None, tries, 0.5, LIMITS) for tries in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert wait_s(None, 3, 0.0, LIMITS) == 2.0
    assert wait_s(None, 10_000, 0.0, LIMITS) == 30.0


def test_a_ref_is_a_tokens_own() -> None:
    """Of service and token together, and neither can be read in it."""
    assert ref_of("fcm", "abc") == ref_of("fcm", "abc") != ref_of("apns", "abc")
    assert "abc" not in ref_of("fcm", "abc")


def test_reasons_are_short() -> None:
    """Whatever a service says."""
    assert len(refused("x" * 1_000).reason) == len(later("x" * 1_000).reason) == 120


def test_what_is_done_stays_done() -> None:
    """Sent, dead and refused are kept with their reasons; only the rest is due, when it may be."""
    progress = Progress()
    progress.note("a", SENT, NOW_MS, 0.0, LIMITS)
    progress.note("b", Verdict("dead", "Unregistered"), NOW_MS, 0.0, LIMITS)
    progress.note("c", refused("400 BadTopic"), NOW_MS, 0.0, LIMITS)
    progress.note("d", later("429", 60.0), NOW_MS, 0.0, LIMITS)
    assert progress.done == {"a": "sent", "b": "dead: Unregistered", "c": "refused: 400 BadTopic"}
    assert [ref for ref in "abcde" if progress.is_due(ref, NOW_MS)] == ["e"]
    assert progress.is_due("d", NOW_MS + 60_000)
    assert not progress.is_due("d", NOW_MS + 59_999)
    assert progress.next_ms(["a", "b", "c"]) is None
    assert progress.next_ms(["a", "d"]) == NOW_MS + 60_000
    assert progress.next_ms(["d", "e"]) == 0
    assert progress.says() == "1 dead, 1 refused, 1 sent"
    assert Progress().says() == "no device is registered"


def test_tries_are_counted_where_something_was_tried() -> None:
    """A bound that was met leaves the backoff where it is; a verdict at last forgets the tries."""
    progress = Progress()
    for _ in range(3):
        progress.note("a", later("503"), NOW_MS, 0.5, LIMITS)
    assert progress.not_before_ms["a"] == NOW_MS + 4_000
    progress.note("a", later("full", 0.25, counts=False), NOW_MS, 0.0, LIMITS)
    assert (progress.tries["a"], progress.not_before_ms["a"]) == (3, NOW_MS + 250)
    progress.note("a", SENT, NOW_MS, 0.0, LIMITS)
    assert (progress.tries, progress.not_before_ms, progress.why) == ({}, {}, {})
    assert progress.document() == {"pushed": {"done": {"a": "sent"}}}


def test_whichever_was_written_last() -> None:
    """A task's body and its progress are read together: done is done in either, and no time is earlier than in the other."""
    old, new = Progress(), Progress()
    old.note("a", later("503"), NOW_MS, 0.0, LIMITS)
    new.note("a", later("429", 60.0), NOW_MS, 0.0, LIMITS)
    new.note("b", SENT, NOW_MS, 0.0, LIMITS)
    for documents in ((old.document(), new.document()), (new.document(), old.document())):
        both = Progress.of(*documents)
        assert both.document() == new.document()
    assert Progress.of({}, {}).document() == {"pushed": {}}


def test_giving_up_says_why() -> None:
    """Those left are too late, with the last reason where there is one; those done stay."""
    progress = Progress()
    progress.note("a", SENT, NOW_MS, 0.0, LIMITS)
    progress.note("b", later("503"), NOW_MS, 0.0, LIMITS)
    progress.give_up(["a", "b", "c"], "too_late")
    assert progress.done == {"a": "sent", "b": "too_late: 503", "c": "too_late"}
    assert progress.next_ms(["a", "b", "c"]) is None
    assert progress.says() == "1 sent, 2 too_late"


def test_who_sends_renews() -> None:
    """A task cannot remember that a token was not good: that is not the device's."""
    with pytest.raises(AssertionError):
        Progress().note("a", Verdict("renew"), NOW_MS, 0.0, LIMITS)
