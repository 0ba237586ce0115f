"""One crew member's ledger at a moment, made from its facts: who they are, their duties and absences.

For: `core.flight.crew`, which decides over it. A `Ledger` is a value; `evolve` answers another. Duties that ended more than
two years ago are counted and summed, no more (`past`), from the next day on: no limit of a pack looks further back than a
year.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from core.flight.body import read_instant
from core.flight.duty import PACKS
from core.flight.duty_time import DAY_MS, MINUTE_MS, Duty
from core.flight.machine import Body, Recorded
from core.flight.times import write

KEPT_MS: Final = 730 * DAY_MS
DUTIES_MAX: Final = 3_000
"""Four flights a day for two years; a ledger with more is somebody's mistake."""
ABSENCES_MAX: Final = 500


class Entry(NamedTuple):
    """A duty with what packs do not need. ``status`` is assigned, reported or off."""

    duty: Duty
    role: str
    origin: str
    dest: str
    status: str = "assigned"
    acknowledged: bool = False
    planned_ms: tuple[int, int] = (0, 0)
    """Report and release as they were last planned."""


class Absence(NamedTuple):
    from_ms: int
    to_ms: int
    kind: str


class Past(NamedTuple):
    duties: int = 0
    flight_ms: int = 0
    duty_ms: int = 0


class Ledger:
    """See the module. ``pack`` is empty until somebody is registered; ``at_ms`` is when what it shows was so."""

    __slots__ = (
        "absences",
        "at_ms",
        "base",
        "by_flight",
        "name",
        "pack",
        "past",
        "roles",
        "types",
        "valid_until",
        "zone",
    )

    def __init__(self) -> None:
        self.name = ""
        self.base = ""
        self.zone = "UTC"
        self.pack = ""
        self.roles: tuple[str, ...] = ()
        self.types: tuple[str, ...] = ()
        self.valid_until: Mapping[str, int] = {}
        """When a qualification (medical, line check, …) runs out."""
        self.by_flight: dict[str, Entry] = {}
        self.absences: tuple[Absence, ...] = ()
        self.past = Past()
        self.at_ms = 0

    def copy(self) -> Ledger:
        """Another with the same values, whose duties may be changed."""
        other = Ledger.__new__(Ledger)
        for name in Ledger.__slots__:
            setattr(other, name, getattr(self, name))
        other.by_flight = dict(self.by_flight)
        return other

    @property
    def entries(self) -> list[Entry]:
        """In order of their report."""
        return sorted(self.by_flight.values(), key=lambda entry: (entry.duty.report_ms, entry.duty.flight))

    def find(self, flight: str) -> Entry | None:
        return self.by_flight.get(flight)

    def duties(self, without: str = "") -> list[Duty]:
        return [entry.duty for entry in self.entries if entry.duty.flight != without]

    # What facts do

    def _registered(self, body: Body) -> None:
        self.name = body.get("name", "")
        self.base = body.get("base", "")
        self.zone = body.get("zone", "UTC")
        self.pack = body.get("pack", "")
        self.roles = tuple(body.get("roles", ()))
        self.types = tuple(body.get("types", ()))
        self.valid_until = {what: read_instant(at) or 0 for what, at in body.get("valid_until", {}).items()}

    def _packed(self, body: Body) -> None:
        self.pack = body["pack"]

    def _assigned(self, body: Body) -> None:
        report_ms, release_ms = read_instant(body["report_at"]) or 0, read_instant(body["release_at"]) or 0
        duty = Duty(
            body["flight"],
            report_ms,
            release_ms,
            body.get("block_minutes", 0) * MINUTE_MS,
            body.get("crew_of", 2),
            body.get("sectors", 1),
            body.get("zone", "UTC"),
            self.zone,
            body.get("home", True),
            body.get("regular", False),
            read_instant(body.get("off_block")) or 0,
            read_instant(body.get("on_block")) or 0,
        )
        planned = (report_ms, release_ms)
        role, origin, dest = body.get("role", ""), body.get("from", ""), body.get("to", "")
        self.by_flight[duty.flight] = Entry(duty, role, origin, dest, planned_ms=planned)

    def _change(self, flight: str, change: Callable[[Entry], Entry]) -> None:
        entry = self.by_flight.get(flight)
        if entry is not None:
            self.by_flight[flight] = change(entry)

    def _released(self, body: Body) -> None:
        self.by_flight.pop(body["flight"], None)

    def _acknowledged(self, body: Body) -> None:
        self._change(body["flight"], lambda entry: entry._replace(acknowledged=True))

    def _reported(self, body: Body) -> None:
        at_ms = read_instant(body["at"]) or 0
        self._change(
            body["flight"],
            lambda entry: entry._replace(status="reported", duty=entry.duty._replace(report_ms=at_ms)),
        )

    def _off(self, body: Body) -> None:
        at_ms = read_instant(body["at"]) or 0

        def off(entry: Entry) -> Entry:
            duty = entry.duty._replace(release_ms=at_ms)
            if "block_minutes" in body:
                duty = duty._replace(flight_ms=body["block_minutes"] * MINUTE_MS)
            if not duty.report_ms <= duty.off_ms < duty.on_ms <= at_ms:
                duty = duty._replace(off_ms=0, on_ms=0)
            return entry._replace(status="off", duty=duty)

        self._change(body["flight"], off)

    def _extended(self, body: Body) -> None:
        at_ms = read_instant(body["release_at"]) or 0
        self._change(
            body["flight"],
            lambda entry: entry._replace(
                duty=entry.duty._replace(release_ms=at_ms), planned_ms=(entry.planned_ms[0], at_ms)
            ),
        )

    def _absent(self, body: Body) -> None:
        absence = Absence(read_instant(body["from"]) or 0, read_instant(body["to"]) or 0, body.get("kind", "other"))
        self.absences = tuple(sorted((*self.absences, absence)))[-ABSENCES_MAX:]

    def _returned(self, body: Body) -> None:
        from_ms, at_ms = read_instant(body["from"]) or 0, read_instant(body["at"]) or 0
        ended = (one._replace(to_ms=at_ms) if one.from_ms == from_ms else one for one in self.absences)
        self.absences = tuple(one for one in ended if one.to_ms > one.from_ms)

    def _forget(self) -> None:
        """What ended more than two years before ``at_ms``."""
        since = self.at_ms - KEPT_MS
        old = [entry.duty for entry in self.by_flight.values() if entry.duty.release_ms < since]
        if old:
            count, flown, long = self.past
            self.past = Past(
                count + len(old),
                flown + sum(duty.flight_ms for duty in old),
                long + sum(duty.release_ms - duty.report_ms for duty in old),
            )
            for duty in old:
                del self.by_flight[duty.flight]
        self.absences = tuple(absence for absence in self.absences if absence.to_ms >= since)

    # What is seen

    def show(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "status": "registered" if self.pack else "new",
            "base": self.base,
            "zone": self.zone,
            "roles": list(self.roles),
            "types": list(self.types),
            "valid_until": {what: write(at_ms) for what, at_ms in self.valid_until.items()},
            "pack": self.pack,
            "duties": [_shown(entry) for entry in self.entries],
            "absences": [
                {"from": write(one.from_ms), "to": write(one.to_ms), "kind": one.kind} for one in self.absences
            ],
            "past": {
                "duties": self.past.duties,
                "block_minutes": self.past.flight_ms // MINUTE_MS,
                "duty_minutes": self.past.duty_ms // MINUTE_MS,
            },
            "at": write(self.at_ms),
        }
        if self.name:
            shown["name"] = self.name
        if self.pack in PACKS:
            shown.update(self._legal())
        return shown

    def _legal(self) -> dict[str, Any]:
        """Totals by window with their limits; the duty that is on or next, and until when it can last; when rest is over."""
        pack, duties = PACKS[self.pack], self.duties()
        shown: dict[str, Any] = {
            "totals": [
                {
                    "window": total.window,
                    "kind": total.kind,
                    **(
                        {"minutes": round(total.amount / MINUTE_MS), "limit_minutes": round(total.limit / MINUTE_MS)}
                        if total.kind in ("flight", "duty")
                        else {"count": total.amount, "least": total.limit}
                    ),
                    "cite": total.cite,
                }
                for total in pack.totals(duties, self.at_ms, self.zone)
            ]
        }
        coming = next((entry for entry in self.entries if entry.status != "off"), None)
        if coming is not None:
            long, cite = pack.longest(coming.duty, coming.duty.sectors)
            until = write(coming.duty.report_ms + long)
            shown["next"] = {"flight": coming.duty.flight, "report_at": write(coming.duty.report_ms)}
            shown["next"] |= {"legal_until": until, "cite": cite}
        done = [entry.duty for entry in self.entries if entry.status == "off"]
        if done:
            last = max(done, key=lambda duty: duty.release_ms)
            rest, cite = pack.rest_after(done, last)
            shown["rested"] = {"after": last.flight, "from": write(last.release_ms + rest), "cite": cite}
        return shown


def _shown(entry: Entry) -> dict[str, Any]:
    duty = entry.duty
    shown: dict[str, Any] = {
        "flight": duty.flight,
        "role": entry.role,
        "status": entry.status,
        "report_at": write(duty.report_ms),
        "release_at": write(duty.release_ms),
        "planned": {"report_at": write(entry.planned_ms[0]), "release_at": write(entry.planned_ms[1])},
        "block_minutes": duty.flight_ms // MINUTE_MS,
        "crew_of": duty.pilots,
        "sectors": duty.sectors,
        "zone": duty.zone,
        "acknowledged": entry.acknowledged,
    }
    if duty.regular:
        shown["regular"] = True
    if duty.on_ms:
        shown |= {"off_block": write(duty.off_ms), "on_block": write(duty.on_ms)}
    places = {"from": entry.origin, "to": entry.dest}
    return shown | {name: place for name, place in places.items() if place}


_APPLY: Final[Mapping[str, Callable[[Ledger, Body], None]]] = {
    "crew.registered": Ledger._registered,
    "crew.packed": Ledger._packed,
    "crew.assigned": Ledger._assigned,
    "crew.released": Ledger._released,
    "crew.acknowledged": Ledger._acknowledged,
    "crew.reported": Ledger._reported,
    "crew.off": Ledger._off,
    "crew.extended": Ledger._extended,
    "crew.absent": Ledger._absent,
    "crew.returned": Ledger._returned,
}

FACTS: Final = tuple(_APPLY)


def _apply(ledger: Ledger, event: Recorded) -> None:
    _APPLY[event.type](ledger, event.body)
    another_day = event.at_ms // DAY_MS != ledger.at_ms // DAY_MS
    ledger.at_ms = event.at_ms
    if another_day:
        ledger._forget()


def evolve(ledger: Ledger, event: Recorded) -> Ledger:
    if event.type not in _APPLY:
        return ledger
    after = ledger.copy()
    _apply(after, event)
    return after


def fold(events: Iterable[Recorded], recorded_ms: int | None = None, valid_ms: int | None = None) -> Ledger:
    """The ledger as it was at ``valid_ms``, by what was recorded up to ``recorded_ms``; by all where neither is given.

    A fact is true from the ``at`` in its body, and from when it was recorded at the latest: a roster of last month at (then,
    then) is what was planned then, and at (then, now) has the reports that came late.
    """
    ledger = Ledger()
    for event in events:
        if event.type not in _APPLY or (recorded_ms is not None and event.at_ms > recorded_ms):
            continue
        if valid_ms is not None:
            since = read_instant(event.body.get("at"))
            if valid_ms < (event.at_ms if since is None else min(since, event.at_ms)):
                continue
        _apply(ledger, event)
    for asked in (recorded_ms, valid_ms):
        if asked is not None:
            ledger.at_ms = asked
    return ledger
