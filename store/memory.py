"""The log in memory: the reference model that the simulator runs on and that Postgres is held to (tests/contract).

Promises the very same answers as `store.postgres` to the same calls in the same order, and nothing by itself: time and
keys are handed in, so that the same calls give the same log. It keeps everything until the process ends.

No method waits unless a ``pause`` is handed in: it is awaited at the start of every call (a checkpoint, a simulated
round trip), before anything is read or written. After it a call runs to its end in one turn, which is what makes every
call one commit and one snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Literal

import orjson

from core.model import (
    AUDIT_STREAM,
    AUDITOR,
    Decided,
    Entry,
    Epoch,
    Event,
    Judged,
    Mark,
    Member,
    MyStream,
    Outcome,
    StreamFacts,
    Verdict,
)
from core.ports import Refused, Unavailable
from store.layout import (
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
    Wellformed,
    check_members,
    check_principal,
    check_role,
    check_stream,
    is_wellformed,
    partition_of,
)

Failure = Literal["unavailable", "unknown"]


class _Stream:
    """One stream: its events by seq (``events[seq - 1]``), first seq of each key, members and markers by principal."""

    __slots__ = (
        "commands",
        "events",
        "first",
        "keys",
        "marks",
        "members",
        "name",
        "open",
        "partition",
        "ruled",
        "ruling",
        "sid",
        "tenant",
    )

    def __init__(self, sid: int, tenant: str, name: str, partition: int, open: bool) -> None:
        self.sid = sid
        self.tenant = tenant
        self.name = name
        self.partition = partition
        self.open = open
        self.first = 1
        self.events: list[Event] = []
        self.keys: dict[str, int] = {}
        self.members: dict[str, str] = {}
        self.marks: dict[str, tuple[int, int]] = {}
        self.commands: dict[str, Judged] = {}
        """What each command's key is answered when it is used again."""
        self.ruled = 0
        self.ruling: set[int] = set()
        """Seqs of the events that commands became, and the last of them."""

    @property
    def head(self) -> int:
        return len(self.events)

    def is_as_expected(self, head: int) -> bool:
        """Whether nothing is past the head that a command was given on but the gateway's own timers."""
        past = self.events[max(head, 0) :]
        return head <= self.head and all(event.by == AUDITOR and event.type.startswith("timer.") for event in past)

    @property
    def is_audit(self) -> bool:
        return self.name.startswith("audit:")

    def role(self, principal: str) -> str | None:
        """What `StreamFacts.role` says: own membership, else reader of one's inbox, else member where open."""
        role = self.members.get(principal)
        if role is not None:
            return role
        if principal == self.name:
            return "reader"
        return "member" if self.open else None

    def facts(self, principal: str) -> StreamFacts:
        return StreamFacts(
            self.sid, self.tenant, self.name, self.partition, self.head, self.first, self.open, self.role(principal)
        )

    def kept(self, seq: int) -> Event | None:
        return self.events[seq - 1] if self.first <= seq <= self.head else None


def _judged(outcome: Outcome, partition: int, seq: int = 0) -> Judged:
    return Judged(outcome, partition, 0, seq, 0, 0, None)


class MemoryLog:
    """`core.ports.Log` and `LogChecker` over plain lists.

    ``now_ms`` is Unix time in milliseconds, asked once a commit; ``new_key`` gives canonical UUIDs, for the log's epoch
    and for membership events.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        new_key: Callable[[], str],
        partitions: int = PARTITIONS_DEFAULT,
        epoch: str | None = None,
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        assert 1 <= partitions <= PARTITIONS_MAX
        self._now_ms = now_ms
        self._new_key = new_key
        self._pause = pause
        self._epoch = Epoch(epoch if epoch is not None else new_key(), partitions)
        self._partitions: list[list[Event]] = [[] for _ in range(partitions)]
        self._at_ms = [0] * partitions
        self._by_sid: dict[int, _Stream] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._by_name: dict[tuple[str, str], _Stream] = {}
        self._wellformed = Wellformed()
        self._failures: deque[tuple[Failure, str | None]] = deque()
        self.down: str | None = None
        """A reason makes every call raise `Unavailable` with it, as a stopped Postgres would; ``None`` ends it."""
        self.calls: dict[str, int] = {}
        """How often each method was called, so that a test can say "without asking the log"."""

    # Switches for tests

    def fail_next(self, kind: Failure, method: str | None = None) -> None:
        """Make the next call (of ``method``, if given) raise `Unavailable`; several calls of this queue up.

        ``unavailable``: before it had any effect. ``unknown``: after its commit, as when a link breaks too soon.
        """
        assert kind in ("unavailable", "unknown")
        self._failures.append((kind, method))

    async def _begin(self, method: str) -> bool:
        """Count, wait, fail as told. True: commit, then raise (see `_end`)."""
        self.calls[method] = self.calls.get(method, 0) + 1
        if self._pause is not None:
            await self._pause()
        if self.down is not None:
            raise Unavailable(self.down)
        for failure in self._failures:
            kind, only = failure
            if only is None or only == method:
                self._failures.remove(failure)
                if kind == "unavailable":
                    raise Unavailable("the log was told to fail before committing")
                return True
        return False

    @staticmethod
    def _end(unknown: bool) -> None:
        if unknown:
            raise Unavailable("the log was told to fail after committing")

    @asynccontextmanager
    async def call(self, method: str) -> AsyncIterator[None]:
        """Around a call of what is kept beside this log (`store.memory_directory`), so that it fails when this does."""
        unknown = await self._begin(method)
        yield
        self._end(unknown)

    @property
    def tips(self) -> list[int]:
        """What `heads` answers, for what is kept beside this log and is inside a call already."""
        return [len(log) for log in self._partitions]

    def write_audit(self, tenant: str, type: str, by: str, body: bytes) -> Event:
        """Append to the tenant's audit stream, which is made when first needed: closed, and without members."""
        stream = self._by_name.get((tenant, AUDIT_STREAM)) or self._create(tenant, AUDIT_STREAM, open=False)
        return self._commit(stream, self._new_key(), type, by, body, self._now_ms())

    # Appending

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        unknown = await self._begin("append")
        now_ms = self._now_ms()
        heads: dict[int, int] = {}  # each stream's head before this batch; presence here means "not its first entry"
        verdicts = [self._append_one(entry, heads, now_ms) for entry in entries]
        self._end(unknown)
        return verdicts

    def _append_one(self, entry: Entry, heads: dict[int, int], now_ms: int) -> Verdict:
        stream = self._by_sid.get(entry.sid)
        if not self._wellformed(entry):
            return Verdict(Outcome.FORBIDDEN, 0, 0, 0, 0)
        if stream is None or stream.tenant != entry.tenant:
            return Verdict(Outcome.NOT_FOUND, 0, 0, 0, 0)
        is_first = stream.sid not in heads
        head_before = heads.setdefault(stream.sid, stream.head)
        role = "owner" if entry.privileged else stream.role(entry.by)
        if stream.is_audit and not (entry.privileged and entry.by == AUDITOR):
            role = None
        if role not in ("owner", "member"):
            return Verdict(Outcome.FORBIDDEN, stream.partition, 0, 0, 0)
        used = stream.keys.get(entry.key)
        if used is not None:
            return Verdict(Outcome.DUP, stream.partition, 0, used, stream.events[used - 1].at_ms)
        if entry.expect is not None and (not is_first or entry.expect != stream.head):
            return Verdict(Outcome.CONFLICT, stream.partition, 0, stream.head, 0)
        refused = self._check_ref(stream, entry, role, head_before)
        if refused is not None:
            return Verdict(refused, stream.partition, 0, 0, 0)
        event = self._commit(stream, entry.key, entry.type, entry.by, entry.body, now_ms)
        return Verdict(Outcome.OK, event.partition, event.pos, event.seq, event.at_ms)

    @staticmethod
    def _check_ref(stream: _Stream, entry: Entry, role: str, head_before: int) -> Outcome | None:
        """A ``ref`` names an event kept before this batch: nobody can know a seq that is not committed yet."""
        amends = entry.type in ("edit", "delete")
        if entry.ref is None:
            return Outcome.NOT_FOUND if amends else None
        target = stream.kept(entry.ref) if entry.ref <= head_before else None
        if target is None:
            return Outcome.NOT_FOUND
        if not amends or target.by == entry.by or (entry.type == "delete" and role == "owner"):
            return None
        return Outcome.FORBIDDEN

    def _commit(self, stream: _Stream, key: str, type: str, by: str, body: bytes, now_ms: int) -> Event:
        partition = stream.partition
        at_ms = max(now_ms, self._at_ms[partition])
        self._at_ms[partition] = at_ms
        log = self._partitions[partition]
        event = Event(partition, len(log) + 1, stream.sid, stream.head + 1, key, type, by, at_ms, body)
        log.append(event)
        stream.events.append(event)
        stream.keys[key] = event.seq
        return event

    # Commands

    async def command(self, commands: Sequence[Decided]) -> list[Judged]:
        unknown = await self._begin("command")
        now_ms = self._now_ms()
        seen: set[int] = set()
        judged = [self._judge(command, seen) for command in commands]
        for n, (command, found) in enumerate(zip(commands, judged, strict=True)):
            if found.outcome is Outcome.OK:
                judged[n] = self._keep(self._by_sid[command.sid], command, now_ms)
        self._end(unknown)
        return judged

    def _judge(self, command: Decided, seen: set[int]) -> Judged:
        """As things were before the batch; ``OK`` is yet to be kept."""
        stream = self._of_tenant(command.tenant, command.sid)
        if not self._wellformed.command(command):
            return _judged(Outcome.FORBIDDEN, 0)
        if stream is None:
            return _judged(Outcome.NOT_FOUND, 0)
        is_first = stream.sid not in seen
        seen.add(stream.sid)
        partition = stream.partition
        role = "owner" if command.privileged else stream.role(command.by)
        if role not in ("owner", "member") or stream.is_audit:
            return _judged(Outcome.FORBIDDEN, partition)
        kept = stream.commands.get(command.key)
        if kept is not None:
            return kept
        used = stream.keys.get(command.key)
        if used is not None:
            return Judged(Outcome.DUP, partition, 0, used, 1, stream.events[used - 1].at_ms, None)
        if command.expect is not None and not stream.is_as_expected(command.expect):
            return _judged(Outcome.CONFLICT, partition, stream.head)
        if not is_first or command.state != stream.ruled:
            return _judged(Outcome.STALE, partition, stream.ruled)
        if any(key in stream.keys or key in stream.commands for key, _, _ in command.facts[1:]):
            return _judged(Outcome.FORBIDDEN, partition)
        return _judged(Outcome.OK, partition)

    def _keep(self, stream: _Stream, command: Decided, now_ms: int) -> Judged:
        partition = stream.partition
        events = [self._commit(stream, *fact[:2], command.by, fact[2], now_ms) for fact in command.facts]
        at_ms = events[0].at_ms if events else max(now_ms, self._at_ms[partition])
        seq = events[0].seq if events else 0
        stream.ruled = events[-1].seq if events else stream.ruled
        stream.ruling.update(event.seq for event in events)
        stream.commands[command.key] = Judged(Outcome.DUP, partition, 0, seq, len(events), at_ms, command.refusal)
        return Judged(Outcome.OK, partition, events[0].pos if events else 0, seq, len(events), at_ms, command.refusal)

    async def ruled(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        self._end(await self._begin("ruled"))
        stream = self._of_tenant(tenant, sid)
        if stream is None:
            return []
        events = (event for event in stream.events[max(after, 0) :] if event.seq in stream.ruling)
        return list(islice(events, max(limit, 0)))

    async def names(self, sids: Sequence[int]) -> dict[int, tuple[str, str]]:
        self._end(await self._begin("names"))
        found = [self._by_sid[sid] for sid in sorted(set(sids)) if sid in self._by_sid]
        return {stream.sid: (stream.tenant, stream.name) for stream in found}

    # Reading

    async def epoch(self) -> Epoch:
        self._end(await self._begin("epoch"))
        return self._epoch

    async def heads(self) -> list[int]:
        self._end(await self._begin("heads"))
        return self.tips

    async def read(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        self._end(await self._begin("read"))
        stream = self._of_tenant(tenant, sid)
        if stream is None:
            return []
        start = max(after, stream.first - 1, 0)
        return stream.events[start : start + max(limit, 0)]

    async def read_before(self, tenant: str, sid: int, before: int, limit: int) -> list[Event]:
        self._end(await self._begin("read_before"))
        stream = self._of_tenant(tenant, sid)
        if stream is None:
            return []
        stop = max(min(before - 1, stream.head), 0)
        return stream.events[max(stop - max(limit, 0), stream.first - 1) : stop]

    async def tail(self, partition: int, after_pos: int, limit: int) -> list[Event]:
        self._end(await self._begin("tail"))
        if not 0 <= partition < len(self._partitions):
            return []
        start = max(after_pos, 0)
        return self._partitions[partition][start : start + max(limit, 0)]

    async def open_streams(self, asked: Sequence[tuple[str, str, str]]) -> list[StreamFacts | None]:
        unknown = await self._begin("open_streams")
        known = [is_wellformed(*triple) for triple in asked]
        for (tenant, name, principal), is_known in zip(asked, known, strict=True):
            # Before anybody is answered: all answers are of one snapshot.
            if is_known and principal == name and (tenant, name) not in self._by_name:
                self._create(tenant, name, open=False)
        found: list[StreamFacts | None] = []
        for (tenant, name, principal), is_known in zip(asked, known, strict=True):
            stream = self._by_name.get((tenant, name)) if is_known else None
            found.append(stream.facts(principal) if stream is not None else None)
        self._end(unknown)
        return found

    def _of_tenant(self, tenant: str, sid: int) -> _Stream | None:
        stream = self._by_sid.get(sid)
        return stream if stream is not None and stream.tenant == tenant else None

    # Streams and members

    def _create(self, tenant: str, name: str, *, open: bool) -> _Stream:
        sid = len(self._by_sid) + 1
        stream = _Stream(sid, tenant, name, partition_of(tenant, name, self._epoch.partitions), open)
        self._by_sid[sid] = self._by_name[tenant, name] = stream
        return stream

    def _named(self, tenant: str, name: str) -> _Stream:
        check_stream(tenant, name)
        stream = self._by_name.get((tenant, name))
        if stream is None:
            raise Refused("not_found", "no such stream")
        return stream

    def _with_members(self, tenant: str, name: str) -> _Stream:
        """An audit stream has none: nobody comes or goes there."""
        found = self._named(tenant, name)
        if found.is_audit:
            raise Refused("not_found", "no such stream")
        return found

    async def create_stream(
        self, tenant: str, stream: str, *, open: bool, members: Sequence[Member], by: str
    ) -> StreamFacts:
        check_stream(tenant, stream)
        check_principal(by)
        check_members(members)
        unknown = await self._begin("create_stream")
        if (tenant, stream) in self._by_name:
            raise Refused("conflict", "the stream exists already")
        created = self._create(tenant, stream, open=open)
        created.members.update((member.principal, member.role) for member in members)
        self._end(unknown)
        return created.facts(by)

    async def put_member(self, tenant: str, stream: str, principal: str, role: str, by: str) -> Event | None:
        check_principal(principal)
        check_principal(by)
        check_role(role)
        unknown = await self._begin("put_member")
        found = self._with_members(tenant, stream)
        before = found.members.get(principal)
        event = None
        if before != role:
            found.members[principal] = role
            body = orjson.dumps({"principal": principal, "role": role})
            type = "member.joined" if before is None else "member.role"
            event = self._commit(found, self._new_key(), type, by, body, self._now_ms())
        self._end(unknown)
        return event

    async def remove_member(self, tenant: str, stream: str, principal: str, by: str) -> Event:
        check_principal(principal)
        check_principal(by)
        unknown = await self._begin("remove_member")
        found = self._with_members(tenant, stream)
        if found.members.pop(principal, None) is None:
            raise Refused("not_found", "no such member")
        body = orjson.dumps({"principal": principal})
        event = self._commit(found, self._new_key(), "member.left", by, body, self._now_ms())
        self._end(unknown)
        return event

    async def members(self, tenant: str, stream: str) -> list[Member] | None:
        self._end(await self._begin("members"))
        found = self._by_name.get((tenant, stream))
        return None if found is None else [Member(*item) for item in sorted(found.members.items())]

    async def my_streams(self, tenant: str, principal: str) -> list[MyStream]:
        self._end(await self._begin("my_streams"))
        mine = []
        for stream in self._by_sid.values():
            role = stream.role(principal)
            if stream.tenant != tenant or role is None:
                continue
            if principal in stream.members or principal == stream.name or principal in stream.marks:
                delivered, read = stream.marks.get(principal, (0, 0))
                mine.append(MyStream(stream.name, role, stream.head, stream.first, delivered, read))
        return sorted(mine, key=lambda line: line.stream)

    # Markers and trimming

    async def load_marks(self, tenant: str, sids: Sequence[int]) -> list[Mark]:
        """By sid, then principal."""
        self._end(await self._begin("load_marks"))
        marks = []
        for sid in sorted(set(sids)):
            stream = self._of_tenant(tenant, sid)
            if stream is not None:
                marks += [Mark(sid, principal, *seqs) for principal, seqs in sorted(stream.marks.items())]
        return marks

    async def save_marks(self, tenant: str, marks: Sequence[Mark]) -> None:
        """Marks of unknown streams are dropped, and so are zeros: they say nothing."""
        unknown = await self._begin("save_marks")
        for mark in marks:
            stream = self._of_tenant(tenant, mark.sid)
            if stream is None:
                continue
            delivered, read = stream.marks.get(mark.principal, (0, 0))
            raised = max(delivered, min(mark.delivered, stream.head)), max(read, min(mark.read, stream.head))
            if any(raised):
                stream.marks[mark.principal] = raised
        self._end(unknown)

    async def save_seen(self, tenant: str, seen: Mapping[str, int]) -> None:
        unknown = await self._begin("save_seen")
        for principal, at_ms in seen.items():
            self._seen[tenant, principal] = max(at_ms, self._seen.get((tenant, principal), 0))
        self._end(unknown)

    async def load_seen(self, tenant: str, sid: int, principals: Sequence[str]) -> dict[str, int]:
        """By principal."""
        self._end(await self._begin("load_seen"))
        stream = self._of_tenant(tenant, sid)
        if stream is None:
            return {}
        return {
            principal: self._seen[tenant, principal]
            for principal in sorted(set(principals))
            if (tenant, principal) in self._seen and (stream.open or stream.role(principal) is not None)
        }

    async def trim(self, tenant: str, stream: str, before: int) -> int:
        """`Refused` not_found where there is no such stream. Never un-trims, never reaches past head."""
        unknown = await self._begin("trim")
        found = self._named(tenant, stream)
        first = max(found.first, min(before, found.head + 1))
        for seq in range(found.first, first):
            event = found.events[seq - 1]
            if event.type.startswith("member."):
                continue
            trimmed = event._replace(body=None)
            found.events[seq - 1] = self._partitions[event.partition][event.pos - 1] = trimmed
        found.first = first
        self._end(unknown)
        return first

    # Checking and closing

    async def check(self) -> AsyncIterator[tuple[int, int, str | None]]:
        """Dense pos, gap-free seq, unique keys, non-falling times; there is no hash chain in memory."""
        total = sum(len(log) for log in self._partitions)
        done = 0
        for partition, log in enumerate(self._partitions):
            at_ms = 0
            for pos, event in enumerate(log, 1):
                done += 1
                stream = self._by_sid[event.sid]
                where = f"partition {partition} pos {pos}"
                if (event.partition, event.pos) != (partition, pos):
                    yield done, total, f"{where}: the event says partition {event.partition} pos {event.pos}"
                if not 1 <= event.seq <= stream.head or stream.events[event.seq - 1] != event:
                    yield done, total, f"{where}: seq {event.seq} of sid {event.sid} is another event"
                if stream.keys.get(event.key) != event.seq:
                    yield done, total, f"{where}: key {event.key} was used twice in sid {event.sid}"
                if event.at_ms < at_ms:
                    yield done, total, f"{where}: at falls from {at_ms} to {event.at_ms}"
                at_ms = event.at_ms
            yield done, total, None

    async def aclose(self) -> None:
        self.down = "the log was closed"
