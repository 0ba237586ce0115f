"""Stored markers, read again after anything on the bus by which some may have been missed for good.

A node stores the markers that were raised there and tells the others (`core.gossip`). Where its message is lost and it then
dies, nobody is left who would tell again what Postgres has. So whenever a peer came, ended or lost something, and when
the bus is back, what is stored is compared with what is held, a page at a time.

Promises: a marker that is stored is shown by every node that holds its stream, soon after the last such trouble; they only
rise, so it matters neither when a page is read nor how often. Takes a tenth of the time at most while it goes on, here and of
Postgres, and nothing in between. Does not: help a node that hears nobody ever again, and does not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final

import trio

from core.gossip import Gossip
from core.hub import Hub
from core.ports import Log, Unavailable

AFTER_S: Final = 1.0
"""What a node raised last is stored by then, and one pass serves for all that is lost meanwhile."""
STREAMS_AT_ONCE: Final = 50
REST: Final = 9.0
"""Times what a page took."""


class Rereading:
    """``failed`` is told when the log did not answer; the pass begins anew then."""

    def __init__(self, log: Log, hub: Hub, gossip: Gossip, *, failed: Callable[[Unavailable], object]) -> None:
        self._log = log
        self._hub = hub
        self._gossip = gossip
        self._failed = failed
        self._settled = 0
        """As many of the gossip's doubts as were there when the last whole pass began."""
        self.found = 0
        """Markers that were stored and not known here."""

    async def run(self) -> None:
        while True:
            await trio.sleep(AFTER_S)
            doubts = self._gossip.doubts
            if doubts == self._settled:
                continue
            try:
                await self._compare()
            except Unavailable as error:
                self._failed(error)
            else:
                self._settled = doubts

    async def _compare(self) -> None:
        streams = sorted(self._hub.by_sid.values(), key=lambda stream: (stream.tenant, stream.sid))
        for tenant, held in groupby(streams, key=lambda stream: stream.tenant):
            sids = [stream.sid for stream in held]
            for at in range(0, len(sids), STREAMS_AT_ONCE):
                began_s = trio.current_time()
                await self._page(tenant, sids[at : at + STREAMS_AT_ONCE])
                await trio.sleep(REST * (trio.current_time() - began_s))

    async def _page(self, tenant: str, sids: list[int]) -> None:
        for mark in await self._log.load_marks(tenant, sids):
            stream = self._hub.by_sid.get(mark.sid)
            if stream is not None and self._hub.signals.far_mark(stream, mark.principal, mark.delivered, mark.read):
                self.found += 1
