"""A desk at one crew member's ledger, and the duties that its tests assign: hours count from `NOW`."""

from __future__ import annotations

from typing import Any

from core.flight.crew import CREW
from core.flight.duty_time import HOUR_MS
from core.flight.ledger import Ledger
from core.flight.times import write
from tests.flight_desk import Desk, ms

Told = tuple[str, dict[str, Any]]
"""A verb and its body."""
NOW = "2026-11-21T06:00:00Z"

WHO: dict[str, Any] = {"base": "BNE", "roles": ["captain"], "pack": "far135", "types": ["B738"]}


def at_hour(hours: float) -> str:
    """A time so many hours after now."""
    return write(ms(NOW) + round(hours * HOUR_MS))


def duty_of(flight: str, report_h: float, long_h: float, block: int = 0, **more: Any) -> dict[str, Any]:
    """The body of an assign."""
    times = {"report_at": at_hour(report_h), "release_at": at_hour(report_h + long_h)}
    return {"flight": flight, "role": "captain", "block_minutes": block, **times, **more}


def crew_desk(*told: Told, later_h: float = 0, **who: Any) -> Desk[Ledger]:
    """Somebody who is registered, and what was told of them, so many hours ago."""
    desk = Desk(CREW, NOW)
    desk.done("register", **(WHO | who))
    for verb, body in told:
        desk.done(verb, **body)
    desk.later(later_h * 3600)
    return desk


A: Told = ("assign", duty_of("A", 0, 8, 300))

ON: Told = ("report", {"flight": "A"})

OFF: Told = ("off", {"flight": "A", "at": NOW})

SICK: Told = ("leave", {"from": at_hour(24), "to": at_hour(48), "kind": "sick"})
