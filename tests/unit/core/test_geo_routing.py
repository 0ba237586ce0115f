"""core.geo.routing: what is asked, what is answered, and that durations which must not be kept cannot be."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo import routing
from core.geo.route import POINTS_MAX, Route
from core.geo.routing import (
    ASK_POINTS_MAX,
    OFF_M_MAX,
    Ask,
    Passing,
    PassingRoute,
    RouteError,
    Shape,
    Snapshot,
    crow_m,
    read_snapshot,
    spread,
)
from core.geo.sphere import M_PER_DEGREE

A, B, C = (30.0, 104.0), (30.01, 104.0), (30.03, 104.0)
ASK = Ask("car", (A, B, C))
NOW_MS = 1_790_000_000_000
UNTIL_MS = NOW_MS + 1_000


def made(*, passing: bool = False) -> Snapshot:
    shape = Shape("osrm")
    shape.add([A, B], [100.25])
    shape.stop()
    shape.add([B, C], [200.5])
    shape.stop()
    return shape.snapshot(ASK, NOW_MS, passing_until_ms=UNTIL_MS if passing else None)


def test_asks_that_nobody_is_asked() -> None:
    """Too few or too many points, no places, and a continent to search, unless one flies over it."""
    assert ASK.problem() == ""
    assert "2 to 52 points, not 1" in Ask("car", (A,)).problem()
    assert "not 53" in Ask("car", (A,) * (ASK_POINTS_MAX + 1)).problem()
    assert "no latitude" in Ask("car", (A, (91.0, 0.0))).problem()
    assert "no latitude" in Ask("car", (A, (0.0, float("nan")))).problem()
    assert "no latitude" in Ask("car", (A, B), way=((0.0, 181.0),)).problem()
    assert "3000 km" in Ask("bike", (A, (59.0, 104.0))).problem()
    assert Ask("aircraft", (A, (59.0, 104.0))).problem() == ""


def test_asks_that_are_one() -> None:
    """To some 10 m and 5 minutes, of one mode."""
    assert ASK.key() == ASK._replace(points=((30.00004, 104.0), B, C)).key()
    assert ASK.key() != ASK._replace(points=((30.0002, 104.0), B, C)).key()
    assert ASK.key() != ASK._replace(points=(A, C, B)).key()
    assert ASK.key() != ASK._replace(mode="bus").key()
    departs = [ASK._replace(depart_ms=NOW_MS + s * 1_000).key() for s in (0, 60, 600)]
    assert departs[0] == departs[1] != departs[2]
    assert ASK.key() not in departs


def test_a_snapshot_leads_through_what_was_asked() -> None:
    """Metres are measured on the points; a stop is where a leg ended."""
    snapshot = made()
    assert (snapshot.points, snapshot.stops) == ((A, B, C), (1, 2))
    assert snapshot.legs_m == pytest.approx((0.01 * M_PER_DEGREE, 0.02 * M_PER_DEGREE))
    assert (snapshot.use(), snapshot.total_s(), snapshot.shareable) == ((100.25, 200.5), 300.75, True)


def test_a_snapshot_is_kept() -> None:
    """Its JSON is read back as it was."""
    snapshot = made()
    read = read_snapshot(orjson.loads(orjson.dumps(snapshot.json())), NOW_MS)
    assert isinstance(read, Snapshot)
    assert (read.points, read.legs_s, read.stops) == (snapshot.points, snapshot.legs_s, snapshot.stops)
    assert read.legs_m == pytest.approx(snapshot.legs_m, abs=0.06)
    assert (read.source, read.made_ms, read.kept_until_ms) == ("osrm", NOW_MS, None)


def test_passing_durations_are_used_and_not_kept() -> None:
    """No JSON, no pickle, no copy, no digits, however they are wrapped; `use` alone has them."""
    snapshot = made(passing=True)
    route = snapshot.route(["b", "c"])
    assert isinstance(route, PassingRoute)
    assert snapshot.use() == route.leg_s == (100.25, 200.5)
    assert snapshot.total_s() == 300.75
    assert not snapshot.shareable
    for shown in (repr(snapshot), repr(route), repr(snapshot.legs_s), str(snapshot.json())):
        assert "100.2" not in shown
        assert "200.5" not in shown
    kept: list[tuple[Any, Any]] = [
        (thing, write)
        for thing in (snapshot, snapshot.legs_s)
        for write in (json.dumps, orjson.dumps, pickle.dumps, copy.deepcopy)
    ]
    kept += [(route, pickle.dumps), (route, copy.copy), (route, orjson.dumps), (snapshot.legs_s, copy.copy)]
    for thing, write in kept:
        with pytest.raises(TypeError):
            write(thing)


def test_what_is_read_back_of_a_passing_snapshot() -> None:
    """Points and stops for as long as they may be kept, no durations; after that nothing."""
    body = made(passing=True).json()
    read = read_snapshot(body, UNTIL_MS - 1)
    assert isinstance(read, Snapshot)
    assert (read.points, read.legs_s, read.use(), read.total_s(), read.shareable) == (
        (A, B, C),
        None,
        None,
        None,
        False,
    )
    assert read.route(["b", "c"]).leg_s == (None, None)
    assert read_snapshot(body, UNTIL_MS) == "the snapshot may be kept no longer"
    assert "must not be kept" in str(read_snapshot(body | {"legs_s": [1.0, 2.0]}, NOW_MS))


def test_an_estimator_s_route() -> None:
    """With named stops at their metres; one whose durations may be kept keeps them."""
    route = made().route(["b", "c"])
    assert type(route) is Route
    assert [(stop.name, round(stop.at_m)) for stop in route.stops] == [("b", 1112), ("c", 3336)]
    assert (route.points, route.leg_s) == ((A, B, C), (100.25, 200.5))
    detour = Shape("offline")
    detour.add([A, C], [500.0])
    detour.stop()
    (stop,) = detour.snapshot(Ask("car", (A, C)), NOW_MS, legs_m=[9_999.0]).route(["c"]).stops
    assert stop.at_m == pytest.approx(crow_m((A, C)))
    nowhere = Shape("offline")
    nowhere.add([A], [])
    nowhere.stop()
    (stop,) = nowhere.snapshot(Ask("car", (A, A)), NOW_MS).route(["a"]).stops
    assert stop.at_m == 0.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"polyline": 7}, "has a polyline, a source and a time"),
        ({"source": None}, "has a polyline, a source and a time"),
        ({"made_ms": "now"}, "has a polyline, a source and a time"),
        ({"polyline": "\x01"}, "none that polylines are made of"),
        ({"polyline": "??"}, "has 2 to"),
        ({"kept_until_ms": "soon"}, "kept no longer"),
        ({"legs_m": None}, "legs of the snapshot"),
        ({"legs_m": [1.0]}, "legs of the snapshot"),
        ({"legs_m": [1.0, -1.0]}, "legs of the snapshot"),
        ({"legs_s": [1.0, True]}, "legs of the snapshot"),
        ({"legs_s": [1.0, float("inf")]}, "legs of the snapshot"),
        ({"stops": 1}, "stops of the snapshot do not fit"),
        ({"stops": []}, "stops of the snapshot do not fit"),
        ({"stops": [3]}, "stops of the snapshot do not fit"),
        ({"stops": [2, 1]}, "do not follow"),
        ({"stops": [1]}, "do not follow"),
    ],
)
def test_snapshots_that_cannot_be_read(change: dict[str, object], says: str) -> None:
    """A sentence, never an exception, and no snapshot that cannot be used."""
    assert says in str(read_snapshot(made().json() | change, NOW_MS))


def test_what_is_no_snapshot_at_all() -> None:
    """Not even an object."""
    assert read_snapshot([], NOW_MS) == "a snapshot of a route is a JSON object"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["polyline", "legs_m", "legs_s", "stops", "source", "made_ms", "kept_until_ms"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_reading_is_total(body: object) -> None:
    """Whatever a store gives back, there is a snapshot or a sentence."""
    assert isinstance(read_snapshot(body, NOW_MS), Snapshot | str)


@pytest.mark.parametrize(
    ("points", "seconds", "says"),
    [
        ([A, B], [], "times that do not fit"),
        ([A, B], [-1.0], "times that do not fit"),
        ([A, B], [float("nan")], "times that do not fit"),
        ([A, (0.0, 200.0)], [1.0], "places that are none"),
        ([], [], "times that do not fit"),
    ],
)
def test_shapes_that_cannot_be(points: list[Any], seconds: list[float], says: str) -> None:
    """They are the provider's fault, and it is named."""
    with pytest.raises(RouteError, match=f"osrm answers with {says}") as caught:
        Shape("osrm").add(points, seconds)
    assert not caught.value.fatal


def test_parts_that_do_not_meet_are_joined() -> None:
    """By a piece that takes no time; so a step of one point is no piece."""
    shape = Shape("osrm")
    shape.add([A], [])
    shape.add([A, B], [10.0])
    shape.add([C], [])
    assert (shape.points, shape.seconds) == ([A, B, C], [10.0, 0.0])


def test_ways_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this ask, not of the provider."""
    assert POINTS_MAX > 2
    monkeypatch.setattr(routing, "POINTS_MAX", 2)
    with pytest.raises(RouteError, match="more than 2 points") as caught:
        Shape("osrm").add([A, B, C], [1.0, 1.0])
    assert caught.value.fatal


def test_ways_that_lead_elsewhere() -> None:
    """Too few stops, an end that is none, and one too far from what was asked, which is the ask's own matter."""
    for points, stops in (([A, B], 1), ([A, B], 2), ([], 0)):
        shape = Shape("osrm")
        if points:
            shape.add(points, [1.0])
        for _ in range(stops):
            shape.stop()
        if stops == 2:
            shape.add([B, C], [1.0])
        with pytest.raises(RouteError, match="does not lead through") as caught:
            shape.snapshot(ASK, NOW_MS)
        assert not caught.value.fatal
    off = OFF_M_MAX / M_PER_DEGREE
    for lat, fatal in ((30.03 + 0.99 * off, False), (30.03 + 1.01 * off, True)):
        shape = Shape("osrm")
        shape.add([A, (lat, 104.0)], [1.0])
        shape.stop()
        if not fatal:
            assert shape.snapshot(Ask("car", (A, C)), NOW_MS).stops == (1,)
            continue
        with pytest.raises(RouteError, match="no way near") as caught:
            shape.snapshot(Ask("car", (A, C)), NOW_MS)
        assert caught.value.fatal


def test_times_are_spread_by_length() -> None:
    """Of points that all lie in one place evenly."""
    assert spread([A, B, C], 30.0) == pytest.approx([10.0, 20.0])
    assert spread([A, A, A], 30.0) == [15.0, 15.0]
    assert spread([A], 30.0) == []


def test_errors_say_what_to_do() -> None:
    """Whether it is of use to ask again, and when."""
    error = RouteError("osrm is away", 5.0)
    assert (str(error), error.reason, error.retry_after_s, error.fatal) == ("osrm is away", "osrm is away", 5.0, False)


def test_passing_has_a_length_and_no_more() -> None:
    """So that a snapshot can be held against its points."""
    seconds = Passing([1.0, 2.0])
    assert (len(seconds), repr(seconds), seconds.use()) == (2, "Passing(2)", (1.0, 2.0))
