"""core.fair: everybody who waits gets its share, in its own order, and nobody saves up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.fair import WEIGHT_MAX, Fair, bounded, even


def filled(lines: dict[str, list[int]], quantum: int = 10, weights: dict[str, int] | None = None) -> Fair[str]:
    """Items named ``tenant`` and a number, of these costs."""
    fair: Fair[str] = Fair(quantum, even if weights is None else weights.__getitem__)
    for tenant, costs in lines.items():
        for n, cost in enumerate(costs):
            fair.put(tenant, cost, f"{tenant}{n}")
    return fair


def drained(fair: Fair[str]) -> list[str]:
    return [fair.take() for _ in range(len(fair))]


def test_one_tenant_is_a_queue() -> None:
    """First come, first served, whatever things cost."""
    fair = filled({"a": [1, 500, 3, 40]})
    assert drained(fair) == ["a0", "a1", "a2", "a3"]
    assert (len(fair), fair.cost) == (0, 0)


def test_who_comes_behind_a_crowd_has_the_next_turn() -> None:
    """A thousand of another wait; one item of a quiet tenant is taken after no more than a quantum of them."""
    fair = filled({"loud": [1] * 1000, "quiet": [1]})
    assert drained(fair).index("quiet0") == 10


def test_turns_are_of_cost_and_not_of_count() -> None:
    """Ten small ones for each large one."""
    fair = filled({"large": [10] * 20, "small": [1] * 200})
    taken = Counter(fair.take().rstrip("0123456789") for _ in range(110))
    assert taken == {"large": 10, "small": 100}


def test_weights_are_proportions() -> None:
    """Three turns to one."""
    fair = filled({"a": [10] * 100, "b": [10] * 100}, weights={"a": 3, "b": 1})
    assert Counter(fair.take()[0] for _ in range(80)) == {"a": 60, "b": 20}


@pytest.mark.parametrize(("weight", "used"), [(-5, 1), (0, 1), (1, 1), (100, 100), (1_000_000, WEIGHT_MAX)])
def test_a_weight_is_kept_in_bounds(weight: int, used: int) -> None:
    """Nobody is left out by a weight of nothing, nor leaves others out by an endless one."""
    assert bounded(weight) == used


def test_what_costs_more_than_a_turn_brings_waits_for_its_credit() -> None:
    """Four turns are saved for, while the others have theirs; then it is taken."""
    fair = filled({"a": [40], "b": [10] * 6})
    assert drained(fair) == ["b0", "b1", "b2", "a0", "b3", "b4", "b5"]


def test_who_does_not_wait_saves_nothing_up() -> None:
    """A tenant whose line ran empty begins again with one turn; so does one that owed."""
    fair = filled({"a": [1], "b": [1] * 30})
    assert fair.take() == "a0"
    fair.charge("a", 1000)  # it is not waiting: it owes nothing
    fair.put("a", 10, "again")
    fair.put("a", 10, "and again")
    order = drained(fair)
    assert (order.index("again"), order.index("and again")) == (10, 21)


def test_what_is_known_afterwards_is_paid_later() -> None:
    """A charge is a debt: the others have their turns until it is paid."""
    fair = filled({"a": [0, 0, 0], "b": [10] * 5})
    assert fair.take() == "a0"
    fair.charge("a", 35)
    assert drained(fair) == ["b0", "b1", "b2", "a1", "a2", "b3", "b4"]


def test_alone_there_is_nothing_to_pay_back() -> None:
    """What was used while nobody else waited is not held against a tenant when somebody comes."""
    fair = filled({"a": [0] * 10})
    for _ in range(5):
        fair.take()
        fair.charge("a", 10_000)
    assert fair.peek() == "a5"
    fair.put("b", 10, "b0")
    assert fair.take() == "a5"
    fair.charge("a", 1)
    assert [fair.take() for _ in range(2)] == ["b0", "a6"]


def test_looking_takes_nothing() -> None:
    """`peek` shows what `take` takes, and nothing when nothing waits."""
    fair = filled({"a": [3], "b": [20]})
    assert [fair.peek(), fair.peek(), fair.take(), fair.peek(), fair.take(), fair.peek()] == [
        "a0",
        "a0",
        "a0",
        "b0",
        "b0",
        None,
    ]


def test_who_is_set_aside_keeps_its_place() -> None:
    """The others go on; then it is first again, with the credit that it had."""
    fair = filled({"a": [1, 1], "b": [1], "c": [1]})
    fair.set_aside()
    assert fair.peek() == "b0"
    fair.set_aside()
    fair.put("a", 1, "a2")
    assert (fair.take(), fair.peek(), len(fair)) == ("c0", None, 4)
    fair.bring_back()
    assert drained(fair) == ["a0", "a1", "a2", "b0"]


def test_how_much_waits() -> None:
    """Of all and of one, by number and by cost; of who does not wait, nothing."""
    fair = filled({"a": [3, 4], "b": [5]})
    assert (len(fair), fair.cost) == (3, 12)
    assert [(fair.len_of(one), fair.cost_of(one)) for one in "abc"] == [(2, 7), (1, 5), (0, 0)]
    fair.take()
    assert (fair.len_of("a"), fair.cost_of("a"), fair.cost) == (1, 4, 9)
    fair.set_aside()
    fair.clear()
    assert (len(fair), fair.cost, fair.peek(), fair.len_of("a")) == (0, 0, None, 0)
    fair.bring_back()
    assert fair.peek() is None


def test_a_turn_brings_something() -> None:
    """A quantum of nothing would be a loop without end."""
    with pytest.raises(AssertionError):
        Fair(0)


TENANTS = "abcd"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(0, 60)), max_size=200),
    st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 5)),
)
def test_everybody_gets_its_share_of_any_load(load: list[tuple[str, int]], weights: dict[str, int]) -> None:
    """All comes out once, in its tenant's order; while two wait, neither is ahead of its share by more than the bound."""
    quantum = 20
    fair: Fair[tuple[str, int, int]] = Fair(quantum, lambda tenant: weights.get(tenant, 1))
    for n, (tenant, cost) in enumerate(load):
        fair.put(tenant, cost, (tenant, n, cost))
    last: dict[str, int] = {}
    used: Counter[str] = Counter()
    for _ in load:
        waiting = [one for one in TENANTS if fair.len_of(one)]
        tenant, n, cost = fair.take()
        assert n > last.get(tenant, -1)
        last[tenant] = n
        used[tenant] += cost
        for one in waiting:
            for other in waiting:
                shares = [used[who] / (quantum * weights.get(who, 1)) for who in (one, other)]
                assert abs(shares[0] - shares[1]) <= 2 + 60 / quantum
    assert (len(fair), fair.cost) == (0, 0)
