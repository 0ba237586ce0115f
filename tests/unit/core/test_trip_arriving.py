"""A trip on its way: what is shown, given and asked for as its positions come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from core.flight.times import read, write
from core.geo.assist import Record
from core.geo.fences import Fences
from core.geo.polyline import encode
from core.geo.route_calls import CallPolicy
from core.geo.routing import Passing, Snapshot, pieces_m
from core.tenants import Arrivals
from core.tracks import Sample
from core.trip.arriving import AGAIN_MS, SOON_MS, SUBJECTS_MAX, Arriving, Deed, Give
from core.trip.showing import Show
from core.trip.state import Trip
from tests.trips_way import AMY, STREAM, SUBJECT, T0, TENANT, circle, fix, place, plan, stop, trip, underway

NOWHERE = Fences([])
TO_END = plan([stop("home", 10_000)])
NOTIFY = ("trip.recipient", 0, {"recipient": AMY, "stop": "home"})


def on_the_way(planned: dict[str, Any] = TO_END, *more: Any, **kwargs: Any) -> Arriving:
    arriving = Arriving(TENANT, STREAM, Arrivals(), **kwargs)
    arriving.became(underway(planned, 0, *more), T0)
    return arriving


def go(arriving: Arriving, fixes: Iterable[Sample], fences: Fences = NOWHERE) -> list[Deed]:
    return [deed for sample in fixes for deed in arriving.take(sample, sample.at_ms, fences)]


def drive(from_s: int, to_s: int, speed: float = 10.0, step_s: int = 10) -> list[Sample]:
    return [fix(at_s, at_s * speed, speed=speed) for at_s in range(from_s, to_s, step_s)]


def shows(deeds: Sequence[Deed]) -> list[Show]:
    return [deed for deed in deeds if isinstance(deed, Show)]


def gives(deeds: Sequence[Deed], type: str = "") -> list[Give]:
    return [deed for deed in deeds if isinstance(deed, Give) and type in ("", deed.type)]


def seconds(deed: Show, name: str = "at") -> float:
    return datetime.fromisoformat(deed.value[name]).timestamp() - T0 / 1000


def test_an_arrival_time_is_shown_from_the_first_position_on() -> None:
    """With its stop, its interval, who says it; the interval holds it."""
    arriving = on_the_way()
    [first] = shows(go(arriving, drive(0, 1)))
    assert first.value["stop"] == "home"
    assert set(first.value) == {"stop", "at", "low", "high", "source"}
    assert first.value["source"] == "default"
    assert first.value["low"] <= first.value["at"] <= first.value["high"]
    assert first.at_ms == T0


def test_it_is_right_in_the_end() -> None:
    """10 km at 10 m/s are over after 1,000 s: two minutes before it is known to half a minute."""
    last = shows(go(on_the_way(), drive(0, 881)))[-1]
    assert abs(seconds(last) - 1000) < 30


def test_what_says_nothing_new_is_not_shown() -> None:
    """Fewer are shown than positions come, and the same one never twice; after half a minute it is said again."""
    said = shows(go(on_the_way(), drive(0, 600, step_s=2)))
    assert 5 < len(said) < 300
    assert all(before.value != after.value for before, after in pairwise(said))


def test_old_positions_and_those_of_others_move_nothing() -> None:
    """A late one, the same one, another subject's, one after the end."""
    arriving = on_the_way()
    go(arriving, drive(0, 100))
    assert go(arriving, [fix(90, 900), fix(50, 5_000), fix(200, 9_000, subject="user:bob")]) == []
    arriving.became(trip(("trip.planned", 0, TO_END), ("trip.cancelled", 1, {"reason": "snow"})), T0)
    assert go(arriving, drive(100, 200)) == []
    assert arriving.look(T0) == []
    assert arriving.look_ms is None


def test_without_a_plan_nothing_comes_of_positions() -> None:
    """Neither arrival times nor crossings."""
    arriving = Arriving(TENANT, STREAM, Arrivals())
    assert go(arriving, drive(0, 100), Fences([circle("yard", 500)])) == []
    assert arriving.calls == 0
    assert arriving.wants_s(T0) is None
    arriving.advise(T0 + 1, T0)
    assert arriving.route_wanted(T0, 0) is None


def test_what_it_stood_before_it_set_out_does_not_count() -> None:
    """Ten minutes at the start, then off: shown is, to seconds, what shows who never stood."""
    waited = Arriving(TENANT, STREAM, Arrivals())
    waited.became(trip(("trip.planned", -700, TO_END)), T0)
    assert go(waited, [fix(at_s, 0) for at_s in range(-600, 0, 10)]) == []
    waited.became(underway(TO_END), T0)
    fresh = on_the_way()
    shown = [seconds(shows(go(one, drive(0, 300)))[-1]) for one in (waited, fresh)]
    assert abs(shown[0] - shown[1]) < 15


def test_alerts_come_once_each_in_time() -> None:
    """Ten minutes and five before, by what was said of the thresholds, within the error that is allowed."""
    arriving = on_the_way(TO_END, NOTIFY)
    facts: list[Any] = [NOTIFY]
    given: list[Give] = []
    for sample in drive(0, 990, step_s=5):
        for give in gives(arriving.take(sample, sample.at_ms, NOWHERE), "alert"):
            given.append(give)
            facts.append(("trip.alert", int((sample.at_ms - T0) / 1000), give.body))
            arriving.became(underway(TO_END, 0, *facts), sample.at_ms)
    assert [give.body["threshold_s"] for give in given] == [600, 300]
    assert len({give.key for give in given}) == 2
    for give, at_s in zip(given, (400, 700), strict=True):
        assert abs((facts[1 + given.index(give)][1]) - at_s) < 90


def test_an_alert_that_nobody_answered_is_given_again_later() -> None:
    """Under its key; not before a minute is over."""
    arriving = on_the_way(TO_END, NOTIFY)
    deeds = go(arriving, drive(0, 600))
    keys = [give.key for give in gives(deeds, "alert")]
    assert 1 < len(keys) <= 1 + 600_000 // AGAIN_MS
    assert len(set(keys)) == 1


def test_time_alone_makes_an_alert_due() -> None:
    """The device falls silent: told when to look, whoever looks then gives it."""
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, drive(0, 300))
    look_ms = arriving.look_ms
    assert look_ms is not None
    assert look_ms > T0 + 290_000
    assert gives(arriving.look(look_ms - 20_000), "alert") == []
    [alert] = gives(arriving.look(look_ms), "alert")
    assert alert.body["threshold_s"] == 600
    assert arriving.look_ms is not None


def test_silence_is_shown() -> None:
    """Nobody asked to be told, so nobody looked: an arrival stood in the past, between the same times, for as long as the
    device was silent. For an hour it moves; past that it stays, and nothing is done for a trip that nobody ended."""
    arriving = on_the_way()
    [*_, before] = shows(go(arriving, drive(0, 970)))
    assert arriving.look_ms is None
    assert arriving.reshow_ms is not None
    values, now_ms, ends_ms = [before.value], arriving.reshow_ms, T0 + 960_000 + 3_600_000
    while arriving.reshow_ms is not None:
        now_ms = arriving.reshow_ms
        for deed in arriving.reshow(now_ms):
            assert isinstance(deed, Show)
            assert deed.at_ms == T0 + 960_000, "as old as the position"
            assert deed.value["low"] <= deed.value["at"] <= deed.value["high"]
            assert deed.value["at"] >= write(1000 * (now_ms // 1000))
            values.append(deed.value)
    assert ends_ms <= now_ms < ends_ms + 31_000
    assert 100 < len(values) < 130
    wide = [read(value["high"]).ms - read(value["low"]).ms for value in values]
    assert wide[-1] > wide[0] + 1_000_000
    go(arriving, [fix(4_600, 9_650, speed=10.0)])
    assert arriving.reshow_ms is not None


def test_what_is_over_is_shown_no_more() -> None:
    """Nor anew, whatever time it is."""
    arriving = on_the_way()
    go(arriving, drive(0, 100))
    assert arriving.reshow_ms is not None
    arriving.became(underway(TO_END, 0, ("trip.cancelled", 100, {"reason": "fog"})), T0 + 100_000)
    assert arriving.reshow_ms is None
    assert arriving.reshow(T0 + 5_000_000) == []


def test_the_next_position_is_wanted_soon_where_a_threshold_is_near() -> None:
    """Far away: not before that; near: every few seconds."""
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, drive(0, 60))
    assert arriving.look_ms is not None
    assert arriving.wants_s(arriving.look_ms - 300_000) == pytest.approx(180)
    assert arriving.wants_s(arriving.look_ms - 60_000) == 5.0


def test_it_arrives_where_it_is_slow_near_the_stop() -> None:
    """And with the last stop the trip is over."""
    deeds = go(on_the_way(), [*drive(0, 990), fix(998, 9_980, speed=1.0)])
    assert [give.type for give in gives(deeds)] == ["arrive", "complete"]
    assert gives(deeds)[0].body == {"stop": "home", "at": write(T0 + 998_000)}


def test_it_arrives_where_it_stays_without_a_speed() -> None:
    """The second position near it counts, and it was there with the first."""
    deeds = go(on_the_way(), [fix(0, 0), fix(900, 9_000), fix(995, 9_970), fix(1_005, 9_990)])
    assert gives(deeds, "arrive")[0].body == {"stop": "home", "at": write(T0 + 995_000)}


def test_a_stop_that_it_passes_is_reached() -> None:
    """On its way beyond it; and beside the way, near once and gone."""
    two = plan([stop("gate", 3_000), stop("home", 10_000)])
    deeds = go(on_the_way(two), drive(0, 340, step_s=30))
    assert [give.body["stop"] for give in gives(deeds, "arrive")] == ["gate"]
    assert gives(deeds, "complete") == []
    off = plan([stop("gate", 3_000), stop("home", 10_000)], None)
    deeds = go(on_the_way(off), [fix(0, 0), fix(300, 3_000, speed=10.0), fix(330, 3_300, speed=10.0)])
    assert [give.body for give in gives(deeds, "arrive")] == [{"stop": "gate", "at": write(T0 + 300_000)}]


def test_the_same_arrival_is_given_again_after_a_while_only() -> None:
    """It is on its way for a minute; then again, under its key."""
    stays = [fix(0, 0), *(fix(at_s, 9_990, speed=0.0) for at_s in range(1_000, 1_075, 5))]
    first, again = gives(go(on_the_way(), stays), "arrive")
    assert first == again


def test_stops_after_the_next_are_shown_with_it() -> None:
    """Each with its own time and interval, in their order."""
    three = plan([stop("a", 2_000), stop("b", 6_000), stop("c", 10_000)])
    value = shows(go(on_the_way(three), drive(0, 60)))[-1].value
    assert value["stop"] == "a"
    assert [later["stop"] for later in value["then"]] == ["b", "c"]
    assert value["at"] < value["then"][0]["at"] < value["then"][1]["at"]


def test_far_stops_are_worked_out_for_who_wants_to_be_told() -> None:
    """Of fifteen stops the first ten after the next are shown, and alerts of the fourteenth come all the same."""
    many = plan([stop(f"s{nth}", 600.0 * (nth + 1)) for nth in range(15)])
    wish = ("trip.recipient", 0, {"recipient": AMY, "stop": "s13", "thresholds_s": [3_000]})
    deeds = go(on_the_way(many, wish), drive(0, 30))
    assert [len(show.value["then"]) for show in shows(deeds)] == [10] * len(shows(deeds))
    assert [give.body["stop"] for give in gives(deeds, "alert")] == ["s13"]


def test_fences_are_told_of_whoever_sends() -> None:
    """Entered and left, each under a key of its own; by a second subject, too."""
    yard = Fences([circle("yard", 1_000)])
    deeds = gives(go(on_the_way(), drive(0, 200, step_s=2), yard), "fence")
    assert [give.body["what"] for give in deeds] == ["enter", "exit"]
    assert deeds[0].key != deeds[1].key
    assert deeds[0].body["subject"] == SUBJECT
    other = gives(go(on_the_way(), [fix(1, 1_000, subject="user:bob"), fix(3, 1_000, subject="user:bob")], yard))
    assert [(give.type, give.body["subject"]) for give in other] == [("fence", "user:bob")]


def test_each_subject_is_in_a_fence_or_out_of_it_for_itself() -> None:
    """A guard stands in the yard while the truck drives past far from it: he came in once. With one place for both he came
    in and the truck left with every position."""
    guard = [fix(at_s, 1_000, subject="user:bob") for at_s in range(0, 60, 5)]
    truck = [fix(at_s + 1, 5_000 + 10 * at_s, speed=10.0) for at_s in range(0, 60, 5)]
    both = sorted(guard + truck, key=lambda sample: sample.at_ms)
    told = gives(go(on_the_way(), both, Fences([circle("yard", 1_000)])), "fence")
    assert [(give.body["what"], give.body["subject"]) for give in told] == [("enter", "user:bob")]


def test_places_of_a_hundred_subjects_are_known() -> None:
    """One more, and the first is found to be inside anew; the trip's machine knows that it was."""
    yard = Fences([circle("yard", 1_000)])
    arriving = on_the_way()
    crowd = [f"user:u{nth}" for nth in range(SUBJECTS_MAX)]
    assert len(gives(go(arriving, [fix(1, 1_000, subject=who) for who in crowd], yard))) == SUBJECTS_MAX
    assert gives(go(arriving, [fix(2, 1_000, subject=who) for who in crowd], yard)) == []
    assert len(gives(go(arriving, [fix(2, 1_000, subject="user:new")], yard))) == 1
    assert [give.body["subject"] for give in gives(go(arriving, [fix(3, 1_000, subject=crowd[0])], yard))] == [crowd[0]]


def test_crossings_that_were_said_are_not_said_again_by_who_takes_it_up() -> None:
    """Its stream has them: a trip of hundreds of crossings is taken up without a command for each."""
    yard = Fences([circle("yard", 1_000)])
    drove = drive(0, 200, step_s=2)
    first = gives(go(on_the_way(), drove, yard))
    said = [("trip.fence", 0, give.body) for give in first]
    two = on_the_way(TO_END, said[0])
    again = [deed for sample in drove for deed in two.take(sample, T0 + 200_000, yard, past=True)]
    assert again == first[1:], "the second was not said yet"


def test_a_round_does_not_end_as_it_begins() -> None:
    """From the depot to a stop and back: whoever waits at the stop is told. It was completed with its first position."""
    rounds = plan([stop("school", 5_000), stop("depot", 0)], None)
    wish = ("trip.recipient", 0, {"recipient": AMY, "stop": "school"})
    arriving = on_the_way(rounds, wish)
    assert gives(go(arriving, [fix(at_s, 2, speed=0.0) for at_s in range(0, 60, 10)])) == []
    assert gives(go(arriving, drive(60, 490)), "complete") == []


def test_a_backlog_tells_by_its_last_position() -> None:
    """Seven minutes without a network, in a jam. At once: by the first of what it kept, ten minutes would be over."""
    jam = [fix(at_s, 3_000, speed=0.0) for at_s in range(300, 700, 10)]
    now_ms = T0 + 700_000
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, drive(0, 300))
    for sample in jam:
        assert gives(arriving.take(sample, now_ms, NOWHERE, more=True)) == []
    assert gives(arriving.look(now_ms)) == []
    assert arriving.look_ms is not None
    assert arriving.look_ms > now_ms + 60_000


def test_a_backlog_position_by_position_tells_by_its_last_one() -> None:
    """They come faster than they were made, so newer ones are to come; a moment after the last one it is looked."""
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, drive(0, 300))
    for nth, at_s in enumerate(range(300, 700, 10)):
        now_ms = T0 + 700_000 + 100 * nth
        told = arriving.take(fix(at_s, 3_000, speed=0.0), now_ms, NOWHERE)
        if at_s < 640:
            assert told == []
            assert arriving.look_ms == now_ms + SOON_MS
        assert gives(told) == []
    assert shows(told)


def test_what_is_always_late_is_told_all_the_same() -> None:
    """Over a satellite, two minutes behind: as it comes as fast as it is made there is nothing to wait for."""
    arriving = on_the_way()
    shown = [arriving.take(sample, sample.at_ms + 120_000, NOWHERE) for sample in drive(0, 300)]
    assert shows(shown[0])
    assert shows([deed for deeds in shown[1:] for deed in deeds])


def test_planned_anew_it_goes_on_from_where_it_is() -> None:
    """Without a new position: the arrival time at the new stop is shown, and what was shown of the old place of that name is
    forgotten: by that, ten minutes were over."""
    arriving = on_the_way(plan([stop("home", 9_000)], 9_000.0), NOTIFY)
    go(arriving, drive(0, 300))
    far = plan([stop("home", 20_000)], 20_000.0)
    facts = (NOTIFY, ("trip.planned", 300, far))
    arriving.became(underway(plan([stop("home", 9_000)], 9_000.0), 0, *facts), T0 + 300_000)
    deeds = arriving.look(T0 + 300_000)
    [shown] = shows(deeds)
    assert seconds(shown) > 1_200
    assert gives(deeds) == []
    assert arriving.look_ms is not None


def test_another_subject_begins_where_it_is() -> None:
    """The truck broke down, another one goes on: nothing of the first one's place is said of the second."""
    arriving = on_the_way()
    go(arriving, drive(0, 300))
    arriving.advise(T0 + 900_000, T0 + 290_000)
    other = TO_END | {"subject": "device:truck-8"}
    arriving.became(underway(TO_END, 0, ("trip.planned", 300, other)), T0 + 300_000)
    assert arriving.look(T0 + 300_000) == []
    assert shows(go(arriving, drive(300, 310))) == []
    assert shows(go(arriving, [fix(250, 0, speed=10.0, subject="device:truck-8")])), "its own last one, though older"


def test_a_plan_for_a_trip_that_is_over_begins_nothing() -> None:
    """Both were said since it was looked at last."""
    arriving = on_the_way()
    go(arriving, drive(0, 100))
    longer = plan([stop("home", 20_000)], 20_000.0)
    over = underway(TO_END, 0, ("trip.planned", 100, longer), ("trip.cancelled", 101, {"reason": "snow"}))
    arriving.became(over, T0 + 101_000)
    assert arriving.look(T0 + 101_000) == []


def test_an_alert_that_could_not_be_taken_is_due_again_at_once() -> None:
    """The store was away: not a minute later, when it may be too late."""
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, drive(0, 300))
    look_ms = arriving.look_ms
    assert look_ms is not None
    [alert] = gives(arriving.look(look_ms))
    assert gives(arriving.look(look_ms + 1_000)) == []
    arriving.not_given(alert)
    assert [give.key for give in gives(arriving.look(look_ms + 2_000))] == [alert.key]


def test_settings_hold_for_trips_on_their_way() -> None:
    """The tenants file was read anew: from fifteen minutes on."""
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, drive(0, 200))
    assert gives(arriving.look(T0 + 200_000)) == []
    arriving.arrivals = arriving.arrivals
    arriving.arrivals = Arrivals(thresholds_s=(1_100, 300))
    assert [give.body["threshold_s"] for give in gives(arriving.look(T0 + 200_000))] == [1_100]


def test_taken_up_anew_it_stands_where_it_stood() -> None:
    """Another node is given the same positions as past: it shows the same, and told nobody meanwhile."""
    one = on_the_way(TO_END, NOTIFY)
    shown = shows(go(one, drive(0, 300)))[-1]
    two = on_the_way(TO_END, NOTIFY)
    past = [deed for sample in drive(0, 300) for deed in two.take(sample, T0 + 290_000, NOWHERE, past=True)]
    assert past == []
    assert shows(two.look(T0 + 290_000)) == [shown]
    assert asked(two, T0 + 290_000) is not None
    assert two.calls == one.calls + 2, "what the other node asked for counts"
    assert two.look_ms == one.look_ms


def test_a_device_may_say_itself_when_it_arrives() -> None:
    """What it says moves what is shown, and what it was worth is remembered at the end."""
    plain, advised = on_the_way(), on_the_way()
    go(plain, drive(0, 100))
    go(advised, drive(0, 100))
    advised.advise(T0 + 2_000_000, T0 + 100_000)
    assert seconds(shows(go(advised, drive(100, 200)))[-1]) > seconds(shows(go(plain, drive(100, 200)))[-1])
    before = advised.record
    done = underway(TO_END, 0, ("trip.completed", 1_000, {"at": write(T0 + 1_000_000)}))
    advised.became(done, T0 + 1_000_000)
    assert advised.record != before


def test_what_a_device_says_is_of_the_hour_that_it_says() -> None:
    """The first message after a new plan says both where it is and when it will be there; its word was taken on the clock of
    the plan before, ten minutes off."""
    longer = plan([stop("home", 10_000)], 9_900.0)
    shown: list[float] = []
    for word_first in (True, False):
        arriving = on_the_way(record=Record(seen=50.0, square=50 * 0.05**2))
        go(arriving, drive(0, 600))
        for said in (word_first, not word_first):
            if said:
                arriving.advise(T0 + 1_100_000, T0 + 600_000)
            else:
                arriving.became(underway(TO_END, 0, ("trip.planned", 600, longer)), T0 + 600_000)
        shown.append(seconds(shows(go(arriving, drive(600, 660)))[-1]))
    assert shown[0] == shown[1]


def test_nonsense_of_a_device_is_not_taken() -> None:
    """An arrival in the past changes nothing."""
    plain, advised = on_the_way(), on_the_way()
    go(advised, drive(0, 100))
    go(plain, drive(0, 100))
    advised.advise(T0 - 5_000, T0 + 100_000)
    assert shows(go(advised, drive(100, 200)))[-1].value == shows(go(plain, drive(100, 200)))[-1].value


# -- routes


def snapshot(metres: float, speed: float = 5.0, source: str = "osrm", *, passing: bool = False) -> Snapshot:
    points = tuple(place(nth * 100.0) for nth in range(int(metres / 100) + 1))
    legs_m = tuple(pieces_m(points))
    legs_s = tuple(leg / speed for leg in legs_m)
    kept = Passing(legs_s) if passing else legs_s
    return Snapshot(points, legs_m, kept, (len(points) - 1,), source, T0, T0 + 1 if passing else None)


def asked(arriving: Arriving, now_ms: int = T0) -> Any:
    wanted = arriving.route_wanted(now_ms, now_ms)
    if wanted is not None:
        arriving.route_asked(now_ms)
    return wanted


def test_a_route_is_asked_for_at_the_start() -> None:
    """From here to the stops ahead, with the plan's own way; once."""
    arriving = on_the_way()
    go(arriving, drive(0, 1))
    why, ask = asked(arriving)
    assert why == "start"
    assert ask.mode == "car"
    assert len(ask.points) == 2
    assert len(ask.way) == 101
    assert asked(arriving) is None


def test_what_the_provider_says_is_what_is_shown_by() -> None:
    """10 km at 5 m/s, whatever a car's usual speed is; and the source says whose times these are."""
    arriving = on_the_way(plan([stop("home", 10_000)], None))
    go(arriving, drive(0, 1))
    arriving.routed(snapshot(10_000), 1, False, *asked(arriving), T0 + 100)
    shown = shows(go(arriving, [fix(1, 5, speed=5.0)]))[-1]
    assert shown.value["source"] == "route"
    assert abs(seconds(shown) - 2_000) < 600
    assert arriving.calls == 1


def test_a_route_that_comes_after_a_stop_was_reached_is_taken() -> None:
    """It was asked for with that stop; without the route there was none for ten minutes."""
    two = plan([stop("gate", 300), stop("home", 10_000)], None)
    arriving = on_the_way(two)
    go(arriving, drive(0, 1))
    wanted = asked(arriving)
    there = ("trip.arrived", 30, {"stop": "gate", "at": write(T0 + 30_000)})
    arriving.became(underway(two, 0, there), T0 + 30_000)
    found = replace(snapshot(10_000), stops=(3, 100))
    arriving.routed(found, 1, False, *wanted, T0 + 31_000)
    shown = shows(go(arriving, [fix(35, 350, speed=10.0)]))[-1].value
    assert (shown["stop"], shown["source"]) == ("home", "route")


def test_a_guess_does_not_take_the_place_of_a_way() -> None:
    """The plan's own stays; who has none takes it."""
    arriving = on_the_way()
    go(arriving, drive(0, 1))
    guess = snapshot(10_000, 1.0, "offline")
    arriving.routed(guess, 0, False, *asked(arriving), T0)
    assert seconds(shows(go(arriving, drive(10, 20)))[-1]) < 5_000
    bare = on_the_way(plan([stop("home", 10_000)], None))
    go(bare, drive(0, 1))
    bare.routed(guess, 0, False, *asked(bare), T0)
    assert seconds(shows(go(bare, drive(10, 20)))[-1]) > 5_000


def test_who_left_the_way_asks_again() -> None:
    """Off the way is seen by some positions far from it; without the way that was wrong."""
    arriving = on_the_way(TO_END)
    go(arriving, drive(0, 1))
    arriving.routed(snapshot(10_000), 1, False, *asked(arriving), T0)
    away = [fix(300 + 10 * nth, 2_000 + 50 * nth, 200.0 * nth, speed=20.0) for nth in range(20)]
    go(arriving, away)
    wanted = arriving.route_wanted(away[-1].at_ms, away[-1].at_ms)
    assert wanted is not None
    assert wanted[0] == "off_route"
    assert wanted[1].way == ()


def test_a_guess_takes_nobodys_way() -> None:
    """Off it, with a provider that is dead: who comes back to it is on it again. Where there was a guess alone, a new one is
    taken."""
    away = [fix(300 + 10 * nth, 2_000 + 50 * nth, 200.0 * nth, speed=20.0) for nth in range(20)]
    back = [fix(600 + 10 * nth, 4_000 + 50 * nth) for nth in range(10)]
    timed = TO_END | {"route": TO_END["route"] | {"legs_s": [10.0] * 100}}  # so that the source tells the ways apart
    for planned, own in ((timed, True), (plan([stop("home", 10_000)], None), False)):
        arriving = on_the_way(planned)
        go(arriving, drive(0, 1))
        arriving.routed(snapshot(10_000, 1.0, "offline"), 1, False, *asked(arriving), T0)
        go(arriving, away)
        now_ms = away[-1].at_ms
        straight = replace(
            snapshot(10_000, 1.0, "offline"), points=tuple(place(100.0 * n, 3_000.0) for n in range(101))
        )
        arriving.routed(straight, 1, True, *asked(arriving, now_ms), now_ms)
        source = shows(go(arriving, back))[-1].value["source"]
        assert (source.split("/")[0] == "route") == own, source


def test_a_provider_that_failed_is_said_in_the_source() -> None:
    """The route of before is used on, and called stale; nobody is asked until one is well again."""
    arriving = on_the_way(policy=CallPolicy(age_s=10, age_left_s=1, spacing_s=1))
    go(arriving, drive(0, 1))
    arriving.routed(snapshot(10_000), 1, False, *asked(arriving), T0)
    go(arriving, drive(10, 30))
    later = T0 + 500_000
    arriving.routed(snapshot(9_000, 1.0, "offline"), 1, True, *asked(arriving, later), later)
    assert shows(go(arriving, drive(510, 520)))[-1].value["source"].endswith("/stale-route")
    assert arriving.route_wanted(later + 500_000, T0) is None


def test_an_answer_that_comes_too_late_is_not_taken() -> None:
    """Planned anew meanwhile, or over; an ask that came to nothing leaves it as it was."""
    arriving = on_the_way()
    go(arriving, drive(0, 1))
    wanted = asked(arriving)
    arriving.route_dropped()
    arriving.became(underway(plan([stop("far", 20_000)], None)), T0)
    arriving.routed(snapshot(10_000), 1, False, *wanted, T0)
    arriving.route_dropped()
    assert shows(go(arriving, drive(10, 20)))[-1].value["stop"] == "far"
    wanted = asked(arriving, T0 + 20_000)
    arriving.became(underway(plan([stop("far", 20_000)], None), 0, ("trip.cancelled", 20, {})), T0)
    arriving.routed(snapshot(10_000), 1, False, *wanted, T0)
    assert go(arriving, drive(20, 40)) == []


def test_aircraft_and_who_has_not_set_out_ask_nobody() -> None:
    """There are no roads up there; and before the start no way is needed."""
    flies = on_the_way(plan([stop("home", 100_000)], None, mode="aircraft"))
    deeds = go(flies, drive(0, 10, speed=200.0, step_s=1))
    assert asked(flies) is None
    assert shows(deeds)[-1].value["source"] == "great_circle"
    waits = Arriving(TENANT, STREAM, Arrivals())
    waits.became(trip(("trip.planned", 0, TO_END)), T0)
    go(waits, drive(0, 1))
    assert asked(waits) is None


def test_durations_that_must_not_be_kept_are_used() -> None:
    """For this trip."""
    arriving = on_the_way(plan([stop("home", 10_000)], None))
    go(arriving, drive(0, 1))
    arriving.routed(snapshot(10_000, passing=True), 1, False, *asked(arriving), T0 + 100)
    assert shows(go(arriving, [fix(1, 5, speed=5.0)]))[-1].value["source"] == "route"


def test_a_replanned_trip_goes_on_with_its_new_stops() -> None:
    """The same plan again changes nothing; another one begins anew."""
    arriving = on_the_way()
    go(arriving, drive(0, 100))
    before = arriving.trip
    arriving.became(underway(TO_END, 0, NOTIFY), T0 + 100_000)
    assert arriving.trip != before
    assert isinstance(arriving.trip, Trip)
    assert shows(go(arriving, drive(200, 210)))[-1].value["stop"] == "home"


def test_a_way_that_is_none_is_no_way() -> None:
    """A fact of an older version may have one: the trip goes as the crow flies."""
    broken = plan([stop("home", 10_000)], None, route={"polyline": encode([place(0)], 6), "source": "test"})
    assert shows(go(on_the_way(broken), drive(0, 1)))[-1].value["source"] == "great_circle"


def test_what_was_given_long_ago_is_not_remembered() -> None:
    """150 people's alerts, none of which the stream ever has: as many as fit are held back for a minute each."""
    wishes = [("trip.recipient", 0, {"recipient": f"user:u{nth}", "stop": "home"}) for nth in range(150)]
    arriving = on_the_way(TO_END, *wishes)
    given = gives(go(arriving, drive(600, 760, step_s=20)), "alert")
    assert len({give.key for give in given}) == 150
    assert len(given) >= 300


def test_what_was_worked_out_last_can_be_asked_for() -> None:
    """Of a stop that is ahead; before the first position there is nothing."""
    arriving = on_the_way(TO_END)
    assert arriving.estimate("home") is None
    go(arriving, drive(0, 31, step_s=10))
    found = arriving.estimate("home")
    assert found is not None
    assert found.made_ms == T0 + 30_000
    assert arriving.estimate("elsewhere") is None


def test_alerts_look_back_a_minute() -> None:
    """What was shown of a stop longer ago than that is let go."""
    arriving = on_the_way(TO_END, NOTIFY)
    go(arriving, [fix(at_s, 10 * at_s) for at_s in (0, 10, 20, 200)])
    assert [round((one.made_ms - T0) / 1000) for one in arriving._shown["home"]] == [200]


def test_with_no_stop_ahead_nothing_is_shown() -> None:
    """It was said to have arrived, and goes on: nobody knows where to."""
    there = ("trip.arrived", 50, {"stop": "home", "at": write(T0 + 50_000)})
    assert go(on_the_way(TO_END, NOTIFY, there), drive(60, 100)) == []


def test_who_parks_and_says_no_more_has_arrived() -> None:
    """Near the stop with its last word, without a speed: after three minutes it was there then, and the trip is over."""
    arriving = on_the_way()
    deeds = go(arriving, [fix(0, 0), fix(900, 9_000), fix(1_000, 9_990)])
    assert gives(deeds, "arrive") == []
    assert arriving.look_ms == T0 + 1_180_000
    assert gives(arriving.look(T0 + 1_100_000)) == []
    assert arriving.look_ms == T0 + 1_180_000
    arrived, completed = gives(arriving.look(T0 + 1_180_000))
    assert arrived.body == {"stop": "home", "at": write(T0 + 1_000_000)}
    assert completed.type == "complete"
    assert arriving.look_ms == T0 + 1_180_000 + AGAIN_MS


def test_who_is_silent_on_the_way_has_not() -> None:
    """Nor who parks at a stop that it was said to have reached."""
    arriving = on_the_way()
    go(arriving, drive(0, 100))
    assert gives(arriving.look(T0 + 3_000_000)) == []
    there = ("trip.arrived", 300, {"stop": "gate", "at": write(T0 + 300_000)})
    two = plan([stop("gate", 3_000), stop("home", 10_000)])
    stays = on_the_way(two, there)
    go(stays, [fix(0, 0), fix(310, 3_000)])
    assert gives(stays.look(T0 + 3_000_000)) == []
