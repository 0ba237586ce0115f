"""The workers' store under simulation: one `store.memory_work.MemoryWork` for all, and for each host a way there that fails.

`TruthWork` writes down every lease that changes hands and every commit where it takes place. `NodeWork` fails as
`proof.sim.store.NodeLog` does: slow, refused, lost before its effect or after it, or with its effect long after its worker was
told that there is no answer; and a host's beats can be lost while all else arrives.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from core.ports import Unavailable
from core.work import Effects, Fenced, Held, Lease
from proof import history
from proof.sim.net import Host
from proof.sim.store import at_once
from store.memory_work import MemoryWork

if TYPE_CHECKING:
    from proof.sim.world import World

WRITES: Final = (
    "beat", "leave", "commit", "claim", "settle", "pulse", "add", "tell", "hold", "begin_rebuild", "swap", "forget",
)  # fmt: skip
"""Calls whose effect may be there though no answer came."""
KEPT_OUTSIDE: Final = ("_log", "_now_ms", "_recorder", "life", "swapped")


class TruthWork(MemoryWork):
    """Tells the recorder what is leased and committed. ``restore`` puts it back to a copy made earlier."""

    def __init__(self, world: World) -> None:
        super().__init__(world.log, world.log._now_ms)
        self._recorder = world.recorder
        self.swapped: Callable[[str], object] = lambda model: None
        """Called where a model that was rebuilt has taken the place of the live one."""
        self.life = 0
        """How often it was put back to a backup: what was sent to it before that is not for it."""

    def _share(self, holder: str, consumer: str, ttl_ms: int, now_ms: int) -> list[Lease]:
        before = [(cursor.holder, cursor.until_ms, cursor.fence) for cursor in self._cursors.get(consumer, ())]
        leases = super()._share(holder, consumer, ttl_ms, now_ms)
        t = self._recorder.now()
        for lease in leases:
            other, until_ms, fence = before[lease.partition] if before else ("", 0, 0)
            if lease.fence != fence:
                until_t = t + (until_ms - now_ms) / 1000
                self._recorder.add(
                    history.Leased(t, consumer, lease.partition, holder, lease.fence, other, until_t if other else 0.0)
                )
        return leases

    async def commit(self, lease: Lease, to_pos: int, effects: Effects) -> Lease:
        after = await super().commit(lease, to_pos, effects)
        t = self._recorder.now()
        self._recorder.add(history.Worked(t, lease.consumer, lease.partition, lease.fence, lease.pos, to_pos))
        return after

    async def swap(self, model: str, generation: int, consumer: str, live_consumer: str) -> bool:
        swapped = await super().swap(model, generation, consumer, live_consumer)
        if swapped:
            self.swapped(model)
        return swapped

    def backup(self) -> dict[str, Any]:
        return copy.deepcopy({name: value for name, value in vars(self).items() if name not in KEPT_OUTSIDE})

    def restore(self, backup: dict[str, Any]) -> None:
        """Nobody may be using it meanwhile."""
        vars(self).update(copy.deepcopy(backup))
        self.life += 1


class NodeWork:
    """A host's way to the store; a `core.work.Work`, whose methods it has by asking the truth's."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._call, method)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        world, host = self._world, self._host
        rng, weather, timeout_s = host.rng, world.work_weather, world.limits.commit_timeout_s
        world.recorder.trace(b"work " + method.encode() + b" " + host.name.encode())
        make, life = partial(getattr(world.work, method), *args, **kwargs), world.work.life
        down = world.weather.down or weather.down
        if down is not None or (weather.refused and rng.random() < weather.refused):
            await trio.lowlevel.checkpoint()
            raise Unavailable(down or "refused, as the seed has it", rng.choice((0.05, 0.3)))
        if method == "beat" and host.name in world.unheard:
            world.meters.seen("beat lost")
            await trio.sleep(timeout_s)
            raise Unavailable("no answer in time", 0.05)
        there_s, back_s = rng.choice(weather.slow_s), rng.choice(weather.slow_s)
        writes, fate = method in WRITES, rng.random()
        if writes and fate < weather.late:
            world.timers.after(timeout_s * (0.5 + rng.random()), lambda: self._effect(life, make, "late"))
            await trio.sleep(timeout_s)
            raise Unavailable("no answer in time", 0.05)
        try:
            await trio.sleep(there_s)
        except trio.Cancelled:
            # The host crashed, or the worker let go, with this on its way: it may have been sent already.
            if writes and rng.random() < 0.5:
                self._effect(life, make, "orphaned")
            raise
        if host.dead:
            await trio.sleep_forever()
        if fate < weather.late + weather.lost_before:
            raise Unavailable("the link broke, as the seed has it", 0.05)
        answer = await make()
        await trio.sleep(back_s)
        if fate < weather.late + weather.lost_before + weather.lost_after:
            if writes:
                world.meters.seen("effects unknown: lost after")
            raise Unavailable("the link broke, as the seed has it", 0.05)
        return answer

    def _effect(self, life: int, make: Callable[[], Any], how: str) -> None:
        if life != self._world.work.life:
            return
        self._world.meters.seen(f"effects {how}")
        try:
            at_once(make())
        except (Fenced, Held):  # it changed nothing, and nobody is there to be told
            self._world.meters.seen("late effects fenced")
