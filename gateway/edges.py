"""What a node takes from its machine beside its log, bus and sockets: readiness, the wall clock, randomness.

For: running the same node code on a real machine and in the simulator (`proof.sim`), where each of them is a seed's. Trio's
clock is not here: a simulated run hands Trio another one.
"""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio


class Poller(Protocol):
    """`select.epoll` as far as a shard uses it, level-triggered, and how to wait for it.

    Declared as attributes, for in the real one they are epoll's own methods: a turn pays for no call around them.
    """

    register: Callable[[int, int], object]
    modify: Callable[[int, int], object]
    unregister: Callable[[int], object]
    poll: Callable[[float, int], list[tuple[int, int]]]
    close: Callable[[], object]

    async def wait(self) -> None:
        """Until `poll` would return something; at once where it would now. A checkpoint."""
        ...


class Epoll:
    """The kernel's."""

    def __init__(self) -> None:
        epoll = select.epoll()
        self._fd = epoll.fileno()
        self.register: Callable[[int, int], object] = epoll.register
        self.modify: Callable[[int, int], object] = epoll.modify
        self.unregister: Callable[[int], object] = epoll.unregister
        self.poll: Callable[[float, int], list[tuple[int, int]]] = epoll.poll
        self.close: Callable[[], object] = epoll.close

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._fd)


@dataclass(frozen=True, slots=True)
class Edges:
    """The default is this machine."""

    poller: Callable[[], Poller] = Epoll
    wall: Callable[[], float] = time.time
    """Unix time in seconds; may jump."""
    rng: random.Random = field(default_factory=random.Random)
    """Jitter and the order of fairness; nothing secret."""
