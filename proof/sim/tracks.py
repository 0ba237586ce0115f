"""The store of tracks under simulation: one `MemoryTracks` for all, and for each host a way there that fails.

`TruthTracks` writes down every sample where it is kept. The way of `NodeTracks` is as bad as that of `proof.sim.store.NodeLog`,
and in the same weather: both are one Postgres.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from core.tracks import Last, Sample
from proof import history
from proof.sim.meters import Meters
from proof.sim.recorder import Recorder, run_t
from proof.sim.store import TruthLog, Way
from store.memory_tracks import MemoryTracks

WRITES: Final = ("keep", "put_fence", "drop_fence")
"""Calls whose effect may be there though no answer came."""


class TruthTracks(MemoryTracks):
    """Tells the recorder what is kept."""

    def __init__(self, log: TruthLog, recorder: Recorder, meters: Meters) -> None:
        super().__init__(log)
        self._recorder = recorder
        self._meters = meters

    async def keep(self, samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
        await super().keep(samples, lasts)
        t = self._recorder.now()
        for one in samples:
            self._meters.seen("fix quarantined", one.verdict == "quarantined")
            self._meters.seen("fix late", one.reason == "late")
            self._recorder.add(
                history.Sampled(t, one.tenant, one.stream, one.subject, one.seq, run_t(one.at_ms), one.verdict)
            )

    def samples_of(self, tenant: str, stream: str) -> list[Sample]:
        """As whoever reads gets them: the first of several that are the same."""
        track = self._tracks.get((tenant, stream))
        return [] if track is None else [track.samples[place][0] for place in track.places]


class NodeTracks:
    """A host's way to the store; a `core.tracks.Tracks`, whose methods it has by asking the truth's."""

    def __init__(self, truth: TruthTracks, way: Way) -> None:
        self._truth = truth
        self._way = way

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._call, method)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        make = partial(getattr(self._truth, method), *args, **kwargs)
        return await self._way.call(method, make, writes=method in WRITES)
