"""The past of a flight, its cabin and its crew: a stream's facts folded as of a moment, or all of them.

Two times are asked about. *Recorded*: what was known by then. *Valid*: what was true then, by what is known. Each machine says
when its facts are true (`core.flight.leg_view`, `cabin`, `crew`).

The facts of the streams asked about last are kept parsed, so that asking again about another moment reads only what is new.
Promises: what is answered is the fold of all that was committed when it was asked. Does not: look whether one may ask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from core.commands import FOLDED_AT_ONCE, recorded
from core.flight import cabin, leg_view
from core.flight.machine import Recorded
from core.ports import Log

KEPT_EVENTS_MAX: Final = 50_000
"""Parsed facts kept: 1 KB each, 50 MB if ever full."""


class AsOf(NamedTuple):
    """Unix milliseconds; ``None``: all that is known, and in the end."""

    valid_ms: int | None = None
    recorded_ms: int | None = None

    @property
    def is_now(self) -> bool:
        return self.valid_ms is None and self.recorded_ms is None


NOW: Final = AsOf()


class Past:
    """Over one log."""

    def __init__(self, log: Log, kept_max: int = KEPT_EVENTS_MAX) -> None:
        self._log = log
        self._kept_max = kept_max
        self._kept: OrderedDict[tuple[str, int], list[Recorded]] = OrderedDict()
        self._count = 0
        self._forgotten = 0

    def __len__(self) -> int:
        """Facts kept."""
        return self._count

    def forget(self) -> None:
        """The log is another one, as after a restore."""
        self._kept.clear()
        self._count = 0
        self._forgotten += 1

    async def facts(self, tenant: str, sid: int) -> Sequence[Recorded]:
        """All that commands became in the stream. Raises `Unavailable`."""
        place = (tenant, sid)
        known, forgotten = self._kept.get(place, []), self._forgotten
        while True:
            after = known[-1].seq if known else 0
            events = await self._log.ruled(tenant, sid, after, FOLDED_AT_ONCE)
            known = [*known, *map(recorded, events)] if events else known
            if len(events) < FOLDED_AT_ONCE:
                break
        if forgotten == self._forgotten:  # else some of it may be of the log that was
            self._keep(place, known)
        return known

    def _keep(self, place: tuple[str, int], facts: list[Recorded]) -> None:
        before = self._kept.pop(place, [])
        if len(before) > len(facts):
            facts = before  # somebody asked after us and was answered first
        self._kept[place] = facts
        self._count += len(facts) - len(before)
        while self._count > self._kept_max and self._kept:
            _, gone = self._kept.popitem(last=False)
            self._count -= len(gone)


def seq_of(facts: Sequence[Recorded], as_of: AsOf) -> int:
    """The last fact that was recorded by then; 0: none."""
    for fact in reversed(facts):
        if as_of.recorded_ms is None or fact.at_ms <= as_of.recorded_ms:
            return fact.seq
    return 0


def flight_of(facts: Sequence[Recorded], as_of: AsOf) -> dict[str, Any]:
    return leg_view.show(leg_view.fold(facts, as_of.recorded_ms, as_of.valid_ms))


def cabin_of(facts: Sequence[Recorded], as_of: AsOf) -> cabin.Cabin:
    return cabin.fold(facts, as_of.recorded_ms, as_of.valid_ms)
