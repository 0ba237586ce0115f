"""The bus under simulation: `store.memory_bus` with, for each message and each who hears it, a fate of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import trio

from core.bus import Message
from core.ports import Unavailable
from proof.sim.meters import Meters
from proof.sim.recorder import Recorder
from proof.sim.timers import Timers
from store.memory_bus import MemoryBroker, MemoryBus


@dataclass(slots=True)
class BusWeather:
    loses: float = 0.0
    doubles: float = 0.0
    late: float = 0.0
    late_s: float = 0.2
    """At most; a late message comes behind later ones."""
    claims_fail: float = 0.0


class SimBroker(MemoryBroker):
    def __init__(self, rng: random.Random, timers: Timers, meters: Meters, recorder: Recorder) -> None:
        super().__init__()
        self._rng = rng
        self._timers = timers
        self._meters = meters
        self._recorder = recorder
        self.weather = BusWeather()
        self.parted: set[str] = set()
        """Nodes that hear only themselves, and are heard by nobody else."""
        self.other_version: set[str] = set()
        """Nodes of another version, whose messages nobody can read, and which can read nobody's."""

    def deliver(self, sender: SimBus, message: Message) -> None:
        self._recorder.trace(b"bus " + message[0].encode() + b" " + message[1])
        rng, weather = self._rng, self.weather
        calm = not (weather.loses or weather.doubles or weather.late or self.parted or self.other_version)
        for bus in list(self._buses):
            assert isinstance(bus, SimBus)
            if message[0] not in bus._confirmed or bus in self.deaf:
                continue
            if calm or bus is sender:
                bus._put(message)
                continue
            if bus.node in self.parted or sender.node in self.parted:
                continue
            if (bus.node in self.other_version) != (sender.node in self.other_version):
                self._meters.seen("bus message of another version")
                bus._put((message[0], b"\x02" + message[1][1:]))
                continue
            if rng.random() < weather.loses:
                continue
            if rng.random() < weather.late:
                self._meters.seen("bus message late")
                self._timers.after(weather.late_s * rng.random(), lambda bus=bus: bus.put_late(message))  # type: ignore[misc]
            else:
                bus._put(message)
            if rng.random() < weather.doubles:
                self._meters.seen("bus message doubled")
                self._timers.after(weather.late_s * rng.random(), lambda bus=bus: bus.put_late(message))  # type: ignore[misc]


class SimBus(MemoryBus):
    """A node's end. ``reaches``: whether the node is still there; a crashed one tells nobody anything."""

    def __init__(self, broker: SimBroker, node: str, reaches: Callable[[], bool]) -> None:
        super().__init__(broker)
        self.node = node
        self._sim = broker
        self._reaches = reaches

    def publish(self, channel: str, payload: bytes) -> None:
        if not self._runs or self._sim.down or not self._reaches():
            self.dropped += 1
            return
        self.published += 1
        self._sim.deliver(self, (channel, bytes(payload)))

    def put_late(self, message: Message) -> None:
        if self._runs and message[0] in self._confirmed:
            self._put(message)

    async def raise_number(self, key: str, number: int, ttl_s: float) -> int:
        failing = self._sim.weather.claims_fail
        if failing and self._sim._rng.random() < failing:
            before = None
            if self._sim._rng.random() < 0.5:  # it was raised, and the answer is lost
                before = await super().raise_number(key, number, ttl_s)
            await trio.sleep(self._sim._rng.choice((0.0, 0.5)))
            raise Unavailable(f"the bus gave no answer, as the seed has it ({before is not None})")
        if self.node in self._sim.parted:
            await trio.sleep(10.0)
        return await super().raise_number(key, number, ttl_s)
