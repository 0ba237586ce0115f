"""For tests of read models: facts of flights put into a log, as commands that were decided elsewhere."""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from core.commands import derived_key, recorded
from core.flight.machine import Command
from core.flight.registry import machine_of
from core.model import Decided, Outcome
from core.ports import Log

OUT, IN = "2026-11-21T06:30:00.000Z", "2026-11-21T08:05:00.000Z"


class Facts:
    """Writes to any log. Streams are made, closed, when first told of."""

    def __init__(self, log: Log, tenant: str = "demo") -> None:
        self.log = log
        self.tenant = tenant
        self._streams: dict[str, tuple[int, int]] = {}
        """Sid and the seq of the last fact."""

    async def sid(self, stream: str) -> int:
        if stream not in self._streams:
            (known,) = await self.log.open_streams([(self.tenant, stream, "user:ops")])
            if known is None:
                known = await self.log.create_stream(self.tenant, stream, open=False, members=[], by="service:test")
            self._streams[stream] = (known.sid, 0)
            await self.look(stream)
        return self._streams[stream][0]

    async def look(self, stream: str) -> None:
        """Somebody else may have given commands there."""
        sid = self._streams[stream][0]
        events = await self.log.ruled(self.tenant, sid, 0, 100_000)
        self._streams[stream] = (sid, events[-1].seq if events else 0)

    async def tell(self, stream: str, *facts: tuple[str, dict[str, Any]]) -> int:
        """One command that became these facts; the seq of the last."""
        sid = await self.sid(stream)
        state, key = self._streams[stream][1], str(uuid.uuid4())
        decided = Decided(
            self.tenant,
            sid,
            key,
            "test",
            "user:ops",
            state,
            [(derived_key(key, n) if n else key, type, orjson.dumps(body)) for n, (type, body) in enumerate(facts)],
            privileged=True,
        )
        (judged,) = await self.log.command([decided])
        assert judged.outcome is Outcome.OK, judged
        last = judged.seq + len(facts) - 1
        self._streams[stream] = (sid, last)
        return last

    async def give(self, stream: str, verb: str, now_ms: int, **body: Any) -> int:
        """A command of the stream's own machine, which must obey."""
        sid = await self.sid(stream)
        machine = machine_of(stream)
        assert machine is not None
        state = machine.initial()
        for event in await self.log.ruled(self.tenant, sid, 0, 100_000):
            state = machine.evolve(state, recorded(event))
        decision = machine.decide(state, Command(verb, body, "user:ops", "owner"), now_ms)
        assert isinstance(decision, list), decision
        return await self.tell(stream, *[(fact.type, fact.body) for fact in decision])


def scheduled(**more: Any) -> tuple[str, dict[str, Any]]:
    body = {"flight": "QX12", "operator": "QX", "registration": "VH-ABC", "type": "B738", "service": "J"}
    return "flight.scheduled", body | {"from": "SYD", "to": "MEL", "out": OUT, "in": IN} | more


def milestone(name: str, kind: str, when: str) -> tuple[str, dict[str, Any]]:
    return "flight.milestone", {"milestone": name, "kind": kind, "at": when, "source": "ops"}


def equipped(registration: str) -> tuple[str, dict[str, Any]]:
    return "flight.equipped", {"registration": registration}
