"""Batches in order: what comes early waits for what lies before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.hub import Hub
from core.limits import Limits
from core.model import StreamFacts
from core.sequencer import Sequencer
from core.stream import Stream


def hub_with_stream() -> tuple[Hub, Stream]:
    hub = Hub(4, Limits(), fetch=lambda stream, after: None, fill=lambda stream: None)
    hub.loading()
    hub.load([(StreamFacts(1, "demo", "chat:ops", 2, 0, 1, True, "member"), "user:amy")], 0.0)
    return hub, hub.by_sid[1]


def rows(stream: Stream, first: int, last: int) -> list[tuple[Stream, int, bytes]]:
    return [(stream, seq, b"%d" % seq) for seq in range(first, last + 1)]


@given(st.permutations([(1, 3), (4, 4), (5, 9), (10, 12)]), st.lists(st.integers(0, 3)))
def test_any_order_of_arrival_ends_in_one_order(order: list[tuple[int, int]], again: list[int]) -> None:
    """Batches in any order, some twice: the stream has every event once, in order, and nothing stays parked."""
    hub, stream = hub_with_stream()
    sequencer = Sequencer(hub, 8)
    for first, last in order + [order[at] for at in again]:
        sequencer.take(2, first, last, rows(stream, first, last), 0.0)
    assert stream.frames == [b"%d" % seq for seq in range(1, 13)]
    assert hub.pos[2] == 12
    assert not sequencer


def test_what_is_missing_too_long_is_overdue() -> None:
    """Counted from when the first batch had to wait; another that waits does not start the time anew."""
    hub, stream = hub_with_stream()
    sequencer = Sequencer(hub, 8)
    assert not sequencer.take(2, 5, 6, rows(stream, 5, 6), 10.0)
    assert not sequencer.take(2, 7, 7, rows(stream, 7, 7), 10.02)
    assert hub.pos[2] == 0
    assert sequencer.overdue(10.029, 0.03) == []
    assert sequencer.overdue(10.031, 0.03) == [2]


def test_what_the_log_brought_is_not_kept() -> None:
    """After a read of the log, parked batches follow or, where they came with it, are forgotten."""
    hub, stream = hub_with_stream()
    sequencer = Sequencer(hub, 8)
    sequencer.take(2, 3, 4, rows(stream, 3, 4), 0.0)
    sequencer.take(2, 5, 5, rows(stream, 5, 5), 0.0)
    hub.ingest(2, 1, 4, rows(stream, 1, 4))
    sequencer.settle(2)
    assert stream.head == 5
    assert not sequencer
    assert sequencer.overdue(1e9, 0.0) == []
    sequencer.settle(2)


def test_parked_batches_are_bounded() -> None:
    """Beyond the bound the newest are let go: the log has them."""
    hub, stream = hub_with_stream()
    sequencer = Sequencer(hub, 2)
    for first in (3, 5, 7):
        assert not sequencer.take(2, first, first + 1, rows(stream, first, first + 1), 0.0)
    hub.ingest(2, 1, 2, rows(stream, 1, 2))
    sequencer.settle(2)
    assert stream.head == 6
    assert not sequencer


def test_forgetting_leaves_nothing() -> None:
    """The hub starts over: what was parked is of another log."""
    hub, stream = hub_with_stream()
    sequencer = Sequencer(hub, 2)
    sequencer.take(2, 3, 4, rows(stream, 3, 4), 0.0)
    sequencer.forget()
    assert not sequencer


def test_a_stream_let_go_while_its_batch_waits_gets_it_when_it_is_back() -> None:
    """Evicted and loaded again it is another object, and the parked batch was for the old one: followers of the new
    missed the event, and the bytes given to the old one were counted for good."""
    hub, old = hub_with_stream()
    sequencer = Sequencer(hub, 8)
    assert not sequencer.take(2, 2, 2, rows(old, 1, 1), 0.0)
    facts = StreamFacts(1, "demo", "chat:ops", 2, 0, 1, True, "member")  # as read before that commit
    hub.loading()
    hub.evict(1_000.0)
    assert not hub.by_sid
    hub.load([(facts, "user:amy")], 1_000.0)
    stream = hub.by_sid[1]
    assert stream is not old
    assert sequencer.take(2, 1, 1, [], 1_000.0)
    assert (stream.head, old.head) == (1, 0)
    assert hub.ring_bytes == stream.ring_bytes


def test_a_batch_that_waits_for_a_stream_on_its_way_is_remembered() -> None:
    """Let go, and asked for again with facts older than the batch: it wants what the batch had."""
    hub, old = hub_with_stream()
    sequencer = Sequencer(hub, 8)
    assert not sequencer.take(2, 2, 2, rows(old, 1, 1), 0.0)
    hub.loading()
    hub.evict(1_000.0)
    assert sequencer.take(2, 1, 1, [], 1_000.0)
    hub.load([(StreamFacts(1, "demo", "chat:ops", 2, 0, 1, True, "member"), "user:amy")], 1_000.0)
    assert hub.by_sid[1].want == 1
    assert hub.ring_bytes == 0
