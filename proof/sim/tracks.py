"""The store of tracks under simulation: one `MemoryTracks` for all, and for each host a way there that fails.

`TruthTracks` writes down every sample where it is kept. `NodeTracks` fails as `proof.sim.store.NodeLog` does, and with it: both
are one Postgres.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from core.ports import Unavailable
from core.tracks import Last, Sample
from proof import history
from proof.sim.net import Host
from proof.sim.recorder import run_t
from store.memory_tracks import MemoryTracks

if TYPE_CHECKING:
    from proof.sim.world import World

WRITES: Final = ("keep", "put_fence", "drop_fence")
"""Calls whose effect may be there though no answer came."""


class TruthTracks(MemoryTracks):
    """Tells the recorder what is kept."""

    def __init__(self, world: World) -> None:
        super().__init__(world.log)
        self._recorder = world.recorder
        self._meters = world.meters

    async def keep(self, samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
        await super().keep(samples, lasts)
        t = self._recorder.now()
        for one in samples:
            self._meters.seen("fix quarantined", one.verdict == "quarantined")
            self._meters.seen("fix late", one.reason == "late")
            self._recorder.add(
                history.Sampled(t, one.tenant, one.stream, one.subject, one.seq, run_t(one.at_ms), one.verdict)
            )


class NodeTracks:
    """A host's way to the store; a `core.tracks.Tracks`, whose methods it has by asking the truth's."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._call, method)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        world, host = self._world, self._host
        rng, weather, timeout_s = host.rng, world.weather, world.limits.commit_timeout_s
        world.recorder.trace(b"tracks " + method.encode() + b" " + host.name.encode())
        make = partial(getattr(world.tracks, method), *args, **kwargs)
        if weather.down is not None or (weather.refused and rng.random() < weather.refused):
            await trio.lowlevel.checkpoint()
            raise Unavailable(weather.down or "refused, as the seed has it", rng.choice((0.05, 0.3)))
        there_s, back_s = rng.choice(weather.slow_s), rng.choice(weather.slow_s)
        writes, fate = method in WRITES, rng.random()
        if writes and fate < weather.late:
            world.timers.after(timeout_s * (1.0 + rng.random()), lambda: self._effect(make, "late"))
            await trio.sleep(timeout_s)
            raise Unavailable("no answer in time", 0.05)
        try:
            await trio.sleep(there_s)
        except trio.Cancelled:
            # The node crashed with this on its way: it may have been sent already.
            if writes and host.dead and rng.random() < 0.5:
                self._effect(make, "orphaned")
            raise
        if host.dead:
            await trio.sleep_forever()
        if fate < weather.late + weather.lost_before:
            raise Unavailable("the link broke, as the seed has it", 0.05)
        answer = await make()
        await trio.sleep(back_s)
        if fate < weather.late + weather.lost_before + weather.lost_after:
            if writes:
                world.meters.seen("samples unknown: lost after")
            raise Unavailable("the link broke, as the seed has it", 0.05)
        return answer

    def _effect(self, make: Callable[[], Any], how: str) -> None:
        """Without anybody who waits for it: the store in memory never waits, so one step is all of it."""
        self._world.meters.seen(f"samples {how}")
        coroutine = make()
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("the store in memory waited")
