"""A node: the shard, the hub, the lanes and the log, and the tasks that keep them true to each other.

What runs, all in one nursery: the shard (bytes), the lanes (commits), the loader (facts of streams), the heads watch
(silence is noticed by position: every second the log's heads are compared with what the hub has seen), the flushes of
signals and of markers, and housekeeping. Reads that the hub asks for run as tasks of the same nursery and are repeated
until the log answers: a connection that waits for a page waits, it does not lose its place.

Promises: an acknowledged send is committed; when the log is away connections stay, sends answer ``unavailable``, and
all recovers by itself when it is back; `drain` ends everything inside its window with nothing accepted left behind.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from core import wire
from core.hub import Hub
from core.limits import Limits
from core.model import Entry, Epoch, Outcome, Verdict
from core.ports import Log, Unavailable
from core.session import Sessions
from core.stream import Stream
from core.tokens import Identity, ResumeClaims, ResumeKeys, TokenError, TokenVerifier
from core.wire import Close
from gateway.config import Secrets
from gateway.connection import Connection
from gateway.drain import drain
from gateway.lanes import Lanes
from gateway.loader import Loader
from gateway.measures import Measures
from gateway.ops import Ops, unavailable
from gateway.service import WireError
from gateway.shard import Shard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger("readback.node")
_OK: Final = Outcome.OK

PAGE_EVENTS = 500
TAIL_EVENTS = 2_000
READS_AT_ONCE = 4
RETRY_S = 0.25
HOUSEKEEPING_S = 5.0
COMMIT_TROUBLE_S = 5.0
"""After a failed commit it takes a commit to prove the log well, or so long a time without another attempt."""
MARKS_AT_ONCE = 2_000
WAITING_MANY = 8
"""Sends behind the commit under way from which on the shard lets arrivals gather."""


class HttpTicket:
    """A send that came over HTTP, waiting for its verdict."""

    __slots__ = ("done", "error", "verdict")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.verdict: Verdict | None = None
        self.error: Unavailable | None = None


class Node:
    """Build with `running`; what it serves is reached through `shard` (sockets) and `gateway.desk.Desk` (HTTP)."""

    def __init__(
        self,
        store: Log,
        epoch: Epoch,
        limits: Limits,
        secrets: Secrets,
        *,
        audience: str,
        origins: frozenset[str] | None,
        lanes: int,
        wall: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.log = store
        self.epoch = epoch
        self.limits = limits
        self.wall = wall
        self.new_session_id = new_id
        self.hub = Hub(epoch.partitions, limits, fetch=self._fetch_soon, fill=self._fill_soon)
        self.shard = Shard(self.hub, limits, origins=origins)
        self.shard.on_closed = self._connection_closed
        self.lanes = Lanes(store, limits, lanes, self._committed, self._failed)
        self.shard.behind_commit = lambda: len(self.lanes) >= WAITING_MANY
        self.loader = Loader(store, self.hub)
        self.sessions: Sessions[Connection] = Sessions(limits.sessions_max, limits.resume_ttl_s)
        self.ops = Ops(self)
        self.shard.ops = self.ops
        self.draining = False
        self.log_trouble: str | None = None
        """Why the log could not be reached when it was last asked; ``None`` while all is well."""
        self._commit_failed_at_s = -math.inf
        self._verifier = TokenVerifier(secrets.token_secrets, audience=audience)
        self._resume_keys = ResumeKeys(secrets.resume_keys)
        self._nursery: trio.Nursery
        self._reads = trio.CapacityLimiter(READS_AT_ONCE)
        self._tailing: set[int] = set()
        self._filling: set[Stream] = set()
        self._more = trio.Event()
        self._marks_lock = trio.Lock()
        self.measures = Measures(self)

    # -- identity -----------------------------------------------------------------------------------------------------

    def authenticate(self, token: str) -> Identity | TokenError:
        return self._verifier.verify(token, self.wall())

    def check_resume(self, token: object) -> ResumeClaims | TokenError:
        # The signature here, the time by what this node knows of the session (core.session says why).
        claims = self._resume_keys.verify(token, -math.inf)
        if isinstance(claims, TokenError):
            return claims
        refused = self.sessions.may_resume(claims, self.wall())
        return claims if refused is None else TokenError(refused)

    def enter(self, connection: Connection, session: str, resumed: ResumeClaims | None) -> None:
        """The connection speaks for the session from now on; an older one of the same session is ended."""
        connection.session = session
        if resumed is None:
            self.sessions.open(session, connection)
            self.measures.opened += 1
        else:
            _generation, superseded = self.sessions.resume(resumed, connection)
            self.measures.resumed += 1
            if superseded is not None:
                self.shard.bye(superseded, Close.SUPERSEDED, "a newer connection speaks for this session")
        self.shard.opened(connection)

    def resume_token(self, connection: Connection) -> str:
        now_s = self.wall()
        connection.token_at_s = now_s
        return self._resume_keys.issue(
            ResumeClaims(
                connection.tenant,
                connection.principal,
                connection.session,
                self.sessions.generation(connection.session) or 0,
                connection.roles,
                connection.auth_expires_at_s,
                now_s + self.limits.resume_ttl_s,
            )
        )

    def _connection_closed(self, connection: Connection) -> None:
        self.sessions.close(connection.session, connection, self.wall())

    # -- the way of a send ----------------------------------------------------------------------------------------------

    def _committed(self, batch: Sequence[Entry], verdicts: Sequence[Verdict]) -> None:
        """A batch is durable: show its events, then answer its senders; all of it leaves in one flush."""
        if self.log_trouble is not None:
            self._log_answered(commit=True)
        hub = self.hub
        by_sid = hub.by_sid
        parts: dict[int, tuple[int, list[int], list[tuple[Stream, int, bytes]]]] = {}
        for entry, (outcome, partition, pos, seq, at_ms) in zip(batch, verdicts, strict=True):
            if outcome is not _OK:
                continue
            part = parts.get(partition)
            if part is None:
                part = parts[partition] = (pos, [pos, 0], [])
            part[1][0] = pos
            part[1][1] += 1
            stream = by_sid.get(entry.sid)
            if stream is None:
                hub.note_unknown(entry.sid, seq)
            else:
                frame = wire.encode_event(stream.name_b, seq, entry.type, entry.key, entry.by, at_ms, entry.body)
                part[2].append((stream, seq, frame))
        for partition, (first_pos, (last_pos, count), events) in parts.items():
            # A batch that the store had to halve is two commits, and another node's may lie between them.
            dense = last_pos - first_pos + 1 == count
            if not dense or not hub.ingest(partition, first_pos, last_pos, events):
                self.tail_soon(partition)
        answer = self.ops.answer
        for entry, verdict in zip(batch, verdicts, strict=True):
            ticket = entry.ticket
            if ticket.__class__ is tuple:
                answer(entry, verdict)
            elif isinstance(ticket, HttpTicket):
                ticket.verdict = verdict
                ticket.done.set()
        self.settle()

    def _failed(self, batch: Sequence[Entry], error: Unavailable) -> None:
        self._log_failed(error, commit=True)
        sockets = []
        for entry in batch:
            if isinstance(entry.ticket, HttpTicket):
                entry.ticket.error = error
                entry.ticket.done.set()
            else:
                sockets.append(entry)
        self.ops.unanswered(sockets, error)
        self.settle()

    async def append(self, stream: Stream, entry: Entry) -> Verdict:
        """One entry through the lanes, for callers that can wait. Raises `WireError` overloaded or unavailable."""
        ticket = HttpTicket()
        entry.ticket = ticket
        if not self.lanes.put(stream.partition, entry):
            raise WireError("overloaded", "too many sends are waiting to be committed", 0.5)
        await ticket.done.wait()
        if ticket.verdict is None:
            assert ticket.error is not None
            raise unavailable(ticket.error)
        return ticket.verdict

    def settle(self) -> None:
        """After anything was put into the hub outside a shard's turn: send it, and see that the rest follows."""
        self.hub.flush()
        self.shard.reap()
        if self.hub.ready or self.hub.touring:
            self._more.set()

    async def _turn_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self.hub.turn(trio.current_time()):
                self.shard.reap()
                await trio.lowlevel.checkpoint()

    # -- reading the log --------------------------------------------------------------------------------------------------

    def _log_failed(self, error: Unavailable, *, commit: bool = False) -> None:
        if commit:
            self._commit_failed_at_s = trio.current_time()
        if self.log_trouble is None:
            log.warning("the log cannot be reached: %s", error)
        self.log_trouble = str(error)

    def _log_answered(self, *, commit: bool = False) -> None:
        """A read that succeeds says nothing of commits (the disk may be full), unless none was tried for a while."""
        proven = commit or trio.current_time() >= self._commit_failed_at_s + COMMIT_TROUBLE_S
        if self.log_trouble is not None and proven:
            log.warning("the log answers again")
            self.log_trouble = None

    def _fetch_soon(self, stream: Stream, after: int) -> None:
        self._nursery.start_soon(self._fetch, stream, after)

    async def _fetch(self, stream: Stream, after: int) -> None:
        """One page past ``after`` for all who wait for it."""
        try:
            async with self._reads:
                events = await self.log.read(stream.tenant, stream.sid, after, PAGE_EVENTS)
                first = stream.first
                if events and events[0].seq > after + 1:
                    first = events[0].seq
                elif not events and after < stream.head:
                    facts = (await self.log.open_streams([(stream.tenant, stream.name, "user:nobody")]))[0]
                    first = stream.head + 1 if facts is None else facts.first
        except Unavailable as error:
            self._log_failed(error)
            await trio.sleep(max(RETRY_S, min(error.retry_after_s, 1.0)))
            self.hub.page_failed(stream, after)
        else:
            self._log_answered()
            self.measures.pages_read += 1
            self.hub.page(stream, after, events, first)
        self.settle()

    def _fill_soon(self, stream: Stream) -> None:
        if stream not in self._filling:
            self._filling.add(stream)
            self._nursery.start_soon(self._fill, stream)

    async def _fill(self, stream: Stream) -> None:
        """Close the hole between head and what is known to be committed."""
        while stream.want > stream.head and self.hub.by_sid.get(stream.sid) is stream:
            async with self._reads:
                want = stream.want
                try:
                    events = await self.log.read(stream.tenant, stream.sid, stream.head, PAGE_EVENTS)
                except Unavailable as error:
                    self._log_failed(error)
                    await trio.sleep(RETRY_S)
                    continue
            self._log_answered()
            self.hub.filled(stream, events, trio.current_time(), want)
            self.settle()
        self._filling.discard(stream)

    def tail_soon(self, partition: int) -> None:
        if partition not in self._tailing:
            self._tailing.add(partition)
            self._nursery.start_soon(self._tail, partition)

    async def _tail(self, partition: int) -> None:
        """Read a partition from where the hub stands up to its end."""
        while True:
            try:
                events = await self.log.tail(partition, self.hub.pos[partition], TAIL_EVENTS)
            except Unavailable as error:
                self._log_failed(error)
                await trio.sleep(RETRY_S)
                continue
            self._log_answered()
            fresh = [event for event in events if event.pos > self.hub.pos[partition]]
            if fresh:
                self.measures.tailed += len(fresh)
                self.hub.ingest_events(partition, fresh, trio.current_time())
                self.settle()
            if len(events) < TAIL_EVENTS:
                break
        self._tailing.discard(partition)

    async def _watch_heads(self) -> None:
        """Silence proves nothing: look at the heads. A partition behind twice, or with no commit under way, is read."""
        behind: dict[int, int] = {}
        while True:
            await trio.sleep(self.limits.heads_interval_s)
            try:
                heads = await self.log.heads()
            except Unavailable as error:
                self._log_failed(error)
                continue
            self._log_answered()
            late: dict[int, int] = {}
            for partition, head in enumerate(heads):
                pos = self.hub.pos[partition]
                if head > pos:
                    late[partition] = pos
                    lane = self.lanes.lanes[partition % len(self.lanes.lanes)]
                    if behind.get(partition) == pos or not lane.busy:
                        self.tail_soon(partition)
            behind = late

    # -- keeping house ------------------------------------------------------------------------------------------------------

    async def _flush_signals(self) -> None:
        slow_at_s = trio.current_time()
        while True:
            await trio.sleep(self.limits.signal_flush_s)
            now_s = trio.current_time()
            large_rooms = now_s - slow_at_s >= 1.0
            if large_rooms:
                slow_at_s = now_s
            signals = self.hub.signals
            signals.tick(now_s)
            signals.flush(now_s, large_rooms=large_rooms)
            self.settle()

    async def save_marks(self) -> None:
        """Write raised markers behind; returns when all of now are stored, or puts them back and raises."""
        async with self._marks_lock:
            signals = self.hub.signals
            while signals.unsaved:
                taken = signals.take_unsaved(MARKS_AT_ONCE)
                for tenant in list(taken):
                    try:
                        await self.log.save_marks(tenant, taken[tenant])
                    except BaseException:
                        for late, marks in taken.items():
                            signals.put_back(late, marks)
                        raise
                    del taken[tenant]

    async def _save_marks_forever(self) -> None:
        while True:
            await trio.sleep(self.limits.marker_flush_s)
            try:
                await self.save_marks()
            except Unavailable as error:
                self._log_failed(error)

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            self.hub.evict(trio.current_time())
            self.sessions.forget_ended(self.wall())

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Sockets are given to `shard` by the caller."""
        self.hub.pos[:] = await self.log.heads()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.shard.run)
            for task in (
                self.lanes.run,
                self.loader.run,
                self._turn_forever,
                self._watch_heads,
                self._flush_signals,
                self._save_marks_forever,
                self._keep_house,
            ):
                nursery.start_soon(task)
            task_status.started()
            await trio.sleep_forever()

    # -- ending ---------------------------------------------------------------------------------------------------------------

    async def drain(self, window_s: float | None = None) -> None:
        """Leave in good order (`gateway.drain`), within the window."""
        await drain(self, self.limits.drain_window_s if window_s is None else window_s)


@asynccontextmanager
async def running(
    store: Log,
    secrets: Secrets,
    *,
    limits: Limits | None = None,
    audience: str = "readback",
    origins: frozenset[str] | None = frozenset(),
    lanes: int = 1,
    wall: Callable[[], float] = time.time,
    new_id: Callable[[], str],
) -> AsyncIterator[Node]:
    """A node that serves for the length of the block, and ends abruptly (call `Node.drain` first for the other way)."""
    node = Node(
        store,
        await store.epoch(),
        limits or Limits(),
        secrets,
        audience=audience,
        origins=origins,
        lanes=lanes,
        wall=wall,
        new_id=new_id,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        try:
            yield node
        finally:
            node.shard.end()
            nursery.cancel_scope.cancel()
