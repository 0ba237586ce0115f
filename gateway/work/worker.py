"""A worker: shares the log's partitions with others by lease, follows them for each consumer, and runs tasks that are due.

One task a leased (consumer, partition) reads on from its cursor, has the consumer turn events into effects, and commits
these with the cursor's move, under the lease's fence (`core.work`). It is woken by commits that this process hears of, and by
a look at the partitions' heads every `poll_s`, one for all. Consumers that stand at the same place share what is read. What led
to nothing moves a cursor only now and then: most of a log is chat, which most consumers pass over. One task a kind of tasks
claims those that are due and runs them side by side.

Promises: a consumer's effects of a stream are committed in the stream's order, each exactly once, whoever crashes; one
stream whose event cannot be taken is parked with its reason while all others go on; what fails for want of the store is
tried until it is back. A task whose claim runs out is done again by somebody, so that runners do what is the same twice.
Whatever a lease that was lost led to, changes nothing.

Does not: know what consumers and runners do (`gateway.work.make` puts them together).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Final

import trio

from core.model import Event
from core.ports import Log, StoreError, Unavailable
from core.work import Lease, NewTask, Work
from core.work_limits import WorkLimits
from gateway.work.following import Following
from gateway.work.ports import Consumer, Place, Runner
from gateway.work.tasks import Tasks

log = logging.getLogger("readback.work")

READS_AT_ONCE: Final = 2
"""Partitions read at once: the node beside has its clients' reads over the same few links."""
PAGE_BYTES_MAX: Final = 1_048_576
"""Bodies of a page that is kept for other consumers; a larger one each reads for itself."""


class Worker:
    """Run with `run`; end with `leave` for a good order. ``holder`` must be new for each start of a worker."""

    def __init__(
        self,
        store: Log,
        work: Work,
        consumers: Sequence[Consumer],
        runners: Sequence[Runner],
        *,
        holder: str,
        limits: WorkLimits,
        rng: Random,
        wall: Callable[[], float],
    ) -> None:
        self.log = store
        self.work = work
        self.limits = limits
        self.holder = holder
        self.wall = wall
        self.rng = rng
        self.consumers = {consumer.name: consumer for consumer in consumers}
        self.tasks = Tasks(self, runners)
        self.trouble: str | None = None
        """Why the store could not be reached when it was last asked."""
        self._following: dict[tuple[str, int], Following] = {}
        self._left = False
        self._names: dict[int, Place] = {}
        self._reads = trio.CapacityLimiter(READS_AT_ONCE)
        self._pages: dict[int, tuple[int, list[Event]]] = {}
        """Of each partition what was read last, and after which position: another consumer most often wants the same."""
        self._told: dict[int, int] = {}
        """How far each partition goes, as was heard last."""
        self._ending: dict[tuple[str, int], trio.Event] = {}
        """Of places let go of, set once nothing of that goes on."""
        self._asking = trio.Lock()
        self._followed: set[int] = set()
        """Partitions of which consumers may know something still."""
        self.restored: Callable[[], int] = lambda: 0
        """How often the log was found to be another one (`Follower.restored`)."""
        self._restored = 0
        self._nursery: trio.Nursery
        self.events = 0
        """Taken by consumers, each once a consumer; `skipped` were not theirs or parked."""
        self.skipped = 0
        self.commits = 0
        self.fenced = 0
        self.parked = 0
        self.standing: list[NewTask] = []
        """Tasks that are to be there while there are workers; asked for once, when the store first answers."""
        self.committed: list[Callable[[str, int, int], None]] = []
        """Told (consumer, partition, pos) of each commit: a hint for who follows read models."""
        self.closing: list[Callable[[], Awaitable[None]]] = []
        """What its runners have open, to be closed once it has left."""

    # -- being told -----------------------------------------------------------------------------------------------------

    def heard(self, partition: int, last: int) -> None:
        """Something was committed to the log, as far as ``last``. A hint: it may be early, late, or wrong."""
        self._told[partition] = last
        for name in self.consumers:
            following = self._following.get((name, partition))
            if following is not None and last > following.read:
                following.wake.set()

    async def _watch_heads(self) -> None:
        """Hints can be missed, and nobody tells of other nodes' commits where there is no bus."""
        while True:
            await trio.sleep(self.limits.poll_s)
            if not self._following:
                continue
            try:
                heads = await self.log.heads()
            except Unavailable as error:
                self.failed(error)
                continue
            for partition, head in enumerate(heads):
                self.heard(partition, head)

    async def tail(self, partition: int, after: int) -> tuple[list[Event], bool]:
        """Events of a partition past a position, at most `batch_events`, and whether there are more, most likely."""
        limit = self.limits.batch_events
        page = self._pages.get(partition)
        if page is not None and page[0] <= after < (last := page[0] + len(page[1])):  # positions are dense
            # It may be older than what was heard since, and what was heard wakes nobody twice.
            return page[1][after - page[0] :], len(page[1]) >= limit or last < self._told.get(partition, 0)
        async with self._reads:
            events = await self.log.tail(partition, after, limit)
        if sum(len(event.body or b"") for event in events) > PAGE_BYTES_MAX:
            self.distrust(partition)
        elif events:
            self._pages[partition] = after, events
        return events, len(events) >= limit

    def distrust(self, partition: int) -> None:
        """What was read of it may not be what the log has now."""
        self._pages.pop(partition, None)

    # -- sharing --------------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled or `leave` was called; without that, others wait for the leases to run out."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.tasks.run)
            nursery.start_soon(self._watch_heads)
            task_status.started()
            while not self._left:
                await self._beat()
                await trio.sleep(self.limits.beat_s * (0.75 + 0.5 * self.rng.random()))
            nursery.cancel_scope.cancel()

    async def leave(self) -> None:
        """Give everything up at once, so that others go on without a pause. Nothing is taken after that."""
        self._left = True
        for following in self._following.values():
            following.scope.cancel()
        self._following.clear()
        self.tasks.stop()
        async with self._asking:  # a beat under way would take again what is given up
            await self.work.leave(self.holder)

    async def _beat(self) -> None:
        before = {place: following.lease for place, following in self._following.items()}
        try:
            async with self._asking:
                leases = await self._ask()
        except Unavailable as error:
            self.failed(error)
            self._let_go_of_the_expired()
            return
        self.answered()
        if self._left:  # while it was asked
            return
        if self.standing:
            await self._stand()
        now_s = trio.current_time()
        held = {(lease.consumer, lease.partition): lease for lease in leases}
        # A cursor never goes back, unless it is made anew, under a higher fence, or the database went back.
        went_back = any(
            place in held and held[place].fence <= lease.fence and held[place].pos < lease.pos
            for place, lease in before.items()
        )
        if went_back or self.restored() != self._restored:
            self._start_over()
        for place in list(self._following):
            if place not in held or held[place].fence != self._following[place].lease.fence:
                self._let_go(place)
        for place, lease in held.items():
            following = self._following.get(place)
            if following is None:
                self._followed.add(lease.partition)
                following = self._following[place] = Following(self, self.consumers[lease.consumer], lease)
                self._nursery.start_soon(following.follow, self._ending.pop(place, None))
            following.until_s = now_s + self.limits.lease_s
        await self._look_for_retries()

    async def _ask(self) -> list[Lease]:
        if self._left:
            return []
        return await self.work.beat(self.holder, list(self.consumers), int(1000 * self.limits.lease_s))

    async def _look_for_retries(self) -> None:
        """Parked streams that an operator wants tried again, of what is held here."""
        try:
            parked = await self.work.parked(limit=self.limits.parked_max)
        except Unavailable as error:
            self.failed(error)
            return
        again = {(one.consumer, one.partition) for one in parked if one.retry}
        unseen = len(parked) >= self.limits.parked_max  # of all consumers together
        for place, following in self._following.items():
            if place in again or following.too_many or unseen:
                following.look_at_parked = True
                following.wake.set()

    async def _stand(self) -> None:
        try:
            await self.work.add(self.standing)
        except Unavailable as error:
            self.failed(error)
        else:
            self.tasks.heard(self.standing)
            self.standing = []

    def _start_over(self) -> None:
        """The log was restored to an earlier point: what was read, and whose which number was, may be other than it is now."""
        self._restored = self.restored()
        log.error("the log is behind what was read of it: it is read anew from the cursors that it has now")
        for place in list(self._following):
            self._let_go(place)
        self._names.clear()
        self._pages.clear()
        self._told.clear()
        for consumer in self.consumers.values():
            for partition in self._followed:
                consumer.forget(partition)

    def _let_go(self, place: tuple[str, int]) -> None:
        following = self._following.pop(place)
        self._ending[place] = following.ended
        following.scope.cancel()

    def _let_go_of_the_expired(self) -> None:
        """The store cannot be asked, so that others may have these by now. A commit would be refused; reading on is waste."""
        now_s = trio.current_time()
        for place in [place for place, following in self._following.items() if following.until_s < now_s]:
            self._let_go(place)

    def lost(self, following: Following) -> None:
        """It was fenced: the next beat says who has it."""
        self.fenced += 1
        place = (following.lease.consumer, following.lease.partition)
        if self._following.get(place) is following:
            del self._following[place]

    # -- the store's health ---------------------------------------------------------------------------------------------

    def failed(self, error: StoreError) -> None:
        if self.trouble is None:
            log.warning("the store cannot be reached: %s", error)
        self.trouble = str(error)

    def answered(self) -> None:
        if self.trouble is not None:
            log.warning("the store answers again")
            self.trouble = None

    # -- names ----------------------------------------------------------------------------------------------------------

    async def places(self, events: Sequence[Event]) -> dict[int, Place]:
        """The streams of these events."""
        if self.restored() != self._restored:
            self._start_over()
            await trio.lowlevel.checkpoint()  # where whoever asks ends
        # What is remembered may be thrown away by another partition's way while this one waits for names: what was found stays
        # in hand, lest an event be passed over as one of a stream that is not there.
        known = self._names
        sids = dict.fromkeys(event.sid for event in events)
        found = {sid: known[sid] for sid in sids if sid in known}
        unknown = [sid for sid in sids if sid not in found]
        if unknown:
            partition = events[0].partition
            for sid, (tenant, stream) in (await self.log.names(unknown)).items():
                found[sid] = Place(tenant, sid, stream, partition)
            if len(known) + len(unknown) > self.limits.names_kept_max:
                known.clear()
            known.update(found)
        return found

    def lags(self) -> Mapping[tuple[str, int], int]:
        """How many positions each leased cursor was behind when it last read."""
        return {place: following.behind for place, following in self._following.items()}


def facts(worker: Worker) -> dict[str, int | float | str]:
    """For health and people: how many cursors it holds, how many events they were behind, and what ails it."""
    return {
        "worker": "ok" if worker.trouble is None else f"the store cannot be reached: {worker.trouble}",
        "worker_partitions": len(worker.lags()),
        "worker_behind": sum(worker.lags().values()),
    }
