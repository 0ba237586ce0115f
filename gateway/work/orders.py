"""What workers have a node do: commands, messages, notes to inboxes. All under keys that are the same when done again.

Everything goes through the node's lanes as its clients' does, so that it is ordered, committed and shown to who follows, and
what was done once is answered as done when done twice. Given by `core.flight.machine.BY_GATEWAY`, who may do anything in its
tenant and whose name no token can bear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from core.commands import Answer, recorded
from core.flight.machine import BY_GATEWAY, Command, Recorded
from core.flight.registry import machine_of
from core.model import FACT_TYPES, Entry, Outcome
from core.ports import Refused
from gateway.commander import Ask
from gateway.service import WireError
from gateway.waiting import Waiting
from gateway.work.folding import fold
from gateway.work.ports import Transient

if TYPE_CHECKING:
    from core.stream import Stream
    from gateway.node import Node

_PASSING = frozenset(("overloaded", "unavailable", "rate_limited", "internal"))


class Orders:
    """Over one node, which must run. Raises `Transient` for what may go well later, `Impossible` for what never will."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def wall(self) -> float:
        return self._node.wall()

    async def stream(self, tenant: str, name: str) -> Stream:
        """The stream, as the node holds it. Raises `Impossible` where there is none."""
        stream = self._node.hub.by_name.get((tenant, name))
        if stream is None:
            await self._node.loader.load([(tenant, name, BY_GATEWAY)])
            stream = self._node.hub.by_name.get((tenant, name))
        if stream is None:
            raise Impossible(f"there is no stream {name}")
        return stream

    async def command(
        self,
        tenant: str,
        stream: str,
        type: str,
        body: dict[str, Any],
        key: str,
        *,
        via: Sequence[str] = (),
        expect: int | None = None,
        not_before_ms: int = 0,
    ) -> Answer:
        """Give one command as owner; its answer, obeyed or refused. ``not_before_ms`` as `gateway.commander.Ask` has it."""
        waiting = Waiting[Answer]()
        command = Command(type, body, BY_GATEWAY, "owner", tuple(via))
        try:
            found = await self.stream(tenant, stream)
            self._node.commander.give(found, Ask(command, key, expect, True, waiting.answered, not_before_ms))
            return await waiting.answer()
        except WireError as error:
            raise _raised(error) from None

    async def send(self, tenant: str, stream: str, type: str, body: dict[str, Any], key: str) -> int:
        """Send one event; its seq, the same when sent again. What only commands become is not sent."""
        if type.startswith(FACT_TYPES) and not stream.startswith(
            "user:"
        ):  # an inbox is told of what happened elsewhere
            raise Impossible(f"events of type {type} come of commands alone")
        try:
            found = await self.stream(tenant, stream)
            entry = Entry(tenant, found.sid, key, type, BY_GATEWAY, orjson.dumps(body), privileged=True)
            verdict = await self._node.append(found, entry)
        except WireError as error:
            raise _raised(error) from None
        if verdict.outcome > Outcome.DUP:
            raise Impossible(f"{stream} does not take the event: {verdict.outcome.name.lower()}")
        return verdict.seq

    async def notify(self, tenant: str, principal: str, type: str, body: dict[str, Any], key: str) -> int:
        """Send to somebody's inbox, which is made where there was none."""
        if self._node.hub.by_name.get((tenant, principal)) is None:
            # A principal's inbox is made when asked for by its owner.
            try:
                found = await self._node.log.open_streams([(tenant, principal, principal)])
            except Refused as error:
                raise Impossible(error.message) from None
            if found[0] is None:
                raise Impossible(f"{principal} can have no inbox")
        return await self.send(tenant, principal, type, body, key)

    async def state(self, tenant: str, stream: str) -> dict[str, Any]:
        """A stream's state as its machine shows it, of all that the log has now. Raises `Impossible` where none decides."""
        machine = machine_of(stream)
        if machine is None:
            raise Impossible(f"nothing is decided in {stream}")
        found = await self.stream(tenant, stream)
        state, _ = await fold(self._node.log, tenant, found.sid, machine.evolve, machine.initial())
        return machine.show(state)

    async def facts(self, tenant: str, stream: str, seqs: Sequence[int]) -> list[Recorded]:
        """The events that a command became, by the seqs of its answer."""
        found = await self.stream(tenant, stream)
        events = await self._node.log.read(tenant, found.sid, seqs[0] - 1, len(seqs))
        return [recorded(event) for event in events if event.seq in seqs]


class Impossible(Exception):
    """It would fail again: the message says why."""


def _raised(error: WireError) -> Exception:
    if error.code in _PASSING:
        return Transient(error.message, error.retry_after_s, tries_max=1_000)
    return Impossible(f"{error.code}: {error.message}")
