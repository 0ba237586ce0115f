"""Samples on their way into the store: gathered while the commit before them is under way, in one commit for all.

For: `gateway.live.positions`, which answers a device when its samples are kept. Promises: who waits is told once, when the
commit with its samples ended, one way or the other; samples that could not be kept are kept when the store is back, before any
others (a node that ends meanwhile loses them: nobody was told that they are kept). Does not: gather for its own sake: with
nothing under way a commit begins at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from core.ports import Unavailable
from core.tracks import KEEP_MAX, Last, Sample, Tracks

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.positions")

RETRY_S: Final = 0.25
LOOK_S: Final = 0.02

Told = Callable[[Exception | None], None]
"""Called when samples are kept, or with why they are not."""


class _Commit:
    """What goes into the store together."""

    __slots__ = ("lasts", "samples", "told")

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.lasts: dict[tuple[str, str], Last] = {}
        self.told: list[Told] = []


class Keeper:
    def __init__(self, node: Node, tracks: Tracks) -> None:
        self._node = node
        self._tracks = tracks
        self._gathering = _Commit()
        self._under_way = 0
        self._busy = False
        """Something is under way, samples or where somebody was last."""
        self._wake = trio.Event()
        self.trouble: str | None = None
        """Why samples cannot be kept now; ``None`` while all is well."""
        self.commits = 0
        self.kept = 0

    @property
    def waiting(self) -> int:
        """Samples not kept yet."""
        return len(self._gathering.samples) + self._under_way

    def put(self, samples: Sequence[Sample], lasts: Iterable[Last], told: Told) -> None:
        commit = self._gathering
        commit.samples += samples
        for last in lasts:
            commit.lasts[last.tenant, last.subject] = last
        commit.told.append(told)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            commit, self._gathering = self._gathering, _Commit()
            self._under_way, self._busy = len(commit.samples), True
            await self._keep(commit)
            self._under_way, self._busy = 0, False

    async def _keep(self, commit: _Commit) -> None:
        """Until it is in the store, or never can be. What is too much for one commit goes in several, the lasts after all of
        the samples: what they remember as taken is kept by then."""
        most = min(max(self._node.limits.samples_commit_max, 1), KEEP_MAX)
        while True:
            try:
                while len(commit.samples) > most:
                    await self._tracks.keep(commit.samples[:most], [])
                    self._kept(most)
                    del commit.samples[:most]
                while commit.samples or commit.lasts:
                    lasts = dict(islice(commit.lasts.items(), most))
                    await self._tracks.keep(commit.samples, list(lasts.values()))
                    self._kept(len(commit.samples))
                    commit.samples.clear()
                    for each in lasts:
                        del commit.lasts[each]
            except Unavailable as error:
                if self.trouble is None:
                    log.warning("positions cannot be kept: %s", error)
                self.trouble = str(error)
                self._tell(commit, error)
                await trio.sleep(max(RETRY_S, min(error.retry_after_s or 0.0, 1.0)))
            except Exception as error:  # what no store takes: its senders are told, and others go on
                log.exception("%d positions can never be kept", len(commit.samples))
                self._tell(commit, error)
                return
            else:
                if self.trouble is not None:
                    log.warning("positions are kept again")
                    self.trouble = None
                self._tell(commit, None)
                return

    def _kept(self, count: int) -> None:
        self.commits += 1
        self.kept += count
        self._under_way -= count

    def _tell(self, commit: _Commit, error: Exception | None) -> None:
        told, commit.told = commit.told, []
        for each in told:
            each(error)
        if told:
            self._node.settle()

    async def kept_all(self) -> None:
        """Until nothing waits."""
        while self._busy or self._gathering.told:  # noqa: ASYNC110  # once in a life
            await trio.sleep(LOOK_S)
