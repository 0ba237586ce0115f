"""What a trip keeps of its past is bounded and enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.geo.track import KEPT_MAX, Track


def test_windows_read_between_fixes() -> None:
    """The last 150 m and the last 15 s of 10 m/s, where 5 s were expected for each 100 m."""
    track = Track(100.0)
    for n in range(1, 6):
        track.take(100.0 + 10.0 * n, 100.0, 5.0)
    assert track.over_metres(150.0) == (15.0, 7.5)
    assert track.over_seconds(15.0) == (15.0, 7.5)


def test_a_window_longer_than_the_trip_is_the_trip() -> None:
    """Fewer metres and seconds where fewer are known."""
    track = Track(100.0)
    track.take(110.0, 100.0, 5.0)
    assert track.over_metres(1_000.0) == (10.0, 5.0)
    assert track.over_seconds(1_000.0) == (10.0, 5.0)


def test_standing_counts_as_time() -> None:
    """Metres do not fall, seconds go on."""
    track = Track(0.0)
    track.take(10.0, 100.0, 5.0)
    track.take(60.0, -30.0, -5.0)
    assert track.metres == [0.0, 100.0, 100.0]
    assert track.over_metres(50.0) == (55.0, 2.5)


@given(st.lists(st.tuples(st.floats(0.01, 60), st.floats(0, 500)), min_size=1, max_size=700))
def test_what_is_kept_is_bounded(steps: list[tuple[float, float]]) -> None:
    """Whatever comes, and the windows stay finite."""
    track, now = Track(0.0), 0.0
    for after_s, metres in steps:
        now += after_s
        track.take(now, metres, metres / 8.0)
        assert len(track.times) <= KEPT_MAX + 32
        took, thought = track.over_metres(500.0)
        assert took >= 0.0
        assert thought >= -1e-6
        assert track.over_seconds(120.0)[1] >= -1e-6


def test_old_fixes_go() -> None:
    """Of many fixes those of the last ten minutes and two kilometres stay; of a fix a second, not more than the bound."""
    slow, quick = Track(0.0), Track(0.0)
    for n in range(1, 200):
        slow.take(30.0 * n, 300.0, 40.0)
        quick.take(0.5 * n, 1.0, 1.0)
    assert slow.times[-1] - slow.times[0] < 1_700.0
    for n in range(200, 2_000):
        quick.take(0.5 * n, 1.0, 1.0)
    assert len(quick.times) <= KEPT_MAX + 32
