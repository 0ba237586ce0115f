"""For tests of read models: the rows that the facts of one stream make, told one batch after the other."""

from __future__ import annotations

from typing import Any

from core.flight.machine import Recorded
from core.flight.read_models import source_of
from core.flight.views import Change, changes

FLIGHT = "QX12-20261121"
OUT, IN = "2026-11-21T06:30:00.000Z", "2026-11-21T08:05:00.000Z"


def at(text: str) -> str:
    return f"2026-11-21T{text}:00.000Z"


class Story:
    """A stream's facts one after the other, and the rows that they make."""

    def __init__(self, stream: str) -> None:
        source = source_of(stream)
        assert source is not None
        self.view, self.name = source
        self.state = self.view.initial()
        self.seq = 0
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def tell(self, *facts: tuple[str, dict[str, Any]]) -> list[Change]:
        """Next facts, in one batch; the rows are as they are after it."""
        events = []
        for type, body in facts:
            self.seq += 1
            events.append(Recorded(self.seq, type, "user:ops", 1_790_000_000_000 + self.seq, body))
        self.state, found = changes(self.view, self.name, self.state, events)
        for change in found:
            if change.doc is None:
                del self.rows[change.model, change.key]
            else:
                self.rows[change.model, change.key] = change.doc
        return found

    def of(self, model: str) -> dict[str, dict[str, Any]]:
        return {key: doc for (of, key), doc in self.rows.items() if of == model}


def scheduled(**more: Any) -> tuple[str, dict[str, Any]]:
    body = {"flight": "QX12", "operator": "QX", "registration": "VH-ABC", "type": "B738", "service": "J"}
    return "flight.scheduled", body | {"from": "SYD", "to": "MEL", "out": OUT, "in": IN} | more


def milestone(name: str, kind: str, when: str) -> tuple[str, dict[str, Any]]:
    return "flight.milestone", {"milestone": name, "kind": kind, "at": when, "source": "ops"}


def flight(**more: Any) -> Story:
    story = Story(f"flight:{FLIGHT}")
    story.tell(scheduled(**more))
    return story
