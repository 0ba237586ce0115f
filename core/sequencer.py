"""Puts batches in order before the hub takes them: what comes early waits a moment for what lies before it.

Several nodes commit to one partition, and each learns of its own commits at once and of the others' by the bus a little
later. Without this, every such moment would be a hole to be read from the log. A batch that the hub refuses because
positions are missing before it is parked; when they come, it follows. What has been missing for longer than
``gap_wait_s`` is `overdue`, and the caller reads it from the log.

Pure: the caller brings time. Bounded: beyond ``parked_max`` batches of a partition the newest is let go, since whoever
reads the hole reads on to the end of the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.hub import Hub
from core.stream import Stream

Events = Sequence[tuple[Stream, int, bytes]]


class Sequencer:
    def __init__(self, hub: Hub, parked_max: int) -> None:
        self._hub = hub
        self._parked_max = parked_max
        self._parked: dict[int, dict[int, tuple[int, Events, float]]] = {}
        """Partition -> first position -> (last position, events, parked since)."""
        self.parked = 0
        """Batches that had to wait, ever."""

    def take(self, partition: int, first: int, last: int, events: Events, now_s: float) -> bool:
        """Give the hub the batch, and what was parked behind it; False where it has to wait for missing positions."""
        if not self._hub.ingest(partition, first, last, events):
            waiting = self._parked.setdefault(partition, {})
            if len(waiting) < self._parked_max:
                waiting[first] = (last, events, now_s)
            self.parked += 1
            return False
        if partition in self._parked:
            self.settle(partition)
        return True

    def settle(self, partition: int) -> None:
        """The hub has moved on in this partition: give it what may follow now, forget what it has got meanwhile."""
        waiting = self._parked.get(partition)
        if waiting is None:
            return
        for first in sorted(waiting):
            last, events, _ = waiting[first]
            if first > self._hub.pos[partition] + 1:
                break
            del waiting[first]
            self._hub.ingest(partition, first, last, self._as_held(events))
        if not waiting:
            del self._parked[partition]

    def _as_held(self, events: Events) -> Events:
        """A stream that was let go while its batch waited is another object if it came back: that one has the followers."""
        hub, held = self._hub, []
        for parked, seq, frame in events:
            stream = hub.by_sid.get(parked.sid)
            if stream is None:
                hub.note_unknown(parked.sid, seq)
            else:
                held.append((stream, seq, frame))
        return held

    def overdue(self, now_s: float, gap_wait_s: float) -> list[int]:
        """Partitions in which something has been missing for ``gap_wait_s``."""
        return [
            partition
            for partition, waiting in self._parked.items()
            if any(now_s - since_s >= gap_wait_s for _, _, since_s in waiting.values())
        ]

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._parked)

    def forget(self) -> None:
        self._parked.clear()
