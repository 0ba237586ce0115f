"""What a guarantee is here, and what becomes of it: a name, a promise, a check of a `Scene`; findings and a report.

A check never raises for what a history holds: whatever it cannot know it does not judge, and what it did judge it counts,
so that a guarantee of which nothing was seen is told apart from one that holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proof.guarantees.scene import Scene


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was not kept, and where."""

    guarantee: str
    promise: str
    where: str
    """Connection, stream, node: whatever it happened to."""
    detail: str
    index: int
    """Of the record that shows it, from 0."""
    t: float

    def __str__(self) -> str:
        place = f"record {self.index + 1} ({self.t:.3f} s)"
        return f"{self.guarantee} is broken at {place}, {self.where}: {self.detail}. Promised: {self.promise}"


@dataclass(frozen=True, slots=True)
class Guarantee:
    name: str
    promise: str
    judge: Callable[[Scene, Judge], None]


class Judge:
    """One guarantee at work on one history."""

    __slots__ = ("_guarantee", "_scene", "findings", "judged")

    def __init__(self, guarantee: Guarantee, scene: Scene) -> None:
        self._guarantee = guarantee
        self._scene = scene
        self.findings: list[Finding] = []
        self.judged = 0
        """Observations that could have broken the promise."""

    def finds(self, index: int, where: str, detail: str) -> None:
        given = self._guarantee
        t = self._scene.records[index].t
        self.findings.append(Finding(given.name, given.promise, where, detail, index, t))


@dataclass(slots=True)
class Report:
    findings: list[Finding] = field(default_factory=list)
    """In the order of the records that show them: the first may be the cause of others."""
    judged: dict[str, int] = field(default_factory=dict)
    """By guarantee, how many observations; 0 is "nothing seen", never "holds"."""
    records: int = 0
    warnings: list[str] = field(default_factory=list)
    """What makes the verdict worth less, in words."""

    @property
    def holds(self) -> bool:
        return not self.findings

    def found(self) -> Counter[str]:
        """How many findings, by guarantee; those without any are left out."""
        return Counter(finding.guarantee for finding in self.findings)

    def state(self, name: str) -> str:
        """``broken``, ``holds`` or ``nothing seen``."""
        if name in self.found():
            return "broken"
        return "holds" if self.judged.get(name) else "nothing seen"


CUT_SHORT: Final = (
    "the history was cut short: its last record is not End, so what should have come at last was not judged"
)
NO_RUN: Final = "the history does not begin with a Run record, so times are judged by the defaults"
