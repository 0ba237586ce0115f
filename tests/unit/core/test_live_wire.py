"""core.live_wire: what nodes tell each other of latest values is read as it was told, and nothing else is."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.live import Place
from core.live_wire import ROWS_MAX, Told, decode, encode

PLACE = Place(1_700_000_000_000, -33.9, 151.2, 5.0, None, 87.0, None)


def test_it_is_read_as_it_was_told() -> None:
    """Positions as places, other values as they are; with who tells."""
    told = [
        Told(7, "position", "device:truck-7", PLACE.at_ms, PLACE),
        Told(8, "eta", "service:eta", 5, {"stop": "x", "low": None}),
    ]
    [payload] = encode("node-a", told)
    assert decode(payload) == ("node-a", told)


def test_many_are_told_in_several() -> None:
    """Each within the bound; nothing to tell is nothing."""
    told = [Told(number, "eta", "service:eta", 1, None) for number in range(2 * ROWS_MAX + 1)]
    payloads = list(encode("a", told))
    assert [len(orjson.loads(payload)) - 1 for payload in payloads] == [ROWS_MAX, ROWS_MAX, 1]
    assert list(encode("a", [])) == []


BAD = [
    b"",
    b"{}",
    b"[]",
    b"[1]",
    b'["a", 1]',
    b'["a", [1, "eta", "x"]]',
    b'["a", ["1", "eta", "x", 1, 2]]',
    b'["a", [1, "position", "x", 1, null]]',
    b'["a", [1, "position", "x", 1, [1, 2, 3]]]',
    b'["a", [1, "position", "x", 1, [1, "2", 3, 4, 5, 6]]]',
    b'["a", [1, "position", "x", 1, [1, true, 3, 4, 5, 6]]]',
    b'["a", [1, "position", "x", 1, [null, 2, 3, 4, 5, 6]]]',
    b'["a", [1, "position", "x", 1, [1, null, 3, 4, 5, 6]]]',
]


@pytest.mark.parametrize("payload", BAD)
def test_what_is_none_is_refused_whole(payload: bytes) -> None:
    """One row that is none, and whoever wrote it is no node of ours."""
    assert decode(payload) is None


@given(st.binary(max_size=60))
def test_it_never_raises(payload: bytes) -> None:
    """Whatever comes."""
    decode(payload)
