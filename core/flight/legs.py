"""A flight's legs. (Being written: it takes no command yet.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.flight.machine import Command, Decision, Malformed, Recorded, Rule


class Legs:
    name = "legs"
    table: Mapping[str, Rule] = {}

    def initial(self) -> int:
        return 0

    def decide(self, state: int, command: Command, now_ms: int) -> Decision:
        return Malformed(f"no command {command.type!r} here")

    def evolve(self, state: int, event: Recorded) -> int:
        return state

    def show(self, state: int) -> dict[str, Any]:
        return {}


LEGS: Final = Legs()
