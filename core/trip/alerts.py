"""When somebody is told that a trip will soon be at a stop: which alerts are due now, and when to look again.

How it thinks. A threshold is passed once the stop is no further away than that, by an arrival time that is as likely too
early as too late. What counts is the middle one of the arrival times of the last `STEADY_MS`, so that one fix that leaps says
nothing. Waiting longer where the interval is wide was tried on 742 trips and made alerts worse (docs/eta.md). Whoever looks
when told to (`Look.look_ms`) needs no new position for an alert to come in time.

Of several thresholds that are passed at once the nearest alone is told, and the others count as told with it; so does a
farther one once a nearer one was told, whatever the arrival time does then. Two alerts of one stop to one recipient keep
their distance. What would come after the vehicle, or together with it, is not told.

For: whoever has a trip's state and its arrival times. Promises: the same answer for the same state and times, under the same
keys; an alert that the state has is never due. Does not: remember anything; the trip's stream does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.commands import derived_key
from core.flight.times import write
from core.tenants import Arrivals
from core.trip.quiet import is_quiet
from core.trip.state import Recipient, Trip

STEADY_MS: Final = 20_000
"""Arrival times shown within so long are looked at together: four fixes at one in 5 s, and one alone at one in 30 s."""
DELIVERY_MS: Final = 15_000
"""From being due to being read on a phone: what comes nearer to the arrival than that comes after it."""
INSIDE_MS: Final = 60_000
"""Whose threshold lay before the trip began, or before they asked, are told where there is still so long."""


class Estimate(NamedTuple):
    """An arrival time that is shown, with its interval; ``made_ms`` is when it was worked out. ``even_ms``: as likely before as
    after, where what is shown is aimed otherwise or held still; thresholds go by it."""

    made_ms: int
    eta_ms: int
    low_ms: int
    high_ms: int
    source: str
    even_ms: int | None = None

    @property
    def likely_ms(self) -> int:
        return self.eta_ms if self.even_ms is None else self.even_ms


class Due(NamedTuple):
    """One alert to give, under ``key``. ``merged`` are thresholds that it stands for too. Without ``push`` it is told in
    streams alone."""

    key: str
    recipient: str
    stop: str
    threshold_s: int
    merged: tuple[int, ...]
    estimate: Estimate
    push: bool

    def body(self, now_ms: int) -> dict[str, Any]:
        """Of the command `alert`."""
        shown = self.estimate
        body: dict[str, Any] = {"recipient": self.recipient, "stop": self.stop, "threshold_s": self.threshold_s}
        body |= {"eta": write(shown.eta_ms), "low": write(shown.low_ms), "high": write(shown.high_ms)}
        body |= {"source": shown.source, "push": self.push, "at": write(now_ms)}
        return body | ({"merged": list(self.merged)} if self.merged else {})


class Look(NamedTuple):
    """``look_ms``: when the next may be due if nothing else is heard; ``None``: not before another arrival time is shown."""

    due: list[Due]
    look_ms: int | None


class Waits(NamedTuple):
    """Those who wait to be told of a stop at the same thresholds (the farthest first), not before the same moment."""

    thresholds_s: tuple[int, ...]
    not_before_ms: int
    wishes: list[Recipient]


def waiting(trip: Trip, arrivals: Arrivals) -> dict[str, list[Waits]]:
    """By stop, whoever is still to be told. It changes when the trip does, and not with its arrival times: hundreds may wait
    for one bus, and few of them at thresholds of their own."""
    told: dict[tuple[str, str], tuple[int, int]] = {}
    for (stop, recipient, threshold_s), alert in trip.alerts.items():
        nearest_s, last_ms = told.get((stop, recipient), (threshold_s, alert.at_ms))
        told[stop, recipient] = min(nearest_s, threshold_s), max(last_ms, alert.at_ms)
    groups: dict[str, dict[tuple[tuple[int, ...], int], Waits]] = {}
    for wish in trip.recipients.values():
        thresholds_s, not_before_ms = _thresholds(wish, arrivals), 0
        before = told.get((wish.stop, wish.recipient))
        if before is not None:
            thresholds_s = tuple(one for one in thresholds_s if one < before[0])
            not_before_ms = before[1] + 1000 * arrivals.spacing_s
        if thresholds_s:
            alike, of_stop = (thresholds_s, not_before_ms), groups.setdefault(wish.stop, {})
            of_stop.setdefault(alike, Waits(*alike, [])).wishes.append(wish)
    return {stop: list(of_stop.values()) for stop, of_stop in groups.items()}


def look(
    tenant: str,
    stream: str,
    trip: Trip,
    stop: str,
    shown: Sequence[Estimate],
    now_ms: int,
    arrivals: Arrivals,
    waits: Mapping[str, Sequence[Waits]] | None = None,
) -> Look:
    """``shown`` are the arrival times of this stop that were shown of late, the present one last. ``waits`` are what `waiting`
    says of the trip, where it was asked before."""
    state = trip.stops.get(stop)
    if not shown or trip.over or state is None or not state.open:
        return Look([], None)
    groups = (waiting(trip, arrivals) if waits is None else waits).get(stop, ())
    newest = shown[-1]
    recent = sorted(one.likely_ms for one in shown if one.made_ms >= newest.made_ms - STEADY_MS)
    # Of an even number the later one: rather late than early.
    passed_ms = recent[len(recent) // 2]
    due: list[Due] = []
    looks: list[int] = []
    for thresholds_s, not_before_ms, wishes in groups:
        passed = [s for s in thresholds_s if passed_ms - 1000 * s <= now_ms]
        ahead = thresholds_s[len(passed) :]
        if passed and now_ms < not_before_ms:
            looks.append(not_before_ms)
        elif passed:
            *merged, nearest = passed
            left_ms = newest.likely_ms - now_ms
            told = [wish for wish in wishes if left_ms >= _least_ms(trip, wish, passed_ms - 1000 * nearest)]
            for wish in told:
                # A refusal is kept under its key, as when the wish was taken back at that moment: another wish has another key.
                key = derived_key("trip.alert", tenant, stream, stop, wish.recipient, nearest, wish.since_ms)
                pushed = _pushed(wish, now_ms, arrivals)
                due.append(Due(key, wish.recipient, stop, nearest, tuple(merged), newest, pushed))
            if len(told) == len(wishes):
                not_before_ms = now_ms + 1000 * arrivals.spacing_s
        if ahead:
            looks.append(max(not_before_ms, passed_ms - 1000 * ahead[0]))
    return Look(due, min(looks, default=None))


def _thresholds(wish: Recipient, arrivals: Arrivals) -> tuple[int, ...]:
    """The farthest first."""
    return tuple(sorted(set(arrivals.thresholds_s if wish.thresholds_s is None else wish.thresholds_s), reverse=True))


def _least_ms(trip: Trip, wish: Recipient, passed_ms: int) -> int:
    """How long before the arrival it must be to be told of a threshold that was passed then."""
    return INSIDE_MS if passed_ms < max(trip.started_ms or 0, wish.since_ms) else DELIVERY_MS


def _pushed(wish: Recipient, now_ms: int, arrivals: Arrivals) -> bool:
    quiet = arrivals.quiet if wish.quiet is None else wish.quiet
    return wish.push and not is_quiet(quiet, wish.zone or arrivals.zone, now_ms)
