"""The node's writer of audit events: notes in, events of each tenant's `core.model.AUDIT_STREAM` out.

For: whoever lets in, refuses or administers. `Audit.note` is for hot code: it never waits and never raises; what it is
told is written within `audit_gather_s` and a commit, many notes an event (`core.audit`). `Audit.noted` is for what must not
happen unrecorded: it returns after the commit.

Promises: events go through the node's lanes as everybody's entries do, in fair turns by tenant, and are shown to who
follows the stream. An event whose commit was not answered is sent again under the same key, so that it lands once. What
could not be kept is counted and told (``suppressed``). A stream is made when its tenant first needs it.

Does not: write for strangers. Whoever cannot prove anything has no tenant, and a flood of them no end: they are counted, and
a line of the log now and then says how many. Does not survive a crash: notes of the last moment are then gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import trio

from core.audit import FACTS, Draft, Gathered, pack, stored_as
from core.model import AUDIT_STREAM, AUDITOR, Entry, Outcome
from core.ports import Refused, StoreError, Unavailable

if TYPE_CHECKING:
    from gateway.node import HttpTicket, Node

log = logging.getLogger("readback.audit")

STRANGERS_S: Final = 60.0
"""How often a line says how many strangers were refused."""
RETRY_S: Final = 0.05
RETRY_MAX_S: Final = 1.0
PLACES_MAX: Final = 10_000
"""Tenants whose stream is remembered; beyond, the first are asked for again."""
STREAMS_AT_ONCE: Final = 500
TRIES_MAX: Final = 3
"""How often an event may find its stream gone before it is given up: a log restored from a backup makes that once."""


class _Event:
    """On its way: under one key, however often it is sent."""

    __slots__ = ("draft", "key", "ticket", "tries")

    def __init__(self, draft: Draft, key: str) -> None:
        self.draft = draft
        self.key = key
        self.tries = 0
        self.ticket: HttpTicket | None = None


class Audit:
    """Of one node, which must run (`gateway.node.running`) while this does. ``new_key`` gives the events' keys: UUIDs."""

    def __init__(self, node: Node, *, new_key: Callable[[], str] | None = None) -> None:
        self._node = node
        self._limits = node.limits
        self._new_key = new_key or (lambda: str(UUID(int=node.rng.getrandbits(128), version=4)))
        self._gathered = Gathered(node.limits)
        self._flying: list[_Event] = []
        """Taken and not known to be written: in the lanes, or to be sent again."""
        self._places: dict[str, tuple[int, int]] = {}
        """Of each tenant's stream: sid and partition."""
        self._restored = 0
        self._wake = trio.Event()
        self._writing = trio.Lock()
        self._strangers_told = 0
        self._strangers_at_s = -STRANGERS_S
        self._misused: set[str] = set()
        self.notes = 0
        self.events = 0
        self.lost = 0
        """Notes that the log will never take. Each is a mistake of ours, and said in the node's log."""
        self.strangers = 0
        registry = node.measures.registry
        counter, gauge = registry.counter_read, registry.gauge
        counter("readback_audit_notes_total", "Notes for audit streams.", lambda: self.notes)
        counter("readback_audit_events_total", "Audit events committed.", lambda: self.events)
        suppressed = "Notes that there was no room for; told in an event."
        counter("readback_audit_suppressed_total", suppressed, lambda: self._gathered.suppressed)
        counter("readback_audit_lost_total", "Notes that could not be written.", lambda: self.lost)
        counter("readback_audit_strangers_total", "Refused who proved nothing.", lambda: self.strangers)
        gauge("readback_audit_waiting_bytes", "Notes on their way, and room for them.", lambda: self._gathered.size)

    def __len__(self) -> int:
        """Notes that are not committed yet."""
        return self._gathered.waiting + sum(event.draft.count for event in self._flying)

    # -- telling --------------------------------------------------------------------------------------------------------

    def note(self, tenant: str, type: str, **facts: object) -> None:
        """Write this down soon. Never waits, never raises. Facts are of `core.audit.FACTS`; an empty tenant is a stranger's."""
        if not tenant:
            self.stranger(facts.get("reason"))
            return
        try:
            self.notes += 1
            at_ms = int(1000 * self._node.wall())
            self._gathered.add(tenant, type, pack(facts, at_ms), at_ms)
            self._wake.set()
            if not FACTS.issuperset(facts):
                self._misuse(f"{type}: there is no fact {', '.join(sorted(facts.keys() - FACTS))}")
        except Exception as error:  # whoever let somebody in must not fail for what it tells of that
            self.lost += 1
            self._misuse(f"{type!r}: {error!r}")

    def stranger(self, reason: object = None) -> None:
        """Somebody was refused who proved nothing, so that it is nobody's to know: counted, and said once in a while."""
        self.strangers += 1
        now_s = trio.current_time()
        if now_s - self._strangers_at_s >= STRANGERS_S:
            new = self.strangers - self._strangers_told
            self._strangers_told, self._strangers_at_s = self.strangers, now_s
            log.warning("%d strangers were refused since this was last said, the last one: %s", new, str(reason)[:200])

    async def noted(self, tenant: str, type: str, **facts: object) -> int:
        """Write this down now, for an act that must not go unrecorded: its seq, after the commit. Raises `Unavailable`, and
        then it may have been written all the same."""
        self.notes += 1
        body, key = pack(facts, int(1000 * self._node.wall())), self._new_key()
        for _ in range(TRIES_MAX):
            await self._find_places([tenant])
            place = self._places.get(tenant)
            if place is None:
                break
            entry, ticket = self._entry(tenant, place, key, stored_as(type), body)
            if not self._node.lanes.put(place[1], entry):
                raise Unavailable("too much is waiting to be committed", 0.5)
            await ticket.done.wait()
            if ticket.error is not None:
                raise Unavailable(str(ticket.error), ticket.error.retry_after_s)
            assert ticket.verdict is not None
            if ticket.verdict.outcome <= Outcome.DUP:
                self.events += 1
                return ticket.verdict.seq
            self._places.pop(tenant, None)
        self.lost += 1
        raise Unavailable("the audit stream does not take the event")

    # -- writing ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. What is noted then is written by `flush`, or lost with the process."""
        wait_s = RETRY_S
        while True:
            await self._wake.wait()
            await trio.sleep(self._limits.audit_gather_s)
            self._wake = trio.Event()
            while self._gathered or self._flying:
                if await self._write():
                    wait_s = RETRY_S
                else:
                    await trio.sleep(wait_s)
                    wait_s = min(2 * wait_s, RETRY_MAX_S)

    async def flush(self, deadline_s: float) -> int:
        """Write all that was noted until now, by ``deadline_s`` on Trio's clock; how many notes are left then."""
        with trio.move_on_at(deadline_s):
            while self._gathered or self._flying:
                if not await self._write():
                    await trio.sleep(RETRY_S)
        if len(self):
            log.warning("%d notes for audit streams could not be written in time", len(self))
        return len(self)

    async def _write(self) -> bool:
        """One round: the next events, and those of unknown outcome. False where the log did not answer."""
        async with self._writing:
            now_ms = int(1000 * self._node.wall())
            room = self._limits.audit_events_max - len(self._flying)
            self._flying += [_Event(draft, self._new_key()) for draft in self._gathered.take(room, now_ms)]
            try:
                await self._find_places([event.draft.tenant for event in self._flying])
            except Unavailable:
                return False
            went = True
            for event in list(self._flying):
                event.ticket = None
                went = self._send(event) and went
            for event in list(self._flying):
                if event.ticket is not None:
                    await event.ticket.done.wait()
                    went = self._settle(event, event.ticket) and went
            return went

    def _send(self, event: _Event) -> bool:
        """Into its lane. False where that is full."""
        draft = event.draft
        place = self._places.get(draft.tenant)
        if place is None:
            self._give_up(event, "its stream cannot be made")
            return True
        entry, ticket = self._entry(draft.tenant, place, event.key, draft.type, draft.body)
        if not self._node.lanes.put(place[1], entry):
            return False
        event.ticket = ticket
        return True

    def _settle(self, event: _Event, ticket: HttpTicket) -> bool:
        """What became of one that went. False where nobody knows, so that it is sent again."""
        if ticket.verdict is None:
            return False
        if ticket.verdict.outcome <= Outcome.DUP:
            self.events += 1
            self._flying.remove(event)
            self._gathered.settle(event.draft)
            return True
        self._places.pop(event.draft.tenant, None)
        event.tries += 1
        if event.tries >= TRIES_MAX:
            self._give_up(event, f"the log says {ticket.verdict.outcome.name}")
        return True

    def _give_up(self, event: _Event, why: str) -> None:
        draft = event.draft
        self.lost += draft.count
        self._flying.remove(event)
        self._gathered.settle(draft)
        log.error(
            "an audit event %s of tenant %s, with %d notes, is lost: %s", draft.type, draft.tenant, draft.count, why
        )

    def _entry(self, tenant: str, place: tuple[int, int], key: str, type: str, body: bytes) -> tuple[Entry, HttpTicket]:
        from gateway.node import HttpTicket  # late: the node is who makes this

        ticket = HttpTicket()
        return Entry(tenant, place[0], key, type, AUDITOR, body, privileged=True, ticket=ticket), ticket

    # -- streams ----------------------------------------------------------------------------------------------------------

    async def _find_places(self, tenants: Sequence[str]) -> None:
        """Where each tenant's stream is, made where there is none. One that cannot be is left out; raises `Unavailable`."""
        restored = self._node.follower.restored
        if restored != self._restored:  # the numbers of streams may be others' now
            self._restored = restored
            self._places.clear()
        unknown = [tenant for tenant in dict.fromkeys(tenants) if tenant not in self._places]
        for at in range(0, len(unknown), STREAMS_AT_ONCE):
            part = unknown[at : at + STREAMS_AT_ONCE]
            try:
                facts = await self._open(part)
                for tenant, fact in zip(part, facts, strict=True):
                    if fact is None:
                        await self._make(tenant)
            except Unavailable:
                raise
            except StoreError as error:
                log.error("audit streams cannot be opened: %s", error)
                raise Unavailable("audit streams cannot be opened") from None

    async def _open(self, tenants: Sequence[str]) -> Sequence[object]:
        facts = await self._node.log.open_streams([(tenant, AUDIT_STREAM, AUDITOR) for tenant in tenants])
        for fact in facts:
            if fact is not None:
                while len(self._places) >= PLACES_MAX:
                    del self._places[next(iter(self._places))]
                self._places[fact.tenant] = (fact.sid, fact.partition)
        return facts

    async def _make(self, tenant: str) -> None:
        try:
            await self._node.log.create_stream(tenant, AUDIT_STREAM, open=False, members=[], by=AUDITOR)
        except Refused as error:
            if error.code != "conflict":  # as where another node was faster
                self._misuse(f"the audit stream of {tenant!r}: {error.message}")
                return
        await self._open([tenant])

    def _misuse(self, what: str) -> None:
        """A mistake in the code that tells, said once each."""
        if what not in self._misused and len(self._misused) < 100:
            self._misused.add(what)
            log.error("audit: %s", what)
