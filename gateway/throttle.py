"""Who goes on although it was refused for its quota is not read for a while.

A refusal costs the node nearly as much as what it refuses, so that a client that takes no notice would still take the node's
time from others. After `PATIENCE` refusals in a row its socket is left alone for `PAUSE_S`: what it sends meanwhile waits in
the kernel and then at its end. Nothing is lost, nothing grows, and a client that obeys ``retry_after`` never sees it.

Promises: at most ``PATIENCE / PAUSE_S`` refusals a second for each connection. Does not: end a connection.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from gateway.connection import CLOSING, Connection

if TYPE_CHECKING:
    from gateway.node import Node

PATIENCE: Final = 16
PAUSE_S: Final = 1.0


class Throttle:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._paused: deque[tuple[float, Connection]] = deque()
        """Until when, in order: each pause is as long as any other."""
        self._wake = trio.Event()
        self.pauses = 0

    def __len__(self) -> int:
        return len(self._paused)

    def refused(self, connection: Connection) -> None:
        """A message of this connection was refused for a quota."""
        connection.refused += 1
        # One that is busy has an op waiting for the log, which ends its being busy: it is met again soon.
        if connection.refused >= PATIENCE and not connection.busy and connection.state < CLOSING:
            connection.refused = 0
            self.pauses += 1
            self._node.shard.hold(connection)
            self._paused.append((trio.current_time() + PAUSE_S, connection))
            self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._paused:
                await trio.sleep_until(self._paused[0][0])
                now_s = trio.current_time()
                while self._paused and self._paused[0][0] <= now_s:
                    _, connection = self._paused.popleft()
                    if connection.state < CLOSING:
                        self._node.shard.go_on(connection, _nothing)
                self._node.settle()


def _nothing() -> None:
    pass
