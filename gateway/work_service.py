"""What the HTTP API asks of the workers' store: sagas and what rules did, a small port beside `gateway.service.Service`.

Every method authorises by itself, as there, and concerns the tenant of ``who`` alone. Failures are those of `gateway.service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.tokens import Identity
from core.work import Firing


@dataclass(frozen=True, slots=True)
class SagaFacts:
    """A saga as it is. ``state`` is the task's; ``ended`` is `done` or `undone`, empty before; ``next`` its next step's name,
    empty where there is none; ``marks`` what became of each step, by name."""

    id: int
    kind: str
    key: str
    state: str
    ended: str
    next: str
    compensating: bool
    marks: dict[str, str]
    reason: str
    attempts: int
    deadline_ms: int
    made_ms: int


class WorkService(Protocol):
    async def start_saga(
        self, who: Identity, kind: str, key: str, data: dict[str, Any], deadline_s: float | None
    ) -> tuple[SagaFacts, bool]:
        """The saga, and whether this made it. `WireError` conflict where the key is another saga's."""
        ...

    async def saga(self, who: Identity, key: str) -> SagaFacts: ...

    async def firings(self, who: Identity, rule: str | None, stream: str | None, limit: int) -> Sequence[Firing]:
        """The newest first."""
        ...
