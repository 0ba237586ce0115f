"""Commit batches as bytes between nodes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import batches

events = st.lists(
    st.tuples(st.integers(1, 2**62), st.integers(1, 2**53), st.binary(min_size=1, max_size=50)), max_size=20
)


@given(st.integers(0, 1023), st.integers(1, 2**53), events)
def test_a_batch_comes_back_whole(partition: int, first: int, rows: list[tuple[int, int, bytes]]) -> None:
    """Every event with its frame, in order."""
    last = first + max(len(rows), 1) - 1
    payload = batches.encode(partition, first, last, rows)
    assert batches.decode(payload) == batches.Batch(partition, first, last, rows)
    assert batches.peek(payload) == (partition, last)


def test_a_hint_says_only_where_the_log_ends() -> None:
    """It holds no events, so that the reader must ask the log."""
    assert batches.decode(batches.hint(3, 77)) == batches.Batch(3, 77, 77, [])


@given(events.filter(bool), st.data())
def test_what_was_cut_or_lengthened_is_refused(rows: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    """A batch of other than its own length is none."""
    payload = batches.encode(1, 10, 9 + len(rows), rows)
    assert batches.decode(payload + b"x") is None
    assert batches.decode(payload[: data.draw(st.integers(0, len(payload) - 1))]) is None


@given(st.binary(max_size=200))
def test_noise_raises_nothing(noise: bytes) -> None:
    """Whatever the bytes, the answer is a batch or None."""
    batch = batches.decode(noise)
    assert batch is None or len(batch.events) in (0, batch.last - batch.first + 1)
    batches.peek(noise)


@pytest.mark.parametrize(
    "head",
    [
        (1, 0, 0, 0),  # positions begin at 1
        (1, 5, 4, 0),  # the end before the beginning
        (1, 1, 3, 2),  # fewer events than positions
        (1, 1, 2**32 - 1, 2**32 - 1),  # more than anybody would send
    ],
)
def test_heads_that_no_node_writes(head: tuple[int, int, int, int]) -> None:
    """Refused before anything is read by them."""
    entry = struct.pack("<qqI", 1, 1, 1)
    count = min(head[3], 2)
    assert batches.decode(struct.pack("<IqqI", *head) + entry * count + b"x" * count) is None


@pytest.mark.parametrize("entry", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_entries_that_no_node_writes(entry: tuple[int, int, int]) -> None:
    """A sid, a seq and a length begin at 1."""
    assert batches.decode(struct.pack("<IqqI", 1, 1, 1, 1) + struct.pack("<qqI", *entry) + b"x" * entry[2]) is None
