"""What the demo knows of the day it plays: each flight as its events say it stands, and what was answered.

Rows come from `flight:board` where the node shows them there (kind `row`), and then are the read model's, by way of a worker;
else they are folded here from the flight's events, which is the same but for the way. Pure.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.flight.legs import LEGS
from core.flight.machine import Recorded
from core.flight.times import read
from gateway.demo.network import Flight
from gateway.demo.script import Given

NEWS: Final = 6
"""Latest refusals and remarkable events that are remembered."""
TOLD: Final = {
    "flight.cancelled": "is cancelled: {reason}",
    "flight.reinstated": "flies after all",
    "flight.diverted": "diverts to {to}: {reason}",
    "flight.continued": "goes on to {to}",
    "flight.returned": "comes back to the {to}: {reason}",
    "flight.equipped": "is flown by {registration}",
    "flight.corrected": "is corrected: {why}",
    "flight.withdrawn": "had something withdrawn: {why}",
}


class News(NamedTuple):
    at: str
    flight: str
    says: str
    refused: bool


class Board:
    """Of one day."""

    def __init__(self, flights: Sequence[Flight]) -> None:
        self.flights = {flight.stream: flight for flight in flights}
        self._names = {flight.name: flight.stream for flight in flights}
        self._folded: dict[str, Any] = {}
        self._rows: dict[str, Mapping[str, Any]] = {}
        self.heads: dict[str, int] = {}
        """By stream, the last event that was seen."""
        self.events = 0
        self.given = 0
        self.obeyed = 0
        self.refused: Counter[str] = Counter()
        self.repeated = 0
        self.news: deque[News] = deque(maxlen=NEWS)

    @property
    def from_node(self) -> bool:
        """Whether the node's own rows are what is shown."""
        return bool(self._rows)

    # -- hearing ----------------------------------------------------------------------------------------------------------

    def heard(self, frame: Mapping[str, Any]) -> None:
        """Whatever the node says that is no answer."""
        if frame["op"] == "event" and frame["stream"] in self.flights:
            self._event(frame)
        elif frame["op"] == "signal" and frame.get("key") in self._names and frame["value"] is not None:
            self._rows[self._names[frame["key"]]] = frame["value"]

    def _event(self, frame: Mapping[str, Any]) -> None:
        stream = frame["stream"]
        body = frame["body"] or {}
        event = Recorded(frame["seq"], frame["type"], frame["by"], read(frame["at"]).ms, body)
        self._folded[stream] = LEGS.evolve(self._folded.get(stream, LEGS.initial()), event)
        self.heads[stream] = event.seq
        self.events += 1
        if event.type in TOLD:
            says = TOLD[event.type].format_map({"reason": "", "to": "", "why": "", "registration": "", **body})
            self.news.append(News(frame["at"], self.flights[stream].designator, says, refused=False))

    def answered(self, given: Given, answer: Mapping[str, Any]) -> None:
        self.given += 1
        if answer["op"] == "ok":
            self.obeyed += 1
            self.repeated += bool(answer.get("dup"))
            return
        reason = answer.get("reason") or answer["code"]
        self.refused[reason] += 1
        if reason != "unchanged":
            name = given.stream.removeprefix("flight:").split("-")[0].removeprefix("crew.")
            self.news.append(News("", name, f"{given.type}: {answer['message']}", refused=True))

    # -- what is shown ----------------------------------------------------------------------------------------------------

    def shown(self, stream: str) -> Mapping[str, Any]:
        """As the flight's machine shows it, by the events that were seen."""
        shown: Mapping[str, Any] = LEGS.show(self._folded.get(stream, LEGS.initial()))
        return shown

    def row(self, flight: Flight) -> Mapping[str, Any]:
        row = self._rows.get(flight.stream)
        return self.shown(flight.stream) if row is None else row

    def statuses(self) -> Counter[str]:
        return Counter(self.row(flight)["status"] for flight in self.flights.values())

    def around(self, now_ms: int, count: int) -> list[Flight]:
        """Flights worth a look at that time of the day: those under way first of all, then the next to go and the last in."""

        def away(flight: Flight) -> tuple[int, int]:
            over = now_ms > flight.in_ms and self.row(flight)["status"] in ("completed", "cancelled")
            if flight.out_ms <= now_ms and not over:
                return 0, -flight.out_ms
            return (1, flight.out_ms - now_ms) if not over else (2, now_ms - flight.in_ms)

        found = sorted(self.flights.values(), key=away)[:count]
        return sorted(found, key=lambda flight: (flight.out_ms, flight.designator))
