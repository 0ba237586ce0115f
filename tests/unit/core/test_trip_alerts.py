"""core.trip.alerts: who is told, once, near the time they asked for, and when to look again."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flight.machine import BY_GATEWAY
from core.tenants import Arrivals
from core.trip.alerts import DELIVERY_MS, INSIDE_MS, STEADY_MS, Due, Estimate, Look, look, waiting
from core.trip.state import Trip
from tests.flight_desk import Desk
from tests.trip_desk import underway

ARRIVALS = Arrivals()


def wanted(**wish: Any) -> Desk[Trip]:
    """Somebody asked to be told of C, twenty minutes ago."""
    desk = underway()
    desk.done("notify", recipient="user:amy", stop="C", **wish)
    desk.later(1200)
    return desk


def shown(desk: Desk[Trip], left_s: float, wide_s: float = 0, ago_s: float = 0) -> Estimate:
    """So long before the arrival, as it was shown a moment ago."""
    eta_ms = desk.now_ms + round(1000 * left_s)
    half_ms = round(500 * wide_s)
    return Estimate(desk.now_ms - round(1000 * ago_s), eta_ms, eta_ms - half_ms, eta_ms + half_ms, "route")


def looked(desk: Desk[Trip], *estimates: Estimate, arrivals: Arrivals = ARRIVALS, stop: str = "C") -> Look:
    return look("demo", "trip:9", desk.state, stop, estimates, desk.now_ms, arrivals)


def give(desk: Desk[Trip], found: Look) -> list[int]:
    """The thresholds told, as the trip's own stream takes them."""
    for one in found.due:
        desk.done("alert", by=BY_GATEWAY, **one.body(desk.now_ms))
    return [one.threshold_s for one in found.due]


def test_before_a_threshold_it_is_said_when_to_look() -> None:
    """Without a new position nothing is missed."""
    desk = wanted()
    found = looked(desk, shown(desk, 700))
    assert found == Look([], desk.now_ms + 100_000)
    desk.later(100)
    assert give(desk, looked(desk, shown(desk, 600))) == [600]
    assert looked(desk, shown(desk, 600)) == Look([], desk.now_ms + 300_000)


def test_an_alert_says_what_is_shown_under_a_key_of_its_own() -> None:
    """The same wherever and whenever it is worked out; another for each stop, recipient, threshold, trip and tenant."""
    desk = wanted(push=False)
    estimate = shown(desk, 599)
    [due] = looked(desk, estimate).due
    assert (due.recipient, due.stop, due.threshold_s, due.merged, due.push) == ("user:amy", "C", 600, (), False)
    assert due.estimate == estimate
    assert due.key == looked(wanted(), shown(wanted(), 580)).due[0].key
    assert due.key != look("other", "trip:9", desk.state, "C", [estimate], desk.now_ms, ARRIVALS).due[0].key
    assert due.key != look("demo", "trip:8", desk.state, "C", [estimate], desk.now_ms, ARRIVALS).due[0].key
    assert "merged" not in due.body(0)


def test_a_refusal_of_before_does_not_stand_in_the_way_of_a_new_wish() -> None:
    """Amy took her wish back just as she was told: refused, for good under that key. She asks again, and is told."""
    desk = wanted()
    [due] = looked(desk, shown(desk, 599)).due
    desk.done("unnotify", recipient="user:amy")
    assert desk.refused("alert", by=BY_GATEWAY, **due.body(desk.now_ms)) == "not_wanted"
    desk.later(1)
    desk.done("notify", recipient="user:amy", stop="C")
    [again] = looked(desk, shown(desk, 590)).due
    assert again.key != due.key


def test_who_waits_alike_is_looked_at_together() -> None:
    """Five hundred at one stop are one group until some were told; each is told by name."""
    desk = underway()
    for nth in range(20):
        desk.done("notify", recipient=f"user:u{nth}", stop="C")
    desk.done("notify", recipient="user:late", stop="C", thresholds_s=[60])
    desk.later(1200)
    assert [len(waits.wishes) for waits in waiting(desk.state, ARRIVALS)["C"]] == [20, 1]
    found = looked(desk, shown(desk, 599))
    assert [one.recipient for one in found.due] == [f"user:u{nth}" for nth in range(20)]
    assert give(desk, found) == [600] * 20
    assert [waits.thresholds_s for waits in waiting(desk.state, ARRIVALS)["C"]] == [(300,), (60,)]
    assert looked(desk, shown(desk, 599)) == Look([], desk.now_ms + 299_000)


def test_who_is_not_told_any_more_does_not_wait_for_the_spacing() -> None:
    """Both asked inside their threshold, one of them long before: for one it is too near by now."""
    desk = underway()
    desk.done("notify", recipient="user:amy", stop="C", thresholds_s=[90, 30])
    desk.later(1200)
    desk.done("notify", recipient="user:bob", stop="C", thresholds_s=[90, 30])
    desk.later(1)
    found = looked(desk, shown(desk, 45))
    assert [one.recipient for one in found.due] == ["user:amy"]
    assert found.look_ms == desk.now_ms + 15_000


@pytest.mark.parametrize(
    ("make", "stop", "shows"),
    [
        (underway, "C", True),
        (wanted, "B", True),
        (wanted, "Z", True),
        (wanted, "C", False),
    ],
)
def test_nobody_is_told_of_nothing(make: Any, stop: str, shows: bool) -> None:
    """No wish, another stop's, no such stop, no arrival time."""
    desk = make()
    assert looked(desk, *([shown(desk, 100)] if shows else []), stop=stop) == Look([], None)


@pytest.mark.parametrize("verb", ["arrive", "skip", "cancel"])
def test_nobody_is_told_of_what_is_over(verb: str) -> None:
    """The stop was reached or will not be, or the trip is off."""
    desk = wanted()
    desk.done(verb, **({"reason": "fog"} if verb == "cancel" else {"stop": "C"}))
    assert looked(desk, shown(desk, 100)) == Look([], None)


def test_both_thresholds_at_once_are_one_alert() -> None:
    """The nearest is told; the other counts as told with it, and never comes."""
    desk = wanted()
    found = looked(desk, shown(desk, 290))
    assert [(due.threshold_s, due.merged) for due in found.due] == [(300, (600,))]
    assert found.look_ms is None
    give(desk, found)
    desk.later(120)
    for left_s in (700, 590, 290):
        assert looked(desk, shown(desk, left_s)).due == []


def test_a_farther_threshold_never_follows_a_nearer_one() -> None:
    """Though it was not in the wish when that was told."""
    desk = wanted(thresholds_s=[300])
    give(desk, looked(desk, shown(desk, 290)))
    desk.done("notify", recipient="user:amy", stop="C", thresholds_s=[900, 600, 300, 60])
    desk.later(120)
    assert looked(desk, shown(desk, 800)) == Look([], desk.now_ms + 740_000)


def test_two_alerts_keep_their_distance() -> None:
    """The second waits, and comes then if it is not too late."""
    desk = wanted()
    assert give(desk, looked(desk, shown(desk, 599))) == [600]
    desk.later(10)
    found = looked(desk, shown(desk, 200))
    assert found == Look([], desk.now_ms + 50_000)
    desk.later(50)
    assert give(desk, looked(desk, shown(desk, 150))) == [300]
    fresh = wanted(thresholds_s=[600, 580])
    assert looked(fresh, shown(fresh, 599)).look_ms == fresh.now_ms + 60_000


def test_one_fix_that_leaps_tells_nothing() -> None:
    """The middle one of what was shown of late counts; of two the later one."""
    desk = wanted()
    calm, leap = [shown(desk, 660, ago_s=15), shown(desk, 655, ago_s=10), shown(desk, 650, ago_s=5)], shown(desk, 540)
    assert looked(desk, *calm, leap).due == []
    assert looked(desk, calm[2], leap).due == []
    stale = [replace_made(one, desk.now_ms - STEADY_MS - 1) for one in calm]
    assert len(looked(desk, *stale, leap).due) == 1


def replace_made(estimate: Estimate, made_ms: int) -> Estimate:
    return estimate._replace(made_ms=made_ms)


def test_thresholds_go_by_even_odds_and_alerts_say_what_is_shown() -> None:
    """Where the shown time is aimed early, or held."""
    desk = wanted()
    estimate = shown(desk, 590)._replace(even_ms=desk.now_ms + 640_000)
    assert looked(desk, estimate) == Look([], desk.now_ms + 40_000)
    even = shown(desk, 650)._replace(even_ms=desk.now_ms + 590_000)
    [due] = looked(desk, even).due
    assert due.body(desk.now_ms)["eta"] == "2026-11-21T06:30:50.000Z"


def test_what_was_told_of_another_stop_is_another_alert() -> None:
    """And keeps no distance from this one."""
    desk = wanted()
    desk.done("notify", recipient="user:amy", stop="B")
    assert give(desk, looked(desk, shown(desk, 599), stop="B")) == [600]
    assert give(desk, looked(desk, shown(desk, 599))) == [600]


def test_how_wide_the_interval_is_changes_nothing() -> None:
    """The moment is as likely too early as too late, be it known well or badly."""
    desk = wanted()
    for wide_s in (-200, 0, 200, 5000):
        assert looked(desk, shown(desk, 601, wide_s=wide_s)).look_ms == desk.now_ms + 1_000
        assert len(looked(desk, shown(desk, 600, wide_s=wide_s)).due) == 1


def test_what_would_come_after_the_vehicle_is_not_told() -> None:
    """Nor what would come together with it; where the arrival moves away again it is."""
    desk = wanted(thresholds_s=[300])
    late = DELIVERY_MS / 1000
    assert looked(desk, shown(desk, late - 0.1)) == Look([], None)
    assert looked(desk, shown(desk, -30)) == Look([], None)
    assert len(looked(desk, shown(desk, late)).due) == 1


def test_a_trip_that_begins_inside_tells_at_once_or_not_at_all() -> None:
    """Where there is a minute left; the same for who asks when it is near already."""
    desk = underway()
    desk.done("notify", recipient="user:amy", stop="C")
    short = INSIDE_MS / 1000
    assert looked(desk, shown(desk, short - 1)).due == []
    assert [due.threshold_s for due in looked(desk, shown(desk, short)).due] == [300]
    old = wanted()
    old.done("notify", recipient="user:bob", stop="C")
    both = looked(old, shown(old, short - 1)).due
    assert [due.recipient for due in both] == ["user:amy"]


def test_in_quiet_hours_it_is_told_without_a_push() -> None:
    """By the wish, or else by the tenant; who wants none by day gets none."""
    night = Arrivals(quiet="05:00-07:00")
    desk = wanted()
    assert looked(desk, shown(desk, 599)).due[0].push
    assert not looked(desk, shown(desk, 599), arrivals=night).due[0].push
    assert looked(desk, shown(desk, 599), arrivals=replace(night, zone="Australia/Sydney")).due[0].push
    awake = wanted(quiet="")
    assert looked(awake, shown(awake, 599), arrivals=night).due[0].push
    there = wanted(quiet="17:00-18:00", zone="Australia/Sydney")
    assert not looked(there, shown(there, 599)).due[0].push


def test_of_several_recipients_each_is_told_by_its_own_wish() -> None:
    """And the first moment that somebody waits for is looked at."""
    desk = wanted(thresholds_s=[120])
    desk.done("notify", recipient="user:bob", stop="C", thresholds_s=[400])
    desk.later(300)
    found = looked(desk, shown(desk, 400))
    assert [(due.recipient, due.threshold_s) for due in found.due] == [("user:bob", 400)]
    assert found.look_ms == desk.now_ms + 280_000


class _Drive:
    """A trip that takes ``long_s``, whose arrival time is shown with an error that fades and some jitter."""

    def __init__(self, seed: int, long_s: float, every_s: float, error_s: float, jitter_s: float, drops: float) -> None:
        rng = random.Random(seed)
        desk = underway()
        desk.done("notify", recipient="user:amy", stop="C")
        began_ms, end_ms = desk.now_ms, desk.now_ms + round(1000 * long_s)
        self.leads: dict[int, float] = {}
        bias = rng.gauss(0, error_s)
        estimates: list[Estimate] = []
        look_ms: int | None = None
        while desk.now_ms < end_ms:
            fix = not estimates or (desk.now_ms - began_ms) % round(1000 * every_s) == 0
            if fix and rng.random() >= drops:
                left = (end_ms - desk.now_ms) / (end_ms - began_ms)
                eta_ms = end_ms + round(1000 * (bias * left + rng.gauss(0, jitter_s) * left))
                wide_ms = round(2560 * error_s * left) + 10_000
                estimates.append(Estimate(desk.now_ms, eta_ms, eta_ms - wide_ms // 2, eta_ms + wide_ms // 2, "x"))
                look_ms = desk.now_ms
            if look_ms is not None and desk.now_ms >= look_ms:
                found = looked(desk, *estimates[-8:])
                look_ms = found.look_ms
                for due in found.due:
                    self._tell(desk, due, end_ms)
            desk.later(1)

    def _tell(self, desk: Desk[Trip], due: Due, end_ms: int) -> None:
        assert all(one not in self.leads for one in (due.threshold_s, *due.merged)), "told twice"
        desk.done("alert", by=BY_GATEWAY, **due.body(desk.now_ms))
        self.leads[due.threshold_s] = (end_ms - desk.now_ms) / 1000
        self.leads |= dict.fromkeys(due.merged, -1.0)


@pytest.mark.parametrize(("every_s", "jitter_s", "drops"), [(5, 20, 0.0), (30, 20, 0.0), (30, 30, 0.3), (5, 45, 0.3)])
def test_on_drives_with_jitter_alerts_come_near_their_time(every_s: float, jitter_s: float, drops: float) -> None:
    """Each once, none missed, half of them within 45 s, of arrival times that jitter and begin wrong by 60 s."""
    errors: list[float] = []
    for seed in range(30):
        long_s = random.Random(seed).uniform(360, 2400)
        leads = _Drive(seed, long_s, every_s, 60.0, jitter_s, drops).leads
        for threshold_s in (600, 300):
            if long_s > threshold_s + 60:
                assert threshold_s in leads, (seed, long_s, threshold_s)
                if leads[threshold_s] >= 0:
                    errors.append(abs(leads[threshold_s] - threshold_s))
    assert len(errors) > 40
    assert median(errors) <= 45


@given(
    left_s=st.integers(-100, 1500),
    wide_s=st.integers(0, 600),
    thresholds=st.lists(st.integers(30, 1200), min_size=1, max_size=8, unique=True),
)
def test_looking_when_told_to_is_never_in_vain_nor_in_the_past(left_s: int, wide_s: int, thresholds: list[int]) -> None:
    """What is due is within its threshold, was not told before, and the next look finds something or something was too near."""
    desk = wanted(thresholds_s=thresholds)
    estimate = shown(desk, left_s, wide_s)
    found = looked(desk, estimate)
    assert len(found.due) <= 1
    for due in found.due:
        assert due.threshold_s >= left_s >= DELIVERY_MS / 1000
        assert set(due.merged) == {one for one in thresholds if one > due.threshold_s}
    if found.look_ms is not None:
        assert found.look_ms > desk.now_ms
        give(desk, found)
        desk.now_ms = found.look_ms
        again = looked(desk, estimate)
        assert again.due or estimate.eta_ms - desk.now_ms < INSIDE_MS
