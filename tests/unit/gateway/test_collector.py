"""gateway.memory: what stays is frozen when there is enough of it, and even what froze in a cycle is found one day."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway import memory
from gateway.memory import YOUNG_COLLECTIONS, Collector, watching


@pytest.fixture(autouse=True)
def collector_as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


class Knot:
    """In a cycle with itself: nothing but a collection frees it."""

    def __init__(self) -> None:
        self.me = self


def age() -> None:
    """As many collections of the youngest generation as make `tidy` act."""
    for _ in range(YOUNG_COLLECTIONS):
        gc.collect(0)


def test_nothing_is_frozen_before_the_node_serves() -> None:
    """Tests, tools and the command line keep the collector that they came with."""
    collector = Collector()
    age()
    assert not collector.tidy()
    assert gc.get_freeze_count() == 0


def test_what_came_to_stay_is_frozen_once_there_may_be_enough_of_it() -> None:
    """Two collections of the young later, and not before; then a full collection finds nothing to walk."""
    collector = Collector()
    collector.freeze()
    assert not collector.tidy()
    kept = [Knot() for _ in range(1_000)]
    age()
    frozen = gc.get_freeze_count()
    assert collector.tidy()
    assert gc.get_freeze_count() >= frozen + len(kept)
    assert len(gc.get_objects()) < len(kept)
    assert collector.freezes == 2


def test_garbage_is_collected_before_the_rest_is_frozen() -> None:
    """A cycle dropped before `tidy` is freed by it."""
    collector = Collector()
    collector.freeze()
    freed: list[int] = []

    class Told(Knot):
        def __del__(self) -> None:
            freed.append(1)

    Told()
    age()
    gc.collect(0)
    collector.tidy()
    assert freed == [1]


def test_what_froze_in_a_cycle_is_found_when_everything_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen cycle that is dropped stays, until so many freezes later all is thawed and looked through once."""
    monkeypatch.setattr(memory, "FREEZES_MAX", 3)
    collector = Collector()
    freed: list[int] = []

    class Told(Knot):
        def __del__(self) -> None:
            freed.append(1)

    knot = Told()
    collector.freeze()
    del knot
    for _ in range(2):
        age()
        assert collector.tidy()
    assert (freed, collector.cleanings) == ([], 0)
    age()
    assert collector.tidy()
    assert (freed, collector.cleanings, collector.freezes) == ([1], 1, 1)


def test_watching_sees_each_collection_and_lets_go() -> None:
    """Generation and seconds of every collection in the block, of none after it."""
    seen: list[tuple[int, float]] = []
    with watching(lambda generation, seconds: seen.append((generation, seconds))):
        gc.collect(1)
        gc.collect()
    gc.collect()
    assert [generation for generation, _ in seen if generation] == [1, 2]
    assert all(seconds >= 0 for _, seconds in seen)
