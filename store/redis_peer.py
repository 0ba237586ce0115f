"""One Redis server of the bus: a link for publishing and commands, one for listening, and a canary through both.

The canary is a message to a channel of this node's own, published like any other and listened to like any other. One
that does not come back in time means that the subscription is deaf, whatever the sockets say, or that Redis hangs: the
listening link is opened again, and only when everything is confirmed and a canary has come back is all well.

A peer lives as long as its publishing link. It does not look for another server: that is the bus's part (`store.bus`).
"""

from __future__ import annotations

import logging
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence

import trio

from core.bus import Message
from core.ports import Unavailable
from store.bus_limits import BusCounters, BusLimits
from store.redis_link import CommandLink, ListeningLink
from store.redis_wire import LinkLost, Login, ReplyError, Server, Wire, code_of, connect, explain

logger = logging.getLogger("readback.store")

STALL_S = 0.1
"""Later than this after its time, the watch counts the delay as this process's own and not the canary's."""
PASSING = {"OOM", "MISCONF", "NOREPLICAS"}
"""With these a server is no worse for publishing, and another link would hear the same."""
ELSEWHERE = {"READONLY", "MASTERDOWN", "MOVED", "ASK", "CLUSTERDOWN", "NOAUTH"}
"""After these to a command, the servers are looked for anew. Others are the command's own trouble."""


class Peer:
    """``on_state`` is called when ``trouble`` changed, in any way."""

    def __init__(
        self,
        server: Server,
        login: Login,
        limits: BusLimits,
        counters: BusCounters,
        *,
        canary: bytes,
        probe: bytes,
        sharded: bool,
        on_messages: Callable[[Sequence[Message]], None],
        on_listening: Callable[[str], None],
        on_state: Callable[[], None],
    ) -> None:
        self.server = server
        self.trouble: str | None = f"Redis {server} is not connected yet"
        self.ended = False
        self.names: dict[bytes, str] = {}
        """What is to be listened to here: Redis's name to ours."""
        self.scope = trio.CancelScope()
        self._login = login
        self._limits = limits
        self._counters = counters
        self._canary = canary
        self._probe = probe
        self._publish_verb = "SPUBLISH" if sharded else "PUBLISH"
        self._sharded = sharded
        self._on_messages = on_messages
        self._on_listening = on_listening
        self._on_state = on_state
        self._commands: CommandLink | None = None
        self._listening: ListeningLink | None = None
        self._nonce = b""
        self._number = 0
        self._sent: deque[tuple[int, float]] = deque()
        """Canaries under way: number, and when they left."""
        self._returned = False
        self._told_passing = False

    # What the bus asks of it

    def publish(self, name: bytes, payload: bytes) -> bool:
        """False where it was dropped."""
        return self._commands is not None and self._commands.tell((self._publish_verb, name, payload))

    async def ask(self, *command: str | int | bytes) -> object:
        """A command's reply. Raises `Unavailable`, also for an error that says that this server is not the right one."""
        if self._commands is None:
            await trio.lowlevel.checkpoint()
            raise Unavailable(self.trouble or f"Redis {self.server} is not connected")
        reply = await self._commands.ask(command)
        if isinstance(reply, ReplyError) and code_of(reply) != "NOSCRIPT":
            self._counters.errors += 1
            if code_of(reply) in ELSEWHERE:
                self._refused(reply)
            raise Unavailable(explain(self.server, reply))
        return reply

    def listen(self, name: bytes, channel: str) -> None:
        if name not in self.names:
            self.names[name] = channel
            if self._listening is not None:
                self._listening.listen({name: channel})

    def unlisten(self, name: bytes) -> None:
        if self.names.pop(name, None) is not None and self._listening is not None:
            self._listening.unlisten(name)

    # Its life

    async def run(self) -> None:
        """Until the server is lost, which ``trouble`` then explains, or ``scope`` is cancelled."""
        try:
            with self.scope:
                await self._run()
        finally:
            self.ended = True
            self._commands = self._listening = None

    async def _run(self) -> None:
        try:
            wire = await self._connect()
        except LinkLost as lost:
            self._set_trouble(str(lost))
            return
        commands = self._commands = CommandLink(wire, self._limits, self._counters, self._refused)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_listening, commands)
            await commands.run()
            nursery.cancel_scope.cancel()
        assert commands.lost is not None
        self._set_trouble(commands.lost)

    async def _connect(self) -> Wire:
        wire = await connect(self.server, self._login, self._limits, self._counters)
        if wire.is_replica:
            wire.close()
            raise LinkLost(f"Redis {self.server} is a replica: the URL must name the primary")
        return wire

    async def _keep_listening(self, commands: CommandLink) -> None:
        """A listening link that had been well is worth another at once; one that never was says that the server is not."""
        was_well = True
        while was_well:
            try:
                wire = await self._connect()
            except LinkLost as lost:
                commands.lose(str(lost))
                return
            link = self._listening = ListeningLink(
                wire,
                self._limits,
                self._counters,
                sharded=self._sharded,
                on_messages=self._on_messages,
                on_listening=self._confirmed,
                on_canary=self._canary_came,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, link, commands)
                await link.run()
                nursery.cancel_scope.cancel()
            self._listening = None
            was_well = self.trouble is None
            self._set_trouble(link.lost)
        commands.lose(self.trouble or "")

    async def _watch(self, link: ListeningLink, commands: CommandLink) -> None:
        """Canaries, probes and the repeated subscription of one listening link."""
        limits = self._limits
        link.listen({self._canary: "", **self.names})
        self._nonce = os.urandom(8)
        self._sent.clear()
        self._returned = False
        now_s = trio.current_time()
        probe_s, again_s = now_s, now_s + limits.resubscribe_every_s
        while True:
            if self._returned:
                self._send_canary()
            if now_s >= probe_s:
                probe_s = now_s + limits.probe_every_s
                commands.tell(("SET", self._probe, 1, "PX", 10_000))
            if now_s >= again_s:
                again_s = now_s + limits.resubscribe_every_s
                link.listen_again()
            due_s = now_s + limits.canary_every_s
            await trio.sleep_until(due_s)
            now_s = trio.current_time()
            if now_s - due_s > STALL_S:
                # What came meanwhile has not been read yet. Nobody is blamed for this process's own absence.
                self._sent = deque((n, sent_s + now_s - due_s) for n, sent_s in self._sent)
                link.excuse(now_s - due_s)
            if self._sent and now_s - self._sent[0][1] >= limits.canary_timeout_s:
                self._counters.canaries_lost += 1
                link.lose(
                    f"Redis {self.server} does not bring back what is published: no answer, or a deaf subscription"
                )
                return
            waits_since_s = link.waits_since_s()
            if waits_since_s is not None and now_s - waits_since_s >= limits.connect_timeout_s:
                link.lose(f"Redis {self.server} does not confirm what is listened to")
                return

    def _confirmed(self, channel: str) -> None:
        if channel:
            self._on_listening(channel)
        link = self._listening
        if not self._sent and link is not None and link.waits_since_s() is None:
            self._send_canary()  # the first: not sooner, or it might be published before it is listened to

    def _send_canary(self) -> None:
        self._number += 1
        self._sent.append((self._number, trio.current_time()))
        if self._commands is not None:
            self._commands.tell((self._publish_verb, self._canary, self._nonce + struct.pack(">Q", self._number)))

    def _canary_came(self, payload: bytes) -> None:
        if len(payload) != 16 or payload[:8] != self._nonce:
            return  # an earlier link's, or somebody else's
        (number,) = struct.unpack(">Q", payload[8:])
        while self._sent and self._sent[0][0] <= number:
            _, sent_s = self._sent.popleft()
            self._counters.canary_s = trio.current_time() - sent_s
        self._returned = True
        if self._listening is not None and (self.trouble is None or self._listening.waits_since_s() is None):
            self._set_trouble(None)  # everything is confirmed and a canary is back

    def _refused(self, error: ReplyError) -> None:
        """A publish, a probe or a command was answered with an error."""
        reason = explain(self.server, error)
        if code_of(error) in PASSING:
            if not self._told_passing:
                logger.warning("%s", reason)
            self._told_passing = True
        elif self._commands is not None:
            self._commands.lose(reason)

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_state()
