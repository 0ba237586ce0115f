"""The bus's links to a Redis, pipelined both ways: one for publishing and commands, one for listening.

A write never waits. The first of a turn goes out at once; what follows it in the same turn is gathered and goes out in one
`send` by the link's task. What the kernel does not take is kept, up to a bound beyond which writes are refused. Replies are
matched to those who wait in order; the ones to PUBLISH are only looked through for errors.

A link ends once, with its reason in ``lost``, and is not opened again; whoever wants another opens another.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from core.bus import Message
from core.ports import Unavailable
from store.bus_limits import BusCounters, BusLimits
from store.redis_wire import Command, LinkLost, ReplyError, Wire, explain, pack

logger = logging.getLogger("readback.store")


class RedisLink:
    """A wire that is kept written and read; what comes in goes to `_take`."""

    def __init__(self, wire: Wire, limits: BusLimits, counters: BusCounters) -> None:
        self.server = wire.server
        self.lost: str | None = None
        self._wire = wire
        self._limits = limits
        self._counters = counters
        self._unsent = bytearray()
        self._gathering = False
        """Whether something went out in this turn already, so that more is gathered for the writer."""
        self._parked: trio.lowlevel.Task | None = None

    def write(self, data: bytes) -> bool:
        """Hand over whole commands without waiting; False where the link is gone or too much waits to be written."""
        if self.lost is not None or (self._unsent and len(self._unsent) + len(data) > self._limits.publish_bytes_max):
            return False
        if self._wire.tls is not None:
            data = self._wire.tls.seal(data)
        if self._gathering:
            self._unsent += data
            return True
        self._gathering = True
        try:
            sent = self._wire.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lose(f"the link to Redis {self.server} broke: {error.strerror}")
            return False
        self._counters.bytes_out += sent
        if sent < len(data):
            self._unsent += data[sent:]
        self._wake_writer()
        return True

    async def run(self) -> None:
        """Until the link is lost, or cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_on)
                await self._read_on()
                nursery.cancel_scope.cancel()
        finally:
            self.lose(f"the link to Redis {self.server} was closed here")

    def lose(self, reason: str) -> None:
        """End the link; the first reason stays."""
        if self.lost is None:
            self.lost = reason
            self._unsent.clear()
            self._wire.close()
            self._wake_writer()

    def _wake_writer(self) -> None:
        if self._parked is not None:
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)

    async def _write_on(self) -> None:
        def unpark(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        sock = self._wire.sock
        while self.lost is None:
            if not self._gathering:
                self._parked = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(unpark)
            while self._unsent:
                try:
                    sent = sock.send(self._unsent)
                except BlockingIOError:
                    try:
                        await trio.lowlevel.wait_writable(sock)
                    except trio.ClosedResourceError:
                        return
                    continue
                except OSError as error:
                    self.lose(f"the link to Redis {self.server} broke: {error.strerror}")
                    return
                self._counters.bytes_out += sent
                del self._unsent[:sent]
            self._gathering = False

    async def _read_on(self) -> None:
        wire, size = self._wire, self._limits.recv_bytes
        while self.lost is None:
            try:
                await trio.lowlevel.wait_readable(wire.sock)
                replies = wire.read(size)
            except BlockingIOError:
                continue
            except trio.ClosedResourceError:
                return
            except LinkLost as lost:
                self.lose(str(lost))
                return
            if replies:
                self._take(replies)

    def _take(self, replies: list[object]) -> None:
        raise AssertionError("a link takes replies in one of the two ways below")


class _Waiter:
    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: object = None


class CommandLink(RedisLink):
    """For publishing, and for commands whose replies somebody waits for."""

    def __init__(
        self, wire: Wire, limits: BusLimits, counters: BusCounters, on_refused: Callable[[ReplyError], None]
    ) -> None:
        super().__init__(wire, limits, counters)
        self._on_refused = on_refused
        self._waiting: deque[_Waiter | int] = deque()
        """In the order of the commands: who waits for a reply, or how many replies nobody waits for."""

    def tell(self, command: Command) -> bool:
        """A command whose reply matters only where it is an error; False where it was dropped."""
        if not self.write(pack(command)):
            return False
        waiting = self._waiting
        if waiting and isinstance(last := waiting[-1], int):
            waiting[-1] = last + 1
        else:
            waiting.append(1)
        return True

    async def ask(self, command: Command) -> object:
        """The reply, maybe an error one. Raises `Unavailable` where none comes in time."""
        if len(self._waiting) >= self._limits.commands_max or not self.write(pack(command)):
            await trio.lowlevel.checkpoint()
            raise Unavailable(self.lost or f"too much waits for Redis {self.server}")
        waiter = _Waiter()
        self._waiting.append(waiter)
        with trio.move_on_after(self._limits.reply_timeout_s):
            await waiter.done.wait()
            if self.lost is None or waiter.reply is not None:
                return waiter.reply
        raise Unavailable(self.lost or f"Redis {self.server} did not answer within {self._limits.reply_timeout_s:g} s")

    def lose(self, reason: str) -> None:
        super().lose(reason)
        for waiter in self._waiting:
            if isinstance(waiter, _Waiter):
                waiter.done.set()
        self._waiting.clear()

    def _take(self, replies: list[object]) -> None:
        waiting = self._waiting
        at, count = 0, len(replies)
        while at < count:
            if not waiting:
                self.lose(f"Redis {self.server} answered what nobody asked")
                return
            first = waiting[0]
            if isinstance(first, _Waiter):
                first.reply = replies[at]
                first.done.set()
                waiting.popleft()
                at += 1
                continue
            skipped = min(first, count - at)
            for reply in replies[at : at + skipped]:
                if reply.__class__ is not int and isinstance(reply, ReplyError):
                    self._counters.errors += 1
                    self._on_refused(reply)
            if self.lost is not None:
                return
            at += skipped
            if skipped == first:
                waiting.popleft()
            else:
                waiting[0] = first - skipped


class ListeningLink(RedisLink):
    """For what is listened to: confirmations and messages.

    ``names`` maps Redis's names of the channels that are wanted to ours; the canary's is ``""``.
    """

    def __init__(
        self,
        wire: Wire,
        limits: BusLimits,
        counters: BusCounters,
        *,
        sharded: bool,
        on_messages: Callable[[Sequence[Message]], None],
        on_listening: Callable[[str], None],
        on_canary: Callable[[bytes], None],
    ) -> None:
        """``on_listening`` is called for the canary's channel too."""
        super().__init__(wire, limits, counters)
        self.names: dict[bytes, str] = {}
        self._subscribe, self._unsubscribe = ("SSUBSCRIBE", "SUNSUBSCRIBE") if sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._on_messages = on_messages
        self._on_listening = on_listening
        self._on_canary = on_canary
        self._expected: deque[tuple[bytes, bool, float]] = deque()
        """Confirmations that are to come: of which name, whether it was asked for before, since when."""
        self._leaving: deque[bytes] = deque()
        self._count = 0
        """How many channels the server last said that this link is subscribed to."""

    def waits_since_s(self) -> float | None:
        """Since when the oldest unconfirmed subscription waits; ``None`` where all are confirmed."""
        return self._expected[0][2] if self._expected else None

    def excuse(self, delay_s: float) -> None:
        """Answers may have been there all the time: this process was away for so long."""
        self._expected = deque((name, again, since_s + delay_s) for name, again, since_s in self._expected)

    def listen(self, names: dict[bytes, str]) -> None:
        self.names.update(names)
        self._ask_for(names, again=False)

    def unlisten(self, name: bytes) -> None:
        if self.names.pop(name, None) is not None and self.write(pack((self._unsubscribe, name))):
            self._leaving.append(name)

    def listen_again(self) -> None:
        """Ask for everything once more: by the count in the answers, a channel that the server forgot shows."""
        # The canary's first: that one is known to be well, and so its answer says how many others are.
        names = sorted(self.names, key=lambda name: self.names[name] != "")
        self._ask_for(names, again=True)

    def _ask_for(self, names: Sequence[bytes] | dict[bytes, str], *, again: bool) -> None:
        now_s = trio.current_time()
        # One command a name: channels of one cluster command would have to share a slot.
        if self.write(b"".join(pack((self._subscribe, name)) for name in names)):
            self._expected.extend((name, again, now_s) for name in names)
        else:
            self.lose(f"Redis {self.server} does not read what is written to it")

    def _take(self, replies: list[object]) -> None:
        names = self.names
        messages: list[Message] = []
        for reply in replies:
            if not isinstance(reply, list) or len(reply) != 3:
                self._counters.errors += 1
                if isinstance(reply, ReplyError):
                    self.lose(explain(self.server, reply))
                else:
                    self.lose(f"Redis {self.server} answered what nobody asked")
                break
            kind, name, payload = reply
            if kind == b"message" or kind == b"smessage":
                if channel := names.get(name):
                    messages.append((channel, payload))
                elif channel is not None:
                    self._on_canary(payload)
            elif kind == b"subscribe" or kind == b"ssubscribe":
                if messages:  # a confirmation keeps its place among the messages
                    self._deliver(messages)
                    messages = []
                self._confirmed(name, payload)
            elif self._leaving and self._leaving[0] == name:
                self._leaving.popleft()
                self._count = payload
            else:
                self.lose(f"Redis {self.server} has taken a channel away")
                break
        if messages:
            self._deliver(messages)

    def _confirmed(self, name: bytes, count: int) -> None:
        if not self._expected or self._expected[0][0] != name:
            self.lose(f"Redis {self.server} answered what nobody asked")
            return
        _, again, _ = self._expected.popleft()
        was, self._count = self._count, count
        channel = self.names.get(name)
        if channel is None:
            return
        if again and channel:
            if count == was:
                return  # it had been listened to all the time
            self._counters.deaf_found += 1
            logger.warning("Redis %s had forgotten that %s is listened to", self.server, channel)
        if not again or channel:
            self._on_listening(channel)

    def _deliver(self, messages: list[Message]) -> None:
        self._counters.received += len(messages)
        self._on_messages(messages)
