"""All facts of a stream for who may follow it, and what they come to now.

For: whoever answers from the log itself (`gateway.reads`, `gateway.trips_desk`). Promises: what is answered has all that was
committed when it was asked for; nothing of a log that was before a restore; nothing from after a removal that this node has
not seen. Does not: count reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.flight.machine import Recorded
from core.flight.registry import machine_of
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity
from gateway.desk import Desk
from gateway.node import Node
from gateway.ops import unavailable
from gateway.past import KEPT_EVENTS_MAX, NOW, Past, seq_of
from gateway.reads_service import State


class Facts:
    def __init__(self, node: Node, desk: Desk, kept_max: int = KEPT_EVENTS_MAX) -> None:
        self._node = node
        self._desk = desk
        self._past = Past(node.log, kept_max)
        self._restored = 0

    async def state(self, who: Identity, stream: Stream) -> State:
        """What its machine makes of all of them. Raises `WireError`."""
        machine = machine_of(stream.name)
        assert machine is not None, stream.name
        facts = await self.of(who, stream)
        state = machine.initial()
        for fact in facts:
            state = machine.evolve(state, fact)
        return State(seq_of(facts, NOW), machine.show(state))

    async def of(self, who: Identity, stream: Stream) -> Sequence[Recorded]:
        """Of a stream that was readable just now. Raises `WireError`."""
        known = stream.head
        facts = await self.read(who.tenant, stream.sid)
        await self._desk.still_readable(who, stream, known, seq_of(facts, NOW))
        return facts

    async def read(self, tenant: str, sid: int) -> Sequence[Recorded]:
        """Whoever asks. Raises `WireError` unavailable."""
        restored = self._node.follower.restored
        if restored != self._restored:
            self._restored = restored
            self._past.forget()
        try:
            return await self._past.facts(tenant, sid)
        except Unavailable as error:
            raise unavailable(error) from None
