"""The log as a history tells it: what stands at each place, in each of the log's lives.

A log has one life until it is restored; each restore begins another, which has what the earlier one held up to the
restored heads, and then its own. `Log.views` holds, for each life, all that was ever true in it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from proof.history import Committed, Restored

Place = tuple[str, str]
"""tenant, stream"""
Standing = tuple[int, Committed]
"""With the index of its record."""


class Restores:
    """The restores of a history, in order."""

    def __init__(self) -> None:
        self.all: list[Restored] = []
        self._places: list[int] = []
        self._lives: dict[str, int] = {}

    def add(self, at: int, restored: Restored) -> None:
        self.all.append(restored)
        self._places.append(at)
        self._lives[restored.epoch] = len(self.all)

    def life(self, epoch: str) -> int:
        """Which life an epoch names: 0 for every name that no restore made."""
        return self._lives.get(epoch, 0)

    def life_at(self, at: int) -> int:
        """Which life the log was in at that record."""
        return bisect_left(self._places, at)

    def head(self, life: int, place: Place) -> int:
        """Up to where a life has what the one before it held."""
        return self.all[life - 1].heads.get("/".join(place), 0)

    def born(self, at: int, seq: int, place: Place) -> int:
        """In which life something was committed that the record at that index tells of."""
        return self.older(bisect_left(self._places, at), seq, place)

    def older(self, life: int, seq: int, place: Place) -> int:
        """The life in which something was committed that a life holds: what lies before its restore is older."""
        while life and seq <= self.head(life, place):
            life -= 1
        return life

    def holds(self, life: int, seq: int, born: int, place: Place) -> bool:
        """Whether a life holds what was committed in another, or in itself."""
        return born <= life and all(seq <= self.head(later, place) for later in range(born + 1, life + 1))


class Log:
    """One stream's."""

    def __init__(self, place: Place, commits: Sequence[Standing], restores: Restores, *, live: bool) -> None:
        self.place = place
        self.clashes: list[tuple[int, Committed, Committed]] = []
        """A second event at a place that is taken, and the one that was there."""
        self.twice: list[tuple[int, Committed, Committed]] = []
        """A second place for a key, and the first."""
        self.views: list[dict[int, Standing]] = [{}]
        self.keys = {event.key for _, event in commits}
        self.authors = {event.by for _, event in commits}
        self._restores = restores
        self._live = live
        self._order: list[tuple[list[int], list[int]]] | None = None
        if not restores.all:
            self._fill(self.views[0], {}, commits)
        else:
            self._fill_lives(commits)

    def __len__(self) -> int:
        return sum(map(len, self.views))

    def _fill(self, view: dict[int, Standing], keys: dict[str, Committed], commits: Sequence[Standing]) -> None:
        for standing in commits:
            at, event = standing
            other = view.get(event.seq)
            if other is None:
                view[event.seq] = standing
            elif not same(event, other[1]):
                self.clashes.append((at, event, other[1]))
                continue
            first = keys.setdefault(event.key, event)
            if first.seq != event.seq:
                self.twice.append((at, event, first))

    def _fill_lives(self, commits: Sequence[Standing]) -> None:
        restores, lives = self._restores, len(self._restores.all) + 1
        by_life: list[list[Standing]] = [[] for _ in range(lives)]
        for standing in commits:
            event = standing[1]
            # A log that was read afterwards may name no life: then it is the last one's.
            life = lives - 1 if not self._live and not event.epoch else restores.life(event.epoch)
            by_life[restores.older(life, event.seq, self.place)].append(standing)
        for life in range(lives):
            if life:
                head = restores.head(life, self.place)
                self.views.append({seq: event for seq, event in self.views[life - 1].items() if seq <= head})
            view = self.views[life]
            self._fill(view, {event.key: event for _, event in view.values()}, by_life[life])

    def at(self, seq: int, life: int) -> Standing | None:
        return self.views[life].get(seq)

    def undone(self, seq: int, key: str, life: int) -> bool:
        """Whether this event was in an earlier life, and is not in this one."""
        return any((standing := view.get(seq)) is not None and standing[1].key == key for view in self.views[:life])

    def unknown(self, seq: int, life: int) -> bool:
        """Whether nobody can say what was at a place: it was undone before the log was read."""
        if self._live:
            return False
        return any(seq > self._restores.head(later, self.place) for later in range(life + 1, len(self.views)))

    def head_before(self, at: int, life: int) -> int:
        """The head when the record at that index was written; the last head, where commits were not seen to take place."""
        if self._order is None:
            self._order = [self._heads(view) for view in self.views]
        places, heads = self._order[life]
        if not self._live:
            return heads[-1] if heads else 0
        known = bisect_left(places, at)
        return heads[known - 1] if known else 0

    @staticmethod
    def _heads(view: dict[int, Standing]) -> tuple[list[int], list[int]]:
        places, heads, head = [], [], 0
        for at, seq in sorted((standing[0], seq) for seq, standing in view.items()):
            head = max(head, seq)
            places.append(at)
            heads.append(head)
        return places, heads


def same(event: Committed, other: Committed) -> bool:
    """Whether two records tell of one event; what a producer left out, it does not contradict."""
    return (
        event.key == other.key
        and event.by == other.by
        and (event.what == other.what or not event.what or not other.what)
    )
