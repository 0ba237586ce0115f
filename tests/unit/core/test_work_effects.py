"""What a batch of events led to: put together in order, and told apart from nothing."""

from __future__ import annotations

from core.work import Effects
from tests.works import firing, keys, row, task


def test_effects_of_two_are_one_after_the_other() -> None:
    """Each kind for itself; the other's stay as they were."""
    one, two = Effects(rows=[row("a")], unparks=[1]), Effects(rows=[row("b")], tasks=[task()], firings=[firing()])
    one.merge(two)
    assert keys(one.rows) == ["a", "b"]
    assert (len(one.tasks), len(one.firings), one.unparks, one.parks) == (1, 1, [1], [])
    assert keys(two.rows) == ["b"]


def test_effects_are_something_or_nothing() -> None:
    """One of any kind is something."""
    assert not Effects()
    assert Effects(unparks=[1])
    assert Effects(rows=[row("a")])
