"""Which part of the read models is made from a stream, by the stream's name alone; and what an update is called.

As `core.flight.registry`, whose rules for names these are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from core.flight.registry import FLIGHT, SEATS_SUFFIX
from core.flight.views import View
from core.flight.views_board import BOARD_VIEW
from core.flight.views_cabin import CABIN_VIEW
from core.flight.views_crew import CREW_VIEW

CREW_PREFIX: Final = "crew."
NAMES_KEPT: Final = 20_000
"""Names whose answer is remembered, since it is asked for every event: some 3 MB."""


class Source(NamedTuple):
    """A view, and the name of the flight or crew member that the stream is of."""

    view: View[Any]
    name: str


@lru_cache(maxsize=NAMES_KEPT)
def source_of(stream: str) -> Source | None:
    """``None`` where read models are not made from the stream."""
    if not stream.startswith(FLIGHT):
        return None
    name = stream[len(FLIGHT) :]
    if name.startswith(CREW_PREFIX):
        return Source(CREW_VIEW, name[len(CREW_PREFIX) :])
    if name == "board" or name.startswith("board."):
        return None
    if name.endswith(SEATS_SUFFIX):
        return Source(CABIN_VIEW, name[: -len(SEATS_SUFFIX)])
    return Source(BOARD_VIEW, name)
