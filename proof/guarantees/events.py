"""Guarantees about the events of a stream: one order, once, nothing left out."""

from __future__ import annotations

from proof.guarantees.parts import Span
from proof.guarantees.scene import Scene
from proof.guarantees.shown import Cause
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Committed, Took


def _named(event: Took | Committed) -> str:
    return f"{event.key} by {event.by}" + (f" ({event.what})" if event.what else "")


def _ordered(scene: Scene, judge: Judge) -> None:
    judge.judged = scene.tooks
    for late in scene.late:
        if not late.again:
            judge.finds(
                late.at, late.span.conn.place(late.took.stream), f"seq {late.took.seq} came after {late.span.next - 1}"
            )
    for at, took, conn, cause, truth in scene.shown.wrong:
        if cause is Cause.OTHER and truth is not None:
            detail = f"seq {took.seq} is {_named(took)}, the log holds {_named(truth)} there"
            judge.finds(at, conn.place(took.stream), detail)
        elif cause is Cause.MISSING:
            judge.finds(at, conn.place(took.stream), f"seq {took.seq}, {_named(took)}, is not in the log")
    for at, took, span, first in scene.shown.disputed:
        detail = f"seq {took.seq} is {_named(took)}, {scene.conns[first.conn].place()} saw {_named(first)} there"
        judge.finds(at, span.conn.place(took.stream), detail)
    for (tenant, stream), log in scene.logs.items():
        judge.judged += len(log)
        for at, event, other in log.clashes:
            detail = f"the log holds two events at seq {event.seq}: {_named(other)} and {_named(event)}"
            judge.finds(at, f"{tenant}/{stream}", detail)


def _unique(scene: Scene, judge: Judge) -> None:
    judge.judged = scene.tooks
    for late in scene.late:
        if late.again:
            seq, span = late.took.seq, late.span
            before = f"it follows from {span.start} on" if seq <= span.start else f"it had all to {span.next - 1}"
            judge.finds(late.at, span.conn.place(span.stream), f"seq {seq} was given again: {before}")
    for (tenant, stream), log in scene.logs.items():
        judge.judged += len(log)
        for at, event, first in log.twice:
            judge.finds(at, f"{tenant}/{stream}", f"the log holds key {event.key} at seq {first.seq} and {event.seq}")
    for (tenant, stream, _), table in scene.seen.items():
        if (tenant, stream) not in scene.logs:  # else the log has it twice, or what was shown is not the log's
            _seen_twice(scene, judge, table)


def _seen_twice(scene: Scene, judge: Judge, table: dict[int, tuple[int, Took]]) -> None:
    places: dict[str, int] = {}
    for seq, (at, took) in table.items():
        first = places.setdefault(took.key, seq)
        if first != seq:
            place = scene.conns[took.conn].place(took.stream)
            judge.finds(at, place, f"key {took.key} was shown at seq {first} and {seq}")


def _reliable(scene: Scene, judge: Judge) -> None:
    judge.judged = scene.tooks + len(scene.restarts)
    for at, took, span, first in scene.skips:
        _gap(scene, judge, at, took, span, first)
    for at, took, conn, over, removed in scene.strays:
        if conn is None:
            judge.finds(at, took.conn, f"seq {took.seq} of {took.stream} on a connection that nobody opened")
        elif over:
            judge.finds(at, conn.place(took.stream), f"seq {took.seq} came after the connection's end")
        elif removed is None:  # else Auth-fresh speaks of it
            judge.finds(at, conn.place(took.stream), f"seq {took.seq} of a stream that is not followed")
    for at, unfollow, span in scene.cut:
        if unfollow.seq >= scene.trims.get((span.conn.tenant, span.stream), 0):
            detail = f"let go of with the removal at {unfollow.seq}, but had no more than up to {span.next - 1}"
            judge.finds(at, span.conn.place(span.stream), detail)
    for at, reset, span, cursor in scene.restarts:
        if reset.reason != "trimmed":
            continue
        kept = scene.trims.get((span.conn.tenant, span.stream), 1)
        if reset.first <= cursor:
            judge.finds(
                at, span.conn.place(span.stream), f"told that all to {reset.first} is gone, but had it to {cursor}"
            )
        elif scene.run.live_commits and span.conn.tenant and reset.first > kept:
            detail = f"told that all before {reset.first} is gone, but the log keeps it from {kept} on"
            judge.finds(at, span.conn.place(span.stream), detail)
    for span in scene.spans:
        _moved_hello(scene, judge, span)
    for (tenant, stream), log in scene.logs.items():
        for life, view in enumerate(log.views if scene.knows_log else ()):
            if view and len(view) != max(view) - min(view) + 1:
                missing = next(seq for seq in range(min(view), max(view)) if seq not in view)
                if not log.unknown(missing, life):
                    judge.finds(view[max(view)][0], f"{tenant}/{stream}", f"the log holds nothing at seq {missing}")


def _gap(scene: Scene, judge: Judge, at: int, took: Took, span: Span, first: int) -> None:
    missing = str(first) if first == took.seq - 1 else f"{first} to {took.seq - 1}"
    judge.finds(at, span.conn.place(took.stream), f"seq {took.seq} came after {first - 1}: {missing} was left out")


def _moved_hello(scene: Scene, judge: Judge, span: Span) -> None:
    """A hello's cursor that was moved without a word; a resume's is for Resumable to say."""
    opening = span.opening
    if opening is None or opening.open.how != "hello":
        return
    asked = opening.open.asked[span.stream]
    if asked is None or asked == span.follow.after or scene.disbelieved(span):
        return
    at = scene.unannounced(span)
    if at is not None:
        detail = f"asked to go on after {asked}, begins after {span.follow.after}, and no reset said so"
        judge.finds(at, span.conn.place(span.stream), detail)


ORDERED = Guarantee(
    "Ordered", "everybody sees a stream's events in one order, with seq rising, and as the log holds them", _ordered
)
UNIQUE = Guarantee("Unique", "no event is given twice on a connection, and no key has two places in a stream", _unique)
RELIABLE = Guarantee(
    "Reliable-or-told",
    "every event past a cursor comes, each next to the one before, and what cannot come is announced by a reset",
    _reliable,
)
