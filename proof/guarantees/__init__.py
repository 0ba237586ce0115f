"""The guarantees of Readback, each as one validator over a recorded history (`proof.history`).

``check(records)`` holds a history against all of them. A guarantee is a name, a promise in one sentence, and a function
that looks at the `Scene` of the history: where it was not kept is a `Finding` with the index of the record that shows
it. What each promises, and what it tolerates with the reason, stands in its function and nowhere else.

Promises: never raises for what a history holds; judges nothing that the history cannot show; 5,000 records take some
10 ms. Does not: read files (`proof.history.read`), nor run anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proof.guarantees.endings import BOUNDED, CLEAN_EXIT, DRAIN, PROGRESS
from proof.guarantees.events import ORDERED, RELIABLE, UNIQUE
from proof.guarantees.latest import LATEST, PRESENCE, SNAPSHOT
from proof.guarantees.moves import ALERT_COMES, ALERT_ONCE, KEPT, NEWEST, POSITION_ORDER, QUARANTINE, TRIPS
from proof.guarantees.returns import EPOCH_HONEST, RESUMABLE
from proof.guarantees.scene import Scene
from proof.guarantees.sends import DEADLINES, DURABLE_ACK, EXACTLY_ONE, NO_POISON
from proof.guarantees.verdict import CUT_SHORT, NO_RUN, Finding, Guarantee, Judge, Report
from proof.guarantees.walls import AUTH_FRESH, BLAST_RADIUS, TENANT_WALL
from proof.guarantees.work import (
    BOARDS,
    FENCED,
    MODELS_TRUE,
    TIMERS_ONCE,
    WHOLE_COMMANDS,
    WHOLE_SAGAS,
    WORKED_OFF,
)
from proof.history import Record, Run

__all__ = ["GUARANTEES", "Finding", "Guarantee", "Report", "check"]

GUARANTEES: Final = (
    ORDERED,
    UNIQUE,
    RELIABLE,
    DURABLE_ACK,
    EXACTLY_ONE,
    RESUMABLE,
    EPOCH_HONEST,
    TENANT_WALL,
    AUTH_FRESH,
    PRESENCE,
    LATEST,
    BOUNDED,
    BLAST_RADIUS,
    DEADLINES,
    NO_POISON,
    DRAIN,
    SNAPSHOT,
    CLEAN_EXIT,
    PROGRESS,
    WHOLE_COMMANDS,
    TIMERS_ONCE,
    FENCED,
    MODELS_TRUE,
    WORKED_OFF,
    WHOLE_SAGAS,
    BOARDS,
    KEPT,
    POSITION_ORDER,
    QUARANTINE,
    NEWEST,
    ALERT_ONCE,
    ALERT_COMES,
    TRIPS,
)
"""All of them, in the order in which they are told."""


def check(records: Sequence[Record]) -> Report:
    """Hold a history against every guarantee."""
    scene = Scene(records)
    report = Report(records=len(records))
    for guarantee in GUARANTEES:
        judge = Judge(guarantee, scene)
        guarantee.judge(scene, judge)
        report.judged[guarantee.name] = judge.judged
        report.findings += judge.findings
    report.findings.sort(key=lambda finding: finding.index)
    if not records or not isinstance(records[0], Run):
        report.warnings.append(NO_RUN)
    if not scene.whole:
        report.warnings.append(CUT_SHORT)
    return report
