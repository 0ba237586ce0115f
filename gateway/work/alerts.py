"""The consumer of trips' alerts: each becomes a notice in its recipient's inbox, once.

A trip's machine writes an alert into the trip's stream at most once (`core.trip`). From there on it is a fact that every worker
reads, and what this makes of it is one job under a key made from it: it is in the inbox once, though a node died between the
two. Pushes to phones begin at the inbox (`gateway.push`).

Promises: one inbox that cannot be written to holds up nobody else's (a lane each). Does not: decide when somebody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.commands import derived_key
from core.work import Effects
from gateway.work.jobs import job
from gateway.work.ports import Place, Seen

ALERT: Final = "trip.alert"
WORD: Final = "trip.alert"
"""The type of the notice."""


class Alerts:
    name = "alerts"

    def concerns(self, stream: str) -> bool:
        return stream.startswith("trip:")

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        pass

    def forget(self, partition: int, sid: int | None = None) -> None:
        pass

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        effects = Effects()
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
