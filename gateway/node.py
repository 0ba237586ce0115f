"""A node: the shard, the hub, the lanes and the log, and the tasks that keep them true to each other.

What runs, all in one nursery: the shard (bytes), the lanes (commits), the loader (facts of streams), the follower (the
node as a cursor on the log), the cluster where there is a bus (what other nodes tell), the flushes of signals and of
markers, and housekeeping.

Promises: an acknowledged send is committed; when the log is away connections stay, sends answer ``unavailable``, and
all recovers by itself when it is back; `drain` ends everything inside its window with nothing accepted left behind.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from core import wire
from core.addresses import Addresses
from core.bus import Bus
from core.directory import Directory
from core.flight.views import CONSUMER
from core.hub import Hub
from core.limits import Limits, adopt
from core.model import Decided, Entry, Epoch, Event, Judged, Outcome, Verdict
from core.ports import Log, Unavailable
from core.sequencer import Sequencer
from core.session import Sessions
from core.stream import Stream
from core.tenants import Tenants
from core.tokens import Identity, NeedKeys, ResumeClaims, ResumeKeys, TokenError
from core.tracks import Tracks
from core.wire import Close
from core.work import Work
from gateway.arrivals.engine import Arrivals
from gateway.audit import Audit
from gateway.board import Boards
from gateway.cluster import Cluster
from gateway.commander import Commander
from gateway.config import Secrets
from gateway.connection import Connection
from gateway.door import Door
from gateway.drain import Drain, Drained, add_metrics
from gateway.edges import Edges
from gateway.follower import Follower
from gateway.gatekeeper import Gatekeeper
from gateway.lanes import Lanes
from gateway.live.positions import Positions
from gateway.loader import Loader
from gateway.measures import Measures
from gateway.memory import COLLECTOR
from gateway.ops import Ops, unavailable
from gateway.proving import Proving
from gateway.pulse import Pulse
from gateway.revoking import Revoking
from gateway.service import WireError
from gateway.sessions import SUPERSEDED, Claims
from gateway.shard import Shard
from gateway.throttle import Throttle
from gateway.writebehind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger("readback.node")
_OK: Final = Outcome.OK

ONCE_GOOD: Final = frozenset(("expired", "used before", "not valid yet", "the access token behind it has expired"))
"""Why a token is refused that its bearer did not guess."""

HOUSEKEEPING_S = 5.0
WAITING_MANY = 8
"""Sends behind the commit under way from which on the shard lets arrivals gather."""


class HttpTicket:
    """A send that came over HTTP, waiting for its verdict."""

    __slots__ = ("done", "error", "verdict")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.verdict: Verdict | None = None
        self.error: Unavailable | None = None


class _Part:
    """What of a commit went into one partition: first and last position, how many, and the events of streams held."""

    __slots__ = ("count", "events", "first", "last")

    def __init__(self, pos: int) -> None:
        self.first = self.last = pos
        self.count = 0
        self.events: list[tuple[Stream, int, bytes]] = []


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
        edges: Edges,
        new_id: Callable[[], str],
        bus: Bus | None,
        node_id: str,
        tenants: Tenants,
        directory: Directory | None,
        hs256: bool = True,
        public_url: str = "",
        audit: bool = False,
        work: Work | None = None,
        tracks: Tracks | None = None,
    ) -> None:
        self.log = store
        self.directory = directory
        self.epoch = epoch
        self.limits = limits
        wall = self.wall = edges.wall
        self.rng = edges.rng
        self.uniform = edges.rng.random
        self.new_session_id = new_id
        self.hub = Hub(
            epoch.partitions,
            limits,
            fetch=lambda stream, after: self.follower.fetch_soon(stream, after),
            fill=lambda stream: self.follower.fill_soon(stream),
            weight=self.weight,
        )
        self.follower = Follower(self)
        self.sequencer = Sequencer(self.hub, limits.parked_batches_max)
        self.shard = Shard(self.hub, limits, origins=origins, poller=edges.poller())
        self.shard.on_closed = self._connection_closed
        self.throttle = Throttle(self)
        self.gatekeeper = Gatekeeper(self, tenants)
        self.shard.on_let_go = self.gatekeeper.gone
        self.revoking = None if directory is None else Revoking(self, directory)
        self.lanes: Lanes[Entry, Verdict] = Lanes(
            lambda batch: store.append(batch),  # looked up each time: something may stand between later
            limits,
            lanes,
            self._committed,
            self._failed,
            self.weight,
        )
        self.shard.behind_commit = lambda: len(self.lanes) >= WAITING_MANY
        self.on_commit: list[Callable[[int, int], None]] = []
        """Told (partition, last position) of what was committed, here or as the bus tells; a hint, and may be early."""
        self.loader = Loader(store, self.hub)
        self.sessions: Sessions[Connection] = Sessions(limits.sessions_max, limits.resume_ttl_s)
        self.commander = Commander(self, lanes)
        self.ops = Ops(self)
        self.shard.ops = self.ops
        self.draining = False
        self.bus = bus
        self.cluster = None if bus is None else Cluster(self, bus, node_id, secrets.resume_keys)
        self.hub.on_held = self._held
        self.hub.on_let_go = self._let_go
        self._resume_keys = ResumeKeys(secrets.resume_keys)
        self.proving = Proving(self, secrets, tenants, audience=audience, hs256=hs256, public_url=public_url)
        self._more = trio.Event()
        self.behind = WriteBehind(
            store, self.hub.signals, wall, every_s=limits.marker_flush_s, failed=self.follower.failed
        )
        self.pulse = Pulse(self)
        self.measures = Measures(self)
        self.door = Door(self)
        self.drained = Drained()
        add_metrics(self)
        self.claims = None if bus is None else Claims(self, bus, node_id)
        self.node_id = node_id
        self.audit = Audit(self) if audit else None
        self.work = work
        self.boards = None if work is None else Boards(self, work)
        self.tracks = tracks
        self.positions: Positions | None = None
        self.arrivals: Arrivals | None = None
        if tracks is not None:
            self.positions = Positions(self, tracks)
            self.arrivals = Arrivals(self, tracks, self.positions)

    # -- identity -----------------------------------------------------------------------------------------------------

    def use_keys(self, secrets: Secrets, tenants: Tenants | None = None) -> list[str]:
        """These keys from now on, and these issuers and quotas where they are given, in one step: old keys with new issuers, or
        the other way round, may verify nothing. Who is connected stays so until its token ends; quotas hold for it too. Returns
        the tenants known here whose quotas changed. Raises `ValueError` for what cannot be used, and changes nothing then."""
        resume_keys = ResumeKeys(secrets.resume_keys)
        self.proving.use(secrets, tenants)
        self._resume_keys = resume_keys
        if self.cluster is not None:
            self.cluster.use_keys(secrets.resume_keys)
        return [] if tenants is None else self.gatekeeper.refit(tenants)

    def check_resume(self, token: object) -> ResumeClaims | TokenError:
        # The signature here, the time by what this node knows of the session (core.session says why).
        claims = self._resume_keys.verify(token, -math.inf)
        if isinstance(claims, TokenError):
            return claims
        refused = self.sessions.may_resume(claims, self.wall())
        return claims if refused is None else TokenError(refused)

    def guessed(self, connection: Connection, error: TokenError) -> None:
        """A token that proves nobody: whoever tries many is slowed down by its address."""
        self.unproven(connection.address, error)

    def unproven(self, address: str, error: TokenError) -> None:
        """The same of whoever came from this address, over a socket or HTTP."""
        self.measures.unproven += 1
        if error.reason not in ONCE_GOOD and not (isinstance(error, NeedKeys) and error.absent):
            self.shard.guessed_from(address)
        if self.audit is not None:
            self.audit.stranger(error.reason)

    def note(self, tenant: str, type: str, **facts: object) -> None:
        """For the tenant's audit stream, where this node keeps one. Never waits, never fails."""
        if self.audit is not None:
            self.audit.note(tenant, type, **facts)

    def refused(self, who: Identity, address: str, code: str, reason: str) -> None:
        """Of one who proved itself and is not served: for the tenant's audit stream."""
        self.note(who.tenant, "refused", code=code, principal=who.principal, address=address, reason=reason)

    async def noted(self, tenant: str, type: str, **facts: object) -> None:
        """The same before something is done that must not be done unrecorded. Raises `Unavailable`: it must not be done."""
        if self.audit is not None:
            await self.audit.noted(tenant, type, **facts)

    def use_limits(self, wanted: Limits) -> tuple[list[str], list[str]]:
        """Other bounds from now on, as far as they can change while the node runs: those changed, and those that will only
        with the next start."""
        changed, later = adopt(self.limits, wanted)
        if any("_per_address_" in name for name in changed):
            self.shard.addresses = Addresses(self.limits)
        return changed, later

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
                self.shard.bye(superseded, Close.SUPERSEDED, SUPERSEDED)
        self.shard.opened(connection)
        if self.audit is not None:
            self.audit.note(
                connection.tenant,
                "admitted",
                principal=connection.principal,
                session=session,
                resumed=resumed is not None,
                address=connection.address,
                node=self.node_id,
                roles=connection.roles,
                token=connection.token_id or None,
            )

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
                connection.issued_at_s,
                connection.token_id,
                connection.bound_to,
            )
        )

    def _connection_closed(self, connection: Connection) -> None:
        if self.audit is not None:
            self.audit.note(
                connection.tenant,
                "left",
                principal=connection.principal,
                session=connection.session,
                address=connection.address,
                node=self.node_id,
            )
        self.sessions.close(connection.session, connection, self.wall())
        self.hub.signals.note_gone(connection.tenant, connection.principal, trio.current_time())

    def weight(self, tenant: str) -> int:
        """A tenant's share where tenants wait for each other: in lanes, replay and openings."""
        return self.gatekeeper.tenants.quotas_of(tenant).weight

    # -- the way of a send ----------------------------------------------------------------------------------------------

    def _committed(self, batch: Sequence[Entry], verdicts: Sequence[Verdict]) -> None:
        """A batch is durable: tell the other nodes, show its events, answer its senders; all of it leaves in one flush."""
        if self.follower.trouble is not None:
            self.follower.answered(commit=True)
        hub = self.hub
        by_sid = hub.by_sid
        parts: dict[int, _Part] = {}
        for entry, (outcome, partition, pos, seq, at_ms) in zip(batch, verdicts, strict=True):
            if outcome is not _OK:
                continue
            part = parts.get(partition)
            if part is None:
                part = parts[partition] = _Part(pos)
            part.last = pos
            part.count += 1
            stream = by_sid.get(entry.sid)
            if stream is None:
                hub.note_unknown(entry.sid, seq)
            else:
                frame = wire.encode_event(stream.name_b, seq, entry.type, entry.key, entry.by, at_ms, entry.body)
                part.events.append((stream, seq, frame))
        for partition, part in parts.items():
            self._told(partition, part)
        answer = self.ops.answer
        for entry, verdict in zip(batch, verdicts, strict=True):
            ticket = entry.ticket
            if ticket.__class__ is tuple:
                answer(entry, verdict)
            elif isinstance(ticket, HttpTicket):
                ticket.verdict = verdict
                ticket.done.set()
        self.settle()

    def show_commands(self, batch: Sequence[Decided], judged: Sequence[Judged]) -> None:
        """What commands became, in one commit: told and shown as sends are. Who gave them is answered by the commander."""
        if self.follower.trouble is not None:
            self.follower.answered(commit=True)
        parts: dict[int, _Part] = {}
        for decided, verdict in zip(batch, judged, strict=True):
            if verdict.outcome is not _OK or not decided.facts:
                continue
            part = parts.get(verdict.partition)
            if part is None:
                part = parts[verdict.partition] = _Part(verdict.pos)
            part.last = verdict.pos + len(decided.facts) - 1
            part.count += len(decided.facts)
            stream = self.hub.by_sid.get(decided.sid)
            if stream is None:
                self.hub.note_unknown(decided.sid, verdict.seq + len(decided.facts) - 1)
                continue
            for seq, (key, type, body) in enumerate(decided.facts, verdict.seq):
                frame = wire.encode_event(stream.name_b, seq, type, key, decided.by, verdict.at_ms, body)
                part.events.append((stream, seq, frame))
        for partition, part in parts.items():
            self._told(partition, part)

    def _told(self, partition: int, part: _Part) -> None:
        """One partition's share of a commit: to the others and to the hub."""
        for heard in self.on_commit:
            heard(partition, part.last)
        # A batch that the store had to halve is two commits, and another node's may lie between them.
        dense = part.last - part.first + 1 == part.count
        if self.cluster is not None:
            events = [(stream.sid, seq, frame) for stream, seq, frame in part.events] if dense else []
            self.cluster.publish_batch(partition, part.first, part.last, events)
        if not dense:
            self.follower.tail_soon(partition, part.last)
        elif self.cluster is not None:
            self.cluster.take(partition, part.first, part.last, part.events, trio.current_time())
        elif not self.hub.ingest(partition, part.first, part.last, part.events):
            self.follower.tail_soon(partition, part.last)

    def show(self, event: Event) -> None:
        """A membership event was committed beside the lanes: into the hub at its place, or by the log if some precede.
        The others are sent to the log for it."""
        if self.cluster is not None:
            self.cluster.publish_batch(event.partition, event.pos, event.pos, [])
        if not self.hub.ingest_events(event.partition, [event], trio.current_time()):
            self.follower.tail_soon(event.partition, event.pos)
        self.settle()

    def _failed(self, batch: Sequence[Entry], error: Unavailable) -> None:
        self.follower.failed(error, commit=True)
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
        if self.ops.shedding_sends:
            raise self.ops.shed_send()
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
        if self.hub.more:
            self._more.set()

    async def _turn_forever(self) -> None:
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self.hub.turn(trio.current_time()):
                self.shard.reap()
                await trio.lowlevel.checkpoint()

    # -- among others ---------------------------------------------------------------------------------------------------

    def _held(self, stream: Stream) -> None:
        self.follower.hold(stream)
        self.gatekeeper.held(stream)
        if self.boards is not None:
            self.boards.hold(stream)
        if self.positions is not None:
            self.positions.showing.hold(stream)
        if self.arrivals is not None:
            self.arrivals.held(stream)
        if self.cluster is not None:
            self.cluster.hold(stream)

    def _let_go(self, stream: Stream) -> None:
        self.follower.let_go(stream)
        self.gatekeeper.let_go(stream)
        if self.boards is not None:
            self.boards.let_go(stream)
        if self.positions is not None:
            self.positions.showing.let_go(stream)
        if self.cluster is not None:
            self.cluster.let_go(stream)

    def rows_changed(self, consumer: str, partition: int, pos: int) -> None:
        """A worker in this process has committed (`Worker.committed`): boards here and on other nodes are to look."""
        if consumer != CONSUMER:
            return
        if self.boards is not None:
            self.boards.heard(partition)
        if self.cluster is not None:
            self.cluster.publish_rows(partition)

    def superseded(self, session: str, generation: int, node_id: str) -> None:
        """Another node speaks for the session from now on."""
        if self.claims is not None:
            self.claims.superseded(session, generation, node_id)

    def bus_changed(self) -> None:
        """The bus came back or went away."""
        if self.claims is not None:
            self.claims.bus_changed()
        if self.positions is not None:
            self.positions.showing.bus_changed()

    def end_all(self, reason: str) -> None:
        """Send every client away; it may come back at once."""
        for connection in list(self.shard.connections.values()):
            self.shard.bye(connection, Close.INTERNAL, reason, 0.5)

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
            if self.cluster is not None:
                self.cluster.gossip.tick(now_s)
                self.cluster.signals(now_s)
            signals.flush(now_s, large_rooms=large_rooms)
            self.settle()

    async def save_marks(self) -> None:
        """Store the markers raised until now. Raises `Unavailable`; they are kept then."""
        await self.behind.marks()

    async def save_seen(self) -> None:
        """Store who has left until now, and when. Raises `Unavailable`; it is kept then."""
        await self.behind.seen()

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            self.hub.evict(trio.current_time())
            self.sessions.forget_ended(self.wall())
            self.gatekeeper.tidy()
            if not self.pulse.level:
                COLLECTOR.tidy()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Sockets are given to `shard` by the caller."""
        self.hub.pos[:] = await self.log.heads()
        if self.revoking is not None:
            await self.revoking.look()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.follower.run)
            await nursery.start(self.shard.run)
            if self.cluster is not None:
                nursery.start_soon(self.cluster.run)
            if self.claims is not None:
                nursery.start_soon(self.claims.run)
            if self.revoking is not None:
                nursery.start_soon(self.revoking.run)
            if self.audit is not None:
                nursery.start_soon(self.audit.run)
            if self.boards is not None:
                nursery.start_soon(self.boards.run)
            if self.positions is not None:
                nursery.start_soon(self.positions.run)
            if self.arrivals is not None:
                await nursery.start(self.arrivals.run)
            for task in (
                self.lanes.run,
                self.commander.run,
                self.ops.pings.run,
                self.loader.run,
                self._turn_forever,
                self._flush_signals,
                self.behind.run,
                self._keep_house,
                self.pulse.run,
                self.door.run,
                self.throttle.run,
                self.proving.issuers.run,
            ):
                nursery.start_soon(task)
            task_status.started()
            await trio.sleep_forever()

    # -- ending ---------------------------------------------------------------------------------------------------------------

    async def drain(self, window_s: float | None = None, *, close_listener: bool = False) -> Drained:
        """Leave in good order (`gateway.drain`), within the window."""
        window_s = self.limits.drain_window_s if window_s is None else window_s
        return await Drain(self, window_s, close_listener=close_listener, rng=self.rng).run()


@asynccontextmanager
async def running(
    store: Log,
    secrets: Secrets,
    *,
    limits: Limits | None = None,
    audience: str = "readback",
    origins: frozenset[str] | None = frozenset(),
    lanes: int = 1,
    edges: Edges | None = None,
    new_id: Callable[[], str],
    bus: Bus | None = None,
    node_id: str | None = None,
    tenants: Tenants | None = None,
    directory: Directory | None = None,
    hs256: bool = True,
    public_url: str = "",
    audit: bool = False,
    work: Work | None = None,
    tracks: Tracks | None = None,
) -> AsyncIterator[Node]:
    """A node that serves for the length of the block, and ends abruptly (call `Node.drain` first for the other way).

    With a ``bus`` it is one of many on the same log. ``node_id`` must be new for each start of a node. With a ``directory``
    it obeys revocations, and knows devices and service clients. ``hs256``: whether tokens signed with the shared secrets are
    taken, as in development. With ``audit`` it writes each tenant's audit stream. With ``work`` it shows live boards,
    with ``tracks`` it judges positions, keeps and shows them.
    Raises `ValueError` for secrets and tenants with which no token could be verified.
    """
    node = Node(
        store,
        await store.epoch(),
        limits or Limits(),
        secrets,
        audience=audience,
        origins=origins,
        lanes=lanes,
        edges=edges or Edges(),
        new_id=new_id,
        bus=bus,
        node_id=node_id if node_id is not None else new_id(),
        tenants=tenants or Tenants(),
        directory=directory,
        hs256=hs256,
        public_url=public_url,
        audit=audit,
        work=work,
        tracks=tracks,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        try:
            yield node
        finally:
            node.shard.end()
            nursery.cancel_scope.cancel()
