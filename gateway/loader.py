"""What a node must know of streams before it can serve them, asked of the log in batches.

Thousands of connections that come back at once ask for the same few hundred streams: all that wait while one query is
under way share the next. What the hub knows already costs no query at all.

Promises: who is told that its streams are loaded finds them so, with markers, and with a role that no membership change
has overtaken since it was read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from core.hub import Hub
from core.model import Mark, StreamFacts
from core.ports import Log, Unavailable
from core.stream import Stream

BATCH_MAX = 1_000
TRIES_MAX = 10
"""How often facts are read again because a membership changed meanwhile, before that is called a trouble of the log."""

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
        self._coming: dict[str, dict[str, int]] = {}

    def coming(self, tenant: str) -> Collection[str]:
        """Names of streams that are being asked for and that the hub does not know yet: what is bounded counts them too."""
        return self._coming.get(tenant, ())

    def held(self, stream: Stream) -> None:
        """The hub knows this one now."""
        names = self._coming.get(stream.tenant)
        if names is not None:
            names.pop(stream.name, None)

    async def load(self, asked: Sequence[Asked]) -> None:
        """Afterwards the hub knows each stream that exists and what its principal may do there. Raises `Unavailable`."""
        new = [(tenant, name) for tenant, name, _ in asked if (tenant, name) not in self._hub.by_name]
        for tenant, name in new:
            names = self._coming.setdefault(tenant, {})
            names[name] = names.get(name, 0) + 1
        try:
            await self._ask(asked)
        finally:
            for tenant, name in new:
                self._came(tenant, name)

    def _came(self, tenant: str, name: str) -> None:
        names = self._coming.get(tenant, {})
        if names.get(name, 0) > 1:
            names[name] -= 1
        else:
            names.pop(name, None)
        if not names:
            self._coming.pop(tenant, None)

    async def _ask(self, asked: Sequence[Asked]) -> None:
        for at in range(0, len(asked), BATCH_MAX):
            part = asked[at : at + BATCH_MAX]
            for _ in range(TRIES_MAX):
                for triple in part:
                    self._waiting[triple] = None
                self._wake.set()
                ticket = _Ticket()
                self._tickets.append(ticket)
                await ticket.done.wait()
                if ticket.failure is not None:
                    raise ticket.failure
                part = [triple for triple in part if self._forgotten(*triple)]
                if not part:
                    break
            else:
                raise Unavailable("membership keeps changing while it is read")

    def _forgotten(self, tenant: str, name: str, principal: str) -> bool:
        """Whether a membership change came between the answer and whoever waited for it."""
        stream = self._hub.by_name.get((tenant, name))
        return stream is not None and principal not in stream.roles

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
        for _ in range(TRIES_MAX):
            self.queries += 1
            hub.loading()
            try:
                facts = await self._log.open_streams(asked)
                marks = await self._load_marks(facts)
            except BaseException:
                hub.loaded()
                raise
            believed = hub.load(zip(facts, [who for _, _, who in asked], strict=True), trio.current_time())
            for mark in marks:
                if mark.sid in hub.by_sid:
                    hub.signals.load_marks(hub.by_sid[mark.sid], [mark])
            asked = [triple for triple, good in zip(asked, believed, strict=True) if not good]
            if not asked:
                return
        raise Unavailable("membership keeps changing while it is read")

    async def _load_marks(self, facts: Sequence[StreamFacts | None]) -> list[Mark]:
        """The markers of streams that are new here: read before the hub knows them, so that nobody follows without."""
        by_tenant: dict[str, set[int]] = {}
        for fact in facts:
            if fact is not None and fact.sid not in self._hub.by_sid:
                by_tenant.setdefault(fact.tenant, set()).add(fact.sid)
        marks = []
        for tenant, sids in by_tenant.items():
            marks += await self._log.load_marks(tenant, sorted(sids))
        return marks


class _Ticket:
    """One caller of `Loader.load`, waiting for the query that holds its triples."""

    __slots__ = ("done", "failure")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure: Unavailable | None = None
