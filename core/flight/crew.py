"""One crew member's ledger of duties. Its verbs come with the next commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.flight.machine import Command, Decision, Malformed, Recorded, Rule


class State:
    """What is known of it."""


class Machine:
    name = "crew"
    table: Mapping[str, Rule] = {}

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now_ms: int) -> Decision:
        return Malformed(f"there is no command {command.type!r} here")

    def evolve(self, state: State, event: Recorded) -> State:
        return state

    def show(self, state: State) -> dict[str, Any]:
        return {}


CREW: Final = Machine()
