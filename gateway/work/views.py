"""The consumer that keeps the read models: folds each stream of flights, and writes the rows that its events changed.

One pass over the log keeps all models (`core.flight.views`). A stream's folded state stays in memory while there is room, so
that an event costs its own fold and no more; where it is not there, it is folded from what commands became in the stream
before. A rebuild runs the very same code under another name, for the models that it is of.

Promises: a row is what the log up to its ``pos`` says, whoever wrote it, and however often. Does not: do anything but rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Final

from core.flight.machine import Recorded
from core.flight.read_models import Source, source_of
from core.flight.views import CONSUMER, MODELS, changes
from core.ports import Log
from core.work import Effects, Row
from gateway.work.folding import fold_pasts
from gateway.work.ports import Place, Seen

SIZE_MAX: Final = 400_000
"""Rows' worth of states kept, some 300 bytes each: 120 MB if ever full. A day of 1,000 flights with cabins is 200,000."""


class _Folded:
    """A stream as far as it was taken; or why it could not be."""

    __slots__ = ("error", "partition", "size", "source", "state")

    def __init__(self, partition: int, source: Source) -> None:
        self.partition = partition
        self.source = source
        self.state: Any = source.view.initial()
        self.size = 0
        self.error: Exception | None = None

    def evolve(self, event: Recorded) -> None:
        self.state = self.source.view.evolve(self.state, event)


class Views:
    """`gateway.work.ports.Consumer`. ``models``: of these only rows are written."""

    def __init__(
        self, log: Log, *, name: str = CONSUMER, models: Collection[str] = MODELS, size_max: int = SIZE_MAX
    ) -> None:
        self.name = name
        self._log = log
        self._models = frozenset(models)
        self._size_max = size_max
        self._size = 0
        self._folded: OrderedDict[int, _Folded] = OrderedDict()
        """By sid, the longest unused first."""
        self.folds = 0
        """Streams that were folded anew, from their past."""

    def __len__(self) -> int:
        return len(self._folded)

    def concerns(self, stream: str) -> bool:
        source = source_of(stream)
        return source is not None and not self._models.isdisjoint(source.view.models)

    # -- memory ---------------------------------------------------------------------------------------------------------

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        # Another partition's turn may let go of what this one has while it waits: looked at until all are there at once.
        while missing := [each for each in places if each[0].sid not in self._folded]:
            await self._fold_all(missing)
        for place, _ in places:
            self._folded.move_to_end(place.sid)
        self._make_room(len(places))

    async def _fold_all(self, missing: Sequence[tuple[Place, int]]) -> None:
        pasts = []
        for place, before in missing:
            source = source_of(place.stream)
            assert source is not None, place.stream
            pasts.append((place, before, _Folded(place.partition, source)))
            self.folds += before != 1
        await fold_pasts(self._log, pasts, self._keep)

    def _keep(self, place: Place, folded: _Folded) -> None:
        self._folded[place.sid] = folded
        self._weigh(folded)

    def _weigh(self, folded: _Folded) -> None:
        size = folded.source.view.size(folded.state)
        self._size += size - folded.size
        folded.size = size

    def _make_room(self, needed: int) -> None:
        """The last ``needed`` are about to be taken, and stay."""
        while self._size > self._size_max and len(self._folded) > needed:
            _, folded = self._folded.popitem(last=False)
            self._size -= folded.size

    def forget(self, partition: int, sid: int | None = None) -> None:
        gone = [sid] if sid is not None else [each for each, one in self._folded.items() if one.partition == partition]
        for each in gone:
            folded = self._folded.pop(each, None)
            if folded is not None:
                self._size -= folded.size

    # -- events ---------------------------------------------------------------------------------------------------------

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        folded = self._folded[place.sid]
        if folded.error is not None:
            raise folded.error
        view, name = folded.source
        folded.state, changed = changes(view, name, folded.state, [seen.event for seen in events], self._models)
        effects = Effects()
        if not changed:
            return effects
        self._weigh(folded)
        for model, key, doc, at in changed:
            pos, event = events[at]
            effects.rows.append(Row(model, place.tenant, key, place.partition, pos, event.seq, event.at_ms, doc))
        return effects
