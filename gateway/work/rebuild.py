"""Making read models anew from the log, beside the live ones, and putting them in their place in one step.

A rebuild is the consumer of read models once more (`gateway.work.views`), under a name of its own and with nothing beside it:
no tasks are run, nothing is sent, so that the past has no effect but rows. It writes into a generation that nobody reads. When
it has nearly caught up, the live consumer's cursors are held still for a moment; it takes what is left up to exactly there, and
the generations change places. Who follows a board is told what differs.

A stream that the live consumer waits with (parked) is taken up to the event it is parked at, as the live one was. Any other
stream that cannot be taken ends the rebuild, and nothing is changed.

Promises: at no time does a reader see half of it; workers go on meanwhile, but for the moment of the change; one that is ended
in any way leaves the live model as it was. One rebuild of a model at a time: a second ends the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from core.commands import recorded
from core.flight.views import CONSUMER, MODELS
from core.model import Event
from core.ports import Log, StoreError
from core.work import Effects, Fenced, Lease, Row, Work
from gateway.work.ports import Place, Seen
from gateway.work.views import Views

BATCH_EVENTS: Final = 2_000
LEASE_S: Final = 30.0
NEAR_EVENTS: Final = 2_000
"""So few events are taken while the live consumer is held: some 100 ms."""
HOLD_S: Final = 10.0
"""How long it is held at most, should this process die in that moment."""
TRIES: Final = 20
"""How often the change is tried: another hold, or a lease that ran out, can come between."""
FORGET_S: Final = 5.0
"""For taking back what was begun, when it is ended."""
PARKED_MAX: Final = 10_000
SIDE_BY_SIDE: Final = 4
"""Partitions taken at once: the store has as many links to spare."""


class RebuildError(Exception):
    """It cannot be made; the message says why and what to do. The live models are as they were."""


@dataclass(slots=True)
class Progress:
    """``done`` of ``total`` positions of the log were taken."""

    done: int = 0
    total: int = 0
    events: int = 0
    rows: int = 0
    held_s: float = 0.0
    """How long the live consumer was held."""


class Rebuild:
    """Of some models at once. ``holder`` must be new for each."""

    def __init__(
        self,
        log: Log,
        work: Work,
        models: Sequence[str],
        *,
        holder: str,
        tell: Callable[[Progress], None] = lambda progress: None,
        batch_events: int = BATCH_EVENTS,
    ) -> None:
        unknown = [model for model in models if model not in MODELS]
        if unknown or not models:
            raise RebuildError(f"there is no read model {', '.join(unknown)!r}; there are {', '.join(MODELS)}")
        self._log = log
        self._work = work
        self._models = list(dict.fromkeys(models))
        # With the holder in it, so that who was ended by another forgets its own and no more.
        self.consumer = f"rebuild.{self._models[0] if len(self._models) == 1 else 'all'}.{holder}"
        self._holder = holder
        self._tell = tell
        self._batch = batch_events
        self._views = Views(log, name=self.consumer, models=self._models)
        self._leases: dict[int, Lease] = {}
        self._names: dict[int, tuple[str, str]] = {}
        self._parked: dict[int, int] = {}
        """Seq of the event that the live consumer waits at, by sid; events from there on are left out."""
        self.progress = Progress()

    async def run(self) -> Progress:
        """Until the new generations are live. Raises `RebuildError`, `StoreError`."""
        try:
            await self._build()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            with trio.move_on_after(FORGET_S, shield=True):
                await self._forget()
        return self.progress

    async def _forget(self) -> None:
        """What was not finished is no more."""
        try:
            await self._work.forget(self.consumer)
            await self._work.leave(self._holder)
        except StoreError:
            pass  # it holds nothing up, and the next rebuild of the model ends it

    async def _build(self) -> None:
        if not await self._work.cursors(CONSUMER):
            raise RebuildError("no worker ever kept read models here: start one, and they are made from the beginning")
        generations = {model: await self._work.begin_rebuild(model, self.consumer) for model in self._models}
        await self._lease()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_leases)
            await self._look_at_parked()
            await self._catch_up()
            for _ in range(TRIES):
                if await self._change(generations):
                    nursery.cancel_scope.cancel()
                    return
            raise RebuildError(f"the cursors of {CONSUMER} did not stand still, {TRIES} times: try again")

    # -- leases -----------------------------------------------------------------------------------------------------------

    async def _lease(self) -> None:
        for lease in await self._work.beat(self._holder, [self.consumer], int(1000 * LEASE_S)):
            known = self._leases.get(lease.partition)
            if known is not None and known.fence != lease.fence:
                raise RebuildError("somebody else rebuilds this read model")
            self._leases.setdefault(lease.partition, lease)

    async def _keep_leases(self) -> None:
        while True:
            await trio.sleep(LEASE_S / 4)
            await self._lease()

    # -- taking events ----------------------------------------------------------------------------------------------------

    async def _targets(self) -> dict[int, int]:
        return {cursor.partition: cursor.pos for cursor in await self._work.cursors(CONSUMER)}

    async def _catch_up(self) -> None:
        """Until little is left; the live consumer goes on meanwhile."""
        while True:
            targets = await self._targets()
            self.progress.total = sum(targets.values())
            if sum(targets.values()) - self.progress.done <= NEAR_EVENTS:
                return
            await self._take_all(targets)

    async def _take_all(self, targets: dict[int, int]) -> None:
        room = trio.CapacityLimiter(SIDE_BY_SIDE)
        async with trio.open_nursery() as nursery:
            for partition, target in targets.items():
                nursery.start_soon(self._take_partition, partition, target, room)

    async def _take_partition(self, partition: int, target: int, room: trio.CapacityLimiter) -> None:
        if partition not in self._leases:
            raise RebuildError("somebody else rebuilds this read model")
        async with room:
            while (lease := self._leases[partition]).pos < target:
                # Positions are dense: so many events lie exactly at the target or before it.
                events = await self._log.tail(partition, lease.pos, min(self._batch, target - lease.pos))
                effects = await self._take(partition, events)
                await self._commit(lease, events[-1].pos, effects)
                self.progress.events += len(events)
                self.progress.done += len(events)
                self._tell(self.progress)

    async def _commit(self, lease: Lease, pos: int, effects: Effects) -> None:
        try:
            self._leases[lease.partition] = await self._work.commit(lease, pos, effects)
        except Fenced:
            raise RebuildError("somebody else rebuilds this read model, or this was held up for too long") from None
        self.progress.rows += len(effects.rows)

    async def _take(self, partition: int, events: Sequence[Event]) -> Effects:
        views, places = self._views, await self._places(partition, events)
        streams: dict[Place, list[Seen]] = {}
        wanted = {sid: place for sid, place in places.items() if views.concerns(place.stream)}
        for event in events:
            place = wanted.get(event.sid)
            if place is None:
                continue
            parked = self._parked.get(event.sid)
            if parked is None or event.seq < parked:
                streams.setdefault(place, []).append(Seen(event.pos, recorded(event)))
        await views.prepare([(place, seen[0].event.seq) for place, seen in streams.items()])
        effects = Effects()
        for place, seen in streams.items():
            try:
                effects.rows += views.take(place, seen).rows
            except Exception as error:
                effects.rows += await self._take_again(place, seen, error)
        return effects

    async def _take_again(self, place: Place, seen: Sequence[Seen], error: Exception) -> list[Row]:
        """Perhaps the live consumer has parked it meanwhile: then up to there, as it did."""
        for parked in await self._work.parked(CONSUMER, tenant=place.tenant, limit=PARKED_MAX):
            if parked.sid == place.sid:
                self._parked[place.sid] = parked.seq
                good = [one for one in seen if one.event.seq < parked.seq]
                self._views.forget(place.partition, place.sid)
                if not good:
                    return []
                await self._views.prepare([(place, good[0].event.seq)])
                return self._views.take(place, good).rows
        raise RebuildError(
            f"{place.stream} of tenant {place.tenant} cannot be taken, between seq {seen[0].event.seq} and "
            f"{seen[-1].event.seq}: {type(error).__name__}: {error}. Nothing was changed"
        ) from error

    async def _places(self, partition: int, events: Sequence[Event]) -> dict[int, Place]:
        names = self._names
        unknown = list(dict.fromkeys(event.sid for event in events if event.sid not in names))
        if unknown:
            names.update(await self._log.names(unknown))
        sids = dict.fromkeys(event.sid for event in events)
        return {sid: Place(names[sid][0], sid, names[sid][1], partition) for sid in sids if sid in names}

    # -- streams that the live consumer waits with ------------------------------------------------------------------------

    async def _look_at_parked(self) -> None:
        parked = await self._work.parked(CONSUMER, limit=PARKED_MAX)
        self._parked = {one.sid: one.seq for one in parked}

    async def _take_unparked(self) -> None:
        """Streams that were parked and are not any more, or elsewhere, are taken up to where the live consumer took them."""
        before = self._parked
        await self._look_at_parked()
        for sid, seq in before.items():
            until = self._parked.get(sid)
            if until == seq:
                continue
            tenant, stream = self._names.get(sid) or (await self._log.names([sid]))[sid]
            await self._take_stream(tenant, sid, stream, seq, until)

    async def _take_stream(self, tenant: str, sid: int, stream: str, seq: int, until: int | None) -> None:
        while True:
            events = await self._log.read(tenant, sid, seq - 1, self._batch)
            if not events:
                return
            partition = events[0].partition
            lease = self._leases[partition]
            due = [event for event in events if event.pos <= lease.pos and (until is None or event.seq < until)]
            if due:
                self._views.forget(partition, sid)
                await self._commit(lease, lease.pos, await self._take(partition, due))
            if len(due) < len(events):
                return
            seq = events[-1].seq + 1

    # -- the change -------------------------------------------------------------------------------------------------------

    async def _change(self, generations: dict[str, int]) -> bool:
        """Hold the live consumer, take what is left, and put the new generations in place. False: it moved all the same."""
        began_s = trio.current_time()
        await self._work.hold(CONSUMER, int(1000 * HOLD_S))
        try:
            await self._take_all(await self._targets())
            await self._take_unparked()
            for model, generation in list(generations.items()):
                if not await self._work.swap(model, generation, self.consumer, CONSUMER):
                    return False
                del generations[model]
            return True
        finally:
            with trio.move_on_after(FORGET_S, shield=True):
                await self._work.hold(CONSUMER, 0)
            self.progress.held_s += trio.current_time() - began_s


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong, of several tasks that ended for it."""
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
        else:
            leaves.append(one)
    return next((leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)), group)
