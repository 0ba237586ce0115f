"""What everybody saw, against what was acknowledged and what the log holds: the judge of every case here.

Pure: a `History` is filled in while a case runs, `findings` says afterwards, in words, what was broken. Held to:

* on each connection a stream's events begin right after its cursor and rise by one (I2);
* whoever sees a seq, sees the same event there, and it is the one in the log (I3);
* an acknowledged key is in the log once, at the seq that was acknowledged, and at every follower (I1);
* at the end every follower stands at the log's head (I4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Seen(NamedTuple):
    """An event as a client or the log tells it; ``what`` is all of it that must be the same for everybody."""

    seq: int
    key: str
    what: str

    @property
    def by(self) -> str:
        """Whose it is: its first word (`tests.faults.person.what`)."""
        return self.what.partition(" ")[0]


@dataclass(slots=True)
class Life:
    """One follower's time on one connection: where its cursors stood, and what came."""

    node: str
    after: dict[str, int]
    events: dict[str, list[Seen]] = field(default_factory=dict)

    def cursor(self, stream: str) -> int:
        seen = self.events.get(stream)
        return seen[-1].seq if seen else self.after[stream]


@dataclass(slots=True)
class History:
    lives: dict[str, list[Life]] = field(default_factory=dict)
    """By follower, in order."""
    acknowledged: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """(stream, key) → every seq that an answer gave it."""

    def begin(self, who: str, node: str, after: Mapping[str, int]) -> Life:
        life = Life(node, dict(after))
        self.lives.setdefault(who, []).append(life)
        return life

    def acknowledge(self, stream: str, key: str, seq: int) -> None:
        self.acknowledged.setdefault((stream, key), set()).add(seq)

    def cursor(self, who: str, stream: str) -> int:
        return self.lives[who][-1].cursor(stream)


def findings(
    history: History, log: Mapping[str, Sequence[Seen]], gone: Collection[str | tuple[str, str]] = ()
) -> list[str]:
    """``log``: what it holds of each stream, in order; ``gone``: who left for good (or who left which stream), and need not
    have seen the end.
    Empty: all is as promised."""
    found: list[str] = []
    for stream, events in log.items():
        found += _log(stream, events)
    for (stream, key), seqs in history.acknowledged.items():
        places = [event.seq for event in log.get(stream, ()) if event.key == key]
        if places != sorted(seqs):
            found.append(f"{stream} {key}: acknowledged at {sorted(seqs)}, in the log at {places}")
    for who, lives in history.lives.items():
        for stream in lives[0].after:
            found += _follower(who, stream, lives, log.get(stream, ()), who in gone or (who, stream) in gone)
    return found


def _log(stream: str, events: Sequence[Seen]) -> list[str]:
    found = []
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        found.append(f"{stream}: the log's seqs are not 1 to {len(events)}")
    keys = [event.key for event in events]
    if len(set(keys)) != len(keys):
        found.append(f"{stream}: the log holds a key twice")
    return found


def _follower(who: str, stream: str, lives: Sequence[Life], log: Sequence[Seen], gone: bool) -> list[str]:
    found = []
    cursor = lives[0].after[stream]
    for life in lives:
        where = f"{who} on {life.node}, {stream}"
        if life.after[stream] != cursor:
            found.append(f"{where}: came back with {life.after[stream]}, but had seen {cursor}")
        cursor = life.after[stream]
        for event in life.events.get(stream, ()):
            if event.seq != cursor + 1:
                found.append(f"{where}: got seq {event.seq} after {cursor}")
            elif event.seq > len(log):
                found.append(f"{where}: got seq {event.seq}, the log ends at {len(log)}")
            elif event != log[event.seq - 1]:
                found.append(f"{where}: got {event}, the log holds {log[event.seq - 1]}")
            cursor = event.seq
    if cursor != len(log) and not gone:
        found.append(f"{who}, {stream}: stands at {cursor}, the log's head is {len(log)}")
    return found
