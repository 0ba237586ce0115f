"""Properties of judging: whatever comes, and whatever was before."""

from __future__ import annotations

from typing import get_args

import orjson
from hypothesis import given
from hypothesis import strategies as st

from core.geo.cadence import Mode
from core.geo.clocks import Clock
from core.geo.plausible import FLAP_RUN, RECENT_MAX, Judge
from core.geo.plausible_modes import ENVELOPES
from core.geo.plausible_words import REASONS
from core.geo.sphere import destination
from core.pings import Fix

NOW = 1_800_000_000_000
MODES = st.sampled_from(get_args(Mode))
TAKEN = ("accepted", "degraded")


def scaled(low: int, high: int, decimals: int) -> st.SearchStrategy[float]:
    return st.integers(low * 10**decimals, high * 10**decimals).map(lambda units: units / 10**decimals)


PLACE = st.tuples(scaled(-90, 90, 7), scaled(-180, 180, 7))
FIXES = st.builds(
    Fix,
    seq=st.just(1),
    at_ms=st.integers(NOW - 100_000, NOW + 20_000) | st.integers(-(2**53), 2**53),
    line=st.just(b""),
    good=st.booleans() | st.just(True),
    lat=st.sampled_from([0.0, 48.2]) | scaled(-90, 90, 7),
    lon=st.sampled_from([0.0, 16.37]) | scaled(-180, 180, 7),
    acc=st.none() | scaled(0, 1_000_000, 2),
    speed=st.none() | scaled(0, 2_000, 2),
    heading=st.none() | scaled(0, 360, 2),
    alt=st.none() | scaled(-1_000, 100_000, 2),
    mock=st.booleans(),
)
STORY = st.lists(st.tuples(FIXES, st.integers(0, 60_000)), max_size=25)


def lived(mode: Mode, story: list[tuple[Fix, int]], mock_allowed: bool = False) -> tuple[Judge, int]:
    judge, now = Judge(mode, mock_allowed=mock_allowed), NOW
    for fix, later in story:
        now += later
        judged = judge.judge(fix, now)
        assert judged.verdict in REASONS[judged.reason].verdicts
        assert judged.live <= (judged.verdict in TAKEN)
        if judged.verdict in TAKEN:
            assert judged.at_ms <= now + 10_000
    return judge, now


@given(MODES, STORY, st.booleans(), st.integers(0, 25))
def test_any_fix_gets_one_verdict_anywhere(
    mode: Mode, story: list[tuple[Fix, int]], mock_allowed: bool, cut: int
) -> None:
    """With its reason, never an error; and a judge that is moved in the middle comes to the same."""
    judge, now = lived(mode, story[:cut], mock_allowed)
    state = orjson.dumps(judge.state())
    assert len(state) <= 400
    moved = Judge.restore(orjson.loads(state), mode, mock_allowed=mock_allowed)
    assert moved.state() == judge.state()
    for fix, later in story[cut:]:
        now += later
        assert moved.judge(fix, now) == judge.judge(fix, now)


@given(MODES, STORY, PLACE, scaled(0, 360, 2))
def test_nobody_is_locked_out_whatever_was_before(
    mode: Mode, story: list[tuple[Fix, int]], place: tuple[float, float], bearing: float
) -> None:
    """Five live fixes in a row that agree, wherever they are, and the last is believed; all are kept."""
    judge, now = lived(mode, story)
    judge.clock.restore(Clock().state())  # a right clock: that one that is off is learned is looked at elsewhere
    now = max(now, judge.anchor.at_ms if judge.anchor else 0) + 60_000
    verdicts = []
    lat, lon = place if max(map(abs, place)) > 1 else (48.2, 16.37)  # null island is no place
    for n in range(FLAP_RUN):
        at = now + n * 30_000
        here = destination(lat, lon, bearing, n * 30 * ENVELOPES[mode].cap_mps / 4)
        verdicts.append(judge.judge(Fix(1, at, b"", True, round(here[0], 7), round(here[1], 7), 5.0), at + 300))
    assert {one.verdict for one in verdicts} <= {"accepted", "degraded", "quarantined"}
    assert verdicts[-1].verdict in TAKEN
    assert verdicts[-1].live


STEPS = st.lists(st.tuples(st.integers(500, 300_000), st.floats(0, 0.95), st.floats(0, 360)), min_size=1, max_size=40)


@given(MODES, PLACE, STEPS)
def test_a_walk_that_can_be_is_never_quarantined(
    mode: Mode, place: tuple[float, float], steps: list[tuple[int, float, float]]
) -> None:
    """Within the mode's cap, each way and any turn, over poles and the antimeridian."""
    judge, at = Judge(mode, burst=100), NOW
    lat, lon = place if max(map(abs, place)) > 1 else (48.2, 16.37)  # null island is no first place
    for ms, part, bearing in steps:
        at += ms
        lat, lon = destination(lat, lon, bearing, ENVELOPES[mode].cap_mps * part * ms / 1000)
        judged = judge.judge(Fix(1, at, b"", True, round(lat, 7), round(lon, 7), 5.0), at + 300)
        assert judged == ("accepted", "", at, True)


@given(MODES, st.permutations(range(RECENT_MAX)), scaled(0, 360, 2))
def test_the_order_of_arrival_does_not_matter_within_the_window(mode: Mode, order: list[int], bearing: float) -> None:
    """A walk and a place far off it, once something is known: the same are accepted, and the track ends the same."""
    outcomes = []
    for arrival in (sorted(order), order):
        judge = Judge(mode)
        judge.judge(Fix(1, NOW, b"", True, 48.2, 16.37, 5.0), NOW)
        taken = set()
        for n in arrival:
            lat, lon = destination(48.2, 16.37, bearing, ENVELOPES[mode].cap_mps * n * 5)
            if n == 3:
                lat, lon = destination(48.2, 16.37, bearing, 2_000_000)
            fix = Fix(1, NOW + (n + 1) * 10_000, b"", True, round(lat, 7), round(lon, 7), 5.0)
            if judge.judge(fix, NOW + 100_000).verdict == "accepted":
                taken.add(n)
        outcomes.append((taken, judge.recent))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == {0, 1, 2, 4, 5}


@given(MODES, st.integers(3, 30), st.integers(1, 3), st.floats(0, 360))
def test_a_jump_is_never_believed_at_once(mode: Mode, many: int, jumps: int, bearing: float) -> None:
    """After any way, what is far beyond the envelope is quarantined, and no less than three in a row move anything."""
    judge = Judge(mode)
    for n in range(many):
        judge.judge(Fix(1, NOW + n * 1_000, b"", True, 48.2, 16.37, 5.0), NOW + n * 1_000)
    lat, lon = destination(48.2, 16.37, bearing, 100_000)
    for n in range(jumps):
        at = NOW + (many + n) * 1_000
        judged = judge.judge(Fix(1, at, b"", True, round(lat, 7), round(lon, 7), 5.0), at)
        assert judged[:2] == (("quarantined", "jump") if n < 2 else ("accepted", "reanchored"))
