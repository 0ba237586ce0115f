"""Markers and signals: what may be conflated. Presence, typing, delivered and read, rows of read models.

Neither is queued. A change makes a key dirty on its stream; `flush` (every `signal_flush_s`, large rooms once a second)
sends the latest values to live ports in one piece. A port that is blocked or still behind in the events gets the *key*
noted instead, and the value of that later moment when it has caught up: events before markers before signals, and never
more memory than there are keys.

Rows are nobody's, and are sent when they are told, however large the room is: who waits with them did so already.

Positions and arrival times are shown by `core.shows`, the middle of this class.

Who is present is counted in `core.presence`, below that. In large rooms a count (kind ``online``) and an aggregate of
markers (op ``marks``) replace what each does. What is said on this node is handed to `core.gossip`, which tells the
others; what they tell comes in through the ``far_`` methods and is not told on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from core import wire
from core.model import Mark
from core.presence import AWAY, EVERYBODY
from core.shows import ROW, Said, Shows
from core.stream import Port, SignalKey, Stream, latest_of

if TYPE_CHECKING:
    from core.hub import Hub

ONLINE: Final[SignalKey] = ("online", None)


class Signals(Shows):
    """The conflating half of a `Hub`."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._typing: dict[tuple[Stream, str], float] = {}
        self.unsaved: dict[tuple[str, int, str], Mark] = {}
        """Markers raised since the last write-behind, by (tenant, sid, principal)."""
        self.shed_typing = False
        """Overload: typing is the first thing to go."""
        self.shed_presence = False
        """Overload: then who comes and goes. It is noted still, and told when this ends."""
        self._withheld: dict[Stream, None] = {}
        """Where somebody came or went while that was shed."""
        self.typing_shed = 0
        self.presence_shed = 0
        """What was not told: beginnings of typing, and diffs of a room's presence."""

    def join(self, port: Port, stream: Stream, now_s: float) -> None:
        """A port follows the stream. It also gets what is latest: everybody's markers and who types now."""
        self._now_s = now_s
        self._shift(stream, port.principal, AWAY if port.away else 1, now_s)
        if self.gossip is not None:
            self.gossip.presence(stream, port.principal)
        if stream.marks:
            for by in stream.marks if self._few_marks(stream) else (EVERYBODY,):
                self._note_mark(port, stream, by)
        if stream.signals:
            for key in stream.signals:
                self._note(port, stream, key)

    def forget(self) -> None:
        """The hub starts over: nobody follows anything. Markers not yet stored are kept, they are of the log."""
        self._typing.clear()
        self._leaving.clear()
        self._turned.clear()
        self._dirty.clear()
        self._shown.clear()
        self._withheld.clear()

    def let_go(self, stream: Stream) -> None:
        """The hub lets go of a stream that nobody follows here."""
        for who in stream.present:
            self._leaving.pop((stream, who), None)
        for kind, by in stream.signals:
            if kind != ROW and by is not None:
                self._typing.pop((stream, by), None)
        self._dirty.pop(stream, None)
        self._shown.pop(stream, None)
        self._withheld.pop(stream, None)

    # -- typing -------------------------------------------------------------------------------------------------------

    def typing(self, stream: Stream, who: str, on: bool, now_s: float) -> None:
        if self.shed_typing and on:
            self.typing_shed += 1
            return
        self.far_typing(stream, who, on, now_s)
        if self.gossip is not None:
            self.gossip.typing(stream, who, on)

    def far_typing(self, stream: Stream, who: str, on: bool, now_s: float) -> None:
        """Somebody types, on whichever node; it ends by itself here too, if its end is not heard."""
        if self.shed_typing and on:
            self.typing_shed += 1
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

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, stream: Stream, changed: Mapping[str, tuple[object, float]], now_s: float) -> None:
        """Rows of the stream that are new or other than they were, by key, each with when it came to be so (on the caller's
        clock); of value ``None``: gone. They are sent to all live ports; whoever begins to follow gets all there are."""
        self._now_s = now_s
        said: list[Said] = []
        for name, (value, at_s) in changed.items():
            key = (ROW, name)
            if value is not None:
                stream.signals[key] = (value, at_s)
            elif stream.signals.pop(key, None) is None:
                continue
            if stream.live or stream.behind:
                said.append((None, wire.encode_signal(stream.name, ROW, name, value, now_s - at_s), key))
        self._deliver(stream, said)

    # -- markers ------------------------------------------------------------------------------------------------------

    def mark(self, stream: Stream, who: str, delivered: int, read: int) -> bool:
        """Raise markers; what is past head counts as head, what would move back is ignored. Read implies delivered."""
        old_delivered, old_read = stream.marks.get(who, (0, 0))
        read = max(old_read, min(read, stream.head))
        delivered = max(old_delivered, min(delivered, stream.head), read)
        if (delivered, read) == (old_delivered, old_read):
            return False
        self._raise(stream, who, delivered, read)
        self.unsaved[stream.tenant, stream.sid, who] = Mark(stream.sid, who, delivered, read)
        if self.gossip is not None:
            self.gossip.mark(stream, who)
        return True

    def far_mark(self, stream: Stream, who: str, delivered: int, read: int) -> bool:
        """Raised on another node, which stores it. May speak of an event that has not come here yet: kept, told then.
        Returns whether it is news."""
        old_delivered, old_read = stream.marks.get(who, (0, 0))
        read = max(old_read, read)
        delivered = max(old_delivered, delivered, read)
        if (delivered, read) == (old_delivered, old_read):
            return False
        self._raise(stream, who, delivered, read)
        return True

    def _raise(self, stream: Stream, who: str, delivered: int, read: int) -> None:
        if stream.reached is not None:
            seq, all_delivered, all_read = stream.reached
            before = stream.marks.get(who, (-1, -1))
            stream.reached = (
                seq,
                all_delivered + (before[0] < seq <= delivered),
                all_read + (before[1] < seq <= read),
            )
        stream.marks[who] = (delivered, read)
        stream.dirty_marks.add(who)
        self._dirty[stream] = None

    def load_marks(self, stream: Stream, marks: list[Mark]) -> None:
        """Markers as stored; what was raised here meanwhile stays."""
        stream.reached = None
        for mark in marks:
            delivered, read = stream.marks.get(mark.principal, (0, 0))
            stream.marks[mark.principal] = (max(delivered, mark.delivered), max(read, mark.read))

    def _few_marks(self, stream: Stream) -> bool:
        return len(stream.marks) <= self._hub.limits.presence_list_max

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
                self.far_typing(stream, who, False, now_s)  # every node ends it by itself
        self._end_graces(now_s)

    def flush(self, now_s: float, *, large_rooms: bool) -> None:
        """Send what is dirty. ``large_rooms``: also where many are online."""
        self._now_s = now_s
        self._settle_turns()
        if self._withheld and not self.shed_presence:
            self._dirty.update(self._withheld)
            self._withheld.clear()
        for stream in list(self._dirty):
            was_large = stream.large
            large = self.is_large(stream) or (was_large and self.shed_presence)
            if (large or was_large) and not large_rooms:
                continue
            del self._dirty[stream]
            if stream.live or stream.behind:
                said = self._take_marks(stream, large=large, was_large=was_large)
                said += self._take_signals(stream, now_s, large=large, was_large=was_large)
                self._deliver(stream, said)
            else:  # who begins to follow gets what there is by then
                stream.dirty_marks, stream.dirty_signals, stream.moved = set(), set(), None
                stream.large = large
        self._hub.flush()

    def _take_marks(self, stream: Stream, *, large: bool, was_large: bool) -> list[Said]:
        """The markers to tell: each, or of a large room the aggregate, or after it everybody's."""
        marks, stream.dirty_marks = stream.dirty_marks, set()
        if was_large and not large and stream.marks:
            marks = set(stream.marks) if self._few_marks(stream) else {EVERYBODY}
        elif large and marks:
            marks = {EVERYBODY}
        if EVERYBODY in marks:
            return [(None, self._aggregate(stream), EVERYBODY)]
        early = {by for by in marks if stream.marks[by][0] > stream.floor}
        if early:  # the event they speak of is still on tour, or on its way to this node: next time
            marks -= early
            stream.dirty_marks = early
            self._dirty[stream] = None
        said: list[Said] = []
        for by in sorted(marks):
            # A person's other devices want to know what was read on this one; one device alone knows.
            owner = None if self._devices(stream, by) > 1 else by
            said.append((owner, wire.encode_mark(stream.name, by, *stream.marks[by]), by))
        return said

    def _take_signals(self, stream: Stream, now_s: float, *, large: bool, was_large: bool) -> list[Said]:
        keys, stream.dirty_signals = stream.dirty_signals, set()
        online: list[Said] = []
        stream.large = large
        if self.shed_presence:
            if stream.moved:
                self._withheld[stream] = None
                self.presence_shed += 1
        else:
            moved, stream.moved = stream.moved or {}, None
            if large != was_large or EVERYBODY in moved or (large and any(moved.values())):
                online.append((None, self.online_signal(stream, moved), ONLINE))
            elif not large:
                keys |= {("presence", who) for who in moved}
        said: list[Said] = [(key[1], self._encode(stream, key, now_s), key) for key in sorted(keys, key=str)]
        return said + online

    def flush_port(self, port: Port) -> None:
        """The port has its events: what was noted for it goes out, markers first, each with its value of now."""
        frames: list[bytes] = []
        keys: list[tuple[Stream, str | SignalKey]] = []
        mark_keys, port.mark_keys = port.mark_keys, None
        signal_keys, port.signal_keys = port.signal_keys, None
        waiting = port.lag or ()
        for stream, by in mark_keys or ():
            if stream in waiting:
                self._note_mark(port, stream, by)
            elif by == EVERYBODY and stream in port.subs:
                frames.append(self._aggregate(stream))
                keys.append((stream, by))
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
                keys.append((stream, by))
        for stream, key in signal_keys or ():
            if stream in waiting:
                self._note(port, stream, key)
            elif stream in port.subs and self._owner(stream, key) != port.principal:
                frames.append(self._encode(stream, key, self._now_s))
                keys.append((stream, key))
        if frames:
            self._hub.reply(port, latest_of(frames, keys))

    def note_again(self, port: Port, keys: Iterable[tuple[Stream, str | SignalKey]]) -> None:
        """The port cannot be told these now. Kept as bytes they would be told late, with an age of long ago."""
        for stream, key in keys:
            if isinstance(key, str):
                self._note_mark(port, stream, key)
            else:
                self._note(port, stream, key)

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
            return self.online_signal(stream)
        if kind == "presence":
            assert by is not None
            value = self._presence(stream, by)
        else:
            value, at_s = stream.signals.get(key, (False if kind == "typing" else None, now_s))
            if callable(value):
                value = value()
            age_s = max(now_s - at_s, 0.0)
        return wire.encode_signal(stream.name, kind, by, value, age_s)

    def _aggregate(self, stream: Stream) -> bytes:
        """How many have the head delivered and read; instead of a marker of each in rooms where that would be a flood."""
        seq = stream.floor
        if stream.reached is None or stream.reached[0] != seq:
            delivered = sum(mark[0] >= seq for mark in stream.marks.values())
            read = sum(mark[1] >= seq for mark in stream.marks.values())
            stream.reached = (seq, delivered, read)
        _, delivered, read = stream.reached
        return wire.encode({"op": "marks", "stream": stream.name, "seq": seq, "delivered": delivered, "read": read})
