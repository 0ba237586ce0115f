"""One consumer's way through one partition, for as long as a worker holds the lease (`gateway.work.worker` has the promises).

It reads on from its cursor, has the consumer turn events into effects, and commits these with the cursor's move. Whatever goes
wrong before the commit is answered by the store has not come to pass: the consumer forgets, and it is read again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio

from core.commands import recorded
from core.model import Event
from core.ports import StoreError
from core.work import Effects, Fenced, Held, Lease, Parked
from gateway.work.ports import Consumer, Place, Seen
from store.work_input import storable

if TYPE_CHECKING:
    from gateway.work.worker import Worker

log = logging.getLogger("readback.work")

HELD_S: Final = 0.02
CURSOR_S: Final = 1.0
"""How far a cursor may lag behind what was taken without effect: read again after a crash, and seen as lag."""
IDLE_S: Final = 5.0
"""How long a partition rests that nobody told of, should the look at the heads be missed."""
REASON_MAX: Final = 300
TAKEN_AT_ONCE: Final = 128
"""Events taken in one turn of the loop, in which nothing else is served; more only where they are of one stream."""


class Following:
    """One consumer's way through one partition, for as long as the lease is held."""

    def __init__(self, worker: Worker, consumer: Consumer, lease: Lease) -> None:
        self._worker = worker
        self._consumer = consumer
        self.lease = lease
        self.read = lease.pos
        """As far as events were taken; beyond the lease's position they led to nothing."""
        self._moved_at_s = 0.0
        """When the first of those was read."""
        self.until_s = 0.0
        self.wake = trio.Event()
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.behind = 0
        self.look_at_parked = True
        self._parked: dict[int, Parked] = {}
        self.too_many = False
        """So many streams are parked that not all are known here: nothing is taken, lest one of those were."""
        self._failures = 0

    async def follow(self, before: trio.Event | None) -> None:
        """``before``: once that is set, nobody else here takes events of this partition for this consumer."""
        try:
            await self.run(before)
        finally:
            self.ended.set()

    async def run(self, before: trio.Event | None) -> None:
        with self.scope:
            if before is not None:
                await before.wait()
            self._consumer.forget(self.lease.partition)
            while True:
                try:
                    more = await self._step()
                except Fenced:
                    self._consumer.forget(self.lease.partition)
                    self._worker.distrust(self.lease.partition)
                    self._worker.lost(self)
                    return
                except Held:
                    self._consumer.forget(self.lease.partition)
                    self.read = self.lease.pos
                    await trio.sleep(HELD_S)
                except StoreError as error:
                    # It may have been committed, and then the cursor is elsewhere: the next commit is fenced, and the
                    # lease is looked up anew.
                    self.read = self.lease.pos
                    self.look_at_parked = True  # a stream may be parked or not, and it said nothing here
                    self._worker.distrust(self.lease.partition)
                    self._consumer.forget(self.lease.partition)
                    self._worker.failed(error)
                    await trio.sleep(self._backoff_s())
                else:
                    self._failures = 0
                    self._worker.answered()
                    if not more:
                        await self._wait()

    def _backoff_s(self) -> float:
        limits = self._worker.limits
        self._failures += 1
        wait_s = min(limits.retry_first_s * 2.0 ** min(self._failures - 1, 20), limits.lease_s)
        return wait_s * (0.5 + self._worker.rng.random())

    async def _wait(self) -> None:
        with trio.move_on_after(CURSOR_S if self.read > self.lease.pos else IDLE_S):
            await self.wake.wait()

    async def _step(self) -> bool:
        """Read on, take, commit. Whether there may be more at once."""
        self.wake = trio.Event()
        worker, lease = self._worker, self.lease
        if self.look_at_parked:
            self.look_at_parked = False
            await self._look_at_parked()
            lease = self.lease
        if self.too_many:
            return False
        limit = worker.limits.batch_events
        events, more = await worker.tail(lease.partition, self.read)
        self.behind = len(events)
        effects = await self._take(events) if events else Effects()
        now_s = trio.current_time()
        if self.read == lease.pos:
            self._moved_at_s = now_s
        if events:
            self.read = events[-1].pos
        rests = self.read > lease.pos and (now_s >= self._moved_at_s + CURSOR_S or self.read - lease.pos >= limit)
        if effects or rests:
            self.lease = await worker.work.commit(lease, self.read, effects)
            worker.commits += 1
            self._done(effects)
            for told in worker.committed:
                told(lease.consumer, lease.partition, self.lease.pos)
        return more

    def _done(self, effects: Effects) -> None:
        for parked in effects.parks:
            self._parked[parked.sid] = parked
            self.look_at_parked = True  # perhaps that was one too many
        for sid in effects.unparks:
            self._parked.pop(sid, None)
        if effects.tasks:
            self._worker.tasks.heard(effects.tasks)

    async def _take(self, events: Sequence[Event]) -> Effects:
        worker, consumer = self._worker, self._consumer
        places = await worker.places(events)
        streams: dict[int, list[Seen]] = {}
        for event in events:
            place = places.get(event.sid)
            if place is None or event.sid in self._parked or not consumer.concerns(place.stream):
                worker.skipped += 1
                continue
            worker.events += 1
            streams.setdefault(event.sid, []).append(Seen(event.pos, recorded(event)))
        effects = Effects()
        for n, slice in enumerate(_slices(streams)):
            if n:
                await trio.lowlevel.checkpoint()
            await consumer.prepare([(places[sid], seen[0].event.seq) for sid, seen in slice])
            for sid, seen in slice:
                try:
                    taken = consumer.take(places[sid], seen)
                except Exception as error:
                    taken = await self._take_singly(places[sid], seen, error)
                effects.merge(taken)
        return effects

    async def _take_singly(self, place: Place, seen: Sequence[Seen], error: Exception, attempts: int = 1) -> Effects:
        """All up to the event that cannot be taken; the stream is parked there."""
        consumer = self._consumer
        consumer.forget(place.partition, place.sid)
        await consumer.prepare([(place, seen[0].event.seq)])
        effects = Effects()
        for one in seen:
            try:
                effects.merge(consumer.take(place, [one]))
            except Exception as why:
                log.exception(
                    "%s parks %s of tenant %s at %d", consumer.name, place.stream, place.tenant, one.event.seq
                )
                consumer.forget(place.partition, place.sid)
                self._worker.parked += 1
                effects.parks.append(self._park(place, one, why, attempts))
                return effects
        log.error("%s took %s event by event, but not at once: %r", consumer.name, place.stream, error)
        return effects

    def _park(self, place: Place, at: Seen, why: Exception, attempts: int) -> Parked:
        return Parked(
            consumer=self._consumer.name,
            tenant=place.tenant,
            sid=place.sid,
            stream=place.stream,
            partition=place.partition,
            seq=at.event.seq,
            pos=at.pos,
            reason=storable(f"{type(why).__name__}: {why}"[:REASON_MAX]),
            attempts=attempts,
            since_ms=int(1000 * self._worker.wall()),
            retry=False,
        )

    async def _look_at_parked(self) -> None:
        """Whom to wait with; those that an operator wants tried again are."""
        worker, partition = self._worker, self.lease.partition
        parked_max = worker.limits.parked_max
        parked = await worker.work.parked(self._consumer.name, limit=parked_max)
        if len(parked) >= parked_max and not self.too_many:
            log.error("%s stops: %d streams are parked; see `readback dlq list`", self._consumer.name, len(parked))
        self.too_many = len(parked) >= parked_max
        self._parked = {one.sid: one for one in parked if one.partition == partition}
        for one in list(self._parked.values()):
            if one.retry:
                await self._retry(one)

    async def _retry(self, parked: Parked) -> None:
        """Take a parked stream's events in their order up to where the cursor is; one that fails again parks it again."""
        worker, consumer = self._worker, self._consumer
        place = Place(parked.tenant, parked.sid, parked.stream, parked.partition)
        after = parked.seq - 1
        while True:
            events = await worker.log.read(place.tenant, place.sid, after, worker.limits.batch_events)
            due = [Seen(event.pos, recorded(event)) for event in events if event.pos <= self.read]
            effects = Effects()
            if due:
                consumer.forget(place.partition, place.sid)
                await consumer.prepare([(place, due[0].event.seq)])
                effects = await self._take_again(place, due, parked.attempts)
                after = due[-1].event.seq
            again = [one for one in effects.parks if one.sid == place.sid]
            whole = len(due) < len(events) or len(events) < worker.limits.batch_events
            if not again and whole:
                effects.unparks.append(place.sid)
            elif not again:
                # Some are taken: from here on, should this worker end now.
                effects.parks.append(parked._replace(seq=after + 1, pos=due[-1].pos))
            self.lease = await worker.work.commit(self.lease, self.read, effects)
            self._done(effects)
            if again or whole:
                return

    async def _take_again(self, place: Place, seen: Sequence[Seen], attempts: int) -> Effects:
        try:
            return self._consumer.take(place, seen)
        except Exception as error:
            return await self._take_singly(place, seen, error, attempts + 1)


def _slices(streams: Mapping[int, list[Seen]]) -> Iterator[list[tuple[int, list[Seen]]]]:
    """The streams in their order, as many at once as have `TAKEN_AT_ONCE` events, or one that has more."""
    slice: list[tuple[int, list[Seen]]] = []
    count = 0
    for sid, seen in streams.items():
        if slice and count + len(seen) > TAKEN_AT_ONCE:
            yield slice
            slice, count = [], 0
        slice.append((sid, seen))
        count += len(seen)
    if slice:
        yield slice
