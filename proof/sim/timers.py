"""What happens later by itself: bytes on their way, messages that are late, commits nobody waits for any more."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import trio


class Timers:
    """One task for all of them. Times are Trio's clock; calls at one time come in the order in which they were asked for."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()
        self._sooner = trio.Event()

    def at(self, when_s: float, call: Callable[[], object]) -> None:
        if not self._heap or when_s < self._heap[0][0]:
            self._sooner.set()
        heapq.heappush(self._heap, (when_s, next(self._count), call))

    def after(self, delay_s: float, call: Callable[[], object]) -> None:
        self.at(trio.current_time() + delay_s, call)

    async def run(self) -> None:
        while True:
            until_s = self._heap[0][0] if self._heap else math.inf
            self._sooner = trio.Event()
            with trio.move_on_at(until_s):
                await self._sooner.wait()
            now_s = trio.current_time()
            while self._heap and self._heap[0][0] <= now_s:
                heapq.heappop(self._heap)[2]()
