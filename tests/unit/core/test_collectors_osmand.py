"""core.collectors.osmand: the requests of Traccar Client and OsmAnd, in each of their forms; whatever else comes is told why
it is none."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from core.collectors.osmand import FIELDS_MAX, read
from core.collectors.values import Report
from core.pings import FIXES_MAX, Fix

NOW_MS = 1_795_253_999_000
AT_MS = 1_795_253_400_000
PLACE = {"lat": "-33.9", "lon": "151.2"}


def one(report: Report) -> Fix:
    assert not report.problem, report.problem
    [fix] = report.fixes
    return fix


def query(**fields: str) -> Report:
    return read(urlencode({"id": "s3cret", **fields}).encode(), b"", NOW_MS)


def location(**fields: Any) -> dict[str, Any]:
    """As Traccar Client 9 has it in its template."""
    coords = {"latitude": -33.9, "longitude": 151.2, "accuracy": 5, "speed": 14.2, "heading": 87, "altitude": 12.5}
    return {
        "timestamp": "2026-11-21T09:30:00.000Z",
        "coords": {**coords, **fields.pop("coords", {})},
        "is_moving": True,
        "odometer": 1234.5,
        "event": "motionchange",
        "battery": {"level": 0.83, "is_charging": False},
        "activity": {"type": "in_vehicle"},
        "extras": {},
        "_": "&id=s3cret&lat=-33.9&lon=151.2&timestamp=2026-11-21T09:30:00.000Z&",
        **fields,
    }


def posted(said: object, sent: bytes = b"") -> Report:
    return read(sent, orjson.dumps(said), NOW_MS)


def test_what_traccar_client_sent_until_version_9() -> None:
    """A POST whose query has it all, its body empty: knots, seconds, percent."""
    sent = (
        b"id=s3cret&timestamp=1795253400&lat=-33.9&lon=151.2&speed=27.6025917926566&bearing=87.0&altitude=12.5"
        b"&accuracy=5.0&batt=83.0"
    )
    report = read(sent, b"", NOW_MS)
    assert report == Report("s3cret", (Fix(0, AT_MS, b"", True, -33.9, 151.2, 5.0, 14.2, 87.0, 12.5, False),))


def test_what_traccar_client_sends_since_version_9() -> None:
    """JSON, metres per second; the secret is in the body, so in nobody's log of addresses."""
    report = posted({"location": location(), "device_id": "s3cret"})
    assert report == Report("s3cret", (Fix(0, AT_MS, b"", True, -33.9, 151.2, 5.0, 14.2, 87.0, 12.5, False),))


def test_what_osmand_sends_where_it_is_set_up_as_we_say() -> None:
    """Milliseconds, and metres per second under a name of our own."""
    sent = (
        b"id=s3cret&lat=-33.9&lon=151.2&timestamp=1795253400000&accuracy=5.0&altitude=12.5&speed_mps=14.2&bearing=87.0"
    )
    report = read(sent, b"", NOW_MS)
    assert report == Report("s3cret", (Fix(0, AT_MS, b"", True, -33.9, 151.2, 5.0, 14.2, 87.0, 12.5, False),))


def test_a_form_is_as_good_as_a_query() -> None:
    """What stands in both is the query's."""
    report = read(b"lat=1&id=s3cret", b"lat=2&lon=3&timestamp=1795253400", NOW_MS)
    assert (one(report).lat, one(report).lon, report.secret) == (1.0, 3.0, "s3cret")


@pytest.mark.parametrize("name", ["id", "deviceid", "device_id"])
def test_the_id_has_three_names(name: str) -> None:
    """As the documents of the protocol and of the app have it."""
    assert read(urlencode({name: "s3cret", **PLACE}).encode(), b"", NOW_MS).secret == "s3cret"


def test_a_place_may_be_one_parameter() -> None:
    """And a time may be left out: then it is now."""
    fix = one(query(location="-33.9,151.2"))
    assert (fix.lat, fix.lon, fix.at_ms) == (-33.9, 151.2, NOW_MS)


def test_hdop_stands_in_for_accuracy() -> None:
    """At five metres each, where the accuracy itself is not said."""
    assert one(query(**PLACE, hdop="1.5")).acc == 7.5
    assert one(query(**PLACE, hdop="1.5", accuracy="3")).acc == 3.0


def test_heading_and_mock_by_their_names() -> None:
    """``heading`` is another word for ``bearing``; a mocked place says so."""
    fix = one(query(**PLACE, heading="90", mock="true"))
    assert (fix.heading, fix.mock) == (90.0, True)
    assert one(query(**PLACE)).mock is False


@pytest.mark.parametrize("name", ["speed", "bearing", "altitude", "accuracy", "hdop", "speed_mps"])
def test_what_nobody_needs_and_nobody_can_read_is_not_said(name: str) -> None:
    """The place is taken all the same."""
    fix = one(query(**PLACE, **{name: "NaN"}))
    assert (fix.speed, fix.heading, fix.alt, fix.acc) == (None, None, None, None)


@pytest.mark.parametrize("valid", ["false", "FALSE", "0"])
def test_a_receiver_that_has_no_place_is_skipped(valid: str) -> None:
    """It says so itself; repeating would make it no better."""
    assert query(valid=valid, **PLACE) == Report("s3cret", skipped=1)
    assert one(query(valid="1", **PLACE)).good


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "lat and lon"),
        ({"lat": "1"}, "lat and lon"),
        ({"lat": "north", "lon": "1"}, "lat and lon"),
        ({"lat": "1", "lon": "99999"}, "lat and lon"),
        ({"location": "1"}, "lat and lon"),
        ({"location": "1,2,3"}, "lat and lon"),
        ({**PLACE, "timestamp": "yesterday"}, "timestamp"),
        ({**PLACE, "timestamp": ""}, "timestamp"),
    ],
)
def test_what_is_no_fix_is_told_why(fields: dict[str, str], problem: str) -> None:
    """With whose it is, so that only who may send is told."""
    report = query(**fields)
    assert report.problem.startswith(problem)
    assert (report.secret, report.fixes) == ("s3cret", ())


def test_parameters_are_bounded() -> None:
    """Nobody has so many."""
    many = urlencode({f"p{n}": "1" for n in range(FIELDS_MAX + 1)}).encode()
    assert "parameters" in read(many, b"", NOW_MS).problem
    assert "parameters" in read(b"id=s3cret", many, NOW_MS).problem


def test_a_latitude_of_95_is_judged_with_the_others() -> None:
    """It is a fix, and no good one."""
    assert one(query(lat="95", lon="1")).good is False


# -- JSON -----------------------------------------------------------------------------------------------------------------


def test_an_app_that_does_not_know_says_minus_one() -> None:
    """Which is no speed and no course."""
    fix = one(posted({"location": location(coords={"speed": -1, "heading": -1, "accuracy": -1}), "device_id": "s"}))
    assert (fix.speed, fix.heading, fix.acc) == (None, None, None)


@pytest.mark.parametrize("where", ["inside", "around"])
def test_many_locations_in_one_request(where: str) -> None:
    """As a list of them, or a list of requests."""
    some = [location(timestamp=AT_MS + n) for n in range(3)]
    said: object = {"location": some, "device_id": "s3cret"}
    if where == "around":
        said = [{"location": each, "device_id": "s3cret"} for each in some]
    report = posted(said)
    assert [fix.at_ms for fix in report.fixes] == [AT_MS, AT_MS + 1, AT_MS + 2]
    assert (report.secret, report.skipped) == ("s3cret", 0)


def test_a_location_may_be_at_the_top() -> None:
    """For a library that is told to put it there; its id may be the query's."""
    report = posted({**location(), "mock": True}, b"id=s3cret")
    assert report.secret == "s3cret"
    assert one(report).mock is True


def test_the_good_of_a_batch_are_taken() -> None:
    """What cannot be read does not keep the rest from being taken, and is counted."""
    bad = [None, "here", {}, {"coords": 1}, location(timestamp="?"), location(coords={"latitude": None})]
    report = posted({"location": [*bad, location()], "device_id": "s3cret"})
    assert (one(report).at_ms, report.skipped) == (AT_MS, len(bad))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"device_id": "s", "location": []}, "location"),
        ([], "location"),
        ([1], "location.coords"),
        ({"device_id": "s"}, "location.coords"),
        ({"device_id": "s", "location": {"coords": {}}}, "timestamp"),
        ({"device_id": "s", "location": {"coords": {}, "timestamp": 1}}, "lat and lon"),
        ([{**location(), "device_id": "s"}, {**location(), "device_id": "t"}], "device_id"),
    ],
)
def test_json_that_holds_no_fix_is_told_why(said: object, problem: str) -> None:
    """By the first thing that is wrong."""
    assert posted(said).problem.startswith(problem)


def test_what_only_looks_like_json_is_none() -> None:
    """Nor does it lose whose it is."""
    report = read(b"id=s3cret", b'  {"location":', NOW_MS)
    assert report.problem.startswith("the body is not JSON")
    assert report.secret == "s3cret"


def test_a_batch_is_bounded() -> None:
    """As a message of the socket is."""
    many = [location(timestamp=AT_MS + n) for n in range(FIXES_MAX + 1)]
    assert len(posted({"location": many[1:], "device_id": "s"}).fixes) == FIXES_MAX
    report = posted({"location": many, "device_id": "s"})
    assert report.too_large
    assert not report.fixes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["location", "coords", "timestamp", "device_id", "latitude", "longitude", "speed"]), inner
        )
    ),
)


@given(st.binary(), st.binary() | JSON.map(lambda said: b"{" + repr(said).encode()))
def test_no_bytes_raise(sent: bytes, body: bytes) -> None:
    """Whatever a stranger sends is read, or told why it is not."""
    report = read(sent, body, NOW_MS)
    assert report.problem or report.fixes or report.skipped


@given(JSON)
def test_no_json_raises(said: Any) -> None:
    """Whatever its shape."""
    try:
        body = orjson.dumps(said)
    except TypeError:  # an integer that is none in JSON here
        return
    for sent in (body, b'{"device_id":"s","location":%b}' % body, b'{"coords":%b}' % body):
        report = read(b"", sent, NOW_MS)
        assert report.problem or report.fixes or report.skipped
        assert all(fix.at_ms >= 0 and -1_000 <= fix.lat <= 1_000 for fix in report.fixes)


@given(st.dictionaries(st.sampled_from(["lat", "lon", "timestamp", "speed", "location", "valid", "hdop"]), st.text()))
def test_no_parameters_raise(fields: dict[str, str]) -> None:
    """Whatever stands in them."""
    report = read(urlencode(fields, errors="replace").encode(), b"", NOW_MS)
    assert report.problem or report.fixes or report.skipped
