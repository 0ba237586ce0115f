"""core.collectors.owntracks: an app's messages in HTTP mode; a location is a fix, anything else is skipped or told why not."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from core.collectors.owntracks import ENCRYPTED, read
from core.collectors.values import Report
from core.pings import FIXES_MAX, Fix

AT_MS = 1_795_253_400_000


def location(**fields: Any) -> dict[str, Any]:
    """As the app on a phone has it."""
    return {
        "_type": "location",
        "BSSID": "5c:de:ad:be:ef:00",
        "SSID": "depot",
        "acc": 5,
        "alt": 12,
        "batt": 83,
        "bs": 1,
        "cog": 87,
        "conn": "m",
        "created_at": 1795253409,
        "inregions": ["Home"],
        "lat": -33.9,
        "lon": 151.2,
        "m": 2,
        "t": "u",
        "tid": "k7",
        "topic": "owntracks/http/k7",
        "tst": 1795253400,
        "vac": 3,
        "vel": 51,
        **fields,
    }


def said(value: object) -> Report:
    return read(orjson.dumps(value))


def one(report: Report) -> Fix:
    assert not report.problem, report.problem
    [fix] = report.fixes
    return fix


def test_a_location_is_a_fix() -> None:
    """Kilometres an hour, seconds; true at ``tst``, not when the message was made."""
    assert said(location()) == Report("", (Fix(0, AT_MS, b"", True, -33.9, 151.2, 5.0, 14.17, 87.0, 12.0, False),))


def test_most_of_it_may_be_missing() -> None:
    """A location needs a time and a place."""
    fix = one(said({"_type": "location", "lat": -33.9, "lon": 151.2, "tst": 1795253400}))
    assert fix == Fix(0, AT_MS, b"", True, -33.9, 151.2)


def test_the_message_s_own_time_stands_in() -> None:
    """Where the fix's is missing."""
    without = location()
    del without["tst"]
    assert one(said(without)).at_ms == AT_MS + 9_000


def test_a_ping_says_nothing_of_speed() -> None:
    """It is the last fix again, at the time of now: where it was then under way it may long have stopped."""
    fix = one(said(location(t="p")))
    assert (fix.lat, fix.speed, fix.heading) == (-33.9, None, None)


def test_what_a_phone_does_not_know_is_minus_one() -> None:
    """And not said."""
    fix = one(said(location(vel=-1, cog=-1, acc=-1)))
    assert (fix.speed, fix.heading, fix.acc) == (None, None, None)


@pytest.mark.parametrize(
    "kind", ["transition", "waypoint", "waypoints", "lwt", "status", "steps", "card", "cmd", "beacon", "of tomorrow"]
)
def test_other_messages_are_skipped(kind: str) -> None:
    """They are the app's own business, and must not be repeated."""
    assert said({"_type": kind, "tst": 1795253400}) == Report(skipped=1)


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_an_empty_body_is_skipped(body: bytes) -> None:
    """A friend was deleted in the app."""
    assert read(body) == Report(skipped=1)


def test_what_is_encrypted_is_refused_in_words() -> None:
    """Which say what to do."""
    assert said({"_type": "encrypted", "data": "aGFsbG8="}) == Report(problem=ENCRYPTED)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (1, "_type"),
        ({}, "_type"),
        ({"_type": 1}, "_type"),
        ([None], "_type"),
        (location(tst=None, created_at="?"), "tst"),
        (location(lat=None), "lat and lon"),
        (location(lon="east"), "lat and lon"),
        (location(lat=12_345), "lat and lon"),
    ],
)
def test_what_is_no_message_is_told_why(value: object, problem: str) -> None:
    """By what is missing."""
    report = said(value)
    assert report.problem.startswith(problem)
    assert not report.fixes


def test_what_is_no_json_is_told_so() -> None:
    """And holds nothing."""
    assert read(b"_type=location").problem.startswith("the body is not JSON")


def test_many_messages_in_one_request() -> None:
    """The good are taken, the others counted; none at all where only others are there."""
    report = said([location(), {"_type": "lwt"}, {}, location(tst=1795253401)])
    assert ([fix.at_ms for fix in report.fixes], report.skipped) == ([AT_MS, AT_MS + 1000], 2)
    assert said([]) == Report()
    assert said([location()] * (FIXES_MAX + 1)).too_large


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(location())), inner),
)


@given(st.binary())
def test_no_bytes_raise(body: bytes) -> None:
    """Whatever a stranger sends is read, or told why it is not."""
    report = read(body)
    assert report.problem or report.fixes or report.skipped or orjson.loads(body) == []


@given(st.dictionaries(st.sampled_from(list(location())), JSON))
def test_no_location_raises(fields: dict[str, Any]) -> None:
    """Whatever stands in its fields."""
    try:
        body = orjson.dumps(location(**fields))
    except TypeError:  # an integer that is none in JSON here
        return
    report = read(body)
    assert report.problem or report.fixes or report.skipped
