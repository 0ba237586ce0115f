"""What is told of each flight of a line, from the evening before until it has arrived. See `gateway.demo.day`."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from core.flight.times import write
from gateway.demo import network
from gateway.demo.fates import DIVERTED_ON_MINUTES, DIVERTED_TO, REASONS, Fates
from gateway.demo.network import MINUTE_MS, Flight
from gateway.demo.script import Teller, minutes, to_the_minute

LATE_SHARE: Final = 0.24
"""Of flights that are late by themselves; their delays go on to those after them."""
TAXI_OUT, TAXI_IN = 12, 6
"""Minutes of a block time that are not flown."""


class Telling:
    """``left`` and ``arrived``: when a flight left its gate for good, and came to its last, by name; those that did not are
    not there."""

    def __init__(self, teller: Teller, rng: Random, fates: Fates) -> None:
        self._tell = teller.tell
        self._rng = rng
        self._fates = fates
        self.left: dict[str, int] = {}
        self.arrived: dict[str, int] = {}

    def line(self, line: list[Flight], begins_ms: int) -> None:
        free_ms = 0
        for flight in line:
            self._plan(flight, begins_ms)
            if flight.name in self._fates.cancelled:
                self._cancelled(flight)
                continue
            arrived_ms = self.arrived[flight.name] = self._flown(flight, free_ms)
            free_ms = arrived_ms + network.LEAST_TURN_MINUTES[flight.type] * MINUTE_MS

    # -- before ---------------------------------------------------------------------------------------------------------

    def _plan(self, flight: Flight, begins_ms: int) -> None:
        rng, stream = self._rng, flight.stream
        at_ms = begins_ms + rng.randrange(90 * 60) * 1000
        planned: dict[str, Any] = {"out": write(flight.out_ms), "in": write(flight.in_ms)}
        if rng.random() < 0.5:  # as a timetable has it
            planned = {
                "out": network.local_text(flight.out_ms, flight.origin),
                "in": network.local_text(flight.in_ms, flight.to),
                "zone": "local",
            }
        self._tell(
            at_ms,
            stream,
            "schedule",
            "user:planner",
            flight=flight.designator,
            from_=flight.origin,
            to=flight.to,
            operator=network.OPERATOR,
            registration=flight.registration,
            type=flight.type,
            service="J",
            **planned,
        )
        gate = {"gate": str(rng.randrange(1, 60))}
        at_ms = begins_ms + minutes(100) + rng.randrange(120 * 60) * 1000
        self._tell(
            at_ms, stream, "gate", "service:airport", departure=gate, arrival={"stand": f"{rng.randrange(1, 80)}"}
        )
        changed_ms = flight.out_ms - minutes(rng.randrange(40, 90))
        if rng.random() < 0.12:
            self._tell(changed_ms, stream, "gate", "user:gate", departure={"gate": str(rng.randrange(60, 99))})
        elif rng.random() < 0.04:
            self._tell(changed_ms, stream, "gate", "user:gate", departure=gate)  # changes nothing
        if (swap := self._fates.swapped.get(flight.name)) is not None:
            at_ms = flight.out_ms - minutes(150)
            self._tell(at_ms, stream, "equip", "user:ops", registration=swap[0], type=swap[1])

    def _cancelled(self, flight: Flight) -> None:
        at_ms = flight.out_ms - minutes(170)
        self._tell(
            at_ms, flight.stream, "cancel", "user:ops", reason="no crew within duty limits, spare aircraft in use"
        )
        # A system that has not heard of it.
        board_ms = flight.out_ms - minutes(30)
        self._tell(board_ms, flight.stream, "board", "user:gate", at=to_the_minute(board_ms))

    # -- the day ----------------------------------------------------------------------------------------------------------

    def _flown(self, flight: Flight, free_ms: int) -> int:
        """Tells of all of it; when the aircraft was at its last gate."""
        rng, fates, stream = self._rng, self._fates, flight.stream
        own = rng.choice((4, 6, 8, 12, 18, 25, 35, 55)) if rng.random() < LATE_SHARE else rng.randrange(-4, 3)
        out_ms = max(flight.out_ms + minutes(own), free_ms) + rng.randrange(60) * 1000
        self._reinstated(flight)
        self._forecast(flight, out_ms)
        boarding_ms = out_ms - minutes(rng.randrange(22, 34))
        self._tell(boarding_ms + 20_000, stream, "board", "user:gate", at=to_the_minute(boarding_ms))
        self._mistake(flight, out_ms)
        if flight.name == fates.to_gate:
            out_ms = self._back_to_gate(flight, out_ms)
        elif flight.name == fates.to_field:
            out_ms = self._back_to_field(flight, out_ms)
        self.left[flight.name] = out_ms
        self._departed(flight, out_ms)
        return self._airborne(flight, out_ms, reactionary=free_ms - flight.out_ms)

    def _departed(self, flight: Flight, out_ms: int) -> None:
        if flight.name not in self._fates.mistyped:
            self._moved(flight, "depart", out_ms)
            return
        # The aircraft's own message is lost, somebody types the time, wrongly, and sets it right.
        stream = flight.stream
        wrong = to_the_minute(out_ms - minutes(30))
        self._tell(out_ms + minutes(4), stream, "depart", "user:gate", at=wrong, source="handling")
        self._tell(
            out_ms + minutes(15),
            stream,
            "correct",
            "user:ops",
            ref="OUT",
            at=to_the_minute(out_ms),
            why="typed 30 early",
        )

    def _airborne(self, flight: Flight, out_ms: int, *, reactionary: int) -> int:
        rng, fates, stream = self._rng, self._fates, flight.stream
        off_ms = out_ms + minutes(rng.randrange(8, 19)) + rng.randrange(60) * 1000
        block = network.block_minutes(flight.origin, flight.to)
        flown = minutes(block - TAXI_OUT - TAXI_IN + rng.randrange(-7, 8))
        on_ms = off_ms + flown
        in_ms = on_ms + minutes(rng.randrange(3, 9))
        self._moved(flight, "takeoff", off_ms)
        self._explained(flight, out_ms, off_ms, on_ms, reactionary)
        for share in (0.03, 0.5, 0.8):
            guess = on_ms + rng.randrange(-5, 6) * MINUTE_MS
            told_ms = off_ms + round(share * flown)
            self._expect(told_ms, flight, "ON", guess, "acars")
            if share != 0.5:
                self._expect(told_ms + 10_000, flight, "IN", guess + minutes(TAXI_IN), "acars")
        if flight.name == fates.silent:
            return in_ms
        if flight.name == fates.diverted:
            return self._diverted(flight, on_ms)
        if flight.name in fates.misread:
            early_ms = off_ms + flown // 2
            self._tell(early_ms, stream, "land", "service:airport", at=write(early_ms), source="airport")
            self._tell(
                early_ms + minutes(3), stream, "withdraw", "user:ops", ref="ON", why="another aircraft's landing"
            )
        self._moved(flight, "land", on_ms)
        self._moved(flight, "arrive", in_ms)
        return in_ms

    def _moved(self, flight: Flight, verb: str, at_ms: int) -> None:
        """An actual time as it reaches us: from the aircraft, most often at once; from the airport as well; or twice."""
        rng, stream = self._rng, flight.stream
        lag_ms = rng.randrange(20, 90) * 1000 if rng.random() < 0.9 else minutes(rng.randrange(9, 26))
        at = write(at_ms)
        self._tell(at_ms + lag_ms, stream, verb, "device:acars", at=at, source="acars")
        if rng.random() < 0.08:
            self._tell(at_ms + lag_ms + 40_000, stream, verb, "device:acars", at=at, source="acars")
        if rng.random() < 0.3:
            seen_ms = at_ms + rng.randrange(-1, 2) * MINUTE_MS
            told_ms = at_ms + minutes(rng.randrange(2, 6))
            self._tell(told_ms, stream, verb, "service:airport", at=to_the_minute(seen_ms), source="airport")

    def _expect(self, told_ms: int, flight: Flight, milestone: str, at_ms: int, source: str) -> None:
        by = "device:acars" if source == "acars" else "user:ops"
        at = to_the_minute(at_ms)
        self._tell(told_ms, flight.stream, "estimate", by, milestone=milestone, at=at, source=source)

    def _forecast(self, flight: Flight, out_ms: int) -> None:
        """What operations expects before it goes, where it will be late; and what the airport aims at."""
        rng, late = self._rng, out_ms - flight.out_ms
        if late >= minutes(10):
            told_ms = min(flight.out_ms, out_ms) - minutes(rng.randrange(35, 80))
            rough_ms = flight.out_ms + late // minutes(5) * minutes(5)
            self._expect(told_ms, flight, "OUT", rough_ms, "ops")
            self._expect(told_ms + 15_000, flight, "IN", rough_ms + flight.in_ms - flight.out_ms, "ops")
            self._expect(out_ms - minutes(18), flight, "OUT", out_ms + rng.randrange(-2, 3) * MINUTE_MS, "ops")
        if rng.random() < 0.4:
            at = to_the_minute(out_ms + rng.randrange(-2, 4) * MINUTE_MS)
            told_ms = out_ms - minutes(40)
            self._tell(told_ms, flight.stream, "target", "service:airport", milestone="OUT", at=at, source="airport")

    def _explained(self, flight: Flight, out_ms: int, off_ms: int, on_ms: int, reactionary: int) -> None:
        """A movement message of the handling agent, or the reasons of a delay alone; on time, often neither."""
        rng = self._rng
        late = (out_ms - flight.out_ms) // MINUTE_MS
        reasons = []
        if late >= 3:
            code, note = rng.choice(REASONS)
            passed_on = min(late, max(0, reactionary // MINUTE_MS))
            if passed_on:
                reasons.append({"code": "93", "minutes": passed_on})
            if late > passed_on:
                reasons.append({"code": code, "minutes": late - passed_on, "note": note})
        if rng.random() < 0.25 and flight.name not in self._fates.mistyped:
            body: dict[str, Any] = {
                "actual": {"OUT": to_the_minute(out_ms), "OFF": to_the_minute(off_ms)},
                "estimated": {"ON": to_the_minute(on_ms)},
                "source": "handling",
            }
            if reasons:
                body["reasons"] = reasons
            self._tell(off_ms + minutes(3), flight.stream, "movement", "service:handling", **body)
        elif reasons:
            self._tell(out_ms + minutes(6), flight.stream, "delay", "user:ops", reasons=reasons)

    # -- what goes otherwise ------------------------------------------------------------------------------------------------

    def _reinstated(self, flight: Flight) -> None:
        if flight.name == self._fates.reinstated:
            at_ms = flight.out_ms - minutes(260)
            self._tell(at_ms, flight.stream, "cancel", "user:ops", reason="thunderstorms forecast")
            self._tell(at_ms + minutes(25), flight.stream, "reinstate", "user:ops", reason="forecast changed")

    def _back_to_gate(self, flight: Flight, out_ms: int) -> int:
        self._moved(flight, "depart", out_ms)
        back_ms = out_ms + minutes(14)
        at, reason = write(back_ms), "cabin door warning"
        self._tell(back_ms + 60_000, flight.stream, "return", "user:gate", to="gate", at=at, reason=reason)
        return back_ms + minutes(47)

    def _back_to_field(self, flight: Flight, out_ms: int) -> int:
        self._moved(flight, "depart", out_ms)
        off_ms = out_ms + minutes(11)
        self._tell(off_ms + 40_000, flight.stream, "takeoff", "device:acars", at=write(off_ms), source="acars")
        down_ms = off_ms + minutes(24)
        self._tell(down_ms + 30_000, flight.stream, "land", "device:acars", at=write(down_ms), source="acars")
        back_ms = down_ms + minutes(2)
        at, reason = write(back_ms), "bird strike, engine one"
        self._tell(back_ms + minutes(1), flight.stream, "return", "user:ops", to="field", at=at, reason=reason)
        return back_ms + minutes(115)

    def _diverted(self, flight: Flight, on_ms: int) -> int:
        stream, told_ms = flight.stream, on_ms - minutes(15)
        down_ms = on_ms + minutes(20)
        eta, reason = to_the_minute(down_ms + minutes(2)), "cloud below minimum at destination"
        self._tell(
            told_ms + 45_000, stream, "divert", "user:ops", to=DIVERTED_TO, at=write(told_ms), eta=eta, reason=reason
        )
        self._moved(flight, "land", down_ms)
        parked_ms = down_ms + minutes(7)
        self._moved(flight, "arrive", parked_ms)
        out_ms = parked_ms + minutes(75)
        in_ms = out_ms + minutes(DIVERTED_ON_MINUTES)
        self._tell(
            parked_ms + minutes(30),
            stream,
            "continue",
            "user:ops",
            to=flight.to,
            out=write(out_ms),
            **{"in": write(in_ms)},
        )
        for verb, after in (("depart", 2), ("takeoff", 13), ("land", 58), ("arrive", 64)):
            at_ms = out_ms + minutes(after)
            self._tell(at_ms + 50_000, stream, verb, "device:acars", at=write(at_ms), source="acars")
        return in_ms

    def _mistake(self, flight: Flight, out_ms: int) -> None:
        """Commands that cannot be obeyed."""
        stream = flight.stream
        match self._fates.wrong.get(flight.name):
            case "wrong_date":
                at = to_the_minute(out_ms + minutes(3 * 24 * 60))
                self._tell(out_ms + minutes(1), stream, "depart", "user:gate", at=at, source="handling")
            case "too_early":
                at = to_the_minute(out_ms - minutes(20))
                self._tell(out_ms + minutes(50), stream, "takeoff", "service:airport", at=at, source="airport")
            case "not_allowed":
                self._tell(out_ms - minutes(50), stream, "cancel", "user:gate", reason="nobody at the gate")
            case "no_time":
                self._tell(out_ms + minutes(2), stream, "depart", "user:gate", at="about ten", source="handling")
            case "no_verb":
                self._tell(out_ms, stream, "pushback", "service:handling", at=to_the_minute(out_ms))
