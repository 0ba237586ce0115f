"""Guarantees about coming back: a good token is honoured, and a cursor is never guessed at."""

from __future__ import annotations

from typing import Final

from proof.guarantees.parts import Opening, Span
from proof.guarantees.scene import Scene
from proof.guarantees.shown import Cause
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Rejected, Welcome

OPENING_S: Final = 30.0
"""The longest that a node may take to answer an opening: its turn, the log, the hello's own time, each twice."""
EXPIRY_S: Final = 1.0
"""Access tokens end at whole seconds."""


def _resumable(scene: Scene, judge: Judge) -> None:
    for opening in scene.openings:
        opened = opening.open
        if opened.how != "resume" or opened.standing != "good" or opened.hostile:
            continue
        judge.judged += 1
        place, answer = opening.conn.place(), opening.answer
        if isinstance(answer, Rejected):
            why = _rightly(scene, opening, answer)
            if not why:
                judge.finds(opening.answered_at, place, f"a good token was rejected: {answer.code}")
        elif isinstance(answer, Welcome):
            if not answer.resumed:
                judge.finds(opening.answered_at, place, "a resume was welcomed as something new")
            if opening.left and scene.whole:
                missing = ", ".join(sorted(opening.left))
                judge.finds(opening.answered_at, place, f"the welcome says neither yes nor no to {missing}")
        elif opening.conn.ended is None:
            waited_s = scene.end_t - opened.t
            if waited_s > OPENING_S + scene.paused_s(opened.node, opened.t, scene.end_t):
                judge.finds(opening.at, place, f"a resume was not answered in {waited_s:.1f} s")
    for span in scene.spans:
        _continued(scene, judge, span)


def _rightly(scene: Scene, opening: Opening, answer: Rejected) -> bool:
    """Whether a token that its client thought good had to be rejected after all."""
    opened, conn = opening.open, opening.conn
    if opened.expires_t is not None and answer.t >= opened.expires_t - EXPIRY_S:
        return True
    if scene.clock_moved(opening.answered_at):
        return True
    if conn.opening is not None and conn.opening.answered_at < opening.answered_at:
        return True  # it is open already: a second opening is an error
    # Somebody else with the same token may have won the race; unless that one was rejected too.
    return bool(opened.credential) and any(
        other is not opening
        and other.open.credential == opened.credential
        and other.at < opening.answered_at
        and not (isinstance(other.answer, Rejected) and other.answered_at < opening.answered_at)
        for other in scene.openings
    )


def _continued(scene: Scene, judge: Judge, span: Span) -> None:
    opening = span.opening
    if opening is None or opening.open.how != "resume" or opening.open.standing != "good":
        return
    asked = opening.open.asked[span.stream]
    if asked is None or asked == span.follow.after or scene.disbelieved(span):
        return  # of a cursor that is not to be believed, Epoch-honest speaks
    at = scene.unannounced(span)
    if at is not None:
        detail = f"came back with cursor {asked}, goes on after {span.follow.after}, and no reset said so"
        judge.finds(at, span.conn.place(span.stream), detail)


def _epoch_honest(scene: Scene, judge: Judge) -> None:
    for span in scene.spans:
        if span.opening is not None and (asked := span.opening.open.asked[span.stream]) is not None:
            judge.judged += 1
            _cursor(scene, judge, span, asked, span.opening)
    for at, took, conn, cause, _ in scene.shown.wrong:
        if cause is Cause.UNDONE:
            detail = f"seq {took.seq}, {took.key}, was undone by the restore to which its epoch belongs"
            judge.finds(at, conn.place(took.stream), detail)


def _cursor(scene: Scene, judge: Judge, span: Span, asked: int, opening: Opening) -> None:
    conn, reset = span.conn, span.reset
    why = scene.disbelieved(span)
    if reset is None:
        at = None if why is None else scene.unannounced(span)
        if at is not None:
            judge.finds(at, conn.place(span.stream), f"the cursor {asked} was {why}, and no reset said so")
    elif reset.reason == "epoch" and opening.open.epoch in (None, conn.epoch):
        judge.finds(
            span.at, conn.place(span.stream), f"the cursor {asked} was called one of another epoch, but is of this"
        )
    elif reset.reason == "ahead" and scene.run.live_commits:
        # The head only grows within a life: what it had when the client asked, it had when the node looked.
        log = scene.log_of(conn, span.stream)
        had = 0 if log is None else log.head_before(opening.at, conn.life)
        if asked <= had:
            detail = f"the cursor {asked} was called ahead of the log, which had {had} by then"
            judge.finds(span.at, conn.place(span.stream), detail)


RESUMABLE = Guarantee(
    "Resumable",
    "a good resume token is honoured by any node, and every stream goes on at the cursor brought",
    _resumable,
)
EPOCH_HONEST = Guarantee(
    "Epoch-honest",
    "a cursor of another epoch or past the head is answered with a reset, and nothing that a restore undid is shown",
    _epoch_honest,
)
