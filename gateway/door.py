"""The door of a node: openings go through `core.admission`, and hold what they weigh until they have caught up.

An opening is done when the flush of its turn has brought it up to date, as nearly all are; when its replay has no stream
left behind, looked at every `SWEEP_S`; when its connection is gone; or after `HOLD_S`: a reader that takes its time
costs one page a turn at its own pace, and must not keep others out.

Promises: whoever waits here is called within ``opening_wait_s``; the shard has a turn between any two batches that are let
in. Does not: say anything to a connection. Who waits costs no task: in a storm of returns that was 40 us each.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from core.admission import Admission, Ticket
from gateway.connection import OPEN, Connection

if TYPE_CHECKING:
    from gateway.node import Node

SWEEP_S: Final = 0.005
HOLD_S: Final = 2.0


class Door:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._shard = node.shard
        self._page_events = node.limits.replay_page_events
        self._admission = admission = Admission(node.limits, node.uniform, node.weight)
        self._opened: list[Ticket] = []
        """Through since the shard's turn began: a turn lets no more in than may be in hand at once."""
        self._turn = 0
        self._decided: deque[tuple[Ticket, Connection, Callable[[float | None], None]]] = deque()
        """Who waited and does not any more, to be called."""
        self._replaying: dict[Ticket, tuple[Connection, float]] = {}
        self._wake = trio.Event()
        registry = node.measures.registry
        registry.gauge("readback_openings_waiting", "Hellos and resumes in line.", lambda: admission.waiting)
        registry.gauge("readback_openings_replaying", "Openings that catch up.", lambda: len(self._replaying))
        registry.counter_read(
            "readback_openings_delayed_total", "Openings that had to wait.", lambda: admission.delayed
        )
        registry.counter_read("readback_openings_refused_total", "Openings sent away.", lambda: admission.refused)

    def ask(self, tenant: str, work: int) -> Ticket | float:
        """A ticket; one that is not let in must be waited for (`wait`). A number: no place, come back after that."""
        turn = self._shard.counts.turns
        if turn != self._turn:
            self._turn = turn
            if self._opened:
                self._release()
        return self._admission.ask(tenant, work, trio.current_time())

    def wait(self, ticket: Ticket, connection: Connection, go: Callable[[float | None], None]) -> None:
        """Call ``go`` when the ticket is let in (``None``), or refused: with when to come back."""
        ticket.wake = functools.partial(self._decided.append, (ticket, connection, go))
        self._shard.hold(connection)
        self._wake.set()

    def reweigh(self, ticket: Ticket, work: int) -> None:
        if work != ticket.work:
            self._admission.reweigh(ticket, work)

    def through(self, ticket: Ticket, connection: Connection) -> None:
        """An opening that was let in has been answered, or its connection is gone. To be called once."""
        if connection.state is OPEN and connection.lag and not self._soon(connection):
            self._replaying[ticket] = (connection, trio.current_time() + HOLD_S)
            self._wake.set()
        else:
            self._opened.append(ticket)

    def _soon(self, connection: Connection) -> bool:
        """Whether the flush of this turn brings the connection up to date."""
        if self._node.hub.allowance <= 0:
            return False  # it waits in line for a turn
        events = 0
        assert connection.lag is not None
        for stream in connection.lag:
            cursor = connection.subs[stream]
            if cursor + 1 < stream.base:
                return False
            events += stream.head - cursor
        return events <= self._page_events

    def _release(self) -> None:
        opened, self._opened = self._opened, []
        for ticket in opened:
            self._admission.done(ticket)

    def sweep(self, now_s: float) -> None:
        """Take note of who has caught up, and of who has waited too long."""
        self._release()
        for ticket, (connection, until_s) in list(self._replaying.items()):
            if connection.state is not OPEN or not connection.lag or now_s >= until_s:
                del self._replaying[ticket]
                self._admission.done(ticket)
        self._admission.expire(now_s)
        self._call()

    def _call(self) -> None:
        for _ in range(len(self._decided)):
            ticket, connection, go = self._decided.popleft()
            self._shard.go_on(connection, functools.partial(go, ticket.refused_s))

    def refuse_all(self) -> None:
        """Nobody who waits is let in any more."""
        self._admission.refuse_all()
        self._call()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._replaying or self._admission.waiting or self._decided:
                if self._opened or self._decided:
                    await (
                        trio.lowlevel.checkpoint()
                    )  # there is room already: all that it takes is a turn for the others
                else:
                    await trio.sleep(SWEEP_S)
                self.sweep(trio.current_time())
                self._node.settle()
