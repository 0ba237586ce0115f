"""What can be true is believed, what cannot is kept apart, and nobody is locked out."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest

from core.geo.cadence import Mode
from core.geo.plausible import BURST, EXPIRED_MS, OLD_MS, RECENT_MAX, SEEN_MAX, TRUST_MAX, Judge
from core.geo.plausible_words import REASONS, Judged
from core.geo.sphere import destination
from core.pings import Fix

NOW = 1_800_000_000_000
HOME = (48.2, 16.37)
FAR = destination(*HOME, 90, 300_000)


def fix(at_s: float = 0, place: tuple[float, float] = HOME, *, at_ms: int | None = None, **more: Any) -> Fix:
    lat, lon = place
    at = NOW + round(at_s * 1000) if at_ms is None else at_ms
    return Fix(1, at, b"", more.pop("good", True), round(lat, 7), round(lon, 7), **more)


def on(metres: float, bearing: float = 90, start: tuple[float, float] = HOME) -> tuple[float, float]:
    return destination(*start, bearing, metres)


def said(judge: Judge, *fixes: Fix) -> list[str]:
    """Verdicts and reasons of fixes that come as they are made."""
    return [word(judge.judge(one, one.at_ms + 300)) for one in fixes]


def word(judged: Judged) -> str:
    assert judged.verdict in REASONS[judged.reason].verdicts
    return f"{judged.verdict} {judged.reason}".strip()


def driving(judge: Judge, many: int = 20, start_s: float = 0) -> list[str]:
    """At 14 m/s eastwards from home, a fix every 10 s."""
    return said(judge, *(road(start_s + 10 * n) for n in range(many)))


def road(at_s: float, **more: Any) -> Fix:
    return fix(at_s, on(14 * at_s), **{"acc": 5.0, "speed": 14.0, "heading": 90.0, **more})


def test_a_drive_is_believed() -> None:
    """Every fix of it, and each moves the live position."""
    judge = Judge("car")
    assert driving(judge) == ["accepted"] * 20
    judged = judge.judge(road(200), NOW + 200_300)
    assert judged == ("accepted", "", NOW + 200_000, True)
    assert judge.anchor is not None
    assert judge.anchor.at_ms == NOW + 200_000
    assert Judge("car").anchor is None


def test_a_value_that_cannot_be_true_is_rejected() -> None:
    """And changes nothing."""
    judge = Judge("car")
    before = judge.state()
    assert said(judge, fix(good=False)) == ["rejected malformed"]
    assert judge.state() == before


def test_the_same_time_again_is_a_duplicate() -> None:
    """Also of a quarantined one, so that repeating it makes no run; and no longer than SEEN_MAX others."""
    judge = Judge("car")
    driving(judge)
    assert said(judge, road(190)) == ["duplicate same_time"]
    assert said(judge, *[fix(200, FAR)] * 6) == ["quarantined jump"] + ["duplicate same_time"] * 5
    assert len(judge.seen) == SEEN_MAX
    assert said(judge, road(0)) != ["duplicate same_time"]


def test_a_duplicate_is_said_by_the_time_put_right() -> None:
    """As it was the first time."""
    judge = Judge("car")
    first = [
        judge.judge(
            road(
                n * 10,
            ),
            NOW + n * 10_000 - 3_600_000,
        )
        for n in range(4)
    ]
    assert [one.verdict for one in first] == ["rejected", "rejected", "accepted", "accepted"]
    assert judge.judge(road(30), NOW).verdict == "duplicate"
    assert judge.judge(road(30), NOW).at_ms == first[3].at_ms == NOW + 30_000 - 3_600_000


def test_times_that_cannot_be_used_are_rejected() -> None:
    """From the future, and older than a week; neither is remembered."""
    judge = Judge("car")
    assert judge.judge(fix(), NOW - 60_000) == ("rejected", "future", NOW, False)
    assert judge.judge(fix(), NOW + EXPIRED_MS + 60_000) == ("rejected", "expired", NOW, False)
    assert not judge.seen


def test_a_device_that_says_1970_is_learned() -> None:
    """As any clock that is behind."""
    judge = Judge("car")
    words = [word(judge.judge(road(n * 10)._replace(at_ms=n * 10_000), NOW + n * 10_000)) for n in range(7)]
    assert words[:3] == ["rejected expired"] * 3
    assert words[-2:] == ["accepted", "accepted"]


def test_mocks_are_the_tenants_to_judge() -> None:
    """Quarantined by default, and never a run; degraded where they are allowed."""
    strict, open_ = Judge("car"), Judge("car", mock_allowed=True)
    mocks = [road(n * 10, mock=True) for n in range(10)]
    assert said(strict, *mocks) == ["quarantined mock"] * 10
    assert said(open_, *mocks) == ["degraded mock"] * 10


def test_accuracy_is_poor_or_useless() -> None:
    """By the mode; a fix that says none counts as a usual one."""
    judge = Judge("car")
    words = said(judge, road(0, acc=None), road(10, acc=150.0), road(20, acc=151.0), road(30, acc=1_501.0))
    assert words == ["accepted", "accepted", "degraded inaccurate", "quarantined inaccurate"]


def test_a_jump_is_quarantined_and_moves_nothing() -> None:
    """The way goes on as though it had not been."""
    judge = Judge("car")
    driving(judge)
    assert judge.judge(fix(200, FAR), NOW + 200_300) == ("quarantined", "jump", NOW + 200_000, False)
    assert said(judge, road(210), fix(220, FAR), road(230)) == ["accepted", "quarantined jump", "accepted"]


def test_nobody_is_locked_out() -> None:
    """A first fix that was wrong: the third that agrees with its neighbours is the new anchor."""
    judge = Judge("car")
    assert said(judge, fix(-10, FAR)) == ["accepted"]
    assert driving(judge, 5) == ["quarantined jump"] * 2 + ["accepted reanchored"] + ["accepted"] * 2


@pytest.mark.parametrize("after", [1, 2, 5])
def test_how_many_agree_is_a_choice(after: int) -> None:
    """From one to five."""
    judge = Judge("car", reanchor_after=after)
    said(judge, fix(-10, FAR))
    assert driving(judge, 6).index("accepted reanchored") == after - 1


def test_a_run_agrees_with_itself() -> None:
    """Places all over the world are none, however many."""
    judge = Judge("car")
    driving(judge)
    wild = [fix(200 + n, on(500_000 + 300_000 * (n % 7), 50 * n)) for n in range(40)]
    assert said(judge, *wild) == ["quarantined jump"] * 40


def test_two_places_by_turns_one_by_one() -> None:
    """The false one is never believed, and the true one always."""
    judge = Judge("car")
    driving(judge)
    for n in range(20):
        assert said(judge, fix(200 + 2 * n, FAR), road(201 + 2 * n)) == ["quarantined jump", "accepted"]


def test_two_places_by_turns_in_long_runs() -> None:
    """The lesser known is believed cleanly in its first run alone; later it takes five and is degraded."""
    judge = Judge("car")
    driving(judge, 70)
    for nth in range(12):
        at = 700 + nth * 160
        away = said(judge, *(fix(at + 10 * n, on(14 * 10 * n, 90, FAR)) for n in range(8)))
        home = said(judge, *(road(at + 80 + 10 * n) for n in range(8)))
        if nth == 0:
            assert away == ["quarantined jump"] * 2 + ["accepted reanchored"] + ["accepted"] * 5
        else:
            assert away == ["quarantined jump"] * 4 + ["degraded contested"] * 4
        assert home == ["quarantined jump"] * 2 + ["accepted reanchored"] + ["accepted"] * 5


def test_two_places_known_as_well_go_by_the_usual_run() -> None:
    """Neither is the lesser known."""
    judge = Judge("car")
    said(judge, *(fix(10 * n, FAR) for n in range(3)))
    driving(judge, 3, 30)
    assert said(judge, *(fix(60 + 10 * n, FAR) for n in range(3)))[-1] == "accepted reanchored"


def test_trust_is_bounded_and_forgotten() -> None:
    """However long a drive was; and after half an hour elsewhere it counts no more."""
    judge = Judge("car")
    driving(judge, 300)
    assert judge.trust == TRUST_MAX
    abroad = destination(*HOME, 90, 15_000_000)
    said(judge, *(fix(3_000 + 10 * n, abroad) for n in range(4)), fix(9_000, abroad))
    assert said(judge, *(fix(9_010 + 10 * n) for n in range(3)))[-1] == "accepted reanchored"
    assert judge.trust == 3
    said(judge, *(fix(9_040 + 10 * n, abroad) for n in range(3)))
    assert judge.trust == 3 + 5


def contested() -> Judge:
    """One that has gone to the lesser known place for the second time; its 13th fix there was at 1,120 s."""
    judge = Judge("car")
    driving(judge, 80)
    said(judge, *(fix(800 + 10 * n, FAR) for n in range(4)), *(road(840 + 10 * n) for n in range(16)))
    assert said(judge, *(fix(1_000 + 10 * n, FAR) for n in range(13)))[4:] == ["degraded contested"] * 9
    return judge


def test_who_stays_is_no_longer_contested() -> None:
    """Once it is as well known as the other."""
    judge = contested()
    words = said(judge, *(fix(1_130 + 10 * n, FAR) for n in range(TRUST_MAX)))
    assert words[0] == "degraded contested"
    assert words[-1] == "accepted"
    assert words == sorted(words, reverse=True)


def test_who_was_long_gone_contests_nothing() -> None:
    """After half an hour the other is forgotten."""
    judge = contested()
    assert said(judge, fix(990 + OLD_MS / 1000, FAR), fix(991 + OLD_MS / 1000, FAR)) == [
        "degraded contested",
        "accepted",
    ]


def test_null_island_is_no_place() -> None:
    """Not as a first fix, not after a jump, however often."""
    judge = Judge("car")
    assert said(judge, fix(-20, (0.0, 0.0)), fix(-10, (0.0004, -0.0009))) == ["quarantined null_island"] * 2
    driving(judge)
    assert said(judge, *(fix(200 + n, (0.0, 0.0)) for n in range(9))) == ["quarantined null_island"] * 9
    assert said(judge, fix(185, (0.0, 0.0)), road(240)) == ["quarantined null_island", "accepted"]


def test_a_coordinate_of_exactly_0_is_believed_last() -> None:
    """It was not filled in, most likely; but who lives on the meridian of Greenwich is let in by five that agree."""
    for place in ((HOME[0], 0.0), (0.0, HOME[1])):
        judge = Judge("car", reanchor_after=1)
        driving(judge)
        words = said(judge, *(fix(200 + n, place) for n in range(6)))
        assert words == ["quarantined null_island"] * 4 + ["accepted reanchored", "accepted"]


def test_a_ship_may_pass_there() -> None:
    """What comes near by its own way is believed."""
    judge = Judge("ship")
    assert said(judge, *(fix(60 * n, (0.0, -0.02 + 0.004 * n)) for n in range(10))) == ["accepted"] * 10


def test_a_frozen_position_is_no_new_one() -> None:
    """The very coordinates again, at speed: degraded, and what comes next is measured from when they were new."""
    judge = Judge("car")
    driving(judge)
    held = road(190)
    repeats = [held._replace(at_ms=held.at_ms + 10_000 * n) for n in range(1, 5)]
    assert said(judge, *repeats) == ["degraded frozen"] * 4
    assert not judge.judge(held._replace(at_ms=held.at_ms + 45_000), NOW + 600_000).live
    assert said(judge, road(250)) == ["accepted"]


def test_a_held_place_gains_no_room() -> None:
    """Five minutes at one place in words, and two kilometres off a second later: that is to be confirmed, and then believed."""
    for after_s, expected in ((1, ["quarantined jump"] * 2 + ["accepted reanchored"]), (30, ["accepted"] * 3)):
        judge = Judge("car")
        held = road(0)
        said(judge, *(held._replace(at_ms=held.at_ms + 10_000 * n) for n in range(31)))
        back = 300 + after_s
        way = [fix(back + n, on(2_000 + 14 * n), acc=5.0, speed=14.0, heading=90.0) for n in range(3)]
        assert said(judge, *way) == expected
        assert judge.old is None
        assert said(judge, fix(back + 3, on(2_042), acc=5.0, speed=14.0, heading=90.0)) == ["accepted"]


def test_a_step_from_a_held_place_contests_nothing_and_settles_nothing() -> None:
    """It is the same way going on: what was contested still is."""
    judge = contested()
    held = fix(1_130, FAR, speed=14.0)
    said(judge, held, *(held._replace(at_ms=held.at_ms + 10_000 * n) for n in range(1, 20)))
    trust = judge.trust
    way = [fix(1_321 + n, on(2_000, 90, FAR)) for n in range(3)]
    assert said(judge, *way) == ["quarantined jump"] * 2 + ["degraded contested"]
    assert judge.trust == trust


def test_a_time_between_repetitions_is_none_before_them() -> None:
    """A fix older than the last repetition has the room of one at that very time."""
    judge = Judge("car")
    held = road(0)
    said(judge, held, held._replace(at_ms=NOW + 100_000))
    assert said(judge, fix(50, on(400), acc=5.0), fix(60, on(250), acc=5.0)) == ["quarantined jump", "accepted"]


def test_what_stands_is_not_frozen() -> None:
    """The same place at rest, or with no speed, is an answer; so is a repetition before anything could have moved."""
    judge = Judge("car")
    said(judge, road(0, speed=0.0))
    assert said(judge, *(fix(10 * n, speed=speed) for n, speed in enumerate((0.0, None, 2.0), 1))) == ["accepted"] * 3
    assert said(judge, fix(31, speed=14.0)) == ["accepted"]


def test_speeds_that_do_not_go_with_the_way() -> None:
    """Far more or far less than both ends report is degraded; more time, or a speed not known, and nothing is said."""
    for metres, apart, second, expected in (
        (900, 20, 2.0, "degraded speed_mismatch"),
        (900, 120, 2.0, "accepted"),
        (900, 20, None, "accepted"),
        (400, 20, 2.0, "degraded speed_mismatch"),
        (370, 20, 2.0, "accepted"),
        (20, 20, 30.0, "degraded speed_mismatch"),
        (30, 20, 30.0, "accepted"),
    ):
        judge = Judge("truck")
        first = 30.0 if second == 30.0 else 1.0
        said(judge, fix(0, acc=5.0, speed=first, heading=90.0))
        after = fix(apart, on(metres), acc=5.0, speed=second, heading=90.0)
        assert said(judge, after) == [expected], (metres, apart, second)


def test_who_goes_round_makes_little_way() -> None:
    """A roundabout, or headings not known, or longer than they say anything: no mismatch."""
    for apart, heading in ((20, 200.0), (20, None), (40, 90.0)):
        judge = Judge("truck")
        said(judge, fix(0, acc=5.0, speed=30.0, heading=90.0))
        assert said(judge, fix(apart, on(20), acc=5.0, speed=30.0, heading=heading)) == ["accepted"]


def test_headings_that_go_against_the_way() -> None:
    """Both of them, and over a way that is longer than it could seem and no older than they say anything of."""
    for metres, apart, heading, expected in (
        (140, 10, 280.0, "degraded heading_mismatch"),
        (140, 10, 100.0, "accepted"),
        (15, 10, 280.0, "accepted"),
        (560, 40, 280.0, "accepted"),
    ):
        judge = Judge("car")
        said(judge, fix(0, acc=5.0, speed=14.0, heading=270.0))
        assert said(judge, fix(apart, on(metres), acc=5.0, speed=14.0, heading=heading)) == [expected]


def test_receivers_on_the_ground_hold_positions_back() -> None:
    """An aircraft that seems to make little way in a few seconds is where it was some seconds ago."""
    for apart, expected in ((6, "accepted"), (16, "degraded speed_mismatch")):
        judge = Judge("aircraft")
        said(judge, fix(0, acc=5.0, speed=200.0, heading=90.0))
        assert said(judge, fix(apart, on(100), acc=5.0, speed=200.0, heading=90.0)) == [expected]


def test_what_hardly_moves_has_no_heading() -> None:
    """A speed below what standing receivers report says nothing of the way."""
    judge = Judge("car")
    said(judge, fix(0, acc=5.0, speed=2.0, heading=270.0))
    assert said(judge, fix(10, on(40), acc=5.0, speed=2.0, heading=270.0)) == ["accepted"]


def test_nothing_flies_so_slowly_so_high() -> None:
    """50 knots at 38,000 feet: quarantined where it begins, degraded once it is all there is, over as soon as it is not."""
    judge = Judge("aircraft")
    high = {"alt": 11_582.0, "heading": 325.0}
    fast = [fix(n, on(250 * n, 325), speed=247.0, **high) for n in range(10)]
    assert said(judge, *fast) == ["accepted"] * 10
    start = on(2_500, 325)
    slow = [fix(10 + n, on(26 * n, 325, start), speed=26.0, **high) for n in range(6)]
    assert said(judge, *slow) == ["quarantined stall"] * 2 + ["accepted reanchored"] + ["degraded stall"] * 3
    assert said(judge, fix(17, on(26 * 7, 325, start), speed=200.0, **high)) == ["accepted"]


def test_stalling_takes_an_aircraft_that_says_so() -> None:
    """Not a balloonist's phone without a mode, nor one that says no height or no speed; a first fix is degraded."""
    assert said(Judge("any"), fix(speed=5.0, alt=11_000.0)) == ["accepted"]
    assert said(Judge("aircraft"), fix(speed=5.0)) == ["accepted"]
    assert said(Judge("aircraft"), fix(alt=11_000.0)) == ["accepted"]
    assert said(Judge("aircraft"), fix(speed=5.0, alt=8_000.0)) == ["accepted"]
    assert said(Judge("aircraft"), fix(speed=5.0, alt=11_000.0)) == ["degraded stall"]


def test_late_fixes_go_into_the_track() -> None:
    """In their place by time, never to the live position."""
    judge = Judge("car")
    said(judge, road(0), road(10), road(30), road(40))
    judged = judge.judge(road(20), NOW + 40_500)
    assert judged == ("accepted", "late", NOW + 20_000, False)
    assert [sample.at_ms - NOW for sample in judge.recent] == [0, 10_000, 20_000, 30_000, 40_000]
    assert said(judge, road(-10), road(-20)) == ["accepted late"] * 2
    assert len(judge.recent) == RECENT_MAX
    assert judge.recent[0].at_ms - NOW == -10_000
    assert said(judge, road(25)) == ["accepted late"]
    assert len(judge.recent) == RECENT_MAX
    assert said(judge, road(50)) == ["accepted"]


def test_late_fixes_are_judged_by_their_neighbours() -> None:
    """By both, and no run comes of them; what they say against themselves counts as ever."""
    judge = Judge("car")
    driving(judge, 4)
    assert said(judge, *(fix(11 + n, FAR) for n in range(8))) == ["quarantined jump"] * 8
    assert said(judge, fix(29, on(14 * 30 + 4_000))) == ["quarantined jump"]
    assert said(judge, fix(1, on(3_000))) == ["quarantined jump"]
    assert said(judge, fix(21, on(280 + 640), acc=5.0)) == ["quarantined jump"]
    assert said(judge, fix(21.1, on(280 + 140), acc=5.0)) == ["accepted late"]
    assert said(judge, road(25, acc=500.0)) == ["degraded inaccurate"]
    early = Judge("car")
    said(early, road(0))
    assert said(early, fix(-1, FAR)) == ["quarantined jump"]


def test_much_too_often_is_throttled() -> None:
    """By the fixes' own times; turning, stopping and setting out are never too often."""
    judge = Judge("car")
    words = said(judge, *(road(n / 10) for n in range(100)))
    assert words[:BURST] == ["accepted"] * BURST
    assert words.count("throttled too_often") > 50
    assert said(judge, road(10.01, heading=130.0), road(10.02, heading=130.0)) == ["accepted", "throttled too_often"]
    assert said(judge, road(10.03, speed=0.0, heading=130.0)) == ["accepted"]
    assert said(judge, road(10.04, speed=0.0, heading=None)) == ["throttled too_often"]
    assert said(judge, road(10.05, heading=None)) == ["accepted"]


def test_a_backlog_is_not_throttled() -> None:
    """Five hundred at once, a second apart when they were made."""
    judge = Judge("car")
    assert [word(judge.judge(road(n), NOW + 500_000)) for n in range(500)] == ["accepted"] * 500


def test_how_often_is_a_choice() -> None:
    """Of the tenant, or by what was asked for."""
    judge = Judge("car", gap_ms=10_000, burst=2)
    assert said(judge, road(0), road(1), road(2), road(3)) == ["accepted"] * 3 + ["throttled too_often"]
    assert said(judge, road(20)) == ["accepted"]


@pytest.mark.parametrize("mode", get_args(Mode))
def test_a_restored_judge_goes_on(mode: Mode) -> None:
    """From anywhere in a story of everything, at another node: the same verdicts, the same state, in 400 bytes."""
    story = [road(10 * n, alt=11_000.0 if n == 7 else None) for n in range(20)]
    story += [fix(200 + 10 * n, FAR, mock=n == 2) for n in range(6)] + [road(n) for n in (260, 255, 270, 280, 290, 291)]
    story += [fix(300 + 10 * n, FAR) for n in range(8)] + [
        fix(10_000),
        fix(375, FAR, speed=20.0),
        fix(376.5, FAR, speed=20.0),
    ]
    for cut in range(len(story)):
        judge = Judge(mode, mock_allowed=True, reanchor_after=2, gap_ms=9_000, burst=3)
        said(judge, *story[:cut])
        state = judge.state()
        text = orjson.dumps(state)
        assert len(text) <= 400
        other = Judge.restore(orjson.loads(text), mode, mock_allowed=True, reanchor_after=2, gap_ms=9_000, burst=3)
        assert other.state() == state
        assert said(other, *story[cut:]) == said(judge, *story[cut:])
        assert other.state() == judge.state()


def test_a_state_that_is_none_is_refused() -> None:
    """Said at once, not found out later."""
    with pytest.raises(ValueError, match="state"):
        Judge.restore({}, "car")
