"""core.flight.duty: the packs by name, asked the same way."""

from __future__ import annotations

from typing import Any

from core.flight.duty import PACKS, REASONS, check
from core.flight.duty_time import DAY_MS, HOUR_MS, Breach, Duty
from tests.flight_desk import ms

H = HOUR_MS


ZONE = "Australia/Brisbane"


DAY0 = ms("2026-11-01T00:00:00+10:00")


NOW = DAY0


def _duty(day: float, start_h: float, long_h: float, flight_h: float = 0, flight: str = "", **more: Any) -> Duty:
    start = round(DAY0 + day * DAY_MS + start_h * H)
    name = flight or f"D{day:g}"
    made = Duty(name, start, start + round(long_h * H), round(flight_h * H), zone=ZONE, home_zone=ZONE)
    return made._replace(**more)


def _far(duties: list[Duty], proposed: Duty, now_ms: int = NOW) -> list[tuple[str, str]]:
    return _told(check("far135", duties, proposed, now_ms))


def _cao(duties: list[Duty], proposed: Duty, now_ms: int = NOW) -> list[tuple[str, str]]:
    return [
        (reason, cite.removeprefix("CAO 48.1 Appendix "))
        for reason, cite in _told(check("cao48", duties, proposed, now_ms))
    ]


def _told(breaches: list[Breach]) -> list[tuple[str, str]]:
    assert all(breach.reason in REASONS and breach.message for breach in breaches)
    return [(breach.reason, breach.cite.removeprefix("14 CFR 135.267")) for breach in breaches]


def test_packs_have_names() -> None:
    """And titles that say what they are."""
    assert {name: pack.name for name, pack in PACKS.items()} == {"far135": "far135", "cao48": "cao48"}
    assert "135.267" in PACKS["far135"].title


# 14 CFR 135.267


def test_a_first_duty_is_legal() -> None:
    """In both packs."""
    assert _far([], _duty(5, 8, 9, 7)) == []
    assert _cao([], _duty(5, 8, 9, 7)) == []
