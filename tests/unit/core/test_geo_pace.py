"""Pace is learned by place, direction and hour; where nothing was learned, the provider's times or the mode's speed count."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.pace import HOUR_S, SPEED_MPS, Expected, Pace, Trace, hour_of, learn, read_pace, spent_between, week_s_of
from core.geo.route import make_route
from core.geo.sphere import Plane
from core.geo.way import Way

PLANE = Plane(10.0, 20.0)
MORNING = 8 * HOUR_S
SATURDAY = 5 * 24 * HOUR_S


def way(points: list[tuple[float, float]], leg_s: list[float | None] | None = None, source: str = "given") -> Way:
    route = make_route([PLANE.place(x, y) for x, y in points], leg_s=leg_s, source=source)
    assert not isinstance(route, str)
    return Way(route)


EAST = way([(0.0, 0.0), (3_000.0, 0.0)])
WEST = way([(3_000.0, 0.0), (0.0, 0.0)])
FAR = way([(90_000.0, 0.0), (93_000.0, 0.0)])


def trace(way: Way, mps: float, week_s: float = MORNING) -> Trace:
    return Trace(way.pieces, way.piece_m, [way.piece_m / mps] * len(way.pieces), week_s)


def test_a_week_begins_on_monday() -> None:
    """At midnight, by the time that clocks show there."""
    assert week_s_of(datetime.fromisoformat("2024-01-01T00:00:00+05:00")) == 0.0
    assert week_s_of(datetime.fromisoformat("2024-01-06T08:01:02")) == SATURDAY + MORNING + 62.0


def test_hours_of_the_week() -> None:
    """Monday to Friday, then the weekend; weeks go round."""
    assert hour_of(0.0) == 0
    assert hour_of(MORNING) == 8
    assert hour_of(4 * 24 * HOUR_S + 23.9 * HOUR_S) == 23
    assert hour_of(SATURDAY) == 24
    assert hour_of(7 * 24 * HOUR_S) == 0
    assert hour_of(-HOUR_S) == 47


def test_places_and_directions_are_told_apart() -> None:
    """East at 10 m/s, west at 4: with much history each is near its own."""
    pace = learn([trace(EAST, 10.0)] * 40 + [trace(WEST, 4.0)] * 40)
    east, west = Expected(EAST, pace, MORNING, "car"), Expected(WEST, pace, MORNING, "car")
    assert east.at(3_000.0) == pytest.approx(300, rel=0.1)
    assert west.at(3_000.0) == pytest.approx(750, rel=0.1)
    assert east.source(0.0, 3_000.0) == "learned"


def test_little_history_says_little() -> None:
    """One slow trip among many fast ones elsewhere moves its cells by a part."""
    pace = learn([trace(EAST, 10.0)] * 40 + [trace(FAR, 5.0)])
    assert 310.0 < Expected(FAR, pace, MORNING, "car").at(3_000.0) < 550.0


def test_hours_are_told_apart() -> None:
    """Slow at 8 in the morning, fast at 20; a weekend of which nothing is known is as all days."""
    pace = learn([trace(EAST, 4.0)] * 60 + [trace(EAST, 12.0, 20 * HOUR_S)] * 60)
    assert pace.hours[8] > 1.7 * pace.hours[20]
    assert pace.hours[24 + 8] == pytest.approx(pace.hours[8], rel=0.35)
    assert Expected(EAST, pace, MORNING, "car").at(3_000.0) > 1.7 * Expected(EAST, pace, 20 * HOUR_S, "car").at(3_000.0)


def test_the_order_of_trips_does_not_matter() -> None:
    """Sums; and no trips at all are a town of the usual speed."""
    traces = [trace(EAST, 4.0), trace(WEST, 7.0), trace(FAR, 9.0, SATURDAY)]
    one, other = learn(traces), learn(reversed(traces))
    assert one.hours == pytest.approx(other.hours)
    assert one.fine == pytest.approx(other.fine)
    assert learn([]).hours == pytest.approx([1 / SPEED_MPS["car"]] * 48)


def test_without_history_the_provider_counts_and_else_the_mode() -> None:
    """Leg times where they are told, then the speed of the mode."""
    told = way([(0.0, 0.0), (3_000.0, 0.0)], [600.0])
    assert Expected(told, None, 0.0, "car").at(3_000.0) == pytest.approx(600, rel=0.01)
    assert Expected(told, None, 0.0, "car").source(0.0, 3_000.0) == "route"
    assert Expected(EAST, None, 0.0, "foot").at(1_300.0) == pytest.approx(1_000, rel=0.01)
    assert Expected(EAST, None, 0.0, "foot").source(0.0, 3_000.0) == "default"


def test_a_guess_is_nobodys_word() -> None:
    """Its seconds count, as the mode's usual speed: without a provider nothing was ever said to be by one."""
    guess = Expected(way([(0.0, 0.0), (3_000.0, 0.0)], [600.0], "offline"), None, 0.0, "car")
    assert guess.at(3_000.0) == pytest.approx(600, rel=0.01)
    assert guess.source(0.0, 3_000.0) == "default"


def test_the_source_is_of_the_rest_or_of_the_whole() -> None:
    """Learned to begin with, then told for the longer part."""
    pace = learn([trace(EAST, 10.0)])
    mixed = way([(0.0, 0.0), (1_000.0, 0.0), (1_000.0, -20_000.0)], [None, 3_000.0])
    expected = Expected(mixed, pace, 0.0, "car")
    assert expected.source(0.0, 1_000.0) == "learned"
    assert expected.source(0.0, mixed.length_m) == "route"
    assert expected.source(500.0, 500.0) == "route"


def test_cells_without_a_coarse_or_a_fine_one_still_count() -> None:
    """Either is something that was learned."""
    pace = learn([trace(EAST, 5.0)] * 20)
    hours = Pace(pace.hours, pace.coarse, {})
    fine = Pace(pace.hours, {}, pace.fine)
    assert Expected(EAST, hours, MORNING, "car").source(0.0, 3_000.0) == "learned"
    assert Expected(EAST, fine, MORNING, "car").at(3_000.0) == pytest.approx(600, rel=0.1)


def test_time_is_shared_out_to_the_pieces_where_it_was_spent() -> None:
    """Driving by metres, standing where one stands; what was not seen gets none."""
    ten = way([(0.0, 0.0), (1_000.0, 0.0)])
    piece = ten.piece_m
    spent = spent_between([(0.0, 0.5 * piece), (30.0, 3.5 * piece), (90.0, 3.5 * piece), (100.0, 4.5 * piece)], ten)
    assert spent == pytest.approx([5.0, 10.0, 10.0, 5.0 + 60.0 + 5.0, 5.0, 0, 0, 0, 0, 0])
    assert spent_between([(0.0, 0.0), (5.0, 0.2 * piece)], ten)[0] == 5.0


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 900)), max_size=20))
def test_no_time_is_lost(steps: list[tuple[float, float]]) -> None:
    """All that was spent is in some piece."""
    now, at, times = 0.0, 0.0, [(0.0, 0.0)]
    for after_s, metres in steps:
        now, at = now + after_s, min(EAST.length_m, at + metres)
        times.append((now, at))
    assert sum(spent_between(times, EAST)) == pytest.approx(now, abs=1e-3)


def test_json_keeps_what_was_learned() -> None:
    """To the fourth digit."""
    pace = learn([trace(EAST, 10.0), trace(WEST, 4.0)])
    again = read_pace(json.loads(json.dumps(pace.json())))
    assert not isinstance(again, str)
    assert again.hours == pytest.approx(pace.hours, rel=1e-3)
    assert again.fine == pytest.approx(pace.fine, rel=1e-3)
    assert again.coarse.keys() == pace.coarse.keys()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hours": [0.1] * 47}, "48"),
        ({"hours": ["x"] * 48}, "48"),
        ({"hours": [0.0] * 48}, "48"),
        ({"fine": []}, "fine is an object"),
        ({"coarse": {"a": 1.0}}, "coarse has a cell"),
        ({"fine": {"1": float("inf")}}, "fine has a cell"),
        ({"fine": {"1": "x"}}, "fine has a cell"),
    ],
)
def test_what_is_no_pace_is_a_sentence(change: dict[str, Any], says: str) -> None:
    """Each fault has its words."""
    found = read_pace(learn([]).json() | change)
    assert isinstance(found, str)
    assert says in found


def test_only_an_object_is_pace() -> None:
    """A list is none."""
    assert isinstance(read_pace([]), str)
