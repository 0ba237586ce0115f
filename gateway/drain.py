"""How a node leaves: clients are told when to come back, what was taken is committed, then it ends. Bounded by a window."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from core import wire
from core.ports import Unavailable
from core.wire import Close
from gateway.connection import OPEN

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.drain")

DRAIN_RETRY_S: Final = 1.0
"""What newcomers of a draining node are told: by then a balancer or a successor has taken over."""
DRAIN_PER_SECOND: Final = 500
"""Clients asked to leave a second: what another node admits without its others noticing."""


async def drain(node: Node, window_s: float) -> None:
    """Ask every client to come back, each at its own time; commit what was taken; then end. Bounded by the window."""
    node.draining = True
    node.shard.refusing_retry_after_s = DRAIN_RETRY_S
    connections = [c for c in node.shard.connections.values() if c.state is OPEN]
    spread_s = min(window_s / 2, len(connections) / DRAIN_PER_SECOND)
    for at, connection in enumerate(connections):
        after_ms = int(1000 * spread_s * at / max(len(connections), 1))
        node.hub.reply(
            connection, wire.encode({"op": "drain", "after_ms": after_ms, "resume": node.resume_token(connection)})
        )
    node.settle()
    with trio.move_on_after(window_s):
        await node.lanes.drained()
        # They leave at their slots; who stays is closed when all could have.
        with trio.move_on_after(spread_s + 1.0):
            while any(c.state is OPEN for c in node.shard.connections.values()):  # noqa: ASYNC110  # rare
                await trio.sleep(0.02)
        try:
            await node.save_marks()
        except Unavailable as error:
            log.warning("%d markers could not be stored: %s", len(node.hub.signals.unsaved), error)
        await node.lanes.drained()  # last: what was taken until now is committed and answered before the bye
    for connection in list(node.shard.connections.values()):
        node.shard.bye(connection, Close.DRAINING, "this node is going away", 0.5)
    with trio.move_on_after(0.5):
        while node.shard.connections:  # noqa: ASYNC110  # likewise
            await trio.sleep(0.02)
