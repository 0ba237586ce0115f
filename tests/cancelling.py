"""Cancelling a call at each of its moments, and a record of whose answers the next borrowers got.

`cancel_at` counts the scheduler's steps from the start of a call and cancels it at the given one. Every task's steps
count, not the call's own alone: a reply may have been read by another task and not yet been handed over, and that is a
moment too. Cancelled *before* a step, a task that was to be woken is woken with what it waited for and meets the
cancellation at its next checkpoint; cancelled *after* a step, whoever has just begun to wait is torn out of that wait.
Only Trio's public instruments are used.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import trio

from proof.guarantees import check
from proof.history import End, Lent, Run

When = Literal["before", "after"]
CALL_S = 20.0
"""Nothing takes as long but on a broken link, or where a pool has lost one for good."""
STEPS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Moment:
    when: When
    step: int

    def __str__(self) -> str:
        return f"{self.when} step {self.step}"


class _Canceller(trio.abc.Instrument):
    """It only counts and cancels: an instrument that raises is dropped by Trio."""

    def __init__(self, moment: Moment, scope: trio.CancelScope) -> None:
        self._left = moment.step
        self._when = moment.when
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._when == "before":
            self._count()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._when == "after":
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def cancel_at(moment: Moment, call: Callable[[], Awaitable[object]]) -> bool:
    """Await ``call``, cancelled at the moment; False where it had ended before, so that there was nothing to cancel."""
    with trio.fail_after(CALL_S), trio.CancelScope() as scope:
        canceller = _Canceller(moment, scope)
        trio.lowlevel.add_instrument(canceller)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(canceller)
    return scope.cancel_called


async def at_every_moment(
    call: Callable[[], Awaitable[object]],
    then: Callable[[str], Awaitable[object]],
    before: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
) -> int:
    """``call`` cancelled at its first moment, its second, … until it has ended sooner, and all again the other way;
    ``then`` after each, with the moment in words. How many moments there were."""
    cancelled = 0
    for when in ("before", "after"):
        for step in itertools.count(1):
            assert step < STEPS_MAX, "the call never ends"
            moment = Moment(when, step)  # type: ignore[arg-type]
            await before()
            was_cancelled = await cancel_at(moment, call)
            with trio.fail_after(CALL_S):
                await then(str(moment))
            if not was_cancelled:
                break
            cancelled += 1
    return cancelled


@dataclass
class Ledger:
    """What next borrowers asked for and whose answer they got, for one link."""

    link: str
    records: list[Lent] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_001))

    def number(self) -> int:
        """One that nobody asked about before: its answer can be nobody else's."""
        return next(self._numbers)

    def lent(self, asked: object, answered: object, after: object) -> None:
        self.records.append(Lent(trio.current_time(), self.link, str(asked), str(answered), str(after)))

    def judge(self, at_least: int) -> None:
        """No-poison, as it is judged everywhere: and so many answers were given that the walk was one."""
        began_s = self.records[0].t if self.records else 0.0
        report = check([Run(began_s, f"every cancellation on {self.link}"), *self.records, End(trio.current_time())])
        assert not report.findings, report.findings[:3]
        assert report.judged["No-poison"] >= at_least, report.judged["No-poison"]
