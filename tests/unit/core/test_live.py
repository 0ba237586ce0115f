"""core.live: the newest place wins, silence becomes staleness once, and what is kept is bounded."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from core.live import TRAIL_MS, TRAIL_POINTS_MAX, Live, Place
from core.stream import Stream

TRUCK, VAN = "device:truck-7", "device:van-1"
T0 = 1_795_253_400_000
STALE_MS = 60_000


def trip() -> Stream:
    return Stream("demo", "trip:9", 1, 0, 0, 1, open=True)


def place(after_ms: int = 0) -> Place:
    return Place(T0 + after_ms, -33.9, 151.2 + after_ms / 1e6, 5.0, 14.2, 87.0, None)


def test_the_newest_place_wins() -> None:
    """Whichever comes last; the same time again is nothing new."""
    live, stream = Live(10), trip()
    shown = live.show(stream, TRUCK, place(1_000), STALE_MS, T0)
    assert shown is not None
    assert live.show(stream, TRUCK, place(0), STALE_MS, T0) is None
    assert live.show(stream, TRUCK, place(1_000), STALE_MS, T0) is None
    assert live.show(stream, TRUCK, place(2_000), STALE_MS, T0) is shown
    assert live.get(stream, TRUCK) is shown
    assert shown.place == place(2_000)
    assert live.get(stream, VAN) is None
    assert live.get(trip(), TRUCK) is None


def test_a_value_says_all_that_the_fix_said() -> None:
    """As the protocol has it; stale only where it is."""
    live, stream = Live(10), trip()
    shown = live.show(stream, TRUCK, place(), STALE_MS, T0)
    assert shown is not None
    value = {"lat": -33.9, "lon": 151.2, "speed": 14.2, "heading": 87.0, "acc": 5.0, "alt": None}
    assert shown.value() == {**value, "at": "2026-11-21T09:30:00.000Z"}
    assert live.turn(T0 + STALE_MS + 1_000) == [(stream, TRUCK)]
    assert shown.value()["stale"] is True


def test_a_trail_is_short_and_recent() -> None:
    """The last places in order, none of them long past; what the store knew lies before what came since."""
    live, stream = Live(10), trip()
    for after_s in range(100):
        shown = live.show(stream, TRUCK, place(1_000 * after_s), STALE_MS, T0)
    assert shown is not None
    points = shown.trail()["points"]
    assert [at_ms - T0 for at_ms, _, _ in points] == [1_000 * after_s for after_s in range(80, 100)]
    assert len(shown._points) <= 2 * TRAIL_POINTS_MAX
    other = live.show(stream, VAN, place(TRAIL_MS), STALE_MS, T0)
    assert other is not None
    other.before([place(-1), place(0), place(5_000), place(TRAIL_MS)])
    assert [at_ms - T0 for at_ms, _, _ in other.trail()["points"]] == [0, 5_000, TRAIL_MS]


def test_silence_is_stale_once() -> None:
    """Within a second of its time; a newer place in time puts it off, and a newer one later makes it fresh again."""
    live, stream = Live(10), trip()
    live.show(stream, TRUCK, place(), STALE_MS, T0)
    assert live.turn(T0 + 30_000) == []
    live.show(stream, TRUCK, place(30_000), STALE_MS, T0 + 30_000)
    assert live.turn(T0 + STALE_MS + 1_500) == []
    assert live.turn(T0 + 30_000 + STALE_MS) == []
    assert live.turn(T0 + 31_000 + STALE_MS) == [(stream, TRUCK)]
    assert live.turn(T0 + 40_000 + STALE_MS) == []
    live.show(stream, TRUCK, place(100_000), STALE_MS, T0 + 100_000)
    assert live.get(stream, TRUCK).stale is False  # type: ignore[union-attr]
    assert live.turn(T0 + 101_000 + STALE_MS) == [(stream, TRUCK)]


def test_what_is_old_already_is_stale_from_the_start() -> None:
    """As it is read from the store; it does not turn so again, nor where a backlog moves it on to what is old, too."""
    live, stream = Live(10), trip()
    shown = live.show(stream, TRUCK, place(), STALE_MS, T0 + STALE_MS)
    assert shown is not None
    assert shown.stale
    live.show(stream, VAN, place(), STALE_MS, T0)
    assert live.show(stream, VAN, place(10), STALE_MS, T0 + 2 * STALE_MS) is not None
    assert live.turn(T0 + 3 * STALE_MS) == []


def test_clocks_may_jump() -> None:
    """Ahead by a year, or back: whoever is stale is told, once."""
    live, stream = Live(10), trip()
    live.show(stream, TRUCK, place(), STALE_MS, T0)
    live.turn(T0)
    assert live.turn(T0 + 31_536_000_000) == [(stream, TRUCK)]
    assert live.turn(T0) == []
    live.show(stream, TRUCK, place(1_000), STALE_MS, T0)
    assert live.turn(T0 + 2 * STALE_MS) == [(stream, TRUCK)]


def test_a_stream_shows_so_many_and_no_more() -> None:
    """Who was not heard of for longest goes, and is not told as stale."""
    live, stream = Live(2), trip()
    for after_ms, subject in ((5, TRUCK), (0, VAN)):
        live.show(stream, subject, place(after_ms), STALE_MS, T0)
        assert live.crowded(stream) is None
    live.show(stream, "user:amy", place(1), STALE_MS, T0)
    assert live.crowded(stream) == VAN
    assert len(live) == 2
    assert {subject for _, subject in live.turn(T0 + 2 * STALE_MS)} == {TRUCK, "user:amy"}


def test_a_stream_that_was_let_go_is_forgotten() -> None:
    """Nobody of it turns stale."""
    live, stream = Live(2), trip()
    live.show(stream, TRUCK, place(), STALE_MS, T0)
    live.drop(stream)
    live.drop(stream)
    assert live.crowded(stream) is None
    assert live.turn(T0 + 2 * STALE_MS) == []
    assert len(live) == 0


def test_the_wheel_holds_who_is_shown_and_nobody_else() -> None:
    """Once each, and not after its stream was let go.

    Streams that nobody follows are let go every few minutes, and come back with the next fix. The wheel kept each of those,
    events and all, for as long as its tenant does not call silence stale: up to a day.
    """
    live = Live(1)
    for turn in range(5):
        stream = trip()
        for step in range(3):
            live.show(stream, TRUCK, place(turn), STALE_MS * (step + 1), T0)
            live.show(stream, VAN, place(turn + step + 1), STALE_MS, T0)
            live.crowded(stream)
        assert [list(there) for there in live._due.values()] == [[(stream, VAN)]]
        live.drop(stream)
        assert not live._due
    live.show(stream, VAN, place(), STALE_MS, T0)
    live.show(stream, VAN, place(1), -1, T0)
    live.show(stream, VAN, place(2), STALE_MS, T0)
    assert sum(map(len, live._due.values())) == 1, "stale and fresh again within its second"
    assert live.turn(T0 + 2 * STALE_MS) == [(stream, VAN)]
    assert not live._due
    live.drop(stream)


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=40))
@example([(0, True), (1, True), (60, False)])
def test_who_is_told_as_stale_is_silent(steps: list[tuple[int, bool]]) -> None:
    """However fixes and seconds mix: those whose newest place is older than the bound, within the second after, and each once.

    The second is no more than that: who has moved since is looked at when it was to be before, and may be told just then.
    """
    live, stream = Live(5), trip()
    now_ms, newest, stale = T0, None, False
    for step_s, moves in steps:
        now_ms += 1_000 * step_s
        turned = live.turn(now_ms)
        old_ms = -1 if newest is None else now_ms - newest - STALE_MS
        if turned:
            assert old_ms >= 0
            assert not stale, "told before"
            stale = True
        else:
            assert stale or old_ms < 1_000
        if moves:
            live.show(stream, TRUCK, place(now_ms - T0), STALE_MS, now_ms)
            if newest != now_ms:
                newest, stale = now_ms, False
