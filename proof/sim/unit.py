"""One node of a simulated cluster: the real `gateway.node.Node` on simulated edges, watched at every turn.

A unit is a place in the cluster; its node is started again after each end under a new name, as a supervisor would.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import trio

from core.leases import Peer
from core.ports import CorruptLog, Unavailable
from core.stream import Stream
from core.tracks import Tracks
from core.wire import Close
from core.work import Work
from gateway.config import Secrets
from gateway.connection import HANDSHAKE, HELLO, Connection
from gateway.desk import Desk
from gateway.edges import Edges
from gateway.live.books import Book
from gateway.live.positions import Judged, Positions
from gateway.node import Node, running
from gateway.shard import MESSAGES_MAX
from gateway.trips_desk import TripsDesk
from proof import history
from proof.sim import drives
from proof.sim.bus import SimBus
from proof.sim.labour import Labour
from proof.sim.net import Host, Listener
from proof.sim.recorder import WALL_S as WALL_S
from proof.sim.scheduler import NODE
from proof.sim.store import NodeLog
from proof.sim.tracks import NodeTracks
from proof.sim.work import NodeWork

if TYPE_CHECKING:
    from proof.sim.world import World

SECRETS = Secrets(token_secrets={"k1": b"t" * 32}, resume_keys={"r1": b"r" * 32})


class Unit:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.letter = "abcdefgh"[number]
        self.works = number < world.swarm.workers
        self.labour: Labour | None = None
        self.starts = 0
        self.host: Host | None = None
        self.node: Node | None = None
        self.desk: Desk | None = None
        self.trips_desk: TripsDesk | None = None
        self.bus: SimBus | None = None
        self.wall_offset_s = 0.0
        self.scope = trio.CancelScope()
        self.drain_asked = trio.Event()
        self.close_listener = False
        self.crashed = False
        self.watch: Watch | None = None
        self.left: list[str] | None = None
        """After a drain: what the node still had."""

    @property
    def name(self) -> str:
        return f"{self.letter}{self.starts}"

    @property
    def up(self) -> bool:
        return self.node is not None and self.host is not None and not self.host.dead

    # -- its life ---------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Start the node again and again, to the end of the run."""
        world = self.world
        rng = random.Random(f"{world.swarm.seed} keeper {self.letter}")
        while not world.is_over():
            self.starts += 1
            self.crashed = False
            self.left = None
            self.drain_asked = trio.Event()
            self.scope = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live)
            world.scheduler.go_on(self.name)
            if world.is_over():
                return
            await trio.sleep(rng.choice((0.05, 0.3, 1.0)))
            while world.hold_down:  # noqa: ASYNC110  # seldom, and for a moment of simulated time
                await trio.sleep(0.05)

    async def _live(self) -> None:
        NODE.set(self.name)
        world, swarm = self.world, self.world.swarm
        host = self.host = Host(self.name, random.Random(f"{swarm.seed} host {self.name}"))
        log = NodeLog(world.log, world.way("log", "commit", host))
        tracks = NodeTracks(world.tracks, world.way("tracks", "samples", host))
        bus = self.bus = None if world.broker is None else SimBus(world.broker, host.name, lambda: not host.dead)
        edges = Edges(
            poller=lambda: host.poller,
            wall=lambda: WALL_S + trio.current_time() + self.wall_offset_s,
            rng=random.Random(f"{swarm.seed} node {self.name}"),
        )
        sessions = iter(range(1 << 30))
        try:
            with self.scope:
                async with running(
                    log,
                    SECRETS,
                    limits=swarm.limits,
                    origins=None,
                    lanes=swarm.lanes,
                    edges=edges,
                    new_id=lambda: f"s-{host.name}-{next(sessions)}",
                    bus=bus,
                    node_id=host.name,
                    work=cast(Work, NodeWork(world, host)) if swarm.board or swarm.trips else None,
                    tracks=cast(Tracks, tracks) if swarm.trips else None,
                    tenants=drives.TENANTS if swarm.trips else None,
                ) as node:
                    self.watch = Watch(world, self, node)
                    self.desk = Desk(node)
                    self.trips_desk = TripsDesk(node, self.desk, node.tracks)
                    node.shard.listen(Listener(host))  # type: ignore[arg-type]  # what a shard needs of a socket
                    self.node = node
                    async with trio.open_nursery() as nursery:
                        if self.works:
                            self.labour = Labour(world, host)
                            nursery.start_soon(self.labour.run, node)
                        await self.drain_asked.wait()
                        if self.labour is not None:
                            await self.labour.leave()
                            nursery.cancel_scope.cancel()
                    await self._drain(node)
        except* CorruptLog:
            pass  # of another epoch: it says so, ends, and is started anew
        except* Unavailable:
            pass  # the log was away at its start
        finally:
            watch = self.watch
            if watch is not None:
                watch.end()
            self.node = self.desk = self.trips_desk = self.bus = self.watch = self.labour = None
            if self.left is not None and not host.dead:
                if host.sockets:
                    self.left.append(f"{len(host.sockets)} open sockets")
                world.recorder.add(history.Exit(world.recorder.now(), self.name, True, 0, self.left))
            host.crash(silent=False)

    async def _drain(self, node: Node) -> None:
        world = self.world
        record, now = world.recorder.add, world.recorder.now
        connections = node.shard.connections.values()
        if any(connection.state <= HELLO for connection in connections):
            world.meters.seen("drain met a handshake")
        if len(node.lanes) or any(lane.busy for lane in node.lanes.lanes):
            world.meters.seen("drain met a commit under way")
        window_s = world.limits.drain_window_s
        record(history.Draining(now(), self.name, window_s, len(node.shard.connections)))
        drained = await node.drain(close_listener=self.close_listener)
        record(history.Drained(now(), self.name, drained.unanswered))
        if drained.ended:
            world.meters.seen("sent away after its slot", drained.ended)
        assert self.watch is not None
        self.left = self.watch.left_behind()

    # -- what is done to it -------------------------------------------------------------------------------------------------

    def crash(self, *, silent: bool = False) -> None:
        """Nothing of it reaches anybody from this moment on."""
        if self.host is None or self.host.dead or self.crashed:
            return
        self.crashed = True
        world = self.world
        world.recorder.trace(b"crash " + self.name.encode())
        world.recorder.add(history.Fault(world.recorder.now(), "crash", self.name))
        world.meters.seen("node crashed")
        if self.node is not None and any(lane.busy for lane in self.node.lanes.lanes):
            world.meters.seen("node crashed amid a commit")
        self.host.crash(silent=silent)
        self.scope.cancel()
        world.scheduler.go_on(self.name)

    def drain(self) -> None:
        if self.up and not self.drain_asked.is_set():
            self.world.recorder.trace(b"drain " + self.name.encode())
            self.drain_asked.set()

    def within(self, job: Callable[[Desk], Any]) -> None:
        """Run an async job as a task of this node, ended with it."""
        self.world.nursery.start_soon(self._job, job)

    async def _job(self, job: Callable[[Desk], Any]) -> None:
        NODE.set(self.name)
        desk = self.desk
        if desk is not None:
            with trio.move_on_after(6.0):
                await job(desk)


class Watch:
    """Looks at a node at each of its turns: how full its buffers are, and which rare paths it takes."""

    def __init__(self, world: World, unit: Unit, node: Node) -> None:
        self._world = world
        self._node = node
        self._name = unit.name
        self._limits = limits = world.limits
        self._most: dict[str, int] = {}
        self._bounds = {
            "lane": limits.lane_entries_max,
            "answers": limits.replies_per_connection_max + MESSAGES_MAX + 1,
            "answer bytes": limits.reply_bytes_per_connection_max + (MESSAGES_MAX + 1) * 2_048,
            "cut frame": limits.frame_bytes_max + 1_024,
            "messages that wait": 16_384 // 16,
            "dirty markers": world.people_in_all * world.rooms_a_tenant,
            # presence, typing, how many are online; rows of the board; a place, its trail, an arrival time
            "dirty signals": (2 * world.people_in_all + 1) * world.rooms_a_tenant
            + world.swarm.flights
            + 3 * world.swarm.trips,
            "ring events": limits.ring_events_max * 9 // 8 + limits.batch_entries_max,
            "parked batches": limits.parked_batches_max,
            "openings waiting": limits.openings_waiting_max,
            "sessions": limits.sessions_max,
            "claims kept": limits.claims_kept_max,
            "sends in flight": limits.inflight_sends_per_connection_max,
            "markers unsaved": world.people_in_all * world.rooms_in_all,
        }
        self._blocked: set[Connection] = set()
        self._lagging: set[Connection] = set()
        self._choked: set[Connection] = set()
        self._let_go: set[str] = set()
        self._elsewhere = 0
        assert unit.host is not None
        unit.host.poller.on_poll = self.look
        self._wrap()

    def _wrap(self) -> None:
        node, meters = self._node, self._world.meters
        bye, held, let_go, fill = node.shard.bye, node.hub.on_held, node.hub.on_let_go, node.follower.fill_soon
        look_after = node.shard._look_after

        def watched_look_after(connection: Connection) -> None:
            if connection.state is HANDSHAKE:
                meters.seen("handshake timed out")
            look_after(connection)

        def watched_bye(connection: Connection, close: Close, reason: str, retry_after_s: float | None = None) -> None:
            if close is Close.SUPERSEDED:
                before = node.claims.elsewhere if node.claims is not None else 0
                known = self._elsewhere != before
                self._elsewhere = before
                meters.seen("superseded from another node" if known else "superseded on the same node")
            elif close is Close.IDLE:
                meters.seen("ended as idle")
            elif close is Close.HELLO_TIMEOUT:
                meters.seen("hello timed out")
            elif close is Close.UNAUTHORIZED and connection.session:
                meters.seen("access token expired on a live connection")
            bye(connection, close, reason, retry_after_s)

        def watched_held(stream: Stream) -> None:
            if stream.name in self._let_go:
                meters.seen("stream let go and loaded again")
            held(stream)

        def watched_let_go(stream: Stream) -> None:
            self._let_go.add(stream.name)
            let_go(stream)

        def watched_fill(stream: Stream) -> None:
            meters.seen("hole filled from the log")
            fill(stream)

        if node.cluster is not None:
            gossip = node.cluster.gossip
            forget = gossip._forget

            def watched_forget(peer: Peer, *, grace: bool) -> None:
                if not grace:
                    meters.seen("presence lease ran out")
                forget(peer, grace=grace)

            gossip._forget = watched_forget  # type: ignore[method-assign]
        if node.positions is not None:
            self._watch_judge(node.positions)
        replaced: dict[object, dict[str, object]] = {
            node.shard: {"bye": watched_bye, "_look_after": watched_look_after},
            node.hub: {"on_held": watched_held, "on_let_go": watched_let_go},
            node.follower: {"fill_soon": watched_fill},
        }
        for whose, attributes in replaced.items():
            for name, value in attributes.items():
                setattr(whose, name, value)

    def _watch_judge(self, positions: Positions) -> None:
        judge, recorder = positions.judge, self._world.recorder

        def watched_judge(book: Book, tenant: str, subject: str, stream: Stream, *args: Any, **kwargs: Any) -> Judged:
            judged = judge(book, tenant, subject, stream, *args, **kwargs)
            for said in judged.taken.verdicts:
                if said["verdict"] in ("rejected", "throttled"):
                    reason = said.get("reason", "")
                    recorder.add(history.Declined(recorder.now(), tenant, stream.name, subject, said["seq"], reason))
            return judged

        positions.judge = watched_judge  # type: ignore[method-assign]

    # -- at each turn -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        node, most = self._node, self._most
        for lane in node.lanes.lanes:
            _raise(most, "lane", len(lane))
        if node.sequencer:
            _raise(most, "parked batches", max(map(len, node.sequencer._parked.values())))
        hub = node.hub
        if hub.touring:
            self._world.meters.seen("big room on tour")
        _raise(most, "openings waiting", node.door._admission.waiting)
        _raise(most, "sessions", len(node.sessions))
        _raise(most, "markers unsaved", len(hub.signals.unsaved))
        for connection in node.shard.connections.values():
            if connection.blocked or connection.backlog is not None or connection in self._blocked or connection.choked:
                self._look_at(connection)
            if connection.mark_keys:
                _raise(most, "dirty markers", len(connection.mark_keys))
            if connection.signal_keys:
                _raise(most, "dirty signals", len(connection.signal_keys))
            _raise(most, "sends in flight", connection.inflight)

    def _look_at(self, connection: Connection) -> None:
        most, meters = self._most, self._world.meters
        if connection.choked:
            self._choked.add(connection)
        elif connection in self._choked:
            self._choked.discard(connection)
            meters.seen("choked reader let on")
        if connection.backlog is not None:
            _raise(most, "messages that wait", len(connection.backlog))
        if connection.blocked:
            if connection not in self._blocked:
                self._blocked.add(connection)
                meters.seen("socket full")
            if connection.rest is not None:
                meters.seen("partial write cut a frame")
                _raise(most, "cut frame", len(connection.rest))
            if connection.lag:
                self._lagging.add(connection)
            if connection.replies is not None:
                _raise(most, "answers", len(connection.replies))
                _raise(most, "answer bytes", connection.reply_bytes)
        elif connection in self._blocked and not connection.lag:
            self._blocked.discard(connection)
            if connection in self._lagging and not connection.closed:
                self._lagging.discard(connection)
                meters.seen("lagging subscriber caught up")

    # -- at its end ---------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """What was met, of the counters that the node keeps, and the bounds."""
        node, world = self._node, self._world
        meters, now = world.meters, world.recorder.now()
        for stream in node.hub.by_sid.values():
            _raise(self._most, "ring events", len(stream.frames))
        if node.claims is not None:
            _raise(self._most, "claims kept", len(node.claims._kept))
            meters.seen("resume claimed without the bus", node.claims.unheard)
        for buffer, value in self._most.items():
            world.recorder.add(history.Bound(now, self._name, buffer, value, self._bounds[buffer]))
        meters.seen("page read from the log for a laggard", node.follower.pages_read)
        meters.seen("partition tailed", node.follower.tailed)
        meters.seen("batch parked until the one before it came", node.sequencer.parked)
        meters.seen("waited at the door", node.door._admission.delayed)

    def left_behind(self) -> list[str]:
        """What a drained node still has that should be gone, in words."""
        node, left = self._node, []
        hub, door = node.hub, node.door
        door.sweep(trio.current_time())
        # What still waits for a log in trouble ends with the node's tasks.
        prompt = not any(trouble.startswith("log_") for trouble in self._world.swarm.troubles)
        if prompt and (len(node.lanes) or any(lane.busy for lane in node.lanes.lanes)):
            left.append("sends that wait for a commit")
        if hub.ring_bytes != sum(stream.ring_bytes for stream in hub.by_sid.values()):
            left.append(f"{hub.ring_bytes} bytes of rings on the books, and other ones in the rings")
        if any(stream.live or stream.behind for stream in hub.by_sid.values()):
            left.append("followers of a stream")
        if door._admission.waiting or (prompt and door._admission.work):
            left.append(f"work of openings: {door._admission.work} in hand, {door._admission.waiting} waiting")
        held: dict[int, int] = {}
        for stream in hub.by_sid.values():
            held[stream.partition] = held.get(stream.partition, 0) + 1
        if held != node.follower.held:
            left.append(f"streams by partition on the books {node.follower.held}, held {held}")
        return left


def _raise(most: dict[str, int], buffer: str, value: int) -> None:
    if value > most.get(buffer, 0):
        most[buffer] = value
