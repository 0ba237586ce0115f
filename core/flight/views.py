"""Read models: what rows the facts of a flight, its cabin and its crew become, for whoever looks things up.

A read model is rows of JSON, each under a key (`core.work.Row`). A row is what the state of one stream says under that key,
so that it is the same whether it was kept up event by event or made anew from the log. `View` is one kind of stream's part in
that: which keys an event touches, and what stands under a key in a state. `changes` makes rows of some next events of a stream:
of each key touched one, if anything of it changed.

    flight_board    <flight>                                         how each flight stands
    aircraft_line   <registration>/<scheduled departure>/<flight>    what each aircraft is to fly, in order
    manifest        <flight>/<passenger>                             who flies
    seat_map        <flight>/<seat>                                  each seat, and who has it
    crew_roster     <flight>/<crew member>                           who is on a flight's crew, or was

``<flight>`` is what follows `flight:` in the name of the flight's own stream. A row that is gone has no document. All keys of
one stream are its own: no two streams write the same row.

Does not: read or write anything, nor judge facts. One that its machine could not have written may make it raise; then whoever
asked waits with that stream.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from core.flight.machine import Recorded

CONSUMER: Final = "views"
"""By this name workers keep the cursors of what keeps the read models."""
MODELS: Final = ("flight_board", "aircraft_line", "manifest", "seat_map", "crew_roster")

Key = tuple[str, str]
"""Model, and key within it."""

S = TypeVar("S")


class View(Protocol[S]):
    """Of one kind of stream. ``name`` is the stream's: what follows `flight:`, without `.seats` or `crew.`."""

    @property
    def models(self) -> tuple[str, ...]:
        """Those that it makes rows of."""
        ...

    def initial(self) -> S: ...

    def evolve(self, state: S, event: Recorded) -> S:
        """The same object where the event says nothing to it."""
        ...

    def touched(self, name: str, before: S, event: Recorded, after: S) -> Iterable[Key]:
        """Keys whose rows the event may have changed."""
        ...

    def doc(self, name: str, state: S, key: Key) -> dict[str, Any] | None:
        """What stands under a key in this state; ``None``: nothing."""
        ...

    def size(self, state: S) -> int:
        """About how many rows' worth of memory the state takes, for whoever keeps many."""
        ...


class Change(NamedTuple):
    """A row that is new, or other than it was, or gone. ``at`` is the place, among the events given, of the one that last
    touched it."""

    model: str
    key: str
    doc: dict[str, Any] | None
    at: int


def changes(
    view: View[S], name: str, state: S, events: Sequence[Recorded], models: Container[str] = MODELS
) -> tuple[S, list[Change]]:
    """The state after the next events of a stream, and one change for each row of these models that is other than before."""
    touched: dict[Key, int] = {}
    now = state
    for at, event in enumerate(events):
        after = view.evolve(now, event)
        if after is not now:
            for key in view.touched(name, now, event, after):
                touched[key] = at
            now = after
    found = []
    for key, at in touched.items():
        if key[0] not in models:
            continue
        doc = view.doc(name, now, key)
        if doc != view.doc(name, state, key):
            found.append(Change(*key, doc, at))
    return now, found
