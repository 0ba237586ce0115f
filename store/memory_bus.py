"""The bus within one process: for tests of several nodes, and for what they do when it fails.

Promises what `core.bus` says, and fails at a word (`MemoryBroker.down`, ``deaf``, ``lose``). Delivery is a task of the
receiving bus, so that a publish never calls back into its publisher. It knows no payload's meaning and no other process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from core.bus import BUS_CHANNEL_MAX, BUS_PAYLOAD_MAX, Message
from core.ports import Unavailable
from store.bus_limits import BusCounters

INBOX_MAX = 100_000
"""Messages that wait for a bus whose task does not come to run; more are dropped and counted there."""


class MemoryBroker:
    """What the buses of some nodes have in common. Times are Trio's clock."""

    def __init__(self) -> None:
        self.deaf: set[MemoryBus] = set()
        """These hear nothing and do not notice."""
        self.lose: Callable[[str, bytes], bool] = lambda channel, payload: False
        """Whether this message never arrives anywhere."""
        self._down = False
        self._buses: dict[MemoryBus, None] = {}  # in the order in which they joined
        self._numbers: dict[str, tuple[int, float]] = {}

    @property
    def down(self) -> bool:
        """Setting it makes the bus go away for all, or come back."""
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        for bus in self._buses:
            bus._wake.set()

    def _join(self, bus: MemoryBus) -> None:
        self._buses[bus] = None

    def _leave(self, bus: MemoryBus) -> None:
        self._buses.pop(bus, None)

    def _deliver(self, message: Message) -> None:
        if not self.lose(*message):
            for bus in self._buses:
                if message[0] in bus._confirmed and bus not in self.deaf:
                    bus._put(message)

    def _raise_number(self, key: str, number: int, ttl_s: float) -> int:
        now_s = trio.current_time()
        kept, until_s = self._numbers.get(key, (0, 0.0))
        if until_s <= now_s:
            kept = 0
        if number > kept:
            self._numbers[key] = (number, now_s + ttl_s)
        return kept


class MemoryBus(BusCounters):
    """A node's end of a `MemoryBroker`; a `core.bus.Bus`."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__()
        self.trouble: str | None = "not connected yet"
        self.on_messages: Callable[[Sequence[Message]], None] = lambda messages: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_listening: Callable[[str], None] = lambda channel: None
        self._broker = broker
        self._wanted: dict[str, None] = {}
        self._confirmed: dict[str, None] = {}
        self._inbox: list[Message] = []
        self._wake = trio.Event()
        self._runs = False
        self._was_well = False

    def publish(self, channel: str, payload: bytes) -> None:
        assert len(channel) <= BUS_CHANNEL_MAX, channel
        if not self._runs or self._broker.down or len(payload) > BUS_PAYLOAD_MAX:
            self.dropped += 1
            return
        self.published += 1
        self.bytes_out += len(payload)
        self._broker._deliver((channel, bytes(payload)))

    def listen(self, channel: str) -> None:
        assert len(channel) <= BUS_CHANNEL_MAX, channel
        self._wanted[channel] = None
        self._wake.set()

    def unlisten(self, channel: str) -> None:
        self._wanted.pop(channel, None)
        self._confirmed.pop(channel, None)

    async def raise_number(self, key: str, number: int, ttl_s: float) -> int:
        await trio.lowlevel.checkpoint()
        if not self._runs or self._broker.down:
            raise Unavailable("the bus in memory is down")
        return self._broker._raise_number(key, number, ttl_s)

    async def run(self) -> None:
        assert not self._runs, "runs already"
        self._runs = True
        self._broker._join(self)
        try:
            while True:
                self._wake = trio.Event()
                self._turn()
                if not self._inbox:
                    await self._wake.wait()
                else:
                    await trio.lowlevel.checkpoint()
        finally:
            self._broker._leave(self)
            self._runs = False
            self._confirmed.clear()
            self._inbox.clear()
            self.trouble = "not connected any more"

    def _turn(self) -> None:
        if self._broker.down:
            self._confirmed.clear()
            self._inbox.clear()  # what was on its way is lost as well
            self._set_trouble("the bus in memory is down")
            return
        for channel in [wanted for wanted in self._wanted if wanted not in self._confirmed]:
            self._confirmed[channel] = None
            self.on_listening(channel)
        if self.trouble is not None:
            self.reconnects += 1 if self._was_well else 0
            self._was_well = True
            self._set_trouble(None)
        messages = [message for message in self._inbox if message[0] in self._confirmed]
        self._inbox.clear()
        if messages:
            self.received += len(messages)
            self.on_messages(messages)

    def _set_trouble(self, trouble: str | None) -> None:
        changed = (trouble is None) != (self.trouble is None)
        self.trouble = trouble
        if changed:
            self.on_change()

    def _put(self, message: Message) -> None:
        if len(self._inbox) >= INBOX_MAX:
            self.dropped += 1
            return
        self._inbox.append(message)
        self.bytes_in += len(message[1])
        self._wake.set()
