"""Markers and signals: what may be conflated. Presence, typing, delivered and read.

Neither is queued. A change makes a key dirty on its stream; `flush` (every `signal_flush_s`, rooms with more than
`presence_list_max` people online once a second) sends the latest values to live ports in one piece. A port that is
blocked or still behind in the events gets the *key* noted instead, and the value of that later moment when it has caught
up: events before markers before signals, and never more memory than there are keys.

Presence is counted per principal over its ports (first in, last out), and told when what it adds up to changes. Going
offline waits `presence_grace_s`, so that a reconnect is not seen. In large rooms a count (kind ``online``) and an
aggregate of markers (op ``marks``) replace names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from core import wire
from core.model import Mark
from core.stream import Port, SignalKey, Stream

if TYPE_CHECKING:
    from core.hub import Hub

AWAY: Final = 1 << 20
"""A port that said it is away counts this much in `Stream.present`, any other 1: one small integer a principal."""

ALL: Final = ""
"""Stands for everybody among the keys of markers: the aggregate of a large room."""


def presence_value(count: int) -> str:
    return "offline" if count == 0 else "online" if count % AWAY else "away"


class Signals:
    """The conflating half of a `Hub`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._typing: dict[tuple[Stream, str], float] = {}
        self._leaving: dict[tuple[Stream, str], tuple[float, str]] = {}
        """Who has no port left: until when it is not told, and what others believe until then."""
        self._turned: dict[Port, bool] = {}
        """Ports that went away or came back since the last flush, with what they said last."""
        self._now_s = 0.0
        """The latest time told, for the ages of what goes out between two flushes."""
        self._dirty: dict[Stream, None] = {}
        self.unsaved: dict[tuple[str, int, str], Mark] = {}
        """Markers raised since the last write-behind, by (tenant, sid, principal)."""
        self.shed_typing = False
        """Overload: typing is the first thing to go."""

    # -- presence -----------------------------------------------------------------------------------------------------

    def join(self, port: Port, stream: Stream, now_s: float) -> None:
        """A port follows the stream. It also gets what is latest: everybody's markers and who types now."""
        self._now_s = now_s
        who = port.principal
        before = stream.present.get(who)
        # Within the grace is the common case of a storm of returns: it asks each table once.
        believed = self._leaving.pop((stream, who))[1] if before == 0 else presence_value(before or 0)
        count = (before or 0) + (AWAY if port.away else 1)
        stream.present[who] = count
        if presence_value(count) != believed:
            self._presence_changed(stream, who)
        if stream.marks:
            few = len(stream.marks) <= self._hub.limits.presence_list_max
            for by in stream.marks if few else (ALL,):
                self._note_mark(port, stream, by)
        if stream.signals:
            for key in stream.signals:
                self._note(port, stream, key)

    def leave(self, port: Port, stream: Stream, now_s: float) -> None:
        who = port.principal
        before = stream.present[who]
        left = before - (AWAY if port.away else 1)
        assert left >= 0, "left more often than joined"
        stream.present[who] = left
        believed = presence_value(before)
        if left == 0:
            self._leaving[stream, who] = (now_s + self._hub.limits.presence_grace_s, believed)
        elif presence_value(left) != believed:
            self._presence_changed(stream, who)

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
                self._presence_changed(stream, who)

    def online(self, stream: Stream) -> tuple[list[tuple[str, str, int]], int]:
        """(principal, value, devices) of up to `presence_list_max` people, and how many there are."""
        people: list[tuple[str, str, int]] = []
        for who in stream.present:
            if len(people) == self._hub.limits.presence_list_max:
                break
            people.append((who, self._presence(stream, who), max(self._devices(stream, who), 1)))
        return people, len(stream.present)

    def _devices(self, stream: Stream, who: str) -> int:
        """How many ports of a principal follow the stream."""
        count = stream.present.get(who, 0)
        return count % AWAY + count // AWAY

    def _presence(self, stream: Stream, who: str) -> str:
        """What others are to believe of someone now; within the grace, what they believed before."""
        count = stream.present.get(who)
        if count == 0:
            return self._leaving[stream, who][1]
        return presence_value(count or 0)

    def _presence_changed(self, stream: Stream, who: str) -> None:
        if len(stream.present) > self._hub.limits.presence_list_max:
            self._changed(stream, ("online", None))
        else:
            self._changed(stream, ("presence", who))

    def forget(self) -> None:
        """The hub starts over: nobody follows anything. Markers not yet stored are kept, they are of the log."""
        self._typing.clear()
        self._leaving.clear()
        self._turned.clear()
        self._dirty.clear()

    # -- typing -------------------------------------------------------------------------------------------------------

    def typing(self, stream: Stream, who: str, on: bool, now_s: float) -> None:
        if self.shed_typing and on:
            return
        self._now_s = now_s
        key = ("typing", who)
        if on:
            known = key in stream.signals
            stream.signals[key] = (True, now_s)
            self._typing[stream, who] = now_s + self._hub.limits.typing_ttl_s
            if not known:
                self._changed(stream, key)
        elif stream.signals.pop(key, None) is not None:
            self._typing.pop((stream, who), None)
            self._changed(stream, key)

    # -- markers ------------------------------------------------------------------------------------------------------

    def mark(self, stream: Stream, who: str, delivered: int, read: int) -> bool:
        """Raise markers; what is past head counts as head, what would move back is ignored. Read implies delivered."""
        old_delivered, old_read = stream.marks.get(who, (0, 0))
        read = max(old_read, min(read, stream.head))
        delivered = max(old_delivered, min(delivered, stream.head), read)
        if (delivered, read) == (old_delivered, old_read):
            return False
        stream.marks[who] = (delivered, read)
        self.unsaved[stream.tenant, stream.sid, who] = Mark(stream.sid, who, delivered, read)
        stream.dirty_marks.add(who)
        self._dirty[stream] = None
        return True

    def load_marks(self, stream: Stream, marks: list[Mark]) -> None:
        """Markers as stored; what was raised here meanwhile stays."""
        for mark in marks:
            delivered, read = stream.marks.get(mark.principal, (0, 0))
            stream.marks[mark.principal] = (max(delivered, mark.delivered), max(read, mark.read))

    def take_unsaved(self, count_max: int) -> dict[str, list[Mark]]:
        """Up to ``count_max`` raised markers by tenant, for the write-behind; `put_back` what could not be written."""
        taken: dict[str, list[Mark]] = {}
        for key in list(self.unsaved)[:count_max]:
            taken.setdefault(key[0], []).append(self.unsaved.pop(key))
        return taken

    def put_back(self, tenant: str, marks: list[Mark]) -> None:
        for mark in marks:
            self.unsaved.setdefault((tenant, mark.sid, mark.principal), mark)

    # -- sending ------------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Typing that was not repeated ends; people who did not come back within the grace are offline."""
        for (stream, who), deadline_s in list(self._typing.items()):
            if deadline_s <= now_s:
                self.typing(stream, who, False, now_s)
        while self._leaving:
            stream, who = next(iter(self._leaving))
            if self._leaving[stream, who][0] > now_s:
                break  # one grace for all: deadlines are in order
            del self._leaving[stream, who], stream.present[who]
            self._presence_changed(stream, who)

    def flush(self, now_s: float, *, large_rooms: bool) -> None:
        """Send what is dirty. ``large_rooms``: also where many are online."""
        self._now_s = now_s
        turned, self._turned = self._turned, {}
        for port, away in turned.items():
            if port.away != away and not port.closed:
                self._turn(port, away)
        for stream in list(self._dirty):
            large = len(stream.present) > self._hub.limits.presence_list_max
            if large and not large_rooms:
                continue
            del self._dirty[stream]
            marks, keys = stream.dirty_marks, stream.dirty_signals
            stream.dirty_marks, stream.dirty_signals = set(), set()
            frames: list[tuple[str | None, bytes]] = []
            if large and marks:
                frames.append((None, self._aggregate(stream)))
            else:
                early = {by for by in marks if stream.marks[by][0] > stream.floor}
                if early:  # the event they speak of is still on tour: next time
                    marks -= early
                    stream.dirty_marks = early
                    self._dirty[stream] = None
                for by in sorted(marks):
                    # A person's other devices want to know what was read on this one; one device alone knows.
                    owner = None if self._devices(stream, by) > 1 else by
                    frames.append((owner, wire.encode_mark(stream.name, by, *stream.marks[by])))
            frames += [(key[1], self._encode(stream, key, now_s)) for key in sorted(keys, key=str)]
            self._send_live(stream, frames)
            for port in [port for port in stream.live if port.blocked] + list(stream.behind):
                for by in (ALL,) if large and marks else marks:
                    self._note_mark(port, stream, by)
                for key in keys:
                    self._note(port, stream, key)
        self._hub.flush()

    def _send_live(self, stream: Stream, frames: list[tuple[str | None, bytes]]) -> None:
        everything = b"".join([frame for _, frame in frames])
        owners = {by for by, _ in frames}
        for port in stream.live:
            if port.blocked:
                continue
            data = everything
            if port.principal in owners:
                data = b"".join([frame for by, frame in frames if by != port.principal])
            if data:
                self._hub.reply(port, data)

    def flush_port(self, port: Port) -> None:
        """The port has its events: what was noted for it goes out, markers first, each with its value of now."""
        frames = []
        mark_keys, port.mark_keys = port.mark_keys, None
        signal_keys, port.signal_keys = port.signal_keys, None
        waiting = port.lag or ()
        for stream, by in mark_keys or ():
            if stream in waiting:
                self._note_mark(port, stream, by)
            elif by == ALL and stream in port.subs:
                frames.append(self._aggregate(stream))
            elif (
                stream not in port.subs
                or by not in stream.marks
                or (by == port.principal and self._devices(stream, by) < 2)
            ):
                continue
            elif stream.marks[by][0] > stream.floor:
                stream.dirty_marks.add(by)
                self._dirty[stream] = None
            else:
                frames.append(wire.encode_mark(stream.name, by, *stream.marks[by]))
        for stream, key in signal_keys or ():
            if stream in waiting:
                self._note(port, stream, key)
            elif stream in port.subs and key[1] != port.principal:
                frames.append(self._encode(stream, key, self._now_s))
        if frames:
            self._hub.reply(port, b"".join(frames))

    def _note_mark(self, port: Port, stream: Stream, by: str) -> None:
        port.mark_keys = port.mark_keys or {}
        port.mark_keys[stream, by] = None

    def _note(self, port: Port, stream: Stream, key: SignalKey) -> None:
        port.signal_keys = port.signal_keys or {}
        port.signal_keys[stream, key] = None

    def _changed(self, stream: Stream, key: SignalKey) -> None:
        stream.dirty_signals.add(key)
        self._dirty[stream] = None

    def _encode(self, stream: Stream, key: SignalKey, now_s: float) -> bytes:
        kind, by = key
        value: object
        age_s = 0.0
        if kind == "online":
            value = len(stream.present)
        elif kind == "presence":
            assert by is not None
            value = self._presence(stream, by)
        else:
            value, at_s = stream.signals.get(key, (False, now_s))
            age_s = max(now_s - at_s, 0.0)
        return wire.encode_signal(stream.name, kind, by, value, age_s)

    def _aggregate(self, stream: Stream) -> bytes:
        """How many have the head delivered and read; instead of a marker of each in rooms where that would be a flood."""
        seq = stream.floor
        delivered = sum(mark[0] >= seq for mark in stream.marks.values())
        read = sum(mark[1] >= seq for mark in stream.marks.values())
        return wire.encode({"op": "marks", "stream": stream.name, "seq": seq, "delivered": delivered, "read": read})
