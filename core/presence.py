"""Who is here: presence of each principal in each stream, added up over its connections on all nodes.

`Stream.present` holds one small integer a principal, the packed count of its connections on every node: one that said
it is away counts `AWAY`, any other 1. `Stream.far` holds what of that is other nodes' (`core.gossip` brings it), so that
this node's own share is the difference. First in is online, last out is offline, whichever nodes they are on; and since
only the sum is looked at, a reconnect to another node within `presence_grace_s` is not seen by anybody.

What is told is what changed in the sum: `Stream.moved` keeps who changed since the last telling, and whether by coming or
going or only by being away. In large rooms (`Presence.is_large`) that becomes a number with the names that came and
went, see `online_signal`.

The upper half is `core.signals`, which sends. No clock: the caller says what time it is.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from core import wire
from core.stream import Port, Stream

if TYPE_CHECKING:
    from core.gossip import Gossip
    from core.hub import Hub

AWAY: Final = 1 << 20
"""A port that said it is away counts this much in `Stream.present`, any other 1: one small integer a principal."""

NAMES_MAX: Final = 50
"""Names of those who came, and of those who went, in one signal of a large room; more are only counted."""

MOVED_MAX: Final = 1_000
"""Names noted as changed since the last telling (with `Signals.shed_presence` that may be long ago); after more, everybody
is told of, or in a large room nobody."""

GONE_MAX: Final = 100_000
"""Times of leaving that wait to be stored; while the log is away for long, the oldest are forgotten."""

EVERYBODY: Final = ""
"""Stands for all names: among those who moved, and in `core.signals` among the keys of markers."""


def presence_value(count: int) -> str:
    return "offline" if count == 0 else "online" if count % AWAY else "away"


class Presence:
    """The counting half of `core.signals.Signals`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.gossip: Gossip | None = None
        """Who tells the other nodes what changed here; set by `core.gossip.Gossip`."""
        self._leaving: dict[tuple[Stream, str], tuple[float, str]] = {}
        """Who has no port left: until when it is not told, and what others believe until then."""
        self._turned: dict[Port, bool] = {}
        """Ports that went away or came back since the last flush, with what they said last."""
        self._dirty: dict[Stream, None] = {}
        self.gone: dict[tuple[str, str], float] = {}
        """When a connection of somebody (tenant, principal) was last seen to end, until that is stored; the caller's clock."""

    # -- here ---------------------------------------------------------------------------------------------------------

    def leave(self, port: Port, stream: Stream, now_s: float) -> None:
        self._shift(stream, port.principal, -(AWAY if port.away else 1), now_s)
        if self.gossip is not None:
            self.gossip.presence(stream, port.principal)

    def set_away(self, port: Port, away: bool) -> None:
        """At once where it was not said since the last flush, else with the next, the last word counting: a turn of a
        port in a thousand streams takes a millisecond, and one chunk from its socket may ask for a thousand."""
        if port in self._turned:
            self._turned[port] = away
        elif port.away != away:
            self._turned[port] = away
            self._turn(port, away)

    def _turn(self, port: Port, away: bool) -> None:
        port.away = away
        step = AWAY - 1 if away else 1 - AWAY
        who = port.principal
        for stream in port.subs:
            believed = self._presence(stream, who)
            stream.present[who] += step
            if self._presence(stream, who) != believed:
                self._presence_changed(stream, who, believed)
            if self.gossip is not None:
                self.gossip.presence(stream, who)

    def _settle_turns(self) -> None:
        turned, self._turned = self._turned, {}
        for port, away in turned.items():
            if port.away != away and not port.closed:
                self._turn(port, away)

    def _shift(self, stream: Stream, who: str, step: int, now_s: float) -> None:
        """So much more or less of somebody; ``step`` is not 0."""
        before = stream.present.get(who)
        # Within the grace is the common case of a storm of returns: it asks each table once.
        believed = self._leaving.pop((stream, who))[1] if before == 0 else presence_value(before or 0)
        count = (before or 0) + step
        assert count >= 0, "left more often than joined"
        stream.present[who] = count
        if count == 0:
            self._leaving[stream, who] = (now_s + self._hub.limits.presence_grace_s, believed)
        elif presence_value(count) != believed:
            self._presence_changed(stream, who, believed)

    def _presence_changed(self, stream: Stream, who: str, believed: str) -> None:
        """Told with the next flush, also where it is by then as it was: somebody may have asked in between."""
        crossed = believed == "offline" or who not in stream.present
        moved = stream.moved
        if moved is None:
            stream.moved = {who: crossed}
        elif EVERYBODY not in moved:
            moved[who] = crossed or moved.get(who, False)
            if len(moved) > MOVED_MAX:
                stream.moved = {EVERYBODY: True}
        self._dirty[stream] = None

    def _end_graces(self, now_s: float) -> None:
        """People who did not come back within the grace are offline."""
        leaving = self._leaving
        # One grace for all: deadlines are in order.
        for key in list(takewhile(lambda key: leaving[key][0] <= now_s, leaving)):
            stream, who = key
            _, believed = leaving.pop(key)
            del stream.present[who]
            self._presence_changed(stream, who, believed)

    def note_gone(self, tenant: str, who: str, at_s: float) -> None:
        """Their last connection of a node, as far as this one knows, ended at that time."""
        self.gone[tenant, who] = max(at_s, self.gone.get((tenant, who), at_s))
        if len(self.gone) > GONE_MAX:
            del self.gone[next(iter(self.gone))]

    # -- on other nodes -----------------------------------------------------------------------------------------------

    @staticmethod
    def own(stream: Stream, who: str) -> int:
        """This node's share of somebody's packed count."""
        count = stream.present.get(who, 0)
        if count and stream.far is not None:
            for people in stream.far.values():
                count -= people.get(who, 0)
        return count

    @staticmethod
    def own_people(stream: Stream) -> dict[str, int]:
        """Everybody whom this node has in the stream, with its share of the packed count."""
        people: dict[str, int] = {}
        for ports in (stream.live, stream.behind):
            for port in ports:
                people[port.principal] = people.get(port.principal, 0) + (AWAY if port.away else 1)
        return people

    def far_count(self, stream: Stream, node: str, who: str, count: int, now_s: float) -> None:
        """Another node has so much of somebody now."""
        people = None if stream.far is None else stream.far.get(node)
        step = count - (0 if people is None else people.get(who, 0))
        if step == 0:
            return
        if people is None:
            stream.far = stream.far or {}
            people = stream.far[node] = {}
        if count:
            people[who] = count
        else:
            del people[who]
            if not people:
                self._far_empty(stream, node)
        self._shift(stream, who, step, now_s)

    def far_state(self, stream: Stream, node: str, people: dict[str, int], now_s: float) -> None:
        """Another node has these people and nobody else."""
        for who in [who for who in (stream.far or {}).get(node, ()) if who not in people]:
            self.far_count(stream, node, who, 0, now_s)
        for who, count in people.items():
            self.far_count(stream, node, who, count, now_s)

    def far_gone(self, stream: Stream, node: str, now_s: float, *, grace: bool) -> None:
        """Another node is gone, with everybody it had: told at once, or after the grace, as one who leaves."""
        people = None if stream.far is None else stream.far.get(node)
        if people is None:
            return
        self._far_empty(stream, node)
        for who, count in people.items():
            before = stream.present[who]
            if grace or before != count:
                self._shift(stream, who, -count, now_s)
            else:
                del stream.present[who]
                self._presence_changed(stream, who, presence_value(before))
                # Nobody else can say when: the node that knew is dead, at most for a lease.
                self.note_gone(stream.tenant, who, now_s - self._hub.limits.lease_s)

    @staticmethod
    def _far_empty(stream: Stream, node: str) -> None:
        assert stream.far is not None
        del stream.far[node]
        if not stream.far:
            stream.far = None

    # -- asked --------------------------------------------------------------------------------------------------------

    def online(self, stream: Stream) -> tuple[list[tuple[str, str, int]], int]:
        """(principal, value, devices) of up to `presence_list_max` people, and how many there are."""
        people: list[tuple[str, str, int]] = []
        for who in stream.present:
            if len(people) == self._hub.limits.presence_list_max:
                break
            people.append((who, self._presence(stream, who), max(self._devices(stream, who), 1)))
        return people, len(stream.present)

    def one(self, stream: Stream, who: str) -> tuple[str, int]:
        """(value, devices) of somebody, here or not."""
        value = self._presence(stream, who)
        return value, 0 if value == "offline" else max(self._devices(stream, who), 1)

    def _devices(self, stream: Stream, who: str) -> int:
        """How many connections of a principal follow the stream."""
        count = stream.present.get(who, 0)
        return count % AWAY + count // AWAY

    def _presence(self, stream: Stream, who: str) -> str:
        """What others are to believe of someone now; within the grace, what they believed before."""
        count = stream.present.get(who)
        if count == 0:
            return self._leaving[stream, who][1]
        return presence_value(count or 0)

    # -- telling ------------------------------------------------------------------------------------------------------

    def is_large(self, stream: Stream) -> bool:
        """Large above `presence_list_max`, and until a quarter fewer are left: a room that wavers about the bound would
        send everybody the list again and again."""
        count, bound = len(stream.present), self._hub.limits.presence_list_max
        return count > bound or (stream.large and count > bound * 3 // 4)

    def online_signal(self, stream: Stream, moved: dict[str, bool] | None = None) -> bytes:
        """The count, and what a client needs to keep a list of names true, if it keeps one:

        ``joined`` and ``left`` since the last such signal; ``more`` where that is not all (too many, or this client missed
        some); ``people``, everybody, where the room is no longer large and names follow again."""
        signal: dict[str, Any] = {"op": "signal", "stream": stream.name, "kind": "online", "value": len(stream.present)}
        if not stream.large:
            people, _ = self.online(stream)
            signal["people"] = [{"by": by, "value": value, "devices": devices} for by, value, devices in people]
        elif moved is None or EVERYBODY in moved:
            signal["more"] = True
        else:
            crossed = [who for who, crossed in moved.items() if crossed]
            joined = [who for who in crossed if who in stream.present]
            left = [who for who in crossed if who not in stream.present]
            if joined:
                signal["joined"] = joined[:NAMES_MAX]
            if left:
                signal["left"] = left[:NAMES_MAX]
            if max(len(joined), len(left)) > NAMES_MAX:
                signal["more"] = True
        signal["age"] = 0.0
        return wire.encode(signal)
