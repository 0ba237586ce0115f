"""core.collectors.values: numbers and times as apps spell them; whatever else comes is none, and never an exception."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.collectors.values import Report, at_ms, make_fix, number, scaled
from core.pings import Fix

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (5, 5.0),
        (-33.9, -33.9),
        ("151.2", 151.2),
        ("-.5", -0.5),
        ("+7.", 7.0),
        ("1.2E-3", 0.0012),
        ("", None),
        (".", None),
        ("1_000", None),
        (" 5", None),
        ("5\n", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("\u0663", None),
        (True, None),
        (None, None),
        ({}, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
    ],
)
def test_a_number_is_one_in_whatever_form(said: object, found: float | None) -> None:
    """JSON's own, or its text; what Python alone would call a number is none."""
    assert number(said) == found


def test_a_unit_is_a_factor_of_what_was_said() -> None:
    """And of nothing, nothing."""
    assert scaled("10", 0.5) == 5.0
    assert scaled("ten", 0.5) is None


@pytest.mark.parametrize(
    "said",
    [
        1795253400,
        1795253400.0,
        "1795253400",
        1795253400000,
        "1795253400000",
        "2026-11-21T09:30:00Z",
        "2026-11-21T09:30:00.000Z",
        "2026-11-21T11:30:00+02:00",
        "2026-11-21T11:30:00 02:00",
        "2026-11-21T09:30:00",
        "2026-11-21 09:30:00",
        "2026-11-21T09:30",
    ],
)
def test_a_time_is_the_same_in_every_spelling(said: object) -> None:
    """Seconds, milliseconds, ISO 8601; UTC where it says no zone; a plus that a query made a blank."""
    assert at_ms(said) == 1_795_253_400_000


@pytest.mark.parametrize(
    ("said", "ms"),
    [
        (0, 0),
        ("0.25", 250),
        (2**31 - 1, (2**31 - 1) * 1000),
        (2**31, 2**31),
        ("2026-11-21T09:30:00.123999Z", 1_795_253_400_123),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ("9999-12-31T23:59:59-01:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        (-1, None),
        (-1e308, None),  # in milliseconds it is infinite, and no integer
        (253_402_300_799_999.9, None),
        (10**18, None),
        ("tomorrow", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-11-21T09:30:00Z\x00", None),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_times_have_an_end(said: object, ms: int | None) -> None:
    """From 1970 to the year 10000; what is no time is none."""
    assert at_ms(said) == ms


def test_a_fix_has_the_decimals_and_bounds_of_the_socket_s() -> None:
    """No number of the device's own, nothing that is signed; what it does not know is not said."""
    full = make_fix(7, -33.912345678, 151.2, acc=5.004, speed=14.237, heading=360, alt=-12.5, mock=True)
    assert full == Fix(0, 7, b"", True, -33.9123457, 151.2, 5.0, 14.24, 360.0, -12.5, True)
    unknown = make_fix(7, 1, 2, acc=-1, speed=-1, heading=-1, alt=-99_999)
    assert unknown == Fix(0, 7, b"", True, 1.0, 2.0, None, None, None, None, False)
    beyond = make_fix(7, 1, 2, acc=1e7, speed=2_001, heading=361, alt=100_001)
    assert beyond == unknown


@pytest.mark.parametrize(("lat", "lon", "good"), [(90, -180, True), (90.5, 0, False), (0, 180.5, False)])
def test_an_impossible_place_is_judged_and_an_absurd_one_is_none(lat: float, lon: float, good: bool) -> None:
    """A latitude of 95 is said by a broken receiver, one of 10,000 by another protocol."""
    found = make_fix(7, lat, lon)
    assert found is not None
    assert found.good is good
    assert make_fix(7, lat + 10_000, lon) is None
    assert make_fix(7, lat, lon - 10_000) is None


def test_a_report_shows_its_secret_to_nobody() -> None:
    """Wherever it is printed."""
    assert "s3cret" not in repr(Report("s3cret"))


@given(ANYTHING)
def test_nothing_raises(said: Any) -> None:
    """Whatever JSON or a query can hold."""
    found, at = number(said), at_ms(said)
    assert found is None or math.isfinite(found)
    assert at is None or 0 <= at < 253_402_300_800_000
