"""Encoded polylines are read and written as others do, and what is none is a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.polyline import decode, encode

PLACES = st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=20)


def test_the_published_example() -> None:
    """The example of the format's own page, both ways."""
    points = [(38.5, -120.2), (40.7, -120.95), (43.252, -126.453)]
    assert encode(points) == "_p~iF~ps|U_ulLnnqC_mqNvxq`@"
    assert decode("_p~iF~ps|U_ulLnnqC_mqNvxq`@") == points


@given(PLACES, st.sampled_from([5, 6]))
def test_what_is_written_is_read(points: list[tuple[float, float]], precision: int) -> None:
    """Any places come back, rounded to the precision."""
    read = decode(encode(points, precision), precision)
    assert not isinstance(read, str)
    assert len(read) == len(points)
    for (lat, lon), (was_lat, was_lon) in zip(read, points, strict=True):
        assert lat == pytest.approx(was_lat, abs=0.6 / 10**precision)
        assert lon == pytest.approx(was_lon, abs=0.6 / 10**precision)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("_p~iF\n", "character 5"),
        ("_p~iF~ps|U_", "ends within"),
        ("_p~iF", "between latitude and longitude"),
        ("~~~~~~~~~@", "too large"),
        ("_" * 20, "does not end"),
    ],
)
def test_what_is_no_polyline_is_a_sentence(text: str, says: str) -> None:
    """Each fault has its words."""
    found = decode(text)
    assert isinstance(found, str)
    assert says in found


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is points or a sentence."""
    assert isinstance(decode(text), list | str)
