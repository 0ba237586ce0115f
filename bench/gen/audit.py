"""The audit of a crowd: what was acknowledged, held against what every follower got.

A follower's cursors must rise by one, whatever happens to its connections: a seq below the next is a duplicate, one
above leaves a gap. Behind every seq there is one key, the same for all who see it and for the sender who was told of it;
no key has two seqs. At the end no follower may be behind a seq that was acknowledged to anybody.

Pure: takes bytes, numbers and moments; opens nothing, and has no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Cursors = dict[bytes, int]
"""A follower's streams, and the last seq that it holds of each."""


class Audit:
    """One for a whole crowd. Streams are known from the first that is told of them."""

    def __init__(self) -> None:
        self.keys: dict[bytes, dict[int, bytes]] = {}
        """By stream and seq: the key that its first receiver saw there."""
        self.acked: dict[bytes, dict[int, int]] = {}
        """By stream and seq: the moment at which its sender was told."""
        self.places: dict[bytes, tuple[bytes, int]] = {}
        """By key: where its sender was told that it is."""
        self.told: dict[tuple[bytes, int], bytes] = {}
        self.delivered = 0
        self.duplicates = 0
        self.skipped = 0
        """Events that a follower never got though later ones of the stream came."""
        self.conflicts = 0
        """Two keys at one seq, or one key at two seqs."""

    def took(self, cursors: Cursors, stream: bytes, seq: int, key: bytes) -> bool:
        """A follower got an event. Whether it is new to it."""
        cursor = cursors.get(stream, 0)
        if seq <= cursor:
            self.duplicates += 1
            return False
        self.skipped += seq - cursor - 1
        cursors[stream] = seq
        self.delivered += 1
        keys = self.keys.get(stream)
        if keys is None:
            keys = self.keys[stream] = {}
        if keys.setdefault(seq, key) != key:
            self.conflicts += 1
        return True

    def acknowledged(self, stream: bytes, seq: int, key: bytes, at_ns: int) -> None:
        """A sender was told where its event is; again for one that it had to repeat."""
        if (
            self.places.setdefault(key, (stream, seq)) != (stream, seq)
            or self.told.setdefault((stream, seq), key) != key
        ):
            self.conflicts += 1
            return
        self.acked.setdefault(stream, {}).setdefault(seq, at_ns)

    def since_acknowledged(self, stream: bytes, seq: int, now_ns: int) -> int:
        """How long ago the event was acknowledged; 0 where its sender does not know yet, or never will."""
        at = self.acked.get(stream, {}).get(seq)
        return 0 if at is None else max(0, now_ns - at)

    def behind(self, followers: Iterable[Mapping[bytes, int]]) -> int:
        """Acknowledged events past the cursors, added up over all followers."""
        seqs = {stream: sorted(acked) for stream, acked in self.acked.items()}
        missing = 0
        for cursors in followers:
            for stream, cursor in cursors.items():
                for seq in reversed(seqs.get(stream, ())):
                    if seq <= cursor:
                        break
                    missing += 1
        return missing

    def doubled(self) -> int:
        """Sends that are in the log more than once, as the crowd saw it; and seqs that bear another key than was told."""
        found = 0
        for stream, keys in self.keys.items():
            found += len(keys) - len(set(keys.values()))
            found += sum(self.told.get((stream, seq), key) != key for seq, key in keys.items())
        return found


def wrong_presence(told: Mapping[str, str], there: Iterable[str]) -> int:
    """How many principals a list has wrong: named though gone, or there and not named as online."""
    online = {who for who, value in told.items() if value != "offline"}
    return len(online.symmetric_difference(there))
