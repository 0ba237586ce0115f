"""What the stores of tracks look at before they write: the bounds of what they remember, and what they let through."""

from __future__ import annotations

import pytest

from core.ports import Refused
from core.tracks import MEMORY_BYTES_MAX
from store import tracks_input
from store.tracks_input import DAY_MS, TracksInput, is_cursor, is_name
from tests.tracks import NOW, TRUCK, key, last, sample, secret


def test_days_are_those_of_the_fixes() -> None:
    """Since 1970, by when each was true and not when it was taken."""
    assert NOW % DAY_MS == 0
    found = TracksInput().days([sample(NOW - 1), sample(NOW), sample(NOW + DAY_MS - 1, taken_ms=NOW)])
    assert found == {NOW // DAY_MS - 1, NOW // DAY_MS}
    assert TracksInput().days([]) == set()


def test_names_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; what was refused once is refused again."""
    monkeypatch.setattr(tracks_input, "_REMEMBERED_MAX", 4)
    looked = TracksInput()
    for n in range(20):
        looked.days([sample(tenant=f"t{n}", subject=f"device:d{n}", stream=f"trip:{n}", reason=f"r{n}")])
        with pytest.raises(ValueError, match="no subject can be called 'nobody'"):
            looked.days([sample(subject="nobody")])
    for held in (looked._tenants, looked._subjects, looked._streams, looked._reasons):
        assert 0 < len(held) <= 5


def test_a_last_position_s_names_are_looked_at_too() -> None:
    """Also where no sample of it came by."""
    looked = TracksInput()
    assert looked.memories([last(memory={"a": 1})]) == ['{"a":1}']
    with pytest.raises(ValueError, match="no stream can be called"):
        looked.memories([last(), last(stream="trip")])


def test_a_memory_has_a_size() -> None:
    """The largest goes in, a byte more does not."""
    text = "x" * (MEMORY_BYTES_MAX - len('{"a":""}'))
    assert len(TracksInput().memories([last(memory={"a": text})])[0]) == MEMORY_BYTES_MAX
    with pytest.raises(ValueError, match=f"the memory of {TRUCK} is {MEMORY_BYTES_MAX + 1} bytes"):
        TracksInput().memories([last(memory={"a": text + "x"})])


def test_an_error_names_what_was_wrong_and_little_of_it() -> None:
    """A megabyte of a name is not repeated."""
    with pytest.raises(ValueError, match="no tenant can be called") as caught:
        TracksInput().days([sample(tenant="A" * 1_000_000)])
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="no store keeps a sample") as caught:
        TracksInput().days([sample()._replace(verdict="x" * 1_000_000)])  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_a_secret_is_never_repeated() -> None:
    """Whatever else is wrong with its key."""
    with pytest.raises(Refused) as caught:
        tracks_input.check_app_key(key("nobody"), secret("a"))
    assert secret("a").hex() not in str(caught.value)


@pytest.mark.parametrize(("after", "is_one"), [
    (None, True), ((0, "", 0), True), ((0, TRUCK, -1), True), ((0, "a\0", 0), False), ((0, "ž", 0), False),
])  # fmt: skip
def test_what_a_cursor_may_be(after: tuple[int, str, int] | None, is_one: bool) -> None:
    """Any place, be it of a sample or between two."""
    assert is_cursor(after) is is_one


def test_names_that_can_be_asked_about() -> None:
    """All of those that are given."""
    assert is_name("demo")
    assert is_name("demo", subject=TRUCK, stream="trip:9")
    assert not is_name("Demo", subject=TRUCK, stream="trip:9")
    assert not is_name("demo", subject="truck", stream="trip:9")
    assert not is_name("demo", subject=TRUCK, stream="9")
