"""Guarantees about commands and workers: whole commands, timers that fire once, effects under a fence, rows that are true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from proof.guarantees.parts import Conn
from proof.guarantees.scene import Scene
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Answered, Heal
from proof.works import Aboard, Board, Kept, Leased, Left, Modelled, Saga, Timer, Worked

CLOCK_S: Final = 1e-6
"""Sums of clock readings are inexact by less."""
DUE_S: Final = 0.001
"""Times of events are whole milliseconds, rounded down."""
KEEPS_NOTHING: Final = frozenset(("bad_request", "conflict", "too_large"))
"""Answers that say of a command that nothing was kept of it. (Who may not give it any more is not told what it became.)"""

Place = tuple[str, str]


class Standing(NamedTuple):
    """A command that was kept, with the index of its record and the life of the log in which it was."""

    at: int
    kept: Kept
    life: int


# -- commands -----------------------------------------------------------------------------------------------------------------


def _whole_commands(scene: Scene, judge: Judge) -> None:
    commands: dict[tuple[str, str, str], list[Standing]] = {}
    for at, kept in scene.all(Kept):
        judge.judged += 1
        standing = Standing(at, kept, scene.restores.life(kept.epoch))
        before = commands.setdefault((kept.tenant, kept.stream, kept.key), [])
        first = _held(scene, before, standing.life, at)
        if first is not None:
            judge.finds(
                at, f"{kept.tenant}/{kept.stream}", f"{kept.key} was kept again, first by record {first.at + 1}"
            )
        before.append(standing)
        wrong = _not_whole(scene, standing)
        if wrong:
            judge.finds(at, f"{kept.tenant}/{kept.stream}", f"{kept.key} of {kept.by} {wrong}")
    for at, answer, conn, question in scene.answers:
        if question is None or question.asked.op != "command" or not conn.tenant:
            continue
        asked = question.asked
        known = commands.get((conn.tenant, asked.stream, asked.key.lower()), [])
        # Who is told that nothing was kept may have been told so before another try of the same was kept.
        until = question.at if answer.code in KEEPS_NOTHING else at
        wrong = _mistold(answer, _held(scene, known, conn.life, until))
        judge.judged += 1
        if wrong and not _undone(scene, known, conn):
            judge.finds(at, conn.place(asked.stream), f"{asked.key} {wrong}")


def _held(scene: Scene, known: list[Standing], life: int, until: int) -> Standing | None:
    """What a life of the log knows of a command before that record. Of a refusal that an earlier life kept nobody knows."""
    for standing in reversed(known):
        kept = standing.kept
        place = (kept.tenant, kept.stream)
        if standing.at < until and (
            standing.life == life or (kept.events and scene.restores.holds(life, kept.seq, standing.life, place))
        ):
            return standing
    return None


def _undone(scene: Scene, known: list[Standing], conn: Conn) -> bool:
    """Whether a restore may have taken away what is said, or an earlier life's refusal may be what it is said of."""
    return any(standing.life != conn.life for standing in known)


def _not_whole(scene: Scene, standing: Standing) -> str:
    at, kept, life = standing
    if kept.reason:
        return f"was refused, and became {kept.events} events" if kept.events else ""
    if kept.events != kept.facts:
        return f"was to become {kept.facts} events, and became {kept.events}"
    log = scene.logs.get((kept.tenant, kept.stream))
    for n in range(kept.events):
        found = None if log is None else log.at(kept.seq + n, life)
        if found is None or found[1].by != kept.by or (not n and found[1].key != kept.key):
            return f"does not stand at seq {kept.seq + n}, event {n + 1} of {kept.events}"
        if scene.run.live_commits and found[0] != at - kept.events + n:
            return f"became {kept.events} events that were not committed together"
    return ""


def _mistold(answer: Answered, standing: Standing | None) -> str:
    """What is wrong with the answer to a command, in words."""
    kept = None if standing is None else standing.kept
    if answer.ok:
        if kept is None:
            return f"was answered with seq {answer.seq} before it was kept"
        if kept.reason or (answer.seq, answer.events) != (kept.seq, kept.events):
            return f"was answered with {answer.events} events from seq {answer.seq}, and was {_said(kept)}"
    elif answer.code == "rejected":
        if kept is None:
            return f"was refused ({answer.reason}), and no verdict was kept by then"
        if kept.reason != answer.reason:
            return f"was refused ({answer.reason}), and was {_said(kept)}"
    elif answer.code in KEEPS_NOTHING and kept is not None:
        return f"was answered {answer.code}, and was {_said(kept)} before it was asked"
    return ""


def _said(kept: Kept) -> str:
    return f"kept as a refusal ({kept.reason})" if kept.reason else f"kept as {kept.events} events from seq {kept.seq}"


# -- timers -------------------------------------------------------------------------------------------------------------------


def _timers_once(scene: Scene, judge: Judge) -> None:
    last = len(scene.restores.all)
    timers: dict[tuple[str, str, str], list[tuple[int, Timer]]] = {}
    for at, timer in scene.all(Timer):
        place = (timer.tenant, timer.stream)
        if scene.restores.holds(last, timer.seq, scene.restores.born(at, timer.seq, place), place):
            timers.setdefault((*place, timer.name), []).append((at, timer))
    heal_t = max((heal.t for _, heal in scene.all(Heal)), default=0.0)
    for (tenant, stream, name), facts in timers.items():
        where = f"{tenant}/{stream}, timer {name}"
        stands: tuple[int, Timer] | None = None
        for at, fact in sorted(facts, key=lambda each: each[1].seq):
            judge.judged += 1
            if fact.what == "fired":
                wrong = _misfired(fact, None if stands is None else stands[1])
                if wrong:
                    judge.finds(at, where, wrong)
            stands = (at, fact) if fact.what == "set" else None
        if stands is not None and scene.run.work_s and scene.whole:
            at, fact = stands
            if max(fact.due_t, fact.t, heal_t) + scene.run.work_s < scene.end_t:
                judge.finds(at, where, f"was due at {fact.due_t:.3f} s, and never fired")


def _misfired(fired: Timer, stands: Timer | None) -> str:
    if stands is None:
        return f"fired at seq {fired.seq}, and none of that name was set then: it was fired or cancelled before"
    if stands.seq != fired.fence:
        return f"fired as it was set at seq {fired.fence}, though it was set anew at seq {stands.seq}"
    if fired.t < stands.due_t - DUE_S:
        return f"fired {stands.due_t - fired.t:.3f} s before it was due"
    return ""


# -- workers ------------------------------------------------------------------------------------------------------------------


def _fenced(scene: Scene, judge: Judge) -> None:
    fences: dict[tuple[int, str, int], int] = {}
    cursors: dict[tuple[int, str, int], int] = {}
    # A restore puts leases and cursors back too: each life of the log is judged by itself.
    told: list[tuple[int, Leased | Worked]] = [*scene.all(Leased), *scene.all(Worked)]
    for at, record in sorted(told, key=lambda each: each[0]):
        judge.judged += 1
        place = (scene.restores.life_at(at), record.consumer, record.partition)
        where = f"{record.consumer}, partition {record.partition}"
        wrong = (
            _lease(record, fences.get(place, 0))
            if isinstance(record, Leased)
            else _work(record, place, fences, cursors)
        )
        if wrong:
            judge.finds(at, where, wrong)
        fences[place] = max(record.fence, fences.get(place, 0))
        if isinstance(record, Worked):
            cursors[place] = record.to


def _lease(leased: Leased, newest: int) -> str:
    if leased.before and leased.before_until_t > leased.t + CLOCK_S:
        left_s = leased.before_until_t - leased.t
        return f"was given to {leased.holder} while {leased.before} had it for another {left_s:.3f} s"
    if leased.fence <= newest:
        return f"was given to {leased.holder} under fence {leased.fence}, after {newest}"
    return ""


def _work(
    worked: Worked,
    place: tuple[int, str, int],
    fences: Mapping[tuple[int, str, int], int],
    cursors: Mapping[tuple[int, str, int], int],
) -> str:
    if worked.fence < fences.get(place, 0):
        return f"effects were committed under fence {worked.fence}, after {fences[place]} was given out"
    if worked.before != cursors.get(place, worked.before):
        return f"effects were committed from {worked.before} on, with the cursor at {cursors[place]}"
    if worked.to < worked.before:
        return f"the cursor went back from {worked.before} to {worked.to}"
    return ""


def _models_true(scene: Scene, judge: Judge) -> None:
    for at, row in scene.all(Modelled):
        judge.judged += 1
        if row.held != row.truth:
            what = (
                "is missing" if not row.held else "should not be there" if not row.truth else "is not what the log says"
            )
            judge.finds(at, f"{row.tenant}, {row.model}", f"row {row.key} {what}")


def _worked_off(scene: Scene, judge: Judge) -> None:
    for at, left in scene.all(Left):
        judge.judged += 1
        if left.left:
            judge.finds(at, left.what, f"{left.left} left to do{f': {left.detail}' if left.detail else ''}")


def _whole_sagas(scene: Scene, judge: Judge) -> None:
    for at, saga in scene.all(Saga):
        judge.judged += 1
        where = f"{saga.tenant}, {saga.kind} {saga.key}"
        if saga.half:
            judge.finds(at, where, f"ended as {saga.how}, but {'; '.join(saga.half)}")
        elif saga.state == "parked":
            if not saga.reason:
                judge.finds(at, where, "is parked without a reason")
        elif saga.state != "done":
            judge.finds(at, where, f"has not ended, and is {saga.state} ({saga.reason})")
    for at, aboard in scene.all(Aboard):
        judge.judged += 1
        if len(aboard.flights) != 1:
            on = " and ".join(aboard.flights) or "no manifest"
            judge.finds(at, f"{aboard.tenant}, passenger {aboard.passenger}", f"is on {on} after all sagas")


def _boards(scene: Scene, judge: Judge) -> None:
    for at, row in scene.all(Board):
        judge.judged += 1
        if row.held != row.truth:
            what = "is missing" if not row.held else "should be gone" if not row.truth else "is not what the log says"
            judge.finds(at, f"{row.tenant}, {row.stream} at {row.conn}", f"row {row.key} {what}")


WHOLE_COMMANDS = Guarantee(
    "Whole-commands",
    "a command is kept once: as all of its events together, or refused with a reason; who asks again is told the same",
    _whole_commands,
)
TIMERS_ONCE = Guarantee(
    "Timers-once",
    "a timer that is neither moved nor cancelled fires once, and never before it is due",
    _timers_once,
)
FENCED = Guarantee(
    "Fenced",
    "what events lead to is committed once, in their order, and only by the worker whose turn it is",
    _fenced,
)
MODELS_TRUE = Guarantee(
    "Models-true",
    "in the end, and when it was made anew, every row of a read model is what the log says",
    _models_true,
)
WORKED_OFF = Guarantee(
    "Worked-off",
    "once trouble is over, workers do all that is due in their time, without a hand, and leave nothing parked",
    _worked_off,
)
WHOLE_SAGAS = Guarantee(
    "Whole-sagas",
    "a saga ends with all of its steps done or all undone, or waits for an operator and says why; nobody is lost on the way",
    _whole_sagas,
)
BOARDS = Guarantee(
    "Boards-converge",
    "once trouble is over, every row of the board that a follower was told last is what the log says",
    _boards,
)
