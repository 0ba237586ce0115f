"""core.trip.quiet: hours without pushes, in the local time of a zone."""

from __future__ import annotations

import pytest

from core.trip.quiet import is_quiet, read_quiet
from tests.flight_desk import ms


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("22:00-06:30", (1320, 390)),
        ("00:00-23:59", (0, 1439)),
        ("", None),
        ("22:00-22:00", None),
        ("24:00-06:00", None),
        ("22:00 - 06:00", None),
        ("2:00-06:00", None),
        ("22:00-06:00\n", None),
    ],
)
def test_two_times_are_hours_and_nothing_else_is(text: str, minutes: tuple[int, int] | None) -> None:
    """The same time twice would be never or always, so it is neither."""
    assert read_quiet(text) == minutes


@pytest.mark.parametrize(
    ("text", "zone", "now", "quiet"),
    [
        ("22:00-06:30", "UTC", "2026-11-21T22:00:00Z", True),
        ("22:00-06:30", "UTC", "2026-11-21T06:29:59Z", True),
        ("22:00-06:30", "UTC", "2026-11-21T06:30:00Z", False),
        ("22:00-06:30", "UTC", "2026-11-21T21:59:59Z", False),
        ("09:00-17:00", "UTC", "2026-11-21T12:00:00Z", True),
        ("09:00-17:00", "UTC", "2026-11-21T17:00:00Z", False),
        ("22:00-06:30", "Australia/Sydney", "2026-11-21T12:00:00Z", True),
        ("22:00-06:30", "Nowhere/Land", "2026-11-21T12:00:00Z", False),
        ("", "UTC", "2026-11-21T23:00:00Z", False),
    ],
)
def test_it_is_quiet_by_the_clock_on_the_wall(text: str, zone: str, now: str, quiet: bool) -> None:
    """From the first minute up to the second time, over midnight too; a zone that is not known is UTC."""
    assert is_quiet(text, zone, ms(now)) is quiet
