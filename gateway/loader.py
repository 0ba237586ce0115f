"""What a node must know of streams before it can serve them, asked of the log in batches.

Thousands of connections that come back at once ask for the same few hundred streams: all that wait while one query is
under way share the next. What the hub knows already costs no query at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from core.hub import Hub
from core.model import Mark
from core.ports import Log, Unavailable

BATCH_MAX = 1_000

Asked = tuple[str, str, str]
"""(tenant, stream, principal)"""


class Loader:
    def __init__(self, log: Log, hub: Hub) -> None:
        self._log = log
        self._hub = hub
        self._waiting: dict[Asked, None] = {}
        self._tickets: list[_Ticket] = []
        self._wake = trio.Event()
        self.queries = 0

    async def load(self, asked: Sequence[Asked]) -> None:
        """Afterwards the hub knows each stream that exists and what its principal may do there. Raises `Unavailable`."""
        for at in range(0, len(asked), BATCH_MAX):
            part = asked[at : at + BATCH_MAX]
            for triple in part:
                self._waiting[triple] = None
            self._wake.set()
            ticket = _Ticket()
            self._tickets.append(ticket)
            await ticket.done.wait()
            if ticket.failure is not None:
                raise ticket.failure

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            asked = list(self._waiting)
            tickets, self._tickets = self._tickets, []
            self._waiting = {}
            failure: Unavailable | None = None
            try:
                for at in range(0, len(asked), BATCH_MAX):
                    await self._load(asked[at : at + BATCH_MAX])
            except Unavailable as error:
                failure = error
            for ticket in tickets:
                ticket.failure = failure
                ticket.done.set()

    async def _load(self, asked: list[Asked]) -> None:
        hub = self._hub
        for _ in range(10):
            self.queries += 1
            hub.loading()
            try:
                facts = await self._log.open_streams(asked)
            except BaseException:
                hub.loaded()
                raise
            new = [fact for fact in facts if fact is not None and fact.sid not in hub.by_sid]
            believed = hub.load(zip(facts, [who for _, _, who in asked], strict=True), trio.current_time())
            by_tenant: dict[str, set[int]] = {}
            for fact in new:
                by_tenant.setdefault(fact.tenant, set()).add(fact.sid)
            for tenant, sids in by_tenant.items():
                marks: dict[int, list[Mark]] = {}
                for mark in await self._log.load_marks(tenant, sorted(sids)):
                    marks.setdefault(mark.sid, []).append(mark)
                for sid, stored in marks.items():
                    if sid in hub.by_sid:
                        hub.signals.load_marks(hub.by_sid[sid], stored)
            asked = [triple for triple, good in zip(asked, believed, strict=True) if not good]
            if not asked:
                return
        raise Unavailable("membership keeps changing while it is read")


class _Ticket:
    """One caller of `Loader.load`, waiting for the query that holds its triples."""

    __slots__ = ("done", "failure")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure: Unavailable | None = None
