"""How a node leaves: each client is given its own time to come back elsewhere, what was taken is committed, then it ends.

What happens, inside the window:

    at once       /readyz says no; newcomers get 503 with a jittered Retry-After; who waits at the door is sent away;
                  every client is told `drain` with a fresh resume token and a slot of its own
    its slot      a client that obeys has gone; it reads and sends until then, and is answered
    slot + grace  who stayed gets `bye/draining`, as soon as the sends that it has in flight are answered
    the last 10 % nothing is waited for any more but commits and markers; then everybody is closed

Slots are spread evenly over 80 % of the window, or over less where the clients are few (``drain_per_second_min``): the
nodes that take them in see a rate, not a herd. Who gets which is shuffled, for clients that share a tenant or a room
lie together in a node's memory and would come back together, to the same streams and the same admission queue.

Promises: a send that was taken is committed and answered, or its client knows that it was not; nobody is reset with our
last words unread; it ends inside the window whatever the clients, the log or the bus do. Does not: end the process, nor
hurry (cancel it for that: sockets are closed, and clients come back by themselves).
"""

from __future__ import annotations

import logging
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from core import wire
from core.ports import Unavailable
from core.wire import Close
from gateway.connection import OPEN, Connection
from gateway.shard import Shard

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.drain")

SPREAD: Final = 0.8
RESERVED: Final = 0.1
"""The window's last part, and the most that the grace may take of it."""
NEWCOMERS_RETRY_S: Final = 1.5
"""What newcomers are told at least, and up to twice that: by then a balancer or a successor has taken over."""
STAYERS_RETRY_S: Final = 1.0
"""What who stayed past its slot is told at most: it has had its time."""
TOLD_AT_ONCE: Final = 256
"""Clients told in one turn: a fresh token each is some 10 us."""
LOOK_S: Final = 0.02
LINGER_S: Final = 0.5
"""How long the closing of the last connections may take."""
ACCEPT_QUEUE_MAX: Final = 8_192


@dataclass(slots=True)
class Drained:
    """What became of everybody and everything; also the node's metrics of it."""

    told: int = 0
    left: int = 0  # of those told, by themselves
    ended: int = 0  # of those told, by our bye
    refused: int = 0  # newcomers
    sends: int = 0  # committed since it began
    unanswered: int = 0  # sends whose commit was still unknown at the end: repeated with the same key they land once
    markers: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        text = (
            f"{self.told} clients told, {self.left} left by themselves, {self.ended} sent away, {self.refused} newcomers "
            f"refused, {self.sends} sends committed, {self.markers} markers stored in {self.seconds:.1f} s"
        )
        return f"{text}; {self.unanswered} sends without an answer" if self.unanswered else text


def slots(count: int, window_s: float, per_second_min: float) -> list[float]:
    """When each of so many clients is to leave, in seconds from now, ascending.

    >>> slots(4, 10.0, 20.0)
    [0.0, 0.05, 0.1, 0.15]
    """
    spread_s = min(SPREAD * window_s, count / per_second_min)
    return [spread_s * at / count for at in range(count)]


class Drain:
    """One node's leaving. ``close_listener`` where others share the port (or inherit it): they get the newcomers at once."""

    def __init__(self, node: Node, window_s: float, *, close_listener: bool, rng: random.Random | None = None) -> None:
        self._node = node
        self._shard = node.shard
        self._window_s = window_s
        self._close_listener = close_listener
        self._rng = rng if rng is not None else random.Random()
        self._counts = node.drained
        self._told: deque[tuple[float, Connection]] = deque()
        """Who was told, with the time at which it is sent away."""

    async def run(self) -> Drained:
        node, counts = self._node, self._counts
        began_s = trio.current_time()
        end_s = began_s + self._window_s
        entries, refused = _entries(node), self._shard.counts.refused
        node.draining = True
        self._shard.refusing_retry_after_s = NEWCOMERS_RETRY_S
        self._shard.jitter = self._rng.random
        if self._close_listener:
            _close_listeners(self._shard)
        node.door.refuse_all()
        await self._tell(began_s)
        await self._see_off(end_s - RESERVED * self._window_s)
        with trio.move_on_at(end_s):
            await node.commander.drained()
            await node.lanes.drained()
            await node.ops.pings.drained()
            await self._store_marks()
            await node.commander.drained()
            await node.lanes.drained()  # last: what was taken until now is committed and answered before the bye
        counts.unanswered = sum(c.inflight for c in self._shard.connections.values())
        for _, connection in self._told:
            counts.left += connection.state is not OPEN
            counts.ended += connection.state is OPEN
        for connection in list(self._shard.connections.values()):
            self._bye(connection)
        now_s = trio.current_time()
        with trio.move_on_at(min(now_s + LINGER_S, max(end_s, now_s + RESERVED * LINGER_S))):
            while self._shard.connections:  # noqa: ASYNC110  # there is no event for it, and it is once in a life
                await trio.sleep(LOOK_S)
        with trio.move_on_at(end_s):
            try:
                await node.save_seen()
            except Unavailable as error:
                log.warning("when clients were last here could not be stored: %s", error)
        if node.positions is not None:
            with trio.move_on_at(end_s):
                await node.positions.kept_all()
        if node.audit is not None:
            await node.audit.flush(max(end_s, trio.current_time() + RESERVED * self._window_s))
        if node.cluster is not None:
            node.cluster.leave()
        counts.sends = _entries(node) - entries
        counts.refused = self._shard.counts.refused - refused
        counts.seconds = trio.current_time() - began_s
        log.log(logging.WARNING if counts.unanswered else logging.INFO, "drained: %s", counts)
        return counts

    async def _tell(self, began_s: float) -> None:
        node = self._node
        connections = [c for c in self._shard.connections.values() if c.state is OPEN]
        self._rng.shuffle(connections)
        grace_s = min(node.limits.drain_grace_s, RESERVED * self._window_s)
        planned = slots(len(connections), self._window_s, node.limits.drain_per_second_min)
        for at, (slot_s, connection) in enumerate(zip(planned, connections, strict=True)):
            if at and not at % TOLD_AT_ONCE:
                node.settle()
                await trio.lowlevel.checkpoint()
            if connection.state is not OPEN:
                continue
            after_s = max(0.0, began_s + slot_s - trio.current_time())
            frame = {"op": "drain", "after_ms": int(1000 * after_s), "resume": node.resume_token(connection)}
            node.hub.reply(connection, wire.encode(frame))
            self._told.append((began_s + slot_s + grace_s, connection))
        self._counts.told = len(self._told)
        node.settle()

    async def _see_off(self, until_s: float) -> None:
        """Until nobody is left of those told, or the time is over: each leaves at its slot or is sent away after it."""
        told, counts = self._told, self._counts
        answering: list[tuple[float, Connection]] = []
        while told:
            now_s = trio.current_time()
            while told and (told[0][0] <= now_s or told[0][1].state is not OPEN):
                connection = told.popleft()[1]
                if connection.state is not OPEN:
                    counts.left += 1
                elif connection.inflight:
                    answering.append((now_s, connection))
                else:
                    counts.ended += 1
                    self._bye(connection)
            told.extendleft(reversed(answering))
            answering.clear()
            self._node.settle()
            if now_s >= until_s or not any(c.state is OPEN for _, c in told):
                return
            await trio.sleep(LOOK_S)

    def _bye(self, connection: Connection) -> None:
        retry_after_s = round(STAYERS_RETRY_S * self._rng.random(), 2)
        self._shard.bye(connection, Close.DRAINING, "this node is going away", retry_after_s)

    async def _store_marks(self) -> None:
        node = self._node
        waiting = len(node.hub.signals.unsaved)
        try:
            await node.save_marks()
        except Unavailable as error:
            log.warning("%d markers could not be stored: %s", len(node.hub.signals.unsaved), error)
        self._counts.markers += max(waiting - len(node.hub.signals.unsaved), 0)


def _entries(node: Node) -> int:
    return sum(lane.entries for lane in node.lanes.lanes)


def _close_listeners(shard: Shard) -> None:
    """Closing a listening socket resets who waits in its queue, so that is emptied first; they get their 503."""
    for listener in shard.listeners.values():
        for _ in range(ACCEPT_QUEUE_MAX):
            try:
                sock, _address = listener.accept()
            except OSError:
                break
            shard.add(sock)
    shard.stop_listening()


def add_metrics(node: Node) -> None:
    """What the operator of a rolling restart looks at, while the node still answers."""
    counts, gauge = node.drained, node.measures.registry.gauge
    gauge("readback_drain_told", "Clients told to come back elsewhere.", lambda: counts.told)
    gauge("readback_drain_left", "Of those, gone by themselves.", lambda: counts.left)
    gauge("readback_drain_ended", "Of those, sent away after their slot.", lambda: counts.ended)
    gauge("readback_drain_markers", "Markers stored while leaving.", lambda: counts.markers)
