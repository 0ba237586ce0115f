"""core.window: a number is taken once, ever, as far as is remembered."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from core.directory import Ping
from core.window import REMEMBERED, Window

A, D, T = Ping.ACCEPTED, Ping.DUPLICATE, Ping.TOO_OLD


def test_a_number_is_taken_once() -> None:
    """In any order, and what was left out comes late."""
    window = Window()
    assert [window.take(seq) for seq in (41, 41, 40, 43, 42, 43, 40, 1)] == [A, D, A, A, A, D, D, A]


def test_what_is_too_far_behind_is_too_old() -> None:
    """The last that is remembered is told apart; the one below it is not, and a jump forgets all."""
    window = Window()
    assert window.take(REMEMBERED + 10) is A
    assert [window.take(seq) for seq in (10, 10, 9)] == [A, D, T]
    assert window.take(3 * REMEMBERED) is A
    assert window.take(2 * REMEMBERED) is A
    assert window.take(REMEMBERED + 10) is T


def test_how_much_is_remembered_is_for_its_owner_to_say() -> None:
    """More or less than otherwise."""
    for remembered in (3, 4_096):
        window = Window(remembered=remembered)
        assert [window.take(seq) for seq in (5_000, 5_000 - remembered, 4_999 - remembered)] == [A, A, T]
        assert [window.take(seq) for seq in (5_001, 5_001 - remembered, 5_000 - remembered)] == [A, A, T]
        assert [window.take(seq) for seq in (5_001 + remembered, 5_001, 5_002)] == [A, D, A]


@given(st.lists(st.integers(1, 3 * REMEMBERED), max_size=60), st.integers(0, 60))
def test_it_goes_on_from_its_state(seqs: list[int], at: int) -> None:
    """As JSON in between; and nothing is ever accepted twice."""
    one, other = Window(), Window()
    accepted = []
    for nth, seq in enumerate(seqs):
        if nth == at:
            other = Window.restore(orjson.loads(orjson.dumps(other.state())))
        verdict = one.take(seq)
        assert verdict is other.take(seq)
        if verdict is A:
            accepted.append(seq)
    assert len(set(accepted)) == len(accepted)


def test_what_is_no_state_is_a_new_window() -> None:
    """Whatever a store gives."""
    nothing: list[object] = [None, {}, [], [1], [1, 2], [-1, "0"], [1, "x"], [1, "f" * REMEMBERED], ["1", "0"]]
    for said in nothing:
        assert Window.restore(said).highest == 0
    assert Window.restore([7, "1"]).highest == 7
