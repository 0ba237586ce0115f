"""Duties by hours and days, and what the packs find in them: for tests of the packs."""

from __future__ import annotations

from typing import Any

from core.flight.duty import REASONS, check
from core.flight.duty_time import DAY_MS, HOUR_MS, Breach, Duty
from tests.flight_desk import ms

H = HOUR_MS


ZONE = "Australia/Brisbane"


DAY0 = ms("2026-11-01T00:00:00+10:00")


NOW = DAY0


def a_duty(day: float, start_h: float, long_h: float, flight_h: float = 0, flight: str = "", **more: Any) -> Duty:
    """On a day after the first, from an hour of it, so many hours long, with so many flown."""
    start = round(DAY0 + day * DAY_MS + start_h * H)
    name = flight or f"D{day:g}"
    made = Duty(name, start, start + round(long_h * H), round(flight_h * H), zone=ZONE, home_zone=ZONE)
    return made._replace(**more)


def told(breaches: list[Breach]) -> list[tuple[str, str]]:
    """Reason and paragraph of each."""
    assert all(breach.reason in REASONS and breach.message for breach in breaches)
    return [(breach.reason, breach.cite.removeprefix("14 CFR 135.267")) for breach in breaches]


def far(duties: list[Duty], proposed: Duty, now_ms: int = NOW) -> list[tuple[str, str]]:
    return told(check("far135", duties, proposed, now_ms))


def cao(duties: list[Duty], proposed: Duty, now_ms: int = NOW) -> list[tuple[str, str]]:
    return [
        (reason, cite.removeprefix("CAO 48.1 Appendix "))
        for reason, cite in told(check("cao48", duties, proposed, now_ms))
    ]
