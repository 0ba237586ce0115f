"""The port of tracks: what its values are, beside what its stores do with them (tests/contract)."""

from __future__ import annotations

from core.tracks import KEEP_MAX, TRACK_LIMIT_MAX, Last, Sample, Tracks
from store.memory_tracks import MemoryTracks
from store.postgres_tracks import PostgresTracks


def test_a_last_position_is_a_sample_remembered() -> None:
    """Under the same names, and beside them only what the judge remembers; a sample alone has a number and a reason."""
    assert set(Last._fields) - set(Sample._fields) == {"memory"}
    assert set(Sample._fields) - set(Last._fields) == {"seq", "reason"}


def test_what_a_call_keeps_an_answer_shows() -> None:
    """So whoever kept a batch can read it back at once."""
    assert KEEP_MAX <= TRACK_LIMIT_MAX


def test_both_stores_have_every_method() -> None:
    """By their names; the contract suite says that they do the same."""
    wanted = {name for name in vars(Tracks) if not name.startswith("_")}
    for store in (MemoryTracks, PostgresTracks):
        assert {name for name in vars(store) if not name.startswith("_")} == wanted
