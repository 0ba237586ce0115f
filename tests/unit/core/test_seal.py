"""Seals: who has not the key does not speak for a node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.seal import HEAD_BYTES, Seals

RING = {"new": b"n" * 32, "old": b"o" * 32}


@given(st.text("abc:019", max_size=20), st.binary(max_size=300))
def test_what_was_sealed_opens(channel: str, payload: bytes) -> None:
    """Any payload comes back whole from the channel it was sealed for."""
    seals = Seals(RING)
    assert seals.open(channel, seals.seal(channel, payload)) == payload


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_changed_byte_is_noticed(payload: bytes, data: st.DataObject) -> None:
    """Wherever a byte is changed, in the seal or behind it."""
    seals = Seals(RING)
    message = bytearray(seals.seal("events:3", payload))
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    assert seals.open("events:3", bytes(message)) is None


def test_a_seal_is_of_its_channel_and_of_its_installation() -> None:
    """Neither another channel nor another installation's key makes it good."""
    message = Seals(RING).seal("events:3", b"x")
    assert Seals(RING).open("events:4", message) is None
    assert Seals({"k": b"k" * 32}).open("events:3", message) is None


def test_a_ring_is_rotated_without_standstill() -> None:
    """A node with the new key first and one with only the old one understand each other both ways while both hold it."""
    before, after = Seals({"old": RING["old"]}), Seals(RING)
    assert after.open("nodes", before.seal("nodes", b"x")) == b"x"
    assert Seals({"old": RING["old"], "new": RING["new"]}).open("nodes", after.seal("nodes", b"x")) == b"x"
    assert before.open("nodes", after.seal("nodes", b"x")) is None


@pytest.mark.parametrize("message", [b"", b"\x01", b"\x01" * (HEAD_BYTES - 1), b"\x02" * 40, b"hello"])
def test_what_is_no_message_is_none(message: bytes) -> None:
    """Too short, of another version, or plain text."""
    assert Seals(RING).open("nodes", message) is None


def test_an_empty_ring_seals_nothing() -> None:
    """A bus that anybody may write to is refused at the start."""
    with pytest.raises(ValueError, match="at least one key"):
        Seals({})
