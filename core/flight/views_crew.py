"""The crew roster: what the ledger of a crew member says to read models. (Its machine is being written: no rows yet.)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from core.flight.crew import CREW
from core.flight.machine import Recorded
from core.flight.views import Key

ROSTER: Final = "crew_roster"


class CrewView:
    """See the module."""

    def initial(self) -> Any:
        return CREW.initial()

    def evolve(self, state: Any, event: Recorded) -> Any:
        return CREW.evolve(state, event)

    def touched(self, name: str, before: Any, event: Recorded, after: Any) -> Iterable[Key]:
        return ()

    def doc(self, name: str, state: Any, key: Key) -> dict[str, Any] | None:
        return None

    def size(self, state: Any) -> int:
        return 4


CREW_VIEW: Final = CrewView()
