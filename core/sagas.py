"""Sagas: several steps in several streams that end all done or all undone, written down as what they are. Pure.

Theory of operation. No transaction spans two streams, so a saga takes one step after the other, each a command (or a note, or
a webhook) under a key made from the saga's, the step's name and the direction, so that a step taken twice is taken once. Its
state is a value of plain JSON that is kept after each step (`gateway.work.sagas`); whoever has that can go on. Which steps
there are follows from its kind and its data (`core.saga_kinds`), by name, in order.

* Forward: the first step that has no mark is next. Obeyed, it is `done`. Refused, the step's own table says what that means:
  done by us before (`done`), found as it should be by somebody else's doing (`met`), not possible and not needed (`skipped`),
  to be tried again (`again`, at most `AGAIN_MAX` times, then it parks), or, where the table is silent, the end of the way
  forward: the saga turns back.
* Back: of the steps that are `done` the last in the plan is undone next. What was met or skipped was not our doing and stays.
  A refusal there is as good as undone where the table says so; else the saga parks, since nobody else can know better.
* It turns back too where its deadline passes or somebody aborts it. A command whose answer was never heard may have been kept:
  it is asked for once more first, under its key. Of anything else nobody can ask, and it counts as done, to be undone.
* What can never be done (no such stream) parks a saga where it stands, and an operator says `resume` or `abort`; one that
  is turning back turns.

Promises: at the end either every step is done, met or skipped (`done`), or none is done that could be undone (`undone`).
Does not: know the time, do anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from core.commands import derived_key
from core.flight.machine import Recorded, Refusal

AGAIN_MAX: Final = 10
REASON_MAX: Final = 300

Order = Mapping[str, Any]
"""What is to be done: as a job's body (`gateway.work.jobs`), or ``{"do": "look", "stream": …}`` for a stream's state."""

Way = Literal["done", "met", "skip", "again"]
Mark = Literal["done", "met", "skipped", "undone"]
MARKS: Final[tuple[Mark, ...]] = ("done", "met", "skipped", "undone")
_MARK_OF: Final[Mapping[str, Mark]] = MappingProxyType({"done": "done", "met": "met", "skip": "skipped"})


class Learned(NamedTuple):
    """What an order that was obeyed brought: the events that a command became, the state that was looked at."""

    facts: Sequence[Recorded] = ()
    shown: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Step:
    """``on`` and ``undo_on``: what refusals of ``act`` and ``undo`` mean, by reason."""

    name: str
    act: Order | None
    """``None``: nothing is to be done, but something undone once the step that it ``needs`` was done."""
    undo: Order | None = None
    on: Mapping[str, Way] = field(default_factory=dict)
    undo_on: Mapping[str, Way] = field(default_factory=dict)
    needs: str = ""
    """Skipped unless that step is done or met."""
    unless: str = ""
    """Skipped where that step is done or met."""
    optional: bool = False
    """What can never be done is skipped."""
    learn: Callable[[Mapping[str, Any], Learned], Mapping[str, Any]] | None = None
    """What of an answer goes into the saga's data: the whole of it anew."""


class Kind(NamedTuple):
    """``check`` says what is wrong with the data of a new one, or nothing; ``plan`` its steps, names unique."""

    name: str
    says: str
    check: Callable[[Mapping[str, Any]], str]
    plan: Callable[[str, Mapping[str, Any]], Sequence[Step]]
    """Of a saga's key and data."""


@dataclass(frozen=True, slots=True)
class Saga:
    """``key`` is unique in its tenant. ``tries`` are of the step that is next; ``why`` it turns back; ``reason`` of what last
    kept it from going on."""

    kind: str
    key: str
    data: Mapping[str, Any]
    deadline_ms: int
    marks: Mapping[str, Mark] = field(default_factory=dict)
    compensating: bool = False
    aborted: bool = False
    why: str = ""
    tries: int = 0
    reason: str = ""


class Move(NamedTuple):
    """The next thing to do. ``key`` is the command's."""

    step: Step
    undo: bool
    order: Order
    key: str


class Obeyed(NamedTuple):
    learned: Learned = Learned()


class Never(NamedTuple):
    """It would fail again, for this reason."""

    reason: str


Got = Obeyed | Refusal | Never


class Then(NamedTuple):
    """``again``: the same step later; ``park``: an operator is needed. Both with a reason."""

    what: Literal["next", "again", "park"]
    reason: str = ""


_NEXT: Final = Then("next")


def dump(saga: Saga) -> dict[str, Any]:
    """As it is kept. Steps stand by their mark, in the order in which they got it."""
    body: dict[str, Any] = {
        "saga": saga.kind,
        "key": saga.key,
        "data": dict(saga.data),
        "deadline_ms": saga.deadline_ms,
    }
    for mark in MARKS:
        body[mark] = [name for name, own in saga.marks.items() if own == mark]
    return body | {
        "compensating": saga.compensating,
        "aborted": saga.aborted,
        "why": saga.why,
        "tries": saga.tries,
        "reason": saga.reason,
    }


def load(body: Mapping[str, Any]) -> Saga:
    return Saga(
        body["saga"],
        body["key"],
        body["data"],
        body["deadline_ms"],
        {name: mark for mark in MARKS for name in body.get(mark, ())},
        body.get("compensating", False),
        body.get("aborted", False),
        body.get("why", ""),
        body.get("tries", 0),
        body.get("reason", ""),
    )


def wish(saga: Saga, now_ms: int) -> str:
    """Why it should turn back, where it should and has not."""
    if saga.compensating:
        return ""
    if saga.aborted:
        return "aborted by an operator"
    return "its deadline has passed" if now_ms >= saga.deadline_ms else ""


def resumed(saga: Saga, deadline_ms: int) -> Saga:
    """By an operator: goes on at the step where it parked, and not back at once because it stood there too long."""
    return replace(saga, deadline_ms=max(saga.deadline_ms, deadline_ms), reason="")


def passed_by(kind: Kind, tenant: str, saga: Saga) -> Saga:
    """By an operator who has seen to its next move by hand: that is met, or undone."""
    saga, move = next_move(kind, tenant, saga)
    if move is None:
        return saga
    mark: Mark = "undone" if move.undo else "met"
    return replace(saga, marks=_marked(saga, move.step, mark), tries=0, reason="")


def _marked(saga: Saga, step: Step, mark: Mark) -> Mapping[str, Mark]:
    return {**{name: own for name, own in saga.marks.items() if name != step.name}, step.name: mark}


def next_move(kind: Kind, tenant: str, saga: Saga) -> tuple[Saga, Move | None]:
    """The saga with the steps marked that are not for it, and its next move; ``None``: it has ended, see `ended`."""
    plan = kind.plan(saga.key, saga.data)
    marks = dict(saga.marks)
    if saga.compensating:
        for step in reversed(plan):
            if step.undo is not None and _stands(step, marks):
                return saga, Move(step, True, step.undo, _key(tenant, saga, step, "undo"))
        return saga, None
    for step in plan:
        if step.name in marks:
            continue
        lacks = step.needs and marks.get(step.needs) not in ("done", "met")
        spared = step.unless and marks.get(step.unless) in ("done", "met")
        if lacks or spared:
            marks[step.name] = "skipped"
            continue
        if step.act is None:
            marks[step.name] = "done"
            continue
        return replace(saga, marks=marks), Move(step, False, step.act, _key(tenant, saga, step, "act"))
    return replace(saga, marks=marks), None


def _stands(step: Step, marks: Mapping[str, Mark]) -> bool:
    """Whether a step is to be undone. One that had nothing to do is where the step that it needs was done."""
    if step.act is None and step.name not in marks:
        return not step.needs or marks.get(step.needs) in ("done", "undone")
    return marks.get(step.name) == "done"


def ended(saga: Saga) -> str:
    """How one without a next move ended."""
    return "undone" if saga.compensating else "done"


def _key(tenant: str, saga: Saga, step: Step, way: str) -> str:
    parts = ("saga", tenant, saga.kind, saga.key, step.name, way)
    return derived_key(*parts, saga.tries) if saga.tries else derived_key(*parts)


def turned(saga: Saga, why: str, pending: Move | None = None) -> Saga:
    """On its way back. ``pending``: a move that may have been made, so that it is undone too."""
    marks = saga.marks if pending is None else {**saga.marks, pending.step.name: "done"}
    return replace(saga, marks=marks, compensating=True, why=why[:REASON_MAX], tries=0, reason="")


def turned_at_once(saga: Saga, move: Move, wanted: str) -> Saga | None:
    """Turned back before its next move, or ``None`` where that must be made first: a command may have been kept already."""
    do = move.order["do"]
    if do == "command" or not wanted:
        return None
    return turned(saga, wanted, None if do == "look" else move)


def take(saga: Saga, move: Move, got: Got, wanted: str = "") -> tuple[Saga, Then]:
    """What became of a move. ``wanted``: why the saga should turn back now, if it should."""
    if move.undo:
        return _took_back(saga, move, got)
    step = move.step
    if isinstance(got, Obeyed):
        data = saga.data if step.learn is None else step.learn(saga.data, got.learned)
        return _went_on(replace(saga, data=data), step, "done", wanted)
    if isinstance(got, Never):
        if step.optional:
            return _went_on(saga, step, "skipped", wanted)
        if wanted:
            return turned(saga, wanted), _NEXT
        return replace(saga, reason=got.reason[:REASON_MAX]), Then("park", _said(move, got.reason))
    way = step.on.get(got.reason)
    if way == "again":
        return (turned(saga, wanted), _NEXT) if wanted else _again(saga, move, got)
    if way is not None:
        return _went_on(saga, step, _MARK_OF[way], wanted)
    return turned(saga, wanted or _refused(move, got)), _NEXT


def _went_on(saga: Saga, step: Step, mark: Mark, wanted: str) -> tuple[Saga, Then]:
    saga = replace(saga, marks=_marked(saga, step, mark), tries=0, reason="")
    return (turned(saga, wanted) if wanted else saga), _NEXT


def _took_back(saga: Saga, move: Move, got: Got) -> tuple[Saga, Then]:
    step = move.step
    if isinstance(got, Refusal):
        way = step.undo_on.get(got.reason)
        if way is None or way == "again":
            return _again(saga, move, got)
    elif isinstance(got, Never) and not step.optional:
        return replace(saga, reason=got.reason[:REASON_MAX]), Then("park", _said(move, got.reason))
    return replace(saga, marks=_marked(saga, step, "undone"), tries=0, reason=""), _NEXT


def _again(saga: Saga, move: Move, got: Refusal) -> tuple[Saga, Then]:
    """The refusal is kept under this try's key: the next has a key of its own."""
    said = _refused(move, got)
    saga = replace(saga, tries=saga.tries + 1, reason=said[:REASON_MAX])
    known = (move.step.undo_on if move.undo else move.step.on).get(got.reason) == "again"
    return saga, Then("again" if known and saga.tries % AGAIN_MAX else "park", said)


def _refused(move: Move, got: Refusal) -> str:
    return _said(move, f"{got.reason}: {got.message}")


def _said(move: Move, what: str) -> str:
    return f"{'undoing ' if move.undo else ''}step {move.step.name!r}: {what}"[:REASON_MAX]
