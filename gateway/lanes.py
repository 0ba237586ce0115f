"""Group commit: sends gather in lanes; a lane's next batch is whatever gathered while its last one committed.

A lane serves the partitions with ``partition % lanes == its number``, so a partition's order is one lane's order. Few
lanes make large batches, and a commit costs far more by the batch than by the entry (docs/decisions has the figures).

While what waits fits one batch, it is a list and the next batch is all of it. When more waits, the lane is crowded: the
entries stand by tenant, and batches are made of them in fair turns (`core.fair`) by size, until nothing is left. So whoever
sends little waits for the commit under way and for its place in the next, however much others have waiting.

A tenant may hold as much of a lane as is still free (Choudhury and Hahne, 1998, for packets in a switch): alone no more than
half of it, as one of n with much to send the (n+1)th part, so that there is always room for whoever comes next.

Promises: every entry put in is answered exactly once, by `committed` or by `failed`; an accepted entry is never dropped;
a tenant's entries of one partition are committed in the order in which they came. A batch whose answer is lost
(`Unavailable`) may have been committed all the same: its senders are told to repeat with the same key, and the node learns
of the events by position.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from core.fair import Fair, even
from core.limits import Limits
from core.ports import Unavailable


class Queued(Protocol):
    """What waits in a lane: an `Entry` or a `Decided`. ``expect`` is not ``None`` where it must be its stream's first in a
    batch."""

    tenant: str
    sid: int
    body: bytes
    expect: int | None


E = TypeVar("E", bound=Queued)
V = TypeVar("V")

BATCH_BYTES_MAX = 1_048_576
ENTRY_BYTES = 512
"""What an entry costs beside its body's bytes, in bytes: 50 us of all that a send takes, against 1.7 ms for 16 KB."""
TURN_BYTES = 4_096
"""A turn of a tenant: some six chats' messages. A hundred tenants have a turn in every batch."""


class Lane(Generic[E, V]):
    """One queue and the task that commits it by ``commit``: `core.ports.Log.append` or `command`."""

    def __init__(
        self,
        commit: Callable[[Sequence[E]], Awaitable[Sequence[V]]],
        limits: Limits,
        committed: Callable[[Sequence[E], Sequence[V]], None],
        failed: Callable[[Sequence[E], Unavailable], None],
        weight: Callable[[str], int] = even,
    ) -> None:
        self._commit = commit
        self._limits = limits
        self._committed = committed
        self._failed = failed
        self._waiting: list[E] = []
        """What waits while it fits a batch; empty while the lane is crowded."""
        self._crowd: Fair[E] = Fair(TURN_BYTES, weight)
        self._crowded = False
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self.commits = 0
        self.entries = 0
        self.failures = 0
        self.refusals = 0
        """Entries for which there was no room."""
        self.observe: Callable[[float, int], None] = lambda seconds, entries: None

    def __len__(self) -> int:
        return len(self._crowd) if self._crowded else len(self._waiting)

    @property
    def busy(self) -> bool:
        return not self._idle.is_set()

    def put(self, entry: E) -> bool:
        """Take an entry for the next batch; False when its tenant holds as much of the lane as it may (answer
        ``overloaded``)."""
        waiting, limits = self._waiting, self._limits
        count = len(waiting)
        if self._crowded or count >= limits.batch_entries_max or 2 * count >= limits.lane_entries_max:
            return self._put_in_crowd(entry)
        waiting.append(entry)
        if count == 0:
            self._rouse()
        return True

    def _put_in_crowd(self, entry: E) -> bool:
        if not self._crowded:
            self._sort()
        crowd, limits, tenant = self._crowd, self._limits, entry.tenant
        cost = ENTRY_BYTES + len(entry.body)
        if (
            crowd.len_of(tenant) >= limits.lane_entries_max - len(crowd)
            or crowd.cost_of(tenant) + cost > limits.lane_bytes_max - crowd.cost
        ):
            self.refusals += 1
            return False
        crowd.put(tenant, cost, entry)
        if len(crowd) == 1:
            self._rouse()
        return True

    def _rouse(self) -> None:
        self._wake.set()
        if not self.busy:
            self._idle = trio.Event()

    def _sort(self) -> None:
        """More waits than a batch takes: from now on by tenant, until all of it has gone."""
        self._crowded = True
        for entry in self._waiting:
            self._crowd.put(entry.tenant, ENTRY_BYTES + len(entry.body), entry)
        self._waiting.clear()

    async def run(self) -> None:
        while True:
            if not len(self):
                self._idle.set()
                await self._wake.wait()
            self._wake = trio.Event()
            batch = self._next_batch()
            started_s = trio.current_time()
            try:
                verdicts = await self._commit(batch)
            except Unavailable as error:
                self.failures += 1
                self._failed(batch, error)
                await trio.sleep(0.05)  # a store that is down answers at once: do not spin on it
            else:
                self.commits += 1
                self.entries += len(batch)
                self.observe(trio.current_time() - started_s, len(batch))
                self._committed(batch, verdicts)

    def _next_batch(self) -> list[E]:
        """As many as a batch may hold. An entry with ``expect`` must be its stream's first in a batch: if its stream
        is in already, its tenant waits for the next."""
        if not self._crowded:
            batch = self._waiting
            plain = not any(entry.expect is not None for entry in batch)
            if plain and sum(len(entry.body) for entry in batch) <= BATCH_BYTES_MAX:
                self._waiting = []
                return batch
            self._sort()
        crowd, count_max = self._crowd, self._limits.batch_entries_max
        batch = []
        size = 0
        streams: set[int] = set()
        while len(batch) < count_max and (entry := crowd.peek()) is not None:
            if entry.expect is not None and entry.sid in streams:
                crowd.set_aside()
                continue
            size += len(entry.body)
            if batch and size > BATCH_BYTES_MAX:
                break
            streams.add(entry.sid)
            batch.append(crowd.take())
        crowd.bring_back()
        self._crowded = len(crowd) > 0
        return batch

    async def drained(self) -> None:
        """Wait until nothing is queued or in flight."""
        while len(self) or self.busy:
            await self._idle.wait()
            await trio.lowlevel.checkpoint()


class Lanes(Generic[E, V]):
    """All lanes of a kind of a node. ``weight`` is a tenant's share where more waits than a batch takes."""

    def __init__(
        self,
        commit: Callable[[Sequence[E]], Awaitable[Sequence[V]]],
        limits: Limits,
        count: int,
        committed: Callable[[Sequence[E], Sequence[V]], None],
        failed: Callable[[Sequence[E], Unavailable], None],
        weight: Callable[[str], int] = even,
    ) -> None:
        self.lanes = [Lane(commit, limits, committed, failed, weight) for _ in range(count)]

    def put(self, partition: int, entry: E) -> bool:
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
