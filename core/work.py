"""The workers' port: what a worker asks of a store. `store.memory_work` and `store.postgres_work` both pass tests/contract.

A *consumer* (projections, rules, …) is a cursor on each of the log's partitions. Workers share a consumer's partitions by
lease; each lease has a *fence*, a number that rises whenever the partition changes hands, and whatever a worker writes goes
in one commit with the cursor's move, which the store takes only under the newest fence and from where the cursor is. So an
effect is there exactly once, whoever crashed, and a worker that lost its lease without knowing changes nothing.

A *task* is a row with a time when it is due: a timer, a job, a step of a saga. It is claimed for a while, under a fence of
its own. Tasks of one *lane* (a stream's, most often; lanes are of a kind and a tenant) are claimed one after the other in the
order of their numbers; one that is parked stops its lane and nothing else.

A stream whose event a consumer cannot take is *parked*: the consumer goes on with the others and leaves this one's events,
from that on, to be taken later in their order (sequenced dead letters).

Rules for every method: time is the store's own clock, the same for all workers. `Unavailable` may or may not have had its
effect. Nothing of one tenant is ever answered to a question about another; what asks across tenants says so. `ValueError`:
what is to be written is wrong in itself (no such kind, a name that no store can keep), and nothing was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from core.ports import StoreError

KINDS: Final = ("timer", "job", "saga", "long")
"""Kinds of tasks: fire a timer; do something outside or give a command; take a saga a step on; run long, with progress."""

TaskState = Literal["waiting", "claimed", "parked", "done", "dropped"]


class Fenced(StoreError):
    """Somebody else has the lease (or the task) by now, or the cursor is elsewhere: nothing was written. Take it anew."""


class Held(StoreError):
    """The consumer's cursors are held still for a moment, as while a rebuilt read model takes its place. Try again soon."""


class Lease(NamedTuple):
    """A partition of a consumer, as long as it is renewed. ``pos`` is the last position whose effects are committed."""

    consumer: str
    partition: int
    fence: int
    pos: int


class Row(NamedTuple):
    """One row of a read model. ``doc`` is JSON, ``None`` where the row is gone (kept for those who follow changes).

    ``pos`` and ``seq`` are of the event it was last changed by, ``at_ms`` when that was recorded.
    """

    model: str
    tenant: str
    key: str
    partition: int
    pos: int
    seq: int
    at_ms: int
    doc: dict[str, Any] | None


class NewTask(NamedTuple):
    """A task to be. There is one of a (kind, tenant, key): with ``replace`` the new one takes the place of what is there, in
    its lane at the end, and whoever has claimed the old one finds that fenced; else what is there stays, if done too."""

    kind: str
    tenant: str
    key: str
    due_ms: int
    body: dict[str, Any]
    lane: str = ""
    """Empty: no lane."""
    replace: bool = False


class Task(NamedTuple):
    """A task as it is. ``fence`` counts its claims, ``attempts`` those that failed since it was last well; ``progress`` is
    what a long one last said of itself; ``cancel`` asks it to stop when it next looks."""

    id: int
    kind: str
    tenant: str
    key: str
    lane: str
    due_ms: int
    state: TaskState
    fence: int
    attempts: int
    reason: str
    body: dict[str, Any]
    progress: dict[str, Any]
    cancel: bool
    made_ms: int


class Parked(NamedTuple):
    """A stream that a consumer waits with. ``seq``, ``pos`` are of the event it stopped at; ``attempts`` were made at that."""

    consumer: str
    tenant: str
    sid: int
    stream: str
    partition: int
    seq: int
    pos: int
    reason: str
    attempts: int
    since_ms: int
    """By the store's clock, which alone writes it."""
    retry: bool
    """An operator wants it tried again; workers do that, and take this back where it fails again."""


class Firing(NamedTuple):
    """What a rule did about an event, and why: kept for good. ``seq`` is of the event, ``stream`` its stream's name."""

    tenant: str
    rule: str
    version: str
    stream: str
    seq: int
    at_ms: int
    verdict: str
    inputs: dict[str, Any]
    actions: list[dict[str, Any]]


@dataclass(slots=True)
class Effects:
    """What a batch of events led to; written in one commit with the cursor's move. Empty: only the cursor moves."""

    rows: list[Row] = field(default_factory=list)
    """Into the live generation of each model (see `Work.begin_rebuild` for others). Of one key the last counts. They are of
    the lease's partition; ``seq`` and ``pos`` may be of long ago, where a parked stream is taken at last."""
    tasks: list[NewTask] = field(default_factory=list)
    untasks: list[tuple[str, str, str]] = field(default_factory=list)
    """(kind, tenant, key) of tasks that are no longer to be done, waiting or parked; those done or claimed stay. They are
    taken away before ``tasks`` are added."""
    memories: list[tuple[str, int, dict[str, Any] | None]] = field(default_factory=list)
    """(tenant, sid, what the consumer wants to remember of the stream, or that it forgets it). Of one sid the last counts."""
    firings: list[Firing] = field(default_factory=list)
    parks: list[Parked] = field(default_factory=list)
    """Streams to wait with from now on; one that is parked already is updated (reason, attempts, seq and pos, retry)."""
    unparks: list[int] = field(default_factory=list)
    """sids to wait with no longer: all up to the cursor is taken."""

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__)

    def merge(self, other: Effects) -> None:
        for name in self.__slots__:
            getattr(self, name).extend(getattr(other, name))


class Cursor(NamedTuple):
    """Where a consumer stands in a partition. ``head`` is the partition's; ``holder`` is empty where nobody has it."""

    consumer: str
    partition: int
    pos: int
    head: int
    holder: str
    fence: int
    at_ms: int
    """When it last moved."""


class Work(Protocol):
    # -- sharing partitions ---------------------------------------------------------------------------------------------

    async def beat(self, holder: str, consumers: Sequence[str], ttl_ms: int) -> list[Lease]:
        """Say that this worker lives and is ready for these consumers; every lease that it holds from now for ``ttl_ms``.

        Cursors of a consumer are made at position 0 when first asked for. Keeps what it holds up to its fair share, gives up
        the rest, and all of consumers that it does not name; takes what is free or expired up to its share. That is for each
        consumer the partitions divided by the workers that beat for it within their ttl; those first by name have one more
        where it does not come out even. A lease kept keeps its fence; one taken has a higher one. By consumer as they are
        named, then by partition.
        """
        ...

    async def leave(self, holder: str) -> None:
        """This worker ends in good order: what it holds is free at once, leases and tasks (their attempts not counted)."""
        ...

    async def commit(self, lease: Lease, to_pos: int, effects: Effects) -> Lease:
        """Write the effects and move the cursor from ``lease.pos`` to ``to_pos`` (which may be the same); the lease after it.

        Raises `Fenced` where another fence is newer or the cursor is not at ``lease.pos``, else `Held` (see `hold`). A lease
        that ran out or was given up is as good as any until somebody takes it.
        """
        ...

    async def cursors(self, consumer: str | None = None) -> list[Cursor]:
        """By consumer, then partition: for lag and for people."""
        ...

    async def hold(self, consumer: str, for_ms: int) -> None:
        """No cursor of this consumer moves for so long, or until ``hold(consumer, 0)``. Of cursors that are there only."""
        ...

    async def forget(self, consumer: str) -> None:
        """Remove a consumer's cursors, memories and parked streams, and the generations that it was building."""
        ...

    async def memories(self, consumer: str, sids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What the consumer remembers of these streams. Across tenants."""
        ...

    # -- parked streams -------------------------------------------------------------------------------------------------

    async def parked(
        self, consumer: str | None = None, *, tenant: str | None = None, limit: int = 1000
    ) -> list[Parked]:
        """Oldest first. Across tenants unless one is named."""
        ...

    async def ask_retry(self, consumer: str, sid: int, *, skip: bool) -> bool:
        """Have workers try a parked stream again, with its attempts at 0; with ``skip`` from after the event that it stopped at
        (``seq`` is one more then, ``pos`` stays). False: there is none."""
        ...

    # -- tasks ------------------------------------------------------------------------------------------------------------

    async def add(self, tasks: Sequence[NewTask]) -> None:
        """Add tasks in this order. Of one (kind, tenant, key) the last counts."""
        ...

    async def claim(self, holder: str, kind: str, limit: int, ttl_ms: int) -> list[Task]:
        """Tasks that are due, the longest due first, each claimed for ``ttl_ms`` under a new fence. Across tenants.

        At most one of a lane, and none of a lane whose earlier task waits, is claimed or parked. A claim that ran out
        counts as an attempt that failed (``reason`` says so), and the task can be claimed again.
        """
        ...

    async def settle(
        self,
        task: Task,
        *,
        state: Literal["waiting", "parked", "done"],
        after_ms: int = 0,
        reason: str = "",
        body: Mapping[str, Any] | None = None,
        tasks: Sequence[NewTask] = (),
        failed: bool = False,
    ) -> None:
        """What became of a claimed task: done; to be tried again ``after_ms`` from now, by the store's clock (0: due as it was,
        so at once); parked for an operator. ``body`` replaces its own; ``tasks`` are added in the same commit; ``failed``
        counts an attempt, else they start from 0 again.

        Raises `Fenced` where the claim ran out and somebody noticed (it waits again, or somebody else has it), and where it
        was settled already.
        """
        ...

    async def pulse(self, task: Task, ttl_ms: int, progress: Mapping[str, Any] | None = None) -> bool:
        """Extend a claim and say how far it is; whether it is asked to stop. Raises `Fenced`."""
        ...

    async def tasks(
        self, kind: str, *, tenant: str | None = None, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[Task]:
        """By number, those after ``after``. Across tenants unless one is named."""
        ...

    async def task(self, kind: str, tenant: str, key: str) -> Task | None:
        """The task of this key, whatever its state, or ``None`` where there is none (any more)."""
        ...

    async def next_due_ms(self, kind: str) -> int | None:
        """When the first is due that its lane lets through, or a claim runs out: until then nobody need look. ``None``: there
        is none. Across tenants."""
        ...

    async def tell(self, id: int, what: Literal["retry", "drop", "cancel"]) -> bool:
        """An operator's word on a task: try a parked one now with its attempts at 0; drop a parked or waiting one; have a
        claimed one stop (a waiting one is dropped). False where that says nothing to its state."""
        ...

    async def clean(self, before_ms: int, limit: int) -> int:
        """Delete tasks done or dropped before then, rows that are gone since before then, and rows of generations that are no
        more, at most ``limit`` in all; how many. Fewer than ``limit``: that was all."""
        ...

    # -- read models --------------------------------------------------------------------------------------------------

    async def rows(self, model: str, tenant: str, *, prefix: str = "", after: str = "", limit: int = 1000) -> list[Row]:
        """Of the live generation, by key, those beginning with ``prefix`` and past ``after``. Rows that are gone are not."""
        ...

    async def row(self, model: str, tenant: str, key: str) -> Row | None: ...

    async def rows_after(self, model: str, partition: int, pos: int, limit: int) -> list[Row]:
        """Of the live generation, changed by an event of the partition past ``pos``, by pos then tenant and key, those that are
        gone too; ``limit`` of them, and beyond that all of the last one's pos. Across tenants: the nodes' own reading.

        What changes behind the cursor (a parked stream that is taken at last) is not found so: `generations` tells of it.
        """
        ...

    async def generations(self) -> dict[str, int]:
        """A number of each model that ever had a row or a rebuild. One that changed says: read all rows anew. It is the live
        generation's, or a later one where rows were changed since that are of events behind the cursor."""
        ...

    async def begin_rebuild(self, model: str, consumer: str) -> int:
        """A new generation of the model, empty, into which this consumer's commits write instead of the live one.

        The consumer begins at position 0 then, remembering nothing; who was building another one of this model is forgotten.
        """
        ...

    async def swap(self, model: str, generation: int, consumer: str, live_consumer: str) -> bool:
        """Make the generation the live one and forget the consumer, if it was building that one and its cursors are all exactly
        where the live consumer's are; else False, and nothing changes. The old one's rows are gone at once for who asks.

        A consumer that builds other models too is forgotten with the last of them.
        """
        ...

    # -- what rules did ---------------------------------------------------------------------------------------------------

    async def firings(
        self, tenant: str, *, rule: str | None = None, stream: str | None = None, limit: int = 100
    ) -> list[Firing]:
        """The newest first."""
        ...
