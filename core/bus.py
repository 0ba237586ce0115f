"""The bus's port: how nodes of one cell tell each other what they have just done.

Everything on the bus is a hint. A message may be lost, doubled, late, or of somebody else; whoever takes one checks it
against positions (events) or versions (presence), and reads the log where they disagree. `store.bus` (Redis) and
`store.memory_bus` both pass tests/contract/test_bus.py.

Channels are short ASCII names (`events:3`, `nodes`); the adapter makes them its own cell's. Delivery keeps the order of
one publisher on one channel and promises nothing between channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Message = tuple[str, bytes]
"""(channel, payload)"""


class Bus(Protocol):
    """At most once, without waiting. Nothing here raises for a bus that is away, except `raise_number`."""

    trouble: str | None
    """Why what is published now cannot be expected to arrive, in words for an operator; ``None`` while all is well.
    Well means: links are open, every channel listened to is confirmed, and the canary came back in time."""

    on_messages: Callable[[Sequence[Message]], None]
    """Called with everything that one read of the link brought, own messages included; must not raise or wait."""
    on_change: Callable[[], None]
    """Called after ``trouble`` changed between ``None`` and a reason."""
    on_listening: Callable[[str], None]
    """Called when listening to a channel took effect: the first time, and again after every reopening. What was
    published on it before may have been missed."""

    def publish(self, channel: str, payload: bytes) -> None:
        """Hand over without waiting. Dropped and counted where the bus is away or too much waits to be written."""
        ...

    def listen(self, channel: str) -> None:
        """Want the channel from now on. Idempotent."""
        ...

    def unlisten(self, channel: str) -> None: ...

    async def raise_number(self, key: str, number: int, ttl_s: float) -> int:
        """Raise the number kept under ``key`` to at least ``number``, for ``ttl_s`` from now where that raised it;
        returns what was kept before, 0 where nothing was. Atomic among nodes. Raises `core.ports.Unavailable`."""
        ...

    async def run(self) -> None:
        """Keep the links: connect, watch, reopen. Until cancelled; never raises for the bus's own troubles."""
        ...


BUS_CHANNEL_MAX = 64
BUS_PAYLOAD_MAX = 4 * 1_048_576
"""Larger ones are not published (the log has it): a commit batch's bodies are bounded at 1 MiB (gateway.lanes)."""
