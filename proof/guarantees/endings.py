"""Guarantees about bounds and ends: memory, a drain, an exit, and that all go on once trouble is over."""

from __future__ import annotations

from typing import Final

from proof.guarantees.parts import Conn
from proof.guarantees.scene import Scene
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Bound, Drained, Draining, DrainTold, Exit, Fault, Heal, Stand

CRASHES: Final = frozenset(("crash", "kill"))
DRAINING_CODE: Final = 4001
LINGER_S: Final = 0.6
"""Closing the last connections takes at most half a second (`gateway.drain`), and looking after them some more."""
SLOT_S: Final = 0.01
"""Milliseconds, and a client's clock."""
NEAR_S: Final = 60.0
"""Trouble made within that time before a drain may still be what ends a connection in it."""


def _bounded(scene: Scene, judge: Judge) -> None:
    for at, bound in scene.all(Bound):
        judge.judged += 1
        if bound.value > bound.limit:
            judge.finds(at, bound.node, f"{bound.buffer} held {bound.value}, its limit is {bound.limit}")


def _clean_exit(scene: Scene, judge: Judge) -> None:
    for at, ended in scene.all(Exit):
        judge.judged += 1
        if ended.left:
            judge.finds(at, ended.node, f"left behind: {', '.join(ended.left)}")
        if ended.wanted and ended.status != 0:
            judge.finds(at, ended.node, f"ended with status {ended.status}, though it was asked to")


def _progress(scene: Scene, judge: Judge) -> None:
    heals = scene.all(Heal)
    healed, heal_t = (heals[-1][0], heals[-1][1].t) if heals else (-1, float("-inf"))
    for at, stand in scene.all(Stand):
        if at < healed:
            continue
        lags = stand.cursor != stand.head or not stand.connected
        if lags and stand.t < heal_t + scene.run.settle_s - 1e-6:
            continue  # it has time yet
        judge.judged += 1
        place = f"{stand.client} of {stand.tenant}, {stand.stream}"
        if not stand.connected:
            judge.finds(at, place, "is not connected")
        elif lags:
            judge.finds(at, place, f"stands at {stand.cursor}, the head is {stand.head}")


# -- drain ----------------------------------------------------------------------------------------------------------------


def _drain(scene: Scene, judge: Judge) -> None:
    drains = scene.all(Draining)
    judge.judged = len(drains)
    for number, (at, draining) in enumerate(drains):
        until = next(
            (other for other, later in drains[number + 1 :] if later.node == draining.node), len(scene.records)
        )
        drained = next(
            ((other, done) for other, done in scene.all(Drained) if done.node == draining.node and at < other < until),
            None,
        )
        crashed = any(fault.node == draining.node and fault.what in CRASHES for _, fault in scene.all(Fault))
        _in_time(scene, judge, at, draining, drained, crashed=crashed)
        _slots(scene, judge, at, draining)
        if drained is not None and not crashed:
            quiet = not scene.troubled(draining.t - NEAR_S, drained[1].t + LINGER_S)
            for conn in scene.conns.values():
                if conn.node == draining.node and conn.welcome is not None:
                    _told_and_answered(scene, judge, at, drained, conn, quiet=quiet)


def _in_time(
    scene: Scene, judge: Judge, at: int, draining: Draining, drained: tuple[int, Drained] | None, *, crashed: bool
) -> None:
    until = scene.end_t if drained is None else drained[1].t
    took_s, paused_s = until - draining.t, scene.paused_s(draining.node, draining.t, until)
    late = took_s > draining.window_s + LINGER_S + paused_s + 1e-6
    if drained is None:
        if not crashed and (late or scene.whole):
            judge.finds(at, draining.node, f"began to drain and never ended, in {took_s:.2f} s")
    elif late:
        judge.finds(drained[0], draining.node, f"took {took_s:.2f} s to drain, its window is {draining.window_s:g} s")


def _slots(scene: Scene, judge: Judge, at: int, draining: Draining) -> None:
    for other, told in scene.all(DrainTold):
        conn = scene.conns[told.conn]
        if other > at and conn.node == draining.node and told.after_s > draining.window_s + SLOT_S:
            detail = f"told to come back in {told.after_s:g} s, the window is {draining.window_s:g} s"
            judge.finds(other, conn.place(), detail)


def _told_and_answered(
    scene: Scene, judge: Judge, at: int, drained: tuple[int, Drained], conn: Conn, *, quiet: bool
) -> None:
    """Who was there when it began was told, and whatever they had asked was answered, or they were told of the end.

    Where links were in trouble (not ``quiet``), what did not come may be on the way still, or a cut the trouble's own."""
    gone, done = drained
    if conn.ended is not None and conn.ended_at < at:
        return
    # An end without a word is that of a client which does not read: its bye is in the pipe, behind what it left there.
    sent_away = conn.ended is not None and conn.ended.by == "server" and bool(conn.ended.code or conn.ended.bye)
    # Any other bye may have been said before the drain began, and been read in it.
    for_this = (
        sent_away and conn.ended is not None and (conn.ended.bye == "draining" or conn.ended.code == DRAINING_CODE)
    )
    left_standing = conn.ended is None and quiet and scene.end_t > done.t + LINGER_S
    here = conn.opening is not None and conn.opening.answered_at < at
    if here and (for_this or left_standing) and not any(at < told for told in conn.drain_told):
        judge.finds(conn.ended_at if for_this else gone, conn.place(), f"was not told that {done.node} drains")
    if not quiet or sent_away:
        return
    for waiting in conn.waiting.values():
        for question in waiting:
            asked = question.asked
            if asked.op != "send" or asked.within_s is None or question.at > gone:
                continue  # without a time nobody says of its client that it reads
            if left_standing:
                judge.finds(question.at, conn.place(asked.stream), f"send {asked.id} was never answered")
            elif conn.ended is not None and conn.ended.by != "client":
                detail = f"was cut off with send {asked.id} unanswered, without a word"
                judge.finds(conn.ended_at, conn.place(asked.stream), detail)


BOUNDED = Guarantee("Bounded", "no buffer ever holds more than its limit", _bounded)
CLEAN_EXIT = Guarantee("Clean-exit", "who ends leaves nothing behind, and says so with its status", _clean_exit)
PROGRESS = Guarantee(
    "Progress",
    "once trouble is over, everybody is connected and stands at the head within the settling time",
    _progress,
)
DRAIN = Guarantee(
    "Drain",
    "a node that leaves tells everybody in its window, answers what it took, and is gone when the window ends",
    _drain,
)
