"""Devices with keys that send signed positions, and their connections: for whatever measures what positions cost."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from bench.gen.dialect import Dialect
from bench.gen.raw import OPEN, Raw, Swarm
from bench.load import LoadError
from bench.node import TENANT
from core.jws import b64url
from core.keys import SigningKey
from core.pings import read_fixes, signed_form
from core.wire import at_bytes

STEP_M: Final = 14.0
"""What a device moves in a second, by its fixes' times."""
BACKLOG_S: Final = 3_600
"""So long ago its road begins, so that no fix is of the future."""
OPEN_S: Final = 30.0


@dataclass(slots=True)
class Device:
    number: int
    key: SigningKey
    seq: int = 0

    @property
    def name(self) -> str:
        return f"device:truck-{self.number:05}"

    @property
    def trip(self) -> str:
        return f"trip:{self.number}"

    def place(self, at_ms: int) -> tuple[float, float]:
        """Where it is then, on its road."""
        east_m = STEP_M * (at_ms % 86_400_000) / 1000
        return round(-33.0 - self.number / 1000, 7), round(145.0 + east_m / 93_000, 7)

    def message(self, id: int, times_ms: Sequence[int]) -> bytes:
        """Signed fixes of these times on its road."""
        fixes = []
        for at_ms in times_ms:
            self.seq += 1
            lat, lon = self.place(at_ms)
            fixes.append(
                {
                    "seq": self.seq,
                    "at": at_bytes(at_ms).decode(),
                    "lat": lat,
                    "lon": lon,
                    "acc": 5,
                    "speed": STEP_M,
                    "heading": 90,
                }
            )
        read = read_fixes(fixes)
        assert not isinstance(read, str), read
        signature = b64url(self.key.sign(signed_form(TENANT, self.name, self.trip, read)))
        return orjson.dumps({"op": "position", "id": id, "stream": self.trip, "fixes": fixes, "sig": signature})


def devices(first: int, count: int) -> list[Device]:
    return [
        Device(number, SigningKey("device", hashlib.sha256(b"device %d" % number).digest()))
        for number in range(first, first + count)
    ]


@dataclass(slots=True)
class Record:
    """What devices were answered, of all of them together; counted while it is ``measured``."""

    running: bool = False
    measured: bool = False
    took_ns: list[int] = field(default_factory=list)
    fixes: int = 0
    accepted: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    gone: list[str] = field(default_factory=list)

    def answered(self, answer: dict[str, Any], took_ns: int) -> None:
        if answer["op"] == "error":
            self.errors[answer["code"]] += 1
            return
        if not self.measured:
            return
        self.took_ns.append(took_ns)
        self.fixes += len(answer["verdicts"])
        self.accepted += answer["accepted"]
        if answer["accepted"] != len(answer["verdicts"]):
            self.verdicts.update(f"{each['verdict']} {each.get('reason', '')}" for each in answer["verdicts"])


class Sender(Raw):
    """A device's connection. In a closed loop the next message leaves when one is answered."""

    def __init__(self, swarm: Swarm, device: Device, token: str, record: Record) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {}))
        self.device = device
        self.record = record
        self.waiting: deque[bytes] = deque()
        self.sent: dict[int, int] = {}
        self.next_id = 1

    def prepare(self, messages: int, fixes: int) -> None:
        begin_ms = 1000 * (int(time.time()) - BACKLOG_S)
        for number in range(messages):
            first = begin_ms + 1000 * fixes * number
            times = range(first, first + 1000 * fixes, 1000)
            self.next_id += 1
            self.waiting.append(self.device.message(self.next_id, times))

    def go(self, depth: int) -> None:
        for _ in range(depth):
            self._next()

    def _next(self) -> None:
        if not self.waiting or not self.record.running:
            return
        message = self.waiting.popleft()
        at = message.index(b'"id":') + 5
        self.sent[int(message[at : message.index(b",", at)])] = time.monotonic_ns()
        self.send(message)

    def say(self, at_ms: int) -> None:
        """One fix of now, whatever is under way."""
        self.next_id += 1
        self.sent[self.next_id] = time.monotonic_ns()
        self.send(self.device.message(self.next_id, (at_ms,)))

    def on_answer(self, payload: bytes) -> None:
        answer = orjson.loads(payload)
        began = self.sent.pop(answer.get("id"), None)
        if began is not None:
            self.record.answered(answer, time.monotonic_ns() - began)
            self._next()

    def on_gone(self, reason: str) -> None:
        self.record.gone.append(reason)


async def opened(raws: Sequence[Raw]) -> None:
    for at, raw in enumerate(raws):
        raw.connect()
        if not at % 50:
            await asyncio.sleep(0.01)
    deadline = time.monotonic() + OPEN_S
    while not all(raw.state == OPEN for raw in raws):
        if time.monotonic() > deadline:
            raise LoadError(f"{sum(raw.state != OPEN for raw in raws)} of {len(raws)} connections did not open")
        await asyncio.sleep(0.02)
