"""Records of a history that tell of positions and trips: what was kept, what was shown, who was told and what became of it.

Part of `proof.history`, which has the terms and the file's format. Times named ``at_t`` are when a fix was true, on the run's
clock. A fix is named by its stream, its subject and ``seq``, the subject's own number. What the store and the log hold is
written by whoever can look into them: the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Sampled:
    """The store's truth: a sample is kept. ``verdict`` is accepted, degraded or quarantined."""

    t: float
    tenant: str
    stream: str
    subject: str
    seq: int
    at_t: float
    verdict: str


@dataclass(slots=True)
class Judged:
    """A device was told what became of one of its fixes."""

    t: float
    conn: str
    stream: str
    subject: str
    seq: int
    at_t: float
    verdict: str
    reason: str = ""


@dataclass(slots=True)
class Declined:
    """A node took a fix's number, and does not keep the fix: it is rejected or throttled. Who says it again may be told that it
    is a duplicate."""

    t: float
    tenant: str
    stream: str
    subject: str
    seq: int
    reason: str = ""


@dataclass(slots=True)
class Read:
    """How often a sample was found when a subject's track was read at the end, page by page."""

    t: float
    tenant: str
    stream: str
    subject: str
    seq: int
    times: int


@dataclass(slots=True)
class Placed:
    """A connection was shown where a subject is. ``sent_t`` is when that was put on the wire, where the producer could see it:
    ``age_s`` is as of then."""

    t: float
    conn: str
    stream: str
    subject: str
    at_t: float
    age_s: float = 0.0
    sent_t: float | None = None
    stale: bool = False


@dataclass(slots=True)
class Trailed:
    """A connection was shown where a subject has been, and when."""

    t: float
    conn: str
    stream: str
    subject: str
    at_t: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Newest:
    """Where a subject is at the end, as who follows was shown it last (``held_t`` is when it was there; None: it was shown
    nothing), and the newest fix of it that was believed. ``fresh``: who follows has only just joined."""

    t: float
    conn: str
    stream: str
    subject: str
    held_t: float | None
    truth_t: float
    fresh: bool = False


@dataclass(slots=True)
class Alerted:
    """The log's truth: somebody is told that a trip is that near a stop. ``merged`` are thresholds that it stands for too."""

    t: float
    tenant: str
    stream: str
    seq: int
    stop: str
    recipient: str
    threshold_s: int
    merged: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Noticed:
    """The log's truth: the alert is in its recipient's inbox, at ``seq`` of it."""

    t: float
    tenant: str
    inbox: str
    seq: int
    trip: str
    stop: str
    threshold_s: int


@dataclass(slots=True)
class Wished:
    """Somebody wanted to be told ``threshold_s`` before a trip is at a stop: since ``since_t``, with the trip under way; it was
    there at ``there_t``. Who has wanted it for longer than ``least_s`` before the threshold must have been told by then."""

    t: float
    tenant: str
    stream: str
    stop: str
    recipient: str
    threshold_s: int
    since_t: float
    there_t: float
    least_s: float


@dataclass(slots=True)
class Trip:
    """A trip at the end, as a node shows it and as its stream folds (digests), and how often the log says that it was over.
    ``there``: its subject has been at its last stop."""

    t: float
    node: str
    tenant: str
    stream: str
    held: str
    truth: str
    completed: int
    there: bool
