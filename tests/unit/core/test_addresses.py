"""core.addresses: one spelling for each address, whom to trust, and rates that nobody's crowd can turn against others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import LOOKS, Addresses, Buckets, Trusted, canonical, counted_as, is_loopback
from core.limits import Limits


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.01", None),
        ("example.org", None),
        ("", None),
        ("[::1]", None),
    ],
)
def test_an_address_has_one_spelling(text: str, spelled: str | None) -> None:
    """However it was written; a zone is this machine's business, and IPv4 within IPv6 is IPv4."""
    assert canonical(text) == spelled


def test_loopback_is_told_apart() -> None:
    """Both families, and nothing that only looks like it."""
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.9.9.9")
    assert is_loopback("::1")
    assert not is_loopback("128.0.0.1")
    assert not is_loopback("::2")
    assert not is_loopback("")


def test_trusted_are_those_in_the_networks() -> None:
    """Of either family; who has no address is nobody's proxy, and without networks nobody is."""
    trusted = Trusted(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"])
    assert trusted
    assert "10.255.0.1" in trusted
    assert "192.0.2.7" in trusted
    assert "2001:db8:1::1" in trusted
    assert "11.0.0.1" not in trusted
    assert "2001:db9::1" not in trusted
    assert "" not in trusted
    assert not Trusted()
    assert "10.0.0.1" not in Trusted()
    assert "10.0.0.1" not in Trusted(["::/0"])
    assert "::1" not in Trusted(["0.0.0.0/0"])


def test_a_network_that_is_none_is_refused() -> None:
    """A misspelt one must not end as an empty list."""
    with pytest.raises(ValueError):
        Trusted(["10.0.0.1/8"])


def test_a_household_is_one() -> None:
    """IPv6 counts by /64, IPv4 by address."""
    assert counted_as("2001:db8:0:1::1") == counted_as("2001:db8:0:1:ffff::9")
    assert counted_as("2001:db8:0:1::1") != counted_as("2001:db8:0:2::1")
    assert counted_as("192.0.2.1") != counted_as("192.0.2.2")


def test_a_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    """As many at once as it holds, then one each step; an empty bucket owes no more than to be filled."""
    buckets = Buckets(2.0, 3, 10)
    for _ in range(3):
        assert buckets.wait_s("a", 100.0) == 0.0
        buckets.take("a", 100.0)
    assert buckets.wait_s("a", 100.0) == pytest.approx(0.5)
    assert buckets.wait_s("a", 100.4) == pytest.approx(0.1)
    assert buckets.wait_s("a", 100.5) == pytest.approx(0.0)
    assert buckets.wait_s("b", 100.0) == 0.0
    for _ in range(100):
        buckets.take("a", 100.0)
    assert buckets.wait_s("a", 100.0) == pytest.approx(0.5)
    assert buckets.wait_s("a", 101.5) == 0.0
    buckets.take("a", 200.0)
    assert buckets.wait_s("a", 200.0) == 0.0


def test_what_is_full_again_makes_room() -> None:
    """The table holds little more than those who owe something, whoever comes by."""
    buckets = Buckets(1.0, 5, 1_000)
    for n in range(10_000):
        buckets.take(f"a{n}", n / 10)  # ten a second, each owes for one second
    assert len(buckets) <= 10 * LOOKS
    assert buckets.uncounted == 0


def test_nobody_gets_rid_of_a_debt_by_coming_from_elsewhere() -> None:
    """A full table forgets nobody who owes more than one token, and refuses no newcomer."""
    buckets = Buckets(1.0, 3, 50)
    for n in range(50):
        for _ in range(3):
            buckets.take(f"debtor{n}", 0.0)
    for n in range(1_000):
        assert buckets.wait_s(f"new{n}", 0.1) == 0.0
        buckets.take(f"new{n}", 0.1)
    assert len(buckets) == 50
    assert buckets.uncounted == 1_000
    assert all(buckets.wait_s(f"debtor{n}", 0.1) > 0 for n in range(50))


def test_who_owes_one_token_gives_way() -> None:
    """Among those who owe as little as the newcomer will, the one who has nearly paid is forgotten."""
    buckets = Buckets(1.0, 3, 2)
    buckets.take("early", 0.0)
    buckets.take("late", 0.5)
    buckets.take("new", 0.6)
    assert len(buckets) == 2
    assert buckets.uncounted == 0
    buckets.take("late", 0.6)
    buckets.take("late", 0.6)
    assert buckets.wait_s("late", 0.6) > 0


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 2)), max_size=300))
def test_the_table_keeps_its_bound_whatever_comes(events: list[tuple[int, float]]) -> None:
    """And every name in it is there once."""
    buckets, now_s = Buckets(1.0, 3, 8), 0.0
    for name, pause_s in events:
        now_s += pause_s
        buckets.take(str(name), now_s)
        assert len(buckets) <= 8
        assert sorted(buckets._full_at) == sorted(set(buckets._slots))
        assert len(buckets._slots) == len(buckets._full_at)


LIMITS = Limits(
    handshakes_per_address_per_s=10.0,
    handshakes_per_address_burst=2,
    guesses_per_address_per_s=1.0,
    guesses_per_address_burst=2,
)


def test_an_address_that_knocks_too_often_waits() -> None:
    """It alone; and knocking meanwhile does not make the wait longer."""
    addresses = Addresses(LIMITS)
    assert [addresses.knock("192.0.2.1", 0.0) for _ in range(2)] == [0.0, 0.0]
    for _ in range(20):
        assert addresses.knock("192.0.2.1", 0.0) == pytest.approx(0.1)
    assert addresses.knock("192.0.2.2", 0.0) == 0.0
    assert addresses.knock("192.0.2.1", 0.11) == 0.0


def test_an_address_that_guesses_too_often_is_not_listened_to() -> None:
    """Its newcomers wait, whatever they would say; others do not."""
    addresses = Addresses(LIMITS)
    assert addresses.guessed("2001:db8::1", 0.0) == 0.0
    assert addresses.barred_s("2001:db8::1", 0.0) == 0.0
    assert addresses.guessed("2001:db8::2", 0.0) == pytest.approx(1.0)
    assert addresses.barred_s("2001:db8::3", 0.0) == pytest.approx(1.0)
    assert addresses.knock("2001:db8::4", 0.5) == pytest.approx(0.5)
    assert addresses.knock("2001:db8:0:1::1", 0.0) == 0.0
    assert addresses.knock("2001:db8::4", 1.1) == 0.0


def test_zero_switches_a_bound_off() -> None:
    """Rate or burst, each bound by itself."""
    off = Addresses(Limits(handshakes_per_address_per_s=0.0, guesses_per_address_burst=0))
    for _ in range(1_000):
        assert off.knock("192.0.2.1", 0.0) == 0.0
        assert off.guessed("192.0.2.1", 0.0) == 0.0
    assert off.barred_s("192.0.2.1", 0.0) == 0.0
    half = Addresses(Limits(handshakes_per_address_per_s=0.0, guesses_per_address_burst=1))
    half.guessed("192.0.2.1", 0.0)
    assert half.knock("192.0.2.1", 0.0) > 0
