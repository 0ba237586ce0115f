"""Group commit: sends gather in lanes; a lane's next batch is whatever gathered while its last one committed.

A lane serves the partitions with ``partition % lanes == its number``, so a partition's order is one lane's order. Few
lanes make large batches, and a commit costs far more by the batch than by the entry (docs/decisions has the figures).

Promises: every entry put in is answered exactly once, by `committed` or by `failed`; an accepted entry is never dropped.
A batch whose answer is lost (`Unavailable`) may have been committed all the same: its senders are told to repeat with
the same key, and the node learns of the events by position.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import trio

from core.limits import Limits
from core.model import Entry, Verdict
from core.ports import Log, Unavailable

Committed = Callable[[Sequence[Entry], Sequence[Verdict]], None]
Failed = Callable[[Sequence[Entry], Unavailable], None]

BATCH_BYTES_MAX = 1_048_576


class Lane:
    """One queue and the task that commits it."""

    def __init__(self, log: Log, limits: Limits, committed: Committed, failed: Failed) -> None:
        self._log = log
        self._limits = limits
        self._committed = committed
        self._failed = failed
        self._waiting: deque[Entry] = deque()
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self.commits = 0
        self.entries = 0
        self.failures = 0
        self.observe: Callable[[float, int], None] = lambda seconds, entries: None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        return not self._idle.is_set()

    def put(self, entry: Entry) -> bool:
        """Take an entry for the next batch; False when the lane is full (answer ``overloaded``)."""
        if len(self._waiting) >= self._limits.lane_entries_max:
            return False
        self._waiting.append(entry)
        if len(self._waiting) == 1:
            self._wake.set()
            if not self.busy:
                self._idle = trio.Event()
        return True

    async def run(self) -> None:
        while True:
            if not self._waiting:
                self._idle.set()
                await self._wake.wait()
            self._wake = trio.Event()
            batch = self._next_batch()
            started_s = trio.current_time()
            try:
                verdicts = await self._log.append(batch)
            except Unavailable as error:
                self.failures += 1
                self._failed(batch, error)
                await trio.sleep(0.05)  # a store that is down answers at once: do not spin on it
            else:
                self.commits += 1
                self.entries += len(batch)
                self.observe(trio.current_time() - started_s, len(batch))
                self._committed(batch, verdicts)

    def _next_batch(self) -> list[Entry]:
        """As many as a batch may hold. An entry with ``expect`` must be its stream's first in a batch: if its stream
        is in already, the batch ends before it."""
        waiting = self._waiting
        count_max = self._limits.batch_entries_max
        if len(waiting) <= count_max and not any(entry.expect is not None for entry in waiting):
            batch = list(waiting)
            if sum(len(entry.body) for entry in batch) <= BATCH_BYTES_MAX:
                waiting.clear()
                return batch
        batch = []
        size = 0
        streams: set[int] = set()
        while waiting and len(batch) < count_max:
            entry = waiting[0]
            size += len(entry.body)
            if batch and (size > BATCH_BYTES_MAX or (entry.expect is not None and entry.sid in streams)):
                break
            streams.add(entry.sid)
            batch.append(waiting.popleft())
        return batch

    async def drained(self) -> None:
        """Wait until nothing is queued or in flight."""
        while self._waiting or self.busy:
            await self._idle.wait()
            await trio.lowlevel.checkpoint()


class Lanes:
    """All lanes of a node."""

    def __init__(self, log: Log, limits: Limits, count: int, committed: Committed, failed: Failed) -> None:
        self.lanes = [Lane(log, limits, committed, failed) for _ in range(count)]

    def put(self, partition: int, entry: Entry) -> bool:
        lanes = self.lanes
        return lanes[partition % len(lanes)].put(entry)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for lane in self.lanes:
                nursery.start_soon(lane.run)

    async def drained(self) -> None:
        """Wait until nothing is queued or in flight in any lane."""
        while any(len(lane) or lane.busy for lane in self.lanes):
            for lane in self.lanes:
                await lane.drained()

    def __len__(self) -> int:
        return sum(map(len, self.lanes))
