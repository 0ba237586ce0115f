"""core.trip.reached: which stops positions say were reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.flight.times import write
from core.tracks import Sample
from core.trip.plan import Stop
from core.trip.reached import AHEAD_M, BEYOND_M, SILENT_MS, Reached
from tests.trips_way import T0, fix, place


def stops(*east_m: float) -> list[Stop]:
    """Named by their metres."""
    return [Stop(f"{nth}@{metres:g}", "", *place(metres), None) for nth, metres in enumerate(east_m)]


def reached(
    fixes: Iterable[Sample],
    ahead: Sequence[Stop],
    along: Mapping[str, float] | None = None,
    progress: Iterable[float] | None = None,
    mode: str = "car",
) -> list[tuple[str, str]]:
    """Names and times of those that are reached first."""
    of, left, said = Reached(mode), list(ahead), list[tuple[str, str]]()
    metres = iter(progress or ())
    for sample in fixes:
        for name, at_ms in of.take(sample, left, along or {}, next(metres, None)):
            said.append((name, write(at_ms)[11:19]))
            left = [stop for stop in left if stop.stop != name]
    return said


def clock(at_s: float) -> str:
    return write(T0 + round(1000 * at_s))[11:19]


def test_slow_and_near_is_there() -> None:
    """With one position; quick and near is not yet, and is with the second, as of the first."""
    there = stops(1_000)
    assert reached([fix(9, 980, speed=2.0)], there) == [("0@1000", clock(9))]
    assert reached([fix(9, 980, speed=9.0)], there) == []
    assert reached([fix(9, 980)], there) == []
    assert reached([fix(9, 980, speed=9.0), fix(12, 1_010, speed=9.0)], there) == [("0@1000", clock(9))]


def test_near_depends_on_what_moves() -> None:
    """An aircraft is there two kilometres away, a car is not."""
    slow = [fix(9, 2_000, speed=1.0)]
    assert reached(slow, stops(0), mode="aircraft") == [("0@0", clock(9))]
    assert reached(slow, stops(0)) == []


def test_near_once_and_gone_was_there() -> None:
    """As of when it was near; what was passed far off was not."""
    assert reached([fix(9, 1_000, speed=9.0), fix(40, 1_300, speed=9.0)], stops(1_000)) == [("0@1000", clock(9))]
    assert reached([fix(9, 800, speed=9.0), fix(40, 1_300, speed=9.0)], stops(1_000)) == []


def test_beyond_it_on_the_way_it_was_passed() -> None:
    """However far off the position itself is."""
    there = stops(1_000)
    along = {"0@1000": 1_000.0}
    assert reached([fix(9, 5_000)], there, along, [1_000 + BEYOND_M + 1]) == [("0@1000", clock(9))]
    assert reached([fix(9, 5_000)], there, along, [1_000 + BEYOND_M - 1]) == []


def test_a_round_does_not_end_as_it_begins() -> None:
    """Its last stop is where it stands at the start: it is reached once it comes back, and ended at once before."""
    stands = [fix(at_s, 5, speed=0.0) for at_s in range(0, 60, 10)]
    there = [fix(300, 3_000, speed=0.0)]
    back = [fix(600, 5, speed=0.0)]
    assert reached(stands, stops(3_000, 0)) == []
    assert reached([*stands, *there, *back], stops(3_000, 0)) == [("0@3000", clock(300)), ("1@0", clock(600))]
    assert reached([*stands, *there, *back], stops(0, 3_000, 0)) == [
        ("0@0", clock(0)),
        ("1@3000", clock(300)),
        ("2@0", clock(600)),
    ]


def test_a_later_stop_counts_where_the_next_was_left_out() -> None:
    """It went there without calling at the one before."""
    assert reached([fix(0, 0), fix(300, 3_000, speed=0.0)], stops(1_500, 3_000)) == [("1@3000", clock(300))]


def test_a_stop_across_the_street_is_not_reached_before_the_turn() -> None:
    """The way leads past it out and back; it waited at a light right there on the way out."""
    there = stops(6_000, 1_000)
    along = {"0@6000": 6_000.0, "1@1000": 11_000.0}
    light = [fix(100, 1_000, speed=0.0), fix(110, 1_000, speed=0.0)]
    assert reached([fix(0, 0), *light], there, along, [0, 1_000, 1_000]) == []
    assert reached([fix(0, 0), *light], there, along, [0, 11_000 - AHEAD_M, 11_000 - AHEAD_M])[-1][0] == "1@1000"
    # Off the way nobody can say how far ahead it is.
    assert reached([fix(0, 0), *light], there, along) == [("1@1000", clock(100))]


def test_who_passes_the_goal_and_drives_on_is_not_there() -> None:
    """The way leads past it and comes back later, as of some taxis: near once and gone, or near twice, it passed; slow, it may
    have left the way out that leads there. With less way left it is there."""
    there, along = stops(1_000), {"0@1000": 9_000.0}
    passes = [fix(90, 980, speed=9.0), fix(95, 1_020), fix(120, 1_300)]
    assert reached(passes, there, along, [980, 1_020, 1_300]) == []
    assert reached(passes, there, along, [8_600, 8_650, 8_700]) == [("0@1000", clock(90))]
    assert reached([fix(90, 980, speed=1.0)], there, along, [980]) == [("0@1000", clock(90))]


def test_of_two_near_stops_the_first_comes_first() -> None:
    """The second follows with the next position."""
    both = [fix(0, 0), fix(90, 1_000, speed=0.0), fix(95, 1_000, speed=0.0)]
    assert reached(both, stops(1_000, 1_020)) == [("0@1000", clock(90)), ("1@1020", clock(95))]


def test_near_and_silent_counts_after_a_while() -> None:
    """As of the first position that was near, three minutes after the last; not at a stop that is no longer ahead."""
    of, ahead = Reached("car"), stops(1_000)
    assert of.silent(ahead) is None
    of.take(fix(9, 980), ahead, {}, None)
    assert of.silent(ahead) == ("0@1000", T0 + 9_000, T0 + 9_000 + SILENT_MS)
    assert of.silent(stops(5_000)) is None
    of.take(fix(19, 3_000), ahead, {}, None)
    assert of.silent(ahead) is None
