"""Guarantees about positions and trips: what is kept, what is shown of it and how old, and who is told before an arrival."""

from __future__ import annotations

from collections import Counter
from typing import Final

from proof.guarantees.parts import Conn
from proof.guarantees.scene import Scene
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Fault, Heal
from proof.moves import Alerted, Declined, Judged, Newest, Noticed, Placed, Read, Sampled, Trailed, Trip, Wished

TAKEN: Final = frozenset(("accepted", "degraded", "quarantined", "duplicate"))
"""Answers after which a device forgets its fix: it is in the store by then."""
SAME_S: Final = 0.0005
"""Times of fixes are whole milliseconds."""
ROUND_S: Final = 0.051
"""Ages are told in tenths."""
FLUSH_S: Final = 0.25
"""An age is as of when places that had gathered were told (`live_flush_s`, doubled under load), and a little before it is on
the wire."""
NEAR_S: Final = 1.0
"""Another node hears within so long what one shows: what is gathered, twice, and the way over the bus."""
GRACE_S: Final = 3.0
"""After the troubles devices come back, say what they have kept, and nodes catch up: what is due by then may come late."""
BUS: Final = "bus "

Fix = tuple[str, str, str, int]
"""Tenant, stream, subject and number."""


def _where(conn: Conn | None, placed: Placed | Trailed | Newest | Judged) -> str:
    return f"{placed.subject} in {placed.stream} at {placed.conn}" if conn is None else conn.place(placed.stream)


# -- kept ---------------------------------------------------------------------------------------------------------------------


def _kept(scene: Scene, judge: Judge) -> None:
    first: dict[Fix, int] = {}
    for at, one in scene.all(Sampled):
        first.setdefault((one.tenant, one.stream, one.subject, one.seq), at)
    declined: dict[Fix, int] = {}
    for at, refused in scene.all(Declined):
        declined.setdefault((refused.tenant, refused.stream, refused.subject, refused.seq), at)
    promised: dict[Fix, int] = {}
    for at, told in scene.all(Judged):
        conn = scene.conns.get(told.conn)
        if conn is None or not conn.tenant or told.verdict not in TAKEN:
            continue
        judge.judged += 1
        fix = (conn.tenant, told.stream, told.subject, told.seq)
        if told.verdict == "duplicate" and declined.get(fix, at) < at:
            continue
        promised.setdefault(fix, at)
        kept_at = first.get(fix)
        if kept_at is None or kept_at > at:
            later = "" if kept_at is None else ", and was not until later"
            judge.finds(at, _where(conn, told), f"fix {told.seq} was answered {told.verdict} and is not kept{later}")
    read: Counter[Fix] = Counter()
    for at, found in scene.all(Read):
        judge.judged += 1
        fix = (found.tenant, found.stream, found.subject, found.seq)
        read[fix] += found.times
        # Under a clock that was moved meanwhile a fix that is judged again is true at another time, and another sample.
        if found.times != 1 and not scene.clock_moved(at):
            judge.finds(
                at, f"{found.tenant}/{found.stream}", f"fix {found.seq} of {found.subject} is read {found.times} times"
            )
    if read:
        for fix, at in promised.items():
            if not read[fix]:
                judge.finds(at, f"{fix[0]}/{fix[1]}", f"fix {fix[3]} of {fix[2]} was said to be kept, and is not read")


# -- shown --------------------------------------------------------------------------------------------------------------------


def _order(scene: Scene, judge: Judge) -> None:
    on: dict[tuple[str, str, str], float] = {}
    seen: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    """By client: when it was shown what, newer each time."""
    troubled = any(fault.what.startswith(BUS) for _, fault in scene.all(Fault))
    for at, placed in scene.all(Placed):
        conn = scene.conns.get(placed.conn)
        judge.judged += 1
        where = _where(conn, placed)
        key = (placed.conn, placed.stream, placed.subject)
        before = on.get(key)
        if before is not None and placed.at_t < before - SAME_S:
            judge.finds(at, where, f"{placed.subject} went back {before - placed.at_t:.3f} s on one connection")
        on[key] = max(placed.at_t, before or placed.at_t)
        if placed.sent_t is not None and not scene.clock_moved(at):
            age_s = placed.sent_t - placed.at_t
            if not -ROUND_S - FLUSH_S <= age_s - placed.age_s <= ROUND_S + FLUSH_S:
                judge.finds(
                    at, where, f"{placed.subject} is said to be {placed.age_s:.1f} s old, and is {age_s:.2f} s old"
                )
        if conn is None or conn.opening is None:
            continue
        client = (conn.opening.open.client, placed.stream, placed.subject)
        shown = seen.setdefault(client, [])
        # Over several nodes, and of one that was not kept, an older one may be the newest that is known there.
        old_t = max((t for when_t, t in shown if when_t < placed.t - NEAR_S), default=None)
        if (
            old_t is not None
            and placed.at_t < old_t - SAME_S
            and not troubled
            and not _unkept(scene, conn, placed, old_t)
        ):
            judge.finds(at, where, f"{placed.subject} went back {old_t - placed.at_t:.3f} s over connections")
        if not shown or placed.at_t > shown[-1][1]:
            shown.append((placed.t, placed.at_t))


def _unkept(scene: Scene, conn: Conn, placed: Placed, newer_t: float) -> bool:
    """Whether the newer one that had been seen was in no store a while before: it was its node's alone, and went with it."""
    return not any(
        one.tenant == conn.tenant and one.subject == placed.subject and abs(one.at_t - newer_t) <= SAME_S
        and one.t < placed.t - NEAR_S
        for _, one in scene.all(Sampled)
    )  # fmt: skip


def _quarantine(scene: Scene, judge: Judge) -> None:
    verdicts: dict[tuple[str, str, str, int], set[str]] = {}
    for _, one in scene.all(Sampled):
        verdicts.setdefault((one.tenant, one.stream, one.subject, round(1000 * one.at_t)), set()).add(one.verdict)
    shown: list[tuple[int, Placed | Trailed]] = [*scene.all(Placed), *scene.all(Trailed)]
    for at, one_shown in shown:
        conn = scene.conns.get(one_shown.conn)
        if conn is None:
            continue
        judge.judged += 1
        for at_t in [one_shown.at_t] if isinstance(one_shown, Placed) else one_shown.at_t:
            known = verdicts.get((conn.tenant, one_shown.stream, one_shown.subject, round(1000 * at_t)))
            if known == {"quarantined"}:
                judge.finds(at, _where(conn, one_shown), f"{one_shown.subject} is shown by a fix that was quarantined")


def _newest(scene: Scene, judge: Judge) -> None:
    for at, one in scene.all(Newest):
        judge.judged += 1
        if one.held_t is None or one.held_t < one.truth_t - SAME_S:
            how = "nothing is shown of it"
            if one.held_t is not None:
                how = f"it is shown as it was {one.truth_t - one.held_t:.3f} s before"
            who = "who has just joined" if one.fresh else "who follows"
            judge.finds(at, _where(scene.conns.get(one.conn), one), f"{one.subject} was believed, and to {who} {how}")


# -- trips --------------------------------------------------------------------------------------------------------------------


def _alert_once(scene: Scene, judge: Judge) -> None:
    last = len(scene.restores.all)
    given: dict[tuple[str, str, str, str, int], int] = {}
    for at, alert in scene.all(Alerted):
        place = (alert.tenant, alert.stream)
        if not scene.restores.holds(last, alert.seq, scene.restores.born(at, alert.seq, place), place):
            continue
        judge.judged += 1
        for threshold_s in (alert.threshold_s, *alert.merged):
            what = (*place, alert.stop, alert.recipient, threshold_s)
            if what in given:
                again = f"{alert.recipient} was told of {alert.stop} {threshold_s} s before by record {given[what] + 1}"
                judge.finds(at, f"{alert.tenant}/{alert.stream}", again)
            given[what] = at
    noticed: dict[tuple[str, str, str, str, int], int] = {}
    for at, notice in scene.all(Noticed):
        place = (notice.tenant, notice.inbox)
        if not scene.restores.holds(last, notice.seq, scene.restores.born(at, notice.seq, place), place):
            continue
        judge.judged += 1
        what = (notice.tenant, notice.trip, notice.stop, notice.inbox, notice.threshold_s)
        if what in noticed:
            again = f"{notice.stop} {notice.threshold_s} s before is there by record {noticed[what] + 1}"
            judge.finds(at, f"{notice.tenant}/{notice.inbox}", again)
        elif what not in given:
            nobody = f"{notice.stop} {notice.threshold_s} s before: nobody gave that alert"
            judge.finds(at, f"{notice.tenant}/{notice.inbox}", nobody)
        noticed[what] = at
    if scene.run.work_s and scene.whole:
        for alert_at, alert in scene.all(Alerted):
            what = (alert.tenant, alert.stream, alert.stop, alert.recipient, alert.threshold_s)
            if given.get(what) == alert_at and what not in noticed:
                none = f"{alert.stop} {alert.threshold_s} s before: no notice came"
                judge.finds(alert_at, f"{alert.tenant}/{alert.recipient}", none)


def _alert_comes(scene: Scene, judge: Judge) -> None:
    heal_t = max((heal.t for _, heal in scene.all(Heal)), default=0.0)
    told: dict[tuple[str, str, str, str, int], float] = {}
    for _, alert in scene.all(Alerted):
        for threshold_s in (alert.threshold_s, *alert.merged):
            told.setdefault((alert.tenant, alert.stream, alert.stop, alert.recipient, threshold_s), alert.t)
    for at, wish in scene.all(Wished):
        passed_t = wish.there_t - wish.threshold_s
        if passed_t < wish.since_t + wish.least_s or wish.there_t < heal_t + GRACE_S or scene.clock_moved(at):
            continue
        judge.judged += 1
        told_t = told.get((wish.tenant, wish.stream, wish.stop, wish.recipient, wish.threshold_s))
        if told_t is None or told_t > wish.there_t:
            late = "was not told" if told_t is None else f"was told {told_t - wish.there_t:.2f} s after it"
            judge.finds(at, f"{wish.tenant}/{wish.stream}",
                        f"{wish.recipient} {late} that it is {wish.threshold_s} s to {wish.stop}")  # fmt: skip


def _trips(scene: Scene, judge: Judge) -> None:
    for at, trip in scene.all(Trip):
        judge.judged += 1
        where = f"{trip.tenant}/{trip.stream} at {trip.node}"
        if trip.held != trip.truth:
            judge.finds(at, where, "its state is not what its stream folds to")
        # Who takes a device's clock for one that is hours off, because its own was, believes no fix to be new for a while.
        if trip.completed > 1 or (trip.there and not trip.completed and not scene.clock_moved(at)):
            judge.finds(at, where, f"it was said to be over {trip.completed} times")


KEPT = Guarantee("Kept", "a fix that was answered as taken is in the store by then, for good, and is read once", _kept)
POSITION_ORDER = Guarantee(
    "Position-order",
    "nobody sees a subject go back in time, at whatever node, and the age that is told is true",
    _order,
)
QUARANTINE = Guarantee("Quarantine", "what is quarantined is shown to nobody, as a place or in a trail", _quarantine)
NEWEST = Guarantee(
    "Last-place",
    "once trouble is over, who follows or has just joined is shown where a subject was last believed",
    _newest,
)
ALERT_ONCE = Guarantee(
    "Alert-once", "of a trip's stop, recipient and threshold there is one alert at most, and one notice of each in the inbox",
    _alert_once,
)  # fmt: skip
ALERT_COMES = Guarantee(
    "Alert-comes",
    "once trouble is over, who wants to be told so long before an arrival is told before it",
    _alert_comes,
)
TRIPS = Guarantee(
    "Trip-fold",
    "every node says of a trip what its stream folds to, and an arrival at its last stop ends it once",
    _trips,
)
