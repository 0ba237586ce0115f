"""The pasts of streams folded from the log, page by page: how whoever decides something comes to know what is not in memory."""

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
S = TypeVar("S")


async def fold(
    log: Log, tenant: str, sid: int, evolve: Callable[[S, Recorded], S], state: S, seq: int = 0
) -> tuple[S, int]:
    """What becomes of a state by all that commands became in the stream after a seq; and the seq of the last of it. Raises
    `StoreError`, and what ``evolve`` raises: then nothing was folded."""
    while True:
        events = await log.ruled(tenant, sid, seq, FOLDED_AT_ONCE)
        for event in events:
            state, seq = evolve(state, recorded(event)), event.seq
        if len(events) < FOLDED_AT_ONCE:
            return state, seq


async def fold_pasts(log: Log, pasts: Sequence[tuple[Place, int, F]], keep: Callable[[Place, F], None]) -> None:
    """Fold what commands became in each stream before a seq, and keep each that is done. Raises the first `StoreError`: some
    may be kept then. One that cannot be folded is done, with its ``error``."""
    room = trio.CapacityLimiter(FOLDING_MAX)
    failures: list[StoreError] = []

    async def fold_past(place: Place, before: int, past: F) -> None:
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
                nursery.start_soon(fold_past, place, before, past)
    if failures:
        raise failures[0]
