"""core.revocations: who was revoked is refused, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from core.directory import Revocation
from core.revocations import Revocations

AT_MS = 1_800_000_000_500


def _of(scope: str, value: str, number: int = 1, until_ms: int | None = None) -> Revocation:
    return Revocation(number, "acme", scope, value, AT_MS, until_ms, "why", "user:root")


def _refuses(
    known: Revocations, tenant: str = "acme", principal: str = "user:amy", issued_at_s: float = 1e9
) -> str | None:
    return known.refuses(tenant, principal, session="s1", token_id="t1", issued_at_s=issued_at_s)


def test_nobody_is_refused_before_anything_is_known() -> None:
    """And asking costs nothing then."""
    assert _refuses(Revocations()) is None


def test_each_scope_refuses_what_it_names() -> None:
    """Token, session, principal and tenant, each with its own words."""
    said = set()
    for scope, value in (("token", "t1"), ("session", "s1"), ("principal", "user:amy"), ("tenant", "")):
        known = Revocations()
        assert known.take(_of(scope, value))
        said.add(_refuses(known))
        assert _refuses(known, tenant="other") is None
        if value:
            other = Revocations()
            other.take(_of(scope, value + "x"))
            assert _refuses(other) is None
    assert len(said) == 4
    assert None not in said


def test_what_has_no_token_or_session_is_not_refused_for_that() -> None:
    """An empty value is nobody's token, whatever is in the table."""
    known = Revocations()
    known.take(_of("token", ""))
    known.take(_of("session", ""))
    assert known.refuses("acme", "user:amy", issued_at_s=0.0) is None


def test_a_principal_is_let_in_again_with_what_was_issued_later() -> None:
    """Until then, the very moment included, it is refused; one that does not say when counts as old."""
    known = Revocations()
    known.take(_of("principal", "user:amy"))
    assert _refuses(known, issued_at_s=0.0) is not None
    assert _refuses(known, issued_at_s=AT_MS / 1000) is not None
    assert _refuses(known, issued_at_s=AT_MS / 1000 + 0.001) is None


def test_lifting_takes_it_back_in_whatever_order_the_news_come() -> None:
    """The highest number is the truth."""
    news = [_of("tenant", "", 1), replace(_of("tenant", "", 2), lifted=True), _of("tenant", "", 3)]
    for order in permutations(news):
        known = Revocations()
        for revocation in order:
            known.take(revocation)
        assert _refuses(known) is not None
    for order in permutations(news[:2]):
        known = Revocations()
        for revocation in order:
            known.take(revocation)
        assert _refuses(known) is None


def test_news_that_are_known_are_told_so() -> None:
    """So that who takes them need not look at every connection again."""
    known = Revocations()
    assert known.take(_of("tenant", "", 2))
    assert not known.take(_of("tenant", "", 2))
    assert not known.take(_of("tenant", "", 1))
    assert len(known) == 1


def test_what_is_past_its_time_is_forgotten_and_the_rest_is_not() -> None:
    """Memory is bounded by what is in force."""
    known = Revocations()
    known.take(_of("token", "t1", until_ms=AT_MS + 10))
    known.take(_of("principal", "user:amy"))
    known.forget(AT_MS + 10)
    assert len(known) == 2
    known.forget(AT_MS + 11)
    assert len(known) == 1
    assert _refuses(known, principal="user:bob") is None


def test_the_newest_word_is_told() -> None:
    """For who has to tell others of it."""
    known = Revocations()
    assert known.known("acme", "token", "t1") is None
    known.take(_of("token", "t1", number=2))
    known.take(_of("token", "t1", number=1))
    assert known.known("acme", "token", "t1") == _of("token", "t1", number=2)
