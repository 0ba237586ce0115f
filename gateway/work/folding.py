"""The pasts of streams folded from the log, some at once: how consumers come to know what they have not in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import trio

from core.commands import FOLDED_AT_ONCE, recorded
from core.flight.machine import Recorded
from core.ports import Log, StoreError
from gateway.work.ports import Place

FOLDING_MAX: Final = 8
"""Streams folded at once; more would only wait for each other's links."""


class Foldable(Protocol):
    """What becomes of a stream's events. ``error`` is why one of them could not be folded."""

    error: Exception | None

    def evolve(self, event: Recorded) -> None: ...


F = TypeVar("F", bound=Foldable)


async def fold_pasts(log: Log, pasts: Sequence[tuple[Place, int, F]], keep: Callable[[Place, F], None]) -> None:
    """Fold what commands became in each stream before a seq, and keep each that is done. Raises the first `StoreError`: some
    may be kept then. One that cannot be folded is done, with its ``error``."""
    room = trio.CapacityLimiter(FOLDING_MAX)
    failures: list[StoreError] = []

    async def fold(place: Place, before: int, past: F) -> None:
        seq = 0
        async with room:
            while not failures:
                try:
                    events = await log.ruled(place.tenant, place.sid, seq, FOLDED_AT_ONCE)
                except StoreError as error:
                    failures.append(error)
                    return
                try:
                    for event in events:
                        if event.seq < before:
                            past.evolve(recorded(event))
                except Exception as error:  # as its consumer would meet it: the stream is parked then, and no other
                    past.error = error
                if len(events) < FOLDED_AT_ONCE or events[-1].seq >= before:
                    keep(place, past)
                    return
                seq = events[-1].seq

    async with trio.open_nursery() as nursery:
        for place, before, past in pasts:
            if before == 1:
                keep(place, past)
            else:
                nursery.start_soon(fold, place, before, past)
    if failures:
        raise failures[0]
