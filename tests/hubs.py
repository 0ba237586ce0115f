"""A hub on a bench: streams, events and ports made in a line each, questions to the log kept for the test to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from core import wire
from core.fair import even
from core.hub import Hub
from core.limits import Limits
from core.model import Event, StreamFacts
from core.stream import Stream
from tests.fake_port import ENDLESS, FakePort, Frame

TENANT = "demo"
SMALL = replace(Limits(), ring_events_max=8, replay_page_events=3, slice_deliveries=2)
"""Bounds that a handful of events and ports meet."""


class Bench:
    """``fetches`` and ``fills`` hold what the hub asked of the log; ``now_s`` is the only clock."""

    def __init__(self, limits: Limits | None = None, partitions: int = 1, weight: Callable[[str], int] = even) -> None:
        self.now_s = 1000.0
        self.fetches: list[tuple[Stream, int]] = []
        self.fills: list[Stream] = []
        self.hub = Hub(
            partitions,
            limits or Limits(),
            fetch=lambda stream, after: self.fetches.append((stream, after)),
            fill=self.fills.append,
            weight=weight,
        )

    def facts(
        self,
        sid: int,
        *,
        head: int = 0,
        first: int = 1,
        open: bool = False,
        role: str | None = "member",
        tenant: str = TENANT,
    ) -> StreamFacts:
        return StreamFacts(sid, tenant, f"chat:s{sid}", 0, head, first, open, role)

    def stream(self, sid: int = 1, *, who: str = "user:amy", **fields: object) -> Stream:
        """A stream that the hub has just learned of."""
        self.hub.loading()
        assert self.hub.load([(self.facts(sid, **fields), who)], self.now_s) == [True]  # type: ignore[arg-type]
        return self.hub.by_sid[sid]

    def follow(
        self, stream: Stream, principal: str = "user:amy", after: int | None = None, room: int = ENDLESS
    ) -> FakePort:
        """A new port that follows, at head unless told otherwise; the answer to its sub is on its wire."""
        port = FakePort(principal)
        self.sub(port, stream, after)
        port.room = room
        return port

    def sub(self, port: FakePort, stream: Stream, after: int | None = None) -> None:
        self.hub.reply(port, wire.encode({"op": "ok", "stream": stream.name}))
        self.hub.subscribe(port, stream, stream.head if after is None else after, self.now_s)
        self.hub.flush()

    def event(
        self, stream: Stream, seq: int, *, type: str = "message", body: bytes | None = b"{}", pos: int = 0
    ) -> Event:
        key = f"00000000-0000-4000-8000-{seq:012x}"
        return Event(0, pos or self.hub.pos[0] + 1, stream.sid, seq, key, type, "user:amy", 0, body)

    def rows(self, stream: Stream, first: int, last: int) -> list[Event]:
        """Rows as the log would read them."""
        return [self.event(stream, seq) for seq in range(first, last + 1)]

    def events(self, stream: Stream, count: int = 1, *, size: int = 0) -> None:
        """The next events of a stream, one batch, and the flush after it."""
        pos = self.hub.pos[0]
        body = b'"%b"' % (b"x" * size)
        batch = [
            (stream, seq, wire.encode_event(stream.name_b, seq, "message", "k", "user:amy", 0, body))
            for seq in range(stream.head + 1, stream.head + 1 + count)
        ]
        assert self.hub.ingest(0, pos + 1, pos + count, batch)
        self.hub.flush()

    def signals(self, later_s: float = 0.0, *, large_rooms: bool = True) -> None:
        """Time passes, then what is dirty goes out."""
        self.now_s += later_s
        self.hub.signals.tick(self.now_s)
        self.hub.signals.flush(self.now_s, large_rooms=large_rooms)

    def block(self, port: FakePort) -> None:
        """From now on the socket takes nothing, and the hub knows."""
        port.room = 0
        self.hub.reply(port, wire.encode({"op": "ok", "stream": "?"}))
        self.hub.flush()
        assert port.blocked

    def unblock(self, port: FakePort, room: int = ENDLESS) -> None:
        port.room = room
        self.hub.pump(port)
        self.hub.flush()


def said(port: FakePort, *, signals: bool = False) -> list[tuple[str, object]]:
    """(op, seq or what matters) of what arrived since the last call."""
    keys = {"event": "seq", "reset": "first", "unsub": "seq", "signal": "kind", "mark": "delivered"}
    frames: list[Frame] = [frame for frame in port.frames() if signals or frame["op"] not in ("signal", "mark")]
    return [(frame["op"], frame.get(keys.get(frame["op"], ""))) for frame in frames]


def left(stream: Stream, seq: int, principal: str, pos: int) -> Event:
    body = b'{"principal":"%b"}' % principal.encode()
    return Event(0, pos, stream.sid, seq, f"00000000-0000-4000-8000-{seq:012x}", "member.left", "user:boss", 0, body)


def joined(stream: Stream, seq: int, principal: str, pos: int) -> Event:
    return left(stream, seq, principal, pos)._replace(type="member.joined")
