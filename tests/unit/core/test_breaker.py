"""core.breaker: who fails is left alone for a while, and then tried with one call."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from core.breaker import ASK_AGAIN_S, Breaker


def opened(at_s: float = 100.0) -> Breaker:
    breaker = Breaker(3, 30.0)
    for _ in range(3):
        assert breaker.ask(at_s) == 0.0
        breaker.failed(at_s)
    return breaker


def test_opens_after_so_many_failures_in_a_row() -> None:
    """Two failures of three change nothing, and the third opens it for the whole rest."""
    breaker = Breaker(3, 30.0)
    breaker.failed(1.0)
    breaker.failed(2.0)
    assert (breaker.state, breaker.ask(3.0)) == ("closed", 0.0)
    breaker.failed(3.0)
    assert (breaker.state, breaker.opened) == ("open", 1)
    assert breaker.ask(3.0) == 30.0
    assert breaker.ask(23.0) == 10.0


def test_one_that_goes_well_between_makes_it_forget() -> None:
    """Failures count only while nothing goes well between them."""
    breaker = Breaker(3, 30.0)
    for _ in range(10):
        breaker.failed(1.0)
        breaker.failed(1.0)
        breaker.went_well()
    assert breaker.state == "closed"


def test_after_the_rest_one_call_tries() -> None:
    """Of those who ask when the rest is over the first is let through, and the others wait for it."""
    breaker = opened(100.0)
    assert breaker.ask(130.0) == 0.0
    assert breaker.state == "half-open"
    assert breaker.ask(130.0) == ASK_AGAIN_S
    breaker.went_well()
    assert (breaker.state, breaker.ask(130.0), breaker.failures) == ("closed", 0.0, 0)


def test_a_trial_that_fails_opens_it_again_at_once() -> None:
    """One failure of the trial is enough for another whole rest."""
    breaker = opened(100.0)
    assert breaker.ask(130.0) == 0.0
    breaker.failed(131.0)
    assert (breaker.state, breaker.opened, breaker.ask(131.0)) == ("open", 2, 30.0)


def test_a_trial_that_was_cancelled_is_anothers() -> None:
    """Nobody waits for a trial of which nothing will be heard."""
    breaker = opened(100.0)
    assert breaker.ask(130.0) == 0.0
    breaker.nothing()
    assert breaker.ask(130.0) == 0.0


def test_a_late_failure_of_a_call_from_before_prolongs_nothing() -> None:
    """Calls that were under way when it opened fail one after the other, and the rest is not longer for it."""
    breaker = opened(100.0)
    breaker.failed(109.0)
    assert (breaker.opened, breaker.ask(110.0)) == (1, 20.0)


@example([("failed", 2.7), ("failed", 0.0), ("ask", 0.0)])  # 2.7 + 30 is a little more than 30 later
@given(st.lists(st.tuples(st.sampled_from(["ask", "well", "failed", "nothing"]), st.floats(0, 20)), max_size=60))
def test_nobody_is_let_through_while_it_rests(steps: list[tuple[str, float]]) -> None:
    """Whatever comes in whatever order, an open breaker lets nobody through before its rest is over, and then one at a time."""
    breaker, now_s = Breaker(2, 30.0), 0.0
    for what, after_s in steps:
        now_s += after_s
        if what == "ask":
            until_s, trying = breaker.until_s, breaker.trying
            wait_s = breaker.ask(now_s)
            assert (wait_s == 0.0) == (until_s is None or (now_s >= until_s and not trying))
            assert wait_s <= 30.0
        elif what == "well":
            breaker.went_well()
        elif what == "failed":
            breaker.failed(now_s)
        else:
            breaker.nothing()
