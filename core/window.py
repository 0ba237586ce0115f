"""Which numbers of a sender were taken: each once, ever, as far as a bounded memory tells.

For: positions of principals that are no enrolled device, whose numbers the directory does not keep; and the directory in
memory, which remembers more of each. Promises: a number is taken once; one that is further behind the newest than is remembered
is too old, never taken twice. Does not: know a sender.
"""

from __future__ import annotations

from typing import Any, Final

from core.directory import Ping
from core.wire import is_seq

REMEMBERED: Final = 512
"""Numbers below the highest: a message of fixes (500) that comes late fits. 128 characters where it is stored."""


class Window:
    __slots__ = ("_remembered", "_taken", "highest")

    def __init__(self, highest: int = 0, taken: int = 0, remembered: int = REMEMBERED) -> None:
        self.highest = highest
        self._taken = taken
        """Bit n: the number n + 1 below the highest."""
        self._remembered = remembered

    def take(self, seq: int) -> Ping:
        ahead, remembered = seq - self.highest, self._remembered
        if ahead > 0:
            self._taken = ((self._taken << 1 | 1) << ahead - 1) & (1 << remembered) - 1 if ahead <= remembered else 0
            self.highest = seq
            return Ping.ACCEPTED
        if ahead < -remembered:
            return Ping.TOO_OLD
        bit = 1 << -ahead - 1 if ahead else 0
        if not ahead or self._taken & bit:
            return Ping.DUPLICATE
        self._taken |= bit
        return Ping.ACCEPTED

    def state(self) -> list[Any]:
        """JSON."""
        return [self.highest, f"{self._taken:x}"]

    @classmethod
    def restore(cls, state: object) -> Window:
        """What `state` gave; a new window for anything else."""
        match state:
            case [int(highest), str(taken)] if is_seq(highest) and len(taken) <= REMEMBERED // 4:
                try:
                    return cls(highest, int(taken, 16))
                except ValueError:
                    pass
        return cls()
