"""For tests of workers: a log and its work in memory on the mock clock, consumers and runners that can be told to fail."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import orjson
import trio

from core.model import Entry, Verdict
from core.work import Effects, Firing, Task
from core.work_limits import WorkLimits
from gateway.work.ports import DONE, Consumer, Hold, Outcome, Place, Runner, Seen
from gateway.work.worker import Worker
from store.memory import MemoryLog
from store.memory_work import MemoryWork

PAGE = Path(__file__).parent.parent / "docs/workers.md"
FIRST_MS = 1_790_000_000_000
LIMITS = replace(WorkLimits(), batch_events=10)
_keys = (f"00000000-0000-4000-8000-{n:012x}" for n in itertools.count(1))


def now_ms() -> int:
    """On trio's clock, which a test's mock clock moves."""
    return FIRST_MS + int(1000 * trio.current_time())


def wall() -> float:
    return FIRST_MS / 1000 + trio.current_time()


class World:
    """A log, its work, and the workers on it."""

    def __init__(self, partitions: int = 4) -> None:
        self.log = MemoryLog(now_ms=now_ms, new_key=lambda: next(_keys), partitions=partitions)
        self.work = MemoryWork(self.log, now_ms)
        self.sids: dict[str, int] = {}
        self._holders = itertools.count(1)

    async def event(self, stream: str, type: str = "message", **body: object) -> Verdict:
        if stream not in self.sids:
            facts = await self.log.create_stream("demo", stream, open=True, members=[], by="service:test")
            self.sids[stream] = facts.sid
        entry = Entry("demo", self.sids[stream], next(_keys), type, "user:amy", orjson.dumps(body), privileged=True)
        return (await self.log.append([entry]))[0]

    def worker(
        self,
        consumers: Sequence[Consumer] = (),
        runners: Sequence[Runner] = (),
        limits: WorkLimits = LIMITS,
        work: MemoryWork | None = None,
    ) -> Worker:
        holder = f"w{next(self._holders)}"
        work = self.work if work is None else work
        return Worker(self.log, work, consumers, runners, holder=holder, limits=limits, rng=Random(holder), wall=wall)

    async def fired(self) -> dict[str, list[int]]:
        """What `Noting` did, by stream, in the order of its commits."""
        found: dict[str, list[int]] = {}
        for firing in reversed(await self.work.firings("demo", limit=100_000)):
            found.setdefault(firing.stream, []).append(firing.seq)
        return found

    async def fires(self, expected: dict[str, list[int]]) -> None:
        await happens(lambda: self._fires(expected))

    async def _fires(self, expected: dict[str, list[int]]) -> bool:
        return await self.fired() == expected


async def happens(true: Callable[[], Awaitable[object]]) -> None:
    """Wait, on the mock clock, for what workers bring about."""
    with trio.fail_after(3_600):
        while not await true():  # noqa: ASYNC110  # there is no event for "anything"
            await trio.sleep(0.05)


class Noting:
    """A consumer that writes one firing an event: twice taken is twice seen. It raises for events that say `bad`."""

    name = "noting"

    def __init__(self) -> None:
        self.mended = False
        self.gate: trio.Event | None = None
        self.prepared: list[list[tuple[str, int]]] = []
        self.forgotten: list[tuple[int, int | None]] = []

    def concerns(self, stream: str) -> bool:
        return not stream.startswith("chat:other")

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        self.prepared.append([(place.stream, seq) for place, seq in places])
        if self.gate is not None:
            await self.gate.wait()

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        effects = Effects()
        for _, event in events:
            if event.body.get("bad") and not self.mended:
                raise ValueError("this one is bad")
            effects.firings.append(
                Firing(place.tenant, self.name, "1", place.stream, event.seq, event.at_ms, "noted", {}, [])
            )
        return effects

    def forget(self, partition: int, sid: int | None = None) -> None:
        self.forgotten.append((partition, sid))


class Doing:
    """A runner that keeps what it ran, and does what it is told: a function, or nothing."""

    def __init__(self, kind: str = "job", do: Callable[[Task, Hold], Awaitable[Outcome]] | None = None) -> None:
        self.kind = kind
        self.ran: list[str] = []
        self.tasks: list[Task] = []
        self._do = do

    async def run(self, task: Task, hold: Hold) -> Outcome:
        self.ran.append(task.key)
        self.tasks.append(task)
        return DONE if self._do is None else await self._do(task, hold)


def is_ours(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """What docs/workers.md has receivers do, at that time."""
    found: dict[str, Any] = {}
    exec(PAGE.read_text().split("```python\n")[1].split("```")[0], found)
    found["time"] = SimpleNamespace(time=lambda: now_s)
    return bool(found["is_ours"](secret, headers, body))
