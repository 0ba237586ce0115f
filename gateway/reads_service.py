"""What the HTTP API asks of the read models and of the past: a small port beside `gateway.service.Service`, and its values.

Every method authorises by itself, as there: a flight and a crew member's ledger are read by who may follow their streams, the
manifest and the seats by who may follow the flight's cabin, and what looks across flights (board, aircraft, rosters) by who
may follow `flight:board`. Failures are those of `gateway.service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.tokens import Identity
from gateway.past import AsOf


@dataclass(frozen=True, slots=True)
class State:
    """Folded from the log itself. ``seq`` is of the last fact that was recorded by the moment asked about, 0 where none was."""

    seq: int
    doc: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Of a read model, or (``behind`` is ``None``) folded from the log. ``seq``: the last fact that is in them. ``behind``: how
    many positions of the log the read model has yet to take where this could come from."""

    seq: int
    docs: Sequence[dict[str, Any]]
    behind: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows by key. ``next`` is the key to go on after; ``None``: that was the last."""

    docs: Sequence[dict[str, Any]]
    next: str | None
    behind: int


class ReadsService(Protocol):
    """Names in arguments were checked for shape, not for rights."""

    async def flight(self, who: Identity, flight: str, as_of: AsOf) -> State: ...

    async def manifest(self, who: Identity, flight: str, as_of: AsOf) -> Rows: ...

    async def seats(self, who: Identity, flight: str, as_of: AsOf) -> Rows: ...

    async def roster(self, who: Identity, flight: str, as_of: AsOf) -> Rows: ...

    async def crew(self, who: Identity, member: str, as_of: AsOf) -> State: ...

    async def board(self, who: Identity, *, station: str, day: str, after: str, limit: int) -> Listing: ...

    async def line(self, who: Identity, registration: str, *, after: str, limit: int) -> Listing: ...
