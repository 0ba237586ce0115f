"""Admission: how much opening goes on at once, and whose turn it is next.

After a cut, a deploy or a node's death thousands of clients open at once, and every hello and resume costs what tens of
sends cost. This bounds the work in hand, not the connections: an opening weighs 1, and more with its streams and with
the pages that it has to be sent (`weight`), from when it is let in until it has caught up.

Rules.
1. Below ``opening_work_max`` whoever comes is let in. One may pass the bound by its own weight, so that a heavy one is
   not starved by light ones.
2. A tenant with nothing in hand is let in above it too, up to twice the bound: the single client of a quiet tenant does
   not wait behind another's storm, not even for one turn.
3. The rest waits in its tenant's queue. What becomes free goes to the tenants in turns of `QUANTUM` times their weight
   (deficit round robin: Shreedhar and Varghese, 1996), so that equal tenants get equal work, not equal counts. It is not
   `core.fair`'s: who waits here can be told to leave from the middle, and work is charged to who has gone on.
4. A queue is bounded for each tenant and for all, and a wait in time. Who finds no place, or waits too long, is told to
   come back after a time that grows with the queue and is spread by ``uniform``.

Promises: every ticket that waits is woken exactly once; the work in hand stays below twice the bound plus one opening;
no room is left unused while anybody waits. Does not: know connections, streams or time (handed in).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from core.fair import bounded, even
from core.limits import Limits

QUANTUM: Final = 16
STREAMS_A_UNIT: Final = 20
"""Streams that cost about as much as an opening itself: 75 us with one stream, 300 with 50, 1300 with 250, from the accept
to the welcome (``readback bench resume-storm --missed 0 --each …``)."""
PAGES_MAX: Final = 16
"""Pages that count: a longer replay is spread over so many turns that it weighs on none of them."""
RETRY_MIN_S: Final = 1.0
RETRY_MAX_S: Final = 10.0


def weight(streams: int, events_behind: int, page_events: int) -> int:
    """The work of an opening with so many streams that must be sent so many events."""
    return 1 + streams // STREAMS_A_UNIT + min(-(-events_behind // page_events), PAGES_MAX)


class Ticket:
    """One opening. ``let_in`` once it may go on; ``refused_s`` instead when it waited in vain: come back after that."""

    __slots__ = ("asked_s", "let_in", "refused_s", "tenant", "wake", "work")

    def __init__(self, tenant: str, work: int, asked_s: float) -> None:
        self.tenant = tenant
        self.work = work
        self.asked_s = asked_s
        self.let_in = False
        self.refused_s: float | None = None
        self.wake: Callable[[], None] = _nobody
        """Called when one of the two is decided, for a ticket that had to wait. It must not call back."""


def _nobody() -> None:
    pass


class _Queue:
    __slots__ = ("credit", "tickets")

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.credit = 0


class Admission:
    """The openings of one node. ``uniform`` gives numbers in [0, 1), ``weight`` a tenant's share of what is free."""

    def __init__(self, limits: Limits, uniform: Callable[[], float], weight: Callable[[str], int] = even) -> None:
        self._limits = limits
        self._uniform = uniform
        self._weight = weight
        self._in_hand: dict[str, int] = {}
        """Work let in and not done, by tenant."""
        self._queues: dict[str, _Queue] = {}
        self._round: deque[str] = deque()
        """The tenants that wait; the first one has the turn."""
        self._bare: dict[str, None] = {}
        """Those of them that have nothing in hand."""
        self.work = 0
        self.waiting = 0
        self.admitted = 0
        self.delayed = 0
        self.refused = 0

    def ask(self, tenant: str, work: int, now_s: float) -> Ticket | float:
        """A ticket, which waits unless it is let in; or, where there is no place to wait, when to come back."""
        ticket = Ticket(tenant, work, now_s)
        if self.work < self._limits.opening_work_max or self._may_pass(tenant):
            self._let_in(ticket)
            return ticket
        limits = self._limits
        queue = self._queues.get(tenant)
        own = 0 if queue is None else len(queue.tickets)
        if self.waiting >= limits.openings_waiting_max or own >= limits.openings_waiting_tenant_max:
            self.refused += 1
            return self._retry_after_s(tenant)
        if queue is None:
            queue = self._queues[tenant] = _Queue()
            self._round.append(tenant)
            if tenant not in self._in_hand:
                self._bare[tenant] = None
        queue.tickets.append(ticket)
        self.waiting += 1
        self.delayed += 1
        return ticket

    def reweigh(self, ticket: Ticket, work: int) -> None:
        """What a ticket that was let in weighs has become known better."""
        more = work - ticket.work
        ticket.work = work
        self.work += more
        self._in_hand[ticket.tenant] += more
        queue = self._queues.get(ticket.tenant)
        if queue is not None:
            queue.credit -= more  # its tenant's others wait the longer for it
        if more < 0:
            self._go_on()

    def done(self, ticket: Ticket) -> None:
        """An opening that was let in has caught up, or is gone."""
        assert ticket.let_in, "only what was let in can be done"
        tenant = ticket.tenant
        self.work -= ticket.work
        left = self._in_hand[tenant] - ticket.work
        if left:
            self._in_hand[tenant] = left
        else:
            del self._in_hand[tenant]
            if tenant in self._queues:
                self._bare[tenant] = None
        self._go_on()

    def expire(self, now_s: float) -> None:
        """Who has waited for `opening_wait_s` is told to come back."""
        due_s = now_s - self._limits.opening_wait_s
        for tenant, queue in list(self._queues.items()):
            while queue.tickets and queue.tickets[0].asked_s <= due_s:
                self._refuse(queue.tickets.popleft(), self._retry_after_s(tenant))
            if not queue.tickets:
                self._forget(tenant)

    def refuse_all(self) -> None:
        """Nobody is let in any more."""
        for tenant, queue in list(self._queues.items()):
            retry_after_s = [self._retry_after_s(tenant) for _ in queue.tickets]
            while queue.tickets:
                self._refuse(queue.tickets.popleft(), retry_after_s.pop())
            self._forget(tenant)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _may_pass(self, tenant: str) -> bool:
        """Whether rule 2 lets a newcomer of this tenant in."""
        return (
            tenant not in self._in_hand and tenant not in self._queues and self.work < 2 * self._limits.opening_work_max
        )

    def _let_in(self, ticket: Ticket) -> None:
        ticket.let_in = True
        self.work += ticket.work
        self._in_hand[ticket.tenant] = self._in_hand.get(ticket.tenant, 0) + ticket.work
        self.admitted += 1

    def _refuse(self, ticket: Ticket, retry_after_s: float) -> None:
        self.waiting -= 1
        self.refused += 1
        ticket.refused_s = retry_after_s
        ticket.wake()

    def _go_on(self) -> None:
        """Give what is free to those who wait."""
        while self._round and self.work < self._limits.opening_work_max:
            tenant = self._round[0]
            queue = self._queues[tenant]
            if queue.tickets[0].work > queue.credit:
                queue.credit += QUANTUM * bounded(self._weight(tenant))
                self._round.rotate(-1)
            else:
                self._next_of(tenant, queue)
        while self._bare and self.work < 2 * self._limits.opening_work_max:
            tenant = next(iter(self._bare))
            self._next_of(tenant, self._queues[tenant])

    def _next_of(self, tenant: str, queue: _Queue) -> None:
        ticket = queue.tickets.popleft()
        queue.credit -= ticket.work
        self.waiting -= 1
        self._bare.pop(tenant, None)
        if not queue.tickets:
            self._forget(tenant)
        self._let_in(ticket)
        ticket.wake()

    def _forget(self, tenant: str) -> None:
        """Nothing of it waits. Its credit goes too: whoever does not wait saves nothing up."""
        del self._queues[tenant]
        self._round.remove(tenant)
        self._bare.pop(tenant, None)

    def _retry_after_s(self, tenant: str) -> float:
        limits = self._limits
        queue = self._queues.get(tenant)
        own = 0 if queue is None else len(queue.tickets)
        full = max(self.waiting / limits.openings_waiting_max, own / limits.openings_waiting_tenant_max)
        return (
            RETRY_MIN_S + (RETRY_MAX_S - RETRY_MIN_S) * min(full, 1.0) * (0.5 + 0.5 * self._uniform()) + self._uniform()
        )
