"""Records of a history that tell of commands and workers: what was kept, who had what, what came of it and what was left.

Part of `proof.history`, which has the terms and the file's format. All are written by whoever can look into the log and the
workers' store: the simulator, and runs under real faults where they read them afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Kept:
    """The log's truth: a command was kept, as ``events`` of them from ``seq`` on, or as a refusal for this ``reason``.

    Where ``live_commits`` holds, it stands right behind the `Committed` records of its events. ``facts``: how many events the
    command was to become when it was handed to the log.
    """

    t: float
    tenant: str
    stream: str
    key: str
    by: str
    seq: int
    events: int
    facts: int
    reason: str = ""
    epoch: str = ""


@dataclass(slots=True)
class Timer:
    """The log's truth: a timer was ``set``, ``cancelled`` or ``fired`` by the event at ``seq``.

    ``due_t``: when one that is set is due, on the run's clock; ``fence``: which setting one that fired was of.
    """

    t: float
    tenant: str
    stream: str
    name: str
    what: str
    seq: int
    due_t: float = 0.0
    fence: int = 0


@dataclass(slots=True)
class Leased:
    """A partition of a consumer changed hands. ``before`` had it until ``before_until_t``; empty, where it was given up."""

    t: float
    consumer: str
    partition: int
    holder: str
    fence: int
    before: str = ""
    before_until_t: float = 0.0


@dataclass(slots=True)
class Worked:
    """A consumer's effects were committed: its cursor was said to be at ``before``, and is at ``to``."""

    t: float
    consumer: str
    partition: int
    fence: int
    before: int
    to: int


@dataclass(slots=True)
class Modelled:
    """A row of a read model at the end, and what the log says that it should be: digests, empty for no row."""

    t: float
    model: str
    tenant: str
    key: str
    held: str
    truth: str


@dataclass(slots=True)
class Left:
    """How much of some work is still to be done at the end, of all that should be."""

    t: float
    what: str
    left: int
    detail: str = ""


@dataclass(slots=True)
class Saga:
    """A saga at the end. ``state`` is its task's; ``how`` one that has ended says that it did (``done``, ``undone``); ``half``:
    what of it the log has otherwise, in words."""

    t: float
    tenant: str
    kind: str
    key: str
    state: str
    how: str = ""
    reason: str = ""
    half: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Aboard:
    """On which flights' manifests somebody is at the end whom only sagas moved, and none has in hand any more."""

    t: float
    tenant: str
    passenger: str
    flights: list[str]


@dataclass(slots=True)
class Board:
    """A row of the board as a follower has it after the troubles, and what the log says that it should be: digests, empty for
    no row."""

    t: float
    conn: str
    tenant: str
    stream: str
    key: str
    held: str
    truth: str
