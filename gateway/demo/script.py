"""What a day's telling is made of: commands, each with its moment, its key and who gives it.

Some commands name an earlier event. Its seq is not known when a day is made, since others may write to the stream as well:
``ref`` is then the milestone's name, and `referred` puts the seq in place of it when the command is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from core.commands import derived_key
from core.flight.times import write
from gateway.demo.network import MINUTE_MS

MEMBERS: Final[Mapping[str, str]] = {
    "user:planner": "owner",
    "user:ops": "owner",
    "user:crewing": "owner",
    "user:gate": "member",
    "user:checkin": "member",
    "device:acars": "member",
    "service:airport": "member",
    "service:handling": "member",
}
"""Who tells, and what they are in every stream of the day."""


class Given(NamedTuple):
    """A command and when it is given. ``body`` may have a milestone's name as ``ref``; see the module."""

    at_ms: int
    stream: str
    type: str
    body: dict[str, Any]
    key: str
    by: str


class Teller:
    """Gathers commands, and gives each the key that its place in its stream makes."""

    def __init__(self) -> None:
        self.given: list[Given] = []
        self._counts: dict[str, int] = {}

    def tell(self, at_ms: int, stream: str, type: str, by: str, /, **body: Any) -> None:
        count = self._counts[stream] = self._counts.get(stream, 0) + 1
        if "from_" in body:
            body["from"] = body.pop("from_")
        self.given.append(Given(at_ms, stream, type, body, derived_key("demo", stream, count), by))


def referred(given: Given, shown: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the seq of the event that holds of a milestone in place of its name. ``shown`` is of the stream's machine,
    as it is when the command is given. A milestone that nobody has told of gives seq 1, which no time is said by."""
    ref = given.body.get("ref")
    if not isinstance(ref, str):
        return given.body
    told = shown.get("times", {}).get(ref, {})
    return {**given.body, "ref": told.get("ref") or 1}


def minutes(count: float) -> int:
    return round(count * MINUTE_MS)


def to_the_minute(ms: int) -> str:
    """As people and movement messages say a time."""
    return write(ms // MINUTE_MS * MINUTE_MS)
