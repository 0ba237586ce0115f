"""The node as a cursor on the log: reads pages for laggards, fills holes, tails partitions, compares heads.

Silence proves nothing: every `heads_interval_s` (with the bus away, or just back, every `tail_interval_s`) the log's
heads are compared with what the hub has seen, and what is behind is read. Reads are repeated until the log answers: a
connection that waits for a page waits, it does not lose its place.

A partition in which no stream is held is not read at all: its position simply follows the heads. That is safe only while
no facts are on their way (they might be older than the heads), and so it is done only then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVarTuple

import trio

from core.ports import CorruptLog, Unavailable
from core.stream import Stream

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.node")

Ts = TypeVarTuple("Ts")

PAGE_EVENTS = 500
TAIL_EVENTS = 2_000
READS_AT_ONCE = 4
RETRY_S = 0.25
COMMIT_TROUBLE_S = 5.0
"""After a failed commit it takes a commit to prove the log well, or so long a time without another attempt."""


class Follower:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = node.log
        self._hub = node.hub
        self.trouble: str | None = None
        """Why the log could not be reached when it was last asked; ``None`` while all is well."""
        self.pages_read = 0
        self.tailed = 0
        self.restored = 0
        """Times the log was found behind what this node had seen of it."""
        self._commit_failed_at_s = -math.inf
        self._nursery: trio.Nursery
        self._ending = False
        self._reads = trio.CapacityLimiter(READS_AT_ONCE)
        self._tailing: dict[int, int] = {}
        """Partitions that are being read, and how far they are known to reach."""
        self._filling: set[Stream] = set()
        self._look = trio.Event()
        self._often_until_s = -math.inf
        self.held: dict[int, int] = {}
        """Streams held in memory, by partition."""

    # -- is the log well? ---------------------------------------------------------------------------------------------

    def failed(self, error: Unavailable, *, commit: bool = False) -> None:
        if commit:
            self._commit_failed_at_s = trio.current_time()
        if self.trouble is None:
            log.warning("the log cannot be reached: %s", error)
        self.trouble = str(error)

    def answered(self, *, commit: bool = False) -> None:
        """A read that succeeds says nothing of commits (the disk may be full), unless none was tried for a while."""
        proven = commit or trio.current_time() >= self._commit_failed_at_s + COMMIT_TROUBLE_S
        if self.trouble is not None and proven:
            log.warning("the log answers again")
            self.trouble = None

    def _spawn(self, read: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        # A node that ends takes its tasks in no order: others may still ask for what nobody will read.
        if not self._ending:
            self._nursery.start_soon(read, *args)

    # -- one stream ---------------------------------------------------------------------------------------------------

    def fetch_soon(self, stream: Stream, after: int) -> None:
        self._spawn(self._fetch, stream, after)

    async def _fetch(self, stream: Stream, after: int) -> None:
        """One page past ``after`` for all who wait for it."""
        try:
            async with self._reads:
                events = await self._log.read(stream.tenant, stream.sid, after, PAGE_EVENTS)
                first = stream.first
                if events and events[0].seq > after + 1:
                    first = events[0].seq
                elif not events and after < stream.head:
                    facts = (await self._log.open_streams([(stream.tenant, stream.name, "user:nobody")]))[0]
                    first = stream.head + 1 if facts is None else facts.first
        except Unavailable as error:
            self.failed(error)
            await trio.sleep(max(RETRY_S, min(error.retry_after_s, 1.0)))
            self._hub.page_failed(stream, after)
        else:
            self.answered()
            self.pages_read += 1
            self._hub.page(stream, after, events, first)
        self._node.settle()

    def fill_soon(self, stream: Stream) -> None:
        if stream not in self._filling:
            self._filling.add(stream)
            self._spawn(self._fill, stream)

    async def _fill(self, stream: Stream) -> None:
        """Close the hole between head and what is known to be committed."""
        while stream.want > stream.head and self._hub.by_sid.get(stream.sid) is stream:
            async with self._reads:
                want = stream.want
                try:
                    events = await self._log.read(stream.tenant, stream.sid, stream.head, PAGE_EVENTS)
                except Unavailable as error:
                    self.failed(error)
                    await trio.sleep(RETRY_S)
                    continue
            self.answered()
            self._hub.filled(stream, events, trio.current_time(), want)
            self._node.settle()
        self._filling.discard(stream)

    # -- whole partitions ---------------------------------------------------------------------------------------------

    def tail_soon(self, partition: int, last: int = 0) -> None:
        """Read a partition from where the hub stands up to its end, which is at ``last`` or later."""
        if partition not in self._tailing:
            self._tailing[partition] = last
            self._spawn(self._tail, partition)
        else:
            self._tailing[partition] = max(last, self._tailing[partition])

    async def _tail(self, partition: int) -> None:
        hub = self._hub
        while True:
            known = self._tailing[partition]
            try:
                events = await self._log.tail(partition, hub.pos[partition], TAIL_EVENTS)
            except Unavailable as error:
                self.failed(error)
                await trio.sleep(RETRY_S)
                continue
            self.answered()
            fresh = [event for event in events if event.pos > hub.pos[partition]]
            if fresh:
                self.tailed += len(fresh)
                hub.ingest_events(partition, fresh, trio.current_time())
            self._node.sequencer.settle(partition)
            if fresh:
                self._node.settle()
            # An answer that was on its way when somebody spoke of more is too old.
            told = self._tailing[partition]
            if len(events) < TAIL_EVENTS and (told == known or told <= hub.pos[partition]):
                break
        del self._tailing[partition]

    def hold(self, stream: Stream) -> None:
        self.held[stream.partition] = self.held.get(stream.partition, 0) + 1

    def let_go(self, stream: Stream) -> None:
        self.held[stream.partition] -= 1
        if not self.held[stream.partition]:
            del self.held[stream.partition]

    def look_now(self) -> None:
        """Compare the heads at once: something may have been missed."""
        self._look.set()

    def look_often(self, for_s: float) -> None:
        """Compare them as often as with the bus away, for so long: somebody may commit who cannot tell yet."""
        self._often_until_s = trio.current_time() + for_s
        self._look.set()

    async def _watch_heads(self) -> None:
        """A partition behind twice, or with no commit under way, is read; with the bus away, each that is behind."""
        node, hub, limits = self._node, self._hub, self._node.limits
        behind: dict[int, int] = {}
        while True:
            away = node.bus is not None and node.bus.trouble is not None
            alone = away or trio.current_time() < self._often_until_s
            with trio.move_on_after(limits.tail_interval_s if alone else limits.heads_interval_s):
                await self._look.wait()
            asked = self._look.is_set()
            self._look = trio.Event()
            before = list(hub.pos)
            try:
                heads = await self._log.heads()
            except Unavailable as error:
                self.failed(error)
                await trio.sleep(RETRY_S)
                continue
            self.answered()
            if any(head < pos for head, pos in zip(heads, before, strict=True)):
                await self._start_over(heads)
                continue
            late: dict[int, int] = {}
            for partition, head in enumerate(heads):
                pos = hub.pos[partition]
                if head <= pos:
                    continue
                if partition not in self.held and not hub.is_loading:
                    hub.pos[partition] = head
                    continue
                late[partition] = pos
                lane = node.lanes.lanes[partition % len(node.lanes.lanes)]
                if alone or asked or behind.get(partition) == pos or not lane.busy:
                    self.tail_soon(partition)
            behind = late

    async def _start_over(self, heads: list[int]) -> None:
        """The log is shorter than this node knows it: restored from a backup, or somebody else's word was believed.
        The log is the truth, so everything that was built on the other is let go and everybody comes back to that."""
        self.restored += 1
        log.error("the log is behind what was seen of it: every client is sent back to what it holds now")
        node, hub = self._node, self._hub
        node.end_all("the log was restored")
        hub.forget(heads)
        node.sequencer.forget()
        while True:
            try:
                epoch = await self._log.epoch()
            except Unavailable as error:
                self.failed(error)
                await trio.sleep(RETRY_S)
                continue
            break
        if epoch != node.epoch:
            # Channels and cursors are of an epoch: a node of the old one would be among strangers.
            raise CorruptLog("the log has another epoch than when this node started, as after a restore: start it anew")

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._watch_heads)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._ending = True
