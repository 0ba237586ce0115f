"""The nouns of delivery: a `Stream` as this node knows it, a `Port` (one connection as the hub sees it), a `Chunk`.

No decisions and no I/O here; `core.hub` moves events, `core.signals` moves markers and signals.

A stream's ring holds recent events already encoded and framed, oldest first, without gaps up to head. A port holds, for
each stream that it follows, either LIVE (it has everything that live subscribers have) or a cursor: the last seq put on
its wire. That integer is all that a slow client costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.policy import OWNS, role_in

LIVE: Final = -1

SignalKey = tuple[str, str | None]
"""(kind, by): what a signal's latest value is kept under. Of kind `row` the second is the row's key in its read model."""


class Chunk(bytes):
    """Consecutive event frames of one stream, joined for one ``send``; remembers where each frame ends.

    ``first`` is the seq of the first frame. A bytes subclass, so that joining and sending need no unwrapping.
    """

    stream: Stream
    first: int
    frames: list[bytes]


def chunk_of(stream: Stream, first: int, frames: list[bytes]) -> Chunk:
    chunk = Chunk(frames[0] if len(frames) == 1 else b"".join(frames))
    chunk.stream = stream
    chunk.first = first
    chunk.frames = frames
    return chunk


class Latest(bytes):
    """Markers and signals for one ``send``, with the keys they are of: where a socket takes no more, the keys are noted
    again, and what goes out later is what is latest then, behind the events of then."""

    frames: list[bytes]
    keys: list[tuple[Stream, str | SignalKey]]
    """Of each frame: whose marker, or which signal."""


def latest_of(frames: list[bytes], keys: list[tuple[Stream, str | SignalKey]]) -> Latest:
    latest = Latest(frames[0] if len(frames) == 1 else b"".join(frames))
    latest.frames = frames
    latest.keys = keys
    return latest


class Pass:
    """One tour of a big room with the events (start, end], a slice at a time. ``todo`` ports still stand at start."""

    __slots__ = ("chunk", "end", "start", "todo")

    def __init__(self, start: int, end: int, chunk: Chunk, todo: list[Port]) -> None:
        self.start = start
        self.end = end
        self.chunk = chunk
        self.todo = todo


class Stream:
    """One stream with local interest. Identity is (tenant, name); hashing is by object, which is what dicts here want."""

    __slots__ = (
        "ahead",
        "audit",
        "base",
        "behind",
        "dirty_marks",
        "dirty_signals",
        "far",
        "fetching",
        "first",
        "frames",
        "head",
        "idle_since_s",
        "large",
        "live",
        "marks",
        "members_seq",
        "moved",
        "name",
        "name_b",
        "open",
        "partition",
        "present",
        "reached",
        "ring_bytes",
        "roles",
        "sid",
        "signals",
        "tenant",
        "tour",
        "want",
    )

    def __init__(self, tenant: str, name: str, sid: int, partition: int, head: int, first: int, open: bool) -> None:
        self.tenant = tenant
        self.name = name
        self.audit = name.startswith("audit:")
        self.name_b = name.encode()
        self.sid = sid
        self.partition = partition
        self.head = head
        self.first = first
        self.open = open
        self.frames: list[bytes] = []
        self.base = head + 1
        """Seq of ``frames[0]``; head + 1 while the ring is empty."""
        self.ring_bytes = 0
        self.want = head
        """Highest seq known to be committed; above head there is a hole that the log must fill first."""
        self.live: dict[Port, None] = {}
        self.behind: dict[Port, None] = {}
        self.tour: Pass | None = None
        self.fetching: dict[int, list[Port]] = {}
        """Pages asked of the log, by the cursor they start after, with the ports that wait for each."""
        self.roles: dict[str, str | None] = {}
        self.members_seq = 0
        """Seq of the last membership change seen; facts of an older snapshot are not believed about roles."""
        self.ahead: dict[str, int] = {}
        """Principals that had a part in the stream at a head beyond ours, with that head."""
        self.present: dict[str, int] = {}
        """Packed counts (core.presence) of everybody's connections on all nodes; 0 within the grace."""
        self.far: dict[str, dict[str, int]] | None = None
        """What of `present` is other nodes', by node."""
        self.moved: dict[str, bool] | None = None
        """Whose presence changed since it was told, and whether they came or went."""
        self.large = False
        """Told as a count when it was told last."""
        self.marks: dict[str, tuple[int, int]] = {}
        self.reached: tuple[int, int, int] | None = None
        """(seq, how many markers have it delivered, how many read): the aggregate, kept up while markers are raised."""
        self.signals: dict[SignalKey, tuple[object, float]] = {}
        self.dirty_marks: set[str] = set()
        self.dirty_signals: set[SignalKey] = set()
        self.idle_since_s = 0.0

    @property
    def live_at(self) -> int:
        """The cursor of a subscriber that is live and was served by the tour under way, if there is one."""
        return self.head if self.tour is None else self.tour.end

    @property
    def floor(self) -> int:
        """Every live subscriber has everything up to here."""
        return self.head if self.tour is None else self.tour.start

    def push(self, frame: bytes) -> None:
        """The event after head, framed, into the ring."""
        if not self.frames:
            self.base = self.head + 1
        self.frames.append(frame)
        self.head += 1
        self.ring_bytes += len(frame)

    def shrink(self, events_max: int, bytes_max: int) -> int:
        """Forget the oldest frames down to the bounds; returns the bytes freed.

        Deleting from a list's front moves the rest, so it waits until an eighth too many have gathered.
        """
        surplus = len(self.frames) - events_max
        if surplus * 8 < events_max and self.ring_bytes <= bytes_max:
            return 0
        cut = max(surplus, 0)
        freed = sum(map(len, self.frames[:cut]))
        while self.ring_bytes - freed > bytes_max and cut < len(self.frames) - 1:
            freed += len(self.frames[cut])
            cut += 1
        del self.frames[:cut]
        self.base += cut
        self.ring_bytes -= freed
        return freed

    def role(self, principal: str, standing: int) -> str | None:
        """The role of a principal whose facts are known and whose standing in the tenant (`core.policy`) is this; ``None``:
        it has no part in the stream."""
        if self.audit:
            return role_in(self.name, None, standing)
        return "owner" if standing & OWNS else self.roles.get(principal)


class Port:
    """One connection as the hub sees it. The gateway subclasses it and gives it a socket's ``send``.

    ``send(data)`` puts bytes on the wire without waiting: it returns how many it took, or raises BlockingIOError for
    none, or any other OSError when the connection is gone.
    """

    __slots__ = (
        "away",
        "blocked",
        "closed",
        "lag",
        "mark_keys",
        "out",
        "principal",
        "replies",
        "reply_bytes",
        "rest",
        "send",
        "signal_keys",
        "subs",
        "until",
    )

    def __init__(self, send: Callable[[bytes], int]) -> None:
        self.send = send
        self.principal = ""
        self.away = False
        self.blocked = False
        """The socket took less than it was given: nothing more is sent before it is writable again."""
        self.closed = False
        self.rest: bytes | None = None
        """The tail of the one frame that was cut in half; goes first."""
        self.out: list[bytes] | None = None
        """What this turn has gathered for one ``send``; ``None`` outside a turn."""
        self.replies: list[bytes] | None = None
        """Answers that wait because the port is blocked. Bounded by not reading requests (see gateway.shard)."""
        self.reply_bytes = 0
        self.subs: dict[Stream, int] = {}
        self.lag: dict[Stream, None] | None = None
        self.until: dict[Stream, int] | None = None
        """Streams this principal was removed from, with the last seq it may have."""
        self.mark_keys: dict[tuple[Stream, str], None] | None = None
        self.signal_keys: dict[tuple[Stream, SignalKey], None] | None = None

    def stall(self) -> None:
        """Called when the port becomes blocked: ask to be told when it can be written."""

    def flow(self) -> None:
        """Called when a blocked port has taken everything that was cut off."""

    def broken(self) -> None:
        """Called once when ``send`` found the connection gone."""
