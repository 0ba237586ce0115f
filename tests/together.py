"""Several people of a test, what they bring about together, and what any of them found wrong."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Together:
    """Whoever has done or seen something calls `stir`; whoever waits for it looks again."""

    def __init__(self, patience_s: float) -> None:
        self.problems: list[str] = []
        self._patience_s = patience_s
        self._lot = trio.lowlevel.ParkingLot()

    def stir(self) -> None:
        self._lot.unpark_all()

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.stir()

    async def look_until(self, ready: Callable[[], bool]) -> None:
        """Until that is so, or somebody found something wrong; however long it takes."""
        while not ready() and not self.problems:
            await self._lot.park()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Until that is so, within patience, and nobody found anything wrong."""
        with trio.fail_after(self._patience_s):
            await self.look_until(ready)
        assert not self.problems, self.problems[:5]
