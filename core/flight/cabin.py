"""What a flight's cabin is at a moment, made from its facts: the layout, who sits where, holds, the manifest.

For: `core.flight.seats`, which decides over it. A `Cabin` is a value: `evolve` answers another and leaves the old one as it
was, and copies only the dictionaries that the fact changes; of those only the seats that somebody has are listed, so that an
event costs microseconds in the largest cabin. `fold` copies once for all events.

Facts are applied as they come, without judging them again: what was decided under older rules still folds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from core.flight.body import read_instant
from core.flight.machine import Body, Recorded
from core.flight.times import write

SEATS_MAX: Final = 900
PASSENGERS_MAX: Final = 1_500
"""Above what the largest airliners are certified for (853 in an A380-800), with room for those who left again."""
TRANSFERS_MAX: Final = 1_000
"""Saga steps remembered, so that a repeated one is known; the oldest are forgotten first."""

BACK: Final = "~back"
"""What stands behind a saga's name in the steps that take back what it did."""

_SPAN: Final = re.compile(r"([1-9][0-9]{0,2})(?:-([1-9][0-9]{0,2}))?\Z")
_LETTERS: Final = re.compile(r"[A-Z]{1,26}\Z")
_CLASS: Final = re.compile(r"[A-Z]\Z")


class Layout(NamedTuple):
    """``rows`` is what facts and people see; ``seats`` has the class of each seat, in the order of the rows."""

    rows: tuple[Mapping[str, Any], ...] = ()
    seats: Mapping[str, str] = {}


def _row(item: object) -> tuple[range, str, str, bool] | str:
    """One entry of a layout: its row numbers, letters, class, and whether exits are there; or what is wrong with it."""
    if not isinstance(item, Mapping):
        return "each row must be an object such as {row: 1, seats: ABCDEF}"
    where = item.get("row", item.get("rows"))
    span = _SPAN.match(str(where)) if isinstance(where, int | str) and not isinstance(where, bool) else None
    if span is None:
        return "each row needs a `row` from 1 to 999, or `rows` such as 4-30"
    rows = range(int(span[1]), int(span[2] or span[1]) + 1)
    letters = item.get("seats")
    letters = letters.replace(" ", "") if isinstance(letters, str) else ""
    if not rows or not _LETTERS.match(letters):
        return f"row {where} needs `seats` of the letters A to Z, and row numbers that rise"
    kind = item.get("class", "Y")
    if not isinstance(kind, str) or not _CLASS.match(kind):
        return f"row {where} has a `class` that is not one letter"
    return rows, letters, kind, item.get("exit") is True


def _rows_of_text(text: str) -> list[object]:
    """The compact form: `1-3:ACDF/J 4-30:ABCDEF`, rows, letters, and a class where it is not Y."""
    rows: list[object] = []
    for part in text.split():
        where, _, rest = part.partition(":")
        letters, slash, kind = rest.partition("/")
        rows.append({"rows": where, "seats": letters, **({"class": kind} if slash else {})})
    return rows


def read_layout(value: object) -> Layout | str:
    """A layout, or what is wrong with it. Forms: {rows: [{row|rows, seats, class?, exit?}, …]}, that list alone, or a text."""
    rows = value.get("rows") if isinstance(value, Mapping) else value
    if isinstance(rows, str):
        rows = _rows_of_text(rows)
    if not isinstance(rows, list | tuple) or not rows:
        return "`layout` must be {rows: [{row: 1, seats: ABCDEF}, …]} or a text such as 1-3:ACDF/J 4-30:ABCDEF"
    shown: list[Mapping[str, Any]] = []
    seats: dict[str, str] = {}
    twice: dict[str, None] = {}
    for item in rows:
        row = _row(item)
        if isinstance(row, str):
            return f"`layout`: {row}"
        numbers, letters, kind, exit = row
        if len(numbers) * len(letters) + len(seats) > SEATS_MAX:
            return f"`layout` has more than {SEATS_MAX} seats"
        for number in numbers:
            shown.append({"row": number, "seats": letters, "class": kind, **({"exit": True} if exit else {})})
            for letter in letters:
                seat = f"{number}{letter}"
                if seat in seats:
                    twice[seat] = None
                seats[seat] = kind
    if twice:
        return f"`layout` has seats twice: {', '.join(twice)}"
    return Layout(tuple(shown), seats)


class Hold(NamedTuple):
    """From ``until_ms`` on it is as if it were not there."""

    passenger: str
    until_ms: int


class Passenger(NamedTuple):
    """``status`` is booked, checked_in, boarded or offloaded; ``seat`` is empty where there is none."""

    name: str
    status: str
    seat: str


class Cabin:
    """See the module. ``flight`` is empty until the cabin is opened; ``at_ms`` is when what it shows was so."""

    __slots__ = (
        "at_ms",
        "blocked",
        "closed",
        "flight",
        "holds",
        "layout",
        "overbooking",
        "passengers",
        "taken",
        "transfers",
    )

    def __init__(self) -> None:
        self.flight = ""
        self.layout = Layout()
        self.overbooking = 0
        self.closed = False
        self.at_ms = 0
        self.blocked: dict[str, str] = {}
        self.taken: dict[str, str] = {}
        """Passenger by seat."""
        self.holds: dict[str, Hold] = {}
        self.passengers: dict[str, Passenger] = {}
        self.transfers: dict[tuple[str, str, str], str] = {}
        """The other flight, by (saga, `in` or `out`, passenger)."""

    def copy(self, *owned: str) -> Cabin:
        """Another with the same values, of which the ``owned`` dictionaries may be changed."""
        other = Cabin.__new__(Cabin)
        for name in Cabin.__slots__:
            setattr(other, name, getattr(self, name))
        for name in owned:
            setattr(other, name, dict(getattr(self, name)))
        return other

    # What facts do

    def _leave(self, passenger: str) -> None:
        seated = self.passengers.get(passenger)
        if seated is not None and seated.seat:
            self.taken.pop(seated.seat, None)

    def _sit(self, passenger: str, seat: str) -> None:
        self._leave(passenger)
        seated = self.passengers.get(passenger, Passenger("", "booked", ""))
        self.passengers[passenger] = seated._replace(seat=seat)
        if seat:
            self.taken[seat] = passenger

    def _status(self, passenger: str, status: str) -> None:
        known = self.passengers.get(passenger)
        if known is not None:
            self.passengers[passenger] = known._replace(status=status)

    def _unhold(self, passenger: str) -> None:
        for seat in [seat for seat, hold in self.holds.items() if hold.passenger == passenger]:
            del self.holds[seat]

    def _opened(self, body: Body) -> None:
        self.flight = body.get("flight", "")
        self.overbooking = body.get("overbooking", 0)
        self._lay(body)

    def _lay(self, body: Body) -> None:
        layout = read_layout(body.get("layout"))
        self.layout = layout if isinstance(layout, Layout) else Layout()
        seats = self.layout.seats
        self.blocked = {seat: why for seat, why in self.blocked.items() if seat in seats}
        self.holds = {seat: hold for seat, hold in self.holds.items() if seat in seats}
        for seat, passenger in list(self.taken.items()):
            if seat not in seats:
                self._sit(passenger, "")

    def _blocked(self, body: Body) -> None:
        self.blocked.update(dict.fromkeys(body["seats"], body.get("why", "")))

    def _unblocked(self, body: Body) -> None:
        for seat in body["seats"]:
            self.blocked.pop(seat, None)

    def _booked(self, body: Body) -> None:
        self.passengers[body["passenger"]] = Passenger(body.get("name", ""), "booked", "")

    def _held(self, body: Body) -> None:
        self.holds[body["seat"]] = Hold(body["passenger"], read_instant(body["until"]) or 0)

    def _assigned(self, body: Body) -> None:
        self.holds.pop(body["seat"], None)
        self._sit(body["passenger"], body["seat"])

    def _released(self, body: Body) -> None:
        seat, passenger = body["seat"], body["passenger"]
        hold = self.holds.get(seat)
        if hold is not None and hold.passenger == passenger:
            del self.holds[seat]
        if self.taken.get(seat) == passenger:
            self._sit(passenger, "")

    def _swapped(self, body: Body) -> None:
        a, b = body["a"], body["b"]
        for passenger in (a["passenger"], b["passenger"]):
            self._sit(passenger, "")
        self._sit(a["passenger"], a["seat"])
        self._sit(b["passenger"], b["seat"])

    def _cancelled(self, body: Body) -> None:
        self._unhold(body["passenger"])
        self._leave(body["passenger"])
        self.passengers.pop(body["passenger"], None)

    def _offloaded(self, body: Body) -> None:
        self._unhold(body["passenger"])
        if body["passenger"] in self.passengers:  # as of a moment they may not be booked yet
            self._sit(body["passenger"], "")
        self._status(body["passenger"], "offloaded")

    def _remember(self, body: Body, way: str, other: str) -> None:
        self.transfers[(body["saga"], way, body["passenger"])] = other
        if len(self.transfers) > TRANSFERS_MAX:
            del self.transfers[next(iter(self.transfers))]

    def _transferred_out(self, body: Body) -> None:
        self._cancelled(body)
        self._remember(body, "out", body["to"])

    def _transferred_in(self, body: Body) -> None:
        self._booked(body)
        if body.get("seat"):
            self._assigned(body)
        self._remember(body, "in", body["from"])

    # What is seen

    def live(self, seat: str, now_ms: int) -> Hold | None:
        """Who holds the seat, unless that has run out."""
        hold = self.holds.get(seat)
        return hold if hold is not None and hold.until_ms > now_ms else None

    def hold_of(self, passenger: str) -> str:
        """The seat that the passenger holds, run out or not; there is never more than one."""
        return next((seat for seat, hold in self.holds.items() if hold.passenger == passenger), "")

    def expected(self) -> int:
        """How many are to fly."""
        return sum(passenger.status != "offloaded" for passenger in self.passengers.values())

    def show(self) -> dict[str, Any]:
        seats: dict[str, dict[str, Any]] = {}
        for seat, kind in self.layout.seats.items():
            shown: dict[str, Any] = {"status": "free", "class": kind}
            hold = self.live(seat, self.at_ms)
            if seat in self.taken:
                who = self.taken[seat]
                shown.update(
                    status="boarded" if self.passengers[who].status == "boarded" else "assigned", passenger=who
                )
            elif hold is not None:
                shown.update(status="held", passenger=hold.passenger, until=write(hold.until_ms))
            elif seat in self.blocked:
                shown.update(status="blocked", why=self.blocked[seat])
            seats[seat] = shown
        counts = Counter(seat["status"] for seat in seats.values())
        people = Counter(passenger.status for passenger in self.passengers.values())
        return {
            "flight": self.flight,
            "status": "new" if not self.flight else "closed" if self.closed else "open",
            "overbooking": self.overbooking,
            "counts": {
                "seats": len(seats),
                **{status: counts[status] for status in ("free", "held", "assigned", "boarded", "blocked")},
            },
            "people": {
                "passengers": len(self.passengers),
                **{status: people[status] for status in ("booked", "checked_in", "boarded", "offloaded")},
            },
            "layout": {"rows": [dict(row) for row in self.layout.rows]},
            "seats": seats,
            "passengers": {
                who: {
                    "status": passenger.status,
                    **({"name": passenger.name} if passenger.name else {}),
                    **({"seat": passenger.seat} if passenger.seat else {}),
                }
                for who, passenger in self.passengers.items()
            },
        }


_ALL: Final = ("blocked", "taken", "holds", "passengers", "transfers")
_SEATING: Final = ("taken", "holds", "passengers")


def _set(name: str, value: Any) -> Callable[[Cabin, Body], None]:
    return lambda cabin, body: setattr(cabin, name, value)


def _to(status: str) -> Callable[[Cabin, Body], None]:
    return lambda cabin, body: cabin._status(body["passenger"], status)


_APPLY: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Cabin, Body], None]]]] = {
    "seat.opened": (_SEATING, Cabin._opened),
    "seat.relaid": (_SEATING, Cabin._lay),
    "seat.blocked": (("blocked",), Cabin._blocked),
    "seat.unblocked": (("blocked",), Cabin._unblocked),
    "seat.booked": (("passengers",), Cabin._booked),
    "seat.cancelled": (_SEATING, Cabin._cancelled),
    "seat.held": (("holds",), Cabin._held),
    "seat.assigned": (_SEATING, Cabin._assigned),
    "seat.released": (_SEATING, Cabin._released),
    "seat.swapped": (("taken", "passengers"), Cabin._swapped),
    "seat.checked_in": (("passengers",), _to("checked_in")),
    "seat.boarded": (("passengers",), _to("boarded")),
    "seat.deboarded": (("passengers",), _to("checked_in")),
    "seat.offloaded": (_SEATING, Cabin._offloaded),
    "seat.transferred_out": (_ALL, Cabin._transferred_out),
    "seat.transferred_in": (_ALL, Cabin._transferred_in),
    "seat.closed": ((), _set("closed", True)),
    "seat.reopened": ((), _set("closed", False)),
}
"""By fact: the dictionaries that it changes, and what it does."""

FACTS: Final = tuple(_APPLY)


def evolve(cabin: Cabin, event: Recorded) -> Cabin:
    entry = _APPLY.get(event.type)
    if entry is None:
        return cabin
    owned, apply = entry
    after = cabin.copy(*owned)
    apply(after, event.body)
    after.at_ms = event.at_ms
    return after


def fold(events: Iterable[Recorded], recorded_ms: int | None = None, valid_ms: int | None = None) -> Cabin:
    """The cabin as it was at ``valid_ms``, by what was recorded up to ``recorded_ms``; by all where neither is given.

    A fact is true from the ``at`` in its body, and from when it was recorded at the latest. Holds that have run
    out by then are not shown.
    """
    cabin = Cabin()
    for event in events:
        entry = _APPLY.get(event.type)
        if entry is None or (recorded_ms is not None and event.at_ms > recorded_ms):
            continue
        if valid_ms is not None:
            since = read_instant(event.body.get("at"))
            if valid_ms < (event.at_ms if since is None else min(since, event.at_ms)):
                continue
        entry[1](cabin, event.body)
        cabin.at_ms = event.at_ms
    for asked in (recorded_ms, valid_ms):
        if asked is not None:
            cabin.at_ms = asked
    return cabin
