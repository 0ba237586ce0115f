"""core.quotas: no more goes through than was said, and who is refused is told when to come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.quotas import WAIT_MAX_S, WAIT_MIN_S, Account, Accounts, Bucket, Meter
from core.tenants import Quotas

FRAME = 1_000


def _accounts(quotas: Quotas, kept_max: int = 100) -> Accounts:
    return Accounts(lambda tenant: quotas, FRAME, kept_max)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    """Three at once, then one each half second."""
    bucket = Bucket(2.0, 3.0, 0.0)
    assert [bucket.take(1.0, 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(1.0, 0.25) == 0.25
    assert bucket.take(1.0, 0.5) == 0.0
    assert bucket.take(1.0, 0.5) == 0.5


def test_refusing_takes_nothing() -> None:
    """Who asks too often is not pushed further away by it."""
    bucket = Bucket(1.0, 1.0, 0.0)
    bucket.take(1.0, 0.0)
    for _ in range(100):
        bucket.take(1.0, 0.5)
    assert bucket.take(1.0, 1.0) == 0.0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    """A night of silence saves nothing up."""
    bucket = Bucket(10.0, 2.0, 0.0)
    assert [bucket.take(1.0, 1e6) for _ in range(3)] == [0.0, 0.0, 0.1]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Nor takes it anything."""
    bucket = Bucket(1.0, 1.0, 100.0)
    assert bucket.take(1.0, 100.0) == 0.0
    assert bucket.take(1.0, 0.0) == 1.0
    assert bucket.take(1.0, 101.0) == 0.0


def test_a_wait_is_bounded_both_ways() -> None:
    """Neither zero, which would read as taken, nor for ever."""
    bucket = Bucket(1.0, 1.0, 0.0)
    assert bucket.take(1e9, 0.0) == WAIT_MAX_S
    bucket = Bucket(1e9, 1.0, 0.0)
    bucket.take(1.0, 0.0)
    assert bucket.take(1.0, 0.0) == WAIT_MIN_S


@given(
    rate=st.floats(0.1, 100.0),
    burst=st.floats(1.0, 50.0),
    steps=st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 3.0)), max_size=60),
)
def test_over_any_time_no_more_than_burst_and_rate(rate: float, burst: float, steps: list[tuple[float, float]]) -> None:
    """The law of the token bucket, and waiting as long as was said suffices."""
    bucket, now_s, taken = Bucket(rate, burst, 0.0), 0.0, 0.0
    for after_s, cost in steps:
        now_s += after_s
        wait_s = bucket.take(cost, now_s)
        if wait_s == 0.0:
            taken += cost
        elif cost <= burst and wait_s < WAIT_MAX_S:
            now_s += wait_s + 1e-6
            assert bucket.take(cost, now_s) == 0.0
            taken += cost
        assert taken <= burst + rate * now_s + 1e-6


def test_refitting_keeps_what_there_is_up_to_the_new_size() -> None:
    """Another quota is no present."""
    bucket = Bucket(1.0, 10.0, 0.0)
    bucket.take(8.0, 0.0)
    bucket.refit(5.0, 20.0, 1.0)
    assert bucket.level == 3.0
    bucket.refit(5.0, 2.0, 1.0)
    assert bucket.level == 2.0
    assert bucket.full(1.0)


def test_without_quotas_there_is_no_bucket_and_no_meter_to_ask() -> None:
    """What is not bounded costs nothing."""
    meter = _accounts(Quotas()).meter("acme", "user:amy", 0.0)
    assert not meter.bounded
    assert meter.message(10**9, 0.0) == meter.send(0.0) == 0.0
    assert meter.full(0.0)


@pytest.mark.parametrize(
    "quotas",
    [
        Quotas(sends_per_s=1.0),
        Quotas(bytes_per_s=1.0),
        Quotas(history_per_s=1.0),
        Quotas(principal_sends_per_s=1.0),
        Quotas(principal_ops_per_s=1.0),
    ],
)
def test_one_bound_of_any_kind_makes_a_meter_bounded(quotas: Quotas) -> None:
    """Or it would never be asked."""
    assert _accounts(quotas).meter("acme", "user:amy", 0.0).bounded


def test_a_principal_that_floods_uses_up_its_own_and_not_its_tenants() -> None:
    """The others of the tenant send on."""
    accounts = _accounts(Quotas(sends_per_s=5.0, principal_sends_per_s=2.0, burst_s=1.0))
    amy, bob = accounts.meter("acme", "user:amy", 0.0), accounts.meter("acme", "user:bob", 0.0)
    assert [amy.send(0.0) for _ in range(50)].count(0.0) == 2
    assert [bob.send(0.0) for _ in range(50)].count(0.0) == 2
    assert amy.account is bob.account
    assert amy.account.throttled == 96


def test_a_tenants_sends_are_bounded_over_all_its_principals() -> None:
    """However many it makes."""
    accounts = _accounts(Quotas(sends_per_s=5.0, burst_s=1.0))
    waits = [accounts.meter("acme", f"user:{n}", 0.0).send(0.0) for n in range(20)]
    assert waits.count(0.0) == 5
    assert all(wait_s == 0.2 for wait_s in waits[5:])
    assert accounts.meter("zen", "user:amy", 0.0).send(0.0) == 0.0


def test_messages_are_bounded_in_number_and_in_bytes() -> None:
    """Each by its own bucket; a frame of the longest kind always has a way through."""
    by_number = _accounts(Quotas(principal_ops_per_s=3.0, burst_s=1.0)).meter("acme", "user:amy", 0.0)
    assert [by_number.message(10, 0.0) for _ in range(10)].count(0.0) == 3
    by_bytes = _accounts(Quotas(bytes_per_s=10.0, burst_s=1.0)).meter("acme", "user:amy", 0.0)
    assert by_bytes.message(FRAME, 0.0) == 0.0
    assert by_bytes.message(FRAME, 50.0) > 0.0
    assert by_bytes.message(FRAME, 100.0) == 0.0
    assert by_bytes.account.throttled == 1


def test_a_node_of_several_gives_its_part() -> None:
    """Of two nodes each gives half; counts are rounded up, so that one is never none."""
    accounts = _accounts(Quotas(connections=3, streams=1, sends_per_s=10.0, burst_s=1.0))
    account = accounts.account("acme", 0.0)
    assert (account.connections_max, account.streams_max) == (3, 1)
    assert accounts.refit(lambda tenant: account.quotas, 2, 0.0) == []
    assert accounts.nodes == 2
    assert (account.connections_max, account.streams_max) == (2, 1)
    meter = accounts.meter("acme", "user:amy", 0.0)
    assert [meter.send(0.0) for _ in range(20)].count(0.0) == 5
    accounts.refit(lambda tenant: account.quotas, 0, 0.0)
    assert accounts.nodes == 1


def test_other_quotas_hold_for_who_is_here_already() -> None:
    """Limits change without a restart, and without a new connection."""
    accounts = _accounts(Quotas())
    meter = accounts.meter("acme", "user:amy", 0.0)
    accounts.account("zen", 0.0)
    new = {"acme": Quotas(principal_sends_per_s=1.0, burst_s=1.0), "zen": Quotas()}
    assert accounts.refit(new.__getitem__, 1, 0.0) == ["acme"]
    assert meter.bounded
    assert [meter.send(0.0) for _ in range(3)].count(0.0) == 1
    accounts.refit(lambda tenant: Quotas(), 1, 0.0)
    assert not meter.bounded


def test_only_what_nobody_uses_and_would_not_be_missed_is_forgotten() -> None:
    """Coming back does not fill an empty bucket."""
    accounts = _accounts(Quotas(sends_per_s=1.0, principal_sends_per_s=1.0, principal_ops_per_s=1.0, burst_s=1.0))
    meter = accounts.meter("acme", "user:amy", 0.0)
    meter.send(0.0)
    accounts.tidy(0.5)
    assert accounts.meter("acme", "user:amy", 0.5) is meter
    accounts.tidy(1.0)
    assert not accounts.meters
    assert not accounts.accounts


def test_who_is_connected_is_never_forgotten() -> None:
    """Its meter and its account are counted by it."""
    accounts = _accounts(Quotas(), kept_max=0)
    accounts.meter("acme", "user:amy", 0.0).users += 1
    accounts.meter("acme", "user:bob", 0.0)
    idle = accounts.account("zen", 0.0)
    idle.streams = 1
    accounts.tidy(9.0)
    assert list(accounts.meters) == [("acme", "user:amy")]
    assert sorted(accounts.accounts) == ["acme", "zen"]


def test_past_their_bound_unused_meters_go_whatever_they_hold() -> None:
    """Memory is bounded also against a tenant that makes principals up."""
    accounts = _accounts(Quotas(principal_sends_per_s=0.001, burst_s=1_000.0), kept_max=2)
    for n in range(5):
        accounts.meter("acme", f"user:{n}", 0.0).send(0.0)
    accounts.tidy(0.0)
    assert list(accounts.meters) == [("acme", "user:3"), ("acme", "user:4")]


def test_an_account_is_full_when_all_its_buckets_are() -> None:
    """And a meter likewise."""
    account = Account("acme")
    assert account.full(0.0)
    account.refit(Quotas(sends_per_s=1.0, burst_s=1.0), 1, FRAME, 0.0)
    meter = Meter(account)
    meter.refit(0.0)
    meter.send(0.0)
    assert not account.full(0.5)
    assert account.full(1.0)
