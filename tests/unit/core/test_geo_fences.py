"""core.geo.fences: who comes, leaves and stays is noticed once, however fixes jitter, and cheaply."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.fences import ACC_M_MAX, POINTS_MAX, RADIUS_M_MAX, Crossing, Fences, Watch, problem
from core.geo.sphere import Plane, destination, distance_m
from core.tracks import Fence

LAT, LON = -33.9, 151.2
T0 = 1_795_240_800_000


def circle(
    name: str = "f", lat: float = LAT, lon: float = LON, radius_m: float = 100, dwell_s: int = 0, *streams: str
) -> Fence:
    return Fence(name, "", ((lat, lon),), radius_m, dwell_s, streams)


def square(name: str = "f", lat: float = LAT, lon: float = LON, half_m: float = 100, dwell_s: int = 0) -> Fence:
    plane = Plane(lat, lon)
    corners = [plane.place(x * half_m, y * half_m) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return Fence(name, "", tuple(corners), 0, dwell_s, ())


class Subject:
    """Seen every so often, so far east of the middle of the fence."""

    def __init__(self, *fences: Fence, lat: float = LAT, lon: float = LON) -> None:
        self.fences = Fences(fences)
        self.watch = Watch()
        self.lat, self.lon = lat, lon
        self.at_ms = T0

    def at(
        self, east_m: float, acc: float | None = 5.0, after_s: float = 10, stream: str = "trip:9"
    ) -> list[tuple[str, str]]:
        self.at_ms += round(1000 * after_s)
        lat, lon = destination(self.lat, self.lon, 90.0, east_m)
        found = self.watch.step(self.fences, stream, self.at_ms, lat, lon, acc)
        return [(crossing.fence, crossing.what) for crossing in found]


@pytest.mark.parametrize("fence", [circle(), square()])
def test_who_is_clearly_inside_has_come_and_clearly_outside_has_left(fence: Fence) -> None:
    """At the first fix; nothing more while nothing changes."""
    subject = Subject(fence)
    assert subject.at(500) == []
    assert subject.at(0) == [("f", "enter")]
    assert subject.at(10) == []
    assert subject.watch.inside == ["f"]
    assert subject.at(130) == [("f", "exit")]
    assert subject.at(140) == []
    assert subject.watch.inside == []


def test_near_the_edge_it_takes_two() -> None:
    """The crossing was at the first of them; one alone, or one that is on neither side, says nothing."""
    subject = Subject(circle())
    assert subject.at(92) == []
    first_ms = subject.at_ms
    lat, lon = destination(LAT, LON, 90.0, 91)
    assert subject.watch.step(subject.fences, "trip:9", first_ms + 5_000, lat, lon, 5.0) == [
        Crossing("f", "enter", first_ms)
    ]
    subject.at_ms += 5_000
    assert subject.at(108) == []
    assert subject.at(101) == []
    assert subject.at(108) == []
    assert subject.at(107) == [("f", "exit")]


def test_on_the_edge_nobody_flaps() -> None:
    """An hour of fixes that jitter by what they say of themselves: at most a crossing or two; by less, none."""
    rng = random.Random(7)
    subject = Subject(circle())
    crossings = [one for _ in range(720) for one in subject.at(100 + rng.gauss(0, 12 / 1.5), acc=12, after_s=5)]
    assert len(crossings) <= 4
    calm = Subject(circle())
    assert [one for _ in range(720) for one in calm.at(100 + rng.uniform(-4, 4), acc=None, after_s=5)] == []


def test_a_fix_that_is_not_exact_needs_to_be_further() -> None:
    """One of a mast says nothing at all, neither near nor far away."""
    subject = Subject(circle(radius_m=400))
    assert subject.at(350, acc=100) == subject.at(350, acc=100) == []
    assert subject.at(0, acc=ACC_M_MAX + 1) == []
    assert subject.at(0, acc=100) == [("f", "enter")]
    assert subject.at(5_000, acc=ACC_M_MAX + 1) == []
    assert subject.at(5_000, acc=ACC_M_MAX) == [("f", "exit")]


def test_no_fix_is_more_exact_than_can_be() -> None:
    """One that says 10 cm flaps no more than another."""
    subject = Subject(circle())
    subject.at(0)
    assert [one for n in range(40) for one in subject.at(100 + (4 if n % 2 else -4), acc=0.1)] == []
    assert [one for n in range(40) for one in subject.at(104, acc=0.1)] == []


def test_a_small_fence_is_entered_in_its_middle() -> None:
    """By two fixes in its middle half, where no fix is exact enough to be clear."""
    subject = Subject(circle(radius_m=10))
    assert subject.at(8, acc=20) == subject.at(8, acc=20) == []
    assert subject.at(3, acc=20) == []
    assert subject.at(4, acc=20) == [("f", "enter")]
    assert subject.at(28, acc=20) == []
    assert subject.at(40, acc=20) == []
    assert subject.at(40, acc=20) == [("f", "exit")]


def test_who_stays_is_told_of_once() -> None:
    """When the time is full, at the next fix; leaving and coming back begins anew."""
    subject = Subject(circle("f", LAT, LON, 100, 60))
    assert subject.at(0) == [("f", "enter")]
    entered_ms = subject.at_ms
    assert subject.at(0, after_s=59) == []
    lat, lon = destination(LAT, LON, 90.0, 1)
    found = subject.watch.step(subject.fences, "trip:9", subject.at_ms + 30_000, lat, lon, 5.0)
    assert found == [Crossing("f", "dwell", entered_ms + 60_000)]
    subject.at_ms += 30_000
    assert subject.at(0, after_s=600) == []
    assert subject.at(500) == [("f", "exit")]
    assert subject.at(0) == [("f", "enter")]
    assert subject.at(500, after_s=61) == [("f", "dwell"), ("f", "exit")]
    assert subject.at(0) == [("f", "enter")]
    assert subject.at(500, after_s=59) == [("f", "exit")]


def test_who_may_be_leaving_does_not_stay() -> None:
    """Until it is known that it did not."""
    subject = Subject(circle("f", LAT, LON, 100, 60))
    subject.at(0)
    assert subject.at(108, after_s=70) == []
    assert subject.at(95, after_s=1) == [("f", "dwell")]


def test_a_late_fix_opens_nothing_again() -> None:
    """Older than the last one, or as old."""
    subject = Subject(circle())
    subject.at(0)
    subject.at(500)
    for ago_ms in (0, 1, 9_000):
        assert subject.watch.step(subject.fences, "trip:9", subject.at_ms - ago_ms, LAT, LON, 5.0) == []
    assert subject.watch.inside == []


def test_fences_count_where_they_should() -> None:
    """In the streams that they name, or in all; one that is gone, or moved to other streams, is left by nobody."""
    subject = Subject(
        circle("mine", LAT, LON, 100, 0, "trip:9"), circle("all"), circle("other", LAT, LON, 100, 0, "trip:8")
    )
    assert subject.at(0) == [("mine", "enter"), ("all", "enter")]
    subject.fences = Fences([circle("mine", LAT, LON, 100, 0, "trip:8")])
    assert subject.at(1_000) == []
    assert subject.watch.inside == []


def test_fences_may_lie_in_each_other() -> None:
    """Crossings of one fix come in order of their times."""
    subject = Subject(circle("small", LAT, LON, 50, 5), circle("large", LAT, LON, 1_000), circle("far", LAT, LON + 1))
    assert sorted(subject.at(0)) == [("large", "enter"), ("small", "enter")]
    assert subject.at(500) == [("small", "dwell"), ("small", "exit")]
    assert subject.at(900_000) == [("large", "exit")]


EDGES = [(0.0, 180.0), (0.0, -180.0), (60.0, 179.9995), (-45.0, -179.9995)]
POLES = [(89.999, 0.0), (-90.0, 12.0)]


@pytest.mark.parametrize(
    ("make", "lat", "lon"), [(make, *at) for make in (circle, square) for at in EDGES] + [(circle, *at) for at in POLES]
)
def test_no_place_of_the_earth_is_an_edge(make: Any, lat: float, lon: float) -> None:
    """Over the antimeridian and, for circles, at the poles; there no plane holds a polygon."""
    subject = Subject(make("f", lat, lon), lat=lat, lon=lon)
    for side_deg in (0, 90, 180, 270):
        assert (
            subject.watch.step(subject.fences, "", subject.at_ms + 1, *destination(lat, lon, side_deg, 60), 5.0) != []
        )
        assert (
            subject.watch.step(subject.fences, "", subject.at_ms + 2, *destination(lat, lon, side_deg, 160), 5.0) != []
        )
        subject.at_ms += 2


def test_the_antimeridian_has_two_names() -> None:
    """180 and -180 are in the same fences."""
    for middle in (180.0, -180.0, 179.9999):
        index = Fences([circle("f", 0.0, middle)])
        assert [len(index.near(0.0, lon)) for lon in (180.0, -180.0)] == [1, 1]


@given(
    fences=st.lists(
        st.tuples(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from([1.0, 50.0, 3e3, 9e4, RADIUS_M_MAX])),
        min_size=1,
        max_size=12,
    ),
    bearing=st.floats(0, 360),
    part=st.floats(0, 1.2),
)
def test_the_grid_misses_no_fence(fences: list[tuple[float, float, float]], bearing: float, part: float) -> None:
    """Whoever is inside one, or as near as a fix may be inexact, finds it."""
    made = [circle(str(n), *one) for n, one in enumerate(fences)]
    index = Fences(made)
    for lat, lon, radius_m in fences:
        place = destination(lat, lon, bearing, part * radius_m)
        found = {shape.fence.fence for shape in index.near(*place)}
        for fence in made:
            if distance_m(*fence.points[0], *place) <= fence.radius_m + ACC_M_MAX * 0.99:
                assert fence.fence in found


def test_of_a_thousand_fences_few_are_measured() -> None:
    """Those in whose box the place is; nearly nowhere is any."""
    rng = random.Random(3)
    made = [
        circle(str(n), rng.uniform(50, 51), rng.uniform(8, 9), rng.choice([30, 100, 500, 5_000])) for n in range(1_000)
    ]
    index = Fences(made)
    assert len(index._grids) <= 6
    looked = [len(index.near(rng.uniform(50, 51), rng.uniform(8, 9))) for _ in range(500)]
    assert sum(looked) / len(looked) < 12
    assert index.near(-50.0, 8.5) == []


@pytest.mark.parametrize(
    ("points", "radius_m", "says"),
    [
        ([(1.0, 2.0)], 50, ""),
        ([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)], 0, ""),
        ([(91.0, 2.0)], 50, "points: latitudes"),
        ([(float("nan"), 2.0)], 50, "points: latitudes"),
        ([(1.0, 2.0), (1.0, 3.0)], 50, "a circle is one point"),
        ([(1.0, 2.0)], 0.5, "a circle is one point and radius_m from 1 to 500000"),
        ([(1.0, 2.0)], RADIUS_M_MAX + 1, "a circle"),
        ([(1.0, 2.0), (1.0, 3.0)], 0, "a polygon is 3 to 1000 points"),
        ([(1.0, 2.0)] * (POINTS_MAX + 1), 0, "a polygon"),
        ([(0.0, 0.0), (0.0, 30.0), (1.0, 0.0)], 0, "no point of a polygon is further than 1000000 m"),
    ],
)
def test_what_is_no_fence_is_said(points: list[tuple[float, float]], radius_m: float, says: str) -> None:
    """In words for whoever drew it."""
    said = problem(Fence("f", "", tuple(points), radius_m, 0, ()))
    assert said.startswith(says)
    assert bool(said) is bool(says)
