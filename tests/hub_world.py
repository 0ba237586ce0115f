"""A small world around one hub: a log, sockets that stall and break, a network that loses and repeats. No clock, no I/O.

A *program* is bytes; each instruction is one byte and takes its arguments from the bytes after it, so that any bytes
are a program, hypothesis can shrink one, and the same bytes always do the same. `World.run` executes it and checks
every frame as it arrives; `World.settle` then lets every socket drain, answers every question and checks that nothing
is missing. What is checked is in `_check_frame`, `_check_hub` and `_check_end`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from core import hub as hub_module
from core import wire
from core.hub import Hub
from core.limits import Limits
from core.model import Event, StreamFacts
from core.stream import LIVE, Stream
from tests.fake_port import ENDLESS, FakePort, Frame

PRINCIPALS = ("user:amy", "user:bob", "user:cy", "user:dee")
TENANT = "demo"
LIMITS = replace(
    Limits(),
    ring_events_max=6,
    ring_bytes_max=1_200,
    rings_bytes_max=2_000,
    replay_page_events=3,
    replay_page_bytes=600,
    slice_deliveries=3,
    presence_list_max=3,
    stream_idle_s=60.0,
)
BACKLOG_FRAMES_MAX = 200


@dataclass
class LogStream:
    """A stream as the log has it. ``members`` is now; ``left`` and ``joined`` say at which seqs that changed."""

    sid: int
    name: str
    partition: int
    events: list[Event] = field(default_factory=list)
    first: int = 1
    members: set[str] = field(default_factory=lambda: set(PRINCIPALS))
    left: dict[str, list[int]] = field(default_factory=dict)

    @property
    def head(self) -> int:
        return len(self.events)

    def read(self, after: int, limit: int) -> list[Event]:
        start = max(after, self.first - 1)
        return self.events[start : start + limit]

    def facts(self, principal: str) -> StreamFacts:
        role = "member" if principal in self.members else None
        return StreamFacts(self.sid, TENANT, self.name, self.partition, self.head, self.first, False, role)


@dataclass
class Follow:
    """What one port was promised for one stream: the next seq, and the seq of the facts that let it in."""

    expected: int
    granted_at: int


class Client(FakePort):
    """A port and everything its decoder concluded."""

    def __init__(self, principal: str) -> None:
        super().__init__(principal)
        self.follows: dict[str, Follow] = {}
        self.granted: list[tuple[str, int]] = []
        """(stream, seq of the facts) of each subscription, in the order their answers go out."""
        self.marks: dict[tuple[str, str], int] = {}
        self.typing: dict[tuple[str, str], bool] = {}
        self.presence: dict[tuple[str, str], str] = {}


class World:
    def __init__(self, program: bytes) -> None:
        self.program = program
        self.at = 0
        self.trace: list[str] = []
        self.now_s = 1000.0
        small_rooms = self.byte() % 3
        hub_module.GATHER_PORTS_MAX = (64, 1, 1)[small_rooms]
        lists = self.byte()
        limits = replace(
            LIMITS,
            slice_deliveries=(3, 2, 100)[small_rooms],
            presence_list_max=(3, 2, 200)[lists % 3],
            turn_replay_bytes=(LIMITS.turn_replay_bytes, 1, 12_000)[lists // 3 % 3],  # a page a turn, or two
        )
        self.hub = Hub(2, limits, fetch=self._fetch, fill=self._fill)
        self.log = [LogStream(1, "chat:a", 0), LogStream(2, "chat:b", 0), LogStream(3, "chat:c", 1)]
        self.by_name = {stream.name: stream for stream in self.log}
        self.partitions: list[list[Event]] = [[], []]
        self.commits: list[tuple[int, int, int]] = []
        """(partition, first pos, last pos) of commits whose news is under way to the hub, or lost."""
        self.told: list[tuple[int, int, int]] = []
        self.gaps: set[int] = set()
        self.fetches: list[tuple[Stream, int, list[Event] | None, int]] = []
        self.fills: list[tuple[Stream, list[Event] | None, int]] = []
        self.loads: list[tuple[Client, LogStream, StreamFacts | None, int | None]] = []
        self.granted: dict[tuple[int, str], int] = {}
        self.clients = [self._client(n) for n in range(7)]

    # -- the interpreter ----------------------------------------------------------------------------------------------

    def byte(self) -> int:
        self.at += 1
        return self.program[self.at - 1] if self.at <= len(self.program) else 0

    def run(self) -> World:
        while self.at < len(self.program):
            action = ACTIONS[self.byte() % len(ACTIONS)]
            self.do(action)
        return self

    def do(self, action: Callable[[World], str]) -> None:
        self.trace.append(action.__name__)
        self.trace[-1] = f"{action.__name__}: {action(self)}"
        self.trace = self.trace[-400:]
        self.hub.flush()
        self._bury()
        for client in self.clients:
            for frame in client.frames():
                self._check_frame(client, frame)
        self._check_hub()

    def _client(self, n: int) -> Client:
        return Client(PRINCIPALS[n % len(PRINCIPALS)])

    def _bury(self) -> None:
        """Connections found broken are dropped and a new one takes their place, as the shard does after a turn."""
        for n, client in enumerate(self.clients):
            if "broken" in client.calls or client.closed:
                assert client.calls.count("broken") <= 1, "told twice that it is broken"
                for frame in client.frames():
                    self._check_frame(client, frame)
                self.hub.drop(client, self.now_s)
                self.clients[n] = self._client(n)

    def pick(self) -> Client:
        return self.clients[self.byte() % len(self.clients)]

    def stream(self) -> LogStream:
        return self.log[self.byte() % len(self.log)]

    # -- the hub's questions ------------------------------------------------------------------------------------------

    def _fetch(self, stream: Stream, after: int) -> None:
        assert not any(s is stream and a == after for s, a, _, _ in self.fetches), "the same page asked twice"
        self.fetches.append((stream, after, None, 0))

    def _fill(self, stream: Stream) -> None:
        if not any(s is stream for s, _, _ in self.fills):  # the node has one fill a stream under way
            self.fills.append((stream, None, 0))

    # -- actions ------------------------------------------------------------------------------------------------------

    def commit(self) -> str:
        """Some events of a partition in one commit; the news of it goes out, and may be told now or later."""
        partition, count, now = self.byte() % 2, 1 + self.byte() % 9, self.byte() % 4
        streams = [stream for stream in self.log if stream.partition == partition]
        first = len(self.partitions[partition]) + 1
        for _ in range(count):
            stream = streams[self.byte() % len(streams)]
            self._append(stream, "message", b'{"text":"' + b"x" * (self.byte() % 60) + b'"}', "user:amy")
        news = (partition, first, first + count - 1)
        self.commits.append(news)
        if now:
            self._tell(self.commits.pop())
        return f"{news} {'told' if now else 'silent'}"

    def _append(self, stream: LogStream, type: str, body: bytes, by: str) -> Event:
        log = self.partitions[stream.partition]
        key = f"00000000-0000-4000-8000-{len(log) + 1:012x}"
        event = Event(stream.partition, len(log) + 1, stream.sid, stream.head + 1, key, type, by, 0, body)
        log.append(event)
        stream.events.append(event)
        return event

    def tell(self) -> str:
        """News arrives late, again, or never (those left here are found by `tail`)."""
        if self.commits and self.byte() % 4:
            news = self.commits.pop(self.byte() % len(self.commits))
            self._tell(news)
            return f"late {news}"
        if self.told:
            news = self.told[-1 - self.byte() % min(len(self.told), 5)]
            partition, first, last = news
            self._tell((partition, first, min(last + self.byte() % 3, len(self.partitions[partition]))))
            return f"again, and perhaps more, {news}"
        return "nothing"

    def _tell(self, news: tuple[int, int, int]) -> None:
        """As the node does: its own commits as frames, those with membership changes as rows."""
        partition, first, last = news
        self.told.append(news)
        events = self.partitions[partition][first - 1 : last]
        if any(event.type.startswith("member.") for event in events):
            taken = self.hub.ingest_events(partition, events, self.now_s)
        else:
            batch = []
            for event in events:
                stream = self.hub.by_sid.get(event.sid)
                if stream is None:
                    self.hub.note_unknown(event.sid, event.seq)
                else:
                    batch.append((stream, event.seq, hub_module.encode(stream, event)))
            taken = self.hub.ingest(partition, first, last, batch)
        if not taken:
            self.gaps.add(partition)

    def tail(self) -> str:
        """A partition is read from where the hub stands, a few rows or many."""
        partition, limit = self.byte() % 2, 1 + self.byte() % 8
        return self._tail(partition, limit)

    def _tail(self, partition: int, limit: int) -> str:
        pos = self.hub.pos[partition]
        events = self.partitions[partition][pos : pos + limit]
        if events:
            assert self.hub.ingest_events(partition, events, self.now_s), "rows from where it stands were refused"
        else:
            self.gaps.discard(partition)
        return f"{partition} past {pos}: {len(events)}"

    def skip(self) -> str:
        """News that jumps over positions but names a later event of a stream: a hole within the stream."""
        stream = self.hub.by_sid.get(self.stream().sid)
        if stream is None:
            return "unknown"
        log = self.log[stream.sid - 1]
        if log.head > max(stream.want, stream.head):
            stream.want = log.head
            self._fill(stream)
        return f"{stream.name} wants {stream.want}"

    def subscribe(self) -> str:
        """What the hub knows is used at once, what it does not is asked for; the answer may take its time."""
        client, log, choice = self.pick(), self.stream(), self.byte()
        after = None if choice % 4 == 0 else choice % (log.head + 4)
        stream = self.hub.by_sid.get(log.sid)
        if stream is not None and client.principal in stream.roles:
            return f"{client.principal} {self._enter(client, stream, after)}"
        if not any(waiting is client for waiting, _, _, _ in self.loads):
            self.hub.loading()
            now = self.byte() % 2
            self.loads.append((client, log, log.facts(client.principal) if now else None, after))
        return f"{client.principal} {log.name} after {after}: asked"

    def load(self) -> str:
        """Facts for a waiting subscriber: read first, believed later."""
        if not self.loads:
            return "none"
        at = self.byte() % len(self.loads)
        client, log, facts, after = self.loads[at]
        if facts is None and self.byte() % 2:
            self.loads[at] = (client, log, log.facts(client.principal), after)
            return f"{log.name} read at {log.head}"
        del self.loads[at]
        return self._load(client, log, facts or log.facts(client.principal), after)

    def _load(self, client: Client, log: LogStream, facts: StreamFacts, after: int | None) -> str:
        (believed,) = self.hub.load([(facts, client.principal)], self.now_s)
        if not believed:
            assert facts.head < log.head, "facts of now were not believed"
            return "not believed"
        key = (log.sid, client.principal)
        if facts.role is not None:
            self.granted[key] = max(facts.head, self.granted.get(key, 0))
        return self._enter(client, self.hub.by_sid[log.sid], after) if client in self.clients else "gone"

    def _enter(self, client: Client, stream: Stream, after: int | None) -> str:
        """As `gateway.opening` answers: where it starts, then the events."""
        hub = self.hub
        if stream.role(client.principal, 0) is None:
            return "forbidden"
        start = stream.head if after is None else after
        lost = start > max(stream.head, stream.want) or start < stream.first - 1
        declared = stream.first - 1 if lost else start
        client.granted.append((stream.name, self.granted[stream.sid, client.principal]))
        hub.reply(client, wire.encode({"op": "ok", "stream": stream.name, "after": declared}))
        hub.subscribe(client, stream, start, self.now_s)
        return f"{stream.name} after {start}, lost={lost}, head {stream.head}"

    def unsubscribe(self) -> str:
        client = self.pick()
        followed = list(client.subs)
        if not followed:
            return "none"
        stream = followed[self.byte() % len(followed)]
        self.hub.unsubscribe(client, stream, self.now_s)
        self.hub.reply(client, wire.encode({"op": "ok", "stream": stream.name}))
        if self.byte() % 4 == 0:
            return f"{stream.name} and {self._enter_again(client, stream)}"
        return stream.name

    def _enter_again(self, client: Client, stream: Stream) -> str:
        known = client.principal in stream.roles
        return self._enter(client, stream, self.byte() % (stream.head + 2)) if known else "unknown"

    def member(self) -> str:
        """A principal is removed, or taken in again, at a place in the order."""
        stream, principal, told = self.stream(), PRINCIPALS[self.byte() % 4], self.byte() % 4
        body = json.dumps({"principal": principal}).encode()
        if principal in stream.members:
            stream.members.remove(principal)
            event = self._append(stream, "member.left", body, "user:boss")
            stream.left.setdefault(principal, []).append(event.seq)
        else:
            stream.members.add(principal)
            event = self._append(stream, "member.joined", body, "user:boss")
        news = (stream.partition, event.pos, event.pos)
        self.commits.append(news)
        if told:
            self._tell(self.commits.pop())
        return f"{event.type} {stream.name} {principal} at {event.seq} {'told' if told else 'silent'}"

    def block(self) -> str:
        client = self.pick()
        client.room = self.byte() * (1 + self.byte() % 5)
        return f"{client.principal} takes {client.room}"

    def drain(self) -> str:
        client = self.pick()
        client.room = ENDLESS if self.byte() % 4 else 1 + self.byte()
        if client.blocked:
            self.hub.pump(client)
        return f"{client.principal} takes {client.room}"

    def cut(self) -> str:
        """A connection breaks: found by the next send, or by its closing."""
        client = self.pick()
        client.gone = True
        if self.byte() % 2:
            client.calls.append("broken")
        return client.principal

    def fetched(self) -> str:
        """A page: its rows are read, later they arrive, or the log could not answer."""
        if not self.fetches:
            return "none"
        at, how = self.byte() % len(self.fetches), self.byte() % 4
        stream, after, rows, first = self.fetches[at]
        if rows is None and how == 1:
            self.fetches[at] = (stream, after, *self._read(stream, after))
            return f"{stream.name} past {after} read"
        del self.fetches[at]
        if how == 0:
            self.hub.page_failed(stream, after)
            return f"{stream.name} past {after} failed"
        if rows is None:
            rows, first = self._read(stream, after)
        self.hub.page(stream, after, rows, first)
        return f"{stream.name} past {after}: {len(rows)} rows, first {first}"

    def _read(self, stream: Stream, after: int) -> tuple[list[Event], int]:
        log = self.by_name[stream.name]
        return log.read(after, 4), log.first

    def filled(self) -> str:
        if not self.fills:
            return "none"
        stream, rows, want = self.fills.pop(self.byte() % len(self.fills))
        if rows is None and self.byte() % 2:
            self.fills.append((stream, self.by_name[stream.name].read(stream.head, 4), stream.want))
            return f"{stream.name} read past {stream.head}"
        self._fill_in(stream, rows, want)
        return f"{stream.name} to {stream.head}"

    def _fill_in(self, stream: Stream, rows: list[Event] | None, want: int) -> None:
        if rows is None:
            rows, want = self.by_name[stream.name].read(stream.head, 4), stream.want
        self.hub.filled(stream, rows, self.now_s, want)

    def trim(self) -> str:
        log = self.stream()
        first = max(log.first, self.byte() % (log.head + 2))
        # A removal that the hub has not met is not trimmed: jumped over with a hole it would show only by its position.
        pos = self.hub.pos[log.partition]
        unmet = (event.seq for event in log.events[log.first - 1 :] if event.pos > pos and event.type == "member.left")
        first = min(first, next(unmet, first))
        for seq in range(log.first, first):
            event = log.events[seq - 1]
            trimmed = event._replace(body=None)
            log.events[seq - 1] = self.partitions[event.partition][event.pos - 1] = trimmed
        log.first = first
        stream = self.hub.by_sid.get(log.sid)
        told = self.byte() % 2
        if stream is not None and told:
            self.hub.trimmed(stream, first)
        return f"{log.name} before {first} {'told' if told else 'silent'}"

    def turn(self) -> str:
        return str(self.hub.turn(self.now_s))

    def evict(self) -> str:
        self.now_s += self.byte()
        self.hub.evict(self.now_s)
        return f"{len(self.hub.by_sid)} left"

    def mark(self) -> str:
        stream = self.hub.by_sid.get(self.stream().sid)
        if stream is None:
            return "unknown"
        who = PRINCIPALS[self.byte() % 4]
        return f"{stream.name} {who} {self.hub.signals.mark(stream, who, stream.head - self.byte() % 3, 0)}"

    def type(self) -> str:
        stream = self.hub.by_sid.get(self.stream().sid)
        if stream is None:
            return "unknown"
        who, on = PRINCIPALS[self.byte() % 4], bool(self.byte() % 3)
        self.hub.signals.typing(stream, who, on, self.now_s)
        return f"{stream.name} {who} {on}"

    def away(self) -> str:
        client, away = self.pick(), bool(self.byte() % 2)
        self.hub.signals.set_away(client, away)
        return f"{client.principal} {away}"

    def signal(self) -> str:
        self.now_s += self.byte() / 32
        self.hub.signals.tick(self.now_s)
        self.hub.signals.flush(self.now_s, large_rooms=bool(self.byte() % 2))
        return f"at {self.now_s}"

    # -- checks -------------------------------------------------------------------------------------------------------

    def _check_frame(self, client: Client, frame: Frame) -> None:
        """Every frame of a port, in the order of its wire."""
        op, name = frame["op"], frame["stream"]
        follow = client.follows.get(name)
        if op == "ok":
            if "after" in frame:
                granted_for, granted_at = client.granted.pop(0)
                assert granted_for == name
                client.follows[name] = Follow(frame["after"] + 1, granted_at)
                for by in PRINCIPALS:  # whoever follows anew is told what is latest
                    client.typing.pop((name, by), None)
                    client.marks.pop((name, by), None)
                    client.presence.pop((name, by), None)
            else:
                client.follows.pop(name, None)
        elif op == "unsub":
            assert follow is not None, "removed from what it does not follow"
            assert frame["reason"] == "removed"
            left = self.by_name[name].left.get(client.principal, [0])
            trimmed = [e.seq for e in self.by_name[name].events if e.type == "member.left" and e.body is None]
            assert max((*left, *trimmed)) > follow.granted_at, (
                f"{client.principal} was told of a removal that did not happen"
            )
            del client.follows[name]
        elif follow is None:
            raise AssertionError(f"not followed: {frame}")
        elif op == "reset":
            assert frame["first"] <= self.by_name[name].first
            follow.expected = frame["first"]
        elif op == "event":
            self._check_event(client, name, frame, follow)
        elif op == "mark":
            alone = sum(other.principal == client.principal for other in self.clients) == 1
            assert frame["by"] != client.principal or not alone, "told its own markers without another device"
            assert frame["delivered"] < follow.expected, f"a marker before the event it follows: {frame}"
            client.marks[name, frame["by"]] = frame["delivered"]
        elif op == "marks":
            assert frame["seq"] < follow.expected, f"a marker before the event it follows: {frame}"
        else:
            assert op == "signal"
            assert frame["by"] != client.principal if "by" in frame else frame["kind"] == "online"
            if frame["kind"] == "typing":
                client.typing[name, frame["by"]] = frame["value"]
            elif frame["kind"] == "presence":
                client.presence[name, frame["by"]] = frame["value"]

    def _check_event(self, client: Client, name: str, frame: Frame, follow: Follow) -> None:
        assert frame["seq"] == follow.expected, f"{client.principal} wants {follow.expected} of {name}, got {frame}"
        follow.expected += 1
        event = self.by_name[name].events[frame["seq"] - 1]
        assert (frame["type"], frame["key"], frame["by"]) == (event.type, event.key, event.by)
        assert event.body is None or frame["body"] is None or frame["body"] == json.loads(event.body)
        limit = self._limit(name, client.principal, follow)
        assert limit is None or frame["seq"] <= limit, f"{client.principal} was removed at {limit}, got {frame}"

    def _limit(self, name: str, principal: str, follow: Follow) -> int | None:
        """The last seq this follower may have: of the first removal after the newest facts that call it a member."""
        log = self.by_name[name]
        granted_at = max(follow.granted_at, self.granted[log.sid, principal])
        return next((seq for seq in log.left.get(principal, []) if seq > granted_at), None)

    def _check_hub(self) -> None:
        """The hub's own books, after every action."""
        hub = self.hub
        assert hub.ring_bytes == sum(stream.ring_bytes for stream in hub.by_sid.values())
        for stream in hub.by_sid.values():
            assert stream.ring_bytes == sum(map(len, stream.frames))
            assert stream.base + len(stream.frames) == stream.head + 1
            assert len(stream.frames) < hub.limits.ring_events_max * 9 / 8 + 1
            assert (stream in hub.idle) == (not stream.live and not stream.behind)
            for port in stream.live:
                assert port.subs[stream] == LIVE
            for port in stream.behind:
                assert port.subs[stream] >= 0
                assert port.lag is not None
                assert stream in port.lag
        for client in self.clients:
            assert client.out is None, "gathered and never sent"
            assert client.blocked == (client.calls.count("stall") > client.calls.count("flow"))
            if not client.blocked:
                assert client.rest is None
                assert client.replies is None
            waiting: list[bytes] = client.replies or []
            assert not any(b'"op":"event"' in frame for frame in waiting), "an event is queued for a slow client"
            assert len(waiting) <= BACKLOG_FRAMES_MAX

    # -- the end ------------------------------------------------------------------------------------------------------

    def settle(self) -> World:
        """All faults end: every socket takes everything, every question is answered. Then nothing may be missing."""
        for client in self.clients:
            client.room = ENDLESS
        for _ in range(600):
            before = self._pending()
            self.do(World._settle_once)
            if not before and not self._pending():
                break
        else:
            raise AssertionError("never comes to rest")
        self._check_end()
        return self

    def _pending(self) -> object:
        hub = self.hub
        behind = [p for p in (0, 1) if hub.pos[p] < len(self.partitions[p])]
        blocked = [client for client in self.clients if client.blocked]
        return bool(self.fetches or self.fills or self.loads or behind or blocked or hub.more)

    def _settle_once(self) -> str:
        for partition in (0, 1):
            self._tail(partition, 5)
        loads, self.loads = self.loads, []
        for client, log, facts, after in loads:
            self._load(client, log, facts or log.facts(client.principal), after)
        fetches, self.fetches = self.fetches, []
        for stream, after, rows, first in fetches:
            if rows is None:
                rows, first = self._read(stream, after)
            self.hub.page(stream, after, rows, first)
        fills, self.fills = self.fills, []
        for stream, rows, want in fills:
            self._fill_in(stream, rows, want)
        for client in self.clients:
            if client.blocked:
                self.hub.pump(client)
        self.hub.turn(self.now_s)
        return f"pos {self.hub.pos}"

    def _check_end(self) -> None:
        for _ in range(2):
            self.now_s += 20
            self.do(lambda world: World._quiet(world))
        for client in self.clients:
            assert not client.wire, "half a frame was never finished"
            assert not client.blocked
            assert not client.granted, "a subscription was never answered"
            assert {stream.name for stream in client.subs} == set(client.follows)
            for name, follow in client.follows.items():
                log = self.by_name[name]
                limit = self._limit(name, client.principal, follow)
                assert limit is None, f"{client.principal} was removed from {name} at {limit} and still follows"
                assert follow.expected >= log.head + 1, f"{client.principal} stands at {follow.expected - 1} of {name}"
                stream = self.hub.by_name[TENANT, name]
                assert client.subs[stream] == LIVE or follow.expected > log.head + 1
                for by in PRINCIPALS:
                    assert not client.typing.get((name, by)), f"{by} types for ever in {name}"
                    if self.hub.limits.presence_list_max == 200 and (name, by) in client.presence:
                        assert client.presence[name, by] == self._presence(stream, by), f"{by} in {name}"
                    if client.marks.get((name, by)) and len(stream.present) <= self.hub.limits.presence_list_max:
                        assert client.marks[name, by] <= stream.marks[by][0]
        assert not self.hub.turn(self.now_s), "busy with nothing"

    def _presence(self, stream: Stream, by: str) -> str:
        """Counted from the connections themselves."""
        away = [client.away for client in self.clients if client.principal == by and stream in client.subs]
        return "offline" if not away else "away" if all(away) else "online"

    def _quiet(self) -> str:
        self.hub.signals.tick(self.now_s)
        self.hub.signals.flush(self.now_s, large_rooms=True)
        self.hub.turn(self.now_s)
        return "signals"

    def story(self) -> str:
        return "\n".join(self.trace)


ACTIONS: list[Callable[[World], str]] = [
    World.turn,
    *[World.commit] * 5,
    *[World.subscribe] * 4,
    *[World.load] * 2,
    *[World.drain] * 4,
    *[World.fetched] * 3,
    *[World.tail] * 2,
    *[World.filled] * 2,
    World.tell,
    World.tell,
    World.block,
    World.block,
    World.member,
    World.unsubscribe,
    World.cut,
    World.trim,
    World.turn,
    World.turn,
    World.evict,
    World.mark,
    World.type,
    World.away,
    World.signal,
    World.signal,
    World.skip,
]


def explain(world: World, error: Any) -> str:
    return f"{error}\nprogram: {world.program.hex()}\n{world.story()}"
