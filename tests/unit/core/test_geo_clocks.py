"""Clocks that are off are found out, and old fixes are not taken for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.geo.clocks import AHEAD_MS, SPREAD_MS, Clock

NOW = 1_800_000_000_000
HOUR = 3_600_000


def live(
    clock: Clock, off_ms: int, start_ms: int, many: int, step_ms: int = 10_000, way_ms: int = 300
) -> list[int | None]:
    """What ``many`` live fixes of a device that is ``off_ms`` ahead are wrong by once put right; ``None``: in the future."""
    found = []
    for n in range(many):
        made = start_ms + n * step_ms
        right = clock.right_ms(made + off_ms, made + way_ms)
        found.append(None if right is None else right - made)
    return found


def test_a_right_clock_is_left_alone() -> None:
    """To the millisecond, whatever the way took."""
    clock = Clock()
    assert live(clock, 0, NOW, 20) == [0] * 20
    assert live(clock, 0, NOW + HOUR, 20, way_ms=45_000) == [0] * 20
    assert live(clock, 9_000, NOW + 2 * HOUR, 5) == [9_000] * 5


def test_a_clock_ahead_is_proved_by_two() -> None:
    """A fix from the future is refused, and so is the next; the third is put right."""
    clock = Clock()
    assert live(clock, 2 * HOUR, NOW, 5) == [None, None, 300, 300, 300]


def test_one_fix_from_the_future_proves_nothing() -> None:
    """A glitch stays a glitch."""
    clock = Clock()
    live(clock, 0, NOW, 5)
    assert clock.right_ms(NOW + HOUR, NOW + 60_000) is None
    assert live(clock, 0, NOW + 70_000, 5) == [0] * 5
    assert clock.offset_ms == 0


def test_a_clock_behind_is_learned_from_a_steady_run() -> None:
    """Three messages over half a minute; until then its fixes are old ones."""
    clock = Clock()
    assert live(clock, -2 * HOUR, NOW, 6) == [-2 * HOUR] * 4 + [300, 300]


def test_a_slow_link_is_no_slow_clock() -> None:
    """A minute and a half late, always: as it is."""
    assert live(Clock(), 0, NOW, 30, way_ms=90_000) == [0] * 30


def test_a_backlog_is_no_slow_clock() -> None:
    """Three hours offline: in messages of 100 a second apart, one by one, and one by one hardly faster than they were made."""
    for batch, each_ms in ((100, 1_000), (1, 50), (1, 700), (1, 900)):
        clock = Clock()
        for n in range(10_800):
            now = NOW + n // batch * each_ms
            made = NOW - 3 * HOUR + n * 1_000
            if made > now:
                break
            assert clock.right_ms(made, now) == made
        assert clock.offset_ms == 0


def test_a_backlog_of_a_clock_known_to_be_ahead_is_put_right() -> None:
    """What was learned holds for what was made offline."""
    clock = Clock()
    live(clock, HOUR, NOW, 5)
    back = NOW + 2 * HOUR
    made = [back - 5_000_000 + n * 1_000 for n in range(5_000)]
    right = [clock.right_ms(at + HOUR, back + n // 500 * 1_000) for n, at in enumerate(made)]
    assert right == [at + 300 for at in made]


def test_a_clock_set_right_again() -> None:
    """From behind: at once, as anything else would be in the future. From ahead: from the third message on."""
    behind = Clock()
    live(behind, -2 * HOUR, NOW, 6)
    assert live(behind, 0, NOW + 60_000, 3) == [0, 0, 0]
    ahead = Clock()
    live(ahead, 2 * HOUR, NOW, 6)
    assert live(ahead, 0, NOW + 60_000, 5) == [300 - 2 * HOUR] * 2 + [0, 0, 0]


def test_a_clock_that_steps_from_wrong_to_wrong() -> None:
    """Each way: further ahead and less far behind are proved; further behind and less far ahead take a steady run."""
    for first, second, after in ((1, 2, 2), (-2, -1, 2), (-2, 1, 2), (-1, -2, 4), (2, 1, 4), (1, -1, 4)):
        clock = Clock()
        live(clock, first * HOUR, NOW, 6)
        assert live(clock, second * HOUR, NOW + 60_000, 8)[after:] == [300] * (8 - after), (first, second)


def test_a_clock_set_right_on_a_slow_link() -> None:
    """From behind to right, seen late: proved. From ahead to right, seen late: steady."""
    behind, ahead = Clock(), Clock()
    live(behind, -2 * HOUR, NOW, 6)
    assert live(behind, 0, NOW + 60_000, 5, way_ms=40_000)[2:] == [0, 0, 0]
    live(ahead, 2 * HOUR, NOW, 6)
    assert live(ahead, 0, NOW + 60_000, 8, way_ms=40_000)[4:] == [0] * 4


def test_two_right_messages_at_once_prove_no_right_clock() -> None:
    """A backlog of a clock that is ahead passes the right time as it comes; ten seconds of it are another matter."""
    clock = Clock()
    live(clock, 2 * HOUR, NOW, 6)
    assert live(clock, 0, NOW + 60_000, 5, step_ms=2_000) == [300 - 2 * HOUR] * 5
    assert live(clock, 0, NOW + 70_000, 2, step_ms=2_000) == [300 - 2 * HOUR, 0]


def test_the_least_way_counts() -> None:
    """Of a run: what came slowly says less."""
    clock = Clock()
    live(clock, -HOUR, NOW, 1, way_ms=1_500)
    live(clock, -HOUR, NOW + 20_000, 6)
    assert clock.offset_ms == HOUR + 300


def test_small_changes_do_not_move_it() -> None:
    """What is learned stays while it is right to SPREAD_MS: times do not wobble with the way."""
    for off in (2 * HOUR, -2 * HOUR):
        clock = Clock()
        live(clock, off, NOW, 10)
        learned = clock.offset_ms
        live(clock, off, NOW + 200_000, 10, way_ms=4_000)
        live(clock, off + 4_000, NOW + 400_000, 10)
        live(clock, off, NOW + 600_000, 300, step_ms=1_000)
        assert clock.offset_ms == learned


def test_a_message_counts_once_by_its_newest_fix() -> None:
    """A batch of a slow clock's fixes, oldest first, is one message."""
    clock = Clock()
    for message in range(6):
        sent = NOW + message * 20_000
        right = [clock.right_ms(sent - HOUR - n * 1_000, sent) for n in reversed(range(20))]
        assert None not in right
        assert right == sorted(right, key=lambda at: at or 0)
    assert clock.offset_ms == HOUR
    assert right[-1] == sent


def test_state_goes_on() -> None:
    """One restored is the same."""
    clock, other = Clock(), Clock()
    live(clock, HOUR, NOW, 2)
    other.restore(clock.state())
    assert other.state() == clock.state()
    assert live(other, HOUR, NOW + 20_000, 3) == live(clock, HOUR, NOW + 20_000, 3)


@given(
    st.integers(-10 * HOUR, 10 * HOUR),
    st.lists(st.tuples(st.integers(1, 60_000), st.integers(0, 3_000)), min_size=40, max_size=60),
)
def test_any_live_device_is_right_in_the_end(off_ms: int, steps: list[tuple[int, int]]) -> None:
    """However far off, with ways up to 3 s: once it is learned, a time is wrong by no more than it is left alone with."""
    clock, made, right = Clock(), NOW, None
    for step, way in [*steps, (20_000, 0), (20_000, 0), (20_000, 0), (20_000, 0), (20_000, 0)]:
        made += step
        right = clock.right_ms(made + off_ms, max(made + way, (clock.now_ms or 0) + 1))
    assert right is not None
    left_alone = AHEAD_MS if off_ms > 0 else 120_000 + SPREAD_MS
    assert -left_alone <= right - made <= max(AHEAD_MS, 3_000)


@given(st.lists(st.tuples(st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53)), max_size=30))
def test_no_times_upset_it(pairs: list[tuple[int, int]]) -> None:
    """Whatever comes whenever: never a time more than AHEAD_MS ahead."""
    clock = Clock()
    for at, now in pairs:
        right = clock.right_ms(at, now)
        assert right is None or right <= now + AHEAD_MS
