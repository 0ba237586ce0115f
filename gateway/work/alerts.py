"""The consumer of trips' alerts: each becomes a notice in its recipient's inbox, once.

A trip's machine writes an alert into the trip's stream at most once (`core.trip`). From there on it is a fact that every worker
reads, and what this makes of it is one job under a key made from it: it is in the inbox once, though a node died between the
two. Pushes to phones begin at the inbox (`gateway.push`).

Who asks to be told may do so when the device has long been silent, and no node has the trip: so a wish makes one job, too,
which looks at the trip; those of a moment make one together.

Promises: one inbox that cannot be written to holds up nobody else's (a lane each). Does not: decide when somebody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.commands import derived_key
from core.work import Effects
from gateway.work.jobs import job, look_at
from gateway.work.ports import Memoryless, Place, Seen

ALERT: Final = "trip.alert"
WORD: Final = "trip.alert"
"""The type of the notice."""
WISH: Final = "trip.recipient"
WISHED_MS: Final = 5_000
"""So long after a wish the trip is looked at; a node that has it is there before."""


class Alerts(Memoryless):
    name = "alerts"

    def concerns(self, stream: str) -> bool:
        return stream.startswith("trip:")

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        effects = Effects()
        wished_ms = max((event.at_ms for _, event in events if event.type == WISH), default=None)
        if wished_ms is not None:
            effects.tasks.append(look_at(place.tenant, place.stream, f"{place.sid}/wish", wished_ms + WISHED_MS))
        for _pos, event in events:
            if event.type != ALERT:
                continue
            body = {
                "do": "notify",
                "to": event.body["recipient"],
                "type": WORD,
                "key": derived_key(WORD, place.tenant, place.sid, event.seq),
                "body": {"trip": place.stream, **event.body},
            }
            key = f"{place.sid}/{event.seq}/alert"
            effects.tasks.append(job(place.tenant, key, event.at_ms, body, place.stream, place.sid))
        return effects
