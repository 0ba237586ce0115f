"""Guarantees about what is conflated: presence, typing, markers, and what a snapshot holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proof.guarantees.parts import Conn, Given
from proof.guarantees.scene import Scene
from proof.guarantees.verdict import Guarantee, Judge
from proof.history import Fault, There, Told, View

AGE_S: Final = 0.11
"""How much the origins of two signals, reckoned from their ages, may seem to be out of order: each age is rounded to a
tenth (`core.wire.encode_signal`). It is also as of the last flush, at most `Run.flush_s` ago."""


def _present(people: Mapping[str, str] | None, without: frozenset[str]) -> dict[str, str]:
    return {who: value for who, value in (people or {}).items() if value != "offline" and who not in without}


def _difference(held: Mapping[str, Any], truth: Mapping[str, Any]) -> str:
    """In words, the first of what differs."""
    for who in sorted({*held, *truth}):
        if held.get(who) != truth.get(who):
            return f"{who} is {truth.get(who, 'not there')}, but is held as {held.get(who, 'not there')}"
    return ""


def _presence(scene: Scene, judge: Judge) -> None:
    truth = {(there.tenant, there.stream): there.present for _, there in scene.all(There)}
    for at, view in scene.all(View):
        conn = scene.conns.get(view.conn)
        there = None if conn is None else truth.get((conn.tenant, view.stream))
        if conn is None or there is None or view.present is None:
            continue
        judge.judged += 1
        own = frozenset((conn.who,))  # whose signals are not sent to its own connections
        difference = _difference(_present(view.present, own), _present(there, own))
        if difference:
            judge.finds(at, conn.place(view.stream), difference)


def _latest(scene: Scene, judge: Judge) -> None:
    marks: dict[tuple[str, str, str | None, int], list[int]] = {}
    origins: dict[tuple[str, str, str | None], float] = {}
    faults = scene.all(Fault)
    forgetful = _forgetful(scene)
    calm_until_t = faults[0][1].t if faults else float("inf")
    for given in scene.given:
        told, conn = given.told, given.conn
        if conn is None:
            continue
        judge.judged += 1
        key = (told.conn, told.stream, told.by)
        if told.kind == "mark" and isinstance(told.value, list) and len(told.value) == 2:
            # A crash may take half a second of markers along: who begins to follow anew may be told of what Postgres has.
            since = given.since if forgetful else 0
            before, marks[*key, since] = marks.get((*key, since)), told.value
            _mark(judge, given, conn, before)
        elif told.kind == "typing":
            # Where nobody saw it on the wire, a stall before its arrival would count as youth.
            put_t = told.sent_t if told.sent_t is not None else told.t if told.t < calm_until_t else None
            if put_t is not None:
                origin = put_t - told.age_s
                before_t = origins.get(key, origin)
                if origin < before_t - AGE_S - scene.run.flush_s:
                    detail = f"typing of {told.by} as it was {before_t - origin:.2f} s before what was told already"
                    judge.finds(given.at, conn.place(told.stream), detail)
                origins[key] = max(origin, before_t)
        if told.head is not None and given.cursor is not None and given.cursor < told.head:
            detail = f"a {told.kind} came before seq {given.cursor + 1}, though its node had all up to {told.head}"
            judge.finds(given.at, conn.place(told.stream), detail)


def _mark(judge: Judge, given: Given, conn: Conn, before: list[int] | None) -> None:
    told: Told = given.told
    delivered, read = told.value
    place = conn.place(told.stream)
    if before is not None and (delivered < before[0] or read < before[1]):
        judge.finds(given.at, place, f"the markers of {told.by} fell from {before} to {told.value}")
    elif read > delivered:
        judge.finds(given.at, place, f"{told.by} has read {read}, but only {delivered} delivered")
    elif given.cursor is not None and delivered > given.cursor:
        judge.finds(
            given.at, place, f"{told.by} has {delivered} delivered, which is not here: all up to {given.cursor} is"
        )


def _forgetful(scene: Scene) -> bool:
    """Whether markers that somebody was told of may be no more: a crash takes along what was not stored yet, a restore more."""
    return bool(scene.restores.all) or any(fault.what in ("crash", "kill") for _, fault in scene.all(Fault))


def _snapshot(scene: Scene, judge: Judge) -> None:
    fresh: dict[tuple[str, str, str], tuple[View, Conn]] = {}
    """By tenant, stream and scope."""
    views: list[tuple[int, View, Conn]] = []
    for at, view in scene.all(View):
        conn = scene.conns.get(view.conn)
        if conn is None:
            continue
        if view.fresh and (conn.tenant, view.stream, view.scope) not in fresh:
            fresh[conn.tenant, view.stream, view.scope] = (view, conn)
        else:
            views.append((at, view, conn))
    forgetful = _forgetful(scene)
    for at, view, conn in views:
        reference = fresh.get((conn.tenant, view.stream, view.scope))
        if reference is None:
            continue
        judge.judged += 1
        newest, newcomer = reference
        difference = _unlike(view, newest, frozenset((conn.who, newcomer.who)), forgetful=forgetful)
        if difference:
            judge.finds(at, conn.place(view.stream), f"{difference}, by the snapshot of {newcomer.place()}")
    _stored(scene, judge)


def _stored(scene: Scene, judge: Judge) -> None:
    """A snapshot may have more of markers than the store, which is behind, and never less."""
    stored = {(there.tenant, there.stream): there.marks for _, there in scene.all(There) if there.marks}
    for at, view in scene.all(View):
        conn = scene.conns.get(view.conn)
        truth = None if conn is None else stored.get((conn.tenant, view.stream))
        if conn is None or truth is None or not view.fresh or view.marks is None:
            continue
        judge.judged += 1
        for who, mark in sorted(truth.items()):
            shown = view.marks.get(who, [0, 0])
            if who != conn.who and any(have < had for have, had in zip(shown, mark, strict=True)):
                detail = f"the markers of {who} are stored as {mark}, but in the snapshot they are {shown}"
                judge.finds(at, conn.place(view.stream), detail)
                break


def _unlike(view: View, fresh: View, own: frozenset[str], *, forgetful: bool) -> str:
    if view.head != fresh.head:
        return f"the head is {fresh.head}, but is held as {view.head}"
    if view.marks is not None and fresh.marks is not None:
        held = {who: mark for who, mark in view.marks.items() if any(mark) and who not in own}
        truth = {who: mark for who, mark in fresh.marks.items() if any(mark) and who not in own}
        if forgetful:
            for who, mark in held.items():
                known = truth.get(who, [0, 0])
                if all(have >= had for have, had in zip(mark, known, strict=False)):
                    truth[who] = mark
        difference = _difference(held, truth)
        if difference:
            return difference
    if view.present is not None and fresh.present is not None:
        return _difference(_present(view.present, own), _present(fresh.present, own))
    return ""


PRESENCE = Guarantee(
    "Presence-converges", "in the end everybody's list of who is here is right, whatever happened before", _presence
)
LATEST = Guarantee(
    "Latest-value",
    "of a marker or signal only the newest is told: it never goes back, and never comes before the event that it speaks of",
    _latest,
)
SNAPSHOT = Guarantee(
    "Snapshot-law",
    "a snapshot with all that followed it is the same as a snapshot taken afresh, and has what is stored of markers",
    _snapshot,
)
