"""core.cron: expressions, and the next time of each around the clock's changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cron import SHORT, BadCron, Cron, next_after, parse, zone_of


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def utc(at_ms: int | None) -> str:
    assert at_ms is not None
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def runs(expr: str, zone: str, start: str, count: int, **policy: str) -> list[str]:
    """The next so many times, in UTC."""
    found: list[str] = []
    at: int | None = ms(start)
    for _ in range(count):
        assert at is not None
        at = next_after(expr, zone, at, **policy)  # type: ignore[arg-type]
        found.append(utc(at))
    return found


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("30 6 * * *", ["2026-11-02T06:30Z", "2026-11-03T06:30Z"]),
        ("*/20 5 * * *", ["2026-11-02T05:00Z", "2026-11-02T05:20Z"]),
        ("0 0 1,15 * *", ["2026-11-15T00:00Z", "2026-12-01T00:00Z"]),
        ("0 12 * JAN-feb Mon", ["2027-01-04T12:00Z", "2027-01-11T12:00Z"]),
        ("0 0 * * 7", ["2026-11-08T00:00Z", "2026-11-15T00:00Z"]),
        ("0 0 * * fri-7", ["2026-11-06T00:00Z", "2026-11-07T00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00Z"]),
        ("10-30/10 4 * * *", ["2026-11-02T04:10Z", "2026-11-02T04:20Z"]),
        ("@hourly", ["2026-11-02T04:00Z", "2026-11-02T05:00Z"]),
        ("@weekly", ["2026-11-08T00:00Z", "2026-11-15T00:00Z"]),
    ],
)
def test_expressions_name_the_times_that_cron_users_know(expr: str, expected: list[str]) -> None:
    """Numbers, names, lists, ranges, steps and short forms mean what they mean to cron."""
    assert runs(expr, "UTC", "2026-11-02T03:40:00+00:00", len(expected)) == expected


def test_two_restricted_day_fields_are_alternatives() -> None:
    """The 13th or a Friday, where both are given; a field that begins with * restricts the other as usual."""
    assert runs("0 0 13 * fri", "UTC", "2026-12-05T00:00:00+00:00", 3) == [
        "2026-12-11T00:00Z",
        "2026-12-13T00:00Z",
        "2026-12-18T00:00Z",
    ]
    assert runs("0 0 */2 * fri", "UTC", "2026-12-01T00:00:00+00:00", 2) == ["2026-12-11T00:00Z", "2026-12-25T00:00Z"]


@pytest.mark.parametrize(
    ("expr", "says"),
    [
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("", "five fields"),
        ("@often", "@daily"),
        ("60 * * * *", "the field minute of a cron expression takes 0 to 59"),
        ("* 24 * * *", "the field hour"),
        ("* * 0 * *", "the field day of month"),
        ("* * * 13 *", "jan, feb"),
        ("* * * * 8", "day of week"),
        ("* * * * mond", "sun, mon"),
        ("5-1 * * * *", "ends before it begins"),
        ("*/0 * * * *", "is 0"),
        ("5/15 * * * *", "5-59/15"),
        ("*-5 * * * *", "* is a range already"),
        ("1,,2 * * * *", "cannot be ''"),
        ("1- * * * *", "cannot be '1-'"),
        ("* * L * *", "takes 1 to 31, not 'l'"),
        ("* * * * 5#2", "cannot be '5#2'"),
        ("99999 * * * *", "0 to 59"),
        ("² * * * *", "cannot be"),
        ("0 " * 200, "at most 256"),
    ],
)
def test_what_is_no_expression_is_said_to_be_none(expr: str, says: str) -> None:
    """The message names the field and what it takes; `next_after` raises it."""
    read = parse(expr)
    assert isinstance(read, BadCron)
    assert says in read.message
    with pytest.raises(ValueError, match=r"cron|step|range|short"):
        next_after(expr, "UTC", 0)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", "America", ""])
def test_a_zone_that_is_none_is_named(zone: str) -> None:
    """No zone, a path and a folder of zones are the same refusal."""
    assert isinstance(zone_of(zone), BadCron)
    with pytest.raises(ValueError, match="time zone"):
        next_after("@daily", zone, 0)


@pytest.mark.parametrize("expr", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_day_that_never_comes_is_none(expr: str) -> None:
    """A date that no year has ends the search after five years."""
    assert next_after(expr, "UTC", ms("2026-11-01T00:00:00+00:00")) is None


def test_the_end_of_the_calendar_is_none() -> None:
    """Times beyond year 9999 are no failure."""
    assert next_after("@daily", "UTC", ms("9999-12-31T23:00:00+00:00")) is None
    assert next_after("@daily", "UTC", 10**18) is None


def test_a_skipped_time_runs_after_the_gap_or_not_at_all() -> None:
    """Berlin has no 02:30 on 2027-03-28: 03:00 summer time is the first instant after, 01:00 UTC."""
    start = "2027-03-27T12:00:00+00:00"
    assert runs("30 2 * * *", "Europe/Berlin", start, 2) == ["2027-03-28T01:00Z", "2027-03-29T00:30Z"]
    assert runs("30 2 * * *", "Europe/Berlin", start, 2, skipped="skip") == ["2027-03-29T00:30Z", "2027-03-30T00:30Z"]


def test_skipped_times_of_one_gap_are_one_run() -> None:
    """02:00 to 02:45 fall together with 03:00, which is due anyhow."""
    assert runs("*/15 2,3 * * *", "Europe/Berlin", "2027-03-28T00:00:00+00:00", 3) == [
        "2027-03-28T01:00Z",
        "2027-03-28T01:15Z",
        "2027-03-28T01:30Z",
    ]


def test_a_doubled_time_runs_at_the_first_or_at_both() -> None:
    """New York has two 01:30 on 2026-11-01: 05:30 UTC and 06:30 UTC."""
    start = "2026-11-01T00:00:00+00:00"
    assert runs("30 1 * * *", "America/New_York", start, 2) == ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]
    assert runs("30 1 * * *", "America/New_York", start, 3, doubled="both") == [
        "2026-11-01T05:30Z",
        "2026-11-01T06:30Z",
        "2026-11-02T06:30Z",
    ]


def test_between_the_two_a_doubled_time_is_over_unless_both_count() -> None:
    """Asked in the second pass of the hour, `first` waits for the next day."""
    start = "2026-11-01T06:10:00+00:00"
    assert runs("30 1 * * *", "America/New_York", start, 1) == ["2026-11-02T06:30Z"]
    assert runs("30 1 * * *", "America/New_York", start, 1, doubled="both") == ["2026-11-01T06:30Z"]


def test_lord_howe_shifts_by_half_an_hour() -> None:
    """Forward at 02:00 to 02:30 (+10:30 to +11) in October, back at 02:00 to 01:30 in April."""
    zone = "Australia/Lord_Howe"
    assert runs("15 2 * * *", zone, "2026-10-03T00:00:00+00:00", 2) == ["2026-10-03T15:30Z", "2026-10-04T15:15Z"]
    assert runs("15 2 * * *", zone, "2026-10-03T00:00:00+00:00", 1, skipped="skip") == ["2026-10-04T15:15Z"]
    assert runs("45 1 * * *", zone, "2026-04-04T00:00:00+00:00", 2) == ["2026-04-04T14:45Z", "2026-04-05T15:15Z"]
    assert runs("45 1 * * *", zone, "2026-04-04T00:00:00+00:00", 2, doubled="both") == [
        "2026-04-04T14:45Z",
        "2026-04-04T15:15Z",
    ]


def test_a_zone_without_summer_time_has_every_day_alike() -> None:
    """Brisbane: 06:00 is 20:00 UTC all year."""
    assert runs("0 6 1 4,10 *", "Australia/Brisbane", "2026-01-01T00:00:00+00:00", 2) == [
        "2026-03-31T20:00Z",
        "2026-09-30T20:00Z",
    ]


def test_a_day_that_a_zone_left_out_runs_at_the_end_of_the_gap() -> None:
    """Samoa had no 2011-12-30: what was due then is due as the 31st begins."""
    assert runs("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00+00:00", 1) == ["2011-12-30T10:00Z"]
    at = next_after("0 12 30 12 *", "Pacific/Apia", ms("2011-12-29T00:00:00+00:00"), skipped="skip")
    assert utc(at) == "2012-12-29T22:00Z"


def test_a_clock_put_back_over_midnight_keeps_the_order() -> None:
    """St John's went from 00:01 back to 23:01: the next day's first minute comes before the evening's second pass."""
    start = "2010-11-07T02:20:00+00:00"  # 23:50 of the 6th, first pass; the change is at 02:31 UTC
    assert runs("0,30 0,23 * * *", "America/St_Johns", start, 4, doubled="both") == [
        "2010-11-07T02:30Z",
        "2010-11-07T03:00Z",
        "2010-11-07T03:30Z",
        "2010-11-07T04:00Z",
    ]


def test_an_expression_that_was_read_before_is_taken_as_it_is() -> None:
    """`Cron` goes in as well as its text."""
    cron = parse("@daily")
    assert isinstance(cron, Cron)
    assert next_after(cron, "UTC", 0) == 86_400_000
    assert set(SHORT) >= {"@daily", "@hourly", "@weekly", "@monthly", "@yearly"}


def brute(cron: Cron, zone: ZoneInfo, after_ms: int, minutes: int, skipped: str, doubled: str) -> int | None:
    """Minute by minute: what the clock shows, whether it shows it again, and which minutes it jumped over."""
    at = after_ms // 60_000 * 60_000
    shown = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone)
    for _ in range(minutes):
        at += 60_000
        before, shown = shown, datetime.fromtimestamp(at / 1000, UTC).astimezone(zone)
        wall = shown.replace(tzinfo=None, fold=0)
        due = [wall] if shown.fold == 0 or doubled == "both" else []
        jumped = before.replace(tzinfo=None, fold=0) + timedelta(minutes=1)
        while skipped == "run_after" and jumped < wall:
            due.append(jumped)
            jumped += timedelta(minutes=1)
        if any(cron.on(time.date()) and 60 * time.hour + time.minute in cron.times for time in due):
            return at
    return None


@st.composite
def expressions(draw: st.DrawFn) -> str:
    minute = draw(st.sampled_from(["*", "0", "30", "*/15", "5,45", "10-40/7"]))
    hour = draw(st.sampled_from(["*", "1", "2", "0,3", "*/2", "23", "1-3"]))
    day = draw(st.sampled_from(["*", "1", "*/2", "28-31"]))
    week = draw(st.sampled_from(["*", "sun", "1-5", "6,7"]))
    return f"{minute} {hour} {day} * {week}"


@settings(max_examples=150, deadline=None)
@given(
    expressions(),
    st.sampled_from(
        [
            ("Europe/Berlin", "2027-03-28T01:00:00+00:00"),
            ("Europe/Berlin", "2026-10-25T01:00:00+00:00"),
            ("America/New_York", "2026-11-01T06:00:00+00:00"),
            ("America/New_York", "2027-03-14T07:00:00+00:00"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00+00:00"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00+00:00"),
            ("America/St_Johns", "2010-11-07T02:31:00+00:00"),
            ("Africa/Cairo", "2026-04-23T22:00:00+00:00"),
            ("Australia/Brisbane", "2026-10-03T15:30:00+00:00"),
        ]
    ),
    st.integers(-1_500, 120),
    st.sampled_from(["run_after", "skip"]),
    st.sampled_from(["first", "both"]),
)
def test_the_answer_is_what_stepping_by_minutes_finds(
    expr: str, change: tuple[str, str], minutes: int, skipped: str, doubled: str
) -> None:
    """Around every kind of change the next time is the one that a clock watched minute by minute shows."""
    zone, at = change
    after_ms = ms(at) + minutes * 60_000
    cron = parse(expr)
    assert isinstance(cron, Cron)
    expected = brute(cron, ZoneInfo(zone), after_ms, 2_000, skipped, doubled)
    found = next_after(cron, zone, after_ms, skipped=skipped, doubled=doubled)  # type: ignore[arg-type]
    if expected is None:
        assert found is None or found > after_ms + 2_000 * 60_000
    else:
        assert found == expected
