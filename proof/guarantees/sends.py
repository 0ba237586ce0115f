"""Guarantees about requests: what an answer to a send is worth, one effect for a key, an answer in time, one's own answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from proof.guarantees.parts import Conn
from proof.guarantees.scene import Scene
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Answered, Committed, Lent

CLOCK_S: Final = 1e-6
"""Sums of clock readings are inexact by less."""


class Ack(NamedTuple):
    """An ``ok`` to a send."""

    at: int
    answer: Answered
    conn: Conn
    stream: str
    key: str


def _acks(scene: Scene) -> Iterator[Ack]:
    for at, answer, conn, question in scene.answers:
        if not answer.ok or not conn.tenant:
            continue
        stream, key = answer.stream, answer.key
        if question is not None:
            if question.asked.op != "send":
                continue
            stream, key = stream or question.asked.stream, key or question.asked.key
        if stream and key and answer.seq:
            yield Ack(at, answer, conn, stream, key.lower())


def _durable_ack(scene: Scene, judge: Judge) -> None:
    for ack in _acks(scene):
        judge.judged += 1
        detail = _not_held(scene, ack)
        if detail is not None:
            judge.finds(
                ack.at, ack.conn.place(ack.stream), f"{ack.key} was acknowledged at seq {ack.answer.seq}, {detail}"
            )
    for at, took, commit in scene.shown.early:
        judge.finds(at, scene.conns[took.conn].place(took.stream), f"seq {took.seq} was shown before {_commit(commit)}")


def _commit(index: int) -> str:
    return f"its commit (record {index + 1})"


def _not_held(scene: Scene, ack: Ack) -> str | None:
    """What is wrong with an acknowledgement."""
    seq, life = ack.answer.seq, ack.conn.life
    log = scene.log_of(ack.conn, ack.stream)
    standing = None if log is None else log.at(seq, life)
    if standing is not None:
        held: Committed = standing[1]
        if held.key != ack.key:
            return f"but the log holds {held.key} there"
        if scene.run.live_commits and standing[0] > ack.at:
            return f"before {_commit(standing[0])}"
        return None
    if not scene.knows_log or scene.forgotten(seq, (ack.conn.tenant, ack.stream)):
        return None
    if log is not None and log.unknown(seq, life):
        return None  # a restore has undone it
    return "but the log holds nothing there"


def _exactly_one(scene: Scene, judge: Judge) -> None:
    for (tenant, stream), log in scene.logs.items():
        judge.judged += len(log.keys)
        for at, event, place in log.twice:
            judge.finds(at, f"{tenant}/{stream}", f"key {event.key} took effect at seq {place.seq} and at {event.seq}")
    known: dict[tuple[str, str, str], Ack] = {}
    fresh: dict[tuple[str, str, str], Ack] = {}
    for ack in _acks(scene):
        judge.judged += 1
        name = (ack.conn.tenant, ack.stream, ack.key)
        first = known.get(name)
        if first is not None and not _outlived(scene, first, ack):
            first = None
            fresh.pop(name, None)
        if first is None:
            known[name] = ack
        elif first.answer.seq != ack.answer.seq:
            detail = f"{ack.key} was acknowledged at seq {first.answer.seq}, then at {ack.answer.seq}"
            judge.finds(ack.at, ack.conn.place(ack.stream), detail)
        if not ack.answer.dup:
            before = fresh.setdefault(name, ack)
            if before is not ack and before.answer.seq == ack.answer.seq:
                detail = f"{ack.key} was called new in two answers, the first is record {before.at + 1}"
                judge.finds(ack.at, ack.conn.place(ack.stream), detail)


def _outlived(scene: Scene, first: Ack, ack: Ack) -> bool:
    """Whether what was acknowledged first was not undone by a restore in between."""
    if first.conn.life == ack.conn.life:
        return True
    place = (ack.conn.tenant, ack.stream)
    return scene.restores.holds(ack.conn.life, first.answer.seq, first.conn.life, place)


def _deadlines(scene: Scene, judge: Judge) -> None:
    for question in scene.questions:
        asked, conn = question.asked, question.conn
        if asked.within_s is None:
            continue
        judge.judged += 1
        if question.answer is not None:
            until, index = question.answer.t, question.answered_at
        elif conn.ended is not None:
            until, index = conn.ended.t, conn.ended_at
        else:
            until, index = scene.end_t, question.at
        waited_s = until - asked.t
        if waited_s <= asked.within_s + CLOCK_S:
            continue
        paused_s = scene.paused_s(conn.node, asked.t, until)
        if waited_s > asked.within_s + paused_s + CLOCK_S:
            what = "answered" if question.answer is not None else "ended" if conn.ended is not None else "unanswered"
            standing = f", of which its node stood still for {paused_s:.3f} s" if paused_s else ""
            detail = f"{asked.op} {asked.id} was {what} after {waited_s:.3f} s{standing}; it had {asked.within_s:g} s"
            judge.finds(index, conn.place(asked.stream), detail)


def _no_poison(scene: Scene, judge: Judge) -> None:
    for at, lent in scene.all(Lent):
        judge.judged += 1
        if lent.asked != lent.answered:
            after = f" after {lent.after}" if lent.after else ""
            judge.finds(at, lent.link, f"asked {lent.asked}, got the answer to {lent.answered}{after}")


DURABLE_ACK = Guarantee(
    "Durable-ack",
    "what is acknowledged, or shown to anybody, is in the log by then, at the seq that was said",
    _durable_ack,
)
EXACTLY_ONE = Guarantee(
    "Exactly-one-effect", "a key takes effect once, and every ok for it names that one place", _exactly_one
)
DEADLINES = Guarantee("Deadlines", "every request is answered in its time, or its connection ends", _deadlines)
NO_POISON = Guarantee(
    "No-poison",
    "a link to a store that was given up half-way is never lent again with another's answer in it",
    _no_poison,
)
