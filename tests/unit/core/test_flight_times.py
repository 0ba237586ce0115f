"""core.flight.times: a text is one instant, or says why it is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flight import times
from core.flight.times import LATEST_MS, codes_of, read, write, zone_of

MELBOURNE = "Australia/Melbourne"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T09:30:00.000Z",
        "2026-11-21T09:30:00Z",
        "2026-11-21T09:30Z",
        "2026-11-21T20:30+11:00",
        "2026-11-21T00:30:00.0-09:00",
        "2026-11-21T09:30:00.000999Z",
    ],
)
def test_the_same_instant_in_many_forms(text: str) -> None:
    """Offsets, seconds left out, fractions below a millisecond: all are written as one."""
    assert write(read(text).ms) == "2026-11-21T09:30:00.000Z"


@given(st.integers(0, LATEST_MS - 1))
def test_what_is_written_is_read_as_the_same(ms: int) -> None:
    """To the millisecond."""
    assert read(write(ms)).ms == ms


@pytest.mark.parametrize(
    "text",
    [
        None,
        1_764_000_000,
        "",
        "now",
        "2026-11-21",
        "2026-11-21 09:30Z",
        "2026-11-21T09:30:00.Z",
        "2026-11-21T09:30z",
        "2026-11-21T09:30:00+1100",
        "٢٠٢٦-11-21T09:30Z",
        "2026-11-21T09:30Z\n",
        "2026-02-29T09:30Z",
        "2026-11-21T24:30Z",
        "2026-11-21T09:30:60Z",
        "1969-12-31T23:59:59Z",
        "2200-01-01T00:00Z",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59-14:00",
    ],
)
def test_what_is_no_time_says_so(text: object) -> None:
    """Nothing is guessed, and nothing is raised."""
    reading = read(text)
    assert (reading.ms, reading.why) == (-1, "malformed")
    assert reading.message.startswith("is ")


def test_a_local_time_wants_a_zone() -> None:
    """And is told how to be one without."""
    assert read("2026-11-21T20:30").why == "local"
    assert "2026-11-21T20:30Z" in read("2026-11-21T20:30").message
    assert write(read("2026-11-21T20:30", MELBOURNE).ms) == "2026-11-21T09:30:00.000Z"


def test_an_offset_is_stronger_than_a_zone() -> None:
    """Who says both meant the offset."""
    assert read("2026-11-21T09:30Z", MELBOURNE) == read("2026-11-21T09:30Z")


def test_an_hour_that_is_twice_is_none_and_both_are_named() -> None:
    """Melbourne put its clocks back at 03:00 on 5 April 2026."""
    reading = read("2026-04-05T02:30", MELBOURNE)
    assert (reading.ms, reading.why) == (-1, "doubled")
    assert "2026-04-04T15:30:00.000Z or 2026-04-04T16:30:00.000Z" in reading.message


def test_an_hour_that_is_not_is_none_and_both_readings_are_named() -> None:
    """Melbourne put its clocks on at 02:00 on 4 October 2026."""
    reading = read("2026-10-04T02:30", MELBOURNE)
    assert (reading.ms, reading.why) == (-1, "skipped")
    assert "2026-10-03T15:30:00.000Z or 2026-10-03T16:30:00.000Z" in reading.message


def test_a_local_time_out_of_all_bounds_is_none() -> None:
    """A year that a slip makes."""
    assert read("2300-01-01T00:00", MELBOURNE).why == "malformed"
    assert read("9999-12-31T23:59", "Pacific/Honolulu").why == "malformed"
    assert read("0001-01-01T00:00", MELBOURNE).why == "malformed"


def test_airports_have_zones_by_either_code() -> None:
    """IATA and ICAO name the same place; what is neither names none."""
    assert zone_of("MEL") == zone_of("YMML") == MELBOURNE
    assert zone_of("JFK") == "America/New_York"
    assert zone_of("Q!") is None
    assert zone_of("") is None


def test_an_airport_has_two_codes() -> None:
    """Whichever is given comes first; what is no airport's is alone."""
    assert codes_of("MEL") == ("MEL", "YMML")
    assert codes_of("YMML") == ("YMML", "MEL")
    assert codes_of("Q!") == ("Q!",)


def test_every_zone_of_an_airport_is_one_that_can_be_read_in() -> None:
    """airportsdata and the tz database agree on their names."""
    zones = set(times._zones().values())
    assert len(zones) > 300
    assert [zone for zone in sorted(zones) if read("2026-06-15T12:00", zone).ms < 0] == []
