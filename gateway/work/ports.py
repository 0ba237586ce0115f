"""What a worker runs: consumers of the log and runners of tasks, as `gateway.work.worker` sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from core.flight.machine import Recorded
from core.work import Effects, NewTask, Task


class Place(NamedTuple):
    """A stream, as consumers are told of it."""

    tenant: str
    sid: int
    stream: str
    partition: int


class Seen(NamedTuple):
    """An event that a consumer is to take, with its position in the partition."""

    pos: int
    event: Recorded


class Consumer(Protocol):
    """Turns events into effects. Of one name there is one kind in an installation; each partition is one worker's at a time.

    What it keeps in memory is of the streams' past up to what was taken, and void whenever `forget` says so.
    """

    name: str

    def concerns(self, stream: str) -> bool:
        """Whether it wants this stream's events at all."""
        ...

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        """Have in memory what `take` needs of each stream: its past before the seq. Raises `core.ports.StoreError`."""
        ...

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        """Some next events of one stream, all prepared. It may raise: then the stream is taken again event by event, and
        parked at the one that it raises for."""
        ...

    def forget(self, partition: int, sid: int | None = None) -> None:
        """What was taken since the last commit did not come to pass: of one stream, or of the whole partition."""
        ...


class Memoryless:
    """What a consumer is that keeps nothing: each event by itself says what is to be done."""

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        pass

    def forget(self, partition: int, sid: int | None = None) -> None:
        pass


class Outcome(NamedTuple):
    """What became of a task. ``body`` replaces the task's; ``tasks`` are to be done next, in the same commit."""

    state: Literal["waiting", "parked", "done"]
    reason: str = ""
    after_s: float | None = None
    """``waiting``: try again after so long; ``None``: as the worker's backoff has it, and it counts as a failure."""
    body: Mapping[str, Any] | None = None
    tasks: Sequence[NewTask] = ()


DONE = Outcome("done")


class Hold(Protocol):
    """A running task's claim."""

    async def pulse(self, progress: Mapping[str, Any] | None = None) -> bool:
        """Keep it, say how far one is; True: stop soon. Raises `core.work.Fenced`: stop now, somebody else has it."""
        ...


class Runner(Protocol):
    """Does the tasks of one kind. Whatever it does must be the same when done twice: a claim can run out unnoticed."""

    kind: str

    async def run(self, task: Task, hold: Hold) -> Outcome:
        """Do it. `core.ports.StoreError` and `Transient` are tried again, anything else that is raised parks the task."""
        ...


class Transient(Exception):
    """What failed may well succeed later: a host that does not answer, a node that sheds load."""

    def __init__(self, reason: str, retry_after_s: float | None = None, tries_max: int = 20) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.tries_max = tries_max
