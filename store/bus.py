"""The bus on Redis, for nodes of one cell (`core.bus` has the contract).

Channels are ``readback:{<cell>:<channel>}`` on Redis, the cell being the log's epoch, so that two gateways on one Redis,
or a log restored from a backup, never hear each other. One Redis, a primary behind Sentinels, or a cluster, in which every
channel lives with the primary of its slot (`store.redis_find`); a `store.redis_peer.Peer` for each server used.

Whatever fails, the answer is the same: say why, look for the servers anew, open links again, after pauses of 50 ms to 1 s.
What was published meanwhile is dropped and counted; the log has it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from random import random
from typing import TypeVarTuple

import trio

from core.bus import BUS_CHANNEL_MAX, BUS_PAYLOAD_MAX, Message
from core.ports import Unavailable
from store.bus_limits import BusCounters, BusLimits, BusRefused, BusUnreachable
from store.redis_check import check_redis
from store.redis_find import Topology, find, name_of, name_on, parse_url
from store.redis_peer import Peer
from store.redis_wire import LinkLost, ReplyError, Server

__all__ = ["BusLimits", "BusRefused", "BusUnreachable", "RedisBus", "check_redis"]

logger = logging.getLogger("readback.store")

NUMBER_MAX = 2**53
"""Redis's scripts count in floating point."""
ROUTES_MAX = 10_000
RAISE_NUMBER = """
local was = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
if tonumber(ARGV[1]) > was then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return string.format('%.0f', was)
"""
RAISE_NUMBER_SHA = hashlib.sha1(RAISE_NUMBER.encode(), usedforsecurity=False).hexdigest()

Ts = TypeVarTuple("Ts")


class RedisBus(BusCounters):
    """A `core.bus.Bus`. ``node`` is this node's own word, for its canary and in Redis's list of clients."""

    def __init__(self, url: str, *, cell: str, node: str, limits: BusLimits | None = None) -> None:
        """Raises `BusRefused` for a URL that cannot be meant."""
        super().__init__()
        assert cell.isascii(), cell
        assert not set(cell) & set("{}: "), cell
        self.trouble: str | None = "not connected yet"
        self.on_messages: Callable[[Sequence[Message]], None] = lambda messages: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_listening: Callable[[str], None] = lambda channel: None
        self._limits = limits or BusLimits()
        clean = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "-" for char in node)
        self._url = parse_url(url, f"readback-{clean}")
        self._cell = cell
        self._node = clean
        self._wanted: dict[str, None] = {}
        self._topology: Topology | None = None
        self._peers: dict[Server, Peer] = {}
        self._routes: dict[str, tuple[Peer, bytes]] = {}
        """Where a channel lives, as far as it was asked about."""
        self._lost: str | None = None
        """Why the servers could not be found."""
        self._pause_s = self._limits.backoff_min_s
        self._well_since_s: float | None = None
        self._look = trio.Event()
        self._runs = False

    # The port

    def publish(self, channel: str, payload: bytes) -> None:
        route = self._route(channel)
        if route is None or len(payload) > BUS_PAYLOAD_MAX or not route[0].publish(route[1], payload):
            self.dropped += 1
        else:
            self.published += 1

    def listen(self, channel: str) -> None:
        if channel not in self._wanted:
            self._wanted[channel] = None
            if (route := self._route(channel)) is not None:
                route[0].listen(route[1], channel)

    def unlisten(self, channel: str) -> None:
        if self._wanted.pop(channel, "") is None and (route := self._route(channel)) is not None:
            route[0].unlisten(route[1])

    async def raise_number(self, key: str, number: int, ttl_s: float) -> int:
        assert 0 <= number < NUMBER_MAX, number
        name = name_of(self._cell, f"n:{key}")
        server = None if self._topology is None else self._topology.server_of(name)
        peer = None if server is None else self._peers.get(server)
        if peer is None:
            await trio.lowlevel.checkpoint()
            raise Unavailable(self.trouble or "no Redis serves this key")
        arguments = (1, name, number, max(1, round(ttl_s * 1000)))
        reply = await peer.ask("EVALSHA", RAISE_NUMBER_SHA, *arguments)
        if isinstance(reply, ReplyError):  # a Redis that was restarted has forgotten the script
            reply = await peer.ask("EVAL", RAISE_NUMBER, *arguments)
        if not isinstance(reply, bytes) or not reply.isdigit():
            raise Unavailable(f"Redis {peer.server} keeps something else under a session's number")
        return int(reply)

    async def run(self) -> None:
        assert not self._runs, "runs already"
        self._runs = True
        try:
            async with trio.open_nursery() as nursery:
                await self._keep(nursery)
        finally:
            self._runs = False
            self._topology = None
            self._peers.clear()
            self._routes.clear()
            self.trouble = "not connected any more"

    # Finding and keeping servers

    async def _keep(self, nursery: trio.Nursery) -> None:
        every_s = self._limits.find_every_s if self._url.may_move else math.inf
        while True:
            look = self._look = trio.Event()
            await self._find(nursery)
            if self._lost is None:
                with trio.move_on_after(every_s):
                    await look.wait()
                if not look.is_set():
                    continue
            await trio.sleep(self._pause_s * (0.5 + random()))
            self._pause_s = min(self._pause_s * 2, self._limits.backoff_max_s)

    async def _find(self, nursery: trio.Nursery) -> None:
        known = () if self._topology is None else self._topology.servers
        try:
            topology = await find(self._url, self._limits, known if self._url.kind == "cluster" else ())
        except LinkLost as lost:
            # While all is well nobody needs the answer; links that are lost say so themselves.
            self._lost = str(lost) if self.trouble is not None else None
            self._judge()
        else:
            self._adopt(topology, nursery)

    def _adopt(self, topology: Topology, nursery: trio.Nursery) -> None:
        """Links to these servers and to no others, and every channel where it belongs now."""
        before, self._topology = self._topology, topology
        other_verbs = before is not None and before.sharded != topology.sharded
        for server, peer in list(self._peers.items()):
            if server not in topology.servers or other_verbs:
                peer.scope.cancel()
                del self._peers[server]
        for server in topology.servers:
            old = self._peers.get(server)
            if old is None or old.ended:
                peer = self._peers[server] = self._new_peer(server, topology)
                if old is not None:
                    peer.trouble = old.trouble
                nursery.start_soon(self._run_peer, peer)
        self._routes.clear()
        self._lost = None
        homes: dict[Server, dict[bytes, str]] = {server: {} for server in topology.servers}
        for channel in self._wanted:
            name = name_of(self._cell, channel)
            home = topology.server_of(name)
            if home is None:
                self._lost = f"no primary of the cluster serves the slot of {channel}"
            else:
                homes[home][name] = channel
        for server, names in homes.items():
            peer = self._peers[server]
            for name in [name for name in peer.names if name not in names]:
                peer.unlisten(name)
            for name, channel in names.items():
                peer.listen(name, channel)
        self._judge()

    def _new_peer(self, server: Server, topology: Topology) -> Peer:
        canary = name_on(topology, server, self._cell, f"canary:{self._node}")
        return Peer(
            server,
            self._url.login,
            self._limits,
            self,
            canary=canary,
            probe=canary + b":probe",
            sharded=topology.sharded,
            on_messages=self._messages,
            on_listening=self._listening,
            on_state=self._judge,
        )

    async def _run_peer(self, peer: Peer) -> None:
        await peer.run()
        if self._peers.get(peer.server) is peer:
            self._look.set()

    def _route(self, channel: str) -> tuple[Peer, bytes] | None:
        route = self._routes.get(channel)
        if route is None:
            assert len(channel) <= BUS_CHANNEL_MAX, channel
            name = name_of(self._cell, channel)
            server = None if self._topology is None else self._topology.server_of(name)
            peer = None if server is None else self._peers.get(server)
            if peer is None:
                return None
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            route = self._routes[channel] = (peer, name)
        return route

    def _judge(self) -> None:
        """What the bus's trouble is, from what its servers' are."""
        troubles = (peer.trouble for peer in self._peers.values() if peer.trouble is not None)
        trouble = self._lost or next(troubles, None if self._peers else "not connected yet")
        was, self.trouble = self.trouble, trouble
        if (was is None) == (trouble is None):
            return
        now_s = trio.current_time()
        if trouble is None:
            self.reconnects += self._well_since_s is not None
            self._well_since_s = now_s
        elif self._well_since_s is not None and now_s - self._well_since_s >= self._limits.backoff_max_s:
            self._pause_s = self._limits.backoff_min_s
        _call(self.on_change)

    def _messages(self, messages: Sequence[Message]) -> None:
        _call(self.on_messages, messages)

    def _listening(self, channel: str) -> None:
        _call(self.on_listening, channel)


def _call(function: Callable[[*Ts], None], *args: *Ts) -> None:
    """The bus outlives what others make of its news."""
    try:
        function(*args)
    except Exception:
        logger.exception("the bus's news could not be taken")
