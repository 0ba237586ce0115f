"""Write-behind: markers that were raised, and when people were last here, reach the log a little later and many at once.

Promises: one writing of a kind at a time; what the log did not take is kept, conflated with what came meanwhile, and
goes with the next. Bounded by its sources: a marker a member of a stream held, and `core.presence.GONE_MAX` times.
Does not: lose anything but the last `marker_flush_s` of a node that is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from core.ports import Log, Unavailable
from core.signals import Signals

MARKS_AT_ONCE: Final = 2_000


class WriteBehind:
    """``failed`` is told when the log did not answer."""

    def __init__(
        self,
        log: Log,
        signals: Signals,
        wall: Callable[[], float],
        *,
        every_s: float,
        failed: Callable[[Unavailable], object],
    ) -> None:
        self._log = log
        self._signals = signals
        self._wall = wall
        self._every_s = every_s
        self._failed = failed
        self._marks_lock = trio.Lock()
        self._seen_lock = trio.Lock()

    async def marks(self) -> None:
        """Returns when all markers of now are stored, or puts them back and raises."""
        async with self._marks_lock:
            signals = self._signals
            while signals.unsaved:
                taken = signals.take_unsaved(MARKS_AT_ONCE)
                for tenant in list(taken):
                    try:
                        await self._log.save_marks(tenant, taken[tenant])
                    except BaseException:
                        for late, marks in taken.items():
                            signals.put_back(late, marks)
                        raise
                    del taken[tenant]

    async def seen(self) -> None:
        """Who has left and when; what cannot be stored is kept, and raises."""
        async with self._seen_lock:
            signals = self._signals
            taken, signals.gone = signals.gone, {}
            skew_s = self._wall() - trio.current_time()
            rows: dict[str, dict[str, int]] = {}
            for (tenant, who), at_s in taken.items():
                rows.setdefault(tenant, {})[who] = int(1000 * (at_s + skew_s))
            try:
                for tenant, seen in rows.items():
                    await self._log.save_seen(tenant, seen)
            except BaseException:
                for (tenant, who), at_s in taken.items():
                    signals.note_gone(tenant, who, at_s)
                raise

    async def run(self) -> None:
        while True:
            await trio.sleep(self._every_s)
            try:
                await self.marks()
                await self.seen()
            except Unavailable as error:
                self._failed(error)
