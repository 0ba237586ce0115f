"""Arrival times of one trip: right where the way is plain, never absurd, moved by what is newer alone."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.assist import HELD_MAX, Record
from core.geo.estimate import Emission, Estimator, Fixed
from core.geo.features import NAMES
from core.geo.match import Matcher
from core.geo.model import Model
from core.geo.pace import Trace, learn
from core.geo.route import Route, Stop, make_route
from core.geo.sphere import Plane, destination
from core.geo.steady import Calm
from core.geo.trees import Trees
from core.geo.way import Way

PLANE = Plane(10.0, 20.0)


def route(points: list[tuple[float, float]], **more: Any) -> Route:
    made = make_route([PLANE.place(x, y) for x, y in points], **more)
    assert not isinstance(made, str)
    return made


STRAIGHT = route([(0.0, 0.0), (8_000.0, 0.0)], stops=[Stop("half", 4_000.0), Stop("end", 8_000.0)])


def at(at_s: float, x: float, y: float = 0.0, **more: Any) -> Fixed:
    return Fixed(at_s, *PLANE.place(x, y), **more)


def taught(mps: float = 10.0) -> Model:
    way = Way(STRAIGHT)
    pace = learn([Trace(way.pieces, way.piece_m, [way.piece_m / mps] * len(way.pieces), 0.0)] * 50)
    bands = (1.0,) * 5
    return Model(pace, Trees(0.0, ()), Trees(0.2, ()), tuple(-one for one in bands), bands, (0.5,) * 5, 0.0, Calm(), {})


def driven(estimator: Estimator, mps: float, seconds: int, step_s: int = 20) -> Emission:
    said = None
    for now in range(0, seconds + 1, step_s):
        said = estimator.take(at(float(now), mps * now))
    assert said is not None
    return said


def known(estimator: Estimator) -> list[object]:
    """All that fixes have made of it."""
    track, path = estimator._track, estimator._path
    shown = {stop: (held.steady.shown_s, held.guess, held.at_s) for stop, held in estimator._shown.items()}
    matched = [] if path is None else [getattr(path.matcher, name) for name in Matcher.__slots__ if name != "_way"]
    tracked = [track.began_s, *map(tuple, (track.times, track.metres, track.expected))]
    return [estimator._last, *tracked, *matched, estimator._speed, shown, estimator.advised]


def test_a_vehicle_as_expected_arrives_as_expected() -> None:
    """8 m/s is what a car does where nothing is known."""
    said = driven(Estimator(STRAIGHT), 8.0, 600)
    assert said.source == "default"
    assert said.even_s == pytest.approx(1_000, abs=20)
    assert said.low_s <= said.eta_s <= said.high_s
    assert said.eta_s < said.even_s


def test_a_slower_trip_is_expected_later() -> None:
    """Its own factor counts."""
    assert driven(Estimator(STRAIGHT), 4.0, 600).even_s > 1_500


def test_the_source_says_what_it_rests_on() -> None:
    """Leg times of a provider; what was learned."""
    told = route([(0.0, 0.0), (8_000.0, 0.0)], leg_s=[2_000.0])
    said = Estimator(told).take(at(0.0, 0.0))
    assert said is not None
    assert said.source == "route"
    assert said.even_s == pytest.approx(2_000, abs=25)
    learned = Estimator(STRAIGHT, model=taught()).take(at(0.0, 0.0))
    assert learned is not None
    assert learned.source == "learned"
    assert learned.eta_s == pytest.approx(800, rel=0.1)
    assert learned.even_s > learned.eta_s


def test_a_route_elsewhere_than_history_is_not_learned() -> None:
    """A model says nothing of places that it does not know."""
    away = route([(900_000.0, 0.0), (908_000.0, 0.0)])
    said = Estimator(away, model=taught()).take(at(0.0, 900_000.0))
    assert said is not None
    assert said.source == "default"


def test_late_and_doubled_fixes_change_nothing() -> None:
    """Nor do places that are none."""
    estimator = Estimator(STRAIGHT)
    driven(estimator, 8.0, 200)
    before = known(estimator)
    for fix in (
        at(200.0, 5_000.0),
        at(100.0, 0.0),
        Fixed(300.0, nan, 20.0),
        Fixed(300.0, 91.0, 20.0),
        at(nan, 0.0),
        at(inf, 0.0),
    ):
        assert estimator.take(fix) is None
    assert known(estimator) == before


def test_time_alone_moves_only_what_would_lie_in_the_past() -> None:
    """It stands, then it is now; silence widens the interval; age grows."""
    estimator = Estimator(STRAIGHT)
    assert estimator.now(5.0) is None
    said = driven(estimator, 8.0, 600)
    later = estimator.now(660.0)
    assert later is not None
    assert (later.eta_s, later.age_s) == (said.eta_s, 60.0)
    silent = estimator.now(900.0)
    assert silent is not None
    assert silent.high_s > said.high_s
    overdue = estimator.now(5_000.0)
    assert overdue is not None
    assert overdue.eta_s == overdue.low_s == 5_000.0
    earlier = estimator.now(0.0)
    assert earlier is not None
    assert earlier.at_s == 600.0


def test_stops_on_the_way() -> None:
    """Each has its arrival until it is passed; a name that is none has none."""
    estimator = Estimator(STRAIGHT)
    assert estimator.to("half") is None
    driven(estimator, 8.0, 200)
    half, end = estimator.to("half"), estimator.to("end", 210.0)
    assert half is not None
    assert end is not None
    assert half.even_s == pytest.approx(500, abs=20)
    assert end.even_s == pytest.approx(1_000, abs=20)
    assert end.age_s == 10.0
    assert estimator.to("half") == half
    assert estimator.to("nowhere") is None
    driven(estimator, 8.0, 600)
    assert estimator.to("half") is None


def test_off_the_route_the_crow_counts() -> None:
    """From where the vehicle is, for the goal and for stops; a new route ends it."""
    estimator = Estimator(STRAIGHT)
    driven(estimator, 8.0, 200)
    for n in range(1, 6):
        said = estimator.take(at(200.0 + 20 * n, 1_600.0, 300.0 * n))
    assert estimator.off_route
    assert said is not None
    assert said.source == "great_circle"
    half, end = estimator.to("half"), estimator.to("end")
    assert half is not None
    assert end is not None
    assert half.even_s < end.even_s
    estimator.reroute(route([(1_600.0, 1_500.0), (8_000.0, 1_500.0)]))
    assert not estimator.off_route
    said = estimator.take(at(320.0, 1_760.0, 1_500.0))
    assert said is not None
    assert said.source == "default"


def test_off_the_route_too_a_slow_trip_is_slow() -> None:
    """The crow's way takes the trip's own factor."""
    said: list[Emission | None] = []
    for mps in (8.0, 4.0):
        estimator = Estimator(STRAIGHT)
        driven(estimator, mps, 400)
        for n in range(1, 6):
            last = estimator.take(at(400.0 + 20 * n, 400.0 * mps, 300.0 * n))
        assert estimator.off_route
        said.append(last)
    quick, slow = said
    assert quick is not None
    assert slow is not None
    per_metre = [(one.even_s - 500.0) / (8_000.0 - 400.0 * mps) for one, mps in ((quick, 8.0), (slow, 4.0))]
    assert per_metre[1] > 1.15 * per_metre[0]


def test_what_was_covered_is_counted_once() -> None:
    """Features say metres and seconds since the trip began."""
    estimator = Estimator(STRAIGHT)
    driven(estimator, 8.0, 400)
    x = estimator.look()
    assert x is not None
    assert x[NAMES.index("covered_m")] == pytest.approx(3_200, abs=5)
    assert x[NAMES.index("elapsed_s")] == 400.0


def test_a_detour_does_not_forget_the_trip() -> None:
    """What it has shown of itself counts on the new route."""
    slow, new = Estimator(STRAIGHT), Estimator(STRAIGHT)
    slow.reroute(STRAIGHT)
    driven(slow, 4.0, 600)
    slow.reroute(route([(2_400.0, 0.0), (2_400.0, 5_000.0)]))
    later = slow.take(at(620.0, 2_400.0, 60.0))
    new.reroute(route([(2_400.0, 0.0), (2_400.0, 5_000.0)]))
    fresh = new.take(at(620.0, 2_400.0, 60.0))
    assert later is not None
    assert fresh is not None
    assert later.even_s > fresh.even_s + 100


def test_aircraft_fly_straight() -> None:
    """The ground speed it says, or the one that its places say; a road vehicle makes detours."""
    goal = destination(10.0, 20.0, 90.0, 900_000.0)
    says, shows, road = (Estimator(goal=goal, mode=mode) for mode in ("aircraft", "aircraft", "car"))
    for now in range(0, 1_200, 30):
        place = destination(10.0, 20.0, 90.0, 250.0 * now)
        said, shown = says.take(Fixed(float(now), *place, 250.0)), shows.take(Fixed(float(now), *place))
        by_road = road.take(Fixed(float(now), *place))
    assert said is not None
    assert shown is not None
    assert by_road is not None
    assert said.source == "great_circle"
    assert said.even_s == pytest.approx(3_600, abs=30)
    assert shown.even_s == pytest.approx(3_600, rel=0.05)
    assert by_road.even_s > said.even_s
    assert (says.progress_m, says.off_route, says.look(), says.to("x")) == (0.0, False, None, None)


def test_without_a_route_history_still_says_how_fast_the_town_is() -> None:
    """Twice as fast a town, half the time."""
    goal = PLANE.place(8_000.0, 0.0)
    quick = Estimator(goal=goal, model=taught(20.0)).take(at(0.0, 0.0))
    slow = Estimator(goal=goal, model=taught(5.0)).take(at(0.0, 0.0))
    assert quick is not None
    assert slow is not None
    assert slow.even_s > 2.5 * quick.even_s


def test_headings_and_accuracy_are_heard() -> None:
    """Out and back on one street: a heading says which."""
    there = route([(0.0, 0.0), (1_000.0, 0.0), (1_000.0, 12.0), (0.0, 12.0)])
    east, west = Estimator(there), Estimator(there)
    for estimator in (east, west):
        estimator.take(at(0.0, 900.0, 6.0, heading_deg=90.0))
    east.take(at(20.0, 950.0, 6.0, heading_deg=90.0, acc_m=10.0))
    west.take(at(20.0, 950.0, 6.0, heading_deg=270.0))
    assert east.progress_m < 1_000 < west.progress_m


def test_advice_is_evidence() -> None:
    """A device with a good record is nearly followed; absurd advice is not taken, nor too much of it."""
    plain, helped = Estimator(STRAIGHT), Estimator(STRAIGHT, record=Record(40.0, 0.001))
    driven(plain, 8.0, 200)
    driven(helped, 8.0, 200)
    assert helped.advise(2_000.0, 200.0)
    assert not helped.advise(2_000.0, 210.0)
    for eta_s, at_s in ((nan, 300.0), (100.0, 300.0), (1e9, 300.0), (300.0, inf)):
        assert not helped.advise(eta_s, at_s)
    one, other = plain.take(at(220.0, 1_760.0)), helped.take(at(220.0, 1_760.0))
    assert one is not None
    assert other is not None
    assert other.even_s == pytest.approx(2_000, abs=60)
    assert one.even_s == pytest.approx(1_000, abs=20)
    assert helped.target_s < other.even_s
    for n in range(30):
        helped.advise(5_000.0, 300.0 + 60 * n)
    assert len(helped.advised) == HELD_MAX


def test_an_estimator_needs_a_way_or_a_goal() -> None:
    """And a mode that there is."""
    with pytest.raises(AssertionError, match="neither"):
        Estimator()
    with pytest.raises(AssertionError, match="broomstick"):
        Estimator(STRAIGHT, mode="broomstick")


FIXES = st.lists(
    st.tuples(st.floats(0, 3_600), st.floats(-1_000, 9_000), st.floats(-500, 500), st.none() | st.floats(0, 360)).map(
        lambda one: at(one[0], one[1], one[2], heading_deg=one[3])
    ),
    max_size=25,
)


@given(FIXES, st.booleans(), st.floats(0, 7_200))
def test_what_is_said_is_never_absurd(fixes: list[Fixed], learned: bool, then_s: float) -> None:
    """Not before now, low before shown before high, finite; at a fix, later, and of a stop."""
    estimator = Estimator(STRAIGHT, model=taught() if learned else None)
    said: list[Emission | None] = []
    for fix in fixes:
        said += [estimator.take(fix), estimator.to("half")]
    for one in (*said, estimator.now(then_s)):
        if one is not None:
            assert one.at_s <= one.low_s <= one.eta_s <= one.high_s < inf
            assert one.at_s <= one.even_s < inf
            assert one.age_s >= 0.0


@given(FIXES, st.randoms(use_true_random=False))
def test_late_copies_anywhere_change_nothing(fixes: list[Fixed], draw: Any) -> None:
    """A fix that comes again later, in any order, leaves all as it is."""
    ordered = sorted({fix.at_s: fix for fix in fixes}.values())
    clean, noisy = Estimator(STRAIGHT), Estimator(STRAIGHT)
    for i, fix in enumerate(ordered):
        said = clean.take(fix)
        assert noisy.take(fix) == said
        for late in draw.sample(ordered[: i + 1], min(2, i + 1)):
            assert noisy.take(late) is None
    assert known(clean) == known(noisy)
