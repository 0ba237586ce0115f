"""A judge's state is small, exact, and refuses what is none."""

from __future__ import annotations

from base64 import b85decode, b85encode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.plausible import RECENT_MAX, SEEN_MAX
from core.geo.plausible_state import STATE_MAX, Kept, Sample, pack, unpack

NOW = 1_800_000_000_000
AT = st.integers(NOW - 10**11, NOW)
SAMPLE = st.builds(
    Sample,
    AT,
    st.integers(-900_000_000, 900_000_000).map(lambda n: n / 10_000_000),
    st.integers(-1_800_000_000, 1_800_000_000).map(lambda n: n / 10_000_000),
    st.integers(0, 1_000_000).map(lambda n: n / 100),
)
COUNT = st.integers(0, 255)
BIG = st.integers(-(2**60), 2**60)
KEPT = st.builds(
    Kept,
    seen=st.lists(AT, max_size=SEEN_MAX, unique=True).map(tuple),
    recent=st.lists(SAMPLE, max_size=RECENT_MAX).map(lambda samples: tuple(sorted(samples))),
    speed_mps=st.none() | st.integers(0, 200_000).map(lambda n: n / 100),
    heading_deg=st.none() | st.integers(0, 36_000).map(lambda n: n / 100),
    stalled=st.booleans(),
    held_ms=st.just(0) | AT,
    contested=st.booleans(),
    trust=COUNT,
    old=st.none() | SAMPLE,
    old_trust=COUNT,
    run=COUNT,
    run_last=st.none() | SAMPLE,
    due_ms=AT,
    clock=st.tuples(
        st.integers(-(2**50), 2**50), BIG, st.just(NOW), st.integers(NOW - 10_000, NOW), AT, st.none() | AT, COUNT
    ),
)
NOTHING = Kept((), (), None, None, False, 0, False, 0, None, 0, 0, None, 0, (0, 0, 0, 0, 0, None, 0))


@given(KEPT)
def test_what_is_packed_is_had_again(kept: Kept) -> None:
    """Whatever a judge can know, in no more than STATE_MAX characters that JSON leaves alone."""
    text = pack(kept)
    assert unpack(text) == kept
    assert len(text) <= STATE_MAX
    assert len(orjson.dumps({"judge": text})) == len(text) + len('{"judge":""}') <= 400


def test_a_judge_that_knows_nothing() -> None:
    """Has a state, too."""
    assert unpack(pack(NOTHING)) == NOTHING


def test_times_too_far_apart_are_let_go() -> None:
    """A clock that said 1970 and then the truth: what is near the newest is kept; an old anchor is as old as can be said."""
    far = Sample(0, 1.0, 2.0, 3.0)
    kept = unpack(pack(NOTHING._replace(seen=(5, NOW), recent=(far, Sample(NOW, 1.0, 2.0, 3.0)), old=far)))
    assert kept.seen == (NOW,)
    assert kept.recent == (Sample(NOW, 1.0, 2.0, 3.0),)
    assert kept.old is not None
    assert kept.old.at_ms == NOW - 2**39 + 1


@pytest.mark.parametrize(
    "state",
    [
        None,
        7,
        "",
        'not base 85: \\ "',
        "00000",
        b85encode(b"\x02" + b85decode(pack(NOTHING))[1:]).decode(),
        b85encode(b85decode(pack(NOTHING)) + b"\x00").decode(),
        pack(NOTHING)[:-5],
        b85encode(b"\x01" + b"\xff" * 90).decode(),
    ],
)
def test_what_is_no_state_is_refused(state: object) -> None:
    """With a word, whatever it is: another version, cut short, or too long."""
    with pytest.raises(ValueError, match="judge's state"):
        unpack(state)


@given(st.binary(max_size=400).map(lambda data: b85encode(b"\x01" + data).decode()))
def test_no_bytes_upset_it(text: str) -> None:
    """They are a state or refused."""
    try:
        unpack(text)
    except ValueError:
        return
