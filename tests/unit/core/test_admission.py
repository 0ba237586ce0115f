"""core.admission: bounded work, a place for every tenant, and turns that are shared by work and not by arrival."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.admission import PAGES_MAX, QUANTUM, RETRY_MAX_S, RETRY_MIN_S, Admission, Ticket, weight
from core.limits import Limits

LIMITS = replace(
    Limits(), opening_work_max=8, openings_waiting_max=40, openings_waiting_tenant_max=30, opening_wait_s=5.0
)


def admission(uniform: float = 0.0, **changes: int) -> Admission:
    return Admission(replace(LIMITS, **changes), lambda: uniform)  # type: ignore[arg-type]


def ask(ours: Admission, tenant: str, work: int = 1, now_s: float = 0.0) -> Ticket:
    ticket = ours.ask(tenant, work, now_s)
    assert isinstance(ticket, Ticket)
    return ticket


def test_an_opening_weighs_its_streams_and_its_pages() -> None:
    """One for itself, one for each twenty streams, one for each page begun, of which only so many count."""
    assert weight(1, 0, 256) == 1
    assert weight(1, 1, 256) == 2
    assert weight(1, 257, 256) == 3
    assert weight(500, 0, 256) == 26
    assert weight(0, 10**9, 256) == 1 + PAGES_MAX


def test_below_the_bound_everybody_is_let_in_at_once() -> None:
    """No queue, no turn; what is done makes room again."""
    ours = admission()
    tickets = [ask(ours, "a") for _ in range(8)]
    assert all(ticket.let_in for ticket in tickets)
    assert (ours.work, ours.waiting, ours.admitted) == (8, 0, 8)
    for ticket in tickets:
        ours.done(ticket)
    assert (ours.work, ours._in_hand) == (0, {})


def test_a_storm_does_not_delay_another_tenants_single_opening() -> None:
    """Twenty of one tenant wait; the first of another is let in at once, and its second is next."""
    ours = admission()
    storm = [ask(ours, "storm") for _ in range(28)]
    quiet = ask(ours, "quiet")
    assert quiet.let_in
    second = ask(ours, "quiet")
    assert not second.let_in
    ours.done(quiet)
    assert second.let_in  # without one turn between: its tenant had nothing else in hand
    assert sum(ticket.let_in for ticket in storm) == 8


class Till:
    """Finishes openings one at a time, in the order in which they were let in, and counts what each tenant got."""

    def __init__(self, ours: Admission) -> None:
        self.ours = ours
        self.inside: list[Ticket] = []
        self.got: dict[str, int] = {}

    def bring(self, tenant: str, work: int, count: int) -> list[Ticket]:
        tickets = [ask(self.ours, tenant, work) for _ in range(count)]
        for ticket in tickets:
            ticket.wake = lambda ticket=ticket: self.inside.append(ticket)  # type: ignore[misc]
        self.inside += [ticket for ticket in tickets if ticket.let_in]
        return tickets

    def finish(self) -> None:
        ticket = self.inside.pop(0)
        self.got[ticket.tenant] = self.got.get(ticket.tenant, 0) + ticket.work
        self.ours.done(ticket)


def test_tenants_take_turns_by_work() -> None:
    """Heavy openings of one tenant, light ones of another: at any time both have got about the same work."""
    till = Till(admission(openings_waiting_max=1_000, openings_waiting_tenant_max=1_000))
    till.bring("heavy", 8, 40)
    till.bring("light", 1, 320)
    for _ in range(200):
        till.finish()
        assert abs(till.got.get("heavy", 0) - till.got.get("light", 0)) <= 3 * QUANTUM


def test_a_tenant_of_weight_has_larger_turns() -> None:
    """Three to one, where both have more waiting than there is room for."""
    limits = replace(LIMITS, openings_waiting_max=1_000, openings_waiting_tenant_max=1_000)
    till = Till(Admission(limits, lambda: 0.0, {"gold": 3, "lead": 1}.__getitem__))
    till.bring("gold", 1, 400)
    till.bring("lead", 1, 400)
    for _ in range(300):
        till.finish()
        assert abs(till.got.get("gold", 0) / 3 - till.got.get("lead", 0)) <= 3 * QUANTUM
    assert till.got["gold"] > 2 * till.got["lead"]


def test_the_turn_of_a_tenant_comes_after_at_most_two_rounds_of_the_others() -> None:
    """Ten tenants have a storm each: the second of a newcomer waits for a bounded number of turns, however long theirs are."""
    till = Till(admission(opening_work_max=1, openings_waiting_max=10_000, openings_waiting_tenant_max=1_000))
    for n in range(10):
        till.bring(f"t{n}", 1, 500)
    late = till.bring("late", 1, 2)
    turns = 0
    while not all(ticket.let_in for ticket in late):
        till.finish()
        turns += 1
    assert turns <= 10 * 2 * QUANTUM


def test_one_heavier_than_the_bound_is_let_in_alone() -> None:
    """It may not wait for ever because no room is ever large enough."""
    ours = admission()
    first = ask(ours, "a")
    heavy = ask(ours, "a", 50)
    assert heavy.let_in
    light = ask(ours, "a")
    assert not light.let_in
    ours.done(first)
    assert not light.let_in
    ours.done(heavy)
    assert light.let_in


def test_what_an_opening_weighs_may_become_known_later() -> None:
    """Heavier than thought: the next wait longer, its own tenant's most. Lighter: room for the next at once."""
    ours = admission()
    ticket = ask(ours, "a")
    ours.reweigh(ticket, 9)
    waits = ask(ours, "a")
    assert not waits.let_in
    other = ask(ours, "b")
    assert other.let_in
    ours.reweigh(ticket, 2)
    assert waits.let_in
    for each in (ticket, waits, other):
        ours.done(each)
    assert (ours.work, ours._in_hand) == (0, {})


def test_a_tenants_queue_is_bounded_and_so_are_all() -> None:
    """Past its own bound one tenant is refused while another still finds a place, and past the bound of all nobody does."""
    ours = admission()
    for _ in range(8 + 30):
        ask(ours, "storm")
    assert isinstance(ours.ask("storm", 1, 0.0), float)
    for _ in range(1 + 10):
        ask(ours, "quiet")
    assert isinstance(ours.ask("quiet", 1, 0.0), float)
    assert (ours.waiting, ours.refused) == (40, 2)


@pytest.mark.parametrize("uniform", [0.0, 0.999])
def test_the_time_to_come_back_grows_with_the_queue_and_is_spread(uniform: float) -> None:
    """Short while few wait, long when it is full, and not the same for all."""

    def told(waiting: int) -> float:
        ours = admission(uniform)
        for _ in range(8 + waiting):
            ask(ours, "storm")
        return ours._retry_after_s("storm")

    few, many, full = told(1), told(15), told(30)
    assert RETRY_MIN_S <= few < many < full <= RETRY_MAX_S + 1
    assert few < RETRY_MIN_S + 2
    assert full >= RETRY_MAX_S / 2
    assert (full > RETRY_MAX_S) == (uniform > 0.5)


def test_who_waits_too_long_is_told_so() -> None:
    """In the order of asking; who came later stays, and nobody is woken twice."""
    ours = admission(opening_work_max=1)
    block = ask(ours, "a")
    woken: list[int] = []
    tickets = []
    for n in range(4):
        ticket = ask(ours, "a", now_s=float(n))
        ticket.wake = lambda n=n: woken.append(n)  # type: ignore[misc]
        tickets.append(ticket)
    ours.expire(6.0)
    assert woken == [0, 1]
    assert [ticket.refused_s is not None for ticket in tickets] == [True, True, False, False]
    ours.done(block)
    assert woken == [0, 1, 2]
    assert tickets[2].let_in
    ours.expire(100.0)
    assert woken == [0, 1, 2, 3]
    assert (ours.waiting, ours._queues, len(ours._round)) == (0, {}, 0)


def test_a_leaving_node_refuses_all_who_wait() -> None:
    """Each once, with a time; what was let in goes on."""
    ours = admission(opening_work_max=1)
    inside = ask(ours, "a")
    waiting = [ask(ours, "a"), ask(ours, "a")]
    ours.refuse_all()
    assert all(ticket.refused_s is not None and not ticket.let_in for ticket in waiting)
    assert (ours.waiting, ours.work) == (0, 1)
    ours.done(inside)
    assert ours.work == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abcd"), st.integers(1, 12)),
        st.tuples(st.just("done"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("reweigh"), st.integers(0, 99), st.integers(1, 12)),
        st.tuples(st.just("expire"), st.integers(0, 3), st.just(0)),
    ),
    max_size=150,
)


@given(STEPS)
def test_the_work_in_hand_is_bounded_and_nobody_is_forgotten(steps: list[tuple[str, object, int]]) -> None:
    """Whatever comes: the sums are true, no room is left unused while anybody waits, and each who waits is woken once."""
    ours = admission()
    woken: dict[Ticket, int] = {}
    inside: list[Ticket] = []
    now_s = 0.0
    largest = 0

    def wake(ticket: Ticket) -> None:
        woken[ticket] += 1
        if ticket.let_in:
            inside.append(ticket)

    for step, what, work in steps:
        if step == "ask":
            assert isinstance(what, str)
            ticket = ours.ask(what, work, now_s)
            if isinstance(ticket, Ticket):
                woken[ticket] = 0
                if ticket.let_in:
                    inside.append(ticket)
                else:
                    ticket.wake = lambda ticket=ticket: wake(ticket)  # type: ignore[misc]
            largest = max(largest, work)
        elif step == "done" and inside:
            assert isinstance(what, int)
            ours.done(inside.pop(what % len(inside)))
        elif step == "reweigh" and inside:
            assert isinstance(what, int)
            ticket = inside[what % len(inside)]
            ours.reweigh(ticket, min(work, ticket.work))
        elif step == "expire":
            assert isinstance(what, int)
            now_s += what
            ours.expire(now_s)
        assert ours.work == sum(ticket.work for ticket in inside)
        assert ours.work < 2 * 8 + max(largest, 12)
        assert ours.waiting == sum(len(queue.tickets) for queue in ours._queues.values())
        assert not ours.waiting or ours.work >= 8
        assert sorted(ours._round) == sorted(ours._queues)
        assert set(ours._bare) == set(ours._queues) - set(ours._in_hand)
        assert not ours._bare or ours.work >= 2 * 8
    for ticket in list(inside):
        inside.remove(ticket)
        ours.done(ticket)
    while inside:
        ours.done(inside.pop())
    assert (ours.work, ours.waiting, ours._in_hand) == (0, 0, {})
    assert all(times <= 1 for times in woken.values())
