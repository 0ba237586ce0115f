"""The flight board and the aircraft's lines: what a flight's own stream says to read models.

What reads rows takes those of workers of another version too, which may have fields more or less.

A board row is all of `core.flight.leg_view.show` but the legs that are over and the corrections, which the flight itself tells.
An aircraft's line is its flights by scheduled departure: the key holds what it is ordered by, so that a flight that gets
another aircraft or another schedule leaves one row and makes another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from core.flight import times
from core.flight.leg_state import OUT, SCHEDULED, State, evolve, holds, status
from core.flight.leg_view import expected, show
from core.flight.machine import Recorded
from core.flight.views import Key

BOARD: Final = "flight_board"
LINE: Final = "aircraft_line"
OVER: Final = ("completed", "cancelled")
"""Statuses of flights of which nothing more is expected."""


class BoardView:
    """See the module."""

    models = (BOARD, LINE)

    def initial(self) -> State:
        return State()

    def evolve(self, state: State, event: Recorded) -> State:
        return evolve(state, event)

    def touched(self, name: str, before: State, event: Recorded, after: State) -> Iterable[Key]:
        keys = [(BOARD, name)]
        for state in (before, after):
            key = line_key(name, state)
            if key:
                keys.append((LINE, key))
        return keys

    def doc(self, name: str, state: State, key: Key) -> dict[str, Any] | None:
        if state.leg is None:
            return None
        if key[0] == LINE:
            return _line(state) if line_key(name, state) == key[1] else None
        shown = show(state)
        del shown["legs"], shown["corrections"]
        return shown

    def size(self, state: State) -> int:
        return 4


def line_key(name: str, state: State) -> str:
    """Where the flight stands in its aircraft's line; empty while it has no aircraft, or no departure."""
    planned = None if state.leg is None else holds(state.leg, OUT, SCHEDULED)
    return f"{state.registration}/{planned.at}/{name}" if planned is not None and state.registration else ""


def _line(state: State) -> dict[str, Any]:
    leg = state.leg
    assert leg is not None
    departs, arrives = expected(leg, 0, 1), expected(leg, 3, 2)
    planned = holds(leg, 3, SCHEDULED)
    out = holds(leg, OUT, SCHEDULED)
    return {
        "registration": state.registration,
        "type": state.type,
        "flight": state.flight,
        "from": leg.departure,
        "to": leg.arrival if leg.diverted is None else leg.diverted.to,
        "status": status(state),
        "std": None if out is None else out.at,
        "sta": None if planned is None else planned.at,
        "etd": None if departs is None else departs.at,
        "eta": None if arrives is None else arrives.at,
    }


def stations(doc: Mapping[str, Any]) -> tuple[str, ...]:
    """The airports that a board row is of, by either code: whence, whither, and where it was diverted."""
    diverted = doc.get("diverted") or {}
    found = (doc.get("from"), doc.get("to"), diverted.get("to"))
    return tuple(dict.fromkeys(code for station in found if station for code in times.codes_of(station)))


def order(doc: Mapping[str, Any]) -> tuple[bool, str]:
    """By this the rows of a board are let go where there are too many: lowest first, of flights that are over the oldest."""
    return doc.get("status") not in OVER, _planned(doc, "OUT") or ""


def days(doc: Mapping[str, Any], station: str = "") -> tuple[str, ...]:
    """Local dates on which the flight is scheduled to leave from, or come to, the station; of any, its departure's."""
    origin, found = doc.get("from"), []
    for place, milestone in ((origin, "OUT"), (doc.get("to"), "IN")):
        if place and (station in times.codes_of(place) or (not station and milestone == "OUT")):
            planned = _planned(doc, milestone)
            if planned is not None:
                found.append(_local_date(planned, place))
    return tuple(dict.fromkeys(found))


def _planned(doc: Mapping[str, Any], milestone: str) -> str | None:
    at = doc.get("times", {}).get(milestone, {})
    planned: str | None = at.get("scheduled") or at.get("best")
    return planned


def _local_date(at: str, station: str) -> str:
    zone = times.zone_of(station)
    moment = datetime.fromtimestamp(times.read(at).ms / 1000, UTC)
    return str((moment if zone is None else moment.astimezone(ZoneInfo(zone))).date())


BOARD_VIEW: Final = BoardView()
