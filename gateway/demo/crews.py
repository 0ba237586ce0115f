"""What is told of the day's crew: who they are, their duties, what the rule pack does not allow. See `gateway.demo.day`.

A crew of two flies the first flights of an aircraft's line, another one the rest, both from and to its base. 60 crews are
told, those of lines that are short enough to be flown by a crew of two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from core.flight.times import write
from gateway.demo import network
from gateway.demo.cabins import FIRST, LAST
from gateway.demo.fates import Fates
from gateway.demo.network import MINUTE_MS, Flight
from gateway.demo.script import Teller, minutes

CREWS: Final = 60
PACK: Final = "cao48"
ROLES: Final = ("captain", "first_officer")
REPORT_MINUTES: Final = 60
RELEASE_MINUTES: Final = 30
BLOCK_MINUTES_MAX: Final = 480
PERIOD_MINUTES_MAX: Final = 615
"""Flying, and from report to the last gate, as planned for a crew of two: longer days have crews that are not told of."""
ATTEMPTS: Final = ("whole_line", "next_too", "too_soon", "not_rated", "too_soon", "next_too")
"""What crewing tries with some of them before it does what it may."""


def tell_crews(
    teller: Teller,
    rng: Random,
    fates: Fates,
    arrived: Mapping[str, int],
    lines: Sequence[Sequence[Flight]],
    suffix: str,
    begins_ms: int,
) -> None:
    """``arrived``: when each flight that was flown came to its gate, by name."""
    found = [(line, pairing) for line in lines for pairing in _pairings(line) if _is_short(pairing)]
    tried = rng.sample(range(CREWS), len(ATTEMPTS))
    for number, (line, pairing) in enumerate(found[:CREWS]):
        attempt = dict(zip(tried, ATTEMPTS, strict=True)).get(number, "")
        for seat, role in enumerate(ROLES):
            stream = f"flight:crew.{'CF'[seat]}{number + 1:03}-{suffix}"
            one = _Member(teller, rng, stream, role, pairing)
            one.rostered(begins_ms, line, attempt if seat == 0 else "")
            one.on_duty(fates, arrived)


def _pairings(line: Sequence[Flight]) -> list[Sequence[Flight]]:
    cut = {6: 4, 4: 2}.get(len(line), len(line))
    return [part for part in (line[:cut], line[cut:]) if part]


def _is_short(pairing: Sequence[Flight]) -> bool:
    period = (pairing[-1].in_ms - pairing[0].out_ms) // MINUTE_MS + REPORT_MINUTES
    return period <= PERIOD_MINUTES_MAX and _block_minutes(pairing) <= BLOCK_MINUTES_MAX


def _block_minutes(flights: Sequence[Flight]) -> int:
    return sum(flight.in_ms - flight.out_ms for flight in flights) // MINUTE_MS


class _Member:
    def __init__(self, teller: Teller, rng: Random, stream: str, role: str, pairing: Sequence[Flight]) -> None:
        self._teller = teller
        self._rng = rng
        self._stream = stream
        self._role = role
        self._pairing = pairing
        self._report_ms = pairing[0].out_ms - minutes(REPORT_MINUTES)
        self._release_ms = pairing[-1].in_ms + minutes(RELEASE_MINUTES)

    def _tell(self, at_ms: int, type: str, /, **body: object) -> None:
        self._teller.tell(at_ms, self._stream, type, "user:crewing", **body)

    def rostered(self, begins_ms: int, line: Sequence[Flight], attempt: str) -> None:
        rng, pairing = self._rng, self._pairing
        type, base = pairing[0].type, pairing[0].origin
        at_ms = begins_ms + rng.randrange(40 * 60) * 1000
        name = f"{rng.choice(LAST)}/{rng.choice(FIRST)}"
        self._tell(at_ms, "register", name=name, base=base, roles=[self._role], types=[type], pack=PACK)
        at_ms = begins_ms + minutes(60) + rng.randrange(50 * 60) * 1000
        duty = self._duty(pairing)
        if attempt == "whole_line" and len(line) > len(pairing):
            self._tell(at_ms - 30_000, "assign", **{**self._duty(line), "flight": pairing[0].name})
        elif attempt == "not_rated":
            self._tell(at_ms - 30_000, "assign", **{**duty, "type": "A333"})
        self._tell(at_ms, "assign", **duty)
        if attempt == "next_too":
            moved = {
                "report_at": write(self._release_ms - minutes(15)),
                "release_at": write(self._release_ms + minutes(240)),
            }
            self._tell(at_ms + 60_000, "assign", **self._short(moved))
        elif attempt == "too_soon":
            report_ms = self._release_ms + minutes(500)
            moved = {"report_at": write(report_ms), "release_at": write(report_ms + minutes(240))}
            self._tell(at_ms + 60_000, "assign", **self._short(moved))
        if rng.random() < 0.7:
            self._tell(at_ms + minutes(rng.randrange(3, 90)), "acknowledge", flight=pairing[0].name)

    def _duty(self, flights: Sequence[Flight]) -> dict[str, Any]:
        first, last = flights[0], flights[-1]
        return {
            "flight": first.name,
            "role": self._role,
            "type": first.type,
            "report_at": write(first.out_ms - minutes(REPORT_MINUTES)),
            "release_at": write(last.in_ms + minutes(RELEASE_MINUTES)),
            "off_block": write(first.out_ms),
            "on_block": write(last.in_ms),
            "block_minutes": _block_minutes(flights),
            "crew_of": len(ROLES),
            "sectors": len(flights),
            "from": first.origin,
            "to": last.to,
        }

    def _short(self, moved: Mapping[str, str]) -> dict[str, Any]:
        """A flight beside the planned ones."""
        return {
            "flight": "extra",
            "role": self._role,
            "block_minutes": 150,
            "crew_of": len(ROLES),
            "sectors": 2,
            **moved,
        }

    def on_duty(self, fates: Fates, arrived: Mapping[str, int]) -> None:
        rng, first = self._rng, self._pairing[0]
        flown = [flight for flight in self._pairing if flight.name in arrived]
        reported_ms = self._report_ms - minutes(rng.randrange(-3, 12))
        self._tell(max(reported_ms, self._report_ms) + 20_000, "report", flight=first.name, at=write(reported_ms))
        if fates.silent in {flight.name for flight in flown}:
            return
        last = flown[-1]
        off_ms = arrived[last.name] + minutes(RELEASE_MINUTES)
        if off_ms > self._release_ms + minutes(15):
            told_ms = min(last.out_ms, self._release_ms - minutes(20))
            self._tell(told_ms, "extend", flight=first.name, release_at=write(off_ms), why="aircraft late")
        block = sum(network.block_minutes(flight.origin, flight.to) for flight in flown)
        self._tell(
            off_ms + minutes(rng.randrange(1, 9)), "off", flight=first.name, at=write(off_ms), block_minutes=block
        )
