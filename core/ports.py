"""The log's port: what the gateway asks of a store. `store.memory` and `store.postgres` both pass tests/contract.

Rules that hold for every method:

* A method that returns has its effect durable; one that raises `Unavailable` may or may not have had it, and the caller
  finds out by position (`heads`, `tail`) or by repeating with the same key.
* Nothing returned ever belongs to another tenant than the one asked about, except `tail`, which is the node's own
  reading and is filtered by sid afterwards.
* Bad *input* is a verdict or a `None`, never an exception. Exceptions: `Unavailable` (try again), `Refused` (a rule
  said no; carries the wire code), `CorruptLog` (the store contradicts itself; stop and tell the operator).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from core.model import Decided, Entry, Epoch, Event, Judged, Mark, Member, MyStream, StreamFacts, Verdict


class StoreError(Exception):
    """Any failure of a store."""


class Unavailable(StoreError):
    """The store cannot answer now (down, restarting, disk full, pool exhausted, time out). Repeating is right."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Refused(StoreError):
    """A rule of the log said no. ``code`` is the wire's (`conflict`, `not_found`, …); ``message`` is fit for a client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CorruptLog(StoreError):
    """What was read contradicts what the log promises (a hole in pos, a seq twice). Never shown to a client."""


class Log(Protocol):
    """An ordered, gap-free, append-only set of streams in P partitions."""

    async def epoch(self) -> Epoch: ...

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        """Append a batch in one round trip and one commit; one verdict an entry, in order.

        Entries may be of any tenants, streams and partitions. Within a stream, seq follows the order of ``entries``.
        One bad entry never fails its neighbours. At most one entry a stream carries ``expect``, and it is that
        stream's first in the batch (the lane sees to it); one that breaks this answers ``CONFLICT``.
        Types ``member.*`` are refused (``FORBIDDEN``): membership changes only through `put_member`/`remove_member`.
        """
        ...

    async def command(self, commands: Sequence[Decided]) -> list[Judged]:
        """Keep decided commands, in one round trip and one commit; one answer a command, in order.

        Each is judged by itself, and kept whole or not at all. The first of these that holds is its answer: ``FORBIDDEN``
        (something malformed; a fact of a type that is no machine's own, `core.model.FACT_TYPES`); ``NOT_FOUND`` (no such stream
        in this tenant); ``FORBIDDEN`` (no right to send there; an audit stream); ``DUP`` (the key was used before, by a command
        or a send, with what was kept then); ``CONFLICT`` (there is more past ``expect`` than timers of the gateway's own;
        ``seq`` is the head); ``STALE`` (decided on another state, or not its stream's first in the batch); ``FORBIDDEN`` again
        where a later fact's key was used before.
        """
        ...

    async def ruled(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        """Events of a stream that commands became, with seq > ``after``, ascending, at most ``limit``; others are left out.

        The last of them, if fewer than ``limit`` came, is what `Decided.state` must be for a command decided on them.
        """
        ...

    async def names(self, sids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """(tenant, stream) of each of these that exists: for whoever reads by `tail`, and filters as it must."""
        ...

    async def open_streams(self, asked: Sequence[tuple[str, str, str]]) -> list[StreamFacts | None]:
        """Facts for (tenant, stream, principal) triples, all from one snapshot; ``None`` where no such stream exists.

        The inbox ``user:x`` of a principal ``user:x`` is created when first asked for by its owner.
        """
        ...

    async def read(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        """Kept events of a stream with seq > ``after``, ascending, at most ``limit``. Contiguous.

        Where everything up to some ``first - 1`` is trimmed and ``after < first - 1``, starts at ``first``.
        """
        ...

    async def read_before(self, tenant: str, sid: int, before: int, limit: int) -> list[Event]:
        """The last ``limit`` kept events with seq < ``before``, ascending."""
        ...

    async def tail(self, partition: int, after_pos: int, limit: int) -> list[Event]:
        """Events of a partition with pos > ``after_pos``, ascending and dense, at most ``limit``.

        A trimmed event is still here with its place (``body`` is ``None``), so that pos stays dense.
        """
        ...

    async def heads(self) -> list[int]:
        """The last pos of each partition, indexed by partition number."""
        ...

    async def create_stream(
        self, tenant: str, stream: str, *, open: bool, members: Sequence[Member], by: str
    ) -> StreamFacts:
        """A new stream with its first members (there from before seq 1: no events). `Refused` conflict if it exists."""
        ...

    async def put_member(self, tenant: str, stream: str, principal: str, role: str, by: str) -> Event | None:
        """Add a member or change its role, and append ``member.joined`` or ``member.role`` in the same commit.

        The event's body is ``{"principal": …, "role": …}``. ``None`` when nothing changed. `Refused` not_found.
        """
        ...

    async def remove_member(self, tenant: str, stream: str, principal: str, by: str) -> Event:
        """Remove a member and append ``member.left`` in the same commit. `Refused` not_found (stream or member)."""
        ...

    async def members(self, tenant: str, stream: str) -> list[Member] | None:
        """Members by principal, ascending; ``None`` where no such stream exists."""
        ...

    async def my_streams(self, tenant: str, principal: str) -> list[MyStream]:
        """Streams the principal is a member of, its inbox if it exists, and open streams it has marked; by name."""
        ...

    async def load_marks(self, tenant: str, sids: Sequence[int]) -> list[Mark]:
        """All markers of these streams."""
        ...

    async def save_marks(self, tenant: str, marks: Sequence[Mark]) -> None:
        """Raise stored markers to at least these (monotonic max, never back, never past the stream's head)."""
        ...

    async def save_seen(self, tenant: str, seen: Mapping[str, int]) -> None:
        """Raise when principals were last here to at least these times (Unix milliseconds), never back."""
        ...

    async def load_seen(self, tenant: str, sid: int, principals: Sequence[str]) -> dict[str, int]:
        """When principals were last here, as far as that is known, and only of those who may follow the stream."""
        ...

    async def trim(self, tenant: str, stream: str, before: int) -> int:
        """Forget the bodies of all events with seq < ``before``; returns the new ``first``. Keys stay, for idempotency;
        so do the bodies of ``member.*``, so that a node that meets a removal late still learns of whom."""
        ...

    async def aclose(self) -> None: ...


class LogChecker(Protocol):
    """Verifies the log's own invariants: dense pos, gap-free seq, unique keys, heads, the hash chain."""

    def check(self) -> AsyncIterator[tuple[int, int, str | None]]:
        """Yields (events checked so far, events in all, finding or ``None``) as it goes; findings name the exact row."""
        ...
